"""Takes commits in and sends them: at once when quiet, joined when busy, at each one's pace.

Everything here happens on one event loop, in callbacks; the only things awaited are pages of the
journal for subscribers that want all of a past which the tape has lost.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from telecast.errors import Code, OwnFault, TelecastError
from telecast.fanout.backfill import Backfill, Outcome
from telecast.fanout.catchup import CatchUp
from telecast.fanout.cohort import Cohort
from telecast.fanout.fetcher import Fetcher, JournalReader
from telecast.fanout.flusher import Flusher
from telecast.fanout.index import Index
from telecast.fanout.liveness import Liveness
from telecast.fanout.sink import SinkGroup, Sinks
from telecast.fanout.subscriber import State, Subscriber
from telecast.fanout.tally import Tally
from telecast.fanout.wheel import Scheduler, Wheel
from telecast.model import Event, Floor, Page, Position
from telecast.protocol import messages
from telecast.protocol.commands import Start
from telecast.protocol.framing import Message, Transport
from telecast.tape.selection import Selection
from telecast.tape.tape import Tape
from telecast.turns import in_turns

log = logging.getLogger(__name__)

TURN = 0.002
"""Seconds of one loop turn that all subscribers that are behind share."""
AHEAD_SECONDS = 2.0
"""How long a position that this node has not seen yet is waited for."""


class Broadcaster:
    """Owns the subscribers. Transports attach and detach them; `take_in` gets the commits."""

    def __init__(
        self,
        tape: Tape,
        epoch: str,
        *,
        scheduler: Scheduler,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        journal_floor: Callable[[str], Floor],
        journal: JournalReader | None = None,
        stall_seconds: float = 45.0,
        group: Callable[[], SinkGroup] = Sinks,
    ) -> None:
        """`now` gives ms since 1970; `stall_seconds` how long a sink may accept nothing; `group`
        makes an empty group for the sinks of all subscribers."""
        self.tape = tape
        self.epoch = epoch
        self.tally = Tally()
        self.subscribers: dict[str, Subscriber] = {}
        self._scheduler = scheduler
        self._now = now
        self._group = group
        self._backfill = Backfill(
            tape, epoch, now=now, journal_floor=journal_floor, starts=self.tally.starts
        )
        self._wheel = Wheel(scheduler)
        self._liveness = Liveness(
            self._wheel,
            stall_seconds=stall_seconds,
            heartbeat=self.heartbeat,
            comment=self._comment,
            evict=self.evict,
        )
        self._index = Index()
        self._cohorts: dict[tuple[Selection, Transport, float | None], Cohort] = {}
        self._flusher = Flusher(
            scheduler, self._wheel, self.tally, flush=self._flush, on_broken=self._break
        )
        self._ready: deque[Subscriber] = deque()
        self._pumping = False
        self._ahead: dict[Subscriber, None] = {}
        self._fetcher = Fetcher(journal, on_page=self._fetched, on_fault=self.evict)

    # --- what others ask

    @property
    def head(self) -> Position:
        return Position(self.epoch, self.tape.head)

    def position(self, subscriber: Subscriber) -> Position:
        """Everything up to here has been handed to the subscriber's sink."""
        return Position(self.epoch, self._reached(subscriber))

    def _reached(self, subscriber: Subscriber) -> int:
        if subscriber.state is State.LIVE:
            return self._cohort_of(subscriber).position(subscriber, self.tape.head)
        catchup = subscriber.catchup
        return subscriber.last if catchup is None else catchup.cursor

    def delivered(self, subscriber: Subscriber) -> int:
        """Everything up to here was handed to the sink of this subscriber, or had been when it was
        closed; in the middle of a snapshot nothing is certain."""
        if subscriber.state is State.CLOSED:
            return subscriber.proven
        if subscriber.catchup is not None and subscriber.catchup.unfinished:
            return 0
        return min(self._reached(subscriber), self.tape.head)

    async def audience(self, events: Iterable[Event]) -> int:
        """Live subscribers that want at least one of these events."""
        found: set[Cohort] = set()
        await in_turns(self._index.gather(events, found))
        return sum(len(cohort) for cohort in found)

    def subscriber_count(self, channel: str) -> int:
        """Subscribers that have selected a channel."""
        return sum(channel in subscriber.selection for subscriber in self.subscribers.values())

    # --- subscribers come, change and go

    def attach(self, subscriber: Subscriber, start: Start) -> None:
        """Serve a new subscriber from `start` on. Its sink is written to from now on."""
        self.subscribers[subscriber.connection_id] = subscriber
        self._backfill.begin(subscriber, start)
        self._enqueue(subscriber)
        self._liveness.begin(subscriber)

    def change(
        self,
        subscriber: Subscriber,
        selection: Selection,
        *,
        fresh: tuple[str, ...] | None = None,
        start: Start | None = None,
    ) -> None:
        """Send it another selection from where it stands.

        Channels of `fresh` (default: those that are new or filtered otherwise) start with a
        snapshot. `start` begins anew: for the first selection of a connection.
        """
        if subscriber.state is State.CLOSED:
            return
        if fresh is None:
            fresh = selection.changed_since(subscriber.selection)
        if subscriber.state is State.LIVE:
            self._leave(subscriber)
            self._enqueue(subscriber)
        elif subscriber.state is State.AHEAD:
            del self._ahead[subscriber]
            self._enqueue(subscriber)
        if start is not None:
            self._backfill.begin(subscriber, start, selection)
        else:
            self._backfill.restart(subscriber, selection, fresh)

    def refine(self, subscriber: Subscriber, selection: Selection) -> None:
        """Send it another filter of channels that it has, without the rows that stay: what leaves
        is named, what comes in is sent, then it is live. In the middle of a snapshot, or before it
        has a start, the channels begin anew instead, as in `change`."""
        if subscriber.state is State.CLOSED:
            return
        if subscriber.state is State.LIVE:
            self._leave(subscriber)
            self._enqueue(subscriber)
        if subscriber.state is State.AHEAD or not self._backfill.refine(subscriber, selection):
            self.change(subscriber, selection)

    def detach(self, subscriber: Subscriber) -> None:
        """Forget it; harmless when it is gone already."""
        if subscriber.state is State.CLOSED:
            return
        last, proven = self._reached(subscriber), self.delivered(subscriber)
        self._leave(subscriber)
        self._ahead.pop(subscriber, None)
        self._backfill.end(subscriber)
        subscriber.close(last, proven)
        self._liveness.end(subscriber)
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
        """Stop fetching; what is attached is left to its transport."""
        await self._fetcher.close()

    # --- commits come in

    def take_in(self, events: Iterable[Event]) -> None:
        """Take in events that are committed, in seq order, and have them sent."""
        for event in events:
            self.tape.apply(event)
            for cohort in self._index.wanting(event):
                self._flusher.add(cohort, first=cohort.add(event), at_once=event.pinned)
        self._flusher.arm()
        if self._ahead:
            for subscriber in tuple(self._ahead):
                if self._reached(subscriber) <= self.tape.head:
                    del self._ahead[subscriber]
                    self._enqueue(subscriber)

    def _flush(self, cohort: Cohort) -> Iterator[None]:
        if cohort.spilled:
            self.tally.spilled += 1
            return cohort.spill(self._read_from_tape)
        return cohort.flush(
            epoch=self.epoch, now=self._now(), on_full=self._fill, on_flushed=self.tally.flushed
        )

    def _break(self, cohort: Cohort) -> None:
        for subscriber in tuple(cohort):
            self.evict(subscriber, OwnFault(Code.INTERNAL, "This stream can't go on."))

    def _read_from_tape(self, subscriber: Subscriber) -> None:
        self._leave(subscriber)
        self._enqueue(subscriber)

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
                    self.evict(subscriber, OwnFault(Code.INTERNAL, "This stream can't go on."))
            if self._scheduler.time() >= until:
                break
        self._pumping = bool(self._ready)
        if self._pumping:
            self._scheduler.call_soon(self._pump)

    def _serve(self, subscriber: Subscriber) -> None:
        blocks: list[bytes] = []
        catchup, conflated = subscriber.catchup, subscriber.conflated
        assert catchup is not None, "it is BEHIND"
        count = catchup.count
        outcome = self._backfill.step(subscriber, blocks)
        room = True
        if blocks:
            data = subscriber.transport.join(blocks)
            room = subscriber.write(data)
            name = subscriber.transport.name
            self.tally.bytes[name] += len(data)
            self.tally.conflated[name] += subscriber.conflated - conflated
            self.tally.backfilled[name] += catchup.count - count
        if not room:
            self._fill(subscriber)
        elif outcome is Outcome.DONE:
            self._join(subscriber)
        elif outcome is Outcome.MORE:
            self._enqueue(subscriber)
        elif outcome is Outcome.FETCH:
            subscriber.move(State.FETCHING)
            self._fetcher.fetch(subscriber)
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
        where = _where(subscriber)
        cohort = self._cohorts.get(where)
        if cohort is None:
            cohort = self._cohorts[where] = Cohort(*where, self._group())
            self._index.add(cohort)
        cohort.join(subscriber, self._backfill.end(subscriber))

    def _cohort_of(self, subscriber: Subscriber) -> Cohort:
        """Of one that is LIVE."""
        return self._cohorts[_where(subscriber)]

    def _leave(self, subscriber: Subscriber) -> None:
        """Out of its cohort and BEHIND, if it is LIVE; its state is to be moved next."""
        if subscriber.state is not State.LIVE:
            return
        cohort = self._cohort_of(subscriber)
        self._backfill.take_over(subscriber, cohort.leave(subscriber, self.tape.head))
        if not cohort:
            self._index.discard(cohort)
            self._flusher.forget(cohort)
            cohort.drop()
            del self._cohorts[_where(subscriber)]

    def _fill(self, subscriber: Subscriber) -> None:
        """Its sink is full: its cursor stays where it is until the sink drains."""
        self._leave(subscriber)
        subscriber.move(State.FULL)
        self._backfill.stall(subscriber)
        self.tally.stalls += 1
        self._liveness.full(subscriber)
        subscriber.sink.when_drained(lambda: self._drained(subscriber))

    def _drained(self, subscriber: Subscriber) -> None:
        if subscriber.state is State.FULL:
            self._enqueue(subscriber)

    def _fetched(self, subscriber: Subscriber, catchup: CatchUp, page: Page) -> None:
        """A page has come; a catch-up that was replaced meanwhile asks again."""
        if subscriber.state is not State.FETCHING:
            return
        if subscriber.catchup is catchup:
            self._backfill.take(subscriber, catchup, page)
        self._enqueue(subscriber)

    # --- messages that are no events

    def heartbeat(self, subscriber: Subscriber) -> None:
        """Send it its position, if it has one: in the middle of a snapshot nothing is proven."""
        transport = subscriber.transport
        blocks = [transport.ping] if transport.ping else []
        settled = subscriber.catchup is None or not subscriber.catchup.unfinished
        position = self.position(subscriber)
        if settled and position.seq <= self.tape.head:
            beat = messages.heartbeat(self._now(), position)
            blocks.insert(0, transport.message(beat))
        self._write(subscriber, blocks)

    def _comment(self, subscriber: Subscriber, quiet: float) -> None:
        """A sign of life for a line that had none for so many seconds. One that is behind is being
        written to, or takes nothing."""
        if (
            subscriber.state is State.LIVE
            and self._cohort_of(subscriber).quiet(self._scheduler.time()) >= quiet
            and not subscriber.write(subscriber.transport.comment)
        ):
            self._fill(subscriber)

    def send(self, subscriber: Subscriber, *messages: Message) -> bool:
        """Write messages that are no events; False when no more should follow before it drains."""
        return self._write(
            subscriber, [subscriber.transport.message(message) for message in messages]
        )

    def _write(self, subscriber: Subscriber, blocks: list[bytes]) -> bool:
        if not blocks or subscriber.state is State.CLOSED:
            return True
        data = subscriber.transport.join(blocks)
        room = subscriber.write(data)
        if subscriber.state is State.FULL:
            # What we add must not hide what the peer took.
            subscriber.watch.added(len(data))
        elif not room and subscriber.state is State.LIVE:
            self._fill(subscriber)
        return room


def _where(subscriber: Subscriber) -> tuple[Selection, Transport, float | None]:
    """What the members of a cohort have in common."""
    return subscriber.selection, subscriber.transport, subscriber.max_rate
