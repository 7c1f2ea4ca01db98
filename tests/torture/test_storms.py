"""Everybody comes back at once; nobody is lost, and nothing is."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from tests.support.payloads import price
from tests.support.service.process import Service, service
from tests.support.service.rest import history, metric, publish
from tests.support.sockets.crowd import Crowd, Member, descriptors

CLIENTS = 5_000
MISSED = 200
TRANSPORTS = ("ws", "sse")
MOST_SECONDS = 300
ROOM = {"max_connections_per_key": 20_000, "max_connections_per_address": 20_000}

pytestmark = pytest.mark.timeout(2 * MOST_SECONDS)


async def prices(own: Service, count: int) -> str:
    """Publish so many; the position of the last."""
    rows = [price(f"S{n % 50}", price=f"{n}.25", id=f"{n}") for n in range(count)]
    receipt = await publish(own, "market-data", *rows)
    found: str = receipt["position"]
    return found


async def truth_after(own: Service, since: str) -> list[bytes]:
    return await history(own, "market-data", after=since)


@pytest.mark.parametrize("admitted", [100_000, 1_000])
async def test_all_come_back_at_once_and_each_is_sent_what_it_missed_once(
    tmp_path: Path, admitted: int, record_property: Callable[[str, object], None]
) -> None:
    clients = descriptors(CLIENTS)
    async with (
        asyncio.timeout(MOST_SECONDS),
        service(tmp_path, new_connections_per_second=admitted, **ROOM) as own,
    ):
        await prices(own, 1_000)
        since = await prices(own, 1)
        await prices(own, MISSED)
        cpu = await metric(own, "process_cpu_seconds_total")
        with Crowd(own.port, own.key) as crowd:
            started = time.monotonic()
            for _, transport in zip(range(clients), itertools.cycle(TRANSPORTS), strict=False):
                crowd.come(transport, channels="market-data", delivery="all", since=since)
            coming = asyncio.create_task(asyncio.to_thread(everybody_live, crowd))
            while not coming.done():
                # Commits go on while they come.
                await prices(own, 10)
                await asyncio.wait([coming], timeout=0.2)
            refused = await coming
            seconds = time.monotonic() - started
            spent = await metric(own, "process_cpu_seconds_total") - cpu
            record_property("seconds until all were live", round(seconds, 2))
            record_property("seconds of the service's processor", round(spent, 2))
            record_property("refused", refused)
            print(f"{clients} live in {seconds:.2f} s, CPU {spent:.2f} s, refused {refused} times")
            last = await prices(own, 1)
            truth = await truth_after(own, since)
            assert truth[-1].find(b'"seq":%d,' % int(last.partition(":")[2])) >= 0
            await asyncio.to_thread(crowd.until, lambda: all_have(crowd.members, truth[-1]))
            assert await asyncio.to_thread(crowd.flaws, truth) == []
            assert await metric(own, "telecast_connections") == clients
            assert await metric(own, "telecast_evictions_total") == 0
            assert await metric(own, "telecast_connections_refused_total") == refused
        only_refusals(own)


def only_refusals(own: Service) -> None:
    """That the service warned of those whom it turned away, and of nothing else."""
    for line in own.complaints():
        assert orjson.loads(line)["code"] == "OVERLOADED", line
    own.log.clear()


def everybody_live(crowd: Crowd) -> int:
    """Until all are live; who is refused comes back when it was asked to. How often that was."""
    refused = 0
    waiting: list[tuple[float, Member]] = []
    deadline = time.monotonic() + MOST_SECONDS / 2
    while not crowd.all_live():
        crowd.turn(0.01)
        now = time.monotonic()
        assert now < deadline, f"{crowd.lives} live, {refused} refused"
        for member in crowd.members:
            if member.sock is not None and not member.live and member.refused:
                crowd.drop(member)
                member.over = True
                refused += 1
                waiting.append((now + told_to_wait(member), member))
        ready = [member for due, member in waiting if due <= now]
        waiting = [(due, member) for due, member in waiting if due > now]
        for member in ready:
            crowd.dial(member)
    return refused


def told_to_wait(member: Member) -> float:
    if member.transport == "ws":
        head = bytes(member.data).lower()
        return float(head.partition(b"retry-after: ")[2].partition(b"\r\n")[0])
    return int(bytes(member.data).partition(b"retry: ")[2].partition(b"\n")[0]) / 1000


def all_have(members: list[Member], last: bytes) -> bool:
    return all(last in member.data[-2 * len(last) - 400 :] for member in members)
