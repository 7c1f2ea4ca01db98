"""How Telecast's cost grows with clients, channels, keys, filters, history and payload."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.case import Case, Column, Options, Work
from bench.fanout import Figures, measure, serving
from bench.machine import Cores
from bench.payload import alert, of_channel, price, size_of, status
from bench.peers.telecast import Telecast
from bench.tools import Publication, publishing

name = "growth"
title = "How the cost grows: Telecast alone"
columns = (
    Column(title="clients", at="clients", form=",.0f"),
    Column(title="events/s", at="rate", form=",.0f"),
    Column(title="CPU µs a delivery", at="cpu_us", form=".2f"),
    Column(title="CPU µs an event", at="event_us", form=",.0f"),
    Column(title="p50 ms", at="latency_ms.p50", form=".2f"),
    Column(title="p99 ms", at="latency_ms.p99", form=".2f"),
    Column(title="load's core", at="load_core", form=".0%"),
)
CLIENTS = (10, 100, 1_000, 5_000, 10_000)
CHANNELS = (1, 2, 4)
KEYS = (1, 1_000, 10_000, 100_000)
FILTERS = (1, 10, 100, 1_000)
HISTORY = (1, 10_000, 100_000)
PAYLOADS = (150, 200, 1_024, 4_096, 16_384)


def cases(options: Options) -> list[Case]:
    if not any(peer.name == "telecast" for peer in options.peers):
        return []
    transport = options.transports[0]
    return [
        _case(peer, transport, work, history, dimension, value)
        for dimension, value, peer, work, history in _points(options)
    ]


def _points(options: Options) -> Iterator[tuple[str, int, Telecast, Work, int]]:
    """What is varied, to what, on which server, with what work, after how many events."""
    times: dict[str, Any] = {"seconds": 1.5 if options.quick else 3.0, "warm": 0.5}
    for n in CLIENTS[: 3 if options.quick else None]:
        # About as many deliveries a second at each, so that it is the crowd that grows.
        rate = max(4.0, min(200.0, 20_000 / n))
        yield "clients", n, Telecast(), Work(clients=n, rate=rate, **times), 0
    for n in CHANNELS:
        names = ("market-data", "positions", "trader-status", "risk-alerts")[:n]
        peer = Telecast(channels=names)
        templates = tuple(
            f'{{"action":"publish","channel":"{each}","data":{of_channel(each)}}}' for each in names
        )
        yield "channels", n, peer, Work(clients=300, rate=100, templates=templates, **times), 0
    for n in KEYS[: 2 if options.quick else None]:
        yield "keys", n, Telecast(), Work(clients=300, rate=100, keys=n, **times), n
    for n in FILTERS:
        query = (("replay", "false"), ("symbol", "S%KEY%"))
        work = Work(clients=1_000, rate=100, keys=n, filtered=True, **times)
        yield "filters", n, Telecast(query=query), work, 0
    for n in HISTORY[: 2 if options.quick else None]:
        peer = Telecast(journal="sqlite:FOLDER/journal.db")
        yield "history", n, peer, Work(clients=300, rate=100, **times), n
    for n in PAYLOADS:
        channel, template = _payload(n)
        work = Work(clients=300, rate=50, templates=(template,), **times)
        yield "payload bytes", size_of(template), Telecast(channels=(channel,)), work, 0


def _payload(size: int) -> tuple[str, str]:
    if size < size_of(price(200)):
        return "trader-status", status()
    return ("market-data", price(size)) if size <= 280 else ("risk-alerts", alert(size))


def _case(peer: Telecast, transport: str, work: Work, history: int, what: str, value: int) -> Case:
    def run(cores: Cores) -> Figures:
        with serving(peer, transport, cores) as running:
            if history:
                _fill(peer, running.place, running.key, history, work.keys)
            if what == "channels":
                bare = Publication(kind="ws", request=running.publication.request)
                running = type(running)(
                    pid=running.pid,
                    place=running.place,
                    subscription=running.subscription,
                    publication=bare,
                    key=running.key,
                )
            return {"dimension": what, "value": value, **measure(running, work)}

    return Case(peer=peer, transport=transport, run=run, asked={what: value}, once=True)


def _fill(peer: Telecast, place: Any, key: str, events: int, keys: int) -> None:
    """So many events of so many keys, before anybody listens."""
    batch = min(events, 1_000)
    by_post = Telecast(publish="ndjson", batch=batch).publication(key)
    handing = (place.cores, place.folder, place.port, by_post, (price(),))
    with publishing(*handing, rate=0, count=events, keys=keys, connections=2):
        pass
