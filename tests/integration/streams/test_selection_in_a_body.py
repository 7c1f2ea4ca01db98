"""A stream whose selection stands in a JSON body: for what no address has room for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from telecast.client.stream import Stream
from tests.support.payloads import position
from tests.support.service.live import Live, SseReader, principal, served

JSON = {"Content-Type": "application/json"}
METHODS = pytest.mark.parametrize("method", ["POST", "QUERY"])
MANY = [f"a-trader-with-a-long-name-{n:05d}" for n in range(2_000)]


@asynccontextmanager
async def opened(
    live: Live,
    body: Any,
    *,
    method: str = "POST",
    who: str | None = "desk",
    path: str = "",
    **more: str,
) -> AsyncIterator[SseReader]:
    headers = live.headers(who, {**JSON, **more})
    async with live.session.request(
        method, f"{live.url}/sse/telemetry{path}", data=orjson.dumps(body), headers=headers
    ) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        yield SseReader(response.content.readline)


@METHODS
async def test_a_body_selects_as_the_address_does(method: str) -> None:
    async with served() as live:
        await live.publish("positions", position("p1", "t1"), position("p2", "t2"))
        body = {
            "channels": ["positions"],
            "filter": {"traderId": ["t2"]},
            "clientId": "me",
            "heartbeat": 7,
            "maxRate": 0.5,
            "position": True,
            "since": live.at(0),
        }
        async with opened(live, body, method=method) as reader:
            welcome = (await reader.expect("welcome")).body
            assert (welcome["clientId"], welcome["heartbeatSeconds"]) == ("me", 7)
            ack = (await reader.expect("ack")).body
            assert (ack["channels"], ack["maxRate"]) == (["positions"], 0.5)
            await reader.expect("resume")
            event = (await reader.expect("event")).body
            assert (event["key"], event["position"]) == ("p2", live.at(2))
        async with opened(live, {"replay": False}, method=method) as reader:
            assert "live" in [each.type for each in (await reader.opening())]


async def test_thousands_of_values_have_room_and_are_counted() -> None:
    async with served(max_filter_values=2_000, max_frame_bytes=2**20) as live:
        await live.publish("positions", position("p1", MANY[-1]), position("p2", "t2"))
        body = {"channels": ["positions"], "filter": {"traderId": MANY}}
        async with opened(live, body) as reader:
            opening = await reader.opening()
            assert [each.body["key"] for each in opening if each.type == "event"] == ["p1"]
        more = {"channels": ["positions"], "filter": {"traderId": [*MANY, "one more"]}}
        _, refused, _ = await ask(live, more)
        assert refused["error"]["code"] == "LIMIT_EXCEEDED"


async def ask(live: Live, body: Any, **more: Any) -> tuple[int, dict[str, Any], Any]:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    headers = {**JSON, **more.pop("headers", {})}
    return await live.ask("POST", "/sse/telemetry", data=data, headers=headers, **more)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "The body is a JSON object"),
        (b"{", "The body is not valid JSON"),
        ({"channels": "positions"}, "`channels` must name at least one channel."),
        ({"channels": []}, "`channels` must name at least one channel."),
        ({"chanels": ["*"]}, "no member 'chanels'. Did you mean 'channels'?"),
        ({"traderId": ["t1"]}, "no member 'traderId'. Filters stand in `filter`."),
        ({"filter": {"trader": ["t1"]}}, "Did you mean 'traderId'?"),
        ({"replay": "false"}, "`replay` must be true or false."),
        ({"heartbeat": "7"}, "`heartbeat` must be a number."),
        ({"heartbeat": True}, "`heartbeat` must be a number."),
        ({"heartbeat": 1}, "`heartbeat` must be whole seconds"),
        ({"maxRate": 1e30}, "`maxRate` must be a number."),
        ({"since": 7}, "`since` must be a text."),
        ({"since": "nonsense"}, "position"),
        ({"delivery": "some"}, "`delivery` must be conflated or all."),
    ],
)
async def test_a_wrong_body_is_refused_and_says_which(body: Any, words: str) -> None:
    async with served() as live:
        status, answer, _ = await ask(live, body)
        assert status == 400
        assert words in answer["error"]["message"]


async def test_what_stands_in_the_address_too_or_is_no_json_or_too_large_is_refused() -> None:
    async with served(max_frame_bytes=1_024) as live:
        status, answer, _ = await ask(live, {}, query={"channels": "positions"})
        assert (status, "stands there, not in the address" in answer["error"]["message"]) == (
            400,
            True,
        )
        status, answer, _ = await ask(live, {}, headers={"Content-Type": "text/plain"})
        assert status == 415
        status, answer, _ = await ask(live, {"clientId": "x" * 2_000})
        assert (status, answer["error"]["code"]) == (413, "BODY_TOO_LARGE")


async def test_who_may_not_read_is_refused_before_the_body_is_read() -> None:
    async with served(principal("writer", "publish"), principal()) as live:
        for who, code in ((None, 401), ("writer", 403)):
            status, _, _ = await ask(live, b"{ not looked at", who=who)
            assert status == code


async def test_a_page_elsewhere_asks_first_and_a_ticket_opens_it() -> None:
    origin = "https://desk.example"
    async with served(allowed_origins=(origin,)) as live:
        async with live.session.options(
            f"{live.url}/sse/telemetry",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type",
            },
        ) as preflight:
            assert preflight.status == 200
            assert preflight.headers["Access-Control-Allow-Origin"] == origin
        _, ticket, _ = await live.ask("POST", "/api/v1/tickets")
        path = f"?ticket={ticket['data']['ticket']}"
        async with opened(
            live, {"channels": ["positions"]}, who=None, path=path, Origin=origin
        ) as reader:
            await reader.opening()
        status, _, _ = await ask(live, {}, who=None, headers={"Origin": "https://evil.example"})
        assert status in (401, 403)


async def test_the_python_client_puts_what_is_long_into_a_body_and_comes_back_with_it() -> None:
    async with served(max_filter_values=2_000, max_frame_bytes=2**20) as live:
        await live.publish("positions", position("p1", MANY[0]))
        stream = Stream(
            live.url,
            live.secrets["desk"],
            ["positions"],
            transport="sse",
            heartbeat=5,
            max_rate=20,
            filters={"traderId": MANY},
        )
        async with stream:
            async for message in stream:
                if message.type == "live":
                    break
            for client in list(live.parts.clients):
                assert client.subscriber is not None
                client.subscriber.sink.abort()  # type: ignore[attr-defined]
            await live.publish("positions", position("p2", MANY[1]))
            async for message in stream:
                assert message.type != "snapshot", "it resumes"
                if message.type == "event":
                    break
            assert message.body["key"] == "p2"
