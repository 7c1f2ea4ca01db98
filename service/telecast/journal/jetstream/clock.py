"""The log's time between two of its messages. Pure.

What holds: what is said is never ahead of the log's clock, and behind it by no more than the
quickest message of the last while was under way. A message's time was the log's clock before it
came, so the clock is now at least that time and what has passed since by our monotonic clock. The
largest of these bounds is the best. They are forgotten after a while, for clocks are set, and no
two run alike. What would break it: to go by the newest message alone, which may have come late.
"""

from __future__ import annotations

WINDOW_SECONDS = 600.0
"""After one to two of these a bound is forgotten: clocks that run apart by 50 ppm differ by some
60 ms then."""


class LogClock:
    """`elapsed` is in seconds of a monotonic clock, times in seconds since 1970."""

    def __init__(self) -> None:
        self._ahead: float | None = None
        """By how much the log's clock is ahead of the monotonic one, as this window knows it."""
        self._before: float | None = None
        """The same, of the window before."""
        self._since = 0.0

    def seen(self, time: float, elapsed: float) -> None:
        """The log's clock showed `time`, and that came just now."""
        if self._ahead is None or elapsed - self._since >= WINDOW_SECONDS:
            self._before, self._ahead, self._since = self._ahead, None, elapsed
        ahead = time - elapsed
        self._ahead = ahead if self._ahead is None else max(self._ahead, ahead)

    def at(self, elapsed: float) -> float | None:
        """What it shows now; None before anything was seen."""
        if self._ahead is None:
            return None
        best = self._ahead if self._before is None else max(self._ahead, self._before)
        return best + elapsed
