"""What a node says of NATS servers and streams that it can't go on with: each on a real server."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import orjson
import pytest

from telecast.errors import Code, JournalCorrupt, JournalUnavailable, PeerFault, TelecastError
from telecast.journal import Access
from telecast.journal.base import Batch
from telecast.journal.jetstream import servers as servers_module
from telecast.journal.jetstream import stream as stream_module
from telecast.model import Record, Retention
from tests.support.service.nats import NatsServer, needs_nats, opened

pytestmark = needs_nats

A = "trader-status"
KEEP = {A: Retention(1_000_000, 1e9)}


@pytest.fixture
def started() -> Iterator[Any]:
    """Makes servers, which end with the test."""
    made: list[NatsServer] = []

    def start(**options: Any) -> NatsServer:
        made.append(NatsServer(**options))
        return made[-1]

    yield start
    for each in made:
        each.end()


def one(key: str, size: int = 2) -> Batch:
    return Batch(records=(Record(A, key, "upsert", False, b"0" * size),))


async def to_its_end(journal: Any) -> None:
    """Follow it until it ends."""
    async with asyncio.timeout(20):
        async for _ in journal.tail():
            pass


async def refusal(url: str, copy: Path, **options: Any) -> str:
    with pytest.raises(TelecastError) as fault:
        async with opened(url, KEEP, copy, **options):
            pass
    return fault.value.message


async def call(server: NatsServer, subject: str, body: object) -> dict[str, Any]:
    client = await nats.connect(server.url)
    try:
        answer = await client.request(f"$JS.API.{subject}", orjson.dumps(body), timeout=5)
    finally:
        await client.close()
    found: dict[str, Any] = orjson.loads(answer.data)
    assert "error" not in found, found
    return found


async def test_servers_without_jetstream_are_named(started: Any, tmp_path: Path) -> None:
    said = await refusal(f"{started(jetstream=False).url}/x", tmp_path / "a.db")
    assert "JetStream switched off: start them with `-js`" in said


async def test_an_account_without_jetstream_is_named(started: Any, tmp_path: Path) -> None:
    server = started(
        config="accounts { DESK: { users: [{ user: desk, password: x }] }, "
        "SYS: { jetstream: enabled, users: [{ user: other, password: x }] } }"
    )
    (tmp_path / "password").write_text("x")
    access = Access(user="desk", password_file=tmp_path / "password")
    said = await refusal(f"{server.url}/x", tmp_path / "a.db", access=access)
    assert "JetStream" in said
    assert "account" in said or "switched off" in said


async def test_what_the_user_may_not_do_is_named(
    started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers_module, "CALL_SECONDS", 0.3)
    server = started(
        config="authorization { users: [{ user: desk, password: x, "
        'permissions: { publish: { deny: "$JS.API.STREAM.>" } } }] }'
    )
    (tmp_path / "password").write_text("x")
    access = Access(user="desk", password_file=tmp_path / "password")
    said = await refusal(f"{server.url}/x", tmp_path / "a.db", access=access)
    assert "does not let this user" in said
    assert "$js.api.stream" in said.lower()


async def test_a_stream_of_a_newer_format_is_left_alone(server: NatsServer, tmp_path: Path) -> None:
    config = {"name": "newer", "subjects": ["newer.>"], "metadata": {"telecast.format": "2"}}
    await call(server, "STREAM.CREATE.newer", config)
    said = await refusal(f"{server.url}/newer", tmp_path / "a.db")
    assert "has format 2, and this version of Telecast reads 1: upgrade" in said


async def test_a_message_of_a_newer_version_is_no_start_and_loses_nothing(
    server: NatsServer, tmp_path: Path
) -> None:
    async with opened(f"{server.url}/later", KEEP, tmp_path / "a.db") as journal:
        await journal.append(one("a"))
        await journal._log.append(b'{"v":2}\n')
        with pytest.raises(JournalUnavailable):
            await journal._reached(2)
    said = await refusal(f"{server.url}/later", tmp_path / "b.db")
    assert "Message 2 of the log has version 2 and this Telecast knows 1: upgrade this node" in said
    assert (await call(server, "STREAM.INFO.later", {}))["state"]["messages"] == 2


async def test_servers_whose_messages_are_too_small_for_an_event_are_no_start(
    started: Any, tmp_path: Path
) -> None:
    server = started(max_payload="64KB")
    said = await refusal(f"{server.url}/x", tmp_path / "a.db", largest_event=32 * 1024)
    assert "raise `max_payload` of the NATS servers" in said
    async with opened(
        f"{server.url}/x", KEEP, tmp_path / "a.db", largest_event=8 * 1024
    ) as journal:
        await journal.append(one("a", 8 * 1024))
        with pytest.raises(PeerFault) as fault:
            await journal.append(Batch(records=(*one("b", 40_000).records * 2,)))
        assert fault.value.code is Code.BODY_TOO_LARGE
        assert "publish fewer events at a time" in fault.value.message
        await journal.append(one("c"))


async def test_a_stream_that_may_not_be_purged_grows_and_publishing_goes_on(
    server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(f"{server.url}/grows", KEEP, tmp_path / "a.db") as journal:
        await journal.append(one("a"))
        config = (await call(server, "STREAM.INFO.grows", {}))["config"]
        await call(server, "STREAM.UPDATE.grows", config | {"deny_purge": True})
        await journal._keeper._keep()
        with pytest.raises(JournalUnavailable, match="can't be used"):
            await journal._keeper._tidy(keep=1)
        await journal.append(one("b"))
        assert journal.failure() is None


async def test_a_log_that_loses_its_end_while_it_is_followed_stops_the_node(
    started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its next messages would take the numbers of those that were lost, and be passed over."""
    monkeypatch.setattr(stream_module, "DOUBT_SECONDS", 0.0)
    folder = tmp_path / "server"
    await asyncio.to_thread(folder.mkdir)
    server = started(folder=folder)
    async with opened(f"{server.url}/x", KEEP, tmp_path / "a.db") as journal:
        await journal.append(one("a"))
    server.stop()
    await asyncio.to_thread(shutil.copytree, folder / "store", tmp_path / "older")
    server = started(folder=folder)
    async with opened(f"{server.url}/x", KEEP, tmp_path / "a.db") as journal:
        for key in "bcd":
            await journal.append(one(key))
        server.stop(signal.SIGKILL)
        await asyncio.to_thread(shutil.rmtree, folder / "store")
        await asyncio.to_thread(shutil.copytree, tmp_path / "older", folder / "store")
        started(folder=folder, port=server.port)
        with pytest.raises(JournalCorrupt, match="lost its end"):
            await to_its_end(journal)
        with pytest.raises(JournalUnavailable, match="lost its end"):
            await journal.append(one("e"))


async def test_a_stream_that_is_made_anew_while_it_is_followed_stops_the_node(
    server: NatsServer, tmp_path: Path
) -> None:
    async with opened(f"{server.url}/anew", KEEP, tmp_path / "a.db") as journal:
        await journal.append(one("a"))
        config = (await call(server, "STREAM.INFO.anew", {}))["config"]
        await call(server, "STREAM.DELETE.anew", {})
        await call(server, "STREAM.CREATE.anew", config)
        journal._log._doubt()
        with pytest.raises(JournalCorrupt, match="made anew or restored"):
            await to_its_end(journal)
