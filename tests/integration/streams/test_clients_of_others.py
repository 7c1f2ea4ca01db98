"""What common clients, polyfills and proxies do that a browser does not: each once broke a user."""

from __future__ import annotations

from typing import Any

import pytest

from telecast.protocol.query import CACHE_BUSTERS, LAST_EVENT_IDS
from tests.support.payloads import position, price
from tests.support.service.live import principal, served, types

TRANSPORTS = pytest.mark.parametrize("transport", ["ws", "sse"])


@TRANSPORTS
@pytest.mark.parametrize("name", LAST_EVENT_IDS)
async def test_a_polyfill_resumes_by_the_query(transport: str, name: str) -> None:
    """It was a 400, for which an EventSource ends for good."""
    async with served() as live:
        await live.publish("positions", position("p-1"), position("p-2"))
        query: dict[str, Any] = {"channels": "positions", name: live.at(1)}
        async with live.transport(transport, **query) as reader:
            reported = await reader.opening()
            assert "resume" in types(reported)
            assert [each.body["seq"] for each in reported if each.type == "event"] == [2]
        async with live.transport(transport, since="earliest", **query) as reader:
            assert "resume" in types(await reader.opening()), "it goes before `since`"
        async with live.transport(
            transport, headers={"Last-Event-ID": live.at(2)}, **query
        ) as reader:
            reported = await reader.opening()
            assert "event" not in types(reported), "the header goes before it"
        async with live.transport(transport, channels="positions", **{name: "nonsense"}) as reader:
            snapshot = next(e for e in await reader.opening() if e.type == "snapshot")
            assert snapshot.body["reason"] == "POSITION_MALFORMED"


@TRANSPORTS
async def test_what_libraries_add_by_themselves_ends_no_stream(transport: str) -> None:
    async with served() as live:
        added = dict.fromkeys(CACHE_BUSTERS, "17")
        empty = dict.fromkeys(("since", "clientId", "maxRate", "traderId", "replay", "x"), "")
        async with live.transport(
            transport, channels=["positions", ""], **added, **empty
        ) as reader:
            assert types(await reader.opening())[-1] == "live"


async def test_no_block_of_an_event_stream_is_without_data_and_its_head_says_what_it_is() -> None:
    """fetch-event-source, httpx-sse and others handed on an event with empty data: JSON.parse
    threw. `requests` took the text for Latin-1. What compresses held it back."""
    async with served() as live:
        async with live.session.get(
            f"{live.url}/sse/telemetry",
            headers=live.headers("desk"),
            params={"channels": "positions"},
        ) as response:
            assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            assert response.headers["Cache-Control"] == "no-cache, no-transform"
            head = b""
            while b'"type":"live"' not in head:
                head += await response.content.readany()
        blocks = head.decode().split("\n\n")
        assert blocks[0].startswith("retry: ")
        assert '"type":"welcome"' in blocks[0]
        assert all("data: " in block for block in blocks if block)


async def test_a_refusal_for_an_event_source_is_one_block_with_data() -> None:
    async with served(max_connections=1) as live:
        async with live.ws() as reader:
            await reader.expect("welcome")
            async with live.session.get(
                f"{live.url}/sse/telemetry",
                headers=live.headers("desk", {"Accept": "text/event-stream"}),
            ) as response:
                assert response.status == 200
                assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
                assert response.headers["Cache-Control"] == "no-cache, no-transform"
                body = (await response.read()).decode()
        (block, rest) = body.split("\n\n")
        assert rest == ""
        assert block.startswith("retry: ")
        assert "event: notice\ndata: " in block


@pytest.mark.parametrize("req_id", ["a", 1, 0, -7, 2**53 - 1])
async def test_a_req_id_comes_back_as_it_came(req_id: str | int) -> None:
    async with served() as live, live.ws() as reader:
        await reader.expect("welcome")
        answer = await reader.ask("subscribe", channels=["positions"], reqId=req_id)
        assert answer["reqId"] == req_id
        assert type(answer["reqId"]) is type(req_id)
        await reader.until("live")
        error = await reader.ask("subscribe", channels=["nope"], reqId=req_id)
        assert (error["type"], error["reqId"]) == ("error", req_id)


@pytest.mark.parametrize("req_id", [True, 1.5, [1], {"a": 1}, 2**53, "", "x" * 129])
async def test_a_req_id_that_is_none_is_refused(req_id: Any) -> None:
    async with served() as live, live.ws() as reader:
        await reader.expect("welcome")
        error = await reader.ask("heartbeat", reqId=req_id)
        assert (error["code"], error["reqId"]) == ("BAD_REQUEST", None)
        assert "reqId" in error["message"]


