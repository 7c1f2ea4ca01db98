"""Hears commits and tells them: at once when quiet, joined when busy, to each at its own pace.

Everything here happens on one event loop, in callbacks; the only things awaited are pages of the
journal for subscribers that want all of a past which the tape has lost.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from telecast.errors import OwnFault, PeerFault, TelecastError
from telecast.fanout.backfill import Backfill, JournalFloor, JournalPage, Outcome
from telecast.fanout.cohort import Cohort
from telecast.fanout.index import Index
from telecast.fanout.selection import Selection
from telecast.fanout.subscriber import CatchUp, State, Subscriber
from telecast.fanout.tape import Tape
from telecast.fanout.wheel import Scheduler, Wheel
from telecast.model import Event, Position
from telecast.protocol import messages
from telecast.protocol.commands import Start
from telecast.protocol.framing import Door, Message

log = logging.getLogger(__name__)

PATIENCE = 0.025
"""Seconds that a commit waits for the next flush at the most, however long the last one took."""
TURN = 0.002
"""Seconds of one loop turn that all subscribers that are behind share, and that a flush takes."""
AHEAD_SECONDS = 2.0
"""How long a position that this node has not seen yet is waited for."""
SILENT_BEATS = 3
"""Heartbeats without an inbound frame after which a peer that should send is gone."""
STALL_CHECKS = 9
"""Looks at a full sink in the stall time: counted, so that a frozen server wakes mildly."""
FETCH_ENTRIES = 256
FETCHERS = 4
"""Journal readers at a time: history must not crowd out commits."""


class JournalReader(Protocol):
    """What the fan-out asks of a journal."""

    async def read(self, channels: Collection[str], after: int, limit: int) -> JournalPage: ...


@dataclass(slots=True)
class Tally:
    """Plain counts, read when metrics are scraped."""

    delivered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(channel, door) to events handed to live subscribers."""
    backfilled: Counter[str] = field(default_factory=Counter)
    """Door to events and rows handed to subscribers that were behind."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Door to events conflated away."""
    bytes: Counter[str] = field(default_factory=Counter)
    evicted: Counter[str] = field(default_factory=Counter)
    stalls: int = 0
    flushes: int = 0
    flush_seconds: float = 0.0


