"""The page on any screen and anywhere: nothing is cut, it hangs on a wall, it stands in a frame."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from telecast.web.auth.cookies import sign_in_link
from tests.support.browser import cut, desk, rewritten, shows, signed_in, visitor, word
from tests.support.payloads import metrics, position, price, trader
from tests.support.service.live import principal, served

pytestmark = pytest.mark.asyncio(loop_scope="session")

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


async def test_a_wall_display_only_looks_and_wakes_by_itself(browser):
    async with served() as live, visitor(browser, outages=True) as visiting:
        await desk(live)
        await rewritten(visiting, "kiosk.js", "AGAIN_MS = 10_000;", "AGAIN_MS = 500;")
        await visiting.context.add_init_script(
            "WakeLock.prototype.request = async (what) => { window.awake = what; };"
        )
        link = sign_in_link(live.parts, principal().key_id)
        page = await visiting.open(live.url + link.replace("/#", "/?kiosk#"))
        await word(page, "Live")
        await shows(page, "#critical", "Stop everything.")
        assert await page.evaluate("awake") == "screen"
        buttons = page.locator("button:visible, summary:visible, input:visible, select:visible")
        names = await buttons.all_inner_texts()
        assert not [name for name in names if "Acknowledge" in name or "Sign out" in name]
        await page.keyboard.press("a")
        assert not await page.is_visible("#take")
        # Its session can't acknowledge either, whatever is sent with it.
        answer = await page.evaluate(
            """async () => {
                const headers = { "Content-Type": "application/json" };
                const path = "api/v1/risk-alerts/a2/acknowledge";
                return (await fetch(path, { method: "POST", headers, body: "{}" })).status;
            }"""
        )
        assert answer in (401, 403)
        # It heals after a cut, and after its session was over and somebody has signed in again.
        cut(live)
        await word(page, "Live")
        tab = await visiting.open(live.url)
        await word(tab, "Live")
        await tab.click("#sign-out")
        await page.wait_for_selector("#sign-in:not([hidden])")
        await tab.fill("#key", live.secrets["desk"])
        await tab.press("#key", "Enter")
        await word(page, "Live")
        assert await page.evaluate("'kiosk' in document.documentElement.dataset")
        visiting.problems = [each for each in visiting.problems if "status of 40" not in each]


@asynccontextmanager
async def framing(address: str) -> AsyncIterator[str]:
    """A page of another origin of the same site that has ours in a frame."""

    async def page(request: web.Request) -> web.Response:
        body = f'<!doctype html><iframe src="{address}" width="1300" height="800"></iframe>'
        return web.Response(text=body, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_the_page_stands_in_a_frame_where_that_is_allowed_and_nowhere_else(browser):
    async with served() as live, visitor(browser) as visiting, framing(live.url) as origin:
        await desk(live)
        await signed_in(visiting, live)
        outside = await visiting.open(origin)
        inside = outside.frames[1]
        await inside.wait_for_load_state()
        assert "Telecast" not in await inside.content()
        refused = [each for each in visiting.problems if "frame" in each.lower()]
        assert refused
        visiting.problems.clear()
        async with live.session.get(live.url) as answer:
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        settings = dataclasses.replace(live.parts.settings, frame_ancestors=(origin,))
        live.parts.change(settings)
        await outside.goto(origin)
        frame = next(each for each in outside.frames if urlsplit(each.url).netloc in live.url)
        await frame.wait_for_function(
            "() => document.querySelector('#state-word')?.innerText === 'Live'"
        )
        async with live.session.get(live.url) as answer:
            assert "X-Frame-Options" not in answer.headers
            policy = answer.headers["Content-Security-Policy"]
            assert f"frame-ancestors {origin}" in policy
        # What Chromium logs of a refusal may come late.
        visiting.problems = [each for each in visiting.problems if "frame" not in each.lower()]


async def test_the_page_can_be_installed(browser):
    async with served() as live, visitor(browser) as visiting:
        page = await signed_in(visiting, live)
        session = await visiting.context.new_cdp_session(page)
        found = await session.send("Page.getAppManifest")
        assert found["errors"] == []
        assert found["url"].startswith(live.url)
        errors = (await session.send("Page.getInstallabilityErrors"))["installabilityErrors"]
        names = {each["errorId"] for each in errors}
        assert names <= {"in-incognito"}, names
