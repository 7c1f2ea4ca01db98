"""Credentials that the NATS servers refuse while a node runs: it says so, and comes back."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from telecast.errors import JournalUnavailable
from telecast.journal import Access
from telecast.journal.base import Batch, Journal
from telecast.journal.jetstream import servers as servers_module
from telecast.journal.jetstream.servers import Servers
from telecast.model import Record, Retention
from tests.support.service.guard import Guard
from tests.support.service.nats import NatsServer, needs_nats, opened

pytestmark = needs_nats

A = "trader-status"
KEEP = {A: Retention(1_000_000, 1e9)}
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers_module, "AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(servers_module, "GRACE_SECONDS", 0.0)


@asynccontextmanager
async def guarded(folder: Path, *hosts: str) -> AsyncIterator[tuple[NatsServer, Guard, Any]]:
    """A server that lets in known users alone, and a node on it; `hosts` are other names of it,
    which are not in its certificate."""
    guard = Guard(folder / "guard")
    own = {name.removeprefix("nats_"): value for name, value in guard.client("desk", "a").items()}
    server = NatsServer(config=guard.config)
    try:
        addresses = ",".join(f"{host}:{server.port}" for host in ("127.0.0.1", *hosts))
        url, access = f"tls://{addresses}/x", Access(**own)
        async with opened(url, KEEP, folder / "copy.db", access=access) as journal:
            yield server, guard, journal
    finally:
        server.end()


class Said(logging.Handler):
    """An event for each thing that the connection says."""

    def __init__(self) -> None:
        super().__init__()
        self._waits: dict[str, asyncio.Event] = {}

    def of(self, word: str) -> asyncio.Event:
        return self._waits.setdefault(word, asyncio.Event())

    def emit(self, record: logging.LogRecord) -> None:
        for word, event in self._waits.items():
            if word in record.getMessage():
                event.set()


@pytest.fixture
def said() -> Any:
    handler = Said()
    level = servers_module.log.level
    servers_module.log.setLevel(logging.DEBUG)
    servers_module.log.addHandler(handler)
    yield handler
    servers_module.log.removeHandler(handler)
    servers_module.log.setLevel(level)


async def append(journal: Journal, key: str) -> None:
    await journal.append(Batch(records=(Record(A, key, "upsert", False, b"{}"),)))


async def keys(journal: Journal) -> list[str]:
    return [entry.key for entry in (await journal.read([A], 0, 100)).entries]


async def test_a_node_whose_credentials_are_refused_says_so_and_comes_back(
    tmp_path: Path, said: Said
) -> None:
    back, refused = said.of("is back"), said.of("no connection to the log yet")
    async with guarded(tmp_path) as (server, guard, journal), asyncio.timeout(PATIENCE):
        await append(journal, "before")
        guard.users["desk"] = "another"
        server.reload(guard.config)
        await refused.wait()
        with pytest.raises(JournalUnavailable, match="refused the credentials: check nats_creds"):
            await append(journal, "refused")
        assert "refused the credentials" in (journal.failure() or "")
        guard.users["desk"] = "a"
        server.reload(guard.config)
        await back.wait()
        await append(journal, "after")
        assert await keys(journal) == ["before", "after"]


async def test_a_password_that_is_changed_in_its_file_is_taken_up_without_a_restart(
    tmp_path: Path, said: Said
) -> None:
    back = said.of("is back")
    async with guarded(tmp_path) as (server, guard, journal), asyncio.timeout(PATIENCE):
        asked = asyncio.Event()

        async def ask(body: object) -> None:
            asked.set()

        journal.peers.on("ping", ask)
        await journal.peers.begin(dict)
        await append(journal, "before")
        guard.change("desk", "b")
        server.reload(guard.config)
        await back.wait()
        await append(journal, "after")
        assert await keys(journal) == ["before", "after"]
        # What other nodes ask arrives over the new connection, too.
        other = await nats.connect(f"tls://127.0.0.1:{server.port}", **guard.way_in())
        await other.publish(f"{journal.peers._prefix}.ping", b'{"node":"other"}')
        await asked.wait()
        await other.close()


async def test_a_connection_that_does_not_come_back_is_made_anew(
    tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-py's own task for it may die, or wait for ever."""
    monkeypatch.setattr(servers_module, "RENEW_SECONDS", 0.05)
    back = said.of("is back")
    async with guarded(tmp_path) as (_, _, journal), asyncio.timeout(PATIENCE):
        client = journal._log._servers._client
        monkeypatch.setattr(client, "_select_next_server", asyncio.Event().wait)
        await client.force_reconnect()
        await back.wait()
        await append(journal, "after")
        assert await keys(journal) == ["after"]


async def test_a_server_whose_certificate_is_wrong_keeps_no_node_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-py never ends the attempt with it, so that it does not come to the next."""
    orders = itertools.chain([False], itertools.repeat(True))

    def shuffle(pool: list[Any]) -> None:
        pool.sort(key=lambda server: server.uri.hostname == "localhost", reverse=not next(orders))

    monkeypatch.setattr("nats.aio.client.shuffle", shuffle)
    async with guarded(tmp_path, "localhost") as (_, _, journal):
        assert next(orders)
        await append(journal, "there")
        assert await keys(journal) == ["there"]


async def test_a_file_that_nats_py_stumbles_over_keeps_a_node_away_only_until_it_is_mended(
    tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises: the task that makes the connection anew goes on."""
    back, failed = said.of("is back"), said.of("no connection to the log yet")
    async with guarded(tmp_path) as (server, guard, journal), asyncio.timeout(PATIENCE):
        with monkeypatch.context() as half_written:
            half_written.setattr(Access, "password", lambda self: 1 / 0)
            guard.change("desk", "b")
            server.reload(guard.config)
            await failed.wait()
            assert "it is tried again (division by zero)" in journal.failure().lower()
        await back.wait()
        await append(journal, "after")
        assert await keys(journal) == ["after"]


async def test_a_connection_that_breaks_while_it_is_made_anew_is_not_taken_for_good(
    tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = said.of("is back")
    made: list[Client] = []
    connected = Servers._connected_anew

    async def breaks_once(servers: Servers) -> Client:
        client = await connected(servers)
        made.append(client)
        if len(made) == 1:
            await client.close()
        return client

    async with guarded(tmp_path) as (server, guard, journal), asyncio.timeout(PATIENCE):
        monkeypatch.setattr(Servers, "_connected_anew", breaks_once)
        guard.change("desk", "b")
        server.reload(guard.config)
        await back.wait()
        assert len(made) == 2
        await append(journal, "after")
        assert await keys(journal) == ["after"]


async def test_a_node_is_let_in_by_its_credentials_file_and_takes_up_another_one(
    tmp_path: Path, said: Said
) -> None:
    creds = pytest.importorskip("tests.support.service.creds", exc_type=ImportError)
    back, failed = said.of("is back"), said.of("no connection to the log yet")
    authority = creds.Authority()
    file = authority.credentials(tmp_path / "node.creds")
    server = NatsServer(config=authority.config)
    try:
        url, access = f"nats://127.0.0.1:{server.port}/x", Access(creds=file)
        async with (
            opened(url, KEEP, tmp_path / "copy.db", access=access) as journal,
            asyncio.timeout(PATIENCE),
        ):
            await append(journal, "before")
            file.write_text("-----BEGIN NATS USER JWT-----")  # it is just being written
            journal._log._servers._lose()
            journal._log._servers._given_up.set()
            await failed.wait()
            authority.credentials(file)
            await back.wait()
            await append(journal, "after")
            assert await keys(journal) == ["before", "after"]
    finally:
        server.end()
