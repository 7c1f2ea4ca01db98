"""What a subscriber that is behind is sent next: first snapshot, resume and stall are one act.

A step appends what fits and moves the cursor past it. The invariant: everything up to the cursor
that the selection holds has been sent or reported missing, but for the channels whose snapshot is
unfinished. So whatever ends a step, a full sink, a page to wait for, another selection, the next
one goes on from the cursor, and a position that a client was given is safe to come back to.

Snapshots come first, then what was committed after the earliest of them, in the order of seq; a
channel goes on after its own snapshot (`starts`). Nothing is kept of the rows that are still to be
sent: one that changes meanwhile comes as an event. This would break it: a cursor that moves before
its events are in `blocks`, or a position that is reported while a snapshot is unfinished.

Synchronous and without a loop: the broadcaster decides whose turn it is. See
docs/design/fanout.md, A snapshot is a position, and tests/unit/fanout/test_broadcaster.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum
from itertools import groupby
from operator import attrgetter

from telecast.fanout.catchup import CatchUp, FetchedPage, Phase
from telecast.fanout.delta import Delta, Stage
from telecast.fanout.floors import Floors, Gap
from telecast.fanout.subscriber import Subscriber
from telecast.model import Floor, Page, Position
from telecast.protocol import messages
from telecast.protocol.commands import Origin, Start
from telecast.tape.chunks import Chunks, leaves
from telecast.tape.selection import Selection
from telecast.tape.tape import Tape

_channel = attrgetter("channel")
CHUNK_BYTES = 64 * 1024
"""What one turn writes at the most, roughly: a sink is full at about this size."""


class Outcome(Enum):
    MORE = "there is more to send"
    FETCH = "the journal must be asked: the tape has lost what the journal may have"
    AHEAD = "the position is not committed here yet"
    DONE = "everything up to the head was sent"


class Backfill:
    def __init__(
        self,
        tape: Tape,
        epoch: str,
        *,
        now: Callable[[], int],
        journal_floor: Callable[[str], Floor],
        starts: Counter[str] | None = None,
    ) -> None:
        """`now` gives ms since 1970; `journal_floor` what the journal still has of a channel;
        `starts` counts what streams begin with."""
        self._tape = tape
        self._epoch = epoch
        self._now = now
        self._floors = Floors(tape, journal_floor)
        self._starts = Counter() if starts is None else starts
        self.chunks = Chunks(tape, epoch, now=now)

    def begin(
        self, subscriber: Subscriber, start: Start, selection: Selection | None = None
    ) -> None:
        """Give a subscriber its first catch-up; `selection` where it came without one."""
        if selection is not None:
            subscriber.put_in_force(selection)
        names = subscriber.selection.channels
        catchup = CatchUp(self._tape.head, announce=bool(names))
        subscriber.catchup = catchup
        position = start.position
        if not names or start.origin is Origin.LIVE:
            return
        if start.origin is Origin.EARLIEST:
            catchup.cursor = 0
            catchup.resume_from(Position(self._epoch, 0))
            catchup.excused = dict.fromkeys(names, 0)
        elif start.origin is Origin.SNAPSHOT:
            catchup.start_over(names, "NEW")
        elif start.origin is Origin.MALFORMED or position is None:
            catchup.start_over(names, "POSITION_MALFORMED")
        elif position.epoch != self._epoch:
            catchup.start_over(names, "EPOCH_CHANGED")
        else:
            catchup.cursor = position.seq
            catchup.resume_from(position)
            if anew := tuple(name for name in names if name in start.anew):
                catchup.start_over(anew, "RIGHTS_CHANGED")

    def take_over(self, subscriber: Subscriber, cursor: int) -> None:
        """It has left its cohort, where it was sent everything up to here."""
        subscriber.catchup = CatchUp(cursor)

    def restart(self, subscriber: Subscriber, selection: Selection, fresh: tuple[str, ...]) -> None:
        """Go on with another selection: snapshots of `fresh` and of what was unfinished."""
        subscriber.put_in_force(selection)
        before = _catchup_of(subscriber)
        catchup = CatchUp(before.cursor, announce=before.announce)
        if before.resume is not None:
            catchup.resume_from(before.resume)
        catchup.excused, catchup.gap_sent = before.excused, before.gap_sent
        catchup.starts = dict(before.starts)
        fresh = tuple(dict.fromkeys((*fresh, *before.unfinished)))
        fresh = tuple(name for name in fresh if name in selection)
        if fresh:
            catchup.start_over(fresh, "NEW")
        subscriber.catchup = catchup

    def refine(self, subscriber: Subscriber, selection: Selection) -> bool:
        """Have its filter change without snapshots; False where that is not possible now."""
        catchup = _catchup_of(subscriber)
        delta = catchup.delta
        begun = delta is not None and delta.stage is not Stage.WAITING
        if begun or catchup.anew or catchup.resume is not None:
            return False
        if selection.channels != subscriber.selection.channels:
            return False
        catchup.delta = Delta(subscriber.selection, selection)
        catchup.announce = True
        return True

    def stall(self, subscriber: Subscriber) -> None:
        """Its sink is full: it goes on from its cursor. Nothing is kept for one who does not
        read: a page is read again when there is room."""
        _catchup_of(subscriber).drop_page()

    def end(self, subscriber: Subscriber) -> int:
        """It is BEHIND no more; returns its cursor."""
        cursor = _catchup_of(subscriber).cursor
        subscriber.catchup = None
        return cursor

    def forget(self, subscriber: Subscriber) -> None:
        """The position that it waits for is not known: start over with a snapshot."""
        names = subscriber.selection.channels
        catchup = CatchUp(self._tape.head)
        if names:
            catchup.start_over(names, "POSITION_UNKNOWN")
        subscriber.catchup = catchup

    def step(self, subscriber: Subscriber, blocks: list[bytes]) -> Outcome:
        """Append what comes next, up to about CHUNK_BYTES, and move the cursor past it."""
        tape = self._tape
        catchup = _catchup_of(subscriber)
        if catchup.cursor > tape.head:
            return Outcome.AHEAD
        size = 0
        while size < CHUNK_BYTES:
            if catchup.page is None:
                self._floors.excuse(subscriber, catchup)
                if lost := self._floors.expired(subscriber, catchup):
                    # What they miss can't be sent any more; the other channels go on.
                    self._expire(subscriber, catchup, lost)
            phase = catchup.phase
            before = len(blocks)
            if phase is Phase.ROWS:
                self._append_rows(subscriber, catchup, blocks)
                if catchup.phase is Phase.ROWS:
                    return Outcome.MORE
            elif phase is Phase.SNAPSHOT:
                self._begin_snapshot(subscriber, catchup, blocks)
            elif phase is Phase.RESUME:
                self._append_resume(subscriber, catchup, blocks)
            elif phase is Phase.PAGE:
                self._append_page(subscriber, catchup, blocks)
            elif phase is Phase.SCAN:
                self._append_scan(subscriber, catchup, blocks)
                return Outcome.MORE
            elif self._floors.must_fetch(subscriber, catchup):
                return Outcome.FETCH
            else:
                if gaps := self._floors.gaps(subscriber, catchup):
                    self._append_gaps(gaps, subscriber, catchup, blocks)
                self._append_since(subscriber, catchup, blocks)
                if catchup.cursor < tape.head or self._refined(subscriber, catchup):
                    return Outcome.MORE
                if catchup.announce:
                    position = Position(self._epoch, catchup.cursor)
                    live = messages.live(self._now(), position, catchup.count)
                    blocks.append(subscriber.transport.message(live))
                # Should its sink be full now, it goes on from here without a past to be sent.
                subscriber.catchup = CatchUp(catchup.cursor)
                return Outcome.DONE
            size += sum(map(len, blocks[before:]))
        return Outcome.MORE

    def take(self, subscriber: Subscriber, catchup: CatchUp, page: Page) -> None:
        """Keep a page of the journal, read after the cursor, for the next step.

        It is joined with what the tape holds of the same range: either may have more of a
        channel. What neither has is settled here and by the page's own floors, since both may
        be trimmed before all of the page is sent.
        """
        held = self._tape.read(
            subscriber.selection,
            catchup.cursor,
            conflate=False,
            most_bytes=CHUNK_BYTES,
            upto=page.upto,
        )
        events = {event.seq: event for event in held.events}
        for entry in page.entries:
            if entry.seq <= held.upto and entry.seq not in events:
                events[entry.seq] = self._tape.event(entry)
        floor = page.floors.__getitem__
        self._floors.excuse(subscriber, catchup, floor)
        if lost := self._floors.expired(subscriber, catchup, floor):
            self._expire(subscriber, catchup, lost)
        else:
            gaps = self._floors.gaps(subscriber, catchup, floor)
            found = sorted(events.values(), key=attrgetter("seq"))
            catchup.keep_page(FetchedPage(found, held.upto, gaps))

    def _expire(self, subscriber: Subscriber, catchup: CatchUp, lost: tuple[str, ...]) -> None:
        """Begin channels anew, and with them those whose filter is about to change."""
        delta, catchup.delta = catchup.delta, None
        if delta is not None:
            subscriber.put_in_force(delta.new)
            lost = tuple(dict.fromkeys((*lost, *delta.channels)))
        catchup.start_over(lost, "POSITION_EXPIRED")

    def _refined(self, subscriber: Subscriber, catchup: CatchUp) -> bool:
        """At the head: take the next step of a filter that changes; False where none is left."""
        delta = catchup.delta
        if delta is None:
            return False
        stage = delta.following
        if stage is not Stage.LEAVES:
            subscriber.put_in_force(delta.new)
        if stage is None:
            catchup.delta = None
            return False
        catchup.scan(delta, stage, self._tape.head)
        return True

    def _append_scan(self, subscriber: Subscriber, catchup: CatchUp, blocks: list[bytes]) -> None:
        """Name some rows that leave, or send some that come in."""
        delta, transport = catchup.delta, subscriber.transport
        assert delta is not None
        found = delta.step(self._tape, CHUNK_BYTES)
        if delta.stage is Stage.ENTERS:
            blocks += map(transport.row, found)
            catchup.count += len(found)
        else:
            for name, some in groupby(sorted(found, key=_channel), key=_channel):
                keys = [event.key for event in some]
                blocks.append(transport.message(messages.leave(self._now(), name, keys)))
        if delta.scanned >= delta.upto:
            catchup.scan_ends()

    def _begin_snapshot(
        self, subscriber: Subscriber, catchup: CatchUp, blocks: list[bytes]
    ) -> None:
        head, starts = self._tape.head, catchup.starts
        names, reason = catchup.start_rows()
        for name in names:
            starts[name] = head
        if not catchup.snapshots:
            channels = subscriber.selection.channels
            known = [starts[name] for name in channels if name in starts]
            if len(known) == len(channels):
                # Nothing to resume: what is sent next comes after the earliest of the snapshots.
                catchup.resume = None
                catchup.cursor = max(catchup.cursor, min(known))
        self._starts[reason] += 1
        blocks.append(subscriber.transport.message(messages.snapshot(self._now(), names, reason)))

    def _append_rows(self, subscriber: Subscriber, catchup: CatchUp, blocks: list[bytes]) -> None:
        upto = catchup.starts[catchup.sending[0]]
        chunk = self.chunks.rows(
            subscriber.selection.only(catchup.sending),
            subscriber.transport,
            catchup.rows_sent,
            upto=upto,
            most_bytes=CHUNK_BYTES,
        )
        if chunk.block:
            blocks.append(chunk.block)
        catchup.rows_sent = chunk.upto
        catchup.count += chunk.count
        if chunk.upto >= upto:
            catchup.rows_end()

    def _append_resume(self, subscriber: Subscriber, catchup: CatchUp, blocks: list[bytes]) -> None:
        names = [name for name in subscriber.selection.channels if name not in catchup.starts]
        start = catchup.resume
        assert start is not None
        catchup.resume = None
        catchup.move(Phase.EVENTS)
        if names:
            self._starts["RESUMED"] += 1
            blocks.append(subscriber.transport.message(messages.resume(self._now(), start, names)))

    def _append_gaps(
        self,
        gaps: Iterable[Gap],
        subscriber: Subscriber,
        catchup: CatchUp,
        blocks: list[bytes],
    ) -> None:
        for name, first, last in gaps:
            catchup.gap_sent[name] = last
            subscriber.lose(1)
            blocks.append(
                subscriber.transport.message(messages.gap(self._now(), name, first, last))
            )

    def _append_page(self, subscriber: Subscriber, catchup: CatchUp, blocks: list[bytes]) -> None:
        page = catchup.page
        assert page is not None
        self._append_gaps(page.gaps, subscriber, catchup, blocks)
        page.gaps = []
        size = sent = 0
        starts, staying = catchup.starts, catchup.staying
        for event in page.events:
            if size >= CHUNK_BYTES:
                break
            sent += 1
            catchup.cursor = event.seq
            if subscriber.selection.wants(event) and event.seq > starts.get(event.channel, 0):
                blocks.append(self.chunks.block(event, subscriber.transport, staying))
                size += len(blocks[-1])
                catchup.count += not leaves(event, staying)
        del page.events[:sent]
        if not page.events:
            catchup.drop_page()
            catchup.cursor = page.upto

    def _append_since(self, subscriber: Subscriber, catchup: CatchUp, blocks: list[bytes]) -> None:
        after = catchup.cursor
        chunk = self.chunks.since(
            subscriber.selection,
            subscriber.transport,
            after,
            conflate=subscriber.delivery == "conflated",
            most_bytes=CHUNK_BYTES,
            starts={name: seq for name, seq in catchup.starts.items() if seq > after},
            staying=catchup.staying,
        )
        if chunk.block:
            blocks.append(chunk.block)
        catchup.cursor = chunk.upto
        if chunk.conflated:
            subscriber.miss(chunk.conflated)
        catchup.count += chunk.count


def _catchup_of(subscriber: Subscriber) -> CatchUp:
    catchup = subscriber.catchup
    assert catchup is not None, "it is BEHIND"
    return catchup
