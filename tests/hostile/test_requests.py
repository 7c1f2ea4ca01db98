"""Whatever a request says in its address and its headers: a named refusal, and nothing injected."""

from __future__ import annotations

import re
from typing import get_args
from urllib.parse import quote

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from telecast.errors import CODES
from telecast.protocol.messages import SnapshotReason
from tests.hostile.hosting import Host, answered
from tests.hostile.poison import TEXTS, texts
from tests.support.payloads import price
from tests.support.service.live import Live, served

ADDRESSES = (
    "/ws/telemetry",
    "/sse/telemetry",
    "/api/v1/channels",
    "/api/v1/channels/positions",
    "/api/v1/channels/positions/snapshot",
    "/api/v1/channels/positions/events",
    "/api/v1/session",
    "/api/v1/clients",
    "/api/v1/clients/c-1",
    "/api/v1/stats",
    "/readyz",
    "/",
    "/page/main.js",
)
NAMES = (
    *("clientId", "channels", "since", "replay", "delivery", "maxRate", "heartbeat", "ticket"),
    *("traderId", "symbol", "exchange", "severity", "limit", "cursor", "after", "replace", "key"),
    *("verbose", "", "Since", "channels[]", "__proto__"),
)
RIGHT = (
    *("positions", "positions,risk-alerts", "earliest", "k3v9:1", "true", "all", "5", "0.5", "t1"),
    *("acked", "1e3", "-1", "1_0", "\u0661\u0662", "0" * 5_00, "9" * 20, "k3v9:9007199254740992"),
    *("k3v9:1.1", "k3v9:01", ":", ",", ",,positions,,", "traderId:t1", "nan", "Infinity", "+5"),
)
values = st.sampled_from(RIGHT) | texts
odd_bytes = st.sampled_from([text.encode() for text in TEXTS]) | st.binary(max_size=40)
HEADERS = (
    *("Last-Event-ID", "X-Correlation-ID", "Origin", "Authorization", "Cookie", "Accept"),
    *("X-API-Key", "Sec-Fetch-Site", "Sec-WebSocket-Version", "Sec-WebSocket-Key", "User-Agent"),
    *("Upgrade", "Connection", "Idempotency-Key", "Content-Type", "Content-Encoding", "Host"),
    *("X-Forwarded-For", "If-None-Match", "Range", "Expect"),
)
KNOWN = {
    *("content-type", "content-length", "date", "server", "x-correlation-id", "connection"),
    *("cache-control", "etag", "content-security-policy", "x-content-type-options", "upgrade"),
    *("referrer-policy", "cross-origin-resource-policy", "www-authenticate", "retry-after"),
    *("sec-websocket-version", "sec-websocket-accept", "allow", "x-accel-buffering", "set-cookie"),
    *("transfer-encoding", "vary", "sec-websocket-protocol", "x-frame-options"),
}


def ask(live: Live, address: str, *headers: bytes, method: str = "GET") -> bytes:
    """A request of the desk's, in bytes."""
    own = [b"Host: x", b"Connection: close", b"X-API-Key: " + live.secrets["desk"].encode()]
    reported = {line.partition(b":")[0].lower() for line in headers}
    own = [line for line in own if line.partition(b":")[0].lower() not in reported]
    return b"\r\n".join([f"{method} {address} HTTP/1.1".encode(), *own, *headers, b"", b""])


def sane(status: int, headers: dict[str, list[str]], body: bytes) -> None:
    """An answer of ours: no header of the asker's making, a refusal in its envelope."""
    assert status < 500 or status == 501, body
    assert set(headers) <= KNOWN, headers
    assert not [name for name in headers if name != "set-cookie" and len(headers[name]) > 1]
    if "x-correlation-id" in headers:
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", headers["x-correlation-id"][0])
    if status >= 400 and headers["content-type"][0].startswith("application/json"):
        error = orjson.loads(body)["error"]
        assert set(error) == {"code", "message", "details", "advice", "retryable"}
        assert CODES[error["code"]].http == status
        assert len(error["message"]) < 1_000


@settings(max_examples=250, derandomize=True)
@example(address="/sse/telemetry", query=[("clientId", "a\r\nX-Injected: 1\r\n\r\n")])
@example(address="/ws/telemetry", query=[("since", "\u0661:\u0661")])
@given(
    address=st.sampled_from(ADDRESSES),
    query=st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=3),
)
def test_no_query_breaks_anything(host: Host, address: str, query: list[tuple[str, str]]) -> None:
    said = "&".join(f"{quote(name)}={quote(value)}" for name, value in query)
    whole = ask(host.live, f"{address}?{said[:8_000]}")
    status, headers, body = host.run(answered(host.live, whole))
    sane(status, headers, body)
    if address.endswith("telemetry") and status != 200:
        assert orjson.loads(body)["error"]["code"] != "NOT_FOUND"


@settings(max_examples=150, derandomize=True)
@given(
    address=st.sampled_from(ADDRESSES),
    junk=st.binary(max_size=12).map(lambda data: "".join(f"%{byte:02x}" for byte in data)),
    place=st.sampled_from(["?clientId=", "?traderId=", "?since=", "?%s=1&", "?limit=", "/", "%2f"]),
)
@example(address="/sse/telemetry", junk="%ed%a0%80", place="?clientId=")
@example(address="/api/v1/channels", junk="%ff%fe/events", place="/")
def test_no_percent_encoding_breaks_anything(
    host: Host, address: str, junk: str, place: str
) -> None:
    """Also what is no UTF-8, a NUL or a line break once it is decoded."""
    whole = ask(host.live, address + (place % junk if "%s" in place else place + junk))
    sane(*host.run(answered(host.live, whole)))


