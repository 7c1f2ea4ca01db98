"""Live subscribers that want the same over the same transport and pace: one buffer serves them
all.

The invariant: at any moment `position` gives the newest seq up to which a member was sent all. It
holds without a cursor for each, because the settled members were sent the same: what differs is
only whether the write of the piece under way has come to their place yet. So all that is kept is
how far the flush has come (`reached`) and what it has written before and is writing (`base`,
`end`). A newcomer has a cursor of its own until it has been sent what the others were.

This would break it: a write that skips a settled member and does not take it out of the cohort; a
member that joins without all that was committed before the batch under way; an event that enters
`pending` out of the order of seq and is not sorted before it is written. See
docs/design/fanout.md, Cohorts, and tests/unit/fanout/test_cohort.py, which asks after each write.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from telecast.fanout.pending import Pending, RatedPending, Taken
from telecast.fanout.sink import SinkGroup
from telecast.fanout.subscriber import Seat, Subscriber
from telecast.model import Event
from telecast.protocol import messages
from telecast.protocol.framing import Transport
from telecast.tape.selection import Selection

PIECE_BYTES = 64 * 1024
"""A flush is written in pieces of about this size: a member whose sink is full misses only what
comes after the piece, and resumes there."""
SLICE_MEMBERS = 500
SLICE_BYTES = 4 * 2**20
"""Writes after which a flush lets the loop turn: about 2 ms at 4 µs each, or the memory copied."""

_seq = attrgetter("seq")


@dataclass(slots=True)
class _Flush:
    """A batch that is being written: what is the same for all of its pieces, and how far it is.

    Settled members who have a place below `reached` were sent up to `end`, the others up to
    `base`. Nobody lacks what was committed before the batch.
    """

    batch: Taken
    now: int
    on_full: Callable[[Subscriber], None]
    base: int
    end: int = 0
    reached: int = 0


@dataclass(slots=True)
class _Piece:
    """A part of a batch, and what writing it came to, over all members that it was sent to."""

    events: list[Event]
    frames: list[bytes]
    sent: Counter[str] = field(default_factory=Counter)
    """Channel to events."""
    conflated: int = 0
    size: int = 0


class Cohort:
    """What is pending for the members, and the members.

    Members that were sent the same so far are settled: they have a place in a group of sinks that
    is written as one, and no cursor to keep. Who joins while something is pending is a newcomer,
    with a cursor of its own, until it was sent what the others were.
    """

    __slots__ = (
        "_due_at",
        "_flush",
        "_flushed_at",
        "_group",
        "_newcomers",
        "_pending",
        "_places",
        "_transport",
        "_vacant",
        "max_rate",
        "selection",
    )

    def __init__(
        self, selection: Selection, transport: Transport, max_rate: float | None, group: SinkGroup
    ) -> None:
        """`group` is an empty one, for the kind of sink that the members have."""
        self.selection = selection
        self.max_rate = max_rate
        self._pending = Pending() if max_rate is None else RatedPending()
        self._transport = transport
        self._group = group
        self._places: list[Subscriber | None] = []
        """Who is settled, at the place that its sink has in the group; None where one has left."""
        self._vacant = 0
        self._newcomers: dict[Subscriber, Seat] = {}
        self._flush: _Flush | None = None
        """The flush that is under way."""
        self._due_at = 0.0
        """Of a rated one: when its pace lets the next batch go, by the loop's clock."""
        self._flushed_at = 0.0

    # --- who is in it

    def __len__(self) -> int:
        return len(self._places) - self._vacant + len(self._newcomers)

    def __iter__(self) -> Iterator[Subscriber]:
        yield from filter(None, self._places)
        yield from self._newcomers

    def join(self, member: Subscriber, cursor: int) -> None:
        """Take in one that was sent everything up to its cursor: at the least what was committed
        before the batch that is being flushed. The first brings along the pace that it left
        with."""
        if not self:
            self._due_at = member.due_at
        member.seat = self._newcomers[member] = Seat(cursor)
        self._pending.members += 1

    def leave(self, member: Subscriber, head: int) -> int:
        """Let it go; returns its cursor, which is exact."""
        cursor, place = self.position(member, head), _seat_of(member).place
        if place is None:
            del self._newcomers[member]
        else:
            self._places[place] = None
            self._group.drop(place)
            self._vacant += 1
        member.seat, member.due_at = None, self._due_at
        self._pending.members -= 1
        return cursor

    def drop(self) -> None:
        """Nobody is left for what is pending."""
        self._pending.clear()

    def position(self, member: Subscriber, head: int) -> int:
        """The newest position of which the member was sent everything, at any moment."""
        flush, seat = self._flush, _seat_of(member)
        place = seat.place
        if flush is None:
            sent, pending = seat.cursor if place is None else 0, self._pending
            return max(sent, pending.since if pending.events else head)
        since = flush.batch.since
        if place is None:
            return max(seat.cursor, since)
        return max(flush.end if place < flush.reached else flush.base, since)

    def _settle(self, newcomer: Subscriber) -> None:
        """It has been sent what the settled ones were."""
        self._seat(newcomer, self._newcomers.pop(newcomer))

    def _close_ranks(self) -> None:
        staying = [*filter(None, self._places)]
        self._places.clear()
        self._group.clear()
        self._vacant = 0
        for member in staying:
            self._seat(member, _seat_of(member))

    def _seat(self, member: Subscriber, seat: Seat) -> None:
        seat.place = len(self._places)
        self._places.append(member)
        self._group.add(member.sink)

    # --- what they are sent

    def wait(self, now: float) -> float:
        """Seconds until its pace lets it be flushed; none are left where it may be now."""
        return self._due_at - now

    def quiet(self, now: float) -> float:
        """Seconds since it was flushed."""
        return now - self._flushed_at

    def keep_pace(self, now: float) -> None:
        """It is flushed now: its next batch waits for its pace."""
        self._flushed_at = now
        if self.max_rate is not None:
            self._due_at = now + 1 / self.max_rate

    def add(self, event: Event) -> bool:
        """Note an event that the selection wants; True if nothing was pending before it."""
        return self._pending.add(event)

    @property
    def is_pending(self) -> bool:
        """Something waits for the next batch."""
        return bool(self._pending.events)

    @property
    def spilled(self) -> bool:
        """More waits than a rated cohort may keep: `spill` is due in place of `flush`."""
        return self._pending.spilled

    def spill(self, on_behind: Callable[[Subscriber], None]) -> Iterator[None]:
        """In place of `flush` for a cohort that has spilled, yielding between slices: `on_behind`
        takes each member out of the cohort, to read what is pending from the tape."""
        since = self._pending.since
        self._pending.clear()
        self._flush = _Flush(Taken(since, []), 0, on_behind, base=since)
        try:
            for number, member in enumerate(list(self), 1):
                if member.seat is not None:
                    on_behind(member)
                if number % SLICE_MEMBERS == 0:
                    yield
        finally:
            self._flush = None

    def flush(
        self,
        *,
        epoch: str,
        now: int,
        on_full: Callable[[Subscriber], None],
        on_flushed: Callable[[str, Mapping[str, int], int, int], None],
    ) -> Iterator[None]:
        """Write what is pending to every member, yielding between slices.

        `now` is for messages, in ms. `on_full` takes a member whose sink is full out of the
        cohort; `on_flushed` counts, over all members: transport, events per channel, events that
        were conflated, bytes.
        """
        batch = self._pending.take()
        pending, since = batch.events, batch.since
        if self._vacant:
            self._close_ranks()
        if self._newcomers:
            for member in [each for each, seat in self._newcomers.items() if seat.cursor <= since]:
                self._settle(member)
        flush = self._flush = _Flush(batch, now, on_full, base=since)
        try:
            first = 0
            while first < len(pending):
                last, size = first, 0
                while last < len(pending) and size < PIECE_BYTES:
                    size += len(pending[last].json)
                    last += 1
                if first:
                    yield
                events = pending[first:last]
                piece = _Piece(events, [self._transport.event(event, epoch) for event in events])
                yield from self._write(flush, piece)
                if self._newcomers:
                    yield from self._catch_up(flush, piece)
                on_flushed(self._transport.name, piece.sent, piece.conflated, piece.size)
                first = last
        finally:
            self._flush = None

    def _write(self, flush: _Flush, piece: _Piece) -> Iterator[None]:
        """Write a piece to those who are settled."""
        end = piece.events[-1].seq
        data, lacking = self._joined(flush, piece.frames, flush.base, end)
        step = max(1, min(SLICE_MEMBERS, SLICE_BYTES // len(data)))
        flush.end, count = end, len(self._places)
        writes = 0
        for start in range(0, count, step):
            if start:
                yield
            stop = min(start + step, count)
            writes += stop - start
            if self._vacant:
                writes -= self._places[start:stop].count(None)
            if lacking:
                for member in filter(None, self._places[start:stop]):
                    member.miss(lacking)
                    piece.conflated += lacking
            full = self._group.write(data, start, stop)
            flush.reached = stop
            for place in full:
                member_full = self._places[place]
                if member_full is not None:
                    flush.on_full(member_full)
        flush.base, flush.reached = end, 0
        piece.size += writes * len(data)
        for event in piece.events:
            piece.sent[event.channel] += writes

    def _catch_up(self, flush: _Flush, piece: _Piece) -> Iterator[None]:
        """Write a piece to those newcomers who lack some of it. It is the first that they are sent
        of the batch."""
        end = piece.events[-1].seq
        parts: dict[int, tuple[bytes, int, Counter[str]]] = {}
        slice_ends = piece.size + SLICE_BYTES
        for number, member in enumerate(list(self._newcomers), 1):
            seat = self._newcomers.get(member)
            if seat is None or seat.cursor >= end:
                continue
            cursor = seat.cursor
            part = parts.get(cursor)
            if part is None:
                index = bisect_right(piece.events, cursor, key=_seq)
                channels = Counter(event.channel for event in piece.events[index:])
                part = parts[cursor] = (
                    *self._joined(flush, piece.frames[index:], cursor, end),
                    channels,
                )
            data, lacking, channels = part
            seat.cursor = end
            member.miss(lacking)
            piece.conflated += lacking
            piece.sent.update(channels)
            piece.size += len(data)
            if member.write(data):
                self._settle(member)
            else:
                flush.on_full(member)
            if number % SLICE_MEMBERS == 0 or piece.size >= slice_ends:
                yield
                slice_ends = piece.size + SLICE_BYTES

    def _joined(
        self, flush: _Flush, frames: list[bytes], after: int, end: int
    ) -> tuple[bytes, int]:
        """What one at `after` is sent up to `end`, and of how many that are left out."""
        lacking, conflated = 0, flush.batch.conflated
        if conflated:
            lacking = bisect_right(conflated, end) - bisect_right(conflated, after)
        if lacking:
            notice = messages.conflated(flush.now, after + 1, end, lacking)
            frames = [self._transport.message(notice), *frames]
        return self._transport.join(frames), lacking


def _seat_of(member: Subscriber) -> Seat:
    seat = member.seat
    assert seat is not None, "it is LIVE"
    return seat
