"""Charts: what all traders gained together, and candles; what is not live does not look so."""

from __future__ import annotations

import time
from typing import Any

import pytest

from telecast.channels.catalogue import CHANNELS
from tests.support.browser import HEALS_MS, MINUS, come_by_link, cut, shows, signed_in, visitor
from tests.support.payloads import metrics, position, trader
from tests.support.service.live import Live, principal, served

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def earns(live: Live, id: str, profit: str, symbol: str = "BTCUSDT") -> None:
    await live.publish(
        "trader-status", trader(id, symbol=symbol, metrics=metrics(netProfit=profit))
    )


async def choose(page: Any, what: str) -> None:
    await page.wait_for_selector(f"#chart-what option[value='{what}']", state="attached")
    await page.select_option("#chart-what", what)


async def test_the_day_of_all_traders_is_exact_and_never_adds_two_currencies(browser):
    async with served() as live, visitor(browser, outages=True) as visiting:
        await earns(live, "t1", "0.1")
        await earns(live, "t2", "9007199254740993.5")
        await earns(live, "t3", "5", "XBTUSD")
        await earns(live, "t1", "0.3")
        page = await signed_in(visiting, live)
        # The history has how the day began; who comes later brings no profit.
        await choose(page, "all-day USDT")
        await shows(page, ".chart-note", "+0.2 since")
        await earns(live, "t4", "1000000", "ETHUSDT")
        await earns(live, "t2", "9007199254740993.25")
        await shows(page, ".chart-note", f"{MINUS}0.05 since")
        await earns(live, "t3", "6.5", "XBTUSD")
        await choose(page, "all-day USD")
        await shows(page, ".chart-note", "+1.5 since")
        assert await page.locator("#charts .plot[data-stale]").count() == 0
        await page.context.set_offline(True)
        cut(live)
        await page.wait_for_selector("#charts .plot[data-stale]")
        await shows(page, "#charts .fresh", "not live")


async def test_candles_are_drawn_from_the_history_and_go_on(browser):
    row = CHANNELS["candles"].example
    async with served() as live, visitor(browser) as visiting:
        for minute in range(3):
            opened = f"2026-11-22T18:{minute:02}:00Z"
            await live.publish("candles", row | {"openTime": opened, "closed": True})
        page = await signed_in(visiting, live)
        await choose(page, "candles BINANCE:BTCUSDT:1m")
        await page.wait_for_function(
            "() => document.querySelectorAll('#charts rect').length === 3", timeout=HEALS_MS
        )
        newest = {"openTime": "2026-11-22T18:03:00Z", "close": "67239.00", "closed": False}
        await live.publish("candles", row | newest)
        await page.wait_for_selector("#charts rect.open.fell", timeout=HEALS_MS)
        await page.focus("#charts .plot")
        await page.keyboard.press("End")
        await shows(page, "#charts .tip", "close 67,239.00, volume 12.480 (not closed yet)")


async def test_a_key_without_the_channel_is_offered_no_candles(browser):
    holder = principal("prices", "read", channels=("market-data", "trader-status"))
    async with served(principal(), holder) as live, visitor(browser) as visiting:
        await live.publish("candles", CHANNELS["candles"].example)
        await earns(live, "t1", "0.1")
        page = await visiting.open(live.url)
        await page.fill("#key", live.secrets["prices"])
        await page.press("#key", "Enter")
        await choose(page, "all-day USDT")
        assert await page.locator("#chart-what option[value^=candles]").count() == 0


async def test_the_open_profit_of_before_the_page_was_opened_is_drawn(browser):
    ago = 0.0
    async with served(now=lambda: time.time() - ago) as live, visitor(browser) as visiting:
        for ago, profit in ((50.0, "0.1"), (40.0, "-2.25"), (0.0, "7")):  # noqa: B007
            await live.publish("positions", position("p1", unrealizedPnL=profit))
        page = await signed_in(visiting, live)
        await choose(page, "pnl USDT")
        await page.wait_for_selector("#charts .plot:not([hidden])")
        await page.focus("#charts .plot")
        for key, total in (("Home", "0.1"), ("ArrowRight", f"{MINUS}2.25"), ("End", "7")):
            await page.keyboard.press(key)
            await shows(page, "#charts .tip", f" {total}")


async def test_a_longer_range_is_read_when_somebody_asks_for_it_and_beside_the_page(browser):
    days_ago = 10.0
    async with (
        served(now=lambda: time.time() - days_ago * 86_400) as live,
        visitor(browser) as visiting,
    ):
        for days_ago, profit in ((10.0, "5"), (3.0, "50.25"), (0.0, "7")):  # noqa: B007
            await earns(live, "t1", profit)
        page = await come_by_link(visiting, live)  # nobody has published prices: it is stale
        await choose(page, "profit t1")
        assert len(page.workers) == 1
        await page.wait_for_selector("#charts .empty", state="visible")
        await page.click("#charts .ranges button[data-seconds='604800']")
        await page.wait_for_selector("#charts .plot[aria-label*=': 2 points']")
        await page.click("#charts .ranges button[data-seconds='2592000']")
        await page.wait_for_selector("#charts .plot[aria-label*=': 3 points']")
        await earns(live, "t1", "8")
        await page.wait_for_selector("#charts .plot[aria-label*=': 4 points']")
        await page.focus("#charts .plot")
        await page.keyboard.press("Home")
        await shows(page, "#charts .tip", "5")
