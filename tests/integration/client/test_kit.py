"""The pytest kit as its users have it: a service in a fixture, and what may go wrong on demand."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from telecast.client import Change, Client, Op, Refused, State
from telecast.testing.service import ServiceInTests
from tests.support.payloads import position, price

PATIENCE = 90.0
TICKS = Path(__file__).parents[2] / "data" / "ticks.ndjson"


def client(service: ServiceInTests, **options: Any) -> Client:
    return Client(service.url, key=service.key, patience=PATIENCE, **options)


async def take(changes: Any, count: int = 1) -> list[Change]:
    async with asyncio.timeout(PATIENCE):
        return [await anext(changes) for _ in range(count)]


def test_a_test_without_a_loop_publishes_and_looks(telecast_service: ServiceInTests):
    telecast_service.publish("positions", position("p1"), position("p2"))
    telecast_service.withdraw("positions", "p1")
    assert telecast_service.rows("positions").keys() == {"p2"}
    with pytest.raises(Refused, match="quantity"):
        telecast_service.publish("positions", position("p3", quantity="much"))


async def test_a_cut_and_a_stall_show_in_a_view_and_pass(telecast_service: ServiceInTests):
    async with client(telecast_service, liveness=0.4) as telecast:
        positions = await telecast.view("positions")
        telecast_service.cut()
        async with asyncio.timeout(PATIENCE):
            changed = positions.changed
            while positions.state is not State.DISCONNECTED:
                await anext(changed)
            while positions.state is not State.LIVE:
                await anext(changed)
            telecast_service.stall()
            while positions.state is not State.STALE:
                await anext(changed)
            telecast_service.resume()
            while positions.state is not State.LIVE:
                await anext(changed)


async def test_while_it_is_away_conflation_leaves_out_superseded_rows(telecast_service):
    async with (
        client(telecast_service) as telecast,
        aclosing(telecast.follow("market-data", since="now", delivery="conflated")) as changes,
    ):
        first = asyncio.create_task(take(changes))
        await asyncio.to_thread(telecast_service.until, lambda: telecast_service.connections)
        telecast_service.publish("market-data", price(price="1"))
        await first
        with telecast_service.away():
            for number in range(2, 30):
                telecast_service.publish("market-data", price(price=str(number)))
        prices = [(await take(changes))[0].row["price"]]
        while prices[-1] != "29":
            prices.append((await take(changes))[0].row["price"])
    assert len(prices) < 28


async def test_what_it_forgets_while_a_client_is_away_is_a_gap(telecast_service):
    start = telecast_service.publish("market-data", price(price="0"))
    async with client(telecast_service) as telecast:
        for number in range(1, 5):
            telecast_service.publish("market-data", price(price=str(number)))
        telecast_service.forget("market-data")
        async with aclosing(telecast.follow("market-data", since=start)) as changes:
            gap, newest = await take(changes, 2)
    assert gap.op is Op.GAP
    assert newest.row["price"] == "4"


async def test_a_drain_is_resumed_and_a_restart_is_another_epoch(telecast_service):
    start = telecast_service.publish("positions", position("p1"))
    async with (
        client(telecast_service) as telecast,
        aclosing(telecast.follow("positions", since=start)) as changes,
    ):
        telecast_service.publish("positions", position("p2"))
        await take(changes)
        telecast_service.drain()
        telecast_service.publish("positions", position("p3"))
        assert (await take(changes))[0].key == "p3"
        telecast_service.restart()
        (reset,) = await take(changes)
        assert (reset.op, reset.reason) == (Op.RESET, "EPOCH_CHANGED")


async def test_a_revoked_key_ends_its_client_and_others_stay(telecast_service):
    narrow = telecast_service.new_key("narrow", channels=["positions"])
    async with Client(telecast_service.url, key=narrow) as telecast:
        with pytest.raises(Refused):
            await telecast.view("risk-alerts")
        positions = await telecast.view("positions")
        telecast_service.revoke(narrow)
        with pytest.raises(Refused):
            async for _ in positions.changed:
                pass
    telecast_service.publish("positions", position("p1"))


async def test_a_proxy_without_websockets_and_a_moved_clock(telecast_service):
    telecast_service.block_websockets()
    async with (
        client(telecast_service) as telecast,
        aclosing(telecast.follow("positions", since="earliest")) as changes,
    ):
        telecast_service.publish("positions", position("p1"))
        telecast_service.clock.advance(3600)
        telecast_service.publish("positions", position("p2"))
        before, after = await take(changes, 2)
    assert before.transport == "sse"
    assert after.timestamp - before.timestamp >= 3_600_000


def test_a_recorded_day_is_a_feed(telecast_service: ServiceInTests, tmp_path: Path):
    day = tmp_path / "day.ndjson"
    day.write_text("".join(TICKS.read_text().splitlines(keepends=True)[:200]))
    assert telecast_service.play(day) == 200
    assert telecast_service.rows("market-data")
