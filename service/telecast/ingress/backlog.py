"""Publishes that wait for the committer, bounded in events and in bytes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from telecast.errors import TelecastError
from telecast.ingress.derivation import Asked
from telecast.journal.base import Receipt


@dataclass(frozen=True, slots=True)
class Published:
    """A publish that is committed and sent. `subscribers` are live ones that it was sent to."""

    receipt: Receipt
    accepted: int
    subscribers: int


@dataclass(slots=True, eq=False)
class Waiting:
    """An asked publish in the backlog: `events` and `size` in bytes are what it takes up there."""

    asked: Asked
    future: asyncio.Future[Published]
    events: int
    size: int
    since: float = field(default_factory=time.monotonic)
    tries: int = 0
    fault: TelecastError | None = None
    """Why it can't be done now; under a key that is known it was done already."""


class Backlog:
    """Keeps the order in which publishes came. `events` and `bytes` are what it holds."""

    def __init__(self, most_events: int, most_bytes: int) -> None:
        self.events = 0
        self.bytes = 0
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._waiting: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, waiting: Waiting) -> bool:
        return waiting in self._waiting

    def has_room(self, events: int, size: int) -> bool:
        """Whether one more fits. An empty backlog has room for any."""
        return not self._waiting or (
            self.events + events <= self._most_events and self.bytes + size <= self._most_bytes
        )

    @property
    def first(self) -> Waiting:
        return self._waiting[0]

    def put(self, waiting: Waiting) -> None:
        self._waiting.append(waiting)
        self._count(waiting, 1)

    def put_back(self, waiting: Waiting) -> None:
        """Before all others, where it was taken from."""
        self._waiting.appendleft(waiting)
        self._count(waiting, 1)

    def take(self) -> Waiting:
        """The first one, which waits no longer."""
        waiting = self._waiting.popleft()
        self._count(waiting, -1)
        return waiting

    def _count(self, waiting: Waiting, sign: int) -> None:
        self.events += sign * waiting.events
        self.bytes += sign * waiting.size
