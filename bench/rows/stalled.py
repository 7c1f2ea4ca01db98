"""Clients that stop reading: what the others see of it, and what the server keeps for them.

Where anybody else has a fifth of a core for some seconds, a p99 of 2 ms is 7 ms, whatever the
server. So one run alone and one beside stalled clients say nothing by their ratio. Here they take
turns on one server, A B B A, and on another fresh one B A A B; the ratio is that of the medians.
What decides a p99 is its worst five events or so, a median is what most of them see: here are both.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from bench.case import Case, Column, Options, Work, transports_of
from bench.fanout import Figures, measure, serving
from bench.machine import Cores
from bench.payload import price
from bench.peers.base import Peer

name = "stalled"
title = "100 of 600 clients never read: 150 events/s of 280 B"
columns = (
    Column(title="p99 ms of 500 alone", at="alone_ms", form=".2f"),
    Column(title="p99 ms beside 100 stalled", at="beside_ms", form=".2f"),
    Column(title="p99 ratio of the medians", at="ratio", form=".2f"),
    Column(title="p99 ratio pair by pair", at="ratios", form=".2f"),
    Column(title="p50 ratio", at="p50_ratios", form=".2f"),
    Column(title="memory a stalled client, KiB", at="kept_kib", form=",.0f"),
    Column(title="cut off", at="cut_off", form=",.0f"),
)
CLIENTS, STALLED = 500, 100
PAIRS, SPARE = 2, 2
"""Of one server: measured, and measured again at most because something else took the cores."""
DISTURBED = {"machine busy", "publisher late"}
FULL = 0.9
"""The share of its core above which a server queues, with stalled clients or without."""
WITHOUT = ("telecast-sqlite", "telecast-ndjson")

Pair = dict[str, Figures]
"""A phase `alone` and one `beside`, next to each other in time; one alone where that one broke."""


def cases(options: Options) -> list[Case]:
    # After a second and a half of this the kernels have taken what they take for who stalls.
    work = Work(clients=CLIENTS, rate=150, seconds=3.0, warm=1.0, templates=(price(280),))
    crowd = replace(work, clients=CLIENTS + STALLED, stalled=STALLED)
    asked = {"alone": work, "beside": crowd}

    def case(peer: Peer, transport: str) -> Case:
        def served(cores: Cores, *order: str) -> list[Pair]:
            with serving(peer, transport, cores) as running:
                return in_turn(
                    lambda phase: measure(running, asked[phase]),
                    order,
                    pairs=1 if options.quick else PAIRS,
                )

        def run(cores: Cores) -> Figures:
            return judged([served(cores, "alone", "beside"), served(cores, "beside", "alone")])

        return Case(peer=peer, transport=transport, run=run, once=peer.name != "telecast")

    return [case(peer, transport) for peer, transport in transports_of(options, without=WITHOUT)]


def in_turn(phase: Callable[[str], Figures], order: Sequence[str], *, pairs: int) -> list[Pair]:
    """The pairs of one server, the order turned round after each; `phase` measures one of them.

    Goes on until so many pairs had the cores for themselves, or SPARE more have been measured.
    Ends at once where something was lost: what is still under way would come into the next phase.
    """
    measured: list[Pair] = []
    while sum(map(calm, measured)) < pairs and len(measured) < pairs + SPARE:
        measured.append({})
        for name in order:
            figures = measured[-1][name] = phase(name)
            if figures["lost"] or figures["overdue"] or figures["closed"]:
                return measured
        order = order[::-1]
    return measured


def judged(servers: Sequence[Sequence[Pair]]) -> Figures:
    """The figures of two servers' pairs: the first was alone at first, the second was not.

    Of pairs that had the cores for themselves, where each server has one; else of all, and then
    there is no ratio: of two phases that are the same, such pairs have made 0.6 and 2.3.
    """
    pairs = [pair for server in servers for pair in server]
    good = [[pair for pair in server if calm(pair)] for server in servers]
    used = [pair for server in good for pair in server] if all(good) else pairs
    p99 = {
        name: [_latency(pair[name], "p99") for pair in used if name in pair]
        for name in ("alone", "beside")
    }
    both = [pair for pair in used if len(pair) == 2]
    alone, beside = (statistics.median(each) if each else None for each in p99.values())
    # As both were right after their server's start: later it has room that was another's.
    kept = servers[1][0]["beside"], servers[0][0]["alone"]
    return {
        "alone_ms": p99["alone"],
        "beside_ms": p99["beside"],
        "ratio": beside / alone if all(good) and alone and beside else None,
        "ratios": [_ratio(pair, "p99") for pair in both],
        "p50_ratios": [_ratio(pair, "p50") for pair in both],
        "kept_kib": (_grown(kept[0]) - _grown(kept[1])) / STALLED / 1024,
        "cut_off": [pair["beside"]["stalled_cut_off"] for pair in used if "beside" in pair],
        "servers": servers,
        "set_aside": len(pairs) - len(used),
        "overdue": sum(figures["overdue"] for pair in used for figures in pair.values()),
        "marks": _marks(used),
    }


def calm(pair: Pair) -> bool:
    """Whether nothing but the server and its load had much of the cores."""
    return not any(DISTURBED.intersection(figures["marks"]) for figures in pair.values())


def _latency(figures: Figures, at: str) -> float:
    latency: float = figures["latency_ms"][at]
    return latency


def _ratio(pair: Pair, at: str) -> float:
    return _latency(pair["beside"], at) / _latency(pair["alone"], at)


def _marks(pairs: Sequence[Pair]) -> list[str]:
    """What was lost says in which of the two."""
    marks = {
        f"{mark} {name}" if mark[-1].isdigit() else mark
        for pair in pairs
        for name, figures in pair.items()
        for mark in figures["marks"]
    }
    if any(pair["alone"]["server_core"] > FULL for pair in pairs if "alone" in pair):
        marks.add("server full alone")
    return sorted(marks)


def _grown(figures: Figures) -> int:
    grown: int = figures["rss"]["after"] - figures["rss"]["connected"]
    return grown
