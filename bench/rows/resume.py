"""Resume storm: everyone comes back at once, from a position 200 events ago."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace

from bench.case import Case, Column, Options
from bench.fanout import Figures, core_marks, serving
from bench.machine import HOST, Cores, spent
from bench.payload import STAMP, price
from bench.peers.base import Running
from bench.peers.telecast import Telecast
from bench.tools import publishing, subscribers

name = "resume"
title = "Resume storm: all clients come back at once, 200 events each"
columns = (
    Column(title="clients", at="clients", form=",.0f"),
    Column(title="all live after s", at="all_live_seconds", form=".2f"),
    Column(title="one's p50 s", at="live_s.p50", form=".2f"),
    Column(title="one's p99 s", at="live_s.p99", form=".2f"),
    Column(title="lost", at="lost", form=",.0f"),
    Column(title="repeated", at="duplicates", form=",.0f"),
    Column(title="server CPU s", at="cpu", form=".2f"),
    Column(title="load's core", at="load_core", form=".0%"),
)
EVENTS = 200


def cases(options: Options) -> list[Case]:
    clients = 1_000 if options.quick else 5_000
    chosen = [p for p in options.peers if p.name in ("telecast", "telecast-sqlite")]

    def case(peer: Telecast, transport: str) -> Case:
        def run(cores: Cores) -> Figures:
            with serving(peer, transport, cores) as running:
                return _storm(peer, running, clients)

        return Case(peer=peer, transport=transport, run=run, once=peer.name != "telecast")

    return [
        case(peer, transport)
        for peer in chosen
        if isinstance(peer, Telecast)
        for transport in peer.transports
        if transport in options.transports
    ]


def _storm(peer: Telecast, running: Running, clients: int) -> Figures:
    place = running.place
    position = _position(running)
    handing = (place.cores, place.folder, place.port, running.publication, (price(),))
    with publishing(*handing, rate=1_000, first=1, count=EVENTS, keys=50):
        # Committed one behind the other: once this is answered, so are they.
        _position(running)
    query = (("since", position), ("delivery", "all"))
    asking = replace(peer, query=query).subscription(place.transport, running.key)
    began = spent(running.pid, place.cores)
    with subscribers(
        place.cores,
        place.folder,
        place.port,
        place.transport,
        asking,
        clients=clients,
        first=1,
        room=EVENTS,
        replay=True,
        window=clients,
    ) as crowd:
        ready = crowd.ready(60)
        heard = crowd.end(EVENTS + 1, 60)
        used = spent(running.pid, place.cores).since(began)
    load = heard["cpu_user"] + heard["cpu_sys"]
    marks = core_marks(load / ready["seconds"], used.others(load))
    marks += [f"{what} {heard[what]:,}" for what in ("lost", "duplicates", "closed") if heard[what]]
    return {
        "clients": clients,
        "all_live_seconds": ready["seconds"],
        "live_s": {k: v / 1e6 for k, v in ready["to_live"].items() if k != "count"},
        "received": heard["received"],
        "expected": heard["expected"],
        "lost": heard["lost"] + heard["overdue"],
        "duplicates": heard["duplicates"],
        "told_left_out": heard["told_left_out"],
        "cpu": used.cpu,
        "load_core": load / ready["seconds"],
        "marks": marks,
    }


def _position(running: Running) -> str:
    """Publish one price that is nobody's, and learn where the stream is."""
    body = price().replace(STAMP, "-" * 32).replace("%KEY%", "999999").encode()
    request = urllib.request.Request(
        f"http://{HOST}:{running.place.port}/api/v1/channels/market-data/events",
        body,
        {"X-API-Key": running.key, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        position: str = json.load(answer)["data"]["position"]
        return position
