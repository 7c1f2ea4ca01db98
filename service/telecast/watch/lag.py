"""How late the event loop is: all that everybody waits for while one thing is done.

A timer that asks to be woken every WAKE_SECONDS is woken later by what the loop was busy with, or
by as long as the process was stopped. So of a stall all but the last WAKE_SECONDS is surely seen.
"""

from __future__ import annotations

import logging

from telecast.fanout.wheel import Scheduler
from telecast.histogram import Histogram

log = logging.getLogger(__name__)

WAKE_SECONDS = 0.1
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds. A step of ours takes 2 ms, a timer of uvloop is 1 ms late by itself."""
TELL_SECONDS = 0.5
"""So late, it is logged: heartbeats, and readiness, come late too."""
WINDOW_SECONDS = 10.0
"""Between two lines in the log."""


class Lag:
    """Counts the wakes of one loop since its start, by how late they were."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.histogram = Histogram(BOUNDS)
        self._scheduler = scheduler
        self._due: float | None = None
        self._logged_at = -WINDOW_SECONDS
        self._unlogged = 0
        self._longest = 0.0

    def begin(self) -> None:
        self._due = self._scheduler.time() + WAKE_SECONDS
        self._scheduler.call_later(WAKE_SECONDS, self._wake)

    def end(self) -> None:
        """The wake that is under way is the last, and is not counted."""
        self._due = None

    def _wake(self) -> None:
        if self._due is None:
            return
        now = self._scheduler.time()
        late = max(0.0, now - self._due)
        self.histogram.observe(late)
        if late > TELL_SECONDS:
            self._tell(now, late)
        self.begin()

    def _tell(self, now: float, late: float) -> None:
        self._unlogged += 1
        self._longest = max(self._longest, late)
        if now - self._logged_at >= WINDOW_SECONDS:
            log.warning(
                "the event loop stood still",
                extra={"seconds": round(self._longest, 3), "since_last_line": self._unlogged},
            )
            self._logged_at, self._unlogged, self._longest = now, 0, 0.0
