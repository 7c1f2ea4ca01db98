"""The debugger: a stream that is cut and resumed at will, and a publish from a form."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.browser import shows, signed_in, visitor
from tests.support.payloads import price
from tests.support.service.live import Live, principal, served

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def opened(visiting: Any, live: Live) -> Any:
    page = await signed_in(visiting, live)
    await page.keyboard.press("g")
    await page.keyboard.press("d")
    await page.wait_for_selector("#debug", state="visible")
    return page


def ours(live: Live) -> list[str]:
    """The transports of the debugger's connections."""
    return [each.transport for each in live.parts.clients if each.client_id == "debugger"]


async def test_a_stream_is_cut_and_resumed_over_the_other_transport(browser):
    async with served() as live, visitor(browser) as visiting:
        await live.publish("market-data", price(price="1.5"), price("ETHUSDT"))
        page = await opened(visiting, live)
        await page.fill("#debug input[name=channels]", "market-data")
        await page.fill("#debug input[name=filter]", "symbol")
        await page.click("#debug .debug-form .primary")
        await shows(page, "#say-now", "write field=value")
        await page.fill("#debug input[name=filter]", "symbol=BTCUSDT")
        await page.click("#debug .debug-form .primary")
        await shows(page, "#debug .debug-state", "Live, SSE")
        assert ours(live) == ["sse"]
        await live.publish("market-data", price(price="2.5"))
        await shows(page, "#debug-list", '"2.5"')
        assert "ETHUSDT" not in await page.inner_text("#debug-list")
        await page.click("#debug-diff")
        await shows(page, "#debug-list", "BINANCE:BTCUSDT: price 1.5 \u2192 2.5")
        await page.click("#debug-diff")
        await page.click("#debug .debug-cut")
        await shows(page, "#debug .debug-state", "Cut")
        await live.until(lambda: not ours(live))
        await live.publish("market-data", price(price="3.5"))
        await page.click("#debug .debug-change")
        await shows(page, "#debug .debug-state", "Live, WebSocket")
        await shows(page, "#debug-list", '"3.5"')
        await shows(page, "#debug-list", '"type":"resume"')
        assert ours(live) == ["ws"]
        # It is searched, and held still.
        await page.fill("#debug-search", "3.5")
        await page.wait_for_function(
            "() => document.querySelectorAll('#debug-list li').length === 1"
        )
        await page.click("#debug-pause")
        await live.publish("market-data", price(price="3.55"))
        await shows(page, "#debug .count", "newer")
        assert "3.55" not in await page.inner_text("#debug-list")
        await page.click("#debug .debug-copy summary")
        await shows(page, "#debug .debug-copy pre", "channels=market-data&symbol=BTCUSDT")
        await page.select_option("#debug .debug-copy select", "tail")
        wanted = f"telecast tail market-data --url {live.url} --ws --filter symbol=BTCUSDT"
        await shows(page, "#debug .debug-copy pre", wanted)


async def test_a_payload_is_published_from_the_form_of_its_schema(browser):
    writer = principal("Writer", "read", "publish")
    async with served(principal(), writer) as live, visitor(browser) as visiting:
        page = await opened(visiting, live)
        await page.click("#debug .debug-publish summary")
        await page.select_option("#debug .debug-publish > form select >> nth=0", "market-data")
        assert await page.is_disabled("#debug .debug-publish form .primary")
        await page.fill("#debug .key-form input", live.secrets["Writer"])
        await page.press("#debug .key-form input", "Enter")
        await shows(page, "#debug .key-held", "Writer")
        await page.fill("#debug input[name=price]", "")
        await page.click("#debug .debug-publish form .primary")
        await shows(page, "#debug .debug-answer", "price is missing.")
        await page.fill("#debug input[name=price]", "12,5")
        await page.click("#debug .debug-publish form .primary")
        await shows(page, "#debug .debug-answer", "Not published")
        await page.fill("#debug input[name=price]", "67999.25")
        await page.click("#debug .debug-publish form .primary")
        await shows(page, "#debug .debug-answer", f"Published at {live.epoch}:1")
        await shows(page, "#market-data", "67,999.25")
        visiting.problems = [each for each in visiting.problems if "status of 422" not in each]
