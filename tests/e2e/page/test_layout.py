"""The page on any screen: nothing is cut, and nothing is scrolled sideways."""

from __future__ import annotations

import pytest

from tests.support.browser import desk, shows, signed_in, visitor
from tests.support.payloads import metrics, position, price, trader
from tests.support.service.live import served

pytestmark = pytest.mark.asyncio(loop_scope="module")

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
BEYOND = """() => [document.documentElement, ...document.querySelectorAll(".scroller")]
    .map((each) => each.scrollWidth - each.clientWidth)"""


@pytest.mark.parametrize(
    "screen",
    [
        PHONE,
        *({"viewport": {"width": width, "height": 1000}} for width in (1600, 2560)),
    ],
    ids=lambda screen: str(screen["viewport"]["width"]),
)
async def test_no_screen_cuts_a_number_or_needs_sideways_scrolling(browser, screen):
    async with served() as live, visitor(browser, **screen) as visiting:
        await desk(live)
        await live.publish(
            "trader-status",
            trader(
                "t3",
                name="Clementina",
                strategy="mean reversion",
                reason="has seen enough prices to begin",
                metrics=metrics(
                    netProfit="-1234567.89", maxDrawdown="234567.89", sharpeRatio=-1.25
                ),
            ),
        )
        await live.publish(
            "positions",
            position(
                "p9", quantity="123456.789", entryPrice="123456.789", stopLossPrice="1234.5678"
            ),
        )
        await live.publish("market-data", price("SHIBUSDT", price="0.00001234", bid="0.00001233"))
        page = await signed_in(visiting, live)
        await shows(page, "#trader-status", "Clementina")
        await page.wait_for_function(f"() => Math.max(...({BEYOND})()) <= 1")
        for panel, text in {
            "#trader-status": "1,234,567.89",
            "#positions": "67,250.10",
            "#market-data": "0.00001234",
        }.items():
            await shows(page, panel, text)
