"""What the fan-out counts: plain numbers, read when metrics are scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from telecast.histogram import Histogram


@dataclass(slots=True)
class Tally:
    delivered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(channel, transport) to events handed to live subscribers."""
    backfilled: Counter[str] = field(default_factory=Counter)
    """Transport to events and rows handed to subscribers that were behind."""
    conflated: Counter[str] = field(default_factory=Counter)
    """Transport to events conflated away."""
    bytes: Counter[str] = field(default_factory=Counter)
    """Transport to bytes of both."""
    evicted: Counter[str] = field(default_factory=Counter)
    """Error code to connections that were ended."""
    starts: Counter[str] = field(default_factory=Counter)
    """What a stream, or channels added to one, began with: RESUMED, or why it was a snapshot."""
    stalls: int = 0
    spilled: int = 0
    """Batches of rated cohorts that held more than a batch may, and were read from the tape."""
    flush: Histogram = field(default_factory=Histogram)
    """How long a round of flushes took."""
    write: Histogram = field(default_factory=Histogram)
    """How long the oldest event of a round waited, from its commit to the end of the round."""

    def flushed(self, transport: str, events: Mapping[str, int], conflated: int, size: int) -> None:
        """A piece was written: events by channel, conflated ones and bytes, over all who got it."""
        for channel, count in events.items():
            self.delivered[channel, transport] += count
        self.conflated[transport] += conflated
        self.bytes[transport] += size
