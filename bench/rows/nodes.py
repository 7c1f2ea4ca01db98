"""Three nodes on one log: an event published at one, until the clients of all three have it."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.case import Case, Column, Options
from bench.fanout import Figures, core_marks, serving
from bench.machine import Cores, spent
from bench.payload import price
from bench.peers.nats import missing, nats_servers
from bench.peers.telecast import Telecast
from bench.tools import publishing, subscribers

name = "nodes"
title = "Nodes: 20 events/s published at one node, 100 clients at each of three; one core for all"
columns = (
    Column(title="CPU µs an event a node", at="event_us", form=",.0f"),
    Column(title="p50 ms at its node", at="near.p50", form=".2f"),
    Column(title="p99 ms", at="near.p99", form=".2f"),
    Column(title="p50 ms at the others", at="far.p50", form=".2f"),
    Column(title="p99 ms", at="far.p99", form=".2f"),
    Column(title="lost", at="lost", form=",.0f"),
    Column(title="load's core", at="load_core", form=".0%"),
)
NODES, CLIENTS, RATE = 3, 100, 20.0


def cases(options: Options) -> list[Case]:
    """The load's core has the NATS servers too."""
    if not any(peer.name == "telecast" for peer in options.peers):
        return []
    return [_case(options, replicas) for replicas in (1, 3)]


def _case(options: Options, replicas: int) -> Case:
    transport = options.transports[0]
    first, count = int(RATE * options.warm), int(RATE * options.seconds)

    def run(cores: Cores) -> Figures:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="telecast-bench-"))
            log = stack.enter_context(nats_servers(Path(folder), cores, replicas))
            peer = _telecast(log, replicas, Path(folder) / "secret")
            nodes = [stack.enter_context(serving(peer, transport, cores)) for _ in range(NODES)]
            crowds = []
            for node in nodes:
                at = (cores, node.place.folder, node.place.port, transport, node.subscription)
                crowd = subscribers(*at, clients=CLIENTS, keys=50, room=first + count)
                crowds.append(stack.enter_context(crowd))
            for crowd in crowds:
                crowd.ready(30)
            place = nodes[0].place
            handing = (cores, place.folder, place.port, nodes[0].publication, (price(),))
            with publishing(*handing, rate=RATE, count=first, keys=50):
                for crowd in crowds:
                    crowd.end(first, 30)
            for crowd in crowds:
                crowd.mark(first)
            began = [spent(node.pid, cores) for node in nodes]
            with publishing(*handing, rate=RATE, count=count, first=first, keys=50) as said:
                heard = [crowd.end(first + count, 30) for crowd in crowds]
                used = [
                    spent(node.pid, cores).since(then)
                    for node, then in zip(nodes, began, strict=True)
                ]
        load = sum(each["cpu_user"] + each["cpu_sys"] for each in heard) + said["cpu"]
        window = max(said["seconds"], *(each["arriving"] for each in heard))
        return {
            "event_us": [1e6 * each.cpu / said["sent"] for each in used],
            "near": _ms(heard[0]),
            "far": {at: max(_ms(each)[at] for each in heard[1:]) for at in ("p50", "p99")},
            "lost": sum(each["lost"] for each in heard),
            "load_core": load / window,
            "marks": core_marks(load / window, 0.0),
        }

    return Case(
        peer=Telecast(),
        transport=transport,
        run=run,
        asked={"replicas": replicas},
        lacks=missing(),
    )


def _ms(heard: dict[str, Any]) -> dict[str, float]:
    return {at: heard["latency"][at] / 1e3 for at in ("p50", "p99")}


def _telecast(log: str, replicas: int, secret: Path) -> Telecast:
    settings = (("replicas", str(replicas)), ("secret-file", str(secret)))
    return Telecast(journal=f"{log}/bench", settings=settings)
