"""A stream of the Python client whose filter changes while it goes on."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from telecast.client import Change, Client, Closed, Op, PositionFile, Refused, View, blocking
from telecast.client import stream as stream_module
from telecast.client.connection.lines import Line, open_line
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


# --- views and changes


both = pytest.mark.parametrize("transport", ["ws", "sse"])
OLD, NEW = ["p0", "p1", "p3", "p4"], ["p1", "p2", "p4", "p5"]
CHANGE: dict[str, Any] = {"add": {"traderId": "t2"}, "remove": {"traderId": ["t0"]}}


def client(live: Live, transport: Any = "ws", **options: Any) -> Client:
    return Client(live.url, key=live.secrets["desk"], transport=transport, **options)


async def six(live: Live) -> None:
    await live.publish("positions", *(position(f"p{n}", f"t{n % 3}") for n in range(6)))


async def of_two(telecast: Client, channel: str = "positions") -> View[Any]:
    return await telecast.view(channel, traderId=["t0", "t1"])


def connections(live: Live) -> int:
    return sum(client.subscriber is not None for client in live.parts.clients)


@both
async def test_a_view_alone_on_its_connection_keeps_it_and_shows_old_rows_up_to_the_new(
    transport: str,
) -> None:
    async with served() as live, client(live, transport) as telecast:
        await six(live)
        view = await of_two(telecast)
        changed = view.changed
        assert (await anext(changed)).keys == set(OLD)
        shown = []

        async def watch() -> None:
            async for _ in changed:
                shown.append((view.state, sorted(view)))
                if sorted(view) == NEW and view.state == "live":
                    return

        watching = asyncio.create_task(watch())
        await view.refine(**CHANGE)
        assert (view.state, sorted(view)) == ("live", NEW)
        assert view.filters == {"traderId": ("t1", "t2")}
        async with asyncio.timeout(60):
            await watching
        assert all(rows in (OLD, NEW) for _, rows in shown), "never half of both"
        await live.publish("positions", position("p2", "t2", reason="after"))
        while view["p2"]["reason"] != "after":
            await anext(changed)
        await live.until(lambda: connections(live) == 1)


@both
async def test_a_view_that_shares_its_connection_moves_and_the_other_stays(transport: str) -> None:
    async with served() as live, client(live, transport) as telecast:
        await six(live)
        stays, moves = await of_two(telecast), await of_two(telecast)
        changed = moves.changed
        await anext(changed)
        await moves.refine(**CHANGE)
        assert (sorted(stays), sorted(moves)) == (OLD, NEW)
        assert stays.filters == {"traderId": ("t0", "t1")}
        update = await anext(changed)
        assert update.everything
        assert sorted(update.keys) == NEW
        assert connections(live) == 2
        back = {"add": {"traderId": "t0"}, "remove": {"traderId": "t2"}}
        await moves.refine(**back)
        assert sorted(moves) == OLD
        await live.until(lambda: connections(live) == 1)
        stays.close()
        moves.close()
        await live.until(lambda: connections(live) == 0)


async def test_a_view_that_is_closed_while_its_filter_changes_leaves_nothing_behind() -> None:
    async with served() as live, client(live) as telecast:
        await six(live)
        views = [await of_two(telecast), await of_two(telecast)]
        refining = [asyncio.create_task(view.refine(**CHANGE)) for view in views]
        await asyncio.sleep(0)
        for view in views:
            view.close()
        found = await asyncio.gather(*refining, return_exceptions=True)
        assert {type(each).__name__ for each in found} == {"Closed"}
        await live.until(lambda: connections(live) == 0)


async def test_a_view_alone_that_is_closed_while_its_filter_changes_holds_up_nobody() -> None:
    """Regression: `refine` waited a minute for the end of a table that nobody had any more."""
    async with served() as live, client(live, patience=3_600.0) as telecast:
        await six(live)
        view = await of_two(telecast)
        refining = asyncio.create_task(view.refine(**CHANGE))
        settled = view._table.settled
        async with asyncio.timeout(60):
            while settled.is_set():  # noqa: ASYNC110 - up to where it waits
                await asyncio.sleep(0)
            view.close()
            with pytest.raises(Closed):
                await refining
        await live.until(lambda: connections(live) == 0)


async def test_a_view_says_at_once_what_can_not_be_and_stays_as_it_was() -> None:
    async with served() as live, client(live) as telecast:
        await six(live)
        view = await of_two(telecast)
        with pytest.raises(ValueError, match="not filtered by 'symbol'"):
            await view.refine(add={"symbol": "x"})
        with pytest.raises(ValueError, match="No value of 'traderId'"):
            await view.refine(remove={"traderId": ["t0", "t1"]})
        with pytest.raises(Refused) as refused:
            await view.refine(add={"traderId": "t" * 1_000})
        assert refused.value.code == "BAD_REQUEST"
        assert (view.state, sorted(view)) == ("live", OLD)
        assert view.filters == {"traderId": ("t0", "t1")}


async def test_more_values_than_a_stream_may_have_end_a_view_with_the_reason() -> None:
    async with served(max_filter_values=3) as live, client(live) as telecast:
        await six(live)
        view = await of_two(telecast)
        with pytest.raises(Refused, match="max_filter_values"):
            await view.refine(add={"traderId": ["t2", "t3"]})
        assert isinstance(view.fault, Refused)
        assert (view.state, sorted(view)) == ("disconnected", OLD)


async def test_without_asyncio_a_view_changes_its_filter_too() -> None:
    async with served() as live:
        await six(live)

        def script() -> list[str]:
            with blocking.Client(live.url, key=live.secrets["desk"]) as telecast:
                view = telecast.view("positions", traderId=["t0", "t1"])
                view.refine(**CHANGE)
                return sorted(view)

        assert await asyncio.to_thread(script) == NEW


async def until_position(changes: Any) -> list[Change]:
    found = [await anext(changes)]
    while found[-1].position is None:
        found.append(await anext(changes))
    return found


@both
async def test_who_follows_gets_what_leaves_and_what_comes_in_and_no_position_up_to_then(
    transport: str, tmp_path: Any
) -> None:
    kept = PositionFile(tmp_path / "place")
    async with served() as live, client(live, transport) as telecast:
        await six(live)
        changes = telecast.follow("positions", keep=kept, traderId=["t0", "t1"])
        await live.publish("positions", position("p0", "t0", reason="later"))
        first = [await anext(changes) for _ in range(5)]
        assert [each.op for each in first] == [Op.RESET, *[Op.UPSERT] * 4]
        await live.publish("positions", position("p1", "t1", reason="later"))
        (last,) = await until_position(changes)
        assert last.key == "p1"
        await changes.refine(**CHANGE)
        assert kept.load() is None, "it would prove nothing of the new filter"
        if transport == "ws":
            come = [("leave", "p0"), ("leave", "p3"), ("upsert", "p2"), ("upsert", "p5")]
        else:
            come = [("reset", ""), *(("upsert", key) for key in NEW)]
        found = [await anext(changes) for _ in come]
        assert sorted((each.op.value, each.key) for each in found) == sorted(come)
        assert {each.position for each in found} == {None}
        await live.publish("positions", position("p2", "t2", reason="later"))
        (last,) = await until_position(changes)
        assert (last.key, last.position) == ("p2", live.at(9))
        await changes.aclose()
        assert kept.load() is None, "the last one was not handled"


async def test_what_waits_when_a_filter_changes_proves_nothing_any_more(tmp_path: Any) -> None:
    kept = PositionFile(tmp_path / "place")
    async with served() as live, client(live, heartbeat=60) as telecast:
        await six(live)
        changes = telecast.follow("positions", keep=kept, traderId=["t0", "t1"])
        for _ in range(5):
            await anext(changes)
        for number in range(3):
            await live.publish("positions", position("p1", "t1", reason=str(number)))
        handled = await anext(changes)
        assert handled.position is not None
        await live.until(lambda: len(changes._buffer) == 2)
        await changes.refine(remove={"traderId": "t0"})
        waited = [await anext(changes) for _ in range(2)]
        assert [each.position for each in waited] == [None, None]
        assert kept.load() is None
        await changes.aclose()
        assert kept.load() is None


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_a_filter_that_changes_while_a_connection_is_made_is_the_one_that_it_carries(
    transport: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was live with the rows of the old filter, for as long as that connection held."""
    begun, let = asyncio.Event(), asyncio.Event()
    let.set()

    async def opened(*asked: Any) -> Line:
        line = await open_line(*asked)
        begun.set()
        await let.wait()
        return line

    monkeypatch.setattr(stream_module, "open_line", opened)
    async with (
        served() as live,
        Client(live.url, key=live.secrets["desk"], transport=transport) as client,
    ):
        await live.publish("positions", *(position(f"p{n}", f"t{n}") for n in range(2)))
        view = await client.view("positions", traderId=["t0", "t1"])
        begun.clear()
        let.clear()
        for each in list(live.parts.clients):
            assert each.subscriber is not None
            each.subscriber.sink.abort()  # type: ignore[attr-defined]
        await begun.wait()
        change = asyncio.create_task(view.refine(remove={"traderId": "t0"}))
        while view.filters != {"traderId": ("t1",)}:  # noqa: ASYNC110 - from then on it waits
            await asyncio.sleep(0)
        let.set()
        await change
        assert (view.state, list(view)) == ("live", ["p1"])


async def test_what_waits_for_room_while_the_filter_changes_has_no_position_either() -> None:
    """It was kept as handled: who began anew there never got the older rows of the new filter."""
    async with (
        served() as live,
        Client(live.url, key=live.secrets["desk"]) as client,
        aclosing(client.follow("positions", traderId="t0", buffer=1)) as changes,
    ):
        await live.publish("positions", position("old", "t1"))
        assert (await anext(changes)).op is Op.RESET
        for n in range(3):
            await live.publish("positions", position(f"p{n}", "t0"))
        await live.until(lambda: len(changes._buffer) == 1 and not changes._buffer._taken.is_set())
        await changes.refine(add={"traderId": "t1"})
        found = [await anext(changes) for _ in range(4)]
        assert [each.key for each in found] == ["p0", "p1", "p2", "old"]
        assert [each.position for each in found] == [None] * 4
