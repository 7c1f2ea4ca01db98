"""A journal in memory: for tests, demos, and services whose events may die with them."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import merge, nsmallest
from itertools import islice
from operator import attrgetter

from telecast.errors import JournalUnavailable
from telecast.journal.ageing import Ageing, monotonic
from telecast.journal.base import (
    IDEMPOTENCY_SECONDS,
    Batch,
    Books,
    Figures,
    Idempotency,
    Journal,
    KeyLimits,
    Note,
    Receipt,
)
from telecast.journal.books import notes_of
from telecast.journal.epoch import new_epoch
from telecast.journal.group import Group, Known, Remembered, RowKey, check
from telecast.journal.tail import Tail
from telecast.journal.trimming import TRIM_MOST, Candidate, overdue, raised
from telecast.model import Entry, Floor, Page, Retention

_seq = attrgetter("seq")

ENTRY_BYTES = 350
"""What an entry takes beside its data, on CPython 3.11: objects, and its places in tables."""


@dataclass(slots=True)
class _Log:
    """One channel. `kept` holds the live rows at or before `through`, `recent` all after it."""

    through: int = 0
    floor: Floor = field(default_factory=Floor)
    kept: dict[int, Entry] = field(default_factory=dict)
    superseded: dict[int, None] = field(default_factory=dict)
    recent: list[Entry] = field(default_factory=list)
    recent_bytes: int = 0

    def after(self, seq: int) -> Iterator[Entry]:
        if seq < self.through:
            # `kept` is in seq order: entries enter it in that order, and never again.
            yield from (entry for entry in self.kept.values() if entry.seq > seq)
        yield from islice(self.recent, bisect_right(self.recent, seq, key=_seq), None)


class MemoryJournal(Journal):
    """Keeps the whole contract but durability: each instance is a new life with a new epoch.

    Everything happens on the loop, within the call; nothing waits.
    """

    def __init__(
        self,
        retention: Mapping[str, Retention],
        *,
        now: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = monotonic,
        limits: KeyLimits | None = None,
        history_bytes: int | None = None,
    ) -> None:
        """`now` is in seconds since 1970, `elapsed` in seconds of monotonic time.

        Of all channels together at most `history_bytes` are kept beside the newest rows; None: as
        much as the retention lets.
        """
        self.epoch = new_epoch()
        self.head = 0
        self._retention = dict(retention)
        self._now = now
        self._elapsed = elapsed
        self._ageing = Ageing()
        self._history_bytes = history_bytes
        self._bytes = 0
        """What the entries in all `recent` take."""
        self._logs: dict[str, _Log] = {channel: _Log() for channel in retention}
        self._rows: dict[RowKey, int] = {}
        self._known: dict[str, Known] = {}
        self._remembered = Remembered(limits or KeyLimits())
        self._books: dict[str, dict[str, bytes]] = {}
        self._tail = Tail()
        self.books = Books()

    async def open(self) -> None:
        """Nothing to recover."""

    async def append(self, batch: Batch) -> Receipt:
        if self._tail.ended:
            raise JournalUnavailable("The journal is closed.")
        check(batch)
        times = self._ageing.at(self._now(), self._elapsed())
        group = Group(
            head=self.head,
            timestamp=int(times.clock * 1000),
            since=int(times.after * 1000),
            rows=self._rows,
            known=self._known,
            remembered=self._remembered,
        )
        receipt = group.add(batch)
        for entry in group.entries:
            log = self._log(entry.channel)
            log.recent.append(_fitting(entry))
            log.recent_bytes += len(entry.data)
            self._bytes += len(entry.data) + ENTRY_BYTES
        for row, seq in group.moved.items():
            self._move(row, seq)
        self._known.update(group.keys)
        self._remembered.add(group.owners)
        for (book, key), value in group.notes.items():
            self._write(book, key, value)
        self.head = group.head
        self._tail.add(tuple(group.entries))
        self.books.committed(notes_of(group.notes.items()))
        return receipt

    def _log(self, channel: str) -> _Log:
        log = self._logs.get(channel)
        if log is None:
            log = self._logs[channel] = _Log()
        return log

    def _move(self, row: RowKey, seq: int) -> None:
        log = self._logs[row[0]]
        before = self._rows.pop(row, 0)
        if before in log.kept:
            log.superseded[before] = None
        if seq:
            self._rows[row] = seq

    def _write(self, book: str, key: str, value: bytes | None) -> None:
        notes = self._books.setdefault(book, {})
        if value is None:
            notes.pop(key, None)
        else:
            notes[key] = value

    async def notes(self, book: str, after: str = "", limit: int = 1000) -> tuple[Note, ...]:
        notes = self._books.get(book, {})
        keys = nsmallest(limit, (key for key in notes if key > after))
        return tuple(Note(book, key, notes[key]) for key in keys)

    def tail(self) -> AsyncIterator[tuple[Entry, ...]]:
        return self._tail.follow(self._history, lambda: self.head)

    async def _history(self, after: int, limit: int) -> tuple[tuple[Entry, ...], int]:
        page = self._page(self._logs, after, limit)
        return page.entries, page.upto

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page:
        return self._page(channels, after, limit)

    def _page(self, channels: Collection[str], after: int, limit: int) -> Page:
        if limit < 1:
            raise ValueError("a page holds at least one entry")
        logs = {channel: self._logs.get(channel) or _Log() for channel in channels}
        found = merge(*(log.after(after) for log in logs.values()), key=_seq)
        entries = tuple(islice(found, limit))
        more = len(entries) == limit
        upto = entries[-1].seq if more else max(after, self.head)
        return Page(entries, upto, more, {channel: log.floor for channel, log in logs.items()})

    def floors(self) -> Mapping[str, Floor]:
        return {channel: self._logs[channel].floor for channel in self._retention}

    def retain(self, retention: Mapping[str, Retention]) -> None:
        """Keep these channels by other bounds, from the next trim on."""
        self._retention.update(retention)

    async def trim(self, retention: Mapping[str, Retention] | None = None) -> int:
        now = self._ageing.at(self._now(), self._elapsed()).before
        budget, gone = TRIM_MOST, self._forget((now - IDEMPOTENCY_SECONDS) * 1000)
        chosen = self._retention if retention is None else retention
        for channel, kept in chosen.items():
            looked, went = self._trim(self._logs[channel], kept, now, budget)
            budget -= looked
            gone += went
        return gone + self._trim_to_budget(budget)

    def _trim_to_budget(self, most: int) -> int:
        """Let go of the oldest of all channels, one by one."""
        gone = 0
        while self._history_bytes is not None and self._bytes > self._history_bytes and most > 0:
            log = min(
                (log for log in self._logs.values() if log.recent),
                key=lambda log: log.recent[0].seq,
            )
            # A share of one channel's at a time: what else is as old goes at the next call.
            count = min(most, max(1, len(log.recent) // 8))
            gone += self._cut(log, [self._candidate(entry) for entry in log.recent[:count]], [])
            most -= count
        return gone

    def _trim(self, log: _Log, retention: Retention, now: float, most: int) -> tuple[int, int]:
        superseded = list(islice(log.superseded, most))
        gone = []
        for seq in superseded:
            del log.superseded[seq]
            gone.append(log.kept.pop(seq))
        oldest = [self._candidate(entry) for entry in log.recent[: most - len(superseded)]]
        cut = overdue(
            oldest,
            excess=len(log.recent) - retention.events,
            before=(now - retention.seconds) * 1000,
            heavy=0 if retention.bytes is None else log.recent_bytes - retention.bytes,
        )
        return len(superseded) + cut, self._cut(log, oldest[:cut], gone)

    def _cut(self, log: _Log, oldest: Sequence[Candidate], gone: list[Entry]) -> int:
        """Take the oldest out of `recent`: those that live are kept, the others are gone too."""
        for entry, candidate in zip(log.recent, oldest, strict=False):
            if candidate.live:
                log.kept[entry.seq] = entry
            else:
                gone.append(entry)
            log.through = entry.seq
            log.recent_bytes -= len(entry.data)
            self._bytes -= len(entry.data) + ENTRY_BYTES
        del log.recent[: len(oldest)]
        log.floor = raised(log.floor, ((e.seq, e.pinned or e.op == "delete") for e in gone))
        return len(gone)

    def _candidate(self, entry: Entry) -> Candidate:
        live = self._rows.get((entry.channel, entry.key)) == entry.seq
        lasting = entry.pinned or entry.op == "delete"
        return Candidate(entry.seq, entry.timestamp, live, lasting, len(entry.data))

    def _forget(self, before: float) -> int:
        # In order of use: dictionaries keep it, and the clock rarely runs backwards.
        old = []
        for key, known in islice(self._known.items(), TRIM_MOST):
            if known.since >= before:
                break
            old.append(key)
        for key in old:
            del self._known[key]
        self._remembered.forget(Counter(Idempotency(key, b"").owner for key in old))
        return len(old)

    def now(self) -> float:
        return self._now()

    def failure(self) -> str | None:
        return "The journal is closed." if self._tail.ended else None

    def figures(self) -> Figures:
        return Figures(idempotency_keys=len(self._known), clock_jumps=self._ageing.jumps)

    async def close(self) -> None:
        self._tail.end()


def _fitting(entry: Entry) -> Entry:
    """The entry with data that takes what it needs: the bytes that orjson makes keep the buffer of
    4 KiB in which they were written."""
    return replace(entry, data=bytes(memoryview(entry.data)))
