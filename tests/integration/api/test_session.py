"""Browsers: tickets and sessions hold as long as they should, and let nobody do more than look."""

from __future__ import annotations

import logging
import posixpath
import re
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from telecast.journal.base import read_book
from telecast.keys import KeyStore, create_key, revoke_key
from telecast.keys.tokens import MOST_SECONDS
from telecast.keys.tokens import SESSION as SIGNED
from telecast.web.auth.cookies import SESSION_COOKIE, STREAM_COOKIE, sign_in_link
from telecast.web.auth.signed_out import BOOK
from tests.support.payloads import alert, trader
from tests.support.service.live import Live, principal, served

SESSION = "/api/v1/session"
TICKETS = "/api/v1/tickets"
CHANNELS = "/api/v1/channels"
OURS, ALLOWED, FOREIGN = None, "https://desk.example", "https://evil.example"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


async def ticket(live: Live, who: str = "desk") -> str:
    status, body, _ = await live.ask("POST", TICKETS, who=who)
    assert status == 201, body
    assert body["data"]["paths"] == ["/ws/telemetry", "/sse/telemetry"]
    text: str = body["data"]["ticket"]
    return text


def cookie_of(response: aiohttp.ClientResponse, name: str) -> dict[str, str]:
    """A cookie that was set, as a request's header; empty where it was not."""
    for line in response.headers.getall("Set-Cookie", []):
        cookie = SimpleCookie(line)
        if name in cookie:
            return {"Cookie": f"{name}={cookie[name].value}"}
    return {}


async def signed_in(live: Live, who: str = "desk") -> dict[str, str]:
    status, body, response = await live.ask("POST", SESSION, who=who)
    assert status == 201, body
    return cookie_of(response, SESSION_COOKIE)


async def knock(live: Live, transport: str = "sse", headers=None, **query) -> tuple[int, str, dict]:
    """(status, error code or "", headers to come back with) of opening a stream."""
    path = f"{live.url}/{transport}/telemetry"
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    said = (upgrade if transport == "ws" else {}) | (headers or {})
    async with live.session.get(path, params=query, headers=said) as response:
        cookie = cookie_of(response, STREAM_COOKIE)
        if response.status in (101, 200):
            return response.status, "", cookie
        return response.status, (await response.json())["error"]["code"], cookie


OPEN = {"ws": 101, "sse": 200}

# --- tickets


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_a_ticket_opens_one_stream(transport):
    async with served() as live:
        text = await ticket(live)
        assert (await knock(live, transport, ticket=text))[:2] == (OPEN[transport], "")
        assert (await knock(live, transport, ticket=text))[:2] == (401, "TICKET_SPENT")
        other = {"ws": "sse", "sse": "ws"}[transport]
        assert (await knock(live, other, ticket=text))[:2] == (401, "TICKET_SPENT")


async def test_a_stream_by_ticket_sends_what_the_key_may_read():
    async with served(principal(), principal("risk", "read", channels=("risk-*",))) as live:
        await live.publish("risk-alerts", alert())
        await live.publish("trader-status", trader())
        async with live.sse(who=None, ticket=await ticket(live, "risk")) as stream:
            reported = await stream.opening()
        assert [each.name for each in reported if each.type == "event"] == ["risk-alerts"]


async def test_a_ticket_expires_with_a_clear_word():
    clock = Clock()
    async with served(now=clock) as live:
        text = await ticket(live)
        clock.now += 31
        status, body, _ = await live.ask("GET", "/sse/telemetry", who=None, query={"ticket": text})
        assert status == 401
        assert body["error"]["message"] == "This ticket has expired: it holds for 30 seconds."
        assert "new ticket" in body["error"]["advice"]


async def test_tickets_of_others_and_for_other_things_open_nothing():
    async with served() as live, served() as other:
        foreign = await ticket(other)
        link = sign_in_link(live.parts, principal().key_id).partition("=")[2]
        for text in (foreign, link, "", "x"):
            assert (await knock(live, ticket=text))[:2] == (401, "UNAUTHENTICATED")
        stolen = {"json": {"ticket": await ticket(live)}}
        status, _, _ = await live.ask("POST", SESSION, who=None, **stolen)
        assert status == 401


