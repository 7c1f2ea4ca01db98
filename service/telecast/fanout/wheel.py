"""One timer for many: callbacks in slots of 10 ms, so that a client costs no timer of its own."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

log = logging.getLogger(__name__)

TICK = 0.01


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
        self._slots: dict[int, list[Callable[[], object]]] = {}
        self._order: list[int] = []
        self._armed_for: int | None = None

    def after(self, seconds: float, callback: Callable[[], object]) -> None:
        # A turn takes along what is due within half a tick: that must not be before its time.
        slot = int((self._scheduler.time() + seconds) / TICK + 1.5)
        callbacks = self._slots.get(slot)
        if callbacks is not None:
            callbacks.append(callback)
            return
        self._slots[slot] = [callback]
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
        self._armed_for = None
        now = self._scheduler.time()
        while self._order and self._order[0] * TICK <= now + TICK / 2:
            for callback in self._slots.pop(heapq.heappop(self._order)):
                try:
                    callback()
                except Exception:
                    log.exception("a timer's callback failed")
        self._arm()
