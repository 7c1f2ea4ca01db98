"""Clients that come to another node each time, nodes that die, and faults of the servers below.

Publishers and listeners are those of `traffic`; where they connect is any node that is up. In the
end every node must have the same history, byte for byte, and it must be one that explains all that
was answered and reported (`judge`).
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.checking.history import History, Publish
from tests.support.checking.judge import check
from tests.support.checking.pulses import Pulses
from tests.support.checking.sites import Fault, Site
from tests.support.checking.traffic import (
    PINS,
    Desk,
    Ledger,
    Listener,
    by_rest,
    by_ws,
    kept,
    once_only,
    say_end,
    working,
)
from tests.support.service.nats_cluster import cluster
from tests.support.service.process import Service
from tests.support.service.rest import ask


class Address:
    """One address for all nodes, as a balancer gives them."""

    def __init__(self, nodes: Sequence[Service], chance: random.Random) -> None:
        self._nodes = nodes
        self._chance = chance
        self.up = asyncio.Event()
        self.up.set()
        self.key = nodes[0].key

    def _any(self) -> Service:
        up = [node for node in self._nodes if node.up.is_set()]
        return self._chance.choice(up or list(self._nodes))

    @property
    def url(self) -> str:
        return self._any().url

    @property
    def port(self) -> int:
        return self._any().port

    @property
    def headers(self) -> dict[str, str]:
        return self._nodes[0].headers


class Paced(Ledger):
    """Knows the longest time in which nobody was answered."""

    def __init__(self, record: History) -> None:
        super().__init__(record)
        self._last = time.monotonic()
        self.pause = 0.0

    def reported(self, made: Publish, position: str, *, duplicate: bool, again: bool) -> None:
        now = time.monotonic()
        self.pause, self._last = max(self.pause, now - self._last), now
        super().reported(made, position, duplicate=duplicate, again=again)

    def begin(self) -> None:
        self.pause, self._last = 0.0, time.monotonic()


@dataclass(slots=True)
class Figures:
    """Of one kind of fault. `pauses`: the longest time without an answer to any publish, of each
    round; `streams`: how long each event took to the streams of other nodes. In seconds."""

    pauses: list[float] = field(default_factory=list)
    streams: list[float] = field(default_factory=list)


def table(found: Mapping[str, Figures]) -> str:
    lines = [
        "| fault | rounds | longest pause, p50 | max | streams, p50 | p99 | max |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, each in found.items():
        streams = sorted(each.streams) or [0.0]
        p50, p99 = (streams[int(len(streams) * share)] for share in (0.5, 0.99))
        lines.append(
            f"| {name.replace('_', ' ')} | {len(each.pauses)} "
            f"| {statistics.median(each.pauses):.1f} s | {max(each.pauses):.1f} s "
            f"| {p50:.2f} s | {p99:.2f} s | {streams[-1]:.1f} s |"
        )
    return "\n".join(lines)


async def torment(
    folder: Path,
    faults: Sequence[Fault],
    *,
    site: type[Site] = Site,
    answers: int = 30,
    seed: int | None = None,
) -> dict[str, Figures]:
    """What the faults did, by their names."""
    record = History(
        seed=random.randrange(2**32) if seed is None else seed, pins=PINS, one_node=False
    )
    torment = _Torment(record, answers)
    try:
        async with cluster(volumes=site.volumes, guarded=site.guarded) as servers:
            own = site(servers, folder, torment.ledger, torment.apart())
            try:
                await own.start()
                await torment.run(own, faults)
            finally:
                await own.end()
        # Only now: it takes the loop's time, and the relays between the servers live on the loop.
        check(record)
    finally:
        print(f"seed {record.seed}")
    return torment.found


class _Torment:
    def __init__(self, record: History, answers: int) -> None:
        self.found: dict[str, Figures] = {}
        self.ledger = Paced(record)
        self._record = record
        self._answers = answers
        self._chance = random.Random(str(record.seed))

    def apart(self) -> random.Random:
        return random.Random(self._chance.random())

    async def run(self, site: Site, faults: Sequence[Fault]) -> None:
        record, ledger, apart = self._record, self.ledger, self.apart
        own, pulses = Address(site.nodes, apart()), Pulses(site.nodes, ledger)
        both = ["sse", "ws"]
        listeners = [
            Listener(own, record, "all", apart(), transports=both, appetites=(1_009, 2**16)),
            Listener(own, record, "all by sse", apart(), transports=["sse"], appetites=(2**16,)),
            Listener(own, record, "all at one", apart(), cuts=(10**6,), appetites=(2**16,)),
            Listener(
                *(own, record, "rows", apart()),
                transports=both,
                first="snapshot",
                delivery="conflated",
                appetites=(2**16,),
            ),
        ]
        publishers = [
            by_rest(own, Desk("single", apart()), ledger, batches=False),
            by_rest(own, Desk("batch", apart()), ledger, batches=True),
            by_ws(own, Desk("socket", apart()), ledger),
            once_only(own, Desk("once", apart()), ledger),
            pulses.send(),
        ]
        watching = [pulses.watch(node) for node in range(len(site.nodes))]
        async with _meanwhile(*watching), working(*(each.listen() for each in listeners)):
            async with working(*publishers):
                for fault in faults:
                    await self._befall(site, fault, pulses)
                await ledger.answers(self._answers)
                ledger.enough = True
            await say_end(own, ledger)
        await _compare(site, record)

    async def _befall(self, site: Site, fault: Fault, pulses: Pulses) -> None:
        ledger, name = self.ledger, fault.__name__
        await ledger.answers(self._answers)
        ledger.begin()
        begin = time.monotonic()
        await fault(site)
        await site.well()
        await ledger.answers(self._answers)
        found = self.found.setdefault(name, Figures())
        found.pauses.append(ledger.pause)
        found.streams += pulses.between(begin, time.monotonic())


@asynccontextmanager
async def _meanwhile(*tasks: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs these, which have no end, beside the block; if one fails, so does the block."""
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(each) for each in tasks]
        yield
        for task in running:
            task.cancel()


async def _compare(site: Site, record: History) -> None:
    """All nodes have one history, byte for byte; it goes into the record."""
    epoch, last = record.publishes[-1].answers[0]
    for node in site.nodes:  # it waits until it has this position
        await ask(node, "/api/v1/channels/risk-alerts/events", after=f"{epoch}:{last}")
    found = [await kept(node) for node in site.nodes]
    epoch, record.kept[epoch] = found[0]
    for other in found[1:]:
        assert other[0] == epoch
        assert other[1] == record.kept[epoch], "the nodes have different histories"