async def test_a_ticket_outlives_what_is_worth_retrying_and_what_was_asked_wrongly():
    async with served(max_connections=1) as live:
        text = await ticket(live)
        async with live.sse() as first:
            await first.expect("welcome")
            assert (await knock(live, ticket=text))[:2] == (429, "TOO_MANY_CONNECTIONS")
            async with live.sse(
                who=None, headers={"Accept": "text/event-stream"}, ticket=text
            ) as told_to_wait:
                await told_to_wait.expect("notice")
        await live.everybody_gone()
        assert (await knock(live, ticket=text, since="nonsense"))[0] == 400
        assert (await knock(live, ticket=text))[:2] == (200, "")


async def test_a_ticket_is_for_a_key_that_reads_and_never_for_a_session():
    async with served(principal(), principal("feed", "publish")) as live:
        status, body, _ = await live.ask("POST", TICKETS, who="feed")
        assert (status, body["error"]["code"]) == (403, "FORBIDDEN")
        status, _, _ = await live.ask("POST", TICKETS, who=None, headers=await signed_in(live))
        assert status == 403
        status, _, _ = await live.ask("POST", TICKETS, who=None)
        assert status == 401


# --- coming back


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_a_stream_comes_back_by_the_cookie_that_its_ticket_left(transport):
    async with served() as live:
        text = await ticket(live)
        async with live.session.get(
            f"{live.url}/sse/telemetry", params={"ticket": text}
        ) as response:
            line = response.headers["Set-Cookie"]
        for word in ("HttpOnly", "SameSite=Strict", "Max-Age=43200"):
            assert word in line
        assert "Secure" not in line
        _, _, cookie = await knock(live, transport, ticket=await ticket(live))
        assert cookie
        # An EventSource comes back to the same address; the ticket in it is used by now.
        for _ in range(2):
            assert (await knock(live, transport, cookie, ticket=text))[0] == OPEN[transport]
        assert (await knock(live, transport, cookie))[0] == OPEN[transport]


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_a_session_that_is_over_does_not_hide_the_cookie_of_a_stream(transport):
    """A browser that once signed in on our page could not keep the stream of another one."""
    async with served() as live:
        session = await signed_in(live)
        _, _, stream = await knock(live, transport, ticket=await ticket(live))
        await live.ask("DELETE", SESSION, who=None, headers=session)
        for stale in (session["Cookie"], f"{SESSION_COOKIE}=rubbish"):
            both = {"Cookie": f"{stale}; {stream['Cookie']}"}
            assert (await knock(live, transport, both))[0] == OPEN[transport]
            assert (await knock(live, transport, {"Cookie": stale}))[:2] == (401, "SESSION_OVER")
            # The stream's cookie is for the transports, and no answer to who is signed in.
            assert (await live.ask("GET", CHANNELS, who=None, headers=both))[0] == 401


async def test_a_cookie_speaks_for_no_ticket_of_another_key():
    async with served(principal(), principal("other")) as live:
        _, _, cookie = await knock(live, ticket=await ticket(live, "other"))
        text = await ticket(live)
        await knock(live, ticket=text)
        assert (await knock(live, "sse", cookie, ticket=text))[:2] == (401, "TICKET_SPENT")


async def test_a_streams_cookie_opens_streams_only():
    async with served() as live:
        _, _, cookie = await knock(live, ticket=await ticket(live))
        assert (await live.ask("GET", CHANNELS, who=None, headers=cookie))[0] == 401
        forged = {"Cookie": cookie["Cookie"].replace(STREAM_COOKIE, SESSION_COOKIE)}
        assert (await live.ask("GET", CHANNELS, who=None, headers=forged))[0] == 401


@pytest.mark.parametrize("settings", [{"behind_proxy": True}], ids=["behind a proxy"])
async def test_cookies_are_for_tls_alone_where_there_is_tls(settings):
    async with served(**settings) as live:
        _, _, response = await live.ask("POST", SESSION)
        assert "Secure" in response.headers["Set-Cookie"]


