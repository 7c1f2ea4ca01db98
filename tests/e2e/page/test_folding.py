"""The page's pure parts in Chromium: rows, sums, clocks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.browser import (
    visitor,
)
from tests.support.service.live import served

pytestmark = pytest.mark.asyncio(loop_scope="module")


FOLD = """async (messages) => {
    const { Rows } = await import("/client/telecast.js");
    const rows = new Rows();
    for (const message of messages) rows.apply(message);
    return [...rows.of("positions")].map(([key, { data }]) => [key, data]);
}"""


def reported(op: str, key: str, data: str = "") -> dict[str, Any]:
    return {"type": "event", "channel": "positions", "op": op, "key": key, "seq": 1, "data": data}


SNAPSHOT = {"type": "snapshot", "channels": ["positions"], "reason": "NEW"}
LIVE = {"type": "live", "count": 1, "position": "abcd:1"}


@pytest.mark.parametrize(
    ("messages", "rows"),
    [
        pytest.param(
            [reported("upsert", "a", "1"), reported("upsert", "a", "2"), reported("upsert", "b")],
            [["a", "2"], ["b", ""]],
            id="an upsert is the whole row",
        ),
        pytest.param(
            [reported("upsert", "a"), reported("delete", "a"), reported("delete", "b")],
            [],
            id="a delete takes it away, and one for nothing does nothing",
        ),
        pytest.param(
            [reported("upsert", "ghost"), SNAPSHOT, reported("upsert", "a"), LIVE],
            [["a", ""]],
            id="a snapshot is complete: other rows are forgotten",
        ),
        pytest.param(
            [reported("upsert", "a"), SNAPSHOT, {"type": "welcome"}, reported("upsert", "b"), LIVE],
            [["a", ""], ["b", ""]],
            id="a snapshot that was cut short counts for nothing",
        ),
        pytest.param(
            [reported("upsert", "a"), {"type": "ack", "channels": ["risk-alerts"]}],
            [],
            id="what may not be read any more is not shown any more",
        ),
        pytest.param(
            [reported("upsert", "a"), {"type": "something-new", "channels": ["positions"]}],
            [["a", ""]],
            id="unknown types are ignored",
        ),
    ],
)
async def test_the_page_folds_the_stream_as_the_contract_says(browser, messages, rows):
    async with served() as live, visitor(browser) as visiting:
        page = await visiting.open(live.url)
        assert await page.evaluate(FOLD, messages) == rows


async def test_the_delay_knows_that_clocks_differ(browser):
    async with served() as live, visitor(browser) as visiting:
        page = await visiting.open(live.url)
        offset, doubt, delay = await page.evaluate(
            """async () => {
                const { Clock, delayOf, foldLink, newLink } = await import("/client/telecast.js");
                const clock = new Clock();
                await clock.measure(async () => Date.now() + 5000);
                const at = Date.now();
                let link = newLink(at);
                for (const [name, message] of [
                    ["welcome", { heartbeatSeconds: 5 }], ["live", {}],
                    ["market-data", { timestamp: at + 5000 - 20 }],
                ]) link = foldLink(link, { name, at }, message, clock.offset);
                return [clock.offset, clock.doubt, delayOf(link, at)];
            }"""
        )
        assert abs(offset - 5000) <= doubt + 1
        assert abs(delay - 20) <= doubt + 2
