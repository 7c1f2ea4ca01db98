"""A stream of the Python client whose filter changes while it goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from telecast.client.stream import Stream
from tests.support.payloads import position
from tests.support.service.live import Live, served


def stream_of(live: Live, transport: Any, since: str | None = None) -> Stream:
    return Stream(
        live.url,
        live.secrets["desk"],
        ["positions"],
        transport=transport,
        filters={"traderId": ["t0", "t1"]},
        since=since,
    )


async def until_live(stream: Stream, rows: dict[str, Any]) -> list[str]:
    """Fold what comes up to `live`; returns the types."""
    kinds = []
    async for message in stream:
        body = message.body
        kinds.append(message.type)
        if message.type == "snapshot":
            rows.clear()
        elif message.type == "event":
            rows[body["key"]] = body["data"]
        elif message.type == "leave":
            for key in body["keys"]:
                del rows[key]
        elif message.type == "live":
            break
    return kinds


@pytest.mark.parametrize(
    ("transport", "comes"),
    [
        ("ws", ["ack", "leave", "event", "event", "live"]),
        ("sse", ["welcome", "ack", "snapshot", *["event"] * 4, "live"]),
    ],
)
async def test_the_rows_are_those_of_the_new_filter_and_a_websocket_sends_only_the_difference(
    transport: str, comes: list[str]
) -> None:
    async with served() as live, stream_of(live, transport) as stream:
        await live.publish("positions", *(position(f"p{n}", f"t{n % 3}") for n in range(6)))
        rows: dict[str, Any] = {}
        await until_live(stream, rows)
        assert sorted(rows) == ["p0", "p1", "p3", "p4"]
        await stream.refine(add={"traderId": ["t2"]}, remove={"traderId": ["t0"]})
        assert stream.position is None, "what was proven was the old filter"
        assert await until_live(stream, rows) == comes
        assert sorted(rows) == ["p1", "p2", "p4", "p5"]
        assert stream.position == live.at(6)


async def test_a_line_that_is_cut_before_it_is_live_begins_with_the_new_filter() -> None:
    async with served() as live, stream_of(live, "ws") as stream:
        await live.publish("positions", *(position(f"p{n}", f"t{n % 3}") for n in range(6)))
        rows: dict[str, Any] = {}
        await until_live(stream, rows)
        await stream.refine(remove={"traderId": ["t0"]})
        for client in list(live.parts.clients):
            assert client.subscriber is not None
            client.subscriber.sink.abort()  # type: ignore[attr-defined]
        kinds = await until_live(stream, rows)
        if "snapshot" not in kinds:
            kinds = await until_live(stream, rows)
        assert "snapshot" in kinds
        assert sorted(rows) == ["p1", "p4"]


@pytest.mark.parametrize("begins", ["now", "acked", "position"])
async def test_where_it_first_began_proves_nothing_for_a_filter_that_came_later(
    begins: str,
) -> None:
    async with served() as live:
        await live.publish("positions", *(position(f"p{n}", f"t{n % 3}") for n in range(6)))
        stream = stream_of(live, "sse", live.at(6) if begins == "position" else "now")
        if begins == "acked":
            stream = Stream(
                live.url,
                live.secrets["desk"],
                ["positions"],
                transport="sse",
                filters={"traderId": ["t0", "t1"]},
                since="acked",
                client_id="bot",
            )
        async with stream, asyncio.timeout(20):
            rows: dict[str, Any] = {}
            async for message in stream:
                if message.type in ("live", "resume"):
                    break
            await stream.refine(add={"traderId": ["t2"]})
            while "snapshot" not in await until_live(stream, rows):
                pass
            assert sorted(rows) == [f"p{n}" for n in range(6)]


async def test_what_the_service_refuses_is_said_by_the_connection_that_asks_for_it() -> None:
    async with served(max_filter_values=3) as live, stream_of(live, "ws") as stream:
        await until_live(stream, {})
        await stream.refine(add={"traderId": ["t2", "t3"]})
        with pytest.raises(Exception, match="max_filter_values"):
            await until_live(stream, {})


async def test_a_filter_that_can_not_be_is_an_error_at_once() -> None:
    async with served() as live, stream_of(live, "ws") as stream:
        with pytest.raises(ValueError, match="not filtered by 'symbol'"):
            await stream.refine(add={"symbol": ["x"]})
        with pytest.raises(ValueError, match="No value of 'traderId'"):
            await stream.refine(remove={"traderId": ["t0", "t1"]})