# --- sessions


async def test_a_session_reads_all_that_its_key_may():
    async with served(principal("desk", "read", "operate")) as live:
        cookie = await signed_in(live)
        for path in (CHANNELS, f"{CHANNELS}/positions", f"{CHANNELS}/positions/snapshot"):
            assert (await live.ask("GET", path, who=None, headers=cookie))[0] == 200
        for transport in OPEN:
            assert (await knock(live, transport, cookie))[0] == OPEN[transport]
        me = await live.get(SESSION, who=None, headers=cookie)
        assert (me["signedIn"], me["name"], me["scopes"]) == (True, "desk", ["read"])


async def test_a_key_signs_in_by_header_or_json_and_never_by_form():
    async with served() as live:
        key = live.secrets["desk"]
        assert (await live.ask("POST", SESSION, who=None, json={"key": key}))[0] == 201
        for body in ({"data": {"key": key}}, {"data": b"{}"}, {}):
            assert (await live.ask("POST", SESSION, who=None, **body))[0] == 401
        for said in ({}, [], {"key": 1}, "x"):
            assert (await live.ask("POST", SESSION, who=None, json=said))[0] == 400
        assert (await live.ask("POST", SESSION, who=None, json={"key": "x" * 5000}))[0] == 413
        status, body, response = await live.ask("POST", SESSION, who=None, json={"key": "tc_x"})
        assert (status, body["error"]["message"]) == (401, "This key is not known here.")
        assert "Set-Cookie" not in response.headers


async def test_a_key_that_may_not_read_gets_no_session():
    async with served(principal("feed", "publish")) as live:
        status, _, response = await live.ask("POST", SESSION, who="feed")
        assert status == 403
        assert "Set-Cookie" not in response.headers


async def test_who_asks_is_answered_even_to_nobody():
    async with served() as live:
        me = await live.get(SESSION, who=None)
        assert me == {
            "signedIn": False,
            "why": {
                "code": "UNAUTHENTICATED",
                "message": "Send a key: X-API-Key or Authorization: Bearer.",
            },
        }
        me = await live.get(SESSION)
        assert "publish" in me["scopes"]


async def test_signing_out_ends_the_session_for_whoever_has_its_cookie():
    async with served() as live:
        cookie = await signed_in(live)
        status, _, response = await live.ask("DELETE", SESSION, who=None, headers=cookie)
        assert status == 200
        assert "Max-Age=0" in response.headers["Set-Cookie"]
        status, body, _ = await live.ask("GET", CHANNELS, who=None, headers=cookie)
        assert (status, body["error"]["code"]) == (401, "SESSION_OVER")
        assert (await live.ask("DELETE", SESSION, who=None))[0] == 200


async def test_a_session_is_renewed_by_use_and_over_twelve_hours_after_the_last():
    clock = Clock()
    async with served(now=clock) as live:
        cookie = await signed_in(live)
        clock.now += 3000
        _, _, response = await live.ask("GET", CHANNELS, who=None, headers=cookie)
        assert not cookie_of(response, SESSION_COOKIE)
        clock.now += 11 * 3600
        _, _, response = await live.ask("GET", CHANNELS, who=None, headers=cookie)
        renewed = cookie_of(response, SESSION_COOKIE)
        assert renewed
        clock.now += 3600
        assert (await live.ask("GET", CHANNELS, who=None, headers=cookie))[0] == 401
        assert (await live.ask("GET", CHANNELS, who=None, headers=renewed))[0] == 200
        clock.now += 12 * 3600
        status, body, _ = await live.ask("GET", CHANNELS, who=None, headers=renewed)
        assert (status, body["error"]["code"]) == (401, "SESSION_OVER")


