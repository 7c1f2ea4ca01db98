"""Views against the real service: what they show, and that they never reassure falsely."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from telecast.channel_file import read_catalogue
from telecast.client import Client, Closed, Op, Refused, State, Unreachable, View
from telecast.client.client import LIVENESS_SECONDS
from telecast.errors import PeerFault
from telecast.keys import KeyStore
from telecast.testing.relay import relay
from tests.support.payloads import alert, position, price, trader
from tests.support.service.live import Live, principal, served

PATIENCE = 90.0
both = pytest.mark.parametrize("transport", ["ws", "sse"])


def client(live: Live, url: str | None = None, who: str = "desk", **options: Any) -> Client:
    made = Client(url or live.url, **{"key": live.secrets[who], "patience": PATIENCE, **options})
    made._pause = soon
    return made


async def soon(seconds: float) -> None:
    """Stands where a client waits before it comes back."""
    await asyncio.sleep(0.01)


async def to_the_end(changed: Any) -> None:
    """Read changes until there are no more."""
    async with asyncio.timeout(PATIENCE):
        async for _ in changed:
            pass


async def until(view: View[Any], so: Callable[[View[Any]], bool]) -> None:
    """Read changes until the view is so."""
    async with asyncio.timeout(PATIENCE):
        changed = view.changed
        while not so(view):
            await anext(changed)


@both
async def test_a_view_is_the_table_and_follows_every_change(transport):
    async with served() as live, client(live, transport=transport) as telecast:
        await live.publish("positions", position("p1"), position("p2", "t2"))
        positions = await telecast.view("positions")
        assert positions.state is State.LIVE
        assert sorted(positions) == ["p1", "p2"]
        assert "p1" in positions
        assert positions["p2"]["traderId"] == "t2"
        await live.publish("positions", position("p3"))
        await live.publish("positions", position("p1", status="CLOSED", isActive=False))
        await until(positions, lambda view: "p1" not in view)
        assert sorted(positions) == ["p2", "p3"]


async def test_changed_says_which_keys_and_puts_together_what_came_meanwhile():
    async with served() as live, client(live) as telecast:
        await live.publish("positions", position("p1"))
        positions = await telecast.view("positions")
        changed = positions.changed
        first = await anext(changed)
        assert (first.keys, first.everything) == (frozenset({"p1"}), True)
        await live.publish("positions", position("p2"), position("p3"))
        await until(positions, lambda view: "p3" in view)
        update = await anext(changed)
        assert (update.keys, update.state) == (frozenset({"p2", "p3"}), State.LIVE)
        assert not update.everything


async def test_a_reader_that_falls_far_behind_is_to_take_all_rows_anew(monkeypatch):
    monkeypatch.setattr("telecast.client.view.SPARE_KEYS", 5)
    async with served() as live, client(live) as telecast:
        positions = await telecast.view("positions")
        changed = positions.changed
        await anext(changed)
        for number in range(20):
            row = position(f"p{number}")
            await live.publish("positions", row)
            await live.publish("positions", {**row, "status": "CLOSED", "isActive": False})
        await live.publish("positions", position("last"))
        await until(positions, lambda view: "last" in view)
        update = await anext(changed)
        assert (update.keys, update.everything) == (frozenset({"last"}), True)


@both
async def test_a_filtered_view_drops_a_row_that_moves_away(transport):
    async with served() as live, client(live, transport=transport) as telecast:
        await live.publish("positions", position("p1"), position("p2", "t2"), position("p3"))
        mine = await telecast.view("positions", traderId="t1")
        some = await telecast.view("positions", traderId=["t1", "t2"])
        assert sorted(mine) == ["p1", "p3"]
        assert sorted(some) == ["p1", "p2", "p3"]
        await live.publish("positions", position("p1", "t2"))
        await until(mine, lambda view: "p1" not in view)


@both
async def test_views_of_one_selection_share_a_connection_and_others_do_not_disturb(transport):
    async with (
        served() as live,
        relay(live.url) as line,
        client(live, line.url, transport=transport) as telecast,
    ):
        await live.publish("positions", position("p1"))
        await live.publish("risk-alerts", alert("a1"))
        await live.publish("market-data", price())
        positions = await telecast.view("positions")
        again = await telecast.view("positions")
        alerts = await telecast.view("risk-alerts")
        prices = await telecast.view("market-data")
        await until(positions, lambda view: view.state is State.LIVE)
        for view, count in ((positions, 1), (again, 1), (alerts, 1), (prices, 1)):
            assert (len(view), view.state) == (count, State.LIVE)
        assert len(live.parts.broadcaster.subscribers) == 1
        alerts.close()
        await live.publish("positions", position("p2"))
        await until(again, lambda view: len(view) == 2)
        positions.close()
        assert positions.state is State.DISCONNECTED
        assert again.state is State.LIVE


@both
async def test_added_to_a_connection_that_is_cut_at_once_no_row_is_missing(transport):
    async with (
        served() as live,
        relay(live.url) as line,
        client(live, line.url, transport=transport) as telecast,
    ):
        await live.publish("positions", position("p1"))
        positions = await telecast.view("positions")
        for number, channel in enumerate(("risk-alerts", "market-data", "trader-status")):
            rows = {"risk-alerts": alert(), "market-data": price(), "trader-status": trader()}
            await live.publish(channel, rows[channel])
            adding = asyncio.create_task(telecast.view(channel))
            for _ in range(7 * number):
                await asyncio.sleep(0)
            line.cut()
            view = await adding
            await until(view, lambda view: view.state is State.LIVE)
            assert len(view) == 1
        await until(positions, lambda view: view.state is State.LIVE)
        assert list(positions) == ["p1"]


@both
async def test_a_cut_shows_at_once_and_what_was_missed_is_there_afterwards(transport):
    async with (
        served() as live,
        relay(live.url) as line,
        client(live, line.url, transport=transport) as telecast,
    ):
        await live.publish("positions", position("p1"), position("p2"))
        positions = await telecast.view("positions")
        line.refuses = True
        line.cut()
        await until(positions, lambda view: view.state is not State.LIVE)
        assert positions.state is State.DISCONNECTED
        assert sorted(positions) == ["p1", "p2"]
        left = positions.since
        await live.publish("positions", position("p1", status="CLOSED", isActive=False))
        await live.publish("positions", position("p3"))
        line.refuses = False
        await until(positions, lambda view: view.state is State.LIVE)
        assert sorted(positions) == ["p2", "p3"]
        assert positions.since > left


@both
async def test_a_silent_line_is_stale_in_time_and_live_once_it_speaks(transport):
    assert LIVENESS_SECONDS <= 2.0
    async with (
        served() as live,
        relay(live.url) as line,
        client(live, line.url, transport=transport, liveness=0.4) as telecast,
    ):
        positions = await telecast.view("positions")
        line.freeze()
        await until(positions, lambda view: view.state is not State.LIVE)
        assert positions.state is State.STALE
        line.thaw()
        await until(positions, lambda view: view.state is State.LIVE)


@both
async def test_a_channel_whose_publishers_are_overdue_is_stale_and_live_once_they_go_on(transport):
    now = time.time()
    async with (
        served(now=lambda: now) as live,
        relay(live.url) as line,
        client(live, line.url, transport=transport) as telecast,
    ):
        await live.publish("market-data", price("BTCUSDT"))
        prices = await telecast.view("market-data")
        positions = await telecast.view("positions")
        now += 31
        await live.parts.staleness.look()
        await until(prices, lambda view: view.state is State.STALE)
        assert positions.state is State.LIVE
        line.refuses = True
        line.cut()
        await until(prices, lambda view: view.state is State.DISCONNECTED)
        line.refuses = False  # who comes back is sent again
        await until(prices, lambda view: view.state is State.STALE)
        await telecast.alive("market-data")
        await live.parts.staleness.look()
        await until(prices, lambda view: view.state is State.LIVE)


async def test_a_quiet_line_that_answers_stays_live():
    async with served() as live, client(live, liveness=0.4) as telecast:
        positions = await telecast.view("positions")
        changed = positions.changed
        await anext(changed)
        reading = asyncio.create_task(anext(changed))
        await asyncio.wait([reading], timeout=1.0)
        assert not reading.done()
        reading.cancel()


async def test_a_view_asks_an_event_stream_to_say_something_often_rather_than_ask_itself():
    """Regression: on a quiet event stream each view asked `/livez` every 0.8 s."""
    async with served() as live, client(live, transport="sse") as telecast:
        await telecast.view("positions")
        (subscriber,) = live.parts.broadcaster.subscribers.values()
        assert subscriber.heartbeat == 2.0
    async with served() as live, client(live, transport="sse", heartbeat=7) as telecast:
        await telecast.view("positions")
        (subscriber,) = live.parts.broadcaster.subscribers.values()
        assert subscriber.heartbeat == 7.0
    async with served() as live, client(live) as telecast:
        await telecast.view("positions")
        (subscriber,) = live.parts.broadcaster.subscribers.values()
        assert subscriber.heartbeat == 15.0


async def test_no_reader_ever_sees_half_a_snapshot():
    many = [position(f"p{number:04}") for number in range(2_000)]
    holder = principal()
    keys, issued = KeyStore.of(holder, now=time.time)
    known = {"keys": keys, "secrets": {"desk": issued[holder.key_id]}}
    async with (
        served(**known) as live,
        served(**known) as other,
        relay(live.url) as line,
        client(live, line.url) as telecast,
    ):
        await live.publish("positions", *many[:1_000])
        await other.publish("positions", *many)
        positions = await telecast.view("positions")
        sizes = {len(positions)}
        line.target = other.url  # another journal: nothing of the old table holds
        line.cut()
        await until(positions, lambda view: sizes.add(len(view)) or len(view) == 2_000)
        assert sizes == {1_000, 2_000}


async def test_a_view_of_nothing_readable_is_refused_in_the_services_words():
    narrow = principal("narrow", "read", channels=("positions",))
    async with served(principal(), narrow) as live:
        async with client(live) as telecast:
            with pytest.raises(Refused, match="Did you mean 'positions'") as caught:
                await telecast.view("postions")
            assert caught.value.code == "UNKNOWN_CHANNEL"
            with pytest.raises(Refused) as caught:
                await telecast.view("positions", severity="INFO")
            assert caught.value.code == "UNKNOWN_FILTER"
            with pytest.raises(ValueError, match="no value"):
                await telecast.view("positions", traderId=[])
        async with client(live, who="narrow") as telecast:
            with pytest.raises(Refused) as caught:
                await telecast.view("risk-alerts")
            assert caught.value.code == "FORBIDDEN"
        async with Client(live.url, key="tc_00000000_wrong") as telecast:
            with pytest.raises(Refused) as caught:
                await telecast.view("positions")
            assert caught.value.code == "UNAUTHENTICATED"


async def test_a_log_has_no_rows_to_view_and_its_entries_are_followed(tmp_path):
    channels = tmp_path / "channels.toml"
    channels.write_text(
        '[fills]\nmode = "log"\nkey = ["id"]\n'
        '[fills.fields]\nid = { type = "id", example = "f1" }\n'
    )
    catalogue = read_catalogue(channels)
    async with served(catalogue=catalogue) as live, client(live) as telecast:
        with pytest.raises(ValueError, match="use `follow`"):
            await telecast.view("fills")
        await telecast.publish("fills", [{"id": "f1"}, {"id": "f1"}])
        async with aclosing(telecast.follow("fills", since="earliest")) as changes:
            taken = [await anext(changes) for _ in range(2)]
        assert [(change.op, change.row["id"]) for change in taken] == [(Op.APPEND, "f1")] * 2


async def test_a_service_that_is_not_there_is_said_within_the_patience(unused_tcp_port):
    async with Client(f"http://127.0.0.1:{unused_tcp_port}", patience=0.5) as telecast:
        with pytest.raises(Unreachable, match="Nobody answers"):
            await telecast.view("positions")


@both
async def test_a_revoked_key_ends_the_view_and_says_so(transport):
    async with served() as live, client(live, transport=transport) as telecast:
        positions = await telecast.view("positions")
        changed = positions.changed
        for each in list(live.parts.broadcaster.subscribers.values()):
            live.parts.broadcaster.evict(each, PeerFault("UNAUTHENTICATED", "Revoked."))
        with pytest.raises(Refused, match="Revoked") as caught:
            await to_the_end(changed)
        assert caught.value.code == "UNAUTHENTICATED"
        assert positions.state is State.DISCONNECTED
        assert positions.fault is caught.value


async def test_leaving_the_client_ends_views_and_calls_and_leaves_nothing_running():
    async with served() as live:
        before = asyncio.all_tasks()
        async with client(live) as telecast:
            positions = await telecast.view("positions")
            reading = asyncio.create_task(to_the_end(positions.changed))
            await asyncio.sleep(0)
        with pytest.raises(Closed):
            await reading
        assert positions.state is State.DISCONNECTED
        with pytest.raises(Closed):
            await telecast.view("positions")
        mine = [task for task in asyncio.all_tasks() - before if "telecast" in repr(task)]
        assert not [task for task in mine if not task.done()], mine
        await live.everybody_gone()


@both
async def test_a_cancelled_view_leaves_no_connection(transport):
    async with (
        served() as live,
        relay(live.url) as line,
        client(live, line.url, transport=transport) as telecast,
    ):
        line.freeze()
        asked = asyncio.create_task(telecast.view("positions"))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        line.thaw()
        await live.everybody_gone()
        assert not telecast._links
