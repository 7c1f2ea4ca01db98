"""Clients that stop reading: what the others see of it, and what the server keeps for them."""

from __future__ import annotations

from dataclasses import replace

from bench.case import Case, Column, Options, Work, doors_of
from bench.fanout import Figures, measure, serving
from bench.machine import Cores
from bench.payload import price
from bench.peers.base import Peer

name = "stalled"
title = "100 of 600 clients never read: 150 events/s of 280 B"
columns = (
    Column(title="p99 ms of 500 alone", at="alone.latency_ms.p99", form=".2f"),
    Column(title="p99 ms beside 100 stalled", at="beside.latency_ms.p99", form=".2f"),
    Column(title="ratio", at="ratio", form=".2f"),
    Column(title="memory a stalled client, KiB", at="kept_kib", form=",.0f"),
    Column(title="cut off", at="beside.stalled_cut_off", form=",.0f"),
)
CLIENTS, STALLED = 500, 100
WITHOUT = ("telecast-sqlite", "telecast-ndjson")


def cases(options: Options) -> list[Case]:
    seconds = 3.0 if options.quick else 4.0
    work = Work(
        clients=CLIENTS, rate=150, seconds=seconds, warm=options.warm, templates=(price(280),)
    )

    def case(peer: Peer, door: str) -> Case:
        def run(cores: Cores) -> Figures:
            with serving(peer, door, cores) as running:
                alone = measure(running, work)
            with serving(peer, door, cores) as running:
                crowd = replace(work, clients=CLIENTS + STALLED, stalled=STALLED)
                beside = measure(running, crowd)
            least = alone["latency_ms"]["p99"]
            return {
                "alone": alone,
                "beside": beside,
                "ratio": beside["latency_ms"]["p99"] / least if least else None,
                "kept_kib": (_grown(beside) - _grown(alone)) / STALLED / 1024,
                "marks": sorted({*alone["marks"], *beside["marks"]}),
                "overdue": alone["overdue"] or beside["overdue"],
            }

        return Case(peer=peer, door=door, run=run, once=peer.name != "telecast")

    return [case(peer, door) for peer, door in doors_of(options, without=WITHOUT)]


def _grown(figures: Figures) -> int:
    grown: int = figures["rss"]["after"] - figures["rss"]["connected"]
    return grown
