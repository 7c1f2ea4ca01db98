"""Tables that are worked with: thousands of rows, search, order, groups, columns, filters."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.browser import HEALS_MS, MINUS, cut, desk, shows, signed_in, visitor, word
from tests.support.payloads import position, price, trader
from tests.support.service.live import Live, served

pytestmark = pytest.mark.asyncio(loop_scope="session")

MANY = 10_000
HUGE = "-9007199254740993.5"
"""More than a float can hold."""


async def symbols(page: Any, panel: str = "#positions") -> list[str]:
    found: list[str] = await page.locator(f"{panel} tbody td.first .main").all_inner_texts()
    return found


async def until_symbols(page: Any, expected: list[str]) -> None:
    await page.wait_for_function(
        """(expected) => JSON.stringify([...document.querySelectorAll(
            "#positions tbody td.first .main")].map((each) => each.innerText)) === expected""",
        arg=str(expected).replace("'", '"').replace(" ", "").replace('","', '","'),
        timeout=HEALS_MS,
    )


async def test_ten_thousand_rows_cost_a_screenful_of_elements(browser):
    async with served() as live, visitor(browser) as visiting:
        for start in range(0, MANY, 1000):
            rows = (
                position(f"p{each:05}", symbol=f"S{each:05}") for each in range(start, start + 1000)
            )
            await live.publish("positions", *rows)
        page = await signed_in(visiting, live)
        await shows(page, "#positions .count", "10,000")
        assert await page.locator("#positions tbody tr[data-key]").count() < 60
        await page.evaluate(
            """() => {
                const box = document.querySelector("#positions .scroller");
                box.scrollTop = box.scrollHeight;
            }"""
        )
        await shows(page, "#positions", "S09999")
        assert await page.locator("#positions tbody tr[data-key]").count() < 60
        await page.keyboard.press("/")
        await page.keyboard.type("s07777")
        await until_symbols(page, ["S07777"])
        await page.keyboard.press("Escape")
        await page.wait_for_function(
            "() => document.querySelectorAll('#positions tbody tr[data-key]').length > 5"
        )


async def holdings(live: Live) -> None:
    await live.publish(
        "positions",
        position("p1", "t1", traderName="Ada", symbol="BTCUSDT", unrealizedPnL="0.1"),
        position("p2", "t1", traderName="Ada", symbol="ETHUSDT", unrealizedPnL="0.2"),
        position(
            "p3", "t2", traderName="Bob", symbol="SOLBTC", unrealizedPnL="-9007199254740993.5"
        ),
        position("p4", "t2", traderName="Bob", symbol="XBTUSD", unrealizedPnL="10"),
    )


async def test_rows_are_sorted_by_any_column_exactly_and_money_within_its_currency(browser):
    async with served() as live, visitor(browser) as visiting:
        await holdings(live)
        page = await signed_in(visiting, live)
        await until_symbols(page, ["BTCUSDT", "ETHUSDT", "SOLBTC", "XBTUSD"])
        sort = page.locator("#positions th button", has_text="P&L")
        await sort.click()
        await until_symbols(page, ["SOLBTC", "XBTUSD", "ETHUSDT", "BTCUSDT"])
        assert await page.get_attribute("#positions th[aria-sort]", "aria-sort") == "descending"
        await sort.click()
        await until_symbols(page, ["SOLBTC", "XBTUSD", "BTCUSDT", "ETHUSDT"])
        # It follows what moves, and is there again after a reload.
        more = position("p1", "t1", symbol="BTCUSDT", unrealizedPnL="0.2000000000000000001")
        await live.publish("positions", more)
        await until_symbols(page, ["SOLBTC", "XBTUSD", "ETHUSDT", "BTCUSDT"])
        await page.reload()
        await until_symbols(page, ["SOLBTC", "XBTUSD", "ETHUSDT", "BTCUSDT"])


async def test_groups_have_exact_totals_and_never_add_two_currencies(browser):
    async with served() as live, visitor(browser) as visiting:
        await holdings(live)
        page = await signed_in(visiting, live)
        await page.select_option("#positions .group-by", "trader")
        await page.wait_for_selector("#positions tr.group")
        heads = await page.locator("#positions tr.group").all_inner_texts()
        assert [" ".join(each.split()) for each in heads] == [
            "Ada · 2 · +0.3 USDT",
            f"Bob · 2 · {MINUS}9,007,199,254,740,993.5 BTC · +10 USD",
        ]
        await page.select_option("#positions .group-by", "quote")
        await shows(page, "#positions tr.group", "BTC")
        heads = await page.locator("#positions tr.group").all_inner_texts()
        assert [each.split()[0] for each in heads] == ["BTC", "USD", "USDT"]
        tiles = [await page.inner_text(f"#sum-pnl{each}") for each in ("", "-note")]
        for text in ("BTC", "+10 USD", "+0.3 USDT"):
            assert text in " ".join(tiles)


async def test_a_filter_is_the_services_and_less_is_sent(browser):
    async with served() as live, visitor(browser) as visiting:
        await holdings(live)
        page = await signed_in(visiting, live)
        await page.click("#filter summary")
        await page.fill("#filter input[name=traderId]", "t2")
        await page.press("#filter input[name=traderId]", "Enter")
        await until_symbols(page, ["SOLBTC", "XBTUSD"])
        await word(page, "Live")
        await shows(page, "#filter-words", "t2")
        await live.until(lambda: len(live.parts.clients) == 1)
        await live.publish("positions", position("p5", "t1", symbol="HIDDEN"))
        await live.publish("positions", position("p6", "t2", symbol="SHOWN"))
        await until_symbols(page, ["SHOWN", "SOLBTC", "XBTUSD"])
        assert "HIDDEN" not in await page.inner_text("#raw-list")
        await page.click("#filter-clear")
        await until_symbols(page, ["BTCUSDT", "ETHUSDT", "HIDDEN", "SHOWN", "SOLBTC", "XBTUSD"])


async def test_a_row_is_shown_in_full(browser):
    async with served() as live, visitor(browser) as visiting:
        await live.publish("positions", position("p1", unrealizedPnL="1.5", reason="trend"))
        await live.publish("positions", position("p1", unrealizedPnL="2.5", reason="trend"))
        await live.publish("positions", position("p2", symbol="ETHUSDT"))
        page = await signed_in(visiting, live)
        await live.publish("positions", position("p1", unrealizedPnL="3.5", reason="trend"))
        await shows(page, "#positions", "+3.5")
        await page.click("#positions tr[data-key=p1]")
        await shows(page, "#detail-fields", "trend")
        await shows(page, "#detail-changed", "2.5 \u2192 3.5")
        await shows(page, "#detail-raw", '"unrealizedPnL": "3.5"')
        await page.wait_for_selector("#detail-history .history li")
        assert await page.locator("#detail-history .history li").count() == 3
        await page.keyboard.press("Escape")
        await page.wait_for_selector("#detail", state="hidden")


async def test_tables_are_moved_in_by_keyboard(browser):
    async with served() as live, visitor(browser) as visiting:
        await holdings(live)
        await live.publish("market-data", price())
        page = await signed_in(visiting, live)
        await shows(page, "#positions", "XBTUSD")
        await page.keyboard.press("g")
        await page.keyboard.press("p")
        for _ in range(3):
            await page.keyboard.press("ArrowDown")
        await page.wait_for_function("() => document.activeElement.dataset.key === 'p3'")
        await page.keyboard.press("Enter")
        await shows(page, "#detail-title", "p3")
        await page.keyboard.press("Escape")
        await page.keyboard.press("?")
        await shows(page, "#help", "search all tables")
        await page.keyboard.press("Escape")
        await page.wait_for_selector("#help", state="hidden")


async def test_a_desk_is_kept_and_goes_along_in_a_link(browser):
    async with served() as live, visitor(browser) as visiting, visitor(browser) as another:
        await desk(live)
        page = await signed_in(visiting, live)
        await page.click("#raw .panel-menu summary")
        await page.click("#raw .menu-body button:has-text('Hide')")
        await page.wait_for_selector("#raw", state="hidden")
        await page.click("#positions .panel-menu summary")
        await page.click("#positions .menu-body .wider")
        await page.reload()
        await word(page, "Live")
        assert not await page.is_visible("#raw")
        link = await page.evaluate(
            """async () => {
                const { Prefs } = await import("/page/prefs.js");
                return new Prefs().link();
            }"""
        )
        elsewhere = await signed_in(another, live)
        assert await elsewhere.is_visible("#raw")
        await elsewhere.goto("about:blank")
        await elsewhere.goto(link)
        await word(elsewhere, "Live")
        assert not await elsewhere.is_visible("#raw")
        width = "document.querySelector('#positions').style.getPropertyValue('--w')"
        assert await elsewhere.evaluate(width) == "9"
        await elsewhere.click("#hidden-panels summary")
        await elsewhere.click("#hidden-panels button:has-text('Messages')")
        await elsewhere.wait_for_selector("#raw", state="visible")


async def test_a_trader_holds_at_every_moment_what_the_positions_say(browser):
    async with served() as live, visitor(browser) as visiting:
        await live.publish("trader-status", trader("t1", name="Ada"))
        await holdings(live)
        page = await signed_in(visiting, live)
        await page.select_option("#positions .group-by", "trader")
        await shows(page, "#positions tr.group", "Ada")
        await page.evaluate(
            """() => {
                window.differ = [];
                window.said = new Set();
                const look = () => {
                    const group = document.querySelector("#positions tr.group").innerText;
                    const words = group.split("\u00b7").slice(1).map((each) => each.trim());
                    const held = document.querySelector("#trader-status .holds").innerText;
                    said.add(held);
                    if (words.join(" \u00b7 ") !== held) differ.push([group, held]);
                    requestAnimationFrame(look);
                };
                requestAnimationFrame(look);
            }"""
        )
        for number in range(10):
            changed = position("p1", "t1", traderName="Ada", unrealizedPnL=f"{number}.5")
            await live.publish("positions", changed)
            await shows(page, "#positions tr.group", f"+{number}.7 USDT")
        more = position("p9", "t1", traderName="Ada", unrealizedPnL="-0.125")
        await live.publish("positions", more)
        await shows(page, "#trader-status .holds", "3 \u00b7 +9.57 USDT")
        assert await page.evaluate("differ") == []
        assert await page.evaluate("said.size") > 5


async def test_a_pinned_row_stays_on_top(browser):
    async with served() as live, visitor(browser) as visiting:
        await holdings(live)
        page = await signed_in(visiting, live)
        await until_symbols(page, ["BTCUSDT", "ETHUSDT", "SOLBTC", "XBTUSD"])
        await page.focus("#positions tr[data-key=p3]")
        await page.keyboard.press("p")
        await until_symbols(page, ["SOLBTC", "BTCUSDT", "ETHUSDT", "XBTUSD"])
        await page.wait_for_function("() => document.activeElement.dataset.key === 'p3'")
        await page.keyboard.press("ArrowDown")
        await page.wait_for_function("() => document.activeElement.dataset.key === 'p1'")
        await page.locator("#positions th button", has_text="P&L").click()
        await until_symbols(page, ["SOLBTC", "XBTUSD", "ETHUSDT", "BTCUSDT"])
        await live.publish("positions", position("p3", "t2", symbol="SOLBTC", unrealizedPnL="4"))
        await shows(page, "#positions .pins", "+4")
        await page.reload()
        await until_symbols(page, ["SOLBTC", "XBTUSD", "ETHUSDT", "BTCUSDT"])
        await page.click("#positions tr[data-key=p3]")
        await page.click("#detail .pin")
        await shows(page, "#detail .pin", "Pin to the top")
        await page.keyboard.press("Escape")
        await page.wait_for_selector("#positions .pins", state="detached")
        await until_symbols(page, ["SOLBTC", "XBTUSD", "ETHUSDT", "BTCUSDT"])


async def test_a_trader_says_what_it_holds_and_leads_there(browser):
    async with served() as live, visitor(browser, outages=True) as visiting:
        await live.publish(
            "trader-status",
            *(trader(id, name=name) for id, name in (("t1", "Ada"), ("t2", "Bob"), ("t3", "Cy"))),
        )
        await holdings(live)
        page = await signed_in(visiting, live)
        await shows(page, "#trader-status tr[data-key=t1] .holds", "2 \u00b7 +0.3 USDT")
        await shows(page, "#trader-status tr[data-key=t2] .holds", "2 \u00b7 2 currencies")
        each = f"{MINUS}9,007,199,254,740,993.5 BTC \u00b7 +10 USD"
        assert await page.get_attribute("#trader-status tr[data-key=t2] .holds", "title") == each
        await shows(page, "#trader-status tr[data-key=t3] .holds", "none")
        await live.publish("positions", position("p5", "t3", unrealizedPnL="-7"))
        await shows(page, "#trader-status tr[data-key=t3] .holds", f"1 \u00b7 {MINUS}7 USDT")
        await page.click("#trader-status tr[data-key=t2] .holds")
        await until_symbols(page, ["SOLBTC", "XBTUSD"])
        await shows(page, "#filter-words", "t2")
        focused = "() => document.activeElement.closest('.panel')?.id === 'positions'"
        await page.wait_for_function(focused)
        # It looks as old as the positions that it is made of.
        await page.context.set_offline(True)
        cut(live)
        await page.wait_for_selector("#trader-status .holds[data-stale]")
