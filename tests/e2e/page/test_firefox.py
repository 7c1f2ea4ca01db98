"""The page in Firefox, driven over WebDriver BiDi: Firefox's own remote protocol, so that an
unchanged Firefox does."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from telecast.web.auth.cookies import sign_in_link
from tests.support.browser import cut, desk
from tests.support.payloads import price
from tests.support.service.live import principal, served

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
PATIENCE = 60.0
PREFERENCES = """
user_pref("app.update.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("remote.prefs.recommended", true);
"""
UNTIL = """(selector, text) => new Promise((found) => {
    const look = () => document.querySelector(selector)?.textContent.includes(text)
        ? found(true) : setTimeout(look, 50);
    look();
})"""


class Tab:
    """A tab of Firefox; `problems` are what its console called an error."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._context = ""
        self.problems: list[str] = []

    async def call(self, method: str, **params: Any) -> Any:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        async with asyncio.timeout(PATIENCE):
            while True:
                said = await self._socket.receive_json()
                if said.get("method") == "log.entryAdded":
                    entry = said["params"]
                    if entry["level"] == "error":
                        self.problems.append(str(entry["text"]))
                elif said.get("id") == self._number:
                    assert said["type"] == "success", said
                    return said["result"]

    async def begin(self) -> None:
        await self.call("session.new", capabilities={})
        await self.call("session.subscribe", events=["log.entryAdded"])
        tree = await self.call("browsingContext.getTree")
        self._context = tree["contexts"][0]["context"]

    async def open(self, address: str) -> None:
        await self.call(
            "browsingContext.navigate", context=self._context, url=address, wait="complete"
        )

    async def evaluate(self, expression: str) -> Any:
        answer = await self.call(
            "script.evaluate",
            expression=expression,
            target={"context": self._context},
            awaitPromise=True,
        )
        assert answer["type"] == "success", answer
        return answer["result"].get("value")

    async def shows(self, selector: str, text: str) -> None:
        await self.evaluate(f"({UNTIL})({selector!r}, {text!r})")


@asynccontextmanager
async def firefox(profile: Path) -> AsyncIterator[Tab]:
    assert FIREFOX is not None
    (profile / "user.js").write_text(PREFERENCES, "utf-8")
    process = await asyncio.create_subprocess_exec(
        FIREFOX,
        "--headless",
        "--no-remote",
        "--remote-debugging-port=0",
        "--profile",
        str(profile),
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={"HOME": str(profile), "PATH": "/usr/bin:/bin"},
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE):
            address = None
            while address is None:
                line = (await process.stderr.readline()).decode(errors="replace")
                assert line, "Firefox has ended"
                address = re.search(r"ws://\S+", line)
        drain = asyncio.create_task(process.stderr.read())
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{address[0]}/session", max_msg_size=0) as socket,
        ):
            tab = Tab(socket)
            await tab.begin()
            yield tab
    finally:
        process.terminate()
        await process.wait()
    await drain


@pytest.mark.skipif(FIREFOX is None, reason="no Firefox: apt-get install firefox-esr")
async def test_the_desk_lives_heals_and_is_worked_with_in_firefox(tmp_path: Path) -> None:
    async with served() as live, firefox(tmp_path) as tab:
        await desk(live)
        await tab.open(live.url + sign_in_link(live.parts, principal().key_id))
        await tab.shows("#state-word", "Live")
        await tab.shows("#positions", "Ada")
        await live.publish("market-data", price(price="67999.25"))
        await tab.shows("#market-data", "67,999.25")
        # Charts are filled by a worker.
        await tab.shows("#chart-what", "Net profit: Ada")
        # An alert is acknowledged.
        await tab.evaluate("document.querySelector('#critical-take').click()")
        await tab.evaluate("document.querySelector('#take button.primary').click()")
        await tab.shows("#risk-alerts", "desk,")
        # It comes back after a cut; the debugger has a WebSocket.
        cut(live)
        await tab.evaluate("document.querySelector('#story').open = true")
        await tab.shows("#story-list", "resumed at")
        await tab.shows("#state-word", "Live")
        await tab.evaluate(
            """(() => {
                const key = (key) => document.body.dispatchEvent(
                    new KeyboardEvent("keydown", { key, bubbles: true }));
                key("g"); key("d");
                document.querySelector("#debug select[name=transport]").value = "websocket";
                document.querySelector("#debug .debug-form").requestSubmit();
            })()"""
        )
        await tab.shows("#debug .debug-state", "Live, WebSocket")
        assert tab.problems == []
