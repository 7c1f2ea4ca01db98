"""Metrics of several workers as those of one service. Pure.

What holds: a counter never falls while the parent lives. What a worker had counted when it was last
asked stays in the sum after its end; of a worker that does not answer the values of then are taken.
So a rate that Prometheus computes is never negative and sees no reset, whichever worker answers a
scrape. What a worker that was killed has counted since it was last asked is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Labels = tuple[tuple[str, str], ...]


class Join(StrEnum):
    """What becomes of a gauge's values; counters and histograms are always summed."""

    SUM = "sum"
    MOST = "most"
    """Each worker knows the same, or nearly: the largest."""
    LEAST = "least"
    EACH = "each"
    """A sum would mean nothing: one value a worker, with the label `worker`."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. A histogram's samples have the label `le`: its bound, `sum` or `count`."""

    kind: str
    name: str
    help: str
    join: Join
    samples: tuple[tuple[Labels, float], ...]

    @property
    def adds_up(self) -> bool:
        return self.kind != "gauge"

    def as_json(self) -> list[Any]:
        return [self.kind, self.name, self.help, self.join, self.samples]

    @classmethod
    def from_json(cls, found: Sequence[Any]) -> Family:
        kind, name, about, join, samples = found
        return cls(kind, name, about, Join(join), tuple((_labels(of), v) for of, v in samples))


def _labels(found: Iterable[Sequence[str]]) -> Labels:
    return tuple((name, value) for name, value in found)


class Sums:
    """What each worker has reported last, and what those that have ended had counted."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[Family, ...]] = {}
        self._over: dict[tuple[str, Labels], float] = {}
        self._about: dict[str, Family] = {}
        """A family of each name that has ended workers' counts in it."""

    def take(self, number: int, families: Iterable[Family]) -> None:
        self._last[number] = tuple(families)

    def ended(self, number: int) -> None:
        """Its counters stay in the sum; its gauges are over."""
        for family in self._last.pop(number, ()):
            if family.adds_up:
                self._about[family.name] = family
                for labels, value in family.samples:
                    at = family.name, labels
                    self._over[at] = self._over.get(at, 0) + value

    def joined(self, answered: Iterable[int]) -> list[Family]:
        """All together; of workers that are not in `answered` no gauge is taken."""
        now = set(answered)
        about: dict[str, Family] = dict(self._about)
        values: dict[str, dict[Labels, float]] = {name: {} for name in about}
        for (name, labels), value in self._over.items():
            values[name][labels] = value
        for number, families in sorted(self._last.items()):
            for family in families:
                about[family.name] = family
                found = values.setdefault(family.name, {})
                if family.adds_up or number in now:
                    _add(found, family, number)
        return [
            Family(of.kind, of.name, of.help, of.join, tuple(values[name].items()))
            for name, of in about.items()
        ]


def _add(found: dict[Labels, float], family: Family, number: int) -> None:
    for labels, value in family.samples:
        if family.adds_up or family.join is Join.SUM:
            found[labels] = found.get(labels, 0) + value
        elif family.join is Join.EACH:
            found[(*labels, ("worker", str(number)))] = value
        else:
            choose = max if family.join is Join.MOST else min
            found[labels] = choose(found.get(labels, value), value)
