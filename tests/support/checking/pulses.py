"""How long an event takes from its publisher at one node to a stream at another.

A pulse is a publish every so often at each node, whether or not the ones before were answered: so
a pause delays many of them, and not one. Each is tried once; one that is refused is in no stream.
Streams stay with their node, and connect again when it dies.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import orjson

from tests.support.checking.history import Change
from tests.support.checking.traffic import LOST, Ledger
from tests.support.payloads import price
from tests.support.service.process import Service
from tests.support.sockets.raw import Over, dial

EVERY_SECONDS = 0.1
MOST = 300
"""Pulses of one node without an answer; then it pauses."""
SYMBOL = "PULSE"


@dataclass(frozen=True, slots=True)
class Sample:
    """When it was sent, and how long it took, in seconds."""

    sent: float
    took: float


class Pulses:
    def __init__(self, nodes: Sequence[Service], ledger: Ledger) -> None:
        self.samples: list[Sample] = []
        self._nodes = nodes
        self._ledger = ledger
        self._sent: dict[str, tuple[int, float]] = {}
        """By mark: at which node, and when."""

    async def send(self) -> None:
        """Until the ledger has enough."""
        connector = aiohttp.TCPConnector(limit=0)
        headers = {**self._nodes[0].headers, "Content-Type": "application/json"}
        async with (
            aiohttp.ClientSession(headers=headers, connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            for number in range(len(self._nodes)):
                group.create_task(self._beat(session, group, number))

    async def _beat(
        self, session: aiohttp.ClientSession, group: asyncio.TaskGroup, node: int
    ) -> None:
        own, waiting = self._nodes[node], set[asyncio.Task[None]]()
        for count in itertools.count():
            if self._ledger.enough:
                return
            if own.up.is_set() and len(waiting) < MOST:
                task = group.create_task(self._pulse(session, node, count))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
            await asyncio.sleep(EVERY_SECONDS)

    async def _pulse(self, session: aiohttp.ClientSession, node: int, count: int) -> None:
        own, ledger, name = self._nodes[node], self._ledger, f"pulse{node}"
        mark = f"{name}/{count}"
        payload = price(SYMBOL, name, id=mark)
        # Nobody waits for the one before: each is a publisher by itself.
        made = ledger.sent(mark, [Change("market-data", "upsert", f"{name}:{SYMBOL}", payload)])
        self._sent[mark] = node, time.monotonic()
        try:
            async with session.post(
                f"{own.url}/api/v1/channels/market-data/events", data=orjson.dumps(payload)
            ) as response:
                answer = orjson.loads(await response.read())
        except LOST:
            return
        finally:
            ledger.waiting.discard(made)
        if response.status == 503:
            made.refused = not (answer["error"].get("details") or {}).get("unknown", False)
            return
        assert response.status == 201, answer
        epoch, _, last = answer["data"]["position"].rpartition(":")
        ledger.record.acknowledge(made, epoch, int(last))

    async def watch(self, node: int) -> None:
        """Stay at that node. Without end."""
        own = self._nodes[node]
        how = {"channels": "market-data", "symbol": SYMBOL, "delivery": "all"}
        while True:
            await own.up.wait()
            try:
                line = await dial("ws", own.port, own.key, appetite=2**16, **how)
            except (Over, OSError):
                await asyncio.sleep(EVERY_SECONDS)
                continue
            live = False
            try:
                while True:
                    message = await line.read()
                    live = live or message.type == "live"  # before it come rows of earlier
                    if live and message.type == "event":
                        self._received(node, message.body["data"]["id"])
            except Over:
                await asyncio.sleep(EVERY_SECONDS)
            finally:
                line.cut()

    def _received(self, node: int, mark: str) -> None:
        at, sent = self._sent[mark]
        if at != node:
            self.samples.append(Sample(sent, time.monotonic() - sent))

    def between(self, begin: float, end: float) -> list[float]:
        """What the pulses took that were sent then."""
        return [each.took for each in self.samples if begin <= each.sent <= end]
