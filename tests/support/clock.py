"""A scheduler whose time is the test's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.due: list[tuple[float, Callable[..., object], tuple[Any, ...]]] = []
        self.turns = 0

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        self.call_later(0, callback, *args)

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> None:
        self.due.append((self.now + delay, callback, args))

    def pass_by(self, seconds: float) -> None:
        """Run what comes due, each at its time."""
        until = self.now + seconds
        while self.due and min(self.due, key=_at)[0] <= until:
            first = min(self.due, key=_at)
            self.due.remove(first)
            self.now = max(self.now, first[0])
            self.turns += 1
            first[1](*first[2])
        self.now = max(self.now, until)

    def stop_for(self, seconds: float) -> None:
        """As a process that is stopped: afterwards everything is overdue."""
        self.now += seconds


def _at(due: tuple[float, Callable[..., object], tuple[Any, ...]]) -> float:
    return due[0]