class Broadcaster:
    """Owns the subscribers. Doors attach and detach them; commits come in through `hear`."""

    def __init__(
        self,
        tape: Tape,
        epoch: str,
        *,
        scheduler: Scheduler,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        journal_floor: Callable[[str], JournalFloor],
        journal: JournalReader | None = None,
        stall_seconds: float = 45.0,
    ) -> None:
        """`now` gives ms since 1970; `stall_seconds` how long a sink may accept nothing."""
        self.tape = tape
        self.epoch = epoch
        self.tally = Tally()
        self.subscribers: dict[str, Subscriber] = {}
        self._scheduler = scheduler
        self._now = now
        self._journal = journal
        self._stall_seconds = stall_seconds
        self._backfill = Backfill(tape, epoch, now=now, journal_floor=journal_floor)
        self._wheel = Wheel(scheduler)
        self._index = Index()
        self._cohorts: dict[tuple[Selection, Door, float | None], Cohort] = {}
        self._dirty: dict[Cohort, None] = {}
        self._round: Iterator[None] | None = None
        self._armed = False
        self._round_started = 0.0
        self._round_ended = float("-inf")
        self._round_took = 0.0
        self._ready: deque[Subscriber] = deque()
        self._pumping = False
        self._ahead: dict[Subscriber, None] = {}
        self._fetches: dict[asyncio.Task[None], None] = {}
        self._fetchers = asyncio.Semaphore(FETCHERS)

    # --- what others ask

    @property
    def head(self) -> Position:
        return Position(self.epoch, self.tape.head)

    def position(self, subscriber: Subscriber) -> Position:
        """Everything up to here has been handed to the subscriber's sink."""
        cohort = subscriber.cohort
        seq = subscriber.cursor if cohort is None else cohort.position(subscriber, self.tape.head)
        return Position(self.epoch, seq)

    def audience(self, events: Iterable[Event]) -> int:
        """Live subscribers that want at least one of these events."""
        cohorts = {cohort for event in events for cohort in self._index.wanting(event)}
        return sum(len(cohort.members) for cohort in cohorts)

    def hearers(self, channel: str) -> int:
        """Subscribers that have selected a channel."""
        return sum(channel in subscriber.selection for subscriber in self.subscribers.values())

    # --- subscribers come, change and go

    def attach(self, subscriber: Subscriber, start: Start) -> None:
        """Serve a new subscriber from `start` on. Its sink is written to from now on."""
        self.subscribers[subscriber.connection_id] = subscriber
        self._backfill.begin(subscriber, start)
        self._enqueue(subscriber)
        self._wheel.after(subscriber.heartbeat, lambda: self._beat(subscriber))

    def change(
        self,
        subscriber: Subscriber,
        selection: Selection,
        *,
        fresh: tuple[str, ...] | None = None,
        start: Start | None = None,
    ) -> None:
        """Let it hear something else from where it stands.

        Channels of `fresh` (default: those that are new or filtered otherwise) start with a
        snapshot. `start` begins anew: for the first selection of a connection.
        """
        if subscriber.state is State.CLOSED:
            return
        if fresh is None:
            fresh = selection.changed_since(subscriber.selection)
        if subscriber.state is State.LIVE:
            subscriber.cursor = self.position(subscriber).seq
            self._leave(subscriber)
            subscriber.selection = selection
            subscriber.move(State.QUEUED)
            self._queue(subscriber)
        else:
            subscriber.selection = selection
            if subscriber.state is State.AHEAD:
                del self._ahead[subscriber]
                self._enqueue(subscriber)
        if start is not None:
            self._backfill.begin(subscriber, start)
        else:
            subscriber.catchup = self._backfill.restart(subscriber, fresh)

    def detach(self, subscriber: Subscriber) -> None:
        """Forget it; harmless when it is gone already."""
        if subscriber.state is State.CLOSED:
            return
        self._leave(subscriber)
        self._ahead.pop(subscriber, None)
        subscriber.move(State.CLOSED)
        subscriber.catchup = None
        if self.subscribers.get(subscriber.connection_id) is subscriber:
            del self.subscribers[subscriber.connection_id]

    def evict(self, subscriber: Subscriber, fault: TelecastError) -> None:
        """End its connection for this reason."""
        if subscriber.state is State.CLOSED:
            return
        self.tally.evicted[fault.code] += 1
        self.detach(subscriber)
        subscriber.sink.close(fault)

    async def close(self) -> None:
        """Stop fetching; what is attached is left to its door."""
        for task in tuple(self._fetches):
            task.cancel()
        await asyncio.gather(*self._fetches, return_exceptions=True)

    # --- commits come in

    def hear(self, events: Iterable[Event]) -> None:
        """Take in events that are committed, in seq order, and have them told."""
        for event in events:
            self.tape.apply(event)
            for cohort in self._index.wanting(event):
                first = not cohort.pending
                cohort.add(event)
                if event.pinned or cohort.max_rate is None:
                    self._dirty[cohort] = None
                elif first:
                    self._pace(cohort)
        if self._dirty:
            self._arm()
        if self._ahead:
            for subscriber in tuple(self._ahead):
                if subscriber.cursor <= self.tape.head:
                    del self._ahead[subscriber]
                    self._enqueue(subscriber)

    def _pace(self, cohort: Cohort) -> None:
        """The first event since its last batch: have a rated cohort flushed when it is due."""
        wait = cohort.due_at - self._scheduler.time()
        if wait <= 0:
            self._dirty[cohort] = None
        else:
            self._wheel.after(wait, lambda: self._due(cohort))

    def _due(self, cohort: Cohort) -> None:
        if cohort.pending and cohort.due_at <= self._scheduler.time():
            self._dirty[cohort] = None
            self._arm()

    # --- flushing

    def _arm(self) -> None:
        """Have the next round of flushes start: now, or as long after the last as that one took."""
        if self._armed or self._round is not None:
            return
        self._armed = True
        start = self._round_ended + min(self._round_took, PATIENCE)
        wait = start - self._scheduler.time()
        if wait <= 0:
            self._scheduler.call_soon(self._begin_round)
        else:
            self._scheduler.call_later(wait, self._begin_round)

    def _begin_round(self) -> None:
        self._armed = False
        dirty, self._dirty = self._dirty, {}
        self._round_started = self._scheduler.time()
        self._round = self._flush_all(dirty)
        self._turn_round()

    def _turn_round(self) -> None:
        """One slice; the loop turns in between."""
        assert self._round is not None
        for _ in self._round:
            self._scheduler.call_soon(self._turn_round)
            return
        # The event loop may write what it was handed only after this callback: let it.
        self._scheduler.call_soon(self._end_round)

    def _end_round(self) -> None:
        now = self._scheduler.time()
        self._round = None
        self._round_ended = now
        self._round_took = now - self._round_started
        self.tally.flushes += 1
        self.tally.flush_seconds += self._round_took
        if self._dirty:
            self._arm()

    def _flush_all(self, dirty: Iterable[Cohort]) -> Iterator[None]:
        clock = self._scheduler.time
        until = clock() + TURN
        for cohort in dirty:
            if cohort.max_rate is not None:
                cohort.due_at = clock() + 1 / cohort.max_rate
            slices = cohort.flush(
                epoch=self.epoch, now=self._now(), on_full=self._fill, on_told=self._count
            )
            for _ in slices:
                yield
                until = clock() + TURN
            if clock() >= until:
                yield
                until = clock() + TURN

    def _count(self, door: str, events: Mapping[str, int], left_out: int, size: int) -> None:
        for channel, count in events.items():
            self.tally.delivered[channel, door] += count
        self.tally.left_out[door] += left_out
        self.tally.bytes[door] += size

    # --- those that are behind

    def _enqueue(self, subscriber: Subscriber) -> None:
        subscriber.move(State.QUEUED)
        self._queue(subscriber)

    def _queue(self, subscriber: Subscriber) -> None:
        self._ready.append(subscriber)
        if not self._pumping:
            self._pumping = True
            self._scheduler.call_soon(self._pump)

    def _pump(self) -> None:
        """Serve those that are behind, a chunk each in turn, within one share of the loop."""
        until = self._scheduler.time() + TURN
        while self._ready:
            subscriber = self._ready.popleft()
            if subscriber.state is State.QUEUED:
                try:
                    self._serve(subscriber)
                except Exception:
                    # One that can't be served must not end the service of all others.
                    log.exception("subscriber can't be served")
                    self.evict(subscriber, OwnFault("INTERNAL", "This stream can't go on."))
            if self._scheduler.time() >= until:
                break
        self._pumping = bool(self._ready)
        if self._pumping:
            self._scheduler.call_soon(self._pump)

    def _serve(self, subscriber: Subscriber) -> None:
        blocks: list[bytes] = []
        if subscriber.catchup is None:
            subscriber.catchup = CatchUp()
        catchup, left_out = subscriber.catchup, subscriber.left_out
        count = catchup.count
        outcome = self._backfill.step(subscriber, blocks)
        room = True
        if blocks:
            data = subscriber.door.join(blocks)
            room = subscriber.write(data)
            name = subscriber.door.name
            self.tally.bytes[name] += len(data)
            self.tally.left_out[name] += subscriber.left_out - left_out
            self.tally.backfilled[name] += catchup.count - count
        if not room:
            self._fill(subscriber)
        elif outcome is Outcome.DONE:
            self._join(subscriber)
        elif outcome is Outcome.MORE:
            self._enqueue(subscriber)
        elif outcome is Outcome.FETCH:
            self._fetch(subscriber)
        else:
            subscriber.move(State.AHEAD)
            self._ahead[subscriber] = None
            self._wheel.after(AHEAD_SECONDS, lambda: self._give_up(subscriber))

    def _give_up(self, subscriber: Subscriber) -> None:
        if subscriber.state is State.AHEAD:
            del self._ahead[subscriber]
            self._backfill.forget(subscriber)
            self._enqueue(subscriber)

    def _join(self, subscriber: Subscriber) -> None:
        subscriber.move(State.LIVE)
        where = (subscriber.selection, subscriber.door, subscriber.max_rate)
        cohort = self._cohorts.get(where)
        if cohort is None:
            cohort = self._cohorts[where] = Cohort(*where)
            self._index.add(cohort)
        cohort.members[subscriber] = None
        subscriber.cohort = cohort

    def _leave(self, subscriber: Subscriber) -> None:
        cohort = subscriber.cohort
        if cohort is None:
            return
        subscriber.cohort = None
        del cohort.members[subscriber]
        if not cohort.members:
            self._index.discard(cohort)
            self._dirty.pop(cohort, None)
            cohort.pending.clear()
            del self._cohorts[subscriber.selection, subscriber.door, subscriber.max_rate]

    def _fill(self, subscriber: Subscriber) -> None:
        """Its sink is full: its cursor stays where it is until the sink drains."""
        self._leave(subscriber)
        subscriber.move(State.FULL)
        if subscriber.catchup is not None:
            # Read again when there is room: nothing is kept for one who does not read.
            subscriber.catchup.page = None
        self.tally.stalls += 1
        # One watch at a time, however often it fills: the first look may come early then, and
        # does not count.
        subscriber.stalled_checks = -1 if subscriber.watched else 0
        subscriber.stalled_bytes = subscriber.sink.buffered()
        subscriber.sink.when_drained(lambda: self._drained(subscriber))
        if not subscriber.watched:
            subscriber.watched = True
            self._look_later(subscriber)

    def _look_later(self, subscriber: Subscriber) -> None:
        self._wheel.after(self._stall_seconds / STALL_CHECKS, lambda: self._watch(subscriber))

    def _drained(self, subscriber: Subscriber) -> None:
        if subscriber.state is State.FULL:
            self._enqueue(subscriber)

    def _watch(self, subscriber: Subscriber) -> None:
        if subscriber.state is not State.FULL:
            subscriber.watched = False
            return
        buffered = subscriber.sink.buffered()
        if buffered < subscriber.stalled_bytes:
            subscriber.stalled_bytes, subscriber.stalled_checks = buffered, 0
        else:
            subscriber.stalled_checks += 1
        if subscriber.stalled_checks >= STALL_CHECKS:
            self.evict(
                subscriber,
                PeerFault("NO_PROGRESS", f"No byte was taken for {self._stall_seconds:g} s."),
            )
            return
        self._look_later(subscriber)

    # --- pages of the journal

    def _fetch(self, subscriber: Subscriber) -> None:
        subscriber.move(State.FETCHING)
        task = asyncio.ensure_future(self._fetch_page(subscriber))
        self._fetches[task] = None
        task.add_done_callback(lambda done: self._fetches.pop(done, None))

    async def _fetch_page(self, subscriber: Subscriber) -> None:
        """Read one page for the catch-up that asked; a changed one asks again."""
        catchup, after = subscriber.catchup, subscriber.cursor
        assert self._journal is not None
        try:
            async with self._fetchers:
                page = await self._journal.read(subscriber.selection.channels, after, FETCH_ENTRIES)
        except OwnFault as fault:
            self.evict(subscriber, OwnFault("OVERLOADED", f"History can't be read: {fault}"))
            return
        if subscriber.state is not State.FETCHING:
            return
        if catchup is not None and subscriber.catchup is catchup:
            self._backfill.take(subscriber, catchup, page)
        self._enqueue(subscriber)

    # --- signs of life

    def _beat(self, subscriber: Subscriber) -> None:
        if subscriber.state is State.CLOSED:
            return
        self._wheel.after(subscriber.heartbeat, lambda: self._beat(subscriber))
        if subscriber.state is State.FULL:
            # Only the stall rule counts: a heartbeat would just be more that is not read.
            return
        if subscriber.expects_life:
            if subscriber.silent_beats >= SILENT_BEATS:
                silence = SILENT_BEATS * subscriber.heartbeat
                self.evict(
                    subscriber, PeerFault("NO_SIGN_OF_LIFE", f"No frame came for {silence:g} s.")
                )
                return
            subscriber.silent_beats += 1
        self.heartbeat(subscriber)

    def heartbeat(self, subscriber: Subscriber) -> None:
        """Tell it its position, if it has one: in the middle of a snapshot nothing is proven."""
        door = subscriber.door
        blocks = [door.ping] if door.ping else []
        settled = subscriber.catchup is None or not subscriber.catchup.unfinished
        if settled and subscriber.cursor <= self.tape.head:
            beat = messages.heartbeat(self._now(), self.position(subscriber))
            blocks.insert(0, door.message(beat))
        self._tell(subscriber, blocks)

    def tell(self, subscriber: Subscriber, *told: Message) -> bool:
        """Write messages that are no events; False when no more should follow before it drains."""
        return self._tell(subscriber, [subscriber.door.message(message) for message in told])

    def _tell(self, subscriber: Subscriber, blocks: list[bytes]) -> bool:
        if not blocks or subscriber.state is State.CLOSED:
            return True
        data = subscriber.door.join(blocks)
        room = subscriber.write(data)
        if subscriber.state is State.FULL:
            # What we add must not hide what the peer took.
            subscriber.stalled_bytes += len(data)
        elif not room and subscriber.state is State.LIVE:
            subscriber.cursor = self.position(subscriber).seq
            self._fill(subscriber)
        return room
