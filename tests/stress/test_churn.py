"""Clients that come, hear something and go, again and again: nothing of them stays.

`CHURN_CYCLES` says how often.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.payloads import price
from tests.support.service.process import Service, service
from tests.support.service.rest import metric, publish
from tests.support.sockets.crowd import Crowd, Member

CYCLES = int(os.environ.get("CHURN_CYCLES", "20000"))
AT_ONCE = 64
ROWS = 5
HEARTBEAT = 5
"""Seconds; for so long, and no longer, the service's timers hold on to one who has gone."""
PARTS, WARM = 10, 4
STAY, HEARD = 10, 7
"""So many stay in the end, and hear so many events."""
MOST_GROWTH = 6 * 2**20
"""Bytes of resident memory after the warm parts, however many cycles there are: the allocator's own
moods. A leak of 600 bytes a cycle would be more, with 100,000 cycles one of 100."""
MOST_SECONDS = 60 + CYCLES / 100
WAYS = ("closes", "resets", "closes early", "resets early")

pytestmark = pytest.mark.timeout(2 * MOST_SECONDS)


def churn(crowd: Crowd, cycles: int, chance: random.Random) -> Counter[tuple[str, bool]]:
    """How often one came to each transport, and was live before it went or left early."""
    came: Counter[tuple[str, bool]] = Counter()
    here: dict[Member, str] = {}
    left = cycles
    while left or here:
        while left and len(here) < AT_ONCE:
            transport, way = chance.choice(("ws", "sse")), chance.choice(WAYS)
            member = crowd.come(transport, channels="market-data", heartbeat=HEARTBEAT)
            here[member] = way
            left -= 1
        crowd.turn(0.05)
        for member, way in tuple(here.items()):
            early = way.endswith("early") and member.sent
            if early or member.live or member.over:
                assert early or member.live, member.data
                came[member.transport, member.live] += 1
                crowd.drop(member, rudely=way.startswith("resets"))
                crowd.members.remove(member)
                del here[member]
    return came


async def test_after_any_number_of_visits_the_service_is_as_it_was(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(20_261_123)
    async with (
        asyncio.timeout(MOST_SECONDS),
        service(tmp_path, new_connections_per_second=100_000, journal="memory:") as own,
    ):
        await publish(own, "market-data", *(price(f"S{n}") for n in range(ROWS)))
        with Crowd(own.port, own.key) as crowd:
            came: Counter[tuple[str, bool]] = Counter()
            weights, files = [], []
            for _ in range(PARTS):
                came += await asyncio.to_thread(churn, crowd, CYCLES // PARTS, chance)
                await nobody_left(own)
                weights.append(await metric(own, "process_resident_memory_bytes"))
                files.append(len(os.listdir(f"/proc/{own.pid}/fd")))
            record_property("MiB after each part", [round(w / 2**20, 1) for w in weights])
            print([round(w / 2**20, 1) for w in weights], files, dict(came))
            assert max(weights[WARM:]) - weights[WARM - 1] < MOST_GROWTH
            assert max(files) - min(files) <= 1, "descriptors are given back"
            assert sum(came.values()) == CYCLES // PARTS * PARTS
            for transport in ("ws", "sse"):
                opened = await metric(own, "telecast_connections_opened_total", transport=transport)
                reported = await metric(
                    own, "telecast_events_backfilled_total", transport=transport
                )
                # Who left early may or may not have been let in.
                surely, perhaps = came[transport, True], came[transport, False]
                assert surely <= opened <= surely + perhaps
                assert ROWS * surely <= reported <= ROWS * opened
            # And what is counted is what is heard.
            delivered = await metric(own, "telecast_events_delivered_total")
            transports = itertools.cycle(("ws", "sse"))
            stay = [crowd.come(next(transports), channels="market-data") for _ in range(STAY)]
            await asyncio.to_thread(crowd.until, lambda: all(member.live for member in stay))
            for number in range(HEARD):
                receipt = await publish(own, "market-data", price(price=f"{number}.5"))
                assert receipt["subscribers"] == STAY
            await asyncio.to_thread(
                crowd.until, lambda: all(len(m.events()) == ROWS + HEARD for m in stay)
            )
            counted = await metric(own, "telecast_events_delivered_total") - delivered
            assert counted == STAY * HEARD
        await nobody_left(own)
        assert await metric(own, "telecast_evictions_total") == 0
        assert await metric(own, "telecast_connections_refused_total") == 0


async def nobody_left(own: Service) -> None:
    while await metric(own, "telecast_connections"):
        pass
    assert await metric(own, "telecast_subscriptions") == 0
