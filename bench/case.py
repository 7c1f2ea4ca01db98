"""What a row of the table is made of: cases, each run again and again, in turn with the others."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.fanout import Figures, measure, serving
from bench.fanout import Work as Work
from bench.machine import Cores
from bench.peers.base import Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`quick` makes runs shorter and ladders coarser: to see that all works, not to quote."""

    peers: tuple[Peer, ...]
    transports: tuple[str, ...] = ("ws", "sse")
    quick: bool = False

    @property
    def seconds(self) -> float:
        return 2.0 if self.quick else 3.0

    @property
    def warm(self) -> float:
        return 0.5 if self.quick else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line of a table. `run` makes one repetition; `once`: it is long, and is not repeated.
    `lacks` says what else than the peer is missing here, as the end of a sentence."""

    peer: Peer
    transport: str
    run: Callable[[Cores], Figures]
    asked: dict[str, Any] = field(default_factory=dict)
    once: bool = False
    lacks: str | None = None

    @property
    def label(self) -> str:
        asked = ", ".join(f"{name} {value}" for name, value in self.asked.items())
        words = (self.peer.title, self.transport.upper(), f"({asked})" if asked else "")
        return " ".join(word for word in words if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A figure in a table: where it stands in the figures, and how it is written."""

    title: str
    at: str
    form: str = ".1f"

    def of(self, figures: Figures) -> list[float]:
        """What stands there: one value, several of one repetition, or none."""
        value: Any = figures
        for step in self.at.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        return value if isinstance(value, list) else [] if value is None else [value]

    def shown(self, runs: Sequence[Figures]) -> str:
        """The median, and the least and the most where they differ as written."""
        values = [value for run in runs for value in self.of(run)]
        if not values:
            return "-"
        middle, least, most = (format(f(values), self.form) for f in (statistics.median, min, max))
        return middle if least == most else f"{middle} ({least} to {most})"

    def median(self, runs: Sequence[Figures]) -> float | None:
        values = [value for run in runs for value in self.of(run)]
        return statistics.median(values) if values else None


class Row(Protocol):
    """One row of the plan: what is asked of every peer. `own`: of Telecast alone."""

    name: str
    title: str
    columns: tuple[Column, ...]

    def cases(self, options: Options) -> list[Case]: ...


FANOUT_COLUMNS = (
    Column(title="CPU µs a delivery", at="cpu_us", form=".2f"),
    Column(title="p50 ms", at="latency_ms.p50", form=".2f"),
    Column(title="p99 ms", at="latency_ms.p99", form=".2f"),
    Column(title="max ms", at="latency_ms.max", form=".0f"),
    Column(title="deliveries/s", at="per_second", form=",.0f"),
    Column(title="server's core", at="server_core", form=".0%"),
    Column(title="load's core", at="load_core", form=".0%"),
)


def fanout_case(peer: Peer, transport: str, work: Work, **asked: Any) -> Case:
    """A case that is one measured fan-out against a fresh server."""

    def run(cores: Cores) -> Figures:
        with serving(peer, transport, cores) as running:
            return measure(running, work)

    return Case(peer=peer, transport=transport, run=run, asked=asked)


def transports_of(options: Options, *, without: tuple[str, ...] = ()) -> list[tuple[Peer, str]]:
    """Every chosen peer at every chosen transport that it has."""
    return [
        (peer, transport)
        for peer in options.peers
        if peer.name not in without
        for transport in peer.transports
        if transport in options.transports
    ]
