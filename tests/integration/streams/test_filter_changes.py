"""Filter values that come and go on an open WebSocket: nothing is sent again that stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.tape.selection import Selection
from tests.support.payloads import alert, position, price
from tests.support.service.live import Live, WsReader, principal, served

FILTER = {"channels": ["positions"]}


async def subscribed(reader: WsReader, *traders: str, channels: str = "positions") -> None:
    await reader.expect("welcome")
    await reader.send("subscribe", channels=[channels], filter={"traderId": list(traders)})
    await reader.until("live")


async def changed(reader: WsReader, **said: Any) -> list[Any]:
    """What comes for it, from the ack to `live`."""
    await reader.send("filter", **{**FILTER, **said})
    ack = (await reader.expect("ack")).body
    assert ack["action"] == "filter"
    return await reader.until("live")


async def three_traders(live: Live) -> None:
    await live.publish("positions", *(position(f"p{n}", f"t{n % 3}") for n in range(6)))


async def test_a_value_that_is_added_brings_its_rows_and_no_others() -> None:
    async with served() as live, live.ws() as reader:
        await three_traders(live)
        await subscribed(reader, "t0")
        came = await changed(reader, add={"traderId": ["t1"]})
        assert [each.body["key"] for each in came[:-1]] == ["p1", "p4"]
        assert came[-1].body == came[-1].body | {"position": live.at(6), "count": 2}
        await live.publish("positions", position("p9", "t1"), position("p8", "t2"))
        assert (await reader.events())[0].body["key"] == "p9"


async def test_a_value_that_is_removed_names_the_rows_that_leave() -> None:
    async with served() as live, live.ws() as reader:
        await three_traders(live)
        await subscribed(reader, "t0", "t1")
        left, _ = await changed(reader, remove={"traderId": ["t0", "never"]})
        assert left.body["channel"] == "positions"
        assert sorted(left.body["keys"]) == ["p0", "p3"]
        await live.publish("positions", position("p0", "t0"), position("p1", "t1"))
        assert (await reader.events())[0].body["key"] == "p1"


async def test_values_are_exchanged_in_one_message_on_all_channels_that_have_the_field() -> None:
    async with served() as live, live.ws() as reader:
        await three_traders(live)
        await live.publish("risk-alerts", alert("a0", "t0"), alert("a1", "t1"), alert("b", None))
        await live.publish("market-data", price())
        await reader.expect("welcome")
        channels = ["positions", "risk-alerts", "market-data"]
        await reader.send("subscribe", channels=channels, filter={"traderId": ["t0"]})
        await reader.until("live")
        came = await changed(
            reader, channels=["*"], add={"traderId": ["t1"]}, remove={"traderId": ["t0"]}
        )
        left = {
            (each.body["channel"], key)
            for each in came
            if each.type == "leave"
            for key in each.body["keys"]
        }
        assert left == {("positions", "p0"), ("positions", "p3"), ("risk-alerts", "a0")}
        rows = {(b["channel"], b["key"]) for b in (e.body for e in came if e.type == "event")}
        assert rows == {("positions", "p1"), ("positions", "p4"), ("risk-alerts", "a1")}


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ({}, "BAD_REQUEST", "`add` or `remove` must name"),
        ({"add": {}, "remove": {}}, "BAD_REQUEST", "`add` or `remove` must name"),
        ({"add": {"traderId": []}}, "BAD_REQUEST", "`add.traderId` must be a list of values"),
        ({"add": ["t1"]}, "BAD_REQUEST", "`add` must be an object"),
        ({"add": {"trader": ["t1"]}}, "UNKNOWN_FILTER", "Did you mean 'traderId'?"),
        ({"add": {"severity": ["x"]}}, "UNKNOWN_FILTER", "has a filter 'severity'"),
        ({"add": {"symbol": ["x"]}}, "BAD_REQUEST", "You have not filtered positions by 'symbol'"),
        ({"remove": {"traderId": ["t0"]}}, "BAD_REQUEST", "would have no 'traderId' left"),
        (
            {"add": {"traderId": ["t1"]}, "remove": {"traderId": ["t1"]}},
            "BAD_REQUEST",
            "to be added and removed",
        ),
        ({"add": {"traderId": ["t1"]}, "filter": {}}, "BAD_REQUEST", "has no field 'filter'"),
        (
            {"channels": ["market-data"], "add": {"traderId": ["t1"]}},
            "BAD_REQUEST",
            "None of these channels is subscribed.",
        ),
        (
            {"add": {"traderId": [f"x{n}" for n in range(256)]}},
            "LIMIT_EXCEEDED",
            "max_filter_values",
        ),
    ],
)
async def test_a_change_that_can_not_be_is_refused_and_nothing_changes(
    said: dict[str, Any], code: str, words: str
) -> None:
    async with served() as live, live.ws() as reader:
        await three_traders(live)
        await subscribed(reader, "t0")
        error = await reader.ask("filter", **{**FILTER, **said})
        assert (error["type"], error["code"]) == ("error", code)
        assert words in error["message"]
        (done,) = await changed(reader, add={"traderId": ["t0"]})
        assert done.body["count"] == 0


async def test_channels_that_are_not_subscribed_are_named_and_the_others_change() -> None:
    async with served() as live, live.ws() as reader:
        await subscribed(reader, "t0")
        ack = await reader.ask(
            "filter", channels=["positions", "risk-alerts"], add={"traderId": ["t1"]}, reqId="7"
        )
        assert ack["reqId"] == "7"
        assert [each["channel"] for each in ack["rejected"]] == ["risk-alerts"]


async def test_no_value_that_is_added_shows_more_than_the_key_may_see() -> None:
    holder = principal("t0", forced={"traderId": frozenset({"t0"})})
    async with served(holder, principal()) as live, live.ws(who="t0") as reader:
        await live.publish("positions", position("p0", "t0"), position("p1", "t1"))
        await subscribed(reader, "t0")
        (done,) = await changed(reader, add={"traderId": ["t1"]})
        assert done.body["count"] == 0


async def test_rights_that_shrink_while_a_filter_waits_win() -> None:
    """Regression: the selection was that of before, and the one that waited came into force."""
    wide = principal("t0", forced={"traderId": frozenset({"t0", "t1"})})
    async with served(wide, principal()) as live, live.ws(who="t0") as reader:
        await live.publish("positions", position("p0", "t0"), position("p1", "t1"))
        await subscribed(reader, "t0")
        (client,) = live.parts.clients
        assert client.subscriber is not None
        before = client.subscriber.selection
        both = Selection({"positions": (("traderId", frozenset({"t0", "t1"})),)})
        live.parts.broadcaster.refine(client.subscriber, both)
        client.narrow(replace(wide, forced={"traderId": frozenset({"t0"})}))
        reported = await reader.until("live")
        assert "p1" not in {each.body.get("key") for each in reported}
        assert client.subscriber.selection == client.subscriber.wanted == before


async def test_what_was_acknowledged_before_is_all_that_can_be_until_it_is_live() -> None:
    async with served() as live, live.ws(clientId="me") as reader:
        await three_traders(live)
        await subscribed(reader, "t0")
        await changed(reader, add={"traderId": ["t1"]})
        ack = await reader.ask("ack", position=live.at(6), reqId="1")
        assert ack["position"] == live.at(6)


async def test_events_of_a_log_are_filtered_otherwise_from_now_on() -> None:
    fill = CHANNELS["executions"]
    async with served() as live, live.ws() as reader:
        await subscribed(reader, "t1", channels="executions")
        await live.publish("executions", fill.example | {"id": "f1"})
        await reader.events()
        (done,) = await changed(
            reader,
            channels=["executions"],
            add={"traderId": ["t2"]},
            remove={"traderId": ["t1"]},
        )
        assert done.body["count"] == 0
        await live.publish("executions", fill.example | {"id": "f2"})
        await live.publish("executions", fill.example | {"id": "f3", "traderId": "t2"})
        assert (await reader.events())[0].body["key"] == "f3"
