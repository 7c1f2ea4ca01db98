"""One service for all that a hostile peer sends: what it broke would show in what comes next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvloop

from tests.support.service.live import PATIENCE, Live, principal, served


class Complaints(logging.Handler):
    """What the service logged that is its own fault."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(f"{record.name}: {record.getMessage()} {record.exc_info}")


class Host:
    """A service that stays up over all examples of a module's tests."""

    def __init__(self, live: Live, runner: asyncio.Runner, complaints: Complaints) -> None:
        self.live = live
        self._runner = runner
        self._complaints = complaints

    def run(self, test: Coroutine[Any, Any, Any]) -> Any:
        """One example; fails where the service logged an error over it."""
        result = self._runner.run(test)
        assert not self._complaints.heard, self._complaints.heard
        return result


@contextmanager
def hosted() -> Iterator[Host]:
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            service = _service()
            live = runner.run(anext(service))
            yield Host(live, runner, complaints)
            runner.run(service.aclose())
    finally:
        logging.getLogger().removeHandler(complaints)


async def _service() -> AsyncGenerator[Live]:
    rates = {"actions_per_second": 10_000, "actions_burst": 10_000}
    patient = rates | {"new_connections_per_second": 100_000, "max_event_bytes": 4_096}
    async with served(principal(), principal("guest", "read"), **patient) as live:
        yield live


@asynccontextmanager
async def connected(
    live: Live,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection for bytes that no client of ours would send."""
    port = int(live.url.rpartition(":")[2])
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.close()


async def answered(live: Live, request: bytes) -> tuple[int, dict[str, list[str]], bytes]:
    """(status, headers by lower-case name, body) of what comes back for these bytes.

    The body of a stream, which has no length, is not waited for.
    """
    async with connected(live) as (reader, writer):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, colon, value = line.partition(": ")
            assert colon, line
            headers.setdefault(name.lower(), []).append(value)
        size = int(headers.get("content-length", ["0"])[0])
        return int(first.split()[1]), headers, await reader.readexactly(size)
