"""Where a subscriber's bytes go. The web room has the real ones, tests have their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from telecast.errors import TelecastError


class Sink(Protocol):
    def write(self, data: bytes) -> bool:
        """Take bytes, always; False says that no more should come before `when_drained` calls.

        Never raises, never blocks; after the peer is gone the bytes are forgotten.
        """
        ...

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Call once, later, when the buffer is below its low-water mark; not if the peer goes."""
        ...

    def buffered(self) -> int:
        """Bytes taken and, for all that is known, not yet with the peer: falling means progress."""
        ...

    def acknowledged(self) -> int | None:
        """Bytes that the peer has said it has, so far; None where that can't be known."""
        ...

    def close(self, fault: TelecastError) -> None:
        """End the connection for this reason, telling it if that still fits. Returns at once."""
        ...


class SinkGroup(Protocol):
    """Sinks of one kind that are written the same, each at its place: 0, 1, 2, ..."""

    def add(self, sink: Sink) -> None:
        """At the next place."""
        ...

    def drop(self, place: int) -> None:
        """Write to it no more. Its place stays, empty."""
        ...

    def clear(self) -> None: ...

    def write(self, data: bytes, start: int, stop: int) -> list[int]:
        """`Sink.write` for the places from `start` to below `stop`; returns which are full now."""
        ...


class Sinks:
    """A group of sinks of any kind."""

    def __init__(self) -> None:
        self._places: list[Sink | None] = []

    def add(self, sink: Sink) -> None:
        self._places.append(sink)

    def drop(self, place: int) -> None:
        self._places[place] = None

    def clear(self) -> None:
        self._places.clear()

    def write(self, data: bytes, start: int, stop: int) -> list[int]:
        return [
            place
            for place, sink in enumerate(self._places[start:stop], start)
            if sink is not None and not sink.write(data)
        ]