@settings(max_examples=250, derandomize=True)
@given(
    address=st.sampled_from(ADDRESSES),
    name=st.sampled_from(HEADERS),
    value=odd_bytes,
    sep=st.sampled_from([b"", b"a", b"\r\nX-Injected: 1", b"\nX-Injected: 1", b"\rX-Injected: 1"]),
)
def test_no_header_breaks_anything_or_comes_back_as_another(
    host: Host, address: str, name: str, value: bytes, sep: bytes
) -> None:
    whole = ask(host.live, address, name.encode() + b": " + value + sep)
    status, headers, body = host.run(answered(host.live, whole))
    sane(status, headers, body)
    assert "x-injected" not in headers


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
async def test_a_client_id_comes_back_as_it_was_or_not_at_all(text: str) -> None:
    async with served() as live:
        for transport in ("ws", "sse"):
            status, body, _ = await live.ask(
                "GET", f"/{transport}/telemetry", query={"clientId": text, "channels": "nothing"}
            )
            if body["error"]["code"] == "UNKNOWN_CHANNEL":  # the name was good
                async with live.transport(transport, clientId=text) as reader:
                    assert (await reader.expect("welcome")).body["clientId"] == (text or None)
            else:
                assert (status, body["error"]["code"]) == (400, "BAD_REQUEST")
                assert "`clientId`" in body["error"]["message"]


@pytest.mark.parametrize(
    "junk", ["\u0661:\u0662", "1_0", "k3v9:1_0", "k3v9: 1", "k3v9:" + "9" * 16, "x" * 7_000, "\x7f"]
)
async def test_a_position_that_is_none_starts_over_by_header_and_is_refused_by_query(
    junk: str,
) -> None:
    async with served() as live:
        await live.publish("market-data", price())
        if len(junk) < 4_000 and "\x7f" not in junk:
            async with live.sse(headers={"Last-Event-ID": junk}) as reader:
                await reader.expect("welcome", "ack")
                snapshot = await reader.expect("snapshot")
                assert snapshot.body["reason"] == "POSITION_MALFORMED"
        status, body, _ = await live.ask("GET", "/sse/telemetry", query={"since": junk})
        assert (status, body["error"]["code"]) == (400, "POSITION_MALFORMED")


# --- who has no key


async def test_every_path_but_these_needs_a_key() -> None:
    """A route that forgets to ask fails here, whatever it is for."""
    files = {"/", "/page/{name}", "/client/{name}"}
    # Without a key these tell what is built in, and no more.
    contracts = {"/docs", "/openapi.json", "/asyncapi.json", "/types.d.ts", "/types.py"}
    everybodys = {*files, *contracts, "/livez", "/readyz", "/api/v1/session"}
    not_yet = {"NOT_AVAILABLE"}
    async with served() as live:
        asked = set()
        for route in live.app.router.routes():
            assert route.resource is not None
            path = route.resource.canonical
            if path in everybodys or route.method == "HEAD":
                continue
            method = "GET" if route.method == "*" else route.method
            filled = re.sub(r"\{\w+\}", "positions", path)
            status, body, _ = await live.ask(method, filled, who=None)
            known = status == 401 or body["error"]["code"] in not_yet
            assert known, (method, path, status, body)
            asked.add(path)
        assert {"/ws/telemetry", "/sse/telemetry", "/metrics", "/api/v1/tickets"} <= asked
        assert live.parts.settings.host == ("127.0.0.1",)


# --- what a scrape costs


def labels(scrape: str) -> set[str]:
    return {line.rpartition(" ")[0] for line in scrape.splitlines() if line[:1] != "#"}


async def test_no_request_makes_a_metric() -> None:
    """A name that the asker chose would be a time series for ever."""
    async with served() as live:
        async with live.session.get(live.url + "/metrics", headers=live.headers("desk")) as answer:
            before = labels(await answer.text())
        for number, text in enumerate(TEXTS):
            for address in (f"/canary{number}", f"/api/v1/channels/canary{number}/events"):
                await live.ask("GET", address, query={text[:50] or "x": text[:50]})
                await live.ask("POST", address, json={text: text}, query={"replace": "canary:1"})
            await live.ask("DELETE", f"/api/v1/channels/positions/rows/canary{number}")
            async with live.ws() as reader:
                await reader.expect("welcome")
                await reader.ask(f"canary{number}", channels=[text])
                await reader.ask("subscribe", channels=[f"canary{number}"])
                name = f"canary{number}"
                await reader.ask("publish", channel=name, data={name: 1}, idempotencyKey=name)
            for headers in (
                {"User-Agent": f"canary{number}"},
                {"Origin": f"http://canary{number}"},
            ):
                async with live.session.get(
                    live.url + "/sse/telemetry", headers=live.headers("desk", headers)
                ):
                    pass
        await live.everybody_gone()
        async with live.session.get(live.url + "/metrics", headers=live.headers("desk")) as answer:
            after = labels(await answer.text())
        codes = "|".join({*CODES, *get_args(SnapshotReason), "CLIENT", "RESUMED"})
        known = re.compile(rf'(?:code|reason|outcome)="(?:{codes})"')
        assert all(known.search(each) for each in after - before), after - before
        assert not [each for each in after if "canary" in each]
