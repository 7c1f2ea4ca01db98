"""A log in memory that does to messages what a cluster of servers may: it loses them, keeps them
twice, brings them up late, and leaves their senders without an answer. What it keeps, it gives to
every follower alike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from telecast.errors import JournalFull, JournalUnavailable
from telecast.journal.jetstream.log import Extent, Log, Logged


@dataclass(slots=True)
class Stream:
    """What all nodes' logs share. The rates are chances of each fault; 0 when all is well."""

    random: random.Random
    kept: list[Logged] = field(default_factory=list)
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    late: list[bytes] = field(default_factory=list)
    lost: float = 0.0
    unanswered: float = 0.0
    delayed: float = 0.0
    twice: float = 0.0
    most: int = 1_000_000
    """Messages that fit."""
    clock: int = 1_700_000_000_000

    def keep(self, data: bytes) -> None:
        self.clock += 7
        self.kept.append(Logged(len(self.kept) + 1, self.clock, data))
        self.grown.set()
        self.grown = asyncio.Event()

    def heal(self) -> None:
        self.lost = self.unanswered = self.delayed = self.twice = 0.0


class UnsureLog(Log):
    def __init__(self, stream: Stream) -> None:
        self.epoch = "unsure"
        self.most_bytes = 1 << 20
        self._stream = stream
        self._closed = False

    async def open(self) -> None:
        """Nothing to do."""

    async def extent(self) -> Extent:
        return Extent(1, len(self._stream.kept))

    async def timestamp_of(self, sequence: int) -> int | None:
        kept = self._stream.kept
        return kept[sequence - 1].timestamp if sequence <= len(kept) else None

    async def append(self, data: bytes) -> None:
        stream, chance = self._stream, self._stream.random.random
        for _ in range(stream.random.randrange(3)):
            await asyncio.sleep(0)
        if len(stream.kept) >= stream.most:
            raise JournalFull("full")
        if chance() < stream.lost:
            raise JournalUnavailable("lost")
        if chance() < stream.delayed:
            stream.late.append(data)
            raise JournalUnavailable("late")
        stream.keep(data)
        if chance() < stream.twice:
            stream.keep(data)
        if stream.late and chance() < 0.3:
            stream.keep(stream.late.pop(stream.random.randrange(len(stream.late))))
        if chance() < stream.unanswered:
            raise JournalUnavailable("no answer")

    async def follow(self, after: int) -> AsyncIterator[tuple[Logged, ...]]:
        stream = self._stream
        while not self._closed:
            if len(stream.kept) > after:
                upto = min(len(stream.kept), after + stream.random.randrange(1, 5))
                logged = tuple(stream.kept[after:upto])
                after = upto
                yield logged
            else:
                await stream.grown.wait()

    def away(self) -> str | None:
        return None

    async def close(self) -> None:
        self._closed = True
