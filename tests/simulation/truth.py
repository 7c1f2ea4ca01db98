"""What was committed and what is gone of it; and a journal that answers as late as it may."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from typing import Any

import orjson

from telecast.clients.shared import BANS
from telecast.errors import JournalUnavailable
from telecast.journal.base import Batch, Figures, Journal, Note, Receipt
from telecast.journal.memory import MemoryJournal
from telecast.model import Entry, Floor, Page, Retention, Row
from telecast.tape.selection import Selection
from tests.support.fakes import wanted

NEVER = 2**60
ALL = 10**6


class Truth:
    """Every entry that ever committed; its seqs are 1, 2, 3 and so on."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.rows: list[Row] = []
        self.of: defaultdict[str, list[int]] = defaultdict(list)
        """Channel to seqs."""
        self.next: dict[int, int] = {}
        """Seq to the seq of the next entry of the same key, or NEVER."""
        self.gone: set[int] = set()
        """No more in the journal."""
        self._newest: dict[tuple[str, str], int] = {}

    @property
    def head(self) -> int:
        return len(self.entries)

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            assert entry.seq == self.head + 1, "a hole in the journal's numbers, or one used twice"
            self.entries.append(entry)
            self.rows.append(orjson.loads(entry.data))
            self.of[entry.channel].append(entry.seq)
            before = self._newest.get((entry.channel, entry.key))
            if before is not None:
                self.next[before] = entry.seq
            self.next[entry.seq] = NEVER
            self._newest[entry.channel, entry.key] = entry.seq

    def __getitem__(self, seq: int) -> Entry:
        return self.entries[seq - 1]

    def row(self, seq: int) -> Row:
        return self.rows[seq - 1]

    def between(self, channel: str, after: int, upto: int) -> list[int]:
        seqs = self.of[channel]
        return seqs[bisect_right(seqs, after) : bisect_right(seqs, upto)]

    def wanted(self, selection: Selection, seq: int) -> bool:
        return wanted(selection, self[seq].channel, self.row(seq))

    def live(self, selection: Selection, names: Collection[str], upto: int) -> list[int]:
        """The seqs of the rows of these channels that live at a position."""
        return [
            seq
            for name in names
            for seq in self.between(name, 0, upto)
            if self[seq].op == "upsert" and self.next[seq] > upto and self.wanted(selection, seq)
        ]

    def state(
        self, selection: Selection, names: Collection[str], upto: int
    ) -> dict[tuple[str, str], Row]:
        return {
            (self[seq].channel, self[seq].key): self.row(seq)
            for seq in self.live(selection, names, upto)
        }


class LateJournal(Journal):
    """A MemoryJournal whose answers come late, out of order where the contract lets them, or not.

    `calm` ends all that. The truth hears of a commit before anybody is sent it.
    """

    def __init__(
        self,
        retention: Mapping[str, Retention],
        *,
        rng: random.Random,
        truth: Truth,
        now: Callable[[], float],
        turns: Callable[[], int],
        slowness: float,
    ) -> None:
        """`slowness`: seconds that an answer takes at the most; `turns` counts the loop's."""
        self.inner = MemoryJournal(retention, now=now, elapsed=now)
        self.epoch = self.inner.epoch
        self.books = self.inner.books
        self.failing = 0.0
        """How often a read or an append fails."""
        self.faults = 0
        self.reads = 0
        self.slowness = slowness
        self.heard_at: list[int] = []
        """The loop's turn at which each entry was handed on; from seq 1."""
        self._turns = turns
        self._rng, self._truth = rng, truth
        self._turn = asyncio.Lock()
        self._appends: dict[asyncio.Task[Receipt], None] = {}
        self._stale: Mapping[str, Floor] | None = None

    def calm(self) -> None:
        self.slowness = self.failing = 0.0

    @property
    def head(self) -> int:  # type: ignore[override]
        return self.inner.head

    async def _dawdle(self) -> None:
        if self.slowness and self._rng.random() < 0.5:
            await asyncio.sleep(self._rng.random() * self.slowness)

    def _fails(self) -> bool:
        failed = self.failing > 0 and self._rng.random() < self.failing
        self.faults += failed
        return failed

    async def open(self) -> None:
        await self.inner.open()

    async def append(self, batch: Batch) -> Receipt:
        # Cancelling the caller does not cancel the commit.
        task = asyncio.ensure_future(self._append(batch))
        self._appends[task] = None
        task.add_done_callback(lambda done: self._appends.pop(done, None))
        return await asyncio.shield(task)

    async def _append(self, batch: Batch) -> Receipt:
        async with self._turn:
            await self._dawdle()
            if self._fails():
                raise JournalUnavailable("The disk is busy.")
            receipt = await self.inner.append(batch)
        await self._dawdle()
        if self._fails():
            raise JournalUnavailable("Nobody knows.", outcome_unknown=True)
        return receipt

    async def tail(self) -> AsyncIterator[tuple[Entry, ...]]:
        async for entries in self.inner.tail():
            self._truth.add(entries)
            await self._dawdle()
            self.heard_at += [self._turns()] * len(entries)
            yield entries

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page:
        self.reads += 1
        await self._dawdle()
        page = await self.inner.read(channels, after, limit)
        await self._dawdle()
        if self._fails():
            raise JournalUnavailable("The disk is busy.")
        return page

    async def notes(self, book: str, after: str = "", limit: int = 1000) -> tuple[Note, ...]:
        if book != BANS:  # nobody is banned here, and a draw more makes every seed another schedule
            await self._dawdle()
        return await self.inner.notes(book, after, limit)

    def floors(self) -> Mapping[str, Floor]:
        return self._stale or self.inner.floors()

    async def trim(self, retention: Mapping[str, Retention] | None = None) -> int:
        stale = self.inner.floors()
        gone = await self.inner.trim(retention)
        if gone:
            everything = await self.inner.read(tuple(stale), 0, ALL)
            there = {entry.seq for entry in everything.entries}
            # What has committed and is on its way to the tail is not gone.
            self._truth.gone = {n for n in range(1, self.head + 1) if n not in there}
            self._stale = stale
            await self._dawdle()
            self._stale = None
        return gone

    def figures(self) -> Figures:
        return self.inner.figures()

    def now(self) -> float:
        return self.inner.now()

    def failure(self) -> str | None:
        return self.inner.failure()

    async def close(self) -> None:
        if self._appends:
            await asyncio.wait(list(self._appends))
        await self.inner.close()


def reported(entry: Entry, body: Mapping[str, Any], row: Row) -> bool:
    """Whether an event says what was committed."""
    said = (body["seq"], body["channel"], body["key"], body["op"], body["timestamp"])
    meant = (entry.seq, entry.channel, entry.key, entry.op, entry.timestamp)
    return said == meant and body["data"] == row
