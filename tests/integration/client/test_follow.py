"""Changes one by one from the real service: once each, in order, over cuts, transports and runs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from telecast.client import Behind, Change, Client, Closed, Op, PositionFile, Refused
from telecast.consumers.consumer import Name
from telecast.errors import PeerFault
from telecast.testing.relay import relay
from tests.support.payloads import position, price
from tests.support.service.live import Live, principal, served

PATIENCE = 90.0
both = pytest.mark.parametrize("transport", ["ws", "sse"])


def client(live: Live, url: str | None = None, **options: Any) -> Client:
    made = Client(url or live.url, **{"key": live.secrets["desk"], "patience": PATIENCE, **options})
    made._pause = at_once
    return made


async def at_once(seconds: float) -> None:
    """Stands where a client waits before it comes back."""
    await asyncio.sleep(0)


async def take(changes: Any, count: int) -> list[Change]:
    async with asyncio.timeout(PATIENCE):
        return [await anext(changes) for _ in range(count)]


def keys(changes: list[Change]) -> list[str]:
    return [change.key for change in changes]


@both
async def test_rows_come_first_and_then_every_change(transport):
    async with served() as live, client(live, transport=transport) as telecast:
        await live.publish("positions", position("p1"))
        async with aclosing(telecast.follow("positions")) as changes:
            reset, row = await take(changes, 2)
            assert (reset.op, reset.channel, reset.reason) == (Op.RESET, "positions", "NEW")
            assert (row.op, row.key, row.position) == (Op.UPSERT, "p1", None)
            await live.publish("positions", position("p1", status="CLOSED", isActive=False))
            (gone,) = await take(changes, 1)
        assert (gone.op, gone.key, gone.position, gone.seq) == (Op.DELETE, "p1", live.at(2), 2)
        assert gone.row["status"] == "CLOSED"
        assert gone.transport == transport


@both
async def test_since_a_position_only_what_came_after_it(transport):
    async with served() as live, client(live, transport=transport) as telecast:
        await live.publish("positions", position("p1"), position("p2"), position("p3"))
        async with aclosing(telecast.follow("positions", since=live.at(1))) as changes:
            assert keys(await take(changes, 2)) == ["p2", "p3"]
        async with aclosing(telecast.follow("positions", since="earliest")) as changes:
            assert keys(await take(changes, 3)) == ["p1", "p2", "p3"]


@both
async def test_since_now_sends_only_what_is_to_come(transport):
    async with served() as live, client(live, transport=transport) as telecast:
        await live.publish("positions", position("p1"))
        async with aclosing(telecast.follow("positions", since="now")) as changes:
            first = asyncio.create_task(take(changes, 1))
            await live.until(lambda: live.parts.broadcaster.subscribers)
            await live.publish("positions", position("p2"))
            assert keys(await first) == ["p2"]


@both
async def test_over_many_cuts_each_change_comes_once_and_in_order(transport):
    async with (
        served() as live,
        relay(live.url) as line,
        client(live, line.url, transport=transport) as telecast,
    ):
        await live.publish("positions", position("p0"))
        seen: list[int] = []
        async with aclosing(telecast.follow("positions", since=live.at(0))) as changes:
            for number in range(1, 41):
                await live.publish("positions", position(f"p{number}"))
                if number % 8 == 0:
                    seen += [change.seq for change in await take(changes, 6)]
                    line.cut()
            seen += [change.seq for change in await take(changes, 41 - len(seen))]
        assert seen == list(range(1, 42))
        assert line.count > 3


@both
async def test_its_place_in_a_file_carries_over_to_the_next_run(transport, tmp_path: Path):
    place = PositionFile(tmp_path / "place")
    async with served() as live:
        await live.publish("positions", *(position(f"p{number}") for number in range(6)))
        async with (
            client(live, transport=transport) as telecast,
            aclosing(telecast.follow("positions", since="earliest", keep=place)) as changes,
        ):
            assert keys(await take(changes, 3)) == ["p0", "p1", "p2"]
        # p2 was still being handled when the program ended: it comes again, and p0 does not.
        assert place.load() == live.at(2)
        async with (
            client(live, transport=transport) as telecast,
            aclosing(telecast.follow("positions", keep=place)) as changes,
        ):
            assert keys(await take(changes, 4)) == ["p2", "p3", "p4", "p5"]


@both
async def test_what_was_acknowledged_is_where_the_next_run_goes_on(transport):
    async with served() as live:
        await live.publish("positions", *(position(f"p{number}") for number in range(6)))
        named = {"transport": transport, "client_id": "bot-7"}
        async with (
            client(live, **named) as telecast,
            aclosing(telecast.follow("positions", since="earliest", acknowledge=True)) as changes,
        ):
            assert keys(await take(changes, 4)) == ["p0", "p1", "p2", "p3"]
        name = Name(principal().key_id, "bot-7")
        await live.until(lambda: live.parts.consumers.get(name).position.seq == 3)
        async with (
            client(live, **named) as telecast,
            aclosing(telecast.follow("positions", since="acked")) as changes,
        ):
            assert keys(await take(changes, 3)) == ["p3", "p4", "p5"]


async def test_a_place_is_forgotten_with_the_rows_that_it_was_earned_with(tmp_path: Path):
    place = PositionFile(tmp_path / "place")
    place.save("aaaa:5")
    async with served() as live, client(live) as telecast:
        await live.publish("positions", position("p1"))
        async with aclosing(telecast.follow("positions", keep=place)) as changes:
            (reset,) = await take(changes, 1)
            assert reset.reason == "EPOCH_CHANGED"
            assert place.load() is None


def test_a_file_that_holds_no_position_is_not_guessed_at(tmp_path: Path):
    (tmp_path / "place").write_text("yesterday")
    with pytest.raises(ValueError, match="Delete it"):
        PositionFile(tmp_path / "place").load()


async def test_a_slow_caller_holds_up_its_own_connection_and_loses_nothing():
    async with served() as live, client(live) as telecast:
        positions = await telecast.view("positions")
        async with aclosing(telecast.follow("positions", since=live.at(0), buffer=2)) as changes:
            await live.publish("positions", *(position(f"p{number}") for number in range(500)))
            (first,) = await take(changes, 1)
            changed = positions.changed
            async with asyncio.timeout(PATIENCE):
                while len(positions) < 500:
                    await anext(changed)
            rest = await take(changes, 499)
        assert [first.seq, *(change.seq for change in rest)] == list(range(1, 501))


async def test_conflating_keeps_each_rows_newest_change_and_failing_says_so():
    async with served() as live, client(live) as telecast:
        ticks = [price("BTCUSDT", price=str(number)) for number in range(50)]
        ending = price("ETHUSDT")
        async with (
            aclosing(
                telecast.follow("market-data", since=live.at(0), buffer=3, when_full="conflate")
            ) as newest,
            aclosing(
                telecast.follow("market-data", since=live.at(0), buffer=3, when_full="fail")
            ) as strict,
        ):
            await live.publish("market-data", *ticks, ending)
            taken = await take(newest, 1)
            while taken[-1].key != "BINANCE:ETHUSDT":
                taken += await take(newest, 1)
            assert taken[-2].row["price"] == "49"
            assert len(taken) < 20
            await anext(strict)
            with pytest.raises(Behind, match="slower"):
                await take(strict, 10)


@both
async def test_a_final_notice_ends_it_after_what_came_before(transport):
    async with served() as live, client(live, transport=transport) as telecast:
        await live.publish("positions", position("p1"))
        changes = telecast.follow("positions", since=live.at(0))
        assert keys(await take(changes, 1)) == ["p1"]
        for each in list(live.parts.broadcaster.subscribers.values()):
            live.parts.broadcaster.evict(each, PeerFault("FORBIDDEN", "No more."))
        with pytest.raises(Refused, match="No more"):
            await take(changes, 1)


async def test_leaving_the_client_ends_a_follow_and_its_connection():
    async with served() as live:
        async with client(live) as telecast:
            changes = telecast.follow("positions")
            await take(changes, 1)
            waiting = asyncio.create_task(anext(changes))
            await asyncio.sleep(0)
        with pytest.raises(Closed):
            await waiting
        await live.everybody_gone()


async def test_breaking_out_of_the_loop_ends_its_connection():
    async with served() as live, client(live) as telecast:
        await live.publish("positions", position("p1"))
        async for change in telecast.follow("positions"):
            if change.op is Op.UPSERT:
                break
        await live.everybody_gone()
        await live.until(lambda: not telecast._readers)


def test_what_can_not_work_is_refused_at_the_call():
    telecast = Client("http://127.0.0.1:1")
    for wrong in ({"buffer": 0}, {"when_full": "drop"}, {"acknowledge": True}, {"since": "x"}):
        with pytest.raises(Exception, match=r"buffer|when_full|client_id|position"):
            telecast.follow("positions", **wrong)
    with pytest.raises(ValueError, match="channel"):
        telecast.follow()
