"""A bad day in minutes: clients that come, go, stall and change transports, publishers that go
on, and a service that is stopped, killed and frozen; then everything is counted.

`SOAK_MINUTES` says how long, `SOAK_SEED` which day.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.support.payloads import position, price
from tests.support.service.process import Service
from tests.support.service.rest import history, metric, publish
from tests.support.sockets.crowd import Crowd, Member

MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
CLIENTS, PUBLISHERS = 60, 3
BETWEEN_FAULTS = (5.0, 15.0)
"""Seconds; of the service. The clients' faults come all the time."""
FROZEN = 3.0
QUERY = {"channels": "market-data,positions", "delivery": "all", "heartbeat": 5}
END = "the end"
MOST_SECONDS = 60 * MINUTES + 240

pytestmark = pytest.mark.timeout(2 * MOST_SECONDS)


@dataclass
class Client:
    """One who is to hear everything, over however many connections."""

    since: str
    heard: list[bytes] = field(default_factory=list)
    member: Member | None = None
    stalled: bool = False

    def settle(self) -> None:
        """Take over what the connection has brought, before it is given up."""
        if self.member is not None:
            reported = self.member.events()
            self.heard += reported
            if reported:
                self.since = f"{self.since.partition(':')[0]}:{orjson.loads(reported[-1])['seq']}"
            self.member = None
            self.stalled = False


class Day:
    """The clients' side, in a thread of its own."""

    def __init__(self, crowd: Crowd, clients: list[Client], chance: random.Random) -> None:
        self.crowd = crowd
        self.clients = clients
        self.deeds: Counter[str] = Counter()
        self.over = False
        self._chance = chance

    def run(self) -> None:
        while not self.over:
            self.crowd.turn(0.02)
            self._return()
            if self._chance.random() < 0.5:
                self._do(self._chance.choice(self.clients))

    def everybody_has(self, last: bytes) -> None:
        """Until each has heard the last event, whatever it takes."""
        for client in self.clients:
            if client.stalled and client.member is not None:
                self.crowd.go_on([client.member])
                client.stalled = False

        def done() -> bool:
            self._return()
            return all(c.member is not None and last in c.member.data for c in self.clients)

        self.crowd.until(done)
        for client in self.clients:
            client.settle()

    def _return(self) -> None:
        for client in self.clients:
            member = client.member
            if member is not None and (member.over or member.refused):
                self._leave(client)
            if client.member is None:
                transport = self._chance.choice(("ws", "sse"))
                small = self._chance.choice((None, 4_096))
                since = client.since
                client.member = self.crowd.come(
                    transport, receive_buffer=small, since=since, **QUERY
                )

    def _do(self, client: Client) -> None:
        member = client.member
        if member is None or not member.live:
            return
        deed = self._chance.choice(("leaves", "is cut", "stalls", "goes on", "goes on"))
        if deed in ("leaves", "is cut"):
            self._leave(client, rudely=deed == "is cut")
        elif deed == "stalls" and not client.stalled:
            self.crowd.stall([member])
            client.stalled = True
        elif deed == "goes on" and client.stalled:
            self.crowd.go_on([member])
            client.stalled = False
        else:
            return
        self.deeds[deed] += 1

    def _leave(self, client: Client, *, rudely: bool = False) -> None:
        assert client.member is not None
        self.crowd.drop(client.member, rudely=rudely)
        self.crowd.members.remove(client.member)
        client.settle()


async def publishing(own: Service, name: str, acknowledged: list[int]) -> None:
    """Prices and positions until it is cancelled; what is not acknowledged is let be."""
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(headers=own.headers, timeout=timeout) as session:
        for number in itertools.count():
            channel, rows = (
                ("market-data", [price(f"{name}{n}", price=f"{number}.5") for n in range(5)])
                if number % 4
                else ("positions", [position(f"{name}{number % 9}", currentPrice=f"{number}.25")])
            )
            await own.up.wait()
            try:
                async with session.post(
                    f"{own.url}/api/v1/channels/{channel}/events", json=rows
                ) as response:
                    if response.status == 201:
                        acknowledged.append((await response.json())["data"]["lastSeq"])
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.02)


async def troubles(own: Service, chance: random.Random, until: float) -> Counter[str]:
    done: Counter[str] = Counter()
    while time.monotonic() < until:
        await asyncio.sleep(chance.uniform(*BETWEEN_FAULTS))
        trouble = chance.choice(("stopped", "killed", "frozen"))
        if trouble == "frozen":
            os.kill(own.pid, signal.SIGSTOP)
            await asyncio.sleep(FROZEN)
            os.kill(own.pid, signal.SIGCONT)
        else:
            os.kill(own.pid, signal.SIGTERM if trouble == "stopped" else signal.SIGKILL)
            assert await own.gone() == (0 if trouble == "stopped" else -signal.SIGKILL)
            await own.start()
        done[trouble] += 1
    return done


async def test_after_a_bad_day_everybody_has_received_everything_once_and_in_order(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(SEED)
    own = Service(tmp_path, new_connections_per_second=100_000, drain_seconds=1, tape_events=5_000)
    acknowledged: list[int] = []
    try:
        async with asyncio.timeout(MOST_SECONDS):
            await own.start()
            start = (await publish(own, "positions", position("first")))["position"]
            with Crowd(own.port, own.key) as crowd:
                day = Day(crowd, [Client(start) for _ in range(CLIENTS)], random.Random(SEED + 1))
                running = asyncio.create_task(asyncio.to_thread(day.run))
                publishers = [
                    asyncio.create_task(publishing(own, f"P{n}-", acknowledged))
                    for n in range(PUBLISHERS)
                ]
                try:
                    done = await troubles(own, chance, time.monotonic() + 60 * MINUTES)
                finally:
                    for each in publishers:
                        each.cancel()
                    await asyncio.gather(*publishers, return_exceptions=True)
                    day.over = True
                    await running
                last = await publish(own, "positions", position(END))
                await asyncio.to_thread(day.everybody_has, b'"seq":%d,' % last["lastSeq"])
            record_property("day", {"seed": SEED, **done, **day.deeds})
            print(dict(done), dict(day.deeds), len(acknowledged), "publishes acknowledged")
            truth = [
                json
                for channel in ("market-data", "positions")
                for json in await history(own, channel, after=start)
            ]
            truth.sort(key=lambda json: orjson.loads(json)["seq"])
            assert {orjson.loads(json)["seq"] for json in truth} >= set(acknowledged)
            for client in day.clients:
                assert client.heard == truth
            assert await metric(own, "telecast_ready") == 1
            while await metric(own, "telecast_connections"):
                pass
            await own.stop()
    finally:
        await own.end()
