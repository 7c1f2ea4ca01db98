"""What a subscriber that is behind is told next: first snapshot, resume and stall are one act.

Synchronous and without a loop: the broadcaster decides whose turn it is, this decides what is said.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter

from telecast.fanout.selection import Selection
from telecast.fanout.source import Floor, JournalPage
from telecast.fanout.subscriber import CatchUp, FetchedPage, Subscriber
from telecast.fanout.tape import Standing, Tape
from telecast.model import Position
from telecast.protocol import messages
from telecast.protocol.commands import Origin, Start
from telecast.protocol.framing import Door

CHUNK_BYTES = 64 * 1024
"""What one turn writes at the most, roughly: a sink is full at about this size."""
MEMO_ENTRIES = 64


class Outcome(Enum):
    MORE = "there is more to tell"
    FETCH = "the journal must be asked: the tape has lost what the journal may have"
    AHEAD = "the position is not committed here yet"
    DONE = "everything up to the head was told"


@dataclass(slots=True)
class _Encoded:
    """A chunk as one block for one door, shared by all who ask for the same."""

    block: bytes
    upto: int
    count: int
    left_out: int


class Backfill:
    def __init__(
        self,
        tape: Tape,
        epoch: str,
        *,
        now: Callable[[], int],
        journal_floor: Callable[[str], Floor],
    ) -> None:
        """`now` gives ms since 1970; `journal_floor` what the journal still has of a channel."""
        self._tape = tape
        self._epoch = epoch
        self._now = now
        self._journal_floor = journal_floor
        self._memo: dict[object, _Encoded] = {}
        self.encoded = 0
        """Chunks that were encoded and not shared: what a storm of resumes costs."""

    def begin(self, subscriber: Subscriber, start: Start) -> None:
        """Give a new subscriber its first catch-up."""
        tape, selection = self._tape, subscriber.selection
        catchup = CatchUp(announce=bool(selection))
        subscriber.cursor = tape.head
        subscriber.catchup = catchup
        names = selection.channels
        position = start.position
        if not names or start.origin is Origin.LIVE:
            return
        if start.origin is Origin.EARLIEST:
            subscriber.cursor = 0
            catchup.resume = Position(self._epoch, 0)
            for name in names:
                catchup.excused[name] = self._compact_from(subscriber, name, self._journal_floor)
                catchup.gap_told[name] = self._whole_from(name, self._journal_floor)
        elif start.origin is Origin.SNAPSHOT:
            catchup.snapshots.append((names, "NEW"))
        elif start.origin is Origin.MALFORMED or position is None:
            catchup.snapshots.append((names, "POSITION_MALFORMED"))
        elif position.epoch != self._epoch:
            catchup.snapshots.append((names, "EPOCH_CHANGED"))
        else:
            subscriber.cursor = position.seq
            catchup.resume = position

    def restart(self, subscriber: Subscriber, fresh: tuple[str, ...]) -> CatchUp:
        """A catch-up for a changed selection: snapshots of `fresh` and of what was unfinished."""
        before = subscriber.catchup
        catchup = CatchUp()
        if before is not None:
            catchup.resume, catchup.announce = before.resume, before.announce
            catchup.excused, catchup.gap_told = before.excused, before.gap_told
            catchup.starts = dict(before.starts)
            fresh = tuple(dict.fromkeys((*fresh, *before.unfinished)))
        fresh = tuple(name for name in fresh if name in subscriber.selection)
        if fresh:
            catchup.snapshots.append((fresh, "NEW"))
            catchup.announce = True
        return catchup

    def forget(self, subscriber: Subscriber) -> None:
        """The position that it waits for is not known: start over with a snapshot."""
        names = subscriber.selection.channels
        catchup = CatchUp(announce=bool(names))
        if names:
            catchup.snapshots.append((names, "POSITION_UNKNOWN"))
        subscriber.cursor = self._tape.head
        subscriber.catchup = catchup

    def step(self, subscriber: Subscriber, blocks: list[bytes]) -> Outcome:
        """Append what comes next, up to about CHUNK_BYTES, and move the cursor past it."""
        tape = self._tape
        catchup = subscriber.catchup
        if catchup is None:
            catchup = subscriber.catchup = CatchUp()
        if subscriber.cursor > tape.head:
            return Outcome.AHEAD
        size = 0
        while size < CHUNK_BYTES:
            if catchup.page is None:
                self._expire(subscriber, catchup, self._journal_floor)
            told = len(blocks)
            if catchup.plan is not None:
                self._tell_rows(subscriber, catchup, catchup.plan, blocks)
            elif catchup.snapshots:
                self._begin_snapshot(subscriber, catchup, blocks)
            elif catchup.resume is not None:
                self._tell_resume(subscriber, catchup, catchup.resume, blocks)
            elif catchup.page is not None:
                self._tell_page(subscriber, catchup, catchup.page, blocks)
            elif self._must_fetch(subscriber, catchup):
                return Outcome.FETCH
            else:
                self._tell_gaps(
                    self._gaps(subscriber, catchup, self._journal_floor),
                    subscriber,
                    catchup,
                    blocks,
                )
                self._tell_since(subscriber, catchup, blocks)
                if subscriber.cursor >= tape.head:
                    if catchup.announce:
                        position = Position(self._epoch, subscriber.cursor)
                        live = messages.live(self._now(), position, catchup.count)
                        blocks.append(subscriber.door.message(live))
                    subscriber.catchup = None
                    return Outcome.DONE
                if len(blocks) == told:
                    # A whole scan held nothing for it: let others have their turn.
                    return Outcome.MORE
            size += sum(map(len, blocks[told:]))
        return Outcome.MORE

    def take(self, subscriber: Subscriber, catchup: CatchUp, page: JournalPage) -> None:
        """Keep a page of the journal, read after the cursor, for the next step.

        It is joined with what the tape holds of the same range: either may have more of a
        channel. What neither has is settled here and by the page's own floors, since both may
        be trimmed before all of the page is told.
        """
        held = self._tape.read(
            subscriber.selection,
            subscriber.cursor,
            conflate=False,
            most_bytes=CHUNK_BYTES,
            upto=page.upto,
        )
        events = {event.seq: event for event in held.events}
        for entry in page.entries:
            if entry.seq <= held.upto and entry.seq not in events:
                events[entry.seq] = self._tape.event(entry)
        gaps = self._gaps(subscriber, catchup, page.floors.__getitem__)
        told = sorted(events.values(), key=attrgetter("seq"))
        catchup.page = FetchedPage(told, held.upto, gaps)
        self._expire(subscriber, catchup, page.floors.__getitem__)

    def _expire(
        self, subscriber: Subscriber, catchup: CatchUp, floor: Callable[[str], Floor]
    ) -> None:
        """Channels whose missing part can't be told any more start over, the others go on."""
        selection = subscriber.selection
        busy = catchup.unfinished
        lost = tuple(
            name
            for name in selection.channels
            if name not in busy
            and self._compact_from(subscriber, name, floor)
            > max(subscriber.cursor, catchup.starts.get(name, 0), catchup.excused.get(name, 0))
        )
        if lost:
            catchup.snapshots.append((lost, "POSITION_EXPIRED"))
            catchup.announce = True
            catchup.page = None

    def _compact_from(
        self, subscriber: Subscriber, name: str, floor: Callable[[str], Floor]
    ) -> int:
        compact_from = self._tape.logs[name].compact_from
        if subscriber.delivery == "all":
            return min(compact_from, floor(name).compact_from)
        return compact_from

    def _whole_from(self, name: str, floor: Callable[[str], Floor]) -> int:
        return min(self._tape.logs[name].whole_from, floor(name).whole_from)

    def _begin_snapshot(
        self, subscriber: Subscriber, catchup: CatchUp, blocks: list[bytes]
    ) -> None:
        names, reason = catchup.snapshots.popleft()
        head = self._tape.head
        catchup.telling = names
        catchup.plan = self._tape.plan(subscriber.selection, names)
        catchup.next_row = 0
        for name in names:
            catchup.starts[name] = head
        if not catchup.snapshots:
            starts = [catchup.starts.get(name) for name in subscriber.selection.channels]
            known = [seq for seq in starts if seq is not None]
            if len(known) == len(starts):
                # Nothing to resume: what is told next comes after the earliest of the snapshots.
                catchup.resume = None
                subscriber.cursor = max(subscriber.cursor, min(known))
        blocks.append(subscriber.door.message(messages.snapshot(self._now(), names, reason)))

    def _tell_rows(
        self, subscriber: Subscriber, catchup: CatchUp, plan: array[int], blocks: list[bytes]
    ) -> None:
        door, first = subscriber.door, catchup.next_row

        def encode() -> _Encoded:
            out: list[bytes] = []
            size, index = 0, first
            while index < len(plan) and size < CHUNK_BYTES:
                event = self._tape.live(plan[index])
                index += 1
                if event is not None:
                    out.append(door.row(event))
                    size += len(out[-1])
            return _Encoded(b"".join(out), index, len(out), 0)

        # The plan is part of the memo's key and so stays alive with it: its id is its own.
        chunk = self._shared((_Same(plan), door, first, self._tape.head), encode)
        if chunk.block:
            blocks.append(chunk.block)
        catchup.next_row = chunk.upto
        catchup.count += chunk.count
        if catchup.next_row >= len(plan):
            catchup.plan = None
            catchup.telling = ()

    def _tell_resume(
        self, subscriber: Subscriber, catchup: CatchUp, start: Position, blocks: list[bytes]
    ) -> None:
        names = [name for name in subscriber.selection.channels if name not in catchup.starts]
        catchup.resume = None
        if names:
            blocks.append(subscriber.door.message(messages.resume(self._now(), start, names)))

    def _must_fetch(self, subscriber: Subscriber, catchup: CatchUp) -> bool:
        """Whether the journal has more than the tape of what this subscriber must be told."""
        if subscriber.delivery != "all":
            return False
        return any(
            self._tape.standing(name, max(subscriber.cursor, catchup.starts.get(name, 0)))
            is not Standing.EXACT
            and self._journal_floor(name).whole_from < self._tape.logs[name].whole_from
            for name in subscriber.selection.channels
        )

    def _gaps(
        self, subscriber: Subscriber, catchup: CatchUp, floor: Callable[[str], Floor]
    ) -> list[tuple[str, int, int]]:
        """(channel, from, to) where neither the tape nor the journal has all of it."""
        if subscriber.delivery != "all":
            return []
        gaps = []
        for name in subscriber.selection.channels:
            after = max(
                subscriber.cursor, catchup.starts.get(name, 0), catchup.gap_told.get(name, 0)
            )
            whole_from = self._whole_from(name, floor)
            if whole_from > after:
                gaps.append((name, after + 1, whole_from))
        return gaps

    def _tell_gaps(
        self,
        gaps: list[tuple[str, int, int]],
        subscriber: Subscriber,
        catchup: CatchUp,
        blocks: list[bytes],
    ) -> None:
        for name, first, last in gaps:
            catchup.gap_told[name] = last
            blocks.append(subscriber.door.message(messages.gap(self._now(), name, first, last)))

    def _tell_page(
        self, subscriber: Subscriber, catchup: CatchUp, page: FetchedPage, blocks: list[bytes]
    ) -> None:
        self._tell_gaps(page.gaps, subscriber, catchup, blocks)
        page.gaps = []
        size = told = 0
        starts = catchup.starts
        for event in page.events:
            if size >= CHUNK_BYTES:
                break
            told += 1
            subscriber.cursor = event.seq
            if subscriber.selection.wants(event) and event.seq > starts.get(event.channel, 0):
                blocks.append(subscriber.door.event(event, self._epoch))
                size += len(blocks[-1])
                catchup.count += 1
        del page.events[:told]
        if not page.events:
            catchup.page = None
            subscriber.cursor = page.upto

    def _tell_since(self, subscriber: Subscriber, catchup: CatchUp, blocks: list[bytes]) -> None:
        door, selection, after = subscriber.door, subscriber.selection, subscriber.cursor
        conflate = subscriber.delivery == "conflated"
        starts = {name: seq for name, seq in catchup.starts.items() if seq > after}

        def encode() -> _Encoded:
            return self._encode_since(selection, door, after, conflate, starts)

        if starts:
            chunk = encode()
        else:
            chunk = self._shared((selection, door, after, conflate, self._tape.head), encode)
        if chunk.block:
            blocks.append(chunk.block)
        subscriber.cursor = chunk.upto
        subscriber.left_out += chunk.left_out
        catchup.count += chunk.count

    def _encode_since(
        self,
        selection: Selection,
        door: Door,
        after: int,
        conflate: bool,
        starts: Mapping[str, int],
    ) -> _Encoded:
        tape = self._tape
        chunk = tape.read(
            selection, after, conflate=conflate, most_bytes=CHUNK_BYTES, starts=starts
        )
        blocks = [door.event(event, self._epoch) for event in chunk.events]
        trimmed = conflate and any(
            tape.standing(name, max(after, starts.get(name, 0))) is not Standing.EXACT
            for name in selection.channels
        )
        if chunk.left_out or trimmed:
            count = None if trimmed else chunk.left_out
            told = messages.conflated(self._now(), after + 1, chunk.upto, count)
            blocks.insert(0, door.message(told))
        return _Encoded(b"".join(blocks), chunk.upto, len(chunk.events), chunk.left_out)

    def _shared(self, key: object, encode: Callable[[], _Encoded]) -> _Encoded:
        chunk = self._memo.get(key)
        if chunk is None:
            self.encoded += 1
            chunk = encode()
            if len(self._memo) >= MEMO_ENTRIES:
                del self._memo[next(iter(self._memo))]
            self._memo[key] = chunk
        return chunk


class _Same:
    """Equal only to the wrapper of the very same object, which it keeps alive."""

    __slots__ = ("thing",)

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)
