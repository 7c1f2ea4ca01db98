"""Idle connections: what one more costs in memory of the server's own."""

from __future__ import annotations

import time

from bench.case import Case, Column, Options, transports_of
from bench.fanout import Figures, serving
from bench.machine import Cores, memory
from bench.peers.base import Peer, Running
from bench.tools import subscribers

name = "idle"
title = "Idle connections: resident memory of one"
columns = (
    Column(title="connections", at="clients", form=",.0f"),
    Column(title="KiB each (USS)", at="uss_kib", form=".1f"),
    Column(title="KiB each (RSS)", at="rss_kib", form=".1f"),
    Column(title="opened a second", at="opened_per_second", form=",.0f"),
)
FIRST = 300
"""Opened before anything is weighed: what the server allocates once must not count."""
SETTLE_SECONDS = 1.0
WITHOUT = ("telecast-sqlite", "telecast-ndjson")


def cases(options: Options) -> list[Case]:
    clients = 1_000 if options.quick else 5_000

    def case(peer: Peer, transport: str) -> Case:
        def run(cores: Cores) -> Figures:
            with serving(peer, transport, cores) as running, _open(running, FIRST) as some:
                some.ready(30)
                time.sleep(SETTLE_SECONDS)
                before = memory(running.pid)
                with _open(running, clients) as more:
                    opened = more.ready(60)
                    time.sleep(SETTLE_SECONDS)
                    after = memory(running.pid)
            return {
                "clients": clients,
                "uss_kib": (after["uss"] - before["uss"]) / clients / 1024,
                "rss_kib": (after["rss"] - before["rss"]) / clients / 1024,
                "opened_per_second": clients / opened["seconds"],
                "marks": [],
            }

        return Case(peer=peer, transport=transport, run=run, once=True)

    return [case(peer, transport) for peer, transport in transports_of(options, without=WITHOUT)]


def _open(running: Running, clients: int):  # type: ignore[no-untyped-def]
    place = running.place
    return subscribers(
        place.cores,
        place.folder,
        place.port,
        place.transport,
        running.subscription,
        clients=clients,
        room=1,
    )
