"""How long to wait before the next try. Pure: it waits for nobody itself."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_SECONDS = 0.25
MOST_SECONDS = 20.0


class Backoff:
    """Waits that double from try to try, spread so that a crowd does not come back as one."""

    def __init__(
        self,
        *,
        first: float = FIRST_SECONDS,
        most: float = MOST_SECONDS,
        spread: Callable[[], float] = random.random,
    ) -> None:
        """`first` and `most` are in seconds; `spread` gives numbers from 0 to 1."""
        self._first = first
        self._most = most
        self._spread = spread
        self._tries = 0

    def next(self, asked: float = 0.0) -> float:
        """Seconds until the next try: never less than the `asked` that a server asked for."""
        ceiling = min(self._most, self._first * 2.0 ** min(self._tries, 32))
        self._tries += 1
        own = ceiling * (0.5 + 0.5 * self._spread())
        # A server that asks everyone for the same wait must not get everyone at the same time.
        return max(own, asked * (1.0 + 0.1 * self._spread()))

    def reset(self) -> None:
        """The last try did some good: the next wait is a first one again."""
        self._tries = 0
