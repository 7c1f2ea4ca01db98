"""Several processes on one port: what an event costs with 1, 2 and 4 workers on a shared log."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.case import Case, Column, Options, Work
from bench.fanout import Figures, measure, serving
from bench.machine import Cores
from bench.peers.nats import missing, nats_servers
from bench.peers.telecast import Telecast

name = "workers"
title = "Workers: 10 events/s, each alone, on a log of one NATS server; all on the server's core"
columns = (
    Column(title="CPU µs an event, all", at="event_us", form=",.0f"),
    Column(title="CPU µs an event, busiest", at="busiest_us", form=",.0f"),
    Column(title="CPU µs a delivery", at="cpu_us", form=".2f"),
    Column(title="p50 ms", at="latency_ms.p50", form=".2f"),
    Column(title="p99 ms", at="latency_ms.p99", form=".2f"),
    Column(title="load's core", at="load_core", form=".0%"),
)
WORKERS = (1, 2, 4)
CLIENTS = (1_000, 4_000)
"""A worker more pays from some clients on: what follows the log costs each of them the same."""


def cases(options: Options) -> list[Case]:
    """The load's core has the NATS server too. How many times as much N workers carry with cores
    for all is the busiest one's cost, against that of one worker."""
    if not any(peer.name == "telecast" for peer in options.peers):
        return []
    return [
        _case(transport, clients, workers, options)
        for transport in options.transports
        for clients in CLIENTS
        for workers in WORKERS
    ]


def _case(transport: str, clients: int, workers: int, options: Options) -> Case:
    # So few that each is written by itself: a process that is late writes several together.
    work = Work(clients=clients, rate=10, seconds=2 * options.seconds, warm=options.warm)

    def run(cores: Cores) -> Figures:
        with (
            tempfile.TemporaryDirectory(prefix="telecast-bench-") as folder,
            nats_servers(Path(folder), cores, 1) as log,
            serving(_telecast(log, workers), transport, cores) as running,
        ):
            return measure(running, work)

    return Case(
        peer=_telecast("", workers),
        transport=transport,
        run=run,
        asked={"clients": clients, "workers": workers},
        lacks=missing(),
    )


def _telecast(log: str, workers: int) -> Telecast:
    return Telecast(journal=f"{log}/bench", settings=(("workers", str(workers)),))
