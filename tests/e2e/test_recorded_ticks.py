"""A recording goes in by one command and comes out by another, over both transports, line for
line."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from telecast.journal.base import Batch
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.model import Record, Retention
from tests.support.payloads import alert, position, trader
from tests.support.service.process import Command, Service, service
from tests.support.service.rest import history

TICKS = Path(__file__).parents[1] / "data" / "ticks.ndjson"
STRICT = 5
"""The exit code of a broken promise."""
TRANSPORTS = ("--ws", "--sse")


def recorded(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]


def written(folder: Path) -> Path:
    """A recording of all channels, whose rows come and go."""
    lines: list[dict[str, Any]] = []
    for number in range(40):
        reported = [
            ("positions", position(f"p{number % 5}", currentPrice=f"{number}.5")),
            ("positions", position(f"q{number}", status="CLOSED", isActive=False)),
            ("risk-alerts", alert(f"a{number}", message=f"{number} €\u2028")),
            ("trader-status", trader(f"t{number % 3}", strategy=str(number))),
        ]
        lines += [{"t": number / 20, "channel": name, "data": data} for name, data in reported]
        lines.append({"t": number / 20, "symbol": "BTCUSDT", "exchange": None, "price": "1.50"})
    path = folder / "recording.ndjson"
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)) + b"\n")
    return path


@asynccontextmanager
async def tails(
    own: Service, *options: str, channels: str = "market-data"
) -> AsyncIterator[list[Command]]:
    """A strict tail over each transport, once both are live."""
    running: list[Command] = []
    try:
        for transport in TRANSPORTS:
            words = (
                "tail",
                channels,
                transport,
                "--strict",
                "--delivery",
                "all",
                "--json",
                *options,
            )
            running.append(await Command.run(words, own))
        for each in running:
            await each.says("# live at")
        yield running
    finally:
        for each in running:
            await each.end()


async def replayed(own: Service, path: Path, speed: float) -> str:
    command = await Command.run(("replay", str(path), "--speed", str(speed)), own)
    try:
        status, _, said = await command.result()
    finally:
        await command.end()
    assert status == 0, said
    return said


async def heard_whole(own: Service, running: list[Command], count: int) -> list[bytes]:
    """What every tail heard: all the same, so many, and what the history holds."""
    heard = []
    for each in running:
        status, lines, said = await each.result()
        assert (status, len(lines)) == (0, count), said
        heard.append(lines)
    channels = {orjson.loads(line)["channel"] for line in heard[0]}
    truth = [json for name in channels for json in await history(own, name)]
    truth.sort(key=lambda json: orjson.loads(json)["seq"])
    for lines in heard:
        assert lines == truth
    return truth


@pytest.mark.parametrize("speed", [0, 20])
async def test_recorded_ticks_come_out_as_they_were_recorded(tmp_path: Path, speed: int) -> None:
    ticks = recorded(TICKS)
    async with (
        service(tmp_path) as own,
        tails(own, "--count", str(len(ticks))) as running,
    ):
        assert f"{len(ticks)} events" in await replayed(own, TICKS, speed)
        truth = [orjson.loads(json)["data"] for json in await heard_whole(own, running, len(ticks))]
        for tick, row in zip(ticks, truth, strict=True):
            for name in tick.keys() - {"t"}:
                assert row[name] == plain(tick[name]), (tick, row)


def plain(text: str) -> str:
    """A tiny price as an exchange may write it, in the contract's notation; all else as it is."""
    return f"{Decimal(text):f}" if "e-" in text else text


async def test_a_recording_of_all_channels_comes_out_in_its_order(tmp_path: Path) -> None:
    path = written(tmp_path)
    lines = recorded(path)
    everything = "market-data,positions,risk-alerts,trader-status"
    async with (
        service(tmp_path) as own,
        tails(own, "--count", str(len(lines)), channels=everything) as running,
    ):
        await replayed(own, path, 0)
        truth = [orjson.loads(json) for json in await heard_whole(own, running, len(lines))]
        for line, event in zip(lines, truth, strict=True):
            assert event["channel"] == line.get("channel", "market-data")
            said = line.get("data", {"price": line.get("price")})
            assert said.items() <= event["data"].items()


async def test_killed_in_the_middle_of_a_replay_nothing_is_lost_or_sent_twice(
    tmp_path: Path,
) -> None:
    ticks = recorded(TICKS)
    async with (
        service(tmp_path) as own,
        tails(own, "--count", str(len(ticks))) as running,
        asyncio.TaskGroup() as replay,
    ):
        done = replay.create_task(replayed(own, TICKS, ticks[-1]["t"] / 2))
        for each in running:
            await each.line()
        own.kill()
        assert await own.gone() == -signal.SIGKILL
        await own.start()
        assert f"{len(ticks)} events" in await done
        await heard_whole(own, running, len(ticks))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_gap_ends_a_strict_tail_with_its_own_exit_code(
    tmp_path: Path, transport: str
) -> None:
    async with service(tmp_path) as own:
        words = (
            "tail",
            "market-data",
            transport,
            "--strict",
            "--delivery",
            "all",
            "--count",
            "1000",
        )
        tail = await Command.run(words, own)
        try:
            await tail.says("# live at")
            await own.stop()
            await _lose_history(own.database)
            await own.start()
            status, _, said = await tail.result()
        finally:
            await tail.end()
        assert status == STRICT, said
        assert "gap: market-data lost 1 to " in said


async def _lose_history(database: Path) -> None:
    """What a service with a short memory would have taken and trimmed while nobody listened."""
    journal = SqliteJournal(database, {"market-data": Retention(events=3, seconds=3600.0)})
    await journal.open()
    try:
        row = {"id": "x", "symbol": "X", "exchange": None, "price": "1"}
        record = Record("market-data", "X", "upsert", False, orjson.dumps(row))
        for _ in range(5):
            await journal.append(Batch(records=(record,) * 10))
        while await journal.trim():
            pass
    finally:
        await journal.close()
