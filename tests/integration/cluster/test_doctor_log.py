"""`telecast doctor --journal nats://...` on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from telecast.cli.admin import doctor_log
from telecast.cli.admin.doctor import examined_log
from telecast.journal import Access, NodeOptions, journal_from_url
from telecast.journal.base import Batch
from telecast.journal.jetstream.address import parse_address
from telecast.model import Record, Retention
from tests.support.service.nats import NatsServer, needs_nats

pytestmark = needs_nats

A = "trader-status"


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    found = NatsServer(config="http: 127.0.0.1:-1")
    yield found
    found.end()


async def make(url: str, copy: Path) -> None:
    journal = journal_from_url(url, {A: Retention(100, 1e9)}, node=NodeOptions(copy=copy))
    await journal.open()
    await journal.append(Batch(records=(Record(A, "k", "upsert", False, b"{}"),)))
    await journal.close()


async def told(
    url: str, copy: Path, capsys: pytest.CaptureFixture[str], *monitors: str
) -> tuple[bool, str]:
    well = await examined_log(parse_address(url), Access(), monitors, copy)
    return well, capsys.readouterr().out


async def test_what_is_well_and_what_is_not_is_named(
    server: NatsServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = f"{server.url}/seen"
    await make(url, tmp_path / "a.db")
    assert server.monitor is not None
    caplog.clear()
    well, said = await told(url, tmp_path / "a.db", capsys, server.monitor)
    assert not well
    assert "[--] replicas: it has one replica" in said
    assert f"[ok] syncing: {server.monitor} sync before they acknowledge" in said
    assert "[ok] clock of the log: " in said
    assert f"[ok] copy: {tmp_path / 'a.db'} is 0 messages behind the log's 1" in said
    assert "[ok] checkpoints: none yet; the log is whole" in said
    assert caplog.text == ""  # a node's warnings would stand between the lines


async def test_a_copy_of_another_log_and_a_clock_that_is_wrong_are_named(
    server: NatsServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await make(f"{server.url}/one", tmp_path / "one.db")
    await make(f"{server.url}/two", tmp_path / "two.db")
    monkeypatch.setattr(doctor_log, "ms_of", lambda text: 1_700_000_000_000)
    _, said = await told(f"{server.url}/two", tmp_path / "one.db", capsys)
    assert "one.db is no copy of this log" in said
    assert "clock and this machine's are" in said
    assert "Run a time service" in said


async def test_a_server_that_does_not_sync_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = await asyncio.to_thread(lambda: NatsServer(config="http: 127.0.0.1:-1", sync="60s"))
    try:
        await make(f"{server.url}/lazy", tmp_path / "a.db")
        assert server.monitor is not None
        well, said = await told(f"{server.url}/lazy", tmp_path / "a.db", capsys, server.monitor)
        assert "acknowledges before it syncs (every 60 s)" in said
        assert not well
        # Where nobody is monitored, it is not known, and not taken for wrong.
        _, said = await told(f"{server.url}/lazy", tmp_path / "a.db", capsys, "http://127.0.0.1:1")
        assert "[ok] syncing: not known of http://127.0.0.1:1" in said
    finally:
        server.end()


async def test_a_log_that_is_not_there_is_named_and_not_made(
    server: NatsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        well, said = await told(f"{server.url}/nowhere", tmp_path / "a.db", capsys)
        assert not well
        assert "[--] log: The stream nowhere can't be used: stream not found" in said
