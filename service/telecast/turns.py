"""Long work in short turns: what one client asks for must not make all others wait.

Two kinds. What exists once in the service (the relay, the committer) has a `Turn` of its own: it
works for SLICE and lets the loop turn. What clients ask for can exist a thousand times, and a
thousand slices are seconds: it shares `Turns`, one budget of SLICE for each turn of the loop. Who
has to wait is queued by key, and the keys are served in rotation, so that a key with a thousand
requests gets no more than one with a single request. See tests/unit/fanout/test_turns.py.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

SLICE = 0.002
"""Seconds of work before the event loop turns."""


class AnyTurn(Protocol):
    def over(self) -> bool:
        """Whether the loop has to turn before more work is done."""
        ...

    async def next(self) -> None:
        """Wait for the next turn."""
        ...


class Turn:
    """The work since the event loop turned last: `if turn.over(): await turn.next()`."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = time.monotonic() + SLICE

    def over(self) -> bool:
        return time.monotonic() >= self._until

    async def next(self) -> None:
        await asyncio.sleep(0)
        self._until = time.monotonic() + SLICE


class Turns:
    """One budget for the work that clients ask for, on one event loop. It is `open` for SLICE after
    the first of a turn of the loop has asked, and shut until the loop turns."""

    def __init__(self, clock: Callable[[], float] = lambda: time.monotonic()) -> None:
        self._clock = clock
        self._until: float | None = None
        """None: nobody has worked since the loop turned last."""
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By key, in the order in which the keys come next."""

    def of(self, key: str) -> SharedTurn:
        """The turn of one piece of work for a key."""
        return SharedTurn(self, key)

    def over(self) -> bool:
        if self._until is None:
            self._open()
            return False
        return self._clock() >= self._until

    def _open(self) -> None:
        if self._until is None:
            asyncio.get_running_loop().call_soon(self._turned)
        self._until = self._clock() + SLICE

    async def wait(self, key: str) -> None:
        """Until this key is next. To be called where `over` has just said so."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(future)
        await future
        # Only now: what else the loop has done since it was chosen is not its work.
        self._open()

    def _turned(self) -> None:
        """The loop has turned: wake one of the key that is next."""
        self._until = None
        while self._waiting:
            key = next(iter(self._waiting))
            futures = self._waiting.pop(key)
            future = futures.popleft()
            if futures:
                self._waiting[key] = futures  # behind the others
            if not future.done():  # else its caller was cancelled
                future.set_result(None)
                break
        if self._waiting:
            self._open()


class SharedTurn:
    __slots__ = ("_key", "_turns", "over")

    def __init__(self, turns: Turns, key: str) -> None:
        self._turns = turns
        self._key = key
        self.over = turns.over

    async def next(self) -> None:
        await self._turns.wait(self._key)


async def in_turns(steps: Iterable[object], turn: AnyTurn | None = None) -> None:
    """Take all steps. Each should be short: the loop turns between two of them only."""
    turn = turn or Turn()
    for _ in steps:
        if turn.over():
            await turn.next()
