"""Counts of durations by upper bound, as Prometheus' histograms are. Pure; read at a scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

DURATIONS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: from a commit in memory to a disk that hangs."""


class Histogram:
    __slots__ = ("_bounds", "_counts", "seconds")

    def __init__(self, bounds: Sequence[float] = DURATIONS) -> None:
        self.seconds = 0.0
        """The sum of all that was observed."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.seconds += seconds

    @property
    def count(self) -> int:
        return sum(self._counts)

    def buckets(self) -> list[tuple[float, int]]:
        """(bound, how many were no longer) in rising order; the last has them all."""
        return list(zip((*self._bounds, float("inf")), accumulate(self._counts), strict=True))
