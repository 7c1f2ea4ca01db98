"""Live subscribers that want the same at the same door and pace: one buffer serves them all."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter

from telecast.fanout.selection import Selection
from telecast.fanout.subscriber import Subscriber
from telecast.model import Event
from telecast.protocol import messages
from telecast.protocol.framing import Door

PIECE_BYTES = 64 * 1024
"""A flush is written in pieces of about this size: a member whose sink is full misses only what
comes after the piece, and resumes there."""
SLICE_MEMBERS = 500
SLICE_BYTES = 4 * 2**20
"""Writes after which a flush lets the loop turn: about 2 ms at 4 µs each, or the memory copied."""

_seq = attrgetter("seq")


@dataclass(frozen=True, slots=True)
class _Conflation:
    """What a batch leaves out: `count` events in [`first`, `last`], the newest at `newest`."""

    count: int
    first: int
    last: int
    newest: int


class Cohort:
    """What is pending for the members, and the members.

    A member's cursor is exact at any moment between two writes: it is the end of the last piece
    that it was handed, or the head at which it joined if that is later.
    """

    __slots__ = (
        "_base",
        "_door",
        "_flushed_from",
        "_last",
        "_left_out",
        "_left_out_newest",
        "_newest",
        "due_at",
        "flushing",
        "max_rate",
        "members",
        "pending",
        "pending_from",
        "selection",
    )

    def __init__(self, selection: Selection, door: Door, max_rate: float | None) -> None:
        self.selection = selection
        self.max_rate = max_rate
        self.members: dict[Subscriber, None] = {}
        self.pending: list[Event] = []
        self.pending_from = 0
        """The position just before the first event that is pending."""
        self.flushing = False
        self.due_at = 0.0
        """Rated cohorts: not before this time, by the loop's clock."""
        self._door = door
        self._base = 0
        self._flushed_from = 0
        self._last = 0
        self._newest: dict[tuple[str, str], int] = {}
        self._left_out = 0
        self._left_out_newest = 0

    def add(self, event: Event) -> bool:
        """Note an event that the selection wants; True if nothing was pending before it."""
        first = not self.pending
        if first:
            self.pending_from = event.seq - 1
        self._last = event.seq
        if self.max_rate is not None and not event.pinned:
            # One place per key, so that what waits for the next batch is bounded by the rows
            # there are. `flush` brings the places back into order.
            where = (event.channel, event.key)
            before = self._newest.get(where)
            if before is not None:
                self._left_out += 1
                self._left_out_newest = max(self._left_out_newest, self.pending[before].seq)
                self.pending[before] = event
                return False
            self._newest[where] = len(self.pending)
        self.pending.append(event)
        return first

    def position(self, member: Subscriber, head: int) -> int:
        """The newest position of which the member was told everything."""
        if self.flushing:
            return max(member.cursor, self._flushed_from)
        return max(member.cursor, self.pending_from) if self.pending else max(member.cursor, head)

    def flush(
        self,
        *,
        epoch: str,
        now: int,
        on_full: Callable[[Subscriber], None],
        on_told: Callable[[str, Mapping[str, int], int, int], None],
    ) -> Iterator[int]:
        """Write what is pending to every member; yields the bytes written after each slice.

        `now` is for messages, in ms. `on_full` takes a member whose sink is full out of the
        cohort; `on_told` counts, over all members: door, events per channel, events that were
        left out, bytes.
        """
        pending, self.pending = self.pending, []
        self._flushed_from = self.pending_from
        conflation = _Conflation(
            self._left_out, self.pending_from + 1, self._last, self._left_out_newest
        )
        self._left_out = self._left_out_newest = 0
        self._newest.clear()
        if self.max_rate is not None:
            pending.sort(key=_seq)
        self.flushing = True
        try:
            first = 0
            while first < len(pending):
                last, size = first, 0
                while last < len(pending) and size < PIECE_BYTES:
                    size += len(pending[last].json)
                    last += 1
                if first:
                    yield 0
                piece = pending[first:last]
                left_out = conflation.count if first == 0 else 0
                yield from self._write(piece, left_out, conflation, now, epoch, on_full, on_told)
                first = last
        finally:
            self.flushing = False

    def _write(
        self,
        piece: list[Event],
        left_out: int,
        conflation: _Conflation,
        now: int,
        epoch: str,
        on_full: Callable[[Subscriber], None],
        on_told: Callable[[str, Mapping[str, int], int, int], None],
    ) -> Iterator[int]:
        door, base, end = self._door, self._base, piece[-1].seq
        frames = [door.event(event, epoch) for event in piece]
        first, last = conflation.first, conflation.last
        notice = messages.conflated(now, first, last, left_out)
        whole = door.join([door.message(notice), *frames] if left_out else frames)
        parts: dict[int, tuple[bytes, int]] = {}
        members = list(self.members)
        counts = Counter[str]()
        told = missed = written = since = 0
        self._base = end
        for start in range(0, len(members), SLICE_MEMBERS):
            for member in members[start : start + SLICE_MEMBERS]:
                if member not in self.members:
                    continue
                data = whole
                cursor = member.cursor
                if cursor != base and cursor >= first:
                    # It joined while this batch was pending: it has the first of it already.
                    part = parts.get(cursor)
                    if part is None:
                        index = bisect_right(piece, cursor, key=_seq)
                        blocks = frames[index:]
                        if left_out and conflation.newest > cursor:
                            notice = messages.conflated(now, cursor + 1, last, None)
                            blocks.insert(0, door.message(notice))
                        part = parts[cursor] = (door.join(blocks) if blocks else b"", index)
                    data, index = part
                    if not data:
                        continue
                    counts.subtract(event.channel for event in piece[:index])
                elif left_out:
                    member.left_out += left_out
                    missed += left_out
                member.cursor = end if cursor < end else cursor
                told += 1
                since += len(data)
                if not member.write(data):
                    on_full(member)
                if since >= SLICE_BYTES:
                    written += since
                    yield since
                    since = 0
            if since and start + SLICE_MEMBERS < len(members):
                written += since
                yield since
                since = 0
        for event in piece:
            counts[event.channel] += told
        on_told(door.name, counts, missed, written + since)