async def test_a_session_lives_through_a_restart_with_the_same_secret_only():
    keys, issued = KeyStore.of(principal(), now=Clock())
    known = {"keys": keys, "secrets": {"desk": issued[principal().key_id]}, "now": Clock()}
    async with served(**known, secret=b"s" * 32) as live:
        cookie = await signed_in(live)
    async with served(**known, secret=b"s" * 32) as live:
        assert (await live.ask("GET", CHANNELS, who=None, headers=cookie))[0] == 200
    async with served(**known) as live:
        status, body, _ = await live.ask("GET", CHANNELS, who=None, headers=cookie)
        assert (status, body["error"]["code"]) == (401, "SESSION_OVER")


async def test_a_sign_in_link_signs_in_once():
    async with served() as live:
        link = sign_in_link(live.parts, principal().key_id)
        address, _, text = link.partition("#ticket=")
        assert address == "/"  # what stands behind the # never leaves the browser
        status, _, response = await live.ask("POST", SESSION, who=None, json={"ticket": text})
        assert status == 201
        cookie = cookie_of(response, SESSION_COOKIE)
        assert (await live.ask("GET", CHANNELS, who=None, headers=cookie))[0] == 200
        status, body, _ = await live.ask("POST", SESSION, who=None, json={"ticket": text})
        assert (status, body["error"]["message"]) == (401, "This sign-in link was used already.")


# --- the key is asked each time


async def test_with_its_key_a_session_and_a_ticket_end(tmp_path):
    file = tmp_path / "keys.toml"
    key = create_key(file, "desk", ["read"])
    keys = KeyStore(file, now=Clock())
    keys.load()
    async with served(keys=keys, secrets={"desk": key}, now=Clock()) as live:
        cookie = await signed_in(live)
        unused = await ticket(live)
        _, _, left = await knock(live, ticket=await ticket(live))
        async with live.sse(who=None, headers=cookie) as stream:
            await stream.opening()
            revoke_key(file, "desk")
            assert keys.reload_if_changed()
            await live.parts.clients.recheck()
            assert (await stream.until("notice"))[-1].body["code"] == "UNAUTHENTICATED"
        for headers, query in ((cookie, {}), (left, {}), ({}, {"ticket": unused})):
            assert (await knock(live, "sse", headers, **query))[:2] == (401, "UNAUTHENTICATED")


async def test_a_key_that_is_made_again_with_the_same_id_inherits_nothing(tmp_path):
    file = tmp_path / "keys.toml"
    key = create_key(file, "desk", ["read"])
    keys = KeyStore(file, now=Clock())
    keys.load()
    async with served(keys=keys, secrets={"desk": key}, now=Clock()) as live:
        cookie, unused = await signed_in(live), await ticket(live)
        file.write_text(
            re.sub('sha256 = "[0-9a-f]{64}"', f'sha256 = "{"1" * 64}"', file.read_text())
        )
        assert keys.reload_if_changed()
        assert (await knock(live, "sse", cookie))[:2] == (401, "UNAUTHENTICATED")
        assert (await knock(live, ticket=unused))[:2] == (401, "UNAUTHENTICATED")


# --- a browser only looks


async def test_a_session_can_not_publish_withdraw_operate_or_administer():
    async with served() as live:
        await live.publish("trader-status", trader())
        cookie = await signed_in(live)
        status, body, _ = await live.post("trader-status", trader("t2"), who=None, headers=cookie)
        assert (status, body["error"]["code"]) == (403, "FORBIDDEN")
        path = f"{CHANNELS}/trader-status/rows/t1"
        assert (await live.ask("DELETE", path, who=None, headers=cookie))[0] == 403
        async with live.session.get(f"{live.url}/metrics", headers=cookie) as response:
            assert response.status == 403
        [row] = (await live.get(f"{CHANNELS}/trader-status/snapshot"))["rows"]
        assert row["key"] == "t1"


@pytest.mark.parametrize("by", ["session", "ticket"])
async def test_a_browsers_websocket_can_not_publish_even_after_its_key_gained_rights(by):
    async with served() as live:
        way = (
            {"headers": await signed_in(live)}
            if by == "session"
            else {"ticket": await ticket(live)}
        )
        async with live.ws(who=None, channels="positions", **way) as socket:
            await socket.opening()
            await live.parts.clients.recheck()
            answer = await socket.ask("publish", reqId="1", channel="trader-status", data=trader())
            assert (answer["type"], answer["code"]) == ("error", "FORBIDDEN")


