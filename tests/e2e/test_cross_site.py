"""Pages of others in a browser that is signed in here: they hear nothing and change nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from aiohttp import web

from telecast.web.auth.cookies import SESSION_COOKIE, sign_in_link
from tests.support.payloads import position
from tests.support.service.live import Live, principal, served

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROBE = """
async ({url, body}) => {
  const ws = new Promise((told) => {
    const socket = new WebSocket(url.replace("http", "ws") + "/ws/telemetry?channels=positions");
    socket.onopen = () => told("open");
    socket.onerror = () => told("refused");
  });
  const sse = new Promise((told) => {
    const source = new EventSource(url + "/sse/telemetry", {withCredentials: true});
    source.onopen = () => { source.close(); told("open"); };
    source.onerror = () => { source.close(); told("refused"); };
  });
  const ask = async (path, options) => {
    try {
      const answer = await fetch(url + path, {credentials: "include", ...options});
      return answer.type === "opaque" ? "opaque" : String(answer.status);
    } catch { return "refused"; }
  };
  const json = {method: "POST", body, headers: {"Content-Type": "application/json"}};
  const plain = {method: "POST", body, mode: "no-cors", headers: {"Content-Type": "text/plain"}};
  const events = "/api/v1/channels/positions/events";
  return {
    ws: await ws,
    sse: await sse,
    read: await ask("/api/v1/channels", {}),
    snapshot: await ask("/api/v1/channels/positions/snapshot", {mode: "no-cors"}),
    who: await ask("/api/v1/session", {mode: "no-cors"}),
    publish: await ask(events, json),
    plain: await ask(events, plain),
    ticket: await ask("/api/v1/tickets", {method: "POST", mode: "no-cors"}),
    sign_out: await ask("/api/v1/session", {method: "DELETE"}),
  };
}
"""
FORM = """
({url, path, body}) => {
  const form = document.body.appendChild(document.createElement("form"));
  Object.assign(form, {method: "POST", action: url + path, enctype: "text/plain"});
  const field = form.appendChild(document.createElement("input"));
  // A form's `name=value` can be made to read as JSON.
  Object.assign(field, {type: "hidden", name: body.slice(0, -1) + ',"x":"', value: '"}'});
  form.submit();
}
"""
NULL = """
async ({probe, given}) => {
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  const heard = new Promise((told) => { onmessage = (event) => told(event.data); });
  frame.srcdoc = `<script>(${probe})(${JSON.stringify(given)}).then((told) => parent.postMessage(
    {origin: self.origin, ...told}, "*"))</script>`;
  document.body.append(frame);
  return await heard;
}
"""
BODY = orjson.dumps(position("forged")).decode()


@asynccontextmanager
async def elsewhere() -> AsyncIterator[int]:
    """The port of a page that is not ours."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><body>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def signed_in(browser: Any, live: Live) -> AsyncIterator[tuple[Any, list[tuple[str, int]]]]:
    """A browser with a session here, and what this service answers it: (path, status)."""
    context = await browser.new_context()
    answers: list[tuple[str, int]] = []

    def heard(answer: Any) -> None:
        if answer.url.startswith(live.url):
            answers.append((urlsplit(answer.url).path, answer.status))

    try:
        page = await context.new_page()
        await page.goto(live.url + sign_in_link(live.parts, principal().key_id))
        await page.wait_for_function(
            "() => document.querySelector('#state-word')?.innerText === 'Live'"
        )
        await page.close()
        await live.everybody_gone()
        context.on("response", heard)
        yield context, answers
        cookies = {each["name"] for each in await context.cookies(live.url)}
        assert SESSION_COOKIE in cookies, "it is still signed in"
    finally:
        await context.close()


def nothing_was_had(live: Live, reported: dict[str, Any], answers: list[tuple[str, int]]) -> None:
    assert (reported["ws"], reported["sse"], reported["read"]) == ("refused", "refused", "refused")
    assert set(reported.values()) <= {"refused", "opaque", "null"}
    assert answers
    # That nobody is signed in is an answer too, and one which they can't read.
    assert answers.count(("/api/v1/session", 200)) <= 1
    refused = [each for each in answers if each != ("/api/v1/session", 200)]
    assert all(status in (401, 403, 405, 415) for _, status in refused), answers
    assert live.parts.clients.opened["ws"] == 0
    assert live.parts.journal.head == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same-site", "cross-site"])
async def test_a_page_of_another_origin_receives_nothing_and_changes_nothing(
    browser: Any, host: str
) -> None:
    """From another port of the same host even a SameSite=Strict cookie is sent."""
    async with served() as live, elsewhere() as port, signed_in(browser, live) as (context, heard):
        opened = live.parts.clients.opened["sse"]
        page = await context.new_page()
        await page.goto(f"http://{host}:{port}/")
        reported = await page.evaluate(PROBE, {"url": live.url, "body": BODY})
        nothing_was_had(live, reported, heard)
        events = "/api/v1/channels/positions/events"
        # A form needs nobody's leave to be sent, and takes the whole page along.
        for path, body in (
            (events, BODY),
            ("/api/v1/tickets", "{}"),
            ("/api/v1/session", orjson.dumps({"key": live.secrets["desk"]}).decode()),
        ):
            page = await context.new_page()
            await page.goto(f"http://{host}:{port}/")
            heard.clear()
            async with page.expect_response(live.url + path, timeout=60_000):
                await page.evaluate(FORM, {"url": live.url, "path": path, "body": body})
            assert [(each, status in (401, 403, 415)) for each, status in heard] == [(path, True)]
        assert live.parts.journal.head == 0
        assert live.parts.clients.opened["sse"] == opened


async def test_a_frame_without_an_origin_is_nobody(browser: Any) -> None:
    async with served() as live, elsewhere() as port, signed_in(browser, live) as (context, heard):
        page = await context.new_page()
        await page.goto(f"http://127.0.0.1:{port}/")
        given = {"url": live.url, "body": BODY}
        reported = await page.evaluate(NULL, {"probe": PROBE, "given": given})
        assert reported["origin"] == "null"
        nothing_was_had(live, reported, heard)


async def test_our_own_page_reads_all_and_publishes_nothing(browser: Any) -> None:
    """What makes the refusals above mean something; its session is no key, whoever uses it."""
    async with served() as live, signed_in(browser, live) as (context, _):
        page = await context.new_page()
        await page.goto(live.url + "/livez")
        probe = PROBE.replace('sign_out: await ask("/api/v1/session", {method: "DELETE"}),', "")
        reported = await page.evaluate(probe, {"url": live.url, "body": BODY})
        assert (reported["ws"], reported["sse"], reported["read"], reported["snapshot"]) == (
            *("open", "open", "200", "200"),
        )
        assert (reported["publish"], reported["plain"], reported["ticket"]) == ("403", "403", "403")
        assert live.parts.journal.head == 0
