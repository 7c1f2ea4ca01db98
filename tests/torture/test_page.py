"""A page that stays open all day: its memory is flat, however much has passed through it.

`SOAK_MINUTES` says how long.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
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
        await live.publish("market-data", *(price(f"S{number % 40}USDT", price=f"{number}.5"),) * 8)
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


async def held(cdp: Any) -> float:
    """MiB of JavaScript after a collection, and elements in thousands."""
    await cdp.send("HeapProfiler.collectGarbage")
    return float((await cdp.send("Runtime.getHeapUsage"))["usedSize"]) / 2**20


async def test_the_memory_of_a_page_is_flat() -> None:
    async with chromium() as browser, served() as live, visitor(browser, outages=True) as visiting:
        until = time.monotonic() + 60 * MINUTES
        going = asyncio.create_task(go_on(live, until))
        page = await signed_in(visiting, live)
        cdp = await visiting.context.new_cdp_session(page)
        await asyncio.sleep(60 * MINUTES * WARM)
        sizes = [await held(cdp)]
        nodes = [await page.evaluate("document.querySelectorAll('*').length")]
        while time.monotonic() < until:
            await asyncio.sleep(60 * MINUTES * WARM / 3)
            sizes.append(await held(cdp))
            nodes.append(await page.evaluate("document.querySelectorAll('*').length"))
        await going
        await shows(page, "#state-word", "Live")
        print("MiB", [f"{size:.1f}" for size in sizes], "elements", nodes)
        assert sizes[-1] < ROOM * sizes[0] + 1, sizes
        assert nodes[-1] < 2 * nodes[0], nodes
