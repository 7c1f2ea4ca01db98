"""As many connections as a default service is to carry, and what each weighs."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.payloads import price
from tests.support.service.process import service
from tests.support.service.rest import history, metric, publish
from tests.support.sockets import raw
from tests.support.sockets.crowd import Crowd, descriptors

CLIENTS = 10_000
MOST_EACH = 24 * 1024
"""Bytes of resident memory that an idle connection may cost the service."""
MOST_SECONDS = 200
ROOM = {
    "max_connections": 12_000,
    "max_connections_per_key": 20_000,
    "max_connections_per_address": 20_000,
    "new_connections_per_second": 100_000,
}

pytestmark = pytest.mark.timeout(2 * MOST_SECONDS)


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_ten_thousand_are_connected_served_and_disconnected(
    tmp_path: Path, transport: str, record_property: Callable[[str, object], None]
) -> None:
    clients = descriptors(CLIENTS)
    async with (
        asyncio.timeout(MOST_SECONDS),
        service(tmp_path, journal="memory:", **ROOM) as own,
    ):
        await publish(own, "market-data", price())
        with Crowd(own.port, own.key) as crowd:
            # A few first, so that what is made but once is there.
            for _ in range(50):
                crowd.come(transport, channels="market-data", delivery="all")
            await asyncio.to_thread(crowd.until, crowd.all_live)
            before = await metric(own, "process_resident_memory_bytes")
            for _ in range(clients - 50):
                crowd.come(transport, channels="market-data", delivery="all")
            await asyncio.to_thread(crowd.until, crowd.all_live)
            beside = await metric(own, "process_resident_memory_bytes")
            each = (beside - before) / (clients - 50)
            record_property(f"KiB a connection, {transport}", round(each / 1024, 2))
            print(f"{clients} connections at {transport}: {each / 1024:.2f} KiB each")
            assert each < MOST_EACH
            assert await metric(own, "telecast_connections", transport=transport) == clients
            assert await metric(own, "telecast_subscriptions", channel="market-data") == clients
            for number in range(5):
                receipt = await publish(own, "market-data", price(price=f"{number}.25"))
                assert receipt["subscribers"] == clients
            truth = await history(own, "market-data")
            await asyncio.to_thread(
                crowd.until, lambda: all(truth[-1] in m.data for m in crowd.members)
            )
            assert crowd.flaws(truth) == []
            delivered = await metric(own, "telecast_events_delivered_total", transport=transport)
            assert delivered == 5 * clients
        while await metric(own, "telecast_connections"):
            pass
        assert await metric(own, "telecast_subscriptions") == 0
        assert await metric(own, "telecast_evictions_total") == 0


async def test_without_descriptors_newcomers_wait_and_the_others_go_on(tmp_path: Path) -> None:
    spare, more = 30, 100
    async with asyncio.timeout(MOST_SECONDS), service(tmp_path, journal="memory:", **ROOM) as own:
        with Crowd(own.port, own.key) as crowd:
            # It publishes too: for anybody else there will be no descriptor.
            first = await raw.dial("ws", own.port, own.key, channels="market-data")
            await first.until("live")
            used = len(os.listdir(f"/proc/{own.pid}/fd"))
            before = resource.prlimit(own.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(own.pid, resource.RLIMIT_NOFILE, (used + spare, before[1]))
            for _ in range(more):
                crowd.come("ws", channels="market-data", delivery="all")
            await asyncio.to_thread(crowd.until, lambda: crowd.lives >= spare // 2)
            held = [member for member in crowd.members if member.live]
            await first.send(
                {"action": "publish", "channel": "market-data", "data": price(price="2.5")}
            )
            await first.until("ack")
            await asyncio.to_thread(crowd.until, lambda: all(b'"2.5"' in m.data for m in held))
            resource.prlimit(own.pid, resource.RLIMIT_NOFILE, before)
            late = [crowd.come("sse", channels="market-data") for _ in range(50)]
            await asyncio.to_thread(crowd.until, lambda: all(member.live for member in late))
            first.cut()
        # It may say that it had none; it must not have died of it.
        own.log.clear()
