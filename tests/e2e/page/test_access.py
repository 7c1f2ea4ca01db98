"""WCAG 2.2 AA, as far as axe can tell, in every theme and state that has its own colours."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

from tests.support.browser import desk, shows, signed_in, visitor
from tests.support.payloads import alert
from tests.support.service.live import served

pytest.importorskip("axe_playwright_python", reason="pip install 'telecast[e2e]' brings it")
pytestmark = pytest.mark.asyncio(loop_scope="session")

AXE = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLOURS = ["color-contrast", "link-in-text-block"]
"""The rules that a theme can break: the others look at what is the same in all of them."""
FAULTS = """async (only) => {
    const { violations } = await axe.run(document, { runOnly: only, resultTypes: ["violations"] });
    return violations.flatMap(({ id, nodes }) => nodes.map(({ target, any, none }) =>
        `${id}: ${target} ${any[0]?.message ?? none[0]?.message ?? ""}`));
}"""


async def faults(page: Any, **only: Any) -> list[str]:
    """What axe finds. It is run past the page's policy, which would not load it."""
    if await page.evaluate("() => globalThis.axe === undefined"):
        await page.evaluate(AXE)
    wanted = only or {"type": "tag", "values": RULES}
    found: list[str] = await page.evaluate(FAULTS, wanted)
    return found


async def no_faults_in_any_theme(page: Any) -> None:
    assert await faults(page) == []
    for theme in ("light", "dark", "contrast"):
        await page.evaluate("(name) => { document.documentElement.dataset.theme = name; }", theme)
        assert await faults(page, type="rule", values=COLOURS) == [], theme


async def test_signing_in_is_for_everybody(browser):
    async with served() as live, visitor(browser, color_scheme="light") as visiting:
        page = await visiting.open(live.url)
        await page.wait_for_selector("#sign-in:not([hidden])")
        assert await faults(page) == []


async def test_the_desk_is_for_everybody(browser):
    async with served() as live, visitor(browser, reduced_motion="reduce") as visiting:
        await desk(live)
        await live.publish("risk-alerts", alert("a3", severity="WARNING"))
        page = await signed_in(visiting, live)
        await page.click("#view summary")
        await page.select_option("#view select[name=theme]", "dark")
        await page.keyboard.press("Escape")
        assert await page.get_attribute("html", "data-theme") == "dark"
        await page.select_option("#positions .group-by", "trader")
        await shows(page, "#risk-alerts", "Stop everything.")
        await no_faults_in_any_theme(page)
        # What is not fresh has colours of its own, and may be read as well.
        await page.evaluate(
            """() => {
                for (const row of document.querySelectorAll("tr[data-key]")) row.dataset.stale = "";
                const panels = document.querySelectorAll(".panel");
                for (const each of panels) each.dataset.state = "stale";
                for (const tone of ["bad", "warn"]) {
                    const line = document.querySelector("#line").cloneNode();
                    Object.assign(line, { id: `line-${tone}`, hidden: false, innerText: "Down" });
                    line.dataset.tone = tone;
                    document.querySelector("#page").append(line);
                }
            }"""
        )
        await no_faults_in_any_theme(page)
        await page.click("#positions tr[data-key]")
        await page.wait_for_selector("#detail[open]")
        await no_faults_in_any_theme(page)


async def test_the_operators_view_and_the_debugger_are_for_everybody(browser):
    async with served() as live, visitor(browser, reduced_motion="reduce") as visiting:
        await desk(live)
        page = await signed_in(visiting, live)
        for letter in "od":
            await page.keyboard.press("g")
            await page.keyboard.press(letter)
        await page.wait_for_selector("#debug", state="visible")
        assert await faults(page) == []
        await page.fill("#operator .key-form input", live.secrets["desk"])
        await page.press("#operator .key-form input", "Enter")
        await page.wait_for_selector("#operator tr[data-key] .cut")
        await page.click("#debug .debug-form .primary")
        for part in ("copy", "publish"):
            await page.click(f"#debug .debug-{part} summary")
        await no_faults_in_any_theme(page)


async def test_everything_on_the_bar_is_reached_by_tab(browser):
    async with served() as live, visitor(browser) as visiting:
        await desk(live)
        page = await signed_in(visiting, live)
        reached = []
        for _ in range(12):
            await page.keyboard.press("Tab")
            reached.append(
                await page.evaluate(
                    "() => document.activeElement.id || document.activeElement.innerText"
                )
            )
        for wanted in ("sign-out", "critical-take", "search", "Filter", "View", "help-open"):
            assert wanted in reached, reached
