"""One metric, and the ways in which its value is read from the service's parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from telecast.histogram import Histogram
from telecast.supervision.sums import Join
from telecast.web.parts import Parts

Samples = Iterable[tuple[dict[str, str], float]]
TRANSPORTS = ("ws", "sse")
Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """One line of the table. `read` gives (labels, value) pairs, or a histogram's buckets."""

    kind: Kind
    name: str
    help: str
    read: Callable[[Parts], Any]
    join: Join = Join.SUM
    """How a gauge's values of several workers become one."""


def one(value: Callable[[Parts], float]) -> Callable[[Parts], Samples]:
    """Without labels."""
    return lambda parts: [({}, value(parts))]


def by(label: str, values: Callable[[Parts], Mapping[str, float]]) -> Callable[[Parts], Samples]:
    """One label."""
    return lambda parts: [({label: name}, value) for name, value in values(parts).items()]


def by_transport(values: Callable[[Parts], Mapping[str, float]]) -> Callable[[Parts], Samples]:
    """Both transports, those that have counted nothing too."""
    return lambda parts: [({"transport": each}, values(parts).get(each, 0)) for each in TRANSPORTS]


def times(histogram: Callable[[Parts], Histogram]) -> Callable[[Parts], dict[float | str, float]]:
    def read(parts: Parts) -> dict[float | str, float]:
        times = histogram(parts)
        return {**dict(times.buckets()), "sum": times.seconds, "count": times.count}

    return read
