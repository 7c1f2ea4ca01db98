"""A log in memory that does to messages what a cluster of servers may: it loses them, keeps them
twice, brings them up late, and leaves their senders without an answer. What it keeps, it gives to
every follower alike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path

from telecast.errors import JournalFull, JournalUnavailable
from telecast.journal.jetstream.checkpoints.shelf import Checkpoint, Shelf
from telecast.journal.jetstream.log import Extent, Log, Logged


@dataclass(slots=True)
class Stream:
    """What all nodes' logs share. The rates are chances of each fault; 0 when all is well."""

    random: random.Random
    kept: list[Logged] = field(default_factory=list)
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    late: list[bytes] = field(default_factory=list)
    held_back: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a message is among the late ones."""
    lost: float = 0.0
    unanswered: float = 0.0
    delayed: float = 0.0
    twice: float = 0.0
    most: int = 1_000_000
    """Messages that fit."""
    clock: int = 1_700_000_000_000
    first: int = 1
    shelf: MemoryShelf = field(default_factory=lambda: MemoryShelf())

    def keep(self, data: bytes) -> None:
        self.clock += 7
        self.kept.append(Logged(len(self.kept) + 1, self.clock, data))
        self.grown.set()
        self.grown = asyncio.Event()

    def heal(self) -> None:
        self.lost = self.unanswered = self.delayed = self.twice = 0.0


class MemoryShelf(Shelf):
    """Checkpoints in memory. `broken` names what fails: "put", "get"."""

    def __init__(self) -> None:
        self.files: dict[Checkpoint, bytes] = {}
        self.broken: set[str] = set()

    async def found(self) -> list[Checkpoint]:
        return sorted(self.files, key=lambda each: each.sequence, reverse=True)

    async def put(self, checkpoint: Checkpoint, path: str) -> None:
        if "put" in self.broken:
            raise JournalUnavailable("the shelf is broken")
        self.files[checkpoint] = await asyncio.to_thread(Path(path).read_bytes)

    async def get(self, checkpoint: Checkpoint, path: str) -> None:
        if "get" in self.broken:
            raise JournalUnavailable("the shelf is broken")
        await asyncio.to_thread(Path(path).write_bytes, self.files[checkpoint])

    async def tidy(self, keep: Collection[str]) -> None:
        self.files = {each: data for each, data in self.files.items() if each.name in keep}


class UnsureLog(Log):
    def __init__(self, stream: Stream) -> None:
        self.epoch = self.life = "unsure"
        self.shelf = stream.shelf
        self.most_bytes = 1 << 20
        self._stream = stream
        self._closed = False

    async def open(self) -> None:
        """Nothing to do."""

    async def extent(self) -> Extent:
        return Extent(self._stream.first, len(self._stream.kept))

    async def timestamp_of(self, sequence: int) -> int | None:
        kept, first = self._stream.kept, self._stream.first
        return kept[sequence - 1].timestamp if first <= sequence <= len(kept) else None

    async def append(self, data: bytes) -> None:
        stream, chance = self._stream, self._stream.random.random
        for _ in range(stream.random.randrange(3)):
            await asyncio.sleep(0)
        if len(stream.kept) - stream.first + 1 >= stream.most:
            raise JournalFull("full")
        if chance() < stream.lost:
            raise JournalUnavailable("lost")
        if chance() < stream.delayed:
            stream.late.append(data)
            stream.held_back.set()
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
            if stream.first > after + 1:
                raise JournalUnavailable("The log was trimmed: restart the node.")
            if len(stream.kept) > after:
                upto = min(len(stream.kept), after + stream.random.randrange(1, 5))
                logged = tuple(stream.kept[after:upto])
                after = upto
                yield logged
            else:
                await stream.grown.wait()

    async def forget(self, upto: int) -> None:
        self._stream.first = max(self._stream.first, upto + 1)

    def away(self) -> str | None:
        return None

    async def close(self) -> None:
        self._closed = True
