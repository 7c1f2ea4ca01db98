"""Thins out position updates to what a person can read."""

from __future__ import annotations

from collections.abc import Iterable

from telecast.demo.traders import Outgoing
from telecast.model import Row

EVERY = 500
"""Milliseconds between two updates of one position."""


class Pace:
    """Holds an update back that comes too soon; a newer one takes its place.

    OPEN and CLOSED pass at once, and so does all that is no position: nothing overtakes a close,
    and a position's last state is always sent. It keeps one row for each open position at most.
    """

    def __init__(self, *, every: int = EVERY) -> None:
        self._every = every
        self._last: dict[str, int] = {}
        self._held: dict[str, Row] = {}

    def through(self, now: int, rows: Iterable[Outgoing]) -> list[Outgoing]:
        """What may be sent now, in its order, then the held updates that have become due."""
        passed = [(channel, row) for channel, row in rows if self._passes(now, channel, row)]
        for key in [key for key in self._held if self._ready(now, key)]:
            self._last[key] = now
            passed.append(("positions", self._held.pop(key)))
        return passed

    def _passes(self, now: int, channel: str, row: Row) -> bool:
        if channel != "positions":
            return True
        key = row["id"]
        self._held.pop(key, None)
        if row["status"] == "CLOSED":
            self._last.pop(key, None)
        elif row["status"] == "OPEN" or self._ready(now, key):
            self._last[key] = now
        else:
            self._held[key] = row
            return False
        return True

    def _ready(self, now: int, key: str) -> bool:
        return now - self._last.get(key, 0) >= self._every
