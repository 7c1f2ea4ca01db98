"""Alerts that are seen: taken by an operator, on every screen, and never in silence."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.browser import HEALS_MS, Visitor, cut, desk, shows, signed_in, visitor, word
from tests.support.payloads import alert, trader
from tests.support.service.live import Live, principal, served

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def with_key(visiting: Visitor, live: Live, name: str, *, operate: bool) -> Any:
    page = await visiting.open(live.url)
    await page.fill("#key", live.secrets[name])
    if operate:
        await page.check("#operate")
    await page.press("#key", "Enter")
    await word(page, "Live")
    return page


async def title(page: Any, start: str) -> None:
    await page.wait_for_function(
        "(start) => document.title.startsWith(start)", arg=start, timeout=HEALS_MS
    )


async def test_one_takes_an_alert_and_every_screen_sees_who(browser):
    ann, bob = principal("Ann", "read", "operate"), principal("Bob", "read")
    async with (
        served(principal(), ann, bob) as live,
        visitor(browser) as hers,
        visitor(browser) as his,
    ):
        await desk(live)
        first = await with_key(hers, live, "Ann", operate=True)
        second = await with_key(his, live, "Bob", operate=False)
        for page in (first, second):
            await shows(page, "#critical", "Stop everything.")
            await title(page, "(2)")
        # The worst that nobody has taken, by key, with a note.
        await first.keyboard.press("a")
        await shows(first, "#take-what", "CRITICAL: Stop everything.")
        await first.fill("#take-note", "I call the floor.")
        await first.keyboard.press("Enter")
        for page in (first, second):
            await shows(page, "#risk-alerts", "I call the floor.")
            await page.wait_for_selector("#critical", state="hidden")
            await title(page, "(1)")
        await shows(second, "#risk-alerts tbody", "Ann,")
        assert await second.locator("#risk-alerts td.act button").count() == 0
        await first.click("#risk-alerts .act button:has-text('Undo')")
        for page in (first, second):
            await shows(page, "#critical", "Stop everything.")
            await title(page, "(2)")


async def test_who_is_too_late_is_shown_who_was_faster(browser):
    async with served() as live, visitor(browser) as visiting:
        await live.publish("risk-alerts", alert("a1", severity="CRITICAL"))
        page = await signed_in(visiting, live)
        # What the other has done has not come through yet.
        other = {"code": "ALERT_ACKNOWLEDGED", "message": "Bob acknowledged it at 12:00."}

        async def late(route: Any) -> None:
            await route.fulfill(status=409, json={"success": False, "error": other})

        await page.route("**/acknowledge", late)
        await page.click("#risk-alerts .take")
        await page.click("#take button.primary")
        await shows(page, "#say-now", "Bob acknowledged it")
        await shows(page, "#risk-alerts tbody", "Acknowledge")
        assert await page.is_visible("#critical")
        visiting.problems = [each for each in visiting.problems if "status of 409" not in each]


async def test_what_is_being_sent_counts_as_seen_by_nobody(browser):
    async with served() as live, visitor(browser, outages=True) as visiting:
        await live.publish("risk-alerts", alert("a1", severity="CRITICAL"))
        page = await signed_in(visiting, live)
        arrived = asyncio.Event()

        async def held(route: Any) -> None:
            await arrived.wait()
            await route.continue_()

        await page.route("**/acknowledge", held)
        await page.click("#critical-take")
        await page.click("#take button.primary")
        await shows(page, "#risk-alerts tbody", "Sending")
        await shows(page, "#sum-alerts-note", "1 not acknowledged, 1 critical, 1 being sent")
        assert await page.is_visible("#critical")
        assert not await page.is_visible("#critical-take")
        await title(page, "(1)")
        # While nothing gets through, it says so.
        await page.context.set_offline(True)
        cut(live)
        await shows(page, "#risk-alerts tbody", "Not sent yet: reconnecting")
        await page.context.set_offline(False)
        arrived.set()
        await shows(page, "#risk-alerts tbody", "desk,")
        await page.wait_for_selector("#critical", state="hidden")


async def test_a_session_that_only_reads_offers_nothing_that_it_may_not(browser):
    async with served() as live, visitor(browser) as visiting:
        await desk(live)
        page = await with_key(visiting, live, "desk", operate=False)
        await shows(page, "#critical", "Stop everything.")
        assert not await page.is_visible("#critical-take")
        await page.keyboard.press("a")
        await shows(page, "#say-now", "operate")


async def test_a_new_alert_is_announced_once_and_is_quiet_unless_asked(browser):
    async with served() as live, visitor(browser) as visiting:
        page = await signed_in(visiting, live)
        await page.evaluate(
            """() => {
                window.heard = [];
                window.AudioContext = class { constructor() { heard.push("sound"); } };
                window.Notification = class { constructor() { heard.push("note"); } };
                for (const id of ["say", "say-now"]) {
                    const place = document.getElementById(id);
                    new MutationObserver(() => place.innerText && heard.push(place.innerText))
                        .observe(place, { childList: true });
                }
            }"""
        )
        await live.publish("risk-alerts", alert("a1", severity="CRITICAL", message="Stop."))
        await shows(page, "#critical", "Stop.")
        # The publisher's repeat is no news.
        await live.publish("risk-alerts", alert("a1", severity="CRITICAL", message="Stop."))
        await shows(page, "#risk-alerts .sub", "2\u00d7")
        assert await page.evaluate("heard") == ["CRITICAL: Stop."]
        assert await page.get_attribute("#icon", "href") != "page/icon.svg"


async def test_an_alert_names_its_trader_as_soon_as_the_name_is_known(browser):
    async with served() as live, visitor(browser) as visiting:
        await live.publish("risk-alerts", alert("a1", "t1", severity="CRITICAL"))
        await live.publish("risk-alerts", alert("a2", "t9", message="Another one."))
        page = await signed_in(visiting, live)
        await shows(page, "#risk-alerts tr[data-key=a1] .sub", "t1")
        await live.publish("trader-status", trader("t1", name="Ada"))
        await shows(page, "#risk-alerts tr[data-key=a1] .sub", "Ada")
        await shows(page, "#critical", "Ada:")
        await shows(page, "#risk-alerts tr[data-key=a2] .sub", "t9")
        await live.publish("trader-status", trader("t1", name="Ada Byron"))
        await shows(page, "#risk-alerts tr[data-key=a1] .sub", "Ada Byron")
        await page.keyboard.press("/")
        await page.keyboard.type("byron")
        await page.wait_for_selector("#risk-alerts tr[data-key=a2]", state="detached")
        assert await page.is_visible("#risk-alerts tr[data-key=a1]")


async def test_what_was_resolved_today_comes_from_the_history_and_goes_on(browser):
    async with served() as live, visitor(browser, outages=True) as visiting:
        await live.publish("trader-status", trader("t1", name="Ada"))
        await live.publish("risk-alerts", alert("a1", message="Early."), alert("a2"))
        await live.publish("risk-alerts", alert("a1", message="Early.", status="RESOLVED"))
        page = await signed_in(visiting, live)
        await shows(page, "#risk-alerts tbody", "Ada")
        assert not await page.is_visible("#risk-alerts .resolved")
        await page.click("#resolved-show")
        await shows(page, ".resolved tbody", "Early.")
        await shows(page, ".resolved tbody", "Ada")
        await live.publish("risk-alerts", alert("a2", message="Late.", status="RESOLVED"))
        await shows(page, ".resolved tbody", "Late.")
        assert await page.get_attribute("#resolved-show", "aria-pressed") == "true"
        await page.click(".resolved tr[data-key]")
        await shows(page, "#detail-gone", "has ended")
        await shows(page, "#detail-fields", "Late.")
        await page.keyboard.press("Escape")
        # What was live looks so no more once the line is lost, here too.
        await page.context.set_offline(True)
        cut(live)
        await page.wait_for_selector(".resolved tr[data-key][data-stale]")
