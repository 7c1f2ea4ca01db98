"""Our own page in a real browser: it is alive, and nothing in it bites."""

from __future__ import annotations

import pytest

from telecast.channels.catalogue import CHANNELS
from tests.support.browser import (
    MINUS,
    desk,
    logged,
    note,
    shows,
    signed_in,
    visitor,
    word,
)
from tests.support.payloads import alert, metrics, position, price, trader
from tests.support.service.live import served

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_page_is_alive(browser):
    async with served() as live, visitor(browser) as visiting:
        await desk(live)
        page = await signed_in(visiting, live)
        await logged(page, "from a snapshot of 8 rows$")
        await note(page, "channels are current")
        for section, texts in {
            "#positions": ("BTCUSDT", "Ada", "LONG", "+125.05", f"{MINUS}1,250.5"),
            "#trader-status": ("Ada", "trend", "RUNNING", "ERROR", "+80.00", "60%"),
            "#risk-alerts": ("CRITICAL", "Stop everything.", "all traders", "INFO"),
            "#market-data": ("BTCUSDT", "BINANCE", "67,250.10", f"{MINUS}2.10%"),
            "#sum-pnl": (f"{MINUS}1,125.45",),
            "#sum-traders-worst": ("none at a loss",),
            "#sum-alerts-note": ("2 not acknowledged, 1 critical",),
        }.items():
            for text in texts:
                await shows(page, section, text)
        assert await page.get_attribute("#sum-pnl", "data-tone") == "loss"
        severities = await page.locator("#risk-alerts .chip").all_inner_texts()
        assert severities == ["CRITICAL", "INFO"]
        # and now it moves
        await live.publish("market-data", price(price="67300.00"))
        await live.publish("positions", position("p1", unrealizedPnL="300.00"))
        await live.publish("positions", position("p2", "t2", status="CLOSED", isActive=False))
        await shows(page, "#market-data", "67,300.00")
        await shows(page, "#sum-pnl", "+300.00")
        await page.wait_for_function(
            "() => document.querySelectorAll('#positions tbody tr').length === 1"
        )
        await shows(page, "#raw-list", '"67300.00"')
        # The largest loss of each currency: they are not compared.
        for id, profit, symbol in (
            ("t1", "-3", "BTCUSDT"),
            ("t2", "-12.505", "ETHUSDT"),
            ("t3", "-9", "XBTUSD"),
        ):
            row = trader(id, name=id.upper(), symbol=symbol, metrics=metrics(netProfit=profit))
            await live.publish("trader-status", row)
        losses = f"at a loss: T3_{MINUS}9_USD \u00b7 T2_{MINUS}12.50_USDT".replace("_", "\u00a0")
        await shows(page, "#sum-traders-worst", losses)
        await shows(page, "#sum-lag", "ms")


async def test_any_other_channel_has_a_table_made_from_its_schema(browser):
    candles = CHANNELS["candles"]
    async with served() as live, visitor(browser) as visiting:
        await live.publish("candles", dict(candles.example))
        page = await signed_in(visiting, live)
        await shows(page, "#candles h2", candles.title)
        head = await page.inner_text("#candles thead")
        assert "symbol" in head
        if candles.mode == "keyed":
            await shows(page, "#candles tbody", str(candles.example["symbol"]))
        await shows(page, "#raw-list", "candles")


async def test_a_row_that_changes_keeps_its_element(browser):
    async with served() as live, visitor(browser) as visiting:
        await desk(live)
        page = await signed_in(visiting, live)
        row = await page.query_selector("#market-data tbody tr")
        await live.publish("market-data", price(price="1.5"))
        await shows(page, "#market-data", "1.5")
        assert await row.evaluate("row => row.isConnected && row.innerText.includes('1.5')")


