"""Truth first: each state is in words and colour, and nothing looks fresh that is not."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from telecast.channels.catalogue import CHANNELS, Catalogue
from telecast.web.auth.cookies import sign_in_link
from tests.support.browser import (
    HEALS_MS,
    come_by_link,
    cut,
    desk,
    note,
    noting_words,
    shows,
    signed_in,
    visitor,
    word,
)
from tests.support.payloads import position, price
from tests.support.service.live import Live, principal, served
from tests.support.service.process import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")

SLOW_BYTES = 3_000
"""Bytes a second that come through a throttled line."""
SESSION, PROBES = "/api/v1/session", 4
"""Where the page asks what time it is, and how often for one comparison of the clocks."""


def stale_after(seconds: float, *names: str) -> Catalogue:
    """The usual channels, of which these are stale so soon and the others never."""
    return Catalogue(
        dataclasses.replace(each, stale_after=seconds if name in names else None)
        for name, each in CHANNELS.items()
    )


@asynccontextmanager
async def market(live: Live) -> AsyncIterator[None]:
    """Prices that keep coming, ten times a second: the load under which a line or a browser is
    slow. Nothing waits for the pause between them."""

    async def go_on() -> None:
        number = 0
        while True:
            number += 1
            rows = (price(f"S{each}USDT", price=f"{number}.5") for each in range(20))
            await live.publish("market-data", *rows)
            await asyncio.sleep(0.1)

    going = asyncio.ensure_future(go_on())
    try:
        yield
    finally:
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)


async def tone(page: Any) -> str:
    found: str = await page.get_attribute("#state", "data-tone")
    return found


async def looks_old(page: Any, text: str) -> None:
    """Wait until the row with this text has lost its colour and says its age."""
    await page.wait_for_function(
        """(text) => [...document.querySelectorAll("tr[data-stale]")].some((row) =>
            row.innerText.includes(text) && / old/.test(row.innerText))""",
        arg=text,
        timeout=HEALS_MS,
    )


async def test_a_dead_publisher_is_no_green_light(browser):
    catalogue = stale_after(1.5, "market-data")
    async with served(catalogue=catalogue) as live, visitor(browser) as visiting:
        await desk(live)
        page = await come_by_link(visiting, live)
        await word(page, "Stale")
        assert await tone(page) == "bad"
        assert (await note(page, "Market data")).startswith("Market data: nothing published since")
        await shows(page, "#market-data .fresh", "stale: nothing since")
        await looks_old(page, "67,250.10")
        assert "Stale" in await page.title()
        # Another channel that never is stale does not look so.
        assert await page.get_attribute("#positions", "data-state") == "live"
        await live.publish("market-data", price(price="67300.00"))
        await word(page, "Live")
        assert await tone(page) == "good"


async def test_a_row_that_stands_still_looks_old_while_others_move(browser):
    catalogue = stale_after(1.5, "market-data")
    async with served(catalogue=catalogue) as live, visitor(browser) as visiting:
        await live.publish("market-data", price("OLDUSDT"))
        page = await come_by_link(visiting, live)
        async with market(live):
            await looks_old(page, "OLDUSDT")
            await shows(page, "#market-data", "S0USDT")
            fresh = await page.evaluate(
                """() => [...document.querySelectorAll("#market-data tr[data-key]")]
                    .filter((row) => !("stale" in row.dataset)).map((row) => row.innerText)"""
            )
            assert len(fresh) > 5
            assert not [each for each in fresh if "OLDUSDT" in each]


async def test_what_a_key_may_not_see_is_not_called_empty(browser):
    holder = principal("prices", "read", channels=("market-data",))
    async with served(principal(), holder) as live, visitor(browser) as visiting:
        await desk(live)
        page = await visiting.open(live.url)
        await page.fill("#key", live.secrets["prices"])
        await page.press("#key", "Enter")
        await word(page, "Live")
        await shows(page, "#positions", "may not read this channel")
        await shows(page, "#positions .fresh", "not visible")
        assert "No open positions" not in await page.inner_text("#positions")
        await shows(page, "#sum-pnl-note", "not visible")
        await shows(page, "#market-data", "67,250.10")


async def test_a_service_that_is_killed_is_called_down_and_heals(browser, tmp_path):
    service = Service(tmp_path)
    await service.start()
    try:
        async with visitor(browser, outages=True) as visiting:
            page = await visiting.open(service.url)
            await page.fill("#key", service.key)
            await page.press("#key", "Enter")
            await word(page, "Live")
            await shows(page, "#positions", "No open positions.")
            await noting_words(page)
            service.kill()
            await service.gone()
            await word(page, "Service down")
            assert await tone(page) == "bad"
            assert "Reconnecting" in await page.evaluate("words")
            await shows(page, "#positions .fresh", "not live: service down")
            await shows(page, "#risk-alerts .fresh", "not live: service down")
            assert re.search(
                r"^nobody has answered for \d+ s; this is how it stood at \S+; next try in \d+ s$",
                await note(page, "nobody has answered.*next try"),
            )
            # Where the head is out of sight, a line says it.
            assert not await page.is_visible("#line")
            await page.locator("footer").scroll_into_view_if_needed()
            await shows(page, "#line", "Service down: nobody has answered")
            await service.start()
            # Somebody who does not wait for the next try.
            await page.evaluate("document.querySelector('#state-now').click()")
            await word(page, "Live")
            assert not await page.is_visible("#state-now")
    finally:
        await service.end()


class Line:
    """A way to the service that can be made slow; what waits in it is little."""

    def __init__(self, port: int) -> None:
        self.bytes_per_second: float | None = None
        self._port = port

    async def _carry(self, reader: Any, writer: Any, *, slowly: bool) -> None:
        try:
            while piece := await reader.read(1024):
                if slowly and self.bytes_per_second:
                    await asyncio.sleep(len(piece) / self.bytes_per_second)
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def connected(self, reader: Any, writer: Any) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port, limit=2048)
        await asyncio.gather(
            self._carry(reader, back, slowly=False), self._carry(there, writer, slowly=True)
        )


async def test_a_slow_line_says_delayed(browser):
    async with served() as live, visitor(browser) as visiting:
        line = Line(urlsplit(live.url).port)
        server = await asyncio.start_server(line.connected, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        page = await visiting.open(url + sign_in_link(live.parts, principal().key_id))
        await word(page, "Live")
        async with market(live):
            await shows(page, "#market-data", "S0USDT")
            assert await page.inner_text("#state-word") == "Live"
            line.bytes_per_second = SLOW_BYTES
            await word(page, "Delayed")
            assert await page.get_attribute("#sum-lag", "data-tone") in ("late", "loss")
            assert await tone(page) in ("warn", "bad")
            await shows(page, "#market-data .fresh", "delayed by")
            assert await page.locator("#market-data tr[data-key]:not([data-stale])").count() == 0
            line.bytes_per_second = None
            await word(page, "Live")
        await page.close()
        server.close()


async def test_a_browser_that_can_not_keep_up_says_delayed(browser):
    async with served() as live, visitor(browser) as visiting:
        page = await signed_in(visiting, live)
        async with market(live):
            await shows(page, "#market-data", "S0USDT")
            await page.evaluate(
                """() => {
                    const parse = JSON.parse;
                    window.quick = () => (JSON.parse = parse);
                    JSON.parse = (text) => {
                        for (const end = performance.now() + 15; performance.now() < end; );
                        return parse(text);
                    };
                }"""
            )
            await word(page, "Delayed")
            await page.evaluate("quick()")
            await word(page, "Live")


async def test_a_clock_that_is_set_is_found_out(browser):
    async with served() as live, visitor(browser) as visiting:
        await desk(live)
        page = await signed_in(visiting, live)
        await shows(page, "#sum-lag-note", "agree")
        await page.evaluate(
            "() => { const now = Date.now.bind(Date); Date.now = () => now() + 3600_000; }"
        )
        await shows(page, "#sum-lag-note", "fast")
        await word(page, "Live")
        await live.publish("positions", position("p1", unrealizedPnL="7"))
        await shows(page, "#positions", "+7")
        await page.wait_for_function(  # a busy machine may be late for a moment
            "() => document.querySelectorAll('#positions tr[data-stale]').length === 0"
        )


async def test_a_page_that_finds_nobody_says_so(browser):
    async with visitor(browser, outages=True) as visiting, served() as live:
        page = await visiting.open(live.url)
        await page.wait_for_selector("#sign-in:not([hidden])")
        url = live.url
        await page.route("**/api/v1/session", lambda route: route.abort())
        await page.goto(url)
        await shows(page, "#starting", "Service down")


async def test_a_computer_that_slept_for_an_hour_shows_nothing_of_before_as_fresh(browser):
    slept = 0.0
    async with (
        served(now=lambda: time.time() + slept) as live,
        visitor(browser, outages=True) as visiting,
    ):
        await visiting.context.add_init_script(
            """(() => {
                const now = Date.now.bind(Date);
                self.slept = 0;
                Date.now = () => now() + self.slept;
            })()"""
        )
        await desk(live)
        page = await signed_in(visiting, live)
        await noting_words(page)
        compared: list[str] = []
        page.on("requestfinished", lambda each: each.url.endswith(SESSION) and compared.append(""))
        # It wakes without its connection. All clocks have gone on by an hour, its timers have not.
        slept = 3600.0
        cut(live)
        await page.evaluate("() => { self.slept = 3600_000; }")
        await looks_old(page, "67,250.10")
        # Nor once it has compared the clocks anew.
        await live.until(lambda: len(compared) >= PROBES)
        await looks_old(page, "67,250.10")
        await looks_old(page, "Ada")
        await word(page, "Stale")
        assert (await page.evaluate("words"))[0] in ("Delayed", "Reconnecting", "Stale")
        await desk(live)
        await word(page, "Live")
        await page.wait_for_selector("#positions tr[data-key=p1]:not([data-stale])")


async def test_a_channel_that_never_was_published_to_is_called_so_and_is_no_alarm(browser):
    catalogue = stale_after(1.0, "market-data")
    async with served(catalogue=catalogue) as live, visitor(browser) as visiting:
        await live.publish("positions", position("p1"))
        await live.until(lambda: "market-data" in live.parts.staleness.stale)
        page = await come_by_link(visiting, live)
        await shows(page, "#market-data .fresh", "never published to")
        await word(page, "Live")
        await shows(page, "#market-data", "No prices yet.")
        await live.publish("market-data", price(price="67300.00"))
        await shows(page, "#market-data .fresh", "published")
        await looks_old(page, "67,300.00")
        await word(page, "Stale")