async def test_rights_that_change_reach_a_key_behind_its_sessions(tmp_path):
    # Once: the walk over a key's connections stopped at the first whose rights had not changed,
    # and a session that only reads has the same rights before and after.
    file = tmp_path / "keys.toml"
    key = create_key(file, "desk", ["read", "publish"])
    keys = KeyStore(file, now=Clock())
    keys.load()
    async with served(keys=keys, secrets={"desk": key}, now=Clock()) as live:
        cookie = await signed_in(live)
        async with live.sse(who=None, headers=cookie) as watching, live.ws() as socket:
            await watching.expect("welcome")
            await socket.expect("welcome")
            file.write_text(file.read_text().replace('"read", "publish"', '"read"'))
            assert keys.reload_if_changed()
            await live.parts.clients.recheck()
            answer = await socket.ask("publish", reqId="1", channel="trader-status", data=trader())
            assert answer["code"] == "FORBIDDEN"


# --- pages of others


@pytest.mark.parametrize("origin", [FOREIGN, "null", "http://127.0.0.1:1"])
async def test_a_foreign_page_gets_nothing_by_cookie_and_no_session_by_key(origin):
    async with served(allowed_origins=(ALLOWED,)) as live:
        cookie = await signed_in(live)
        theirs = cookie | {"Origin": origin}
        for method, path in (("GET", CHANNELS), ("GET", SESSION), ("DELETE", SESSION)):
            status, body, _ = await live.ask(method, path, who=None, headers=theirs)
            assert (status, body["error"]["code"]) == (403, "FORBIDDEN_ORIGIN"), path
        for path in (SESSION, TICKETS):
            status, _, response = await live.ask("POST", path, headers={"Origin": origin})
            assert status == 403
            assert "Set-Cookie" not in response.headers
        for transport in OPEN:
            assert (await knock(live, transport, theirs))[:2] == (403, "FORBIDDEN_ORIGIN")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_an_image_of_a_foreign_page_gets_nothing_either(site):
    async with served() as live:
        theirs = await signed_in(live) | {"Sec-Fetch-Site": site}
        status, _, _ = await live.ask("GET", CHANNELS, who=None, headers=theirs)
        assert status == 403
        ours = theirs | {"Sec-Fetch-Site": "same-origin"}
        assert (await live.ask("GET", CHANNELS, who=None, headers=ours))[0] == 200


async def test_a_listed_page_opens_a_stream_by_ticket_and_reads_the_answers():
    async with served(allowed_origins=(ALLOWED,)) as live:
        status, body, response = await live.ask("POST", TICKETS, headers={"Origin": ALLOWED})
        assert status == 201
        assert response.headers["Access-Control-Allow-Origin"] == ALLOWED
        query = {"ticket": body["data"]["ticket"]}
        async with live.session.get(
            f"{live.url}/sse/telemetry", params=query, headers={"Origin": ALLOWED}
        ) as stream:
            assert stream.status == 200
            assert stream.headers["Access-Control-Allow-Origin"] == ALLOWED
            assert stream.headers["Access-Control-Allow-Credentials"] == "true"
            assert "Origin" in stream.headers["Vary"]


async def preflight(live: Live, origin: str, path: str, method: str = "POST"):
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type, x-api-key",
    }
    async with live.session.options(live.url + path, headers=asked) as response:
        return response


async def test_a_preflight_lets_listed_pages_in_and_nobody_else():
    async with served(allowed_origins=(ALLOWED,)) as live:
        for path, method in (
            (TICKETS, "POST"),
            (SESSION, "DELETE"),
            (f"{CHANNELS}/positions/events", "POST"),
            (f"{CHANNELS}/positions/snapshot", "GET"),
            ("/sse/telemetry", "GET"),
        ):
            reported = await preflight(live, ALLOWED, path, method)
            assert reported.status == 200, path
            assert reported.headers["Access-Control-Allow-Origin"] == ALLOWED
            assert reported.headers["Access-Control-Allow-Methods"] == method
            assert "*" not in str(reported.headers)
            refused = await preflight(live, FOREIGN, path, method)
            assert refused.status == 403
            assert "Access-Control-Allow-Origin" not in refused.headers


