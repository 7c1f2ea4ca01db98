"""One timer for many: callbacks in slots of 10 ms, so that a client costs no timer of its own."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

log = logging.getLogger(__name__)

TICK = 0.01
TURN = 0.002
"""Seconds of callbacks after which the loop turns. All that was due during a stall comes due in
one slot, and again each time that it renews itself."""


class Scheduler(Protocol):
    """What the fan-out needs of an event loop; a virtual one serves tests."""

    def time(self) -> float:
        """Seconds on a monotonic clock that goes on within a callback."""
        ...

    def call_soon(self, callback: Callable[..., object], *args: Any) -> object: ...

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> object: ...


class LoopScheduler:
    """The running event loop's. uvloop's own clock stands still within a turn: no measure."""

    time = staticmethod(time.monotonic)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.call_soon = loop.call_soon
        self.call_later = loop.call_later


class Wheel:
    """Runs callbacks not before their time and about two ticks after it at the latest.

    There is no cancelling: a callback looks whether it is still wanted. After a stall of the
    whole process what is overdue runs once, in order.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._slots: dict[int, deque[Callable[[], object]]] = {}
        self._order: list[int] = []
        self._armed_for: int | None = None

    def after(self, seconds: float, callback: Callable[[], object]) -> None:
        # A turn takes along what is due within half a tick: that must not be before its time.
        slot = int((self._scheduler.time() + seconds) / TICK + 1.5)
        callbacks = self._slots.get(slot)
        if callbacks is not None:
            callbacks.append(callback)
            return
        self._slots[slot] = deque((callback,))
        heapq.heappush(self._order, slot)
        self._arm()

    def _arm(self) -> None:
        if self._order and (self._armed_for is None or self._order[0] < self._armed_for):
            self._armed_for = slot = self._order[0]
            delay = slot * TICK - self._scheduler.time()
            self._scheduler.call_later(max(0.0, delay), self._turn, slot)

    def _turn(self, armed_for: int) -> None:
        if armed_for != self._armed_for:
            return  # an earlier callback has taken this turn's place
        now = self._scheduler.time()
        while self._order and self._order[0] * TICK <= now + TICK / 2:
            slot = self._order[0]
            callbacks = self._slots[slot]
            while callbacks:
                if self._scheduler.time() >= now + TURN:
                    self._armed_for = slot
                    self._scheduler.call_soon(self._turn, slot)
                    return
                self._run(callbacks.popleft())
            del self._slots[heapq.heappop(self._order)]
        self._armed_for = None
        self._arm()

    def _run(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:
            log.exception("a timer's callback failed")
