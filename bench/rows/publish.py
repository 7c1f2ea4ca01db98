"""Publish rate: events validated and committed to SQLite (synchronous FULL), on one core."""

from __future__ import annotations

from bench.case import Case, Column, Options
from bench.fanout import Figures, core_marks, serving
from bench.machine import Cores, spent
from bench.payload import price
from bench.peers.telecast import Telecast
from bench.tools import publishing

name = "publish"
title = "Publish: validated, committed to SQLite (FULL), answered; one core"
columns = (
    Column(title="events/s", at="per_second", form=",.0f"),
    Column(title="CPU µs an event", at="event_us", form=".0f"),
    Column(title="answered p50 ms", at="acknowledged_ms.p50", form=".1f"),
    Column(title="answered p99 ms", at="acknowledged_ms.p99", form=".1f"),
    Column(title="server's core", at="server_core", form=".0%"),
    Column(title="load's core", at="load_core", form=".0%"),
)
WAYS = (("ndjson", 500, 4), ("post", 1, 32))
"""How, events in a request, connections that each wait for their answer."""


def cases(options: Options) -> list[Case]:
    if not any(peer.name.startswith("telecast") for peer in options.peers):
        return []
    seconds = 2.0 if options.quick else 4.0

    def case(way: str, batch: int, connections: int) -> Case:
        peer = Telecast(journal="sqlite:FOLDER/journal.db", publish=way, batch=batch)

        def run(cores: Cores) -> Figures:
            with serving(peer, "ws", cores) as running:
                place = running.place
                handing = (cores, place.folder, place.port, running.publication, (price(),))
                closed = {"rate": 0, "connections": connections, "keys": 1_000}
                with publishing(*handing, seconds=0.5, **closed):
                    pass
                began = spent(running.pid, cores)
                with publishing(*handing, seconds=seconds, **closed) as reported:
                    used = spent(running.pid, cores).since(began)
            return {
                "events": reported["answered"],
                "per_second": reported["answered"] / reported["seconds"],
                "event_us": 1e6 * used.cpu / reported["answered"],
                "server_core": used.cpu / reported["seconds"],
                "load_core": reported["cpu"] / reported["seconds"],
                "acknowledged_ms": {
                    k: v / 1e3 for k, v in reported["acknowledged"].items() if k != "count"
                },
                "marks": core_marks(
                    reported["cpu"] / reported["seconds"], used.others(reported["cpu"])
                ),
            }

        asked = {"by": way, "events a request": batch, "connections": connections}
        return Case(peer=peer, transport="", run=run, asked=asked)

    return [case(*way) for way in WAYS]
