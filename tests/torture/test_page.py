"""A page that stays open all day: its memory is flat, however much has passed through it.

`SOAK_MINUTES` says how long.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.browser import chromium, cut, shows, signed_in, visitor
from tests.support.payloads import alert, metrics, position, price, trader
from tests.support.service.live import Live, served

MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
WARM = 0.25
"""The part of the time in which it may still grow: lines and lists fill up to their bounds."""
ROOM = 1.25
"""How much more than after that it may hold at the end. A leak of a byte an event is more."""

pytestmark = pytest.mark.timeout(60 * MINUTES + 300)


async def go_on(live: Live, until: float) -> None:
    """Some 200 events a second on every channel, rows that come and go, and a cut a minute."""
    cut_at = time.monotonic() + 60
    for number in itertools.count():
        if time.monotonic() > until:
            return
        await live.publish("market-data", *(price(f"S{number % 8}USDT", price=f"{number}.5"),) * 8)
        fresh = (
            position(f"p{(number + i) % 500}", f"t{i}", unrealizedPnL=f"{number}") for i in (1, 2)
        )
        await live.publish("positions", *fresh)
        earned = metrics(netProfit=f"{number % 997}.25")
        await live.publish("trader-status", trader(f"t{number % 3}", metrics=earned))
        state = {"status": "RESOLVED"} if number % 2 else {}
        await live.publish("risk-alerts", alert(f"a{number // 2 % 50}", **state))
        if time.monotonic() > cut_at:
            cut(live)
            cut_at += 60
        await asyncio.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Held:
    """What a page holds after a collection: MiB of JavaScript, elements and other nodes (also those
    that are in no document), listeners."""

    minute: float
    heap: float
    nodes: int
    listeners: int

    def __str__(self) -> str:
        return f"{self.minute:4.1f} min {self.heap:6.2f} MiB {self.nodes:6} {self.listeners:5}"


async def held(cdp: Any, minute: float) -> Held:
    await cdp.send("HeapProfiler.collectGarbage")
    heap = (await cdp.send("Runtime.getHeapUsage"))["usedSize"] / 2**20
    counters = await cdp.send("Memory.getDOMCounters")
    return Held(minute, heap, counters["nodes"], counters["jsEventListeners"])


async def test_the_memory_of_a_page_is_flat() -> None:
    async with chromium() as browser, served() as live, visitor(browser, outages=True) as visiting:
        began = time.monotonic()
        going = asyncio.create_task(go_on(live, began + 60 * MINUTES))
        page = await signed_in(visiting, live)
        cdp = await visiting.context.new_cdp_session(page)
        found = []
        for minute in marks():
            await asyncio.sleep(began + 60 * minute - time.monotonic())
            found.append(await held(cdp, minute))
            print(found[-1], flush=True)
        await going
        await shows(page, "#state-word", "Live")
        warm = next(each for each in found if each.minute >= WARM * MINUTES)
        assert found[-1].heap < ROOM * warm.heap + 1, found
        assert found[-1].nodes < ROOM * warm.nodes + 500, found
        assert found[-1].listeners < ROOM * warm.listeners + 50, found


def marks() -> list[float]:
    """The minutes at which is looked: the first, then every sixth of the time."""
    sixths = [MINUTES * sixth / 6 for sixth in range(1, 7)]
    return sorted({min(1.0, sixths[0]), *sixths})
