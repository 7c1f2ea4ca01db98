"""The journal on JetStream alone: batches appended by one node, judged by it, in its copy."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
import time
from pathlib import Path

import orjson

from bench.case import Case, Column, Options
from bench.fanout import Figures
from bench.machine import Cores
from bench.peers.nats import missing, nats_servers
from bench.peers.telecast import Telecast
from bench.tools import LoadFailed
from telecast.channels.catalogue import CHANNELS
from telecast.errors import OwnFault
from telecast.journal import NodeOptions, journal_from_url
from telecast.journal.base import Batch, Idempotency, Journal
from telecast.model import Record

name = "appends"
title = "Appends to a log on JetStream, synced before they are acknowledged; one node, one core"
columns = (
    Column(title="events/s", at="per_second", form=",.0f"),
    Column(title="batches/s", at="batches", form=",.0f"),
    Column(title="CPU µs an event", at="event_us", form=",.0f"),
    Column(title="p50 ms", at="latency_ms.p50", form=".2f"),
    Column(title="p99 ms", at="latency_ms.p99", form=".2f"),
)
SHAPES = ((1, 1), (1, 64), (64, 8), (1_000, 4))
"""Events in a batch, and batches under way."""
CHANNEL = "market-data"


def cases(options: Options) -> list[Case]:
    if not any(peer.name == "telecast" for peer in options.peers):
        return []
    return [
        _case(options, replicas, batch, under_way, keyed)
        for replicas in (1, 3)
        for batch, under_way in SHAPES
        for keyed in (False, True)
    ]


def _case(options: Options, replicas: int, batch: int, under_way: int, keyed: bool) -> Case:
    def run(cores: Cores) -> Figures:
        logging.getLogger("telecast").setLevel(logging.ERROR)  # it warns of one replica
        with (
            tempfile.TemporaryDirectory(prefix="telecast-bench-") as name,
            nats_servers(Path(name), cores, replicas) as log,
            cores.only(cores.server),
        ):
            node = NodeOptions(copy=Path(name) / "copy.db", replicas=replicas)
            journal = journal_from_url(f"{log}/bench", _RETENTION, node=node)
            try:
                return asyncio.run(_measured(journal, batch, under_way, keyed, options.seconds))
            except OwnFault as fault:
                raise LoadFailed(fault.message) from fault

    asked = {
        "replicas": replicas,
        "a batch": batch,
        "under way": under_way,
        "keys": "yes" if keyed else "no",
    }
    return Case(peer=Telecast(), transport="", run=run, asked=asked, lacks=missing())


_RETENTION = {CHANNEL: CHANNELS[CHANNEL].retention}
_PAYLOAD = orjson.dumps(CHANNELS[CHANNEL].example)


async def _measured(
    journal: Journal, batch: int, under_way: int, keyed: bool, seconds: float
) -> Figures:
    await journal.open()
    try:
        times: list[float] = []
        count = 0

        async def append(until: float) -> None:
            nonlocal count
            while time.perf_counter() < until:
                count += 1
                began = time.perf_counter()
                await journal.append(_batch(batch, count if keyed else None))
                times.append(time.perf_counter() - began)

        await asyncio.gather(*(append(time.perf_counter() + 0.5) for _ in range(under_way)))
        times.clear()
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(append(began + seconds) for _ in range(under_way)))
        elapsed, spent = time.perf_counter() - began, time.process_time() - cpu
    finally:
        await journal.close()
    times.sort()
    return {
        "per_second": len(times) * batch / elapsed,
        "batches": len(times) / elapsed,
        "event_us": 1e6 * spent / (len(times) * batch),
        "latency_ms": {
            "p50": 1e3 * times[len(times) // 2],
            "p99": 1e3 * times[min(len(times) - 1, len(times) * 99 // 100)],
        },
    }


def _batch(size: int, key: int | None) -> Batch:
    records = tuple(
        Record(CHANNEL, f"BINANCE:S{number % 50}", "upsert", False, _PAYLOAD)
        for number in range(size)
    )
    if key is None:
        return Batch(records=records)
    name = f"bench:{key}"
    digest = hashlib.sha256(name.encode()).digest()
    return Batch(records=records, idempotency=Idempotency(name, digest))
