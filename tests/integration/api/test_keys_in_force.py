"""`telecast keys --url` against a running service, and what a keys file that fails does to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import telecast.tasks
from telecast.cli import main
from telecast.cli.admin import in_force
from telecast.cli.exits import Exit
from telecast.keys import KeyStore, create_key
from tests.support.service.live import Live, principal, served


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


@asynccontextmanager
async def running(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    """A service that looks at its keys file all the time. "desk" may administer."""
    monkeypatch.setattr(telecast.tasks, "KEYS_SECONDS", 0.005)
    monkeypatch.setattr(in_force, "PAUSE", 0.005)
    scopes = ("read", "metrics", "admin")
    secrets = {"desk": create_key(path, "desk", scopes), "bot": create_key(path, "bot", ["read"])}
    keys = KeyStore(path, now=lambda: 1.0)
    keys.load()
    async with served(keys=keys, secrets=secrets) as live:
        yield live


def content(path: Path) -> bytes:
    return path.read_bytes()


def put(path: Path, text: bytes) -> None:
    path.write_bytes(text)


async def command(*arguments: str | Path) -> Result:
    words = [str(each) for each in arguments]
    return await asyncio.to_thread(lambda: CliRunner().invoke(main, ["keys", *words]))


async def test_a_revocation_is_said_to_be_in_force_once_the_service_refuses_the_key(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(path, monkeypatch) as live:
        asked = ("--keys", path, "--url", live.url, "--key", live.secrets["desk"])
        done = await command("revoke", "bot", *asked)
        assert (done.exit_code, "In force" in done.stderr) == (Exit.OK, True), done.stderr
        assert (await live.ask("GET", "/api/v1/channels", who="bot"))[0] == 401


async def test_a_revocation_that_the_service_does_not_see_is_no_success(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_force, "FORCE_SECONDS", 0.05)
    async with running(path, monkeypatch) as live:
        other = tmp_path / "another.toml"
        put(other, content(path))
        asked = ("--keys", other, "--url", live.url, "--key", live.secrets["desk"])
        done = await command("revoke", "bot", *asked)
        assert done.exit_code == Exit.ERROR
        assert "NOT known to be in force" in done.stderr
        asked = ("--keys", path, "--url", live.url, "--key", live.secrets["bot"])
        done = await command("revoke", "desk", *asked)
        assert "scope admin" in done.stderr


async def test_a_new_key_is_said_to_be_in_force_once_it_lets_in(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(path, monkeypatch) as live:
        made = await command("new", "x", "--scope", "read", "--keys", path, "--url", live.url)
        assert (made.exit_code, "In force" in made.stderr) == (Exit.OK, True), made.stderr


async def test_who_administers_sees_the_rights_of_a_key_and_nobody_else_does(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(path, monkeypatch) as live:
        key_id = live.secrets["bot"][3:11]
        assert await live.get(f"/api/v1/keys/{key_id}") == {
            "id": key_id,
            "name": "bot",
            "scopes": ["read"],
            "channels": ["*"],
            "filter": {},
            "expires": None,
        }
        assert (await live.ask("GET", "/api/v1/keys/00000000"))[0] == 404
        assert (await live.ask("GET", f"/api/v1/keys/{key_id}", who="bot"))[0] == 403


async def test_an_admin_who_is_narrowed_sees_no_key_that_may_read_more_than_it_may() -> None:
    t1 = frozenset({"t1"})
    t1_ops = principal("t1 ops", "admin", forced={"traderId": t1})
    narrow = principal("narrow", "admin", channels=("positions",))
    bot, t1_bot = principal("bot", "read"), principal("t1 bot", "read", forced={"traderId": t1})
    async with served(principal(), t1_ops, narrow, bot, t1_bot) as live:
        for who, sees in (("desk", 200), ("t1 ops", 404), ("narrow", 404)):
            assert (await live.ask("GET", f"/api/v1/keys/{bot.key_id}", who=who))[0] == sees, who
        assert (await live.ask("GET", f"/api/v1/keys/{t1_bot.key_id}", who="t1 ops"))[0] == 200


async def test_a_keys_file_that_can_not_be_used_makes_the_service_not_ready(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(path, monkeypatch) as live:
        whole = content(path)
        put(path, b"[[key]\n")
        await live.until(lambda: live.parts.keys.trouble is not None)
        async with live.session.get(f"{live.url}/readyz", params={"verbose": ""}) as ready:
            assert ready.status == 503
            assert "[-] keys: keys: " in await ready.text()
        assert await usable(live) == 0
        assert (await live.ask("GET", "/api/v1/channels", who="bot"))[0] == 200
        put(path, whole)
        await live.until(lambda: live.parts.keys.trouble is None)
        assert await usable(live) == 1
        assert sum("can't be used" in record.message for record in caplog.records) == 1


async def usable(live: Live) -> float:
    headers = live.headers("desk")
    async with live.session.get(f"{live.url}/metrics", headers=headers) as answer:
        lines = (await answer.text()).splitlines()
    return next(float(each.split()[1]) for each in lines if each.startswith("telecast_keys_file_"))
