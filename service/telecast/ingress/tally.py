"""What ingress counts for the metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from telecast.histogram import Histogram

LAST_KEYS = 1_000
"""Keys of which it is known when they last published."""


@dataclass(slots=True)
class IngressTally:
    published: dict[str, int]
    refused: dict[str, int] = field(default_factory=dict)
    """Code to publishes that were refused."""
    duplicates: int = 0
    last: dict[str, float] = field(default_factory=dict)
    """Key id to when it last published, in seconds since 1970: the last LAST_KEYS of them."""
    commit: Histogram = field(default_factory=Histogram)
    """How long a publish waited, from its check to where its events are committed and sent on."""

    def published_by(self, key_id: str, now: float) -> None:
        self.last.pop(key_id, None)
        self.last[key_id] = now
        if len(self.last) > LAST_KEYS:
            del self.last[next(iter(self.last))]
