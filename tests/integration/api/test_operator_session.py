"""An operator's session on our own page: it acknowledges alerts, and only from there."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from telecast.web.auth.cookies import SESSION_COOKIE, sign_in_link
from tests.support.payloads import alert, position
from tests.support.service.live import Live, principal, served

SESSION = "/api/v1/session"
COMPONENT = {
    "component": "core",
    "status": "DOWN",
    "kind": "CORE",
    "since": "2026-11-22T18:17:19.387Z",
}
"""Of `system`, on which the scope `operate` publishes."""
ACKNOWLEDGE = "/api/v1/risk-alerts/a1/acknowledge"


async def signed_in(live: Live, operate: Any = True, who: str = "desk") -> tuple[list[str], dict]:
    """The scopes of a session, and the headers with which our own page comes back."""
    said = {"key": live.secrets[who], "operate": operate}
    status, body, response = await live.ask("POST", SESSION, who=None, json=said)
    assert status == 201, body
    cookie = response.cookies[SESSION_COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    headers = {"Cookie": f"{SESSION_COOKIE}={cookie.value}", "Origin": live.url}
    return body["data"]["scopes"], headers


async def test_an_operators_session_acknowledges_and_its_holder_is_named() -> None:
    async with served() as live:
        await live.publish("risk-alerts", alert("a1"))
        scopes, headers = await signed_in(live)
        assert scopes == ["read", "operate"]
        assert (await live.get(SESSION, who=None, headers=headers))["scopes"] == scopes
        status, body, _ = await live.ask(
            "POST", ACKNOWLEDGE, who=None, headers=headers, json={"note": "mine"}
        )
        assert status == 200, body
        row = body["data"]["alert"]
        assert (row["status"], row["acknowledgedBy"], row["note"]) == (
            *("ACKNOWLEDGED", "desk", "mine"),
        )
        undo = ACKNOWLEDGE.replace("/ack", "/unack")
        status, body, _ = await live.ask("POST", undo, who=None, headers=headers, json={})
        assert (status, body["data"]["alert"]["status"]) == (200, "ACTIVE")


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"Origin": None}, id="no origin"),
        pytest.param({"Origin": "null"}, id="a frame without an origin"),
        pytest.param({"Origin": "http://127.0.0.1:1"}, id="another port of the same host"),
        pytest.param({"Origin": "https://desk.example"}, id="an origin that may only read"),
        pytest.param({"Content-Type": "text/plain"}, id="what a form can send"),
        pytest.param({"Sec-Fetch-Site": "same-site", "Origin": None}, id="a sibling's image"),
    ],
)
async def test_only_our_own_page_acts_with_it(said: dict[str, str | None]) -> None:
    async with served(allowed_origins=["https://desk.example"]) as live:
        await live.publish("risk-alerts", alert("a1"))
        _, headers = await signed_in(live)
        headers |= {"Content-Type": "application/json"} | said
        headers = {name: value for name, value in headers.items() if value is not None}
        status, body, _ = await live.ask("POST", ACKNOWLEDGE, who=None, headers=headers, data="{}")
        assert status == 403, body
        assert (await live.get("/api/v1/channels/risk-alerts/snapshot"))["rows"][0]["data"][
            "status"
        ] == "ACTIVE"


@pytest.mark.parametrize("operate", [False, None, "true", 1])
async def test_a_session_that_did_not_ask_only_reads(operate: Any) -> None:
    async with served() as live:
        await live.publish("risk-alerts", alert("a1"))
        scopes, headers = await signed_in(live, operate)
        assert scopes == ["read"]
        status, _, _ = await live.ask("POST", ACKNOWLEDGE, who=None, headers=headers, json={})
        assert status == 403


async def test_a_key_that_may_not_operate_gives_a_session_that_may_not() -> None:
    async with served(principal("looker", "read")) as live:
        scopes, headers = await signed_in(live, who="looker")
        assert scopes == ["read"]
        status, _, _ = await live.ask("POST", ACKNOWLEDGE, who=None, headers=headers, json={})
        assert status == 403


async def test_an_operators_session_neither_publishes_nor_administers() -> None:
    async with served() as live:
        _, headers = await signed_in(live)
        events = "/api/v1/channels/positions/events"
        for method, path, body in (
            ("POST", events, position("p1")),
            ("POST", "/api/v1/channels/system/events", COMPONENT),
            ("POST", "/api/v1/channels/system/alive", {}),
            ("DELETE", "/api/v1/channels/system/rows/core", None),
            ("POST", "/api/v1/tickets", {}),
            ("DELETE", "/api/v1/clients?stale=1", None),
            ("GET", "/api/v1/clients", None),
        ):
            status, _, _ = await live.ask(method, path, who=None, headers=headers, json=body)
            assert status == 403, path
        assert live.parts.journal.head == 0


async def test_signing_out_ends_an_operators_session_for_good() -> None:
    async with served() as live:
        await live.publish("risk-alerts", alert("a1"))
        _, headers = await signed_in(live)
        await live.ask("DELETE", SESSION, who=None, headers=headers)
        status, body, _ = await live.ask("POST", ACKNOWLEDGE, who=None, headers=headers, json={})
        assert (status, body["error"]["code"]) == (401, "SESSION_OVER")


async def test_the_link_of_the_demo_may_ask_for_it_too() -> None:
    async with served() as live:
        link = sign_in_link(live.parts, principal().key_id)
        ticket = urlsplit(link).fragment.removeprefix("ticket=")
        said = {"ticket": ticket, "operate": True}
        _, body, _ = await live.ask("POST", SESSION, who=None, json=said)
        assert body["data"]["scopes"] == ["read", "operate"]
