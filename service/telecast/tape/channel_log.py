"""One channel's newest events and live rows in memory; what is old is compacted."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from enum import Enum

from telecast.model import Event
from telecast.tape import compacted
from telecast.tape.compacted import LET_GO, CompactedLog, seq_of


class Standing(Enum):
    """What a channel can do for a position."""

    EXACT = "every event after it is here"
    COMPACT = "pinned events and newest rows after it are here"
    EXPIRED = "some of these are not here any more"


class ChannelLog:
    """Every event after `whole_from`; before that only pinned events and each key's newest.

    Newest live rows are never trimmed. The others, which are history, are bounded as the whole
    part is: `compact_from` rises when a tombstone or a pinned event goes.
    """

    def __init__(self, *, most_events: int, most_bytes: int, whole_from: int, compact_from: int):
        self.whole_from = whole_from
        self.compact_from = compact_from
        self._through = 0
        """Where the whole part starts: what is in `_kept` is not after it. `whole_from` is lower
        as long as nothing of what was moved out has been let go."""
        self.rows: dict[str, Event] = {}
        """The newest upsert of each key that lives, in no order: moving a key to the end of a
        large dict makes it grow anew now and then, which holds the event loop."""
        self._tombstones: dict[str, Event] = {}
        """The newest event of each key that is gone, until it is trimmed."""
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._upserts = CompactedLog(self._lives)
        """The values of `rows` in seq order."""
        self._kept = CompactedLog(self._stays)
        """Pinned and newest events from before the whole part."""
        self._history = self._history_bytes = 0
        """Of what is kept all but live rows."""
        self._whole: list[Event] = []
        self._first = 0
        """Where the whole part starts in `_whole`: what lies before it has moved on already."""
        self._bytes = 0

    @property
    def last(self) -> Event | None:
        """The newest event, if it is held."""
        return self._whole[-1] if len(self._whole) > self._first else None

    def __len__(self) -> int:
        """Events in memory."""
        return len(self._kept) + len(self._whole) - self._first

    def apply(self, event: Event) -> None:
        """Take in the next event."""
        key = event.key
        row, tombstone = self.rows.get(key), self._tombstones.pop(key, None)
        if row is not None and row.seq <= self._through:
            if row.pinned and row.seq > self.compact_from:
                self._count_history(row, 1)
            else:
                self._lose(row)
        if tombstone is not None and tombstone.seq <= self._through and not tombstone.pinned:
            self._count_history(tombstone, -1)
            self._lose(tombstone)
        if event.op == "upsert":
            self.rows[key] = event
            self._upserts.append(event)
        else:
            self.rows.pop(key, None)
            self._tombstones[key] = event
        self._whole.append(event)
        self._bytes += len(event.json)
        while len(self._whole) - self._first > self._most_events or (
            self._bytes > self._most_bytes and len(self._whole) - self._first > 1
        ):
            self._let_go_of_oldest()
        self._trim_history()

    def newest(self, event: Event) -> bool:
        """Whether no later event of the same key exists."""
        key = event.key
        return self.rows.get(key) is event or self._tombstones.get(key) is event

    def since(self, after: int) -> Iterator[Event]:
        """What is held after a position, in seq order."""
        if after < self._through:
            yield from self._kept.after(after)
        whole = self._whole
        for index in range(bisect_right(whole, after, lo=self._first, key=seq_of), len(whole)):
            yield whole[index]

    def upserts(self, after: int) -> Iterator[Event]:
        """The rows that live and were last written after a position, in seq order."""
        return self._upserts.after(after)

    def lost(self, upto: int) -> int:
        """The seq of the last event up to `upto` that is not held any more; 0 if all are.

        `upto` is the seq of an event of this channel, and no lower than the floor that the log
        began with.
        """
        return self.whole_from if upto >= self.whole_from else self._kept.gone(upto)

    def standing(self, after: int) -> Standing:
        if after >= self.whole_from:
            return Standing.EXACT
        return Standing.COMPACT if after >= self.compact_from else Standing.EXPIRED

    def _lives(self, event: Event) -> bool:
        return self.rows.get(event.key) is event

    def _stays(self, event: Event) -> bool:
        return self.rows.get(event.key) is event or (
            event.seq > self.compact_from
            and (event.pinned or self._tombstones.get(event.key) is event)
        )

    def _count_history(self, event: Event, by: int) -> None:
        self._history += by
        self._history_bytes += by * len(event.json)

    def _let_go_of_oldest(self) -> None:
        event = self._whole[self._first]
        self._whole[self._first] = LET_GO
        self._first += 1
        self._bytes -= len(event.json)
        self._through = event.seq
        if self._stays(event):
            self._kept.append(event, self.whole_from)
            if not self._lives(event):
                self._count_history(event, 1)
        else:
            self._forget(event)
        if self._first > compacted.SLACK and self._first * 2 > len(self._whole):
            # Moving the rest down costs what was appended since the last time: constant per event.
            del self._whole[: self._first]
            self._first = 0

    def _trim_history(self) -> None:
        while self._history > self._most_events or self._history_bytes > self._most_bytes:
            oldest = next(e for e in self._kept.after(self.compact_from) if not self._lives(e))
            self._count_history(oldest, -1)
            self.compact_from = oldest.seq
            self._forget(oldest)

    def _forget(self, event: Event) -> None:
        if self._tombstones.get(event.key) is event:
            del self._tombstones[event.key]
        self._lose(event)

    def _lose(self, event: Event) -> None:
        # A log that is fed from a trimmed journal starts with rows from before its floors.
        self.whole_from = max(self.whole_from, event.seq)
