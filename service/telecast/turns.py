"""Long work in short turns: what one client asks for must not make all others wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

SLICE = 0.002
"""Seconds of work before the event loop turns."""


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


async def in_turns(steps: Iterable[object]) -> None:
    """Take all steps. Each should be short: the loop turns between two of them only."""
    turn = Turn()
    for _ in steps:
        if turn.over():
            await turn.next()