async def test_without_listed_origins_there_is_no_cors_at_all():
    async with served() as live:
        assert (await preflight(live, ALLOWED, TICKETS)).status == 405
        _, _, response = await live.ask("GET", CHANNELS, headers={"Origin": ALLOWED})
        assert not [name for name in response.headers if name.startswith("Access-Control")]


# --- the page


async def test_the_page_comes_with_its_headers_and_is_asked_for_again():
    async with served() as live:
        async with live.session.get(live.url + "/") as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/html; charset=utf-8"
            policy = response.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'")
            assert "unsafe" not in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Referrer-Policy"] == "no-referrer"
            assert response.headers["Cache-Control"] == "no-cache"
            etag = response.headers["ETag"]
            text = await response.text()
        assert not etag.startswith("W/")
        assert not re.search(r"https?://|style=|onclick|<script>|<style>", text)
        again = {"If-None-Match": etag}
        async with live.session.get(live.url + "/", headers=again) as response:
            assert (response.status, await response.read()) == (304, b"")


async def test_every_file_that_the_page_names_is_there():
    async with served() as live:
        types = {
            "js": "text/javascript",
            "css": "text/css",
            "svg": "image/svg+xml",
            "webmanifest": "application/manifest+json",
        }
        async with live.session.get(live.url + "/") as response:
            wanted = re.findall(r'(?:src|href)="((?:page|client)/[^"]+)"', await response.text())
        wanted.append("client/telecast.js")
        seen = set()
        while wanted:
            name = posixpath.normpath(wanted.pop())
            if name in seen:
                continue
            seen.add(name)
            async with live.session.get(f"{live.url}/{name}") as response:
                assert response.status == 200, name
                assert response.content_type == types[name.rpartition(".")[2]]
                text = await response.text()
            folder = posixpath.dirname(name)
            # A line that is a text shows others what to write: the page imports nothing by it.
            code = re.sub(r"^\s*['`].*$", "", text, flags=re.MULTILINE)
            found = re.findall(r'(?:from|import\(|@import) ?"(\.[\w./-]+)"', code)
            wanted += [posixpath.join(folder, each) for each in found]
            outside = re.findall(r"https?://[^\"')\s]+", text)
            assert set(outside) <= {"http://www.w3.org/2000/svg"}, name
        assert len(seen) > 8


@pytest.mark.parametrize(
    "name",
    ["nothing.js", "..%2Fauth.py", "..%2f..%2fapp.py", "%2e%2e%2fauth.py", "front.py", ".", "%00"],
)
async def test_what_is_no_file_of_the_page_is_not_there(name):
    async with served() as live:
        path = aiohttp.client.URL(f"{live.url}/page/{name}", encoded=True)
        async with live.session.get(path) as response:
            assert response.status in (400, 404)


async def test_no_secret_of_a_browser_is_logged(caplog):
    caplog.set_level(logging.DEBUG)
    async with served() as live:
        cookie, text = await signed_in(live), await ticket(live)
        await knock(live, ticket=text)
        await knock(live, ticket=text)
        await knock(live, "sse", cookie)
        link = sign_in_link(live.parts, principal().key_id).partition("=")[2]
        await live.ask("POST", SESSION, who=None, json={"ticket": link})
        await live.ask("POST", SESSION, who=None, json={"key": live.secrets["desk"]})
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    for secret in (cookie["Cookie"].partition("=")[2], text, link, live.secrets["desk"]):
        assert secret not in logged


