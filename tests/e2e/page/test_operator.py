"""The operator's view: by a key that only this tab knows."""

from __future__ import annotations

import pytest

from tests.support.browser import desk, shows, signed_in, visitor
from tests.support.service.live import principal, served

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_operator_sees_who_is_connected_and_cuts_off(browser):
    holders = principal(), principal("Bob", "read"), principal("Root", "read", "admin")
    async with served(*holders) as live, visitor(browser) as visiting:
        await desk(live)
        page = await signed_in(visiting, live)
        assert not await page.is_visible("#operator")
        await page.keyboard.press("g")
        await page.keyboard.press("o")
        await shows(page, "#operator", "needs a key")
        key = page.locator("#operator input[type=password]")
        await key.fill("tc_nonsense")
        await key.press("Enter")
        await shows(page, "#operator .key-form .fault", "not known here")
        await key.fill(live.secrets["Bob"])
        await key.press("Enter")
        await shows(page, "#operator .key-form .fault", "lacks the scope")
        async with live.ws(who="Bob", channels="positions", clientId="his-desk") as bob:
            await bob.opening()
            await key.fill(live.secrets["Root"])
            await key.press("Enter")
            await shows(page, "#operator", "his-desk")
            row = page.locator("#operator tr[data-key]", has_text="his-desk")
            assert "live" in (await row.inner_text()).lower()
            await shows(page, "#operator .op-figures", "2 (WebSocket 1, SSE 1)")
            await row.locator(".cut").click()
            await shows(page, "#cut-what", "Bob (his-desk), WS from 127.0.0.1")
            await page.keyboard.press("Escape")
            await row.locator(".cut").click()
            await page.fill("#cut-reason", "maintenance of your desk")
            await page.press("#cut-reason", "Enter")
            last, code = await bob.rest()
            assert last[-1].body["code"] == "KICKED"
            assert "maintenance of your desk" in last[-1].body["message"]
            assert code == 4410
        await shows(page, "#operator .history", "kick")
        await row.wait_for(state="detached")
        await shows(page, "#operator", "market-data")
        # The key is nowhere but in the memory of this tab.
        kept = await page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
        for where in (kept, str(await visiting.context.cookies()), await page.content()):
            assert live.secrets["Root"] not in where
        await page.reload()
        await shows(page, "#operator", "needs a key")


async def test_a_node_that_does_not_answer_is_named_above_the_list(browser):
    async with served() as live, visitor(browser) as visiting:

        async def with_a_missing_node(route):
            answer = await route.fetch()
            body = await answer.json()
            body["data"]["missing"] = {"desk-2-90c1": "It did not answer within 2 s."}
            await route.fulfill(response=answer, json=body)

        page = await signed_in(visiting, live)
        await page.route("**/api/v1/clients?*", with_a_missing_node)
        await page.keyboard.press("g")
        await page.keyboard.press("o")
        await page.fill("#operator input[type=password]", live.secrets["desk"])
        await page.press("#operator input[type=password]", "Enter")
        await shows(page, "#operator .operator-view", "No answer from desk-2-90c1")


async def test_what_the_operator_sees_is_called_old_when_nobody_answers(browser):
    async with served() as live, visitor(browser, outages=True) as visiting:
        page = await signed_in(visiting, live)
        await page.keyboard.press("g")
        await page.keyboard.press("o")
        await page.fill("#operator input[type=password]", live.secrets["desk"])
        await page.press("#operator input[type=password]", "Enter")
        await shows(page, "#operator .op-figures", "Telecast")
        await page.route("**/api/v1/stats", lambda route: route.abort())
        await shows(page, "#operator .operator-view > .fault", "old")
        await page.wait_for_selector("#operator tr[data-key][data-stale]")
        await page.unroute("**/api/v1/stats")
        await page.wait_for_selector("#operator tr[data-key]:not([data-stale])")
