"""What the tests of stalled clients share: something to miss, and a judge of what is sent of it."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import orjson

from tests.support.checking.history import listener_flaws, parsed
from tests.support.payloads import Payload, position, price
from tests.support.service.process import Service
from tests.support.service.rest import history

BATCHES = 20
HEARD = ("market-data", "positions")
SYMBOLS = 60


class Fire:
    """Prices without end, and among them positions that open, change and close."""

    def __init__(self, own: Service, session: aiohttp.ClientSession) -> None:
        self._own = own
        self._session = session
        self._numbers = itertools.count(1)
        self._positions = self._lives()

    async def batch(self) -> None:
        prices = [
            price(f"S{number % SYMBOLS}", price=f"{number}.25")
            for number in itertools.islice(self._numbers, 400)
        ]
        await self._send("market-data", prices)
        await self._send("positions", list(itertools.islice(self._positions, 20)))

    async def batches(self, count: int = BATCHES) -> None:
        for _ in range(count):
            await self.batch()

    @staticmethod
    def _lives() -> Iterator[Payload]:
        """Positions that are opened, sent twice more, moved to another trader, and closed."""
        for number in itertools.count():
            key = f"p{number % 7}"
            yield position(key, "t1", reason=f"{number} opens")
            for again in range(2):
                yield position(key, "t1", status="UPDATED", currentPrice=f"{again}.50")
            yield position(key, "t2", status="UPDATED", reason=f"{number} moves")
            if number % 3:
                yield position(key, "t2", status="CLOSED", isActive=False)

    async def _send(self, channel: str, payloads: list[Payload]) -> None:
        async with self._session.post(
            f"{self._own.url}/api/v1/channels/{channel}/events",
            data=b"\n".join(map(orjson.dumps, payloads)),
            headers={"Content-Type": "application/x-ndjson"},
        ) as response:
            assert response.status == 201, await response.text()


@asynccontextmanager
async def burning(own: Service) -> AsyncIterator[Fire]:
    async with aiohttp.ClientSession(headers=own.headers) as session:
        yield Fire(own, session)


def pinned(truth: Sequence[bytes]) -> set[int]:
    """The seqs of events that conflation must never leave out (wire contract, section 2)."""
    found = set()
    alive: set[str] = set()
    for event in parsed(truth):
        if event["channel"] == "positions":
            if event["op"] == "delete" or event["key"] not in alive:
                found.add(event["seq"])
            (alive.add if event["op"] == "upsert" else alive.discard)(event["key"])
    return found


def conflation_flaws(
    truth: Sequence[bytes],
    must: set[int],
    heard: Sequence[bytes],
    announced: Sequence[tuple[int, int, int]],
) -> list[str]:
    """What is wrong with a conflated history: unexcused losses first of all."""
    flaws = [str(flaw) for flaw in listener_flaws(truth, heard) if flaw.kind != "lost"]
    seqs = [event["seq"] for event in parsed(heard)]
    reported = set(seqs)
    events = parsed(truth)
    latest = {(event["channel"], event["key"]): event["seq"] for event in events}
    for event in events:
        seq = event["seq"]
        if seq in reported:
            continue
        before = bisect_right(seqs, seq)
        if seq in must:
            flaws.append(f"{seq} is pinned and was left out")
        if latest[event["channel"], event["key"]] == seq:
            flaws.append(f"{seq} is its key's newest and was left out")
        if not any(at <= before and first <= seq <= last for at, first, last in announced):
            flaws.append(f"{seq} was left out and nobody said so before {seqs[before:][:1]}")
    return flaws


async def everything(own: Service) -> list[bytes]:
    found = [json for name in HEARD for json in await history(own, name)]
    return sorted(found, key=lambda json: orjson.loads(json)["seq"])


def after(truth: Sequence[bytes], seq: int) -> Sequence[bytes]:
    return truth[bisect_right(truth, seq, key=lambda json: orjson.loads(json)["seq"]) :]
