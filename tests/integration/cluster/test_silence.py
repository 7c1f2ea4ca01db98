"""A server that is connected and cut off from the others: its node says so, and goes to another."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from telecast.journal import NodeOptions, journal_from_url
from telecast.journal.base import Batch, Journal
from telecast.journal.jetstream import consumer as consumer_module
from telecast.journal.jetstream import servers as servers_module
from telecast.journal.jetstream.servers import Servers
from telecast.model import Record, Retention
from tests.support.service.nats import NatsServer, needs_nats

pytestmark = needs_nats

A = "trader-status"
KEEP = {A: Retention(1_000_000, 1e9)}
PATIENCE = 90.0


class AtTheMove(logging.Handler):
    """What `why` says at the moment at which the node goes to another server."""

    def __init__(self, why: Callable[[], str | None]) -> None:
        super().__init__()
        self._why = why
        self.found: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def emit(self, record: logging.LogRecord) -> None:
        if "trying another server" in record.getMessage() and not self.found.done():
            self.found.set_result(self._why())


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set whenever the log has said something."""
    event, plain = asyncio.Event(), Servers.heard

    def hear(servers: Servers) -> None:
        plain(servers)
        event.set()

    monkeypatch.setattr(Servers, "heard", hear)
    return event


async def healed(journal: Journal, heard: asyncio.Event) -> None:
    while journal.failure() is not None:
        heard.clear()
        await heard.wait()


async def test_a_log_that_says_nothing_is_away_though_its_server_is_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: asyncio.Event
) -> None:
    monkeypatch.setattr(servers_module, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(servers_module, "CALL_SECONDS", 0.5)
    monkeypatch.setattr(consumer_module, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr(consumer_module, "HEARTBEAT_SECONDS", 0.1)
    server = NatsServer()
    journal = journal_from_url(f"{server.url}/x", KEEP, node=NodeOptions(copy=tmp_path / "copy.db"))
    move = AtTheMove(journal.failure)
    servers_module.log.addHandler(move)
    try:
        await journal.open()
        assert journal.failure() is None
        server.process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(PATIENCE):
            assert "have said nothing of the log" in (await move.found or "")
            server.process.send_signal(signal.SIGCONT)
            await healed(journal, heard)
        receipt = await journal.append(Batch(records=(Record(A, "k", "upsert", False, b"{}"),)))
        assert receipt.count == 1
    finally:
        servers_module.log.removeHandler(move)
        server.process.send_signal(signal.SIGCONT)
        await journal.close()
        server.end()


def test_a_node_whose_server_has_gone_closes_without_a_fault(tmp_path: Path) -> None:
    async def life() -> None:
        server = NatsServer()
        copy = NodeOptions(copy=tmp_path / "copy.db")
        journal = journal_from_url(f"{server.url}/x", KEEP, node=copy)
        try:
            await journal.open()
        finally:
            server.end()
        entry = Batch(records=(Record(A, "k", "upsert", False, b"{}"),))
        waits = asyncio.ensure_future(journal.append(entry))
        await asyncio.sleep(0)
        await journal.close()
        await asyncio.gather(waits, return_exceptions=True)

    # The service's own loop: its transports raise where those of asyncio warn.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(life())