async def test_a_key_signs_in_and_out(browser):
    async with served() as live, visitor(browser) as visiting:
        page = await visiting.open(live.url)
        await page.fill("#key", live.secrets["desk"])
        await page.press("#key", "Enter")
        await word(page, "Live")
        cookies = await visiting.context.cookies()
        assert [(each["httpOnly"], each["sameSite"]) for each in cookies] == [(True, "Strict")]
        other = await visiting.open(live.url)
        await word(other, "Live")
        await page.click("#sign-out")
        for tab in (page, other):
            await tab.wait_for_selector("#sign-in:not([hidden])")
        assert await visiting.context.cookies() == []
        await live.everybody_gone()
        # The tab that takes over the stream may ask just as the session ends; Chromium logs that.
        visiting.problems = [each for each in visiting.problems if "status of 401" not in each]


async def test_a_wrong_key_is_shown_as_wrong(browser):
    async with served() as live, visitor(browser, outages=True) as visiting:
        page = await visiting.open(live.url)
        await page.fill("#key", "tc_nonsense")
        await page.press("#key", "Enter")
        await shows(page, "#sign-in-fault", "This key is not known here.")
        # Chromium logs every answer over 399 itself.
        visiting.problems = [each for each in visiting.problems if "status of 401" not in each]


POISON = (
    '<img src=x onerror="alert(1)">',
    "</script><script>alert(1)</script>",
    "\u202etxet desrever",
    "__proto__",
    "constructor",
    "{{7*7}} ${7*7}",
    "'\"><svg onload=alert(1)>",
    "\u0301\u0301\u0301" * 40 + "z",
    "w" * 128,
)


async def test_poison_is_text_and_nothing_else(browser):
    async with served() as live, visitor(browser) as visiting:
        page = await signed_in(visiting, live)
        before = await page.evaluate("document.querySelectorAll('img, script, svg').length")
        for index, text in enumerate(POISON):
            await live.publish(
                "positions", position(f"{index}{text}"[:128], symbol=text[:128], traderName=text)
            )
            await live.publish("trader-status", trader(text[:128], name=text, strategy=text))
            await live.publish("risk-alerts", alert(text[:128], message=text))
        await page.wait_for_function(
            "(many) => document.querySelectorAll('#risk-alerts tbody tr').length === many",
            arg=len(POISON),
        )
        after = await page.evaluate("document.querySelectorAll('img, script, svg').length")
        assert after == before
        for section in ("#positions", "#trader-status", "#risk-alerts"):
            reported = await page.locator(f"{section} tbody .main").all_text_contents()
            assert set(POISON) <= set(reported), section
        assert await page.evaluate("document.documentElement.scrollWidth") <= 1360


async def test_the_policy_stops_what_would_get_past_it(browser):
    async with served() as live, visitor(browser) as visiting:
        page = await signed_in(visiting, live)
        ran = await page.evaluate(
            """() => new Promise((resolve) => {
                const broken = (event) => resolve(event.effectiveDirective);
                addEventListener("securitypolicyviolation", broken);
                const script = document.createElement("script");
                script.textContent = "document.title = 'run'";
                document.head.append(script);
            })"""
        )
        assert ran == "script-src-elem"
        assert await page.title() == "Telecast"
        assert len(visiting.problems) == 1
        visiting.problems.clear()


async def test_messages_can_be_held_still_and_filtered(browser):
    async with served() as live, visitor(browser) as visiting:
        await desk(live)
        page = await signed_in(visiting, live)
        await shows(page, "#raw-list", "market-data")
        await page.select_option("#raw-filter", "risk-alerts")
        await page.wait_for_function("() => document.querySelectorAll('#raw-list li').length === 2")
        await page.click("#raw-pause")
        await live.publish("risk-alerts", alert("a3"))
        await shows(page, "#risk-alerts .count", "3")
        await shows(page, "#raw-count", "1 newer")
        assert await page.locator("#raw-list li").count() == 2
        await page.click("#raw-pause")
        await page.wait_for_function("() => document.querySelectorAll('#raw-list li').length === 3")