async def test_as_many_filter_values_as_are_allowed_fit_into_an_address() -> None:
    """256 UUIDs are 12 KB; the limit of an address was 8 KB, and the refusal did not name it."""
    async with served() as live:
        names = [f"3fa85f64-5717-4562-b3fc-{number:012}" for number in range(256)]
        async with live.sse(channels="positions", traderId=names) as reader:
            await reader.opening()
        status, body, response = await live.ask("GET", "/sse/telemetry?since=" + "x" * 33_000)
        assert (status, body["error"]["code"]) == (414, "ADDRESS_TOO_LONG")
        assert body["error"]["details"] == {"max_address_bytes": 32_768}
        assert response.headers["X-Correlation-ID"]


@pytest.mark.parametrize("form", ["path", "decoded path", "query"])
async def test_a_row_whose_key_has_a_slash_is_withdrawn_in_any_form(form: str) -> None:
    """Proxies decode %2F in a path, or refuse it."""
    async with served() as live:
        await live.publish("market-data", price("BTC/USDT:USDT", exchange="OKX"))
        path = {
            "path": "/rows/OKX%3ABTC%2FUSDT%3AUSDT",
            "decoded path": "/rows/OKX:BTC/USDT:USDT",
            "query": "/rows?key=OKX:BTC/USDT:USDT",
        }[form]
        status, body, _ = await live.ask("DELETE", f"/api/v1/channels/market-data{path}")
        assert status == 201, body
        snapshot = await live.get("/api/v1/channels/market-data/snapshot")
        assert snapshot["rows"] == []


async def test_rows_of_others_and_rows_that_are_not_there_are_answered_alike() -> None:
    """A key limited to one trader learned by DELETE and `replace` which rows others have."""
    t1 = principal("t1", "read", "publish", forced={"traderId": frozenset({"t1"})})
    async with served(principal(), t1) as live:
        rows = [position("theirs", traderId="t2", symbol="XRP"), position("mine", symbol="XRP")]
        await live.publish("positions", *rows)
        answers = []
        for key in ("theirs", "nobodys"):
            status, body, _ = await live.ask(
                "DELETE", f"/api/v1/channels/positions/rows/{key}", who="t1"
            )
            error = body["error"]
            answers.append((status, error["code"], error["message"].replace(key, "KEY")))
        assert answers[0] == answers[1]
        assert answers[0][:2] == (404, "ROW_NOT_FOUND")
        receipts = [
            await live.publish("positions", who="t1", query={"replace": f"symbol:{symbol}"})
            for symbol in ("XRP", "ETH")
        ]
        assert [each["accepted"] for each in receipts] == [0, 0]
        snapshot = await live.get("/api/v1/channels/positions/snapshot")
        assert [row["key"] for row in snapshot["rows"]] == ["theirs"], "its own is replaced"


async def test_a_handshake_that_is_refused_carries_no_challenge() -> None:
    """Qt knows no Bearer: it reported the challenge, and not the refusal."""
    async with served() as live:
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        for path, headers in (("/ws/telemetry", upgrade), ("/sse/telemetry", {})):
            status, _, response = await live.ask("GET", path, who=None, headers=headers)
            assert status == 401
            assert ("WWW-Authenticate" in response.headers) is (path == "/sse/telemetry")


async def test_no_event_is_larger_than_the_limit_with_its_envelope() -> None:
    """coder/websocket reads 32,768 bytes; a row that just fitted was an event of more."""
    async with (
        served(max_event_bytes=1_024) as live,
        live.ws(channels="positions", delivery="all") as reader,
    ):
        await reader.opening()

        def row(size: int) -> dict[str, Any]:
            return position("p-1", reason="r" * size)

        least, most = 1, 1_024
        while most - least > 1:
            size = (least + most) // 2
            status, _, _ = await live.post("positions", row(size))
            least, most = (size, most) if status == 201 else (least, size)
        await live.publish("positions", row(least))
        error = await live.refused("positions", row(most))
        assert "max_event_bytes" in error["message"]
        events = [await reader.expect("event")]
        while events[-1].row["reason"] != "r" * least:
            events.append(await reader.expect("event"))
        largest = max(len(each.json) for each in events)
        assert 1_000 < largest <= 1_024
