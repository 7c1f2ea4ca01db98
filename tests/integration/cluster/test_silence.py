"""A server that is connected and cut off from the others: its node says so, and goes to another."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from telecast.journal import NodeOptions, journal_from_url
from telecast.journal.base import Batch
from telecast.journal.jetstream import consumer as consumer_module
from telecast.journal.jetstream import servers as servers_module
from telecast.model import Record, Retention
from tests.support.service.nats import NatsServer, program

pytestmark = pytest.mark.skipif(program() is None, reason="no nats-server is to be had")

A = "trader-status"
KEEP = {A: Retention(1_000_000, 1e9)}


async def test_a_log_that_says_nothing_is_away_though_its_server_is_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(servers_module, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(servers_module, "CALL_SECONDS", 0.5)
    monkeypatch.setattr(consumer_module, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr(consumer_module, "HEARTBEAT_SECONDS", 0.1)
    server = NatsServer()
    journal = journal_from_url(f"{server.url}/x", KEEP, node=NodeOptions(copy=tmp_path / "copy.db"))
    try:
        await journal.open()
        assert journal.failure() is None
        server.process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(30):
            while "have said nothing of the log" not in (journal.failure() or ""):  # noqa: ASYNC110
                await asyncio.sleep(0)
            while "trying another server" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0)
            server.process.send_signal(signal.SIGCONT)
            while journal.failure() is not None:  # noqa: ASYNC110
                await asyncio.sleep(0)
        receipt = await journal.append(Batch(records=(Record(A, "k", "upsert", False, b"{}"),)))
        assert receipt.count == 1
    finally:
        server.process.send_signal(signal.SIGCONT)
        await journal.close()
        server.end()
