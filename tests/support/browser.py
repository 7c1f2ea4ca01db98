"""A person at a browser: tabs that share cookies, and all that went wrong in them."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from telecast.web.auth.cookies import sign_in_link
from tests.support.payloads import alert, metrics, position, price, trader
from tests.support.service.live import Live, principal

CHROMIUM = (
    os.environ.get("CHROMIUM")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
    or shutil.which("google-chrome")
)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MINUS = "\N{MINUS SIGN}"
HEALS_MS = 120_000
"""Two reconnections, with their spread, and a busy machine."""
ANSWER_MS = "ANSWER_MS = 2000;"
"""How long a tab waits for the one that holds the stream, as its script says it."""
NETWORK = "net::ERR_"
"""What Chromium logs itself while nobody answers: expected where a test takes the service away."""


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """A browser. Skips the test where there is none."""
    api = pytest.importorskip(
        "playwright.async_api", reason="pip install 'telecast[e2e]' brings it"
    )
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium, or name one in CHROMIUM")
    async with api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


class Visitor:
    """One person's browser: tabs that share cookies, and all that went wrong in them."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.problems: list[str] = []

    async def open(self, address: str) -> Any:
        page = await self.context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda fault: self.problems.append(f"error: {fault}"))
        page.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}"))
        await page.goto(address)
        return page

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")


@asynccontextmanager
async def visitor(browser: Any, *, outages: bool = False, **options: Any) -> AsyncIterator[Visitor]:
    """Fails where a page logged an error: a violation of its policy is one."""
    context = await browser.new_context(**{"viewport": {"width": 1360, "height": 900}} | options)
    visiting = Visitor(context)
    yield visiting
    await context.close()
    problems = [each for each in visiting.problems if not (outages and NETWORK in each)]
    assert problems == []


async def come_by_link(visiting: Visitor, live: Live) -> Any:
    """A tab that came by the link that the demo prints."""
    return await visiting.open(live.url + sign_in_link(live.parts, principal().key_id))


async def signed_in(visiting: Visitor, live: Live) -> Any:
    """A tab that came by the link that the demo prints, and is live."""
    page = await come_by_link(visiting, live)
    await word(page, "Live")
    assert urlsplit(page.url).fragment == ""
    return page


async def word(page: Any, text: str) -> None:
    await shows(page, "#state-word", text)


async def shows(page: Any, selector: str, text: str) -> None:
    """Wait until an element reads so; `text` may be part of it."""
    await page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.innerText.includes(text)",
        arg=[selector, text],
        timeout=HEALS_MS,
    )


async def note(page: Any, pattern: str) -> str:
    """Wait until what stands beside the state's word matches; returns it."""
    await page.wait_for_function(
        "(pattern) => new RegExp(pattern).test(document.querySelector('#state-note').innerText)",
        arg=pattern,
        timeout=HEALS_MS,
    )
    text: str = await page.inner_text("#state-note")
    return text


async def logged(page: Any, pattern: str) -> str:
    """Wait until the newest entry of the connection's log matches; returns what matched."""
    found = await page.wait_for_function(
        """(pattern) =>
            document.querySelector("#story-list li")?.textContent.match(pattern)?.[0]""",
        arg=pattern,
        timeout=HEALS_MS,
    )
    text: str = await found.json_value()
    return text


async def noting_words(page: Any) -> None:
    """Keep in `words` what the state's word becomes from now on: some words stay for a moment."""
    await page.evaluate(
        """() => {
            const word = document.querySelector("#state-word");
            window.words = [];
            new MutationObserver(() => words.push(word.innerText))
                .observe(word, { childList: true, characterData: true, subtree: true });
        }"""
    )


async def rewritten(visiting: Visitor, script: str, before: str, after: str) -> None:
    """One of the page's scripts with another time in it: so that no test waits for a long one."""

    async def answered(route: Any) -> None:
        answer = await route.fetch()
        text = await answer.text()
        assert before in text
        await route.fulfill(response=answer, body=text.replace(before, after))

    await visiting.context.route(f"**/page/{script}", answered)


async def patient(visiting: Visitor) -> None:
    """Its tabs wait long for each other's answers: on a busy machine nobody is frozen."""
    await rewritten(visiting, "share.js", ANSWER_MS, "ANSWER_MS = 60000;")


async def role(page: Any, name: str) -> None:
    await page.wait_for_function(
        "(name) => document.documentElement.dataset.role === name", arg=name
    )


def cut(live: Live) -> None:
    """Every connection dies without a word."""
    for client in live.parts.clients:
        assert client.subscriber is not None
        client.subscriber.sink.abort()  # type: ignore[attr-defined]


async def desk(live: Live) -> None:
    """A little of everything."""
    await live.publish(
        "trader-status",
        trader("t1", name="Ada", strategy="trend", metrics=metrics()),
        trader("t2", name="Boris", status="ERROR", reason="margin call"),
    )
    await live.publish(
        "positions",
        position("p1", traderName="Ada"),
        position("p2", "t2", symbol="ETHUSDT", action="SHORT", unrealizedPnL="-1250.5"),
    )
    await live.publish(
        "risk-alerts",
        alert("a1", severity="INFO", message="Half of the budget is used."),
        alert("a2", None, severity="CRITICAL", message="Stop everything."),
    )
    await live.publish("market-data", price(), price("ETHUSDT", price="3480.55", change24h=-0.021))
