"""Tabs share one stream, and survive the one that holds it."""

from __future__ import annotations

import pytest

from tests.support.browser import (
    desk,
    logged,
    patient,
    role,
    shows,
    signed_in,
    visitor,
    word,
)
from tests.support.payloads import price
from tests.support.service.live import served

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_tabs_share_one_stream_and_survive_its_holder(browser):
    async with served() as live, visitor(browser) as visiting:
        await patient(visiting)
        await desk(live)
        first = await signed_in(visiting, live)
        await role(first, "leader")
        # A late one is given the rows, though nothing happens just now.
        second = await visiting.open(live.url)
        third = await visiting.open(live.url)
        for tab in (second, third):
            await role(tab, "follower")
            await word(tab, "Live")
            await shows(tab, "#positions", "Ada")
        assert len(live.parts.clients) == 1
        await live.publish("market-data", price(price="61000.00"))
        for tab in (first, second, third):
            await shows(tab, "#market-data", "61,000.00")
        await first.close()
        await second.wait_for_function(
            "() => ['leader', 'follower'].includes(document.documentElement.dataset.role)"
        )
        await logged(second, "resumed at .*, 0 replayed")
        await logged(third, "resumed at .*, 0 replayed")
        await live.until(lambda: len(live.parts.clients) == 1)
        await live.publish("market-data", price(price="62000.00"))
        for tab in (second, third):
            await shows(tab, "#market-data", "62,000.00")
        roles = {
            await tab.evaluate("document.documentElement.dataset.role") for tab in (second, third)
        }
        assert roles == {"leader", "follower"}


async def test_a_tab_that_can_not_share_has_a_stream_of_its_own(browser):
    async with served() as live, visitor(browser) as visiting:
        await visiting.context.add_init_script(
            "Object.defineProperty(Navigator.prototype, 'locks', { get: () => undefined })"
        )
        await desk(live)
        first = await signed_in(visiting, live)
        second = await visiting.open(live.url)
        for tab in (first, second):
            await role(tab, "alone")
            await shows(tab, "#positions", "Ada")
        assert len(live.parts.clients) == 2


async def test_a_holder_that_is_frozen_is_not_waited_for(browser):
    async with served() as live, visitor(browser) as visiting:
        await desk(live)
        frozen = await visiting.open(live.url)  # not signed in: it has no stream itself
        await frozen.evaluate(
            """() => new Promise((held) => navigator.locks.request("telecast stream 2", () => {
                held();
                return new Promise(() => {});
            }))"""
        )
        page = await signed_in(visiting, live)
        await role(page, "alone")
        await shows(page, "#positions", "Ada")
