"""Clients that come to another node each time, nodes that die, and faults of the servers below.

Publishers and listeners are those of `traffic`; where they connect is any node that is up. In the
end every node must have the same history, byte for byte, and it must be one that explains all that
was answered and reported (`judge`).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from tests.support.checking.history import History, Publish
from tests.support.checking.judge import check
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
from tests.support.service.nats_cluster import Cluster, cluster
from tests.support.service.process import Service
from tests.support.service.rest import ask

STREAM = "desk"
NODES = 3
PAUSED_SECONDS = 10.0
PARTED_SECONDS = 15.0


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


class Site:
    """Three servers, three nodes on them, and what can happen to either."""

    def __init__(self, servers: Cluster, folder: Path, chance: random.Random) -> None:
        self.servers = servers
        self.nodes: list[Service] = []
        for number in range(NODES):
            own = folder / f"node-{number}"
            own.mkdir()
            node = Service(
                own,
                journal=f"{servers.address}/{STREAM}",
                journal_copy=own / "copy.db",
                replicas=3,
                escalate_after=0,
                keys=folder / "node-0" / "keys.toml",
                secret_file=folder / "secret",
            )
            self.nodes.append(node)
        for node in self.nodes[1:]:
            node.key = self.nodes[0].key
        self._chance = chance

    async def start(self) -> None:
        await self.nodes[0].start()
        await asyncio.gather(*(node.start() for node in self.nodes[1:]))

    async def end(self) -> None:
        await asyncio.gather(*(node.end() for node in self.nodes))

    # --- faults: each returns once all is well again

    async def leader_killed(self) -> None:
        await self._killed(await self.servers.leader(STREAM))

    async def follower_killed(self) -> None:
        await self._killed(await self._follower())

    async def _follower(self) -> int:
        leader = await self.servers.leader(STREAM)
        return self._chance.choice([n for n in range(3) if n != leader])

    async def _killed(self, number: int) -> None:
        await self.servers.kill(number)
        await self.servers.leader(STREAM)  # another one, by then
        await self.servers.start(number)
        await self.servers.healed(STREAM)

    async def leader_paused(self) -> None:
        number = await self.servers.leader(STREAM)
        self.servers.send(number, signal.SIGSTOP)
        try:
            await asyncio.sleep(PAUSED_SECONDS)
        finally:
            self.servers.send(number, signal.SIGCONT)
        await self.servers.healed(STREAM)

    async def leader_parted(self) -> None:
        await self._parted(await self.servers.leader(STREAM))

    async def follower_parted(self) -> None:
        await self._parted(await self._follower())

    async def _parted(self, number: int) -> None:
        self.servers.part(number)
        try:
            await asyncio.sleep(PARTED_SECONDS)
        finally:
            self.servers.mend()
        await self.servers.healed(STREAM)

    async def node_killed(self) -> None:
        node = self._chance.choice(self.nodes)
        node.kill()
        assert await node.gone() == -signal.SIGKILL
        await node.start()

    async def leader_and_node_killed(self) -> None:
        """Both at once, and back without waiting for all to be well."""
        number, node = await self.servers.leader(STREAM), self._chance.choice(self.nodes)
        node.kill()
        await asyncio.gather(self.servers.kill(number), node.gone())
        await asyncio.gather(self.servers.start(number), node.start())

    async def nodes_rolled(self) -> None:
        for node in self.nodes:
            os.kill(node.pid, signal.SIGTERM)
            assert await node.gone() == 0, b"".join(node.log).decode()
            await node.start()

    async def servers_rolled(self) -> None:
        for number in range(3):
            await self.servers.kill(number, signal.SIGTERM)
            await self.servers.start(number)
            await self.servers.healed(STREAM)


FAULTS: tuple[Callable[[Site], Awaitable[None]], ...] = (
    Site.leader_killed,
    Site.node_killed,
    Site.leader_paused,
    Site.follower_killed,
    Site.leader_parted,
    Site.nodes_rolled,
    Site.follower_parted,
    Site.servers_rolled,
)


async def torment(
    folder: Path,
    faults: Sequence[Callable[[Site], Awaitable[None]]],
    *,
    answers: int = 30,
    seed: int | None = None,
) -> dict[str, list[float]]:
    """The longest pause of publishes at each fault, in seconds, by its name."""
    record = History(
        seed=random.randrange(2**32) if seed is None else seed, pins=PINS, one_node=False
    )
    chance = random.Random(str(record.seed))

    def apart() -> random.Random:
        return random.Random(chance.random())

    pauses: defaultdict[str, list[float]] = defaultdict(list)
    try:
        async with cluster() as servers:
            site = Site(servers, folder, apart())
            try:
                await site.start()
                await _run(site, record, apart, faults, answers, pauses)
            finally:
                await site.end()
        # Only now: it takes the loop's time, and the relays between the servers live on the loop.
        check(record)
    finally:
        print(f"seed {record.seed}")
    return pauses


async def _run(
    site: Site,
    record: History,
    apart: Callable[[], random.Random],
    faults: Sequence[Callable[[Site], Awaitable[None]]],
    answers: int,
    pauses: defaultdict[str, list[float]],
) -> None:
    own, ledger = Address(site.nodes, apart()), Paced(record)
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
    ]
    async with working(*(each.listen() for each in listeners)):
        async with working(*publishers):
            for fault in faults:
                await ledger.answers(answers)
                ledger.begin()
                await fault(site)
                await ledger.answers(answers)
                pauses[fault.__name__].append(round(ledger.pause, 2))
            await ledger.answers(answers)
            ledger.enough = True
        await say_end(own, ledger)
    epoch, last = record.publishes[-1].answers[0]
    for node in site.nodes:  # it waits until it has this position
        await ask(node, "/api/v1/channels/risk-alerts/events", after=f"{epoch}:{last}")
    found = [await kept(node) for node in site.nodes]
    epoch, record.kept[epoch] = found[0]
    for other in found[1:]:
        assert other[0] == epoch
        assert other[1] == record.kept[epoch], "the nodes have different histories"
