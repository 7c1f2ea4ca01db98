"""Three NATS servers, three nodes on them, and what can happen to either.

A fault is a method that returns once all is well again. Its class says which kind of site it needs:
servers with disks of their own, servers that ask for credentials, or nodes that make checkpoints
without end.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import orjson

from tests.support.checking import hurried
from tests.support.checking.traffic import Desk, Ledger
from tests.support.service.nats_cluster import Cluster
from tests.support.service.process import Service

STREAM = "desk"
NODES = 3
PAUSED_SECONDS = 10.0
PARTED_SECONDS = 15.0
FULL_SECONDS = 10.0
QUIET_SECONDS = 10.0
LOOK_SECONDS = 0.1
PATIENCE = 60.0


class Site:
    volumes: ClassVar[bool] = False
    guarded: ClassVar[bool] = False

    def __init__(
        self, servers: Cluster, folder: Path, ledger: Ledger, chance: random.Random
    ) -> None:
        self.servers = servers
        self.ledger = ledger
        self.chance = chance
        self._folder = folder
        self.nodes: list[Service] = []
        for number in range(NODES):
            self._copy(number).parent.mkdir()
            node = Service(
                self._copy(number).parent,
                **{
                    "journal": f"{servers.address}/{STREAM}",
                    "journal_copy": self._copy(number),
                    "replicas": 3,
                    "escalate_after": 0,
                    "keys": folder / "node-0" / "keys.toml",
                    "secret_file": folder / "secret",
                    **self.settings(number),
                },
            )
            self.nodes.append(node)
        for node in self.nodes[1:]:
            node.key = self.nodes[0].key
        self._probes = Desk("probe", chance)

    def _copy(self, number: int) -> Path:
        return self._folder / f"node-{number}" / "copy.db"

    def settings(self, number: int) -> dict[str, Any]:
        """Of a node, beside those that it has at each site."""
        return {}

    async def start(self) -> None:
        await self.nodes[0].start()
        await asyncio.gather(*(node.start() for node in self.nodes[1:]))

    async def end(self) -> None:
        await asyncio.gather(*(node.end() for node in self.nodes))
        for number, node in enumerate(self.nodes):  # for who looks into a failure
            self._copy(number).with_name("log").write_bytes(b"".join(node.log))

    async def refusal(self, node: Service, word: str) -> None:
        """Publish at a node until it is refused for this reason."""
        async with (
            asyncio.timeout(PATIENCE),
            aiohttp.ClientSession(headers=node.headers) as session,
        ):
            while True:
                channel, payloads, changes = self._probes.market()
                made = self.ledger.sent(self._probes.name, changes)
                async with session.post(
                    f"{node.url}/api/v1/channels/{channel}/events", json=payloads
                ) as response:
                    answer = orjson.loads(await response.read())
                self.ledger.waiting.discard(made)
                if response.status == 201:
                    epoch, _, last = answer["data"]["position"].rpartition(":")
                    self.ledger.record.acknowledge(made, epoch, int(last))
                elif word in answer["error"]["message"]:
                    assert response.status == 503
                    return
                await asyncio.sleep(LOOK_SECONDS)

    async def well(self) -> None:
        """All nodes are ready."""
        await asyncio.gather(*(self.ready(node) for node in self.nodes))

    async def ready(self, node: Service) -> None:
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"{node.url}/readyz") as response:
                    if response.status == 200:
                        return
                await asyncio.sleep(LOOK_SECONDS)

    # --- faults

    async def nothing(self) -> None:
        """To hold the figures of the others against."""
        await asyncio.sleep(QUIET_SECONDS)

    async def leader_killed(self) -> None:
        await self._killed(await self.servers.leader(STREAM))

    async def follower_killed(self) -> None:
        await self._killed(await self._follower())

    async def _follower(self) -> int:
        leader = await self.servers.leader(STREAM)
        return self.chance.choice([n for n in range(3) if n != leader])

    async def _killed(self, number: int) -> None:
        await self.servers.kill(number)
        await self.servers.leader(STREAM)  # another one, by then
        await self.servers.start(number)
        await self.servers.healed(STREAM)

    async def follower_lost_its_disk(self) -> None:
        """It is killed, and what it had stored is gone when it is back."""
        number = await self._follower()
        await self.servers.kill(number)
        self.servers.lose_disk(number)
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
        node = self.chance.choice(self.nodes)
        node.kill()
        assert await node.gone() == -signal.SIGKILL
        await node.start()

    async def leader_and_node_killed(self) -> None:
        """Both at once, and back without waiting for all to be well."""
        number, node = await self.servers.leader(STREAM), self.chance.choice(self.nodes)
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


class Powered(Site):
    """Each server has a disk of its own, which loses its power, or is full."""

    volumes = True

    async def leader_lost_power(self) -> None:
        await self._lost_power(await self.servers.leader(STREAM))

    async def follower_lost_power(self) -> None:
        await self._lost_power(await self._follower())

    async def _lost_power(self, number: int) -> None:
        await self.servers.lose_power(number)
        await self.servers.leader(STREAM)
        await self.servers.start(number)
        await self.servers.healed(STREAM)

    async def all_lost_power(self) -> None:
        """All three servers at the same moment. The nodes keep theirs, and what they know."""
        await self.servers.lose_power(0, 1, 2)
        await asyncio.gather(*(self.servers.start(number) for number in range(3)))
        await self.servers.healed(STREAM)

    async def leader_disk_full(self) -> None:
        await self._disk_full(await self.servers.leader(STREAM))

    async def follower_disk_full(self) -> None:
        await self._disk_full(await self._follower())

    async def _disk_full(self, number: int) -> None:
        """To the last block. nats-server switches JetStream off then, until it is restarted."""
        volume = self.servers.volumes[number]
        await asyncio.to_thread(volume.fill)
        await self.servers.stopped_storing(number)
        await asyncio.sleep(FULL_SECONDS)
        volume.free()
        await self.servers.kill(number, signal.SIGTERM)
        await self.servers.start(number)
        await self.servers.healed(STREAM)


class Guarded(Site):
    """Servers and nodes speak TLS; each node has a client certificate, a user and a password."""

    guarded = True
    _turn = 0

    def settings(self, number: int) -> dict[str, Any]:
        assert self.servers.guard is not None
        return self.servers.guard.client(self._user(number), self._password(), self._turn)

    def _user(self, number: int) -> str:
        return f"node{number}-{self._turn}"

    def _password(self) -> str:
        return f"{self.chance.getrandbits(64):016x}"

    async def start(self) -> None:
        await self.servers.reload()
        await super().start()

    async def credentials_rolled(self) -> None:
        """New certificates and users are let in as well, the nodes take them up one by one, and
        the old ones are let in no more."""
        guard = self.servers.guard
        assert guard is not None
        before = [self._user(number) for number in range(NODES)]
        self._turn += 1
        for number, node in enumerate(self.nodes):
            node.change(**self.settings(number))
        await self.servers.reload()
        await self.nodes_rolled()
        for user in before:
            guard.forget(user)
        await self.servers.reload()
        await self.well()

    async def password_changed(self) -> None:
        """Of one node after the other, which goes on without a restart."""
        guard = self.servers.guard
        assert guard is not None
        for number, node in enumerate(self.nodes):
            guard.change(self._user(number), self._password())
            await self.servers.reload()
            await asyncio.sleep(1)
            await self.ready(node)

    async def credentials_wrong(self) -> None:
        """At one node, for a while; it says so, and comes back by itself."""
        guard, number = self.servers.guard, self.chance.randrange(NODES)
        assert guard is not None
        user, node = self._user(number), self.nodes[number]
        right = guard.users[user]
        guard.users[user] = "another"
        await self.servers.reload()
        await self.refusal(node, "refused the credentials")
        await asyncio.sleep(FULL_SECONDS)
        guard.users[user] = right
        await self.servers.reload()
        await self.ready(node)


class Hurried(Site):
    """A checkpoint is due again and again, and all nodes make each of them at the same time."""

    def settings(self, number: int) -> dict[str, Any]:
        return {"program": [hurried.__file__], "checkpoint_bytes": 2**20}

    async def checkpoints_raced(self) -> None:
        """Two nodes are killed, lose their copies, and fetch a checkpoint while others are made
        and the log is trimmed; three times."""
        for _ in range(3):
            those = self.chance.sample(range(NODES), 2)
            for number in those:
                self.nodes[number].kill()
            await asyncio.gather(*(self.nodes[number].gone() for number in those))
            for number in those:
                for left in self._copy(number).parent.glob("copy.db*"):
                    left.unlink()
            await asyncio.gather(*(self.nodes[number].start() for number in those))
        before = await self._first()
        async with asyncio.timeout(PATIENCE):
            while await self._first() == before:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_SECONDS)

    async def _first(self) -> int:
        first: int = (await self.servers.ask(f"STREAM.INFO.{STREAM}"))["state"]["first_seq"]
        return first

    async def stream_full(self) -> None:
        """It takes no more than it has by now, so that all nodes make room at the same time; a
        while later it may grow again."""
        info = await self.servers.ask(f"STREAM.INFO.{STREAM}")
        config = info["config"]
        full = {**config, "max_bytes": info["state"]["bytes"]}
        await self.servers.ask(f"STREAM.UPDATE.{STREAM}", full)
        try:
            await self.refusal(self.chance.choice(self.nodes), "takes no more")
            await asyncio.sleep(FULL_SECONDS)
        finally:
            await self.servers.ask(f"STREAM.UPDATE.{STREAM}", config)
        await self.servers.healed(STREAM)


Fault = Callable[[Any], Awaitable[None]]
FAULTS: dict[type[Site], tuple[Fault, ...]] = {
    Site: (
        Site.nothing,
        Site.leader_killed,
        Site.follower_killed,
        Site.leader_paused,
        Site.leader_parted,
        Site.follower_parted,
        Site.follower_lost_its_disk,
        Site.servers_rolled,
        Site.node_killed,
        Site.leader_and_node_killed,
        Site.nodes_rolled,
    ),
    Powered: (
        Powered.leader_lost_power,
        Powered.follower_lost_power,
        Powered.all_lost_power,
        Powered.leader_disk_full,
        Powered.follower_disk_full,
    ),
    Guarded: (
        Guarded.leader_killed,
        Guarded.credentials_rolled,
        Guarded.password_changed,
        Guarded.credentials_wrong,
    ),
    Hurried: (Hurried.checkpoints_raced, Hurried.stream_full),
}
