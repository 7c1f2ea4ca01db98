"""Lets the journal's threads have the interpreter when a busy loop would keep it from them.

A thread that wants CPython's interpreter lock is woken whenever the lock is let go of, and forces
a switch only after a whole switch interval in which nobody let go. A loop without rest lets go
once a turn, in its selector, and has the lock back long before the thread is awake; where its
turns are shorter than the interval, no switch is ever forced, and a commit beside it takes
seconds (docs/design/journal.md has the figures). So such a loop has to wait for a moment itself.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager

TICK = 0.001
"""Seconds between two looks at the loop, while work is under way in a thread."""
PAUSE = 0.0001
"""Seconds that a busy loop gives up per look: what waking a thread takes, and half as much."""
BUSY = 0.8
"""The share of a tick that the loop's thread computes when it counts as busy. One that shares
the interpreter with a thread of ours computes less: then nothing has to be given up."""


class Courtesy:
    """Counts the work that waits for threads, and looks at the loop while there is any."""

    def __init__(self) -> None:
        self._under_way = 0
        self._timer: asyncio.TimerHandle | None = None
        self._computed = 0.0
        self._looked = 0.0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Around an `await` for a thread's answer."""
        self._under_way += 1
        if self._timer is None:
            self._look()
        try:
            yield
        finally:
            self._under_way -= 1

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._computed, self._looked = time.thread_time(), loop.time()
        self._timer = loop.call_later(TICK, self._act)

    def _act(self) -> None:
        self._timer = None
        if not self._under_way:
            return
        computed = time.thread_time() - self._computed
        if computed > BUSY * (asyncio.get_running_loop().time() - self._looked):
            _pause()
        self._look()


def _pause() -> None:
    select.select((), (), (), PAUSE)