# --- a session's end


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_signing_out_ends_the_sessions_streams_and_no_others(transport):
    """The stream of a stolen cookie went on after its owner had signed out."""
    async with served() as live:
        mine, other = await signed_in(live), await signed_in(live)
        async with (
            live.transport(transport, who=None, channels="positions", headers=mine) as gone,
            live.transport(transport, who=None, channels="positions", headers=other) as stays,
            live.transport(transport, channels="positions") as keyed,
        ):
            for reader in (gone, stays, keyed):
                await reader.opening()
            assert (await live.ask("DELETE", SESSION, who=None, headers=mine))[0] == 200
            reported, code = await gone.rest()
            notice = reported[-1].body
            assert (notice["code"], notice["retryable"]) == ("SESSION_OVER", False)
            assert code == (4401 if transport == "ws" else None)
            await live.until(lambda: len(live.parts.clients) == 2)
        await live.everybody_gone()
        assert not live.parts.clients._by_session


def restartable(tmp_path: Path) -> tuple[Clock, dict[str, Any]]:
    """A clock that can be set, and what a service is started with, again and again."""
    clock = Clock()
    keys, issued = KeyStore.of(principal(), now=clock)
    return clock, {
        "keys": keys,
        "secrets": {"desk": issued[principal().key_id]},
        "journal": f"sqlite:{tmp_path}/j.db",
        "secret": b"s" * 32,
        "now": clock,
    }


async def test_a_session_that_was_signed_out_stays_so_over_a_restart_and_the_others_hold(tmp_path):
    clock, options = restartable(tmp_path)
    async with served(**options) as live:
        mine, other = await signed_in(live), await signed_in(live)
        assert (await live.ask("DELETE", SESSION, who=None, headers=mine))[0] == 200
    async with served(**options) as live:
        status, body, _ = await live.ask("GET", CHANNELS, who=None, headers=mine)
        assert (status, body["error"]["code"]) == (401, "SESSION_OVER")
        assert (await live.ask("GET", CHANNELS, who=None, headers=other))[0] == 200
        assert len(await read_book(live.parts.journal, BOOK)) == 1
    clock.now += 13 * 3600
    async with served(**options) as live:
        later = await signed_in(live)
        assert (await live.ask("DELETE", SESSION, who=None, headers=later))[0] == 200
        assert len(await read_book(live.parts.journal, BOOK)) == 2, "the first may be forgotten"
    async with served(**options) as live:
        assert len(await read_book(live.parts.journal, BOOK)) == 1, "what has expired is erased"


async def test_a_clock_that_is_wrong_for_a_while_brings_back_no_session(tmp_path):
    """Regression: a start with a clock that was a day ahead erased the sign-outs; once it was
    right, the sessions were there again."""
    clock, options = restartable(tmp_path)

    async def over(live: Live, cookie: dict[str, str]) -> bool:
        return (await live.ask("GET", CHANNELS, who=None, headers=cookie))[0] == 401

    async with served(**options) as live:
        first = await signed_in(live)
        assert (await live.ask("DELETE", SESSION, who=None, headers=first))[0] == 200
    clock.now += 24 * 3600
    async with served(**options) as live:
        clock.now -= 24 * 3600
        assert await over(live, first)
    async with served(**options) as live:
        assert await over(live, first)
        clock.now += 24 * 3600
        other = await signed_in(live)
        assert (await live.ask("DELETE", SESSION, who=None, headers=other))[0] == 200
        clock.now -= 24 * 3600
        assert await over(live, first), "another sign-out meanwhile forgets none"


async def test_a_stream_ends_when_its_session_has_its_greatest_age():
    clock = Clock()
    keys, issued = KeyStore.of(principal(), now=clock)
    secrets = {"desk": issued[principal().key_id]}
    async with served(keys=keys, secrets=secrets, now=clock) as live:
        cookie = await signed_in(live)
        clock.now += MOST_SECONDS
        renewed = live.parts.tokens.renew(
            live.parts.tokens.read(SIGNED, cookie["Cookie"].partition("=")[2])
        )
        cookie = {"Cookie": f"{SESSION_COOKIE}={renewed}"}
        async with live.sse(who=None, channels="positions", headers=cookie) as reader:
            await reader.opening()
            reported, _ = await reader.rest()
            assert reported[-1].body["code"] == "SESSION_OVER"
            assert "greatest age" in reported[-1].body["message"]
