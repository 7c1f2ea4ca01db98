"""A token bucket; the time comes in as an argument."""

from __future__ import annotations


class TokenBucket:
    """Lets `rate` through each second on average and `burst` at once. `now` is in seconds."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Take one token; False, and nothing is taken, when there is none."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def wait(self) -> float:
        """Seconds until the next token, as of the last `take`."""
        return max(0.0, (1 - self._tokens) / self._rate)
