"""The JavaScript client over a browser's own WebSocket: a key, a cut, a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.browser import HEALS_MS, signed_in, visitor
from tests.support.payloads import position
from tests.support.service.live import Live, served

OPEN = """async ([url, options, channel]) => {
    const { Client } = await import("/client/telecast.js");
    window.view = new Client(url, { transport: "websocket", ...options }).view(channel);
}"""

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def becomes(page: Any, expression: str) -> None:
    await page.wait_for_function(f"() => {expression}", timeout=HEALS_MS)


def sockets(live: Live) -> int:
    return sum(client.transport == "ws" for client in live.parts.clients)


@pytest.mark.parametrize("way", ["session", "key"])
async def test_a_view_over_a_websocket_goes_on_from_where_it_was_cut(browser, way):
    async with served() as live, visitor(browser) as visiting:
        await live.publish("positions", position("p1", unrealizedPnL="1"))
        page = await signed_in(visiting, live)
        options = {"key": live.secrets["desk"]} if way == "key" else {}
        await page.evaluate(OPEN, ["", options, "positions"])
        await becomes(page, "view.state === 'live' && view.get('p1').unrealizedPnL === '1'")
        assert sockets(live) == 1
        for client in live.parts.clients:
            if client.transport == "ws":
                client.subscriber.sink.abort()
        await becomes(page, "view.state === 'reconnecting' && view.size === 1")
        await live.publish("positions", position("p2", unrealizedPnL="2"))
        await becomes(page, "view.state === 'live' && view.has('p2')")
        assert sockets(live) == 1


async def test_a_websocket_that_is_refused_ends_a_view_with_the_reason(browser):
    async with served() as live, visitor(browser) as visiting:
        page = await signed_in(visiting, live)
        await page.evaluate(OPEN, ["", {}, "no-such"])
        await becomes(page, "view.ended?.code === 'UNKNOWN_CHANNEL'")
        visiting.problems.clear()  # the browser logs each 404
