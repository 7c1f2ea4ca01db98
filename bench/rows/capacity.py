"""Capacity: the most events/s that 500 clients get with a p99 of at most 50 ms, none lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.case import Case, Column, Options, Work, transports_of
from bench.fanout import Figures, measure, serving
from bench.machine import Cores
from bench.peers.base import Peer

name = "capacity"
title = "Capacity: 500 clients, events/s raised until p99 passes 50 ms or something is lost"
columns = (
    Column(title="events/s", at="capacity", form=",.0f"),
    Column(title="deliveries/s", at="at_capacity.per_second", form=",.0f"),
    Column(title="p99 ms", at="at_capacity.latency_ms.p99", form=".1f"),
    Column(title="CPU µs a delivery", at="at_capacity.cpu_us", form=".2f"),
    Column(title="load's core", at="at_capacity.load_core", form=".0%"),
)
LIMIT_MS = 50.0
START, LEAST, MOST = 400.0, 25.0, 12_800.0
WITHOUT = ("telecast-ndjson",)


def held(figures: Figures) -> bool:
    """Whether the server kept up."""
    missing = figures["lost"] or figures["overdue"] or figures["closed"]
    return not missing and figures["latency_ms"]["p99"] <= LIMIT_MS


def climb(try_rate: Any, *, halvings: int) -> tuple[float, list[Figures]]:
    """The highest rate found that holds (0: none), and all that was tried, by rate.

    Doubles while it holds, or halves until it does, then halves the gap `halvings` times.
    """
    tried: dict[float, Figures] = {}

    def holds(rate: float) -> bool:
        tried[rate] = try_rate(rate)
        return held(tried[rate])

    good, bad, rate = 0.0, None, START
    while LEAST <= rate <= MOST:
        if holds(rate):
            good = rate
            if bad is not None:
                break
            rate *= 2
        else:
            bad = rate
            if good:
                break
            rate /= 2
    for _ in range(halvings if good and bad else 0):
        assert bad is not None
        middle = (good + bad) / 2
        if holds(middle):
            good = middle
        else:
            bad = middle
    return good, [tried[rate] for rate in sorted(tried)]


def cases(options: Options) -> list[Case]:
    work = Work(
        clients=500, rate=START, seconds=1.0 if options.quick else 1.5, warm=0.5, deadline=3.0
    )

    def case(peer: Peer, transport: str) -> Case:
        def run(cores: Cores) -> Figures:
            with serving(peer, transport, cores) as running:
                best, curve = climb(
                    lambda rate: measure(running, replace(work, rate=rate)),
                    halvings=0 if options.quick else 2,
                )
            at_best = next((each for each in curve if each["rate"] == best), None)
            figures: Figures = {"capacity": best, "at_capacity": at_best, "curve": curve}
            above = [each for each in curve if each["rate"] > best]
            # A limit that the load set is not the server's.
            figures["marks"] = sorted(
                {mark for each in above[:1] for mark in each["marks"] if not mark[-1].isdigit()}
            )
            return figures

        return Case(peer=peer, transport=transport, run=run, once=True)

    return [case(peer, transport) for peer, transport in transports_of(options, without=WITHOUT)]
