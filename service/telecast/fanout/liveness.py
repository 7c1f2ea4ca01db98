"""Who is gone without saying so: sinks that take nothing, and peers that say nothing. And the other
way: no peer may take us for gone because its line is quiet.

All is counted in looks, not in seconds of the clock: a process that was frozen itself wakes and
looks once more, and does not cut everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from telecast.errors import Code, PeerFault, TelecastError
from telecast.fanout.subscriber import State, Subscriber
from telecast.fanout.watch import Watch
from telecast.fanout.wheel import Wheel

SILENT_BEATS = 3
"""Heartbeats without an inbound frame after which a peer that should send is gone."""
QUIET_SECONDS = 3.75
"""What a comment comes after on a quiet line, and twice in each heartbeat: common HTTP clients cut
an answer that says nothing for 5 s. docs/design/fanout.md, Time, has what it costs."""
STALL_CHECKS = 9
"""Looks at a full sink in the stall time."""


class Liveness:
    def __init__(
        self,
        wheel: Wheel,
        *,
        stall_seconds: float,
        heartbeat: Callable[[Subscriber], None],
        comment: Callable[[Subscriber, float], None],
        evict: Callable[[Subscriber, TelecastError], None],
    ) -> None:
        """`heartbeat` sends a subscriber its heartbeat, `comment` a comment if its line was quiet
        for so many seconds; `evict` ends one that is gone."""
        self._wheel = wheel
        self._stall_seconds = stall_seconds
        self._heartbeat = heartbeat
        self._comment = comment
        self._evict = evict
        self._watched: dict[Watch, Subscriber] = {}
        """Timers hold the watch and not the subscriber: there is no cancelling on the wheel, and
        one that has gone must not keep its filters and its sink in memory until the next heartbeat
        would have been due."""

    def begin(self, subscriber: Subscriber) -> None:
        """From now on, a heartbeat every so many seconds, until it ends."""
        watch = subscriber.watch
        self._watched[watch] = subscriber
        watch.ticks = _ticks(subscriber)
        self._tick_later(subscriber.heartbeat / watch.ticks, watch)

    def full(self, subscriber: Subscriber) -> None:
        """Its sink has just filled up: watch whether it takes anything at all."""
        watch = subscriber.watch
        # One timer at a time, however often it fills: the first look may come early then, and
        # does not count.
        watch.stalled_checks = -1 if watch.looking else 0
        watch.stalled_bytes = subscriber.sink.buffered()
        if not watch.looking:
            watch.looking = True
            self._look_later(watch)

    def end(self, subscriber: Subscriber) -> None:
        """It has gone: the timers that are still due find nobody."""
        self._watched.pop(subscriber.watch, None)

    def _look_later(self, watch: Watch) -> None:
        self._wheel.after(self._stall_seconds / STALL_CHECKS, lambda: self._look(watch))

    def _tick_later(self, seconds: float, watch: Watch) -> None:
        self._wheel.after(seconds, lambda: self._tick(watch))

    def _look(self, watch: Watch) -> None:
        subscriber = self._watched.get(watch)
        if subscriber is None or subscriber.state is not State.FULL:
            watch.looking = False
            return
        buffered = subscriber.sink.buffered()
        if buffered < watch.stalled_bytes:
            watch.stalled_bytes, watch.stalled_checks = buffered, 0
        else:
            watch.stalled_checks += 1
        if watch.stalled_checks >= STALL_CHECKS:
            self._evict(subscriber, self._no_progress())
        else:
            self._look_later(watch)

    def _tick(self, watch: Watch) -> None:
        subscriber = self._watched.get(watch)
        if subscriber is None:
            return
        ticks = _ticks(subscriber)
        pause = subscriber.heartbeat / ticks
        self._tick_later(pause, watch)
        watch.ticks -= 1
        if watch.ticks:
            self._comment(subscriber, pause / 5)
        else:
            watch.ticks = ticks
            self._beat(subscriber)

    def _beat(self, subscriber: Subscriber) -> None:
        watch = subscriber.watch
        if subscriber.state is State.FULL:
            # Only the stall rule counts: a heartbeat would just be more that is not read.
            return
        if self._stuck(subscriber):
            self._evict(subscriber, self._no_progress())
            return
        if subscriber.expects_life:
            if watch.silent_beats >= SILENT_BEATS:
                message = f"No frame came for {SILENT_BEATS * subscriber.heartbeat:g} s."
                self._evict(subscriber, PeerFault(Code.NO_SIGN_OF_LIFE, message))
                return
            watch.silent_beats += 1
        self._heartbeat(subscriber)

    def _stuck(self, subscriber: Subscriber) -> bool:
        """Whether bytes wait for it and its peer has acknowledged none for the stall time: a line
        that is cut looks so long before its buffer is full, and one who reads slowly never does.
        """
        watch, acknowledged = subscriber.watch, subscriber.sink.acknowledged()
        moved = acknowledged is None or acknowledged != watch.acknowledged
        if moved or not subscriber.sink.buffered():
            watch.acknowledged = acknowledged
            watch.stuck_beats = 0
        else:
            watch.stuck_beats += 1
        return watch.stuck_beats * subscriber.heartbeat >= self._stall_seconds

    def _no_progress(self) -> PeerFault:
        return PeerFault(Code.NO_PROGRESS, f"No byte was taken for {self._stall_seconds:g} s.")


def _ticks(subscriber: Subscriber) -> int:
    """Of its timer, for each heartbeat. The others are for comments, if its transport has them."""
    if not subscriber.transport.comment:
        return 1
    return max(2, ceil(subscriber.heartbeat / QUIET_SECONDS))
