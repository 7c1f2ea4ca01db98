"""What the fan-out counts: plain numbers, read when metrics are scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    delivered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(channel, transport) to events handed to live subscribers."""
    backfilled: Counter[str] = field(default_factory=Counter)
    """Transport to events and rows handed to subscribers that were behind."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Transport to events conflated away."""
    bytes: Counter[str] = field(default_factory=Counter)
    """Transport to bytes of both."""
    evicted: Counter[str] = field(default_factory=Counter)
    """Error code to connections that were ended."""
    stalls: int = 0
    flushes: int = 0
    flush_seconds: float = 0.0

    def flushed(self, transport: str, events: Mapping[str, int], left_out: int, size: int) -> None:
        """A piece was written: events by channel, left out and bytes, over all who got it."""
        for channel, count in events.items():
            self.delivered[channel, transport] += count
        self.left_out[transport] += left_out
        self.bytes[transport] += size
