"""A channel of a user's own goes every way that a built-in one goes."""

from __future__ import annotations

import asyncio
import sys

import orjson
import pytest

from telecast.channels.configured import catalogue_from
from tests.support.payloads import ORDERS
from tests.support.service.live import Live, principal, served

CATALOGUE = catalogue_from(
    ORDERS
    + """
[fills]
mode = "log"
filters = ["symbol"]
[fills.fields]
id = { type = "id", example = "f1" }
symbol = { type = "id", example = "BTCUSDT" }
"""
)
ORDER, FILL = CATALOGUE["orders"].example, CATALOGUE["fills"].example


async def command(live: Live, *words: str) -> str:
    """What a command of `telecast` prints about this service."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telecast", *words),
        *("--url", live.url, "--key", live.secrets["desk"]),
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_it_is_published_streamed_resumed_and_withdrawn(transport: str) -> None:
    async with served(catalogue=CATALOGUE) as live:
        await live.publish("orders", ORDER, ORDER | {"id": "o2", "symbol": "ETHUSDT"})
        async with live.transport(transport, channels="orders", symbol="BTCUSDT") as reader:
            (row,) = [each for each in await reader.opening() if each.type == "event"]
            assert row.row == ORDER
            await live.publish("orders", ORDER | {"status": "FILLED"})
            (event,) = await reader.events()
            assert (event.body["op"], event.body["key"]) == ("delete", "o1")
        async with live.transport(transport, channels="orders", since=live.at(1)) as reader:
            replayed = [each.body for each in await reader.opening() if each.type == "event"]
            assert [(each["seq"], each["op"]) for each in replayed] == [
                (2, "upsert"),
                (3, "delete"),
            ]


async def test_it_is_in_the_catalogue_the_snapshot_the_history_and_the_metrics() -> None:
    async with served(catalogue=CATALOGUE) as live:
        await live.publish("orders", ORDER)
        entry = next(c for c in await live.get("/api/v1/channels") if c["name"] == "orders")
        assert (entry["mode"], entry["key"], entry["staleAfterSeconds"]) == ("keyed", ["id"], 90.0)
        assert entry["example"] == ORDER
        assert set(entry["schema"]["properties"]) == set(ORDER)
        (row,) = (await live.get("/api/v1/channels/orders/snapshot"))["rows"]
        assert row["data"] == ORDER
        history = await live.get("/api/v1/channels/orders/events")
        assert [each["data"] for each in history["events"]] == [ORDER]
        assert live.parts.ingress.tally.published["orders"] == 1


async def test_the_commands_know_it() -> None:
    async with served(catalogue=CATALOGUE) as live:
        await live.publish("orders", ORDER)
        assert "orders" in await command(live, "channels")
        printed = await command(live, "snapshot", "orders", "--json")
        assert orjson.loads(printed.splitlines()[0])["data"] == ORDER


async def test_a_payload_that_does_not_fit_is_refused_with_its_field() -> None:
    async with served(catalogue=CATALOGUE) as live:
        fault = await live.refused("orders", ORDER | {"price": "-1"})
        assert fault["code"] == "VALIDATION_FAILED"
        assert fault["details"]["problems"][0]["field"] == "price"


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_events_of_a_log_are_appended_and_leave_no_row(transport: str) -> None:
    async with served(catalogue=CATALOGUE) as live:
        async with live.transport(transport, channels="fills") as reader:
            await reader.opening()
            await live.publish("fills", FILL, FILL, FILL | {"id": "f2"})
            events = [each.body for each in await reader.events(3)]
            assert [(each["op"], each["key"]) for each in events] == [
                ("append", "f1"),
                ("append", "f1"),
                ("append", "f2"),
            ]
        assert (await live.get("/api/v1/channels/fills/snapshot"))["rows"] == []
        kept = await live.get("/api/v1/channels/fills/events")
        assert [each["op"] for each in kept["events"]] == ["append"] * 3
        async with live.transport(transport, channels="fills", since=live.at(1)) as reader:
            replayed = [each for each in await reader.opening() if each.type == "event"]
            assert len(replayed) == 2, "also of one key nothing is conflated"


async def test_a_log_has_no_rows_to_withdraw_or_replace() -> None:
    async with served(catalogue=CATALOGUE) as live:
        await live.publish("fills", FILL)
        path = "/api/v1/channels/fills"
        status, answer, _ = await live.ask("DELETE", f"{path}/rows/f1")
        assert (status, answer["error"]["code"]) == (404, "ROW_NOT_FOUND")
        status, answer, _ = await live.ask(
            "POST", f"{path}/events", query={"replace": "symbol:BTCUSDT"}, json=[FILL]
        )
        assert (status, answer["error"]["code"]) == (400, "BAD_REQUEST")
        assert "is a log" in answer["error"]["message"]


async def test_a_forced_filter_hides_the_channels_that_lack_its_field() -> None:
    bound = principal("bot", forced={"traderId": frozenset({"t1"})})
    async with served(bound, catalogue=CATALOGUE) as live:
        names = [each["name"] for each in await live.get("/api/v1/channels", who="bot")]
        assert names == ["trader-status", "positions", "risk-alerts", "executions", "orders"]
        status, answer, _ = await live.ask("GET", "/api/v1/channels/fills/snapshot", who="bot")
        assert (status, answer["error"]["code"]) == (403, "FORBIDDEN")
        fault = await live.refused("fills", FILL, who="bot")
        assert fault["code"] == "FORBIDDEN"
        async with live.ws(who="bot") as reader:
            await reader.expect("welcome")
            await reader.send("subscribe", channels=["fills"])
            assert (await reader.expect("error")).body["code"] == "FORBIDDEN"


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_a_pattern_means_what_the_key_may_read_of_what_it_matches(transport: str) -> None:
    bound = principal("bot", channels=("market-data", "orders", "positions"))
    async with served(bound, catalogue=CATALOGUE) as live:
        for asked, granted in (
            ("*", ["positions", "market-data", "orders"]),
            ("market-*", ["market-data"]),
            ("*s,market-data", ["positions", "orders", "market-data"]),
        ):
            async with live.transport(transport, who="bot", channels=asked) as reader:
                ack = (await reader.opening())[0].body
                assert ack["type"] == "ack"
                assert (ack["channels"], ack["rejected"]) == (granted, [])
        async with live.transport(transport, who="bot", channels="orders,mkt-*") as reader:
            (rejected,) = (await reader.opening())[0].body["rejected"]
            assert rejected["channel"] == "mkt-*"


async def test_a_pattern_is_not_bounded_by_the_number_of_channels_that_may_be_named() -> None:
    async with served(catalogue=CATALOGUE, max_channels=1) as live:
        async with live.sse() as reader:
            assert len((await reader.opening())[0].body["channels"]) == len(CATALOGUE)
        async with live.ws() as reader:
            await reader.expect("welcome")
            await reader.ask("subscribe", channels=["*"])
            await reader.until("live")
            await reader.ask("subscribe", channels=["orders"])
            await reader.send("subscribe", channels=["fills"])
            assert (await reader.until("error"))[-1].body["code"] == "LIMIT_EXCEEDED"
            ack = await reader.ask("unsubscribe", channels=["*s"])
            assert sorted(ack["channels"]) == ["market-data", "system"]


async def test_a_field_that_it_has_not_is_refused_by_its_name() -> None:
    async with served(catalogue=CATALOGUE) as live:
        error = await live.refused("orders", ORDER | {"pricee": "1"})
        assert error["code"] == "VALIDATION_FAILED"
        (problem,) = error["details"]["problems"]
        assert (problem["field"], problem["message"]) == ("pricee", "Unknown field.")
        status, _, _ = await live.post("orders", ORDER | {"pricee": "1"})
        assert status == 422
