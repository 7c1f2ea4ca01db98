"""Who is gone without saying so: sinks that take nothing, and peers that say nothing.

All is counted in looks, not in seconds of the clock: a process that was frozen itself wakes and
looks once more, and does not cut everybody.
"""

from __future__ import annotations

from collections.abc import Callable

from telecast.errors import Code, PeerFault, TelecastError
from telecast.fanout.subscriber import State, Subscriber
from telecast.fanout.wheel import Wheel

SILENT_BEATS = 3
"""Heartbeats without an inbound frame after which a peer that should send is gone."""
STALL_CHECKS = 9
"""Looks at a full sink in the stall time."""


class Liveness:
    def __init__(
        self,
        wheel: Wheel,
        *,
        stall_seconds: float,
        heartbeat: Callable[[Subscriber], None],
        evict: Callable[[Subscriber, TelecastError], None],
    ) -> None:
        """`heartbeat` tells one that is due for it; `evict` ends one that is gone."""
        self._wheel = wheel
        self._stall_seconds = stall_seconds
        self._heartbeat = heartbeat
        self._evict = evict

    def begin(self, subscriber: Subscriber) -> None:
        """From now on, a heartbeat every so many seconds, until it is closed."""
        self._wheel.after(subscriber.heartbeat, lambda: self._beat(subscriber))

    def full(self, subscriber: Subscriber) -> None:
        """Its sink has just filled up: watch whether it takes anything at all."""
        # One watch at a time, however often it fills: the first look may come early then, and
        # does not count.
        subscriber.stalled_checks = -1 if subscriber.watched else 0
        subscriber.stalled_bytes = subscriber.sink.buffered()
        if not subscriber.watched:
            subscriber.watched = True
            self._look_later(subscriber)

    def _look_later(self, subscriber: Subscriber) -> None:
        self._wheel.after(self._stall_seconds / STALL_CHECKS, lambda: self._look(subscriber))

    def _look(self, subscriber: Subscriber) -> None:
        if subscriber.state is not State.FULL:
            subscriber.watched = False
            return
        buffered = subscriber.sink.buffered()
        if buffered < subscriber.stalled_bytes:
            subscriber.stalled_bytes, subscriber.stalled_checks = buffered, 0
        else:
            subscriber.stalled_checks += 1
        if subscriber.stalled_checks >= STALL_CHECKS:
            self._evict(subscriber, self._no_progress())
        else:
            self._look_later(subscriber)

    def _beat(self, subscriber: Subscriber) -> None:
        if subscriber.state is State.CLOSED:
            return
        self.begin(subscriber)
        if subscriber.state is State.FULL:
            # Only the stall rule counts: a heartbeat would just be more that is not read.
            return
        if self._stuck(subscriber):
            self._evict(subscriber, self._no_progress())
            return
        if subscriber.expects_life:
            if subscriber.silent_beats >= SILENT_BEATS:
                message = f"No frame came for {SILENT_BEATS * subscriber.heartbeat:g} s."
                self._evict(subscriber, PeerFault(Code.NO_SIGN_OF_LIFE, message))
                return
            subscriber.silent_beats += 1
        self._heartbeat(subscriber)

    def _stuck(self, subscriber: Subscriber) -> bool:
        """Whether bytes wait for it and its peer has acknowledged none for the stall time: a line
        that is cut looks so long before its buffer is full, and one who reads slowly never does.
        """
        acknowledged = subscriber.sink.acknowledged()
        moved = acknowledged is None or acknowledged != subscriber.acknowledged
        if moved or not subscriber.sink.buffered():
            subscriber.acknowledged = acknowledged
            subscriber.stuck_beats = 0
        else:
            subscriber.stuck_beats += 1
        return subscriber.stuck_beats * subscriber.heartbeat >= self._stall_seconds

    def _no_progress(self) -> PeerFault:
        return PeerFault(Code.NO_PROGRESS, f"No byte was taken for {self._stall_seconds:g} s.")
