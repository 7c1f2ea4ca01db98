"""`telecast demo` as a newcomer runs it: a process, what it prints, what comes out of it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

TICKS = Path(__file__).parent.parent / "data" / "ticks.ndjson"
CHANNELS = {"trader-status", "positions", "risk-alerts", "market-data", "executions", "candles"}
PATIENCE = 120.0
"""Seconds after which a test that waits for the demo fails."""


class Demo:
    """A running demo; `url` and `key` are what its curl line says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.printed = ""
        self.url = self.key = ""

    async def line(self, pattern: str) -> re.Match[str]:
        """Read what it prints up to a line that has this."""
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            line = raw.decode()
            self.printed += line
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"it never said {pattern!r} but:\n{self.printed}")

    async def reported(self, query: str = "") -> AsyncIterator[dict[str, Any]]:
        """The messages of its stream."""
        timeout = aiohttp.ClientTimeout(total=None)
        headers = {"X-API-Key": self.key}
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.get(f"{self.url}/sse/telemetry{query}") as response,
        ):
            assert response.status == 200
            async for line in response.content:
                if line.startswith(b"data: "):
                    yield orjson.loads(line[6:])

    async def rows(self, channel: str) -> list[dict[str, Any]]:
        async with (
            aiohttp.ClientSession(headers={"X-API-Key": self.key}) as session,
            session.get(f"{self.url}/api/v1/channels/{channel}/snapshot") as response,
        ):
            body = orjson.loads(await response.read())
        return [row["data"] for row in body["data"]["rows"]]

    async def interrupted(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return await self.process.wait()


async def started(*arguments: str | Path, **environment: str) -> asyncio.subprocess.Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TELECAST_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telecast", "demo", *map(str, arguments)),
        env={**kept, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@asynccontextmanager
async def demo(*arguments: str | Path, **environment: str) -> AsyncIterator[Demo]:
    process = await started("--port", "0", *arguments, **environment)
    it = Demo(process)
    try:
        async with asyncio.timeout(PATIENCE):
            curl = await it.line(r"curl -N -H 'X-API-Key: (tc_\w+)' '(http://[^/]+)/sse/telemetry'")
            it.key, it.url = curl[1], curl[2]
            yield it
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def refused(*arguments: str | Path) -> tuple[int | None, str]:
    """How it ends, and what it says, where it does not start."""
    process = await started(*arguments)
    try:
        async with asyncio.timeout(PATIENCE):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    return process.returncode, said.decode()


async def test_every_channel_has_events_and_ctrl_c_ends_it_well():
    async with demo("--speed", "6") as it:
        await it.line(r"telecast tail .* --url .* --key")
        assert f"{it.url}/#ticket=" in it.printed, "the page, and a sign-in"
        assert it.url.startswith("http://127.0.0.1:")
        waited_for = set(CHANNELS)
        stream = it.reported()
        async for message in stream:
            if message["type"] == "event":
                waited_for.discard(message["channel"])
            if not waited_for:
                break
        # The stream is still open: Ctrl-C comes while somebody looks.
        assert await it.interrupted() == 0
        await stream.aclose()


async def test_a_recording_is_played_to_its_end_and_stays_to_be_looked_at():
    async with demo("--ticks", TICKS, "--speed", "10") as it:
        assert "3,123 ticks" in it.printed
        await it.line("The tape is over")
        assert await it.rows("positions") == []
        assert {row["status"] for row in await it.rows("trader-status")} == {"STOPPED"}
        assert len(await it.rows("market-data")) > 30
        assert await it.interrupted() == 0


async def test_after_a_crash_nothing_of_the_earlier_run_is_left(tmp_path):
    journal = ("--journal", f"sqlite:{tmp_path / 'demo.db'}")
    async with demo(*journal, "--speed", "6") as it:
        waited_for = {"positions", "risk-alerts"}
        async for message in it.reported():
            if message["type"] == "event" and message["op"] == "upsert":
                waited_for.discard(message["channel"])
            if not waited_for:
                break
        assert await it.rows("market-data")
        it.process.kill()
        await it.process.wait()
    async with demo(*journal, "--ticks", TICKS, "--speed", "20") as it:
        await it.line(r"what the last run left open was taken away \([1-9][0-9]* rows")
        await it.line("The tape is over")
        assert await it.rows("positions") == []
        assert await it.rows("risk-alerts") == []
        assert len(await it.rows("trader-status")) == 6
        assert "BINANCE:ADAUSDT" not in {row["id"] for row in await it.rows("market-data")}
        assert await it.interrupted() == 0


async def test_a_port_in_use_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, said = await refused("--port", str(port))
    assert status == 1
    assert said == (
        f"Error: Something listens on 127.0.0.1:{port} already: stop it, or choose another "
        "--port.\n"
    )


async def test_a_bad_ticks_file_is_reported_with_its_line_before_anything_starts(tmp_path):
    path = tmp_path / "bad.ndjson"
    path.write_bytes(TICKS.read_bytes().split(b"\n")[0] + b'\n{"t":1,"symbol":"X","price":7.5}\n')
    status, said = await refused("--port", "0", "--ticks", path)
    assert status == 1
    assert "Line 2: price: Must be a decimal number in a JSON string" in said
    assert "live" not in said


async def test_the_synthetic_market_does_not_loop():
    status, said = await refused("--loop")
    assert status == 2
    assert "--ticks" in said


async def test_the_environment_takes_it_neither_off_loopback_nor_to_another_journal(tmp_path):
    database = tmp_path / "real.db"
    real = {"TELECAST_HOST": "0.0.0.0", "TELECAST_JOURNAL": f"sqlite:{database}"}
    async with demo(**real) as it:
        assert it.url.startswith("http://127.0.0.1:")
        assert await it.interrupted() == 0
    assert not database.exists()


async def test_a_page_of_ones_own_may_connect_once_its_origin_is_named():
    page = "http://localhost:8000"
    async with demo("--allowed-origins", page) as it:
        async with (
            aiohttp.ClientSession(headers={"X-API-Key": it.key, "Origin": page}) as session,
            session.get(f"{it.url}/api/v1/channels") as response,
        ):
            assert response.headers["Access-Control-Allow-Origin"] == page
        assert await it.interrupted() == 0


@pytest.mark.parametrize("argument", [["--speed", "0"], ["--ticks", "no-such-file"]])
async def test_a_wrong_argument_is_a_usage_error(argument):
    status, _ = await refused(*argument)
    assert status == 2


async def test_with_a_journal_in_a_file_a_restart_keeps_the_key_and_resumes(tmp_path: Path) -> None:
    journal = f"sqlite:{tmp_path}/demo.db"
    async with demo("--journal", journal) as first:
        key = first.key
        async with aiohttp.ClientSession(headers={"X-API-Key": key}) as session:
            address = f"{first.url}/api/v1/channels/market-data/snapshot"
            async with session.get(address) as response:
                position = (await response.json())["data"]["position"]
        assert await first.interrupted() == 0
    assert (tmp_path / "demo.db.demo").stat().st_mode & 0o077 == 0
    async with demo("--journal", journal) as second:
        assert second.key == key
        kinds = []
        async for message in second.reported(f"?channels=market-data&since={position}"):
            kinds.append(message["type"])
            if message["type"] in ("resume", "snapshot"):
                break
        assert kinds[-1] == "resume"
