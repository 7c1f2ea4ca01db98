"""A line to a service that breaks after a random number of bytes, wherever that is.

It knows where: in the head of an answer, within a message, between two. A connection counts from
its first request for a stream on; others break too where `others` says after how many bytes.
"""

from __future__ import annotations

import asyncio
import math
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from yarl import URL

from telecast.testing.relay import listening

READ = 64 * 1024
STREAMS = (b" /ws/telemetry", b" /sse/telemetry")
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a socket that is closed by a reset."""


def soon_or_late(chance: random.Random) -> int:
    """Bytes of a stream that get through: now and then not even its head."""
    if chance.random() < 0.1:
        return chance.randint(1, 400)
    return int(math.exp(chance.uniform(math.log(400), math.log(30_000))))


class Place:
    """Where in an answer the bytes have come to. Pure."""

    def __init__(self) -> None:
        self._head = b""
        self._body: bytes | None = None
        self._socket = False
        self._left = 0
        """Bytes of a WebSocket's frame that are to come, below 0 while its length is not known."""

    def passed(self, data: bytes) -> None:
        if self._body is None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._socket = b" 101 " in head[:20]
            self._body = b""
        if not self._socket:
            self._body = (self._body + data)[-8:]
            return
        self._body += data
        while self._body:
            size = _frame(self._body)
            if size is None or size > len(self._body):
                return
            self._body = self._body[size:]

    def __str__(self) -> str:
        if self._body is None:
            return "in the head" if self._head else "before the head"
        if self._socket:
            return "in a frame" if self._body else "between two"
        # Pieces of the transfer end with a line of their own.
        whole = self._body.removesuffix(b"\r\n").endswith(b"\n\n")
        return "between two" if whole or not self._body else "in an event"


def _frame(data: bytes) -> int | None:
    """The whole size of the frame that begins here (RFC 6455 §5.2), of a server: unmasked."""
    if len(data) < 2:
        return None
    size, more = data[1] & 0x7F, 0
    if size >= 126:
        more = 2 if size == 126 else 8
        if len(data) < 2 + more:
            return None
        size = int.from_bytes(data[2 : 2 + more], "big")
    return 2 + more + size


class Cutter:
    """`url` is where clients connect."""

    def __init__(
        self,
        target: str,
        chance: random.Random,
        others: Callable[[random.Random], int] | None = None,
    ) -> None:
        self._target = URL(target)
        self._chance = chance
        self._others = others
        self.url = ""
        self.where: Counter[str] = Counter()
        """Cuts of streams, by where."""
        self.cut = asyncio.Event()
        """Set at each of them."""
        self.calm = False
        """From now on nothing is cut."""
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def cuts(self) -> int:
        return self.where.total()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        line = _Line(self, writer)
        try:
            far_reader, far = await asyncio.open_connection(self._target.host, self._target.port)
            async with asyncio.TaskGroup() as group:
                group.create_task(line.up(reader, far))
                group.create_task(line.down(far_reader))
        except* (OSError, RuntimeError):
            pass  # the latter is uvloop's word for a connection that the other half has closed
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    def bytes_of(self, *, stream: bool) -> float:
        """How many get through."""
        if self.calm:
            return math.inf
        if stream:
            return soon_or_late(self._chance)
        return self._others(self._chance) if self._others is not None else math.inf

    def by_reset(self) -> bool:
        return self._chance.random() < 0.5

    def end(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()


class _Line:
    """One connection through the cutter."""

    def __init__(self, cutter: Cutter, near: asyncio.StreamWriter) -> None:
        self._cutter = cutter
        self._near = near
        self._stream = False
        self._place = Place()
        self._down = cutter.bytes_of(stream=False)

    async def up(self, reader: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        left = self._cutter.bytes_of(stream=False)
        try:
            while data := await reader.read(READ):
                if not self._stream and any(path in data[:80] for path in STREAMS):
                    self._stream, self._place = True, Place()
                    self._down, left = self._cutter.bytes_of(stream=True), math.inf
                passed = data if left >= len(data) else data[: int(left)]
                left -= len(passed)
                far.write(passed)
                await far.drain()
                if left <= 0 and not self._cutter.calm:
                    self._end()
                    return
        finally:
            far.close()

    async def down(self, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(READ):
                passed = data
                if not self._cutter.calm and self._down < len(data):
                    passed = data[: int(self._down)]
                self._down -= len(passed)
                self._place.passed(passed)
                self._near.write(passed)
                await self._near.drain()
                if self._down <= 0 and not self._cutter.calm:
                    if self._stream:
                        self._cutter.where[str(self._place)] += 1
                        self._cutter.cut.set()
                    self._end()
                    return
        finally:
            self._near.close()

    def _end(self) -> None:
        """As a line that breaks, or as a proxy that goes: a reset, or an end without a word."""
        if self._cutter.by_reset():
            raw = self._near.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._near.transport.abort()


@asynccontextmanager
async def cutter(
    target: str, chance: random.Random, others: Callable[[random.Random], int] | None = None
) -> AsyncIterator[Cutter]:
    own = Cutter(target, chance, others)
    async with listening(own.take, own.end) as own.url:
        yield own
