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

    def close(self, fault: TelecastError) -> None:
        """End the connection for this reason, telling it if that still fits. Returns at once."""
        ...
