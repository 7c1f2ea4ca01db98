"""One stream, two transports: where it starts, what it tells, how it is taken up again."""

from __future__ import annotations

import asyncio
import base64
import gc
from collections import Counter
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from telecast.channels.catalogue import CHANNELS
from telecast.journal.memory import MemoryJournal
from telecast.model import Retention
from telecast.tasks import drain
from telecast.web.front.connection import Connection
from telecast.web.streams import sse, ws
from tests.support.payloads import alert, position, price, trader
from tests.support.service.live import PATIENCE, Ended, Live, SseReader, rows, served, types
from tests.support.sockets.raw import dial

TRANSPORTS = pytest.mark.parametrize("transport", ["ws", "sse"])


def seqs(reported: Any) -> list[int]:
    return [each.body["seq"] for each in reported if each.type == "event"]


async def opened(live: Live, transport: str, **query: Any) -> list[Any]:
    """From `welcome` to `live` of a stream that is left again."""
    async with live.transport(transport, **query) as reader:
        return await reader.opening()


async def refusal(live: Live, transport: str, **query: Any) -> dict[str, Any]:
    status, body, _ = await live.ask("GET", f"/{transport}/telemetry", query=query)
    return body["error"] | {"status": status}


# --- snapshot and live


@TRANSPORTS
async def test_a_newcomer_gets_the_rows_there_are_and_then_every_event(transport: str) -> None:
    async with served() as live:
        await live.publish("positions", position("p1"), position("p2"))
        await live.publish("positions", position("p1", currentPrice="1.10"))
        await live.publish("positions", position("p2", status="CLOSED"))
        async with live.transport(transport, channels="positions", clientId="me") as reader:
            welcome = (await reader.expect("welcome")).body
            assert (welcome["clientId"], welcome["protocol"]) == ("me", 1)
            assert (welcome["head"], welcome["heartbeatSeconds"]) == (live.at(4), 15)
            ack = (await reader.expect("ack")).body
            assert (ack["channels"], ack["rejected"]) == (["positions"], [])
            snapshot = (await reader.expect("snapshot")).body
            assert (snapshot["channels"], snapshot["reason"]) == (["positions"], "NEW")
            (row,) = await reader.events()
            assert row.row["currentPrice"] == "1.10"
            done = (await reader.expect("live")).body
            assert (done["position"], done["count"]) == (live.at(4), 1)
            receipt = await live.publish("positions", position("p3"))
            assert receipt["subscribers"] == 1
            (event,) = await reader.events()
            assert event.body["seq"] == receipt["lastSeq"] == 5
            assert (event.body["op"], event.body["key"]) == ("upsert", "p3")
            assert isinstance(event.body["timestamp"], int)


@TRANSPORTS
async def test_all_that_a_stream_says_has_the_time_of_the_service_s_own_clock(
    transport: str,
) -> None:
    """Its first messages had the machine's, also where a test or a recording gives another."""
    clock = 1_000_000_000.0
    async with served(now=lambda: clock) as live:
        await live.publish("positions", position())
        async with live.transport(transport, channels="positions") as reader:
            said = [await reader.expect("welcome"), *await reader.until("live")]
            assert [each.opened_at for each in live.parts.clients] == [clock]
            await drain(live.parts)
            said.append(await reader.expect("notice"))
        assert {each.body["timestamp"] for each in said} == {int(clock * 1000)}


async def test_without_channels_sse_sends_all_that_the_key_reads_and_ws_none() -> None:
    async with served() as live:
        async with live.sse() as reader:
            await reader.expect("welcome")
            assert (await reader.expect("ack")).body["channels"] == list(CHANNELS)
        async with live.ws() as reader:
            await reader.expect("welcome")
            await live.publish("positions", position())
            await reader.send("heartbeat")
            assert (await reader.expect("heartbeat")).body["position"] == live.at(1)


async def test_an_id_stands_only_where_a_resume_from_it_is_safe() -> None:
    async with served() as live:
        await live.publish("positions", position("p1"), position("p2"))
        async with live.sse(channels="positions") as reader:
            opening = await reader.opening()
            assert [each.type for each in opening[:2]] == ["ack", "snapshot"]
            assert [each.id for each in opening[:-1]] == [None, "", None, None]
            assert opening[-1].id == live.at(2)
            assert len(reader.retry) == 1
            await live.publish("positions", position("p3"))
            assert [each.id for each in await reader.events()] == [live.at(3)]
            assert reader.log[-1].name == "positions", "the event's name is its channel"
        async with live.sse(channels="positions", since=live.at(1)) as reader:
            assert [each.id for each in (await reader.opening())[2:]] == [
                live.at(2),
                live.at(3),
                live.at(3),
            ]


async def test_an_event_is_the_same_bytes_at_every_transport_live_replayed_and_in_the_history() -> (
    None
):
    odd = alert("ä€😀 </script>\u00ad", message='line\nbreak \u2028 \u0085 \\ " \x07', trader=None)
    async with served() as live, live.ws(channels="risk-alerts") as ws:
        async with live.sse(channels="risk-alerts") as sse:
            await ws.opening()
            await sse.opening()
            await live.publish("risk-alerts", odd, alert("a2"))
            heard = [each.json for each in await ws.events(2)]
            assert [each.json for each in await sse.events(2)] == heard
        for transport in ("ws", "sse"):
            for start in ({"since": live.at(0)}, {"since": "earliest"}, {}):
                reported = await opened(live, transport, channels="risk-alerts", **start)
                assert [each.json for each in reported if each.type == "event"] == heard
        async with live.session.get(
            f"{live.url}/api/v1/channels/risk-alerts/events", headers=live.headers("desk")
        ) as response:
            assert b"[" + b",".join(heard) + b"]" in await response.read()


@TRANSPORTS
async def test_who_asks_for_positions_has_them_in_events_and_nobody_else_does(
    transport: str,
) -> None:
    async with served() as live, live.transport(transport, channels="positions") as beside:
        await beside.opening()
        await live.publish("positions", position("p1"))
        asked = {"channels": "positions", "position": "true"}
        async with live.transport(transport, **asked) as reader:
            row = next(each for each in await reader.opening() if each.type == "event")
            assert "position" not in row.body, "a row of a snapshot proves none"
            await live.publish("positions", position("p2"))
            (with_it,) = await reader.events()
            assert with_it.body["position"] == live.at(2)
        plain = (await beside.events(2))[-1].body
        assert {**plain, "position": live.at(2)} == with_it.body
        resumed = await opened(live, transport, since=live.at(0), **asked)
        assert [each.body["position"] for each in resumed if each.type == "event"] == [
            live.at(1),
            live.at(2),
        ]
        error = await refusal(live, transport, channels="positions", position="1")
        assert error["message"] == "`position` must be true or false."


# --- resume


@TRANSPORTS
async def test_a_resume_is_exact_and_says_so(transport: str) -> None:
    async with served() as live:
        await live.publish("positions", *(position(f"p{n}") for n in range(5)))
        reported = await opened(live, transport, channels="positions", since=live.at(2))
        assert types(reported) == ["ack", "resume", "event", "event", "event", "live"]
        assert reported[1].body["from"] == live.at(2)
        assert reported[1].body["channels"] == ["positions"]
        assert seqs(reported) == [3, 4, 5]
        assert reported[-1].body["count"] == 3
        reported = await opened(live, transport, channels="positions", since=live.at(5))
        assert types(reported) == ["ack", "resume", "live"]


@TRANSPORTS
async def test_a_stream_may_start_at_a_time(transport: str) -> None:
    moment = 1_795_371_440.0
    async with served(now=lambda: moment) as live:
        await live.publish("positions", position("p1"), position("p2"))
        moment += 60
        await live.publish("positions", position("p3"))
        for since in ("-10s", "2026-11-22T18:18:20Z", "2026-11-22T19:18:20+01:00"):
            reported = await opened(live, transport, channels="positions", since=since)
            assert types(reported) == ["ack", "resume", "event", "live"]
            assert (reported[1].body["from"], seqs(reported)) == (live.at(2), [3])
        reported = await opened(live, transport, channels="positions", since="-5m")
        assert seqs(reported) == [1, 2, 3]


@pytest.mark.parametrize("since", ["10m", "2026-11-22", "2099-01-01T00:00:00Z"])
@TRANSPORTS
async def test_a_time_that_is_none_or_is_to_come_is_refused(transport: str, since: str) -> None:
    async with served() as live:
        path = f"/{transport}/telemetry"
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
        }
        query = {"since": since, "channels": "positions"}
        status, body, _ = await live.ask(
            "GET", path, query=query, headers=headers if transport == "ws" else None
        )
        assert (status, body["error"]["code"]) == (400, "BAD_REQUEST")
        message = body["error"]["message"]
        assert "is no time" in message or "in the future" in message


async def test_cut_and_resumed_across_transports_the_history_is_whole_and_in_order() -> None:
    async with served() as live:
        heard: list[bytes] = []
        last = "earliest"
        for turn in range(6):
            transport = ("sse", "ws")[turn % 2]
            await live.publish("market-data", *(price(price=f"{turn}.{n}") for n in range(20)))
            async with live.transport(
                transport, channels="market-data", delivery="all", since=last
            ) as reader:
                await reader.expect("welcome", "ack", "resume")
                # Cut in the middle of the replay, and of what is live.
                heard += [each.json for each in await reader.events(17)]
            last = live.at(orjson.loads(heard[-1])["seq"])
        reported = await opened(live, "ws", channels="market-data", delivery="all", since=last)
        heard += [each.json for each in reported if each.type == "event"]
        reported = await opened(
            live, "ws", channels="market-data", delivery="all", since="earliest"
        )
        assert heard == [each.json for each in reported if each.type == "event"]
        assert len(heard) == 120


@TRANSPORTS
async def test_a_conflated_resume_leaves_out_only_what_comes_again_and_reports_it(
    transport: str,
) -> None:
    async with served() as live:
        await live.publish("market-data", *(price(price=f"{n}.0") for n in range(10)))
        await live.publish("positions", position(), position(currentPrice="2"))
        reported = await opened(live, transport, channels="market-data,positions", since=live.at(0))
        assert types(reported) == ["ack", "resume", "conflated", "event", "event", "event", "live"]
        assert seqs(reported) == [10, 11, 12], "the first of a position is pinned"
        conflated = reported[2].body
        assert (conflated["fromSeq"], conflated["toSeq"], conflated["count"]) == (1, 12, 9)


@TRANSPORTS
async def test_from_earliest_all_events_come(transport: str) -> None:
    async with served() as live:
        await live.publish("market-data", *(price(price=f"{n}.0") for n in range(4)))
        reported = await opened(
            live, transport, channels="market-data", since="earliest", delivery="all"
        )
        assert seqs(reported) == [1, 2, 3, 4]


@TRANSPORTS
async def test_without_replay_only_what_comes_is_sent(transport: str) -> None:
    async with served() as live:
        await live.publish("positions", position("old"))
        async with live.transport(transport, channels="positions", replay=False) as reader:
            assert types(await reader.opening()) == ["ack", "live"]
            await live.publish("positions", position("new"))
            assert (await reader.expect("event")).body["key"] == "new"


@TRANSPORTS
async def test_a_position_of_another_journal_starts_over_and_says_why(transport: str) -> None:
    async with served() as live:
        await live.publish("positions", position())
        reported = await opened(live, transport, channels="positions", since="zzzz:1")
        assert types(reported) == ["ack", "snapshot", "event", "live"]
        assert reported[1].body["reason"] == "EPOCH_CHANGED"


async def test_a_position_ahead_is_waited_for_and_then_called_unknown() -> None:
    async with served() as live:
        await live.publish("positions", position())
        async with (
            live.ws(channels="positions", since=live.at(900)) as ws,
            live.sse(channels="positions", since=live.at(900)) as sse,
            live.ws(channels="positions", since=live.at(3)) as soon,
        ):
            await soon.expect("welcome", "ack")
            await live.publish("positions", position("p2"), position("p3"), position("p4"))
            assert types(await soon.until("live")) == ["resume", "event", "live"]
            assert seqs(soon.log) == [4]
            for reader in (ws, sse):
                reported = await reader.opening()
                assert reported[1].body["reason"] == "POSITION_UNKNOWN"
                assert seqs(reported) == [1, 2, 3, 4]


@TRANSPORTS
@pytest.mark.parametrize("since", ["x", "abcd", "abcd:", "abcd:01", "ABCD:1", "abcd:١", ":1"])  # noqa: RUF001
async def test_a_malformed_since_is_refused(transport: str, since: str) -> None:
    async with served() as live:
        error = await refusal(live, transport, channels="positions", since=since)
        assert (error["status"], error["code"]) == (400, "POSITION_MALFORMED")


async def test_a_malformed_last_event_id_gets_a_snapshot_since_a_400_would_be_for_good() -> None:
    async with served() as live:
        await live.publish("positions", position())
        reported = await opened(
            live, "sse", channels="positions", headers={"Last-Event-ID": "garbage 9"}
        )
        assert reported[1].body["reason"] == "POSITION_MALFORMED"
        assert seqs(reported) == [1]


async def test_the_header_goes_before_since() -> None:
    async with served() as live:
        await live.publish("positions", position("p1"), position("p2"), position("p3"))
        reported = await opened(
            live,
            "sse",
            channels="positions",
            since=live.at(0),
            headers={"Last-Event-ID": live.at(2)},
        )
        assert seqs(reported) == [3]


# --- filters


async def test_filters_are_or_within_a_field_and_and_between_fields() -> None:
    async with served() as live:
        mine = {"channels": "positions", "traderId": ["t1", "t2"], "symbol": "ETH"}
        async with live.ws(**mine) as ws, live.sse(**mine) as sse:
            for reader in (ws, sse):
                await reader.opening()
            await live.publish(
                "positions",
                position("a", "t1", symbol="ETH"),
                position("b", "t1"),
                position("c", "t3", symbol="ETH"),
                position("d", "t2", symbol="ETH"),
            )
            for reader in (ws, sse):
                assert [each.body["key"] for each in await reader.events(2)] == ["a", "d"]
        for transport in ("ws", "sse"):
            assert seqs(await opened(live, transport, **mine)) == [1, 4]
            assert seqs(await opened(live, transport, **mine, since=live.at(1))) == [4]


async def test_a_filter_does_not_narrow_a_channel_that_does_not_declare_it() -> None:
    async with (
        served() as live,
        live.sse(channels="positions,market-data", traderId="t1") as reader,
    ):
        await reader.opening()
        await live.publish("positions", position("p2", "t2"))
        await live.publish("market-data", price())
        await live.publish("positions", position("p1", "t1"))
        assert [e.body["channel"] for e in await reader.events(2)] == [
            "market-data",
            "positions",
        ]


@TRANSPORTS
async def test_a_filter_that_no_chosen_channel_declares_is_an_error(transport: str) -> None:
    async with served() as live:
        error = await refusal(live, transport, channels="market-data", traderId="t1")
        assert (error["status"], error["code"]) == (400, "UNKNOWN_FILTER")
        assert error["details"]["filters"] == {"market-data": ["exchange", "symbol"]}


async def test_a_null_field_matches_every_value() -> None:
    async with served() as live:
        async with live.ws(channels="risk-alerts", traderId="t1") as reader:
            await reader.opening()
            await live.publish("risk-alerts", alert("other", "t2"), alert("everyone", None))
            assert (await reader.expect("event")).body["key"] == "everyone"
        reported = await opened(live, "sse", channels="risk-alerts", traderId="t1")
        assert [e.body["key"] for e in reported if e.type == "event"] == ["everyone"]


async def test_a_row_that_moves_between_filters_leaves_no_ghost() -> None:
    async with served() as live:
        await live.publish("positions", position("p1", "t1"))
        async with (
            live.ws(channels="positions", traderId="t1") as old,
            live.sse(channels="positions", traderId="t2") as new,
        ):
            await old.opening()
            await new.opening()
            receipt = await live.publish("positions", position("p1", "t2"))
            assert (receipt["firstSeq"], receipt["lastSeq"]) == (2, 3)
            gone = (await old.expect("event")).body
            assert (gone["op"], gone["seq"], gone["data"]["traderId"]) == ("delete", 2, "t1")
            come = (await new.expect("event")).body
            assert (come["op"], come["seq"], come["data"]["traderId"]) == ("upsert", 3, "t2")
        reported = await opened(live, "ws", channels="positions", traderId="t1", since=live.at(1))
        assert rows(reported) == {}


@TRANSPORTS
@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"chanels": "positions"}, "Did you mean 'channels'?"),
        ({"channels": "positions", "delivery": "some"}, "`delivery`"),
        ({"channels": "positions", "replay": "no"}, "`replay`"),
        ({"channels": "positions", "heartbeat": "1"}, "`heartbeat`"),
        ({"channels": "positions", "heartbeat": "7.9"}, "`heartbeat`"),
        ({"channels": "positions", "heartbeat": "1_0"}, "`heartbeat`"),
        ({"channels": "positions", "heartbeat": "٣٠"}, "`heartbeat`"),
        ({"channels": "positions", "maxRate": "0.1"}, "`maxRate`"),
        ({"channels": "positions", "maxRate": "NaN"}, "`maxRate`"),
        ({"channels": "positions", "maxRate": "1e3"}, "`maxRate`"),
        ({"channels": "positions", "maxRate": "5", "delivery": "all"}, "delivery=all"),
        ({"channels": "positions", "clientId": "a\nb"}, "control characters"),
        ({"channels": "positions", "clientId": "x" * 129}, "1 to 128 characters"),
        ({"channels": "positions", "traderId": "\u2028"}, "control characters"),
    ],
)
async def test_a_wrong_parameter_is_refused_and_says_which(
    transport: str, query: dict[str, str], says: str
) -> None:
    async with served() as live:
        error = await refusal(live, transport, **query)
        assert (error["status"], error["code"]) == (400, "BAD_REQUEST")
        assert says in error["message"]


# --- pace


@TRANSPORTS
@pytest.mark.parametrize(("asked", "holds"), [("7.5", 5), ("0.2", 0.2), ("500", 20), ("1.99", 1)])
async def test_the_rate_is_snapped_down_and_sent(transport: str, asked: str, holds: float) -> None:
    async with (
        served() as live,
        live.transport(transport, channels="positions", maxRate=asked) as reader,
    ):
        await reader.expect("welcome")
        ack = (await reader.expect("ack")).body
        assert ack["maxRate"] == holds
        assert ack["delivery"] == "conflated"


@TRANSPORTS
async def test_a_rated_stream_gets_conflated_batches_and_pinned_rows_at_once(
    transport: str,
) -> None:
    async with (
        served() as live,
        live.transport(transport, channels="market-data,positions", maxRate="0.2") as reader,
    ):
        await reader.opening()
        await live.publish("market-data", price(price="0.0"))
        await reader.events()  # the first batch of five seconds
        await live.publish("market-data", *(price(price=f"{n}.0") for n in range(1, 9)))
        await live.publish("positions", position())
        conflated = (await reader.expect("conflated")).body
        assert conflated["count"] == 7
        newest, pinned = await reader.events(2)
        assert newest.row["price"] == "8.0"
        assert pinned.body["channel"] == "positions"


# --- heartbeats


async def test_both_transports_beat_with_the_own_position_and_ws_pings() -> None:
    async with served() as live:
        await live.publish("positions", position())
        query = {"channels": "market-data", "heartbeat": 5}
        async with live.ws(**query, autoping=False) as ws, live.sse(**query) as sse:
            assert (await ws.expect("welcome")).body["heartbeatSeconds"] == 5
            await ws.until("live")
            await sse.opening()
            # Nothing of theirs: the position rises all the same.
            await live.publish("positions", position("p2"))
            beat = await sse.expect("heartbeat")
            assert beat.body["position"] == beat.id == live.at(2)
            assert (await ws.expect("heartbeat")).body["position"] == live.at(2)
            ping = await ws.socket.receive()
            assert ping.type is aiohttp.WSMsgType.PING


async def test_a_heartbeat_asked_for_is_answered_with_the_position() -> None:
    async with served() as live, live.ws(channels="positions") as reader:
        await reader.opening()
        await live.publish("positions", position())
        await reader.events()
        await reader.send("heartbeat")
        assert (await reader.expect("heartbeat")).body["position"] == live.at(1)


# --- SSE as HTTP/1.0 has it


async def test_sse_over_http_1_0_is_not_chunked() -> None:
    async with served() as live:
        await live.publish("positions", position())
        host, port = live.url.removeprefix("http://").split(":")
        stream, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"GET /sse/telemetry?channels=positions HTTP/1.0\r\n"
            b"X-API-Key: " + live.secrets["desk"].encode() + b"\r\n\r\n"
        )
        head = await stream.readuntil(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200"))
        assert b"chunked" not in head.lower()
        reader = SseReader(stream.readline)
        assert seqs(await reader.opening()) == [1]
        await live.publish("positions", position("p2"))
        assert seqs(await reader.events()) == [2]
        writer.close()
        await writer.wait_closed()


# --- subscribing by message


async def test_the_first_subscribe_resumes_from_its_since() -> None:
    async with served() as live, live.ws() as reader:
        await live.publish("positions", *(position(f"p{n}") for n in range(4)))
        await reader.expect("welcome")
        ack = await reader.ask("subscribe", reqId="1", channels=["positions"], since=live.at(2))
        assert (ack["type"], ack["action"], ack["reqId"]) == ("ack", "subscribe", "1")
        assert ack["channels"] == ["positions"]
        assert types(await reader.until("live")) == ["resume", "event", "event", "live"]
        later = await reader.ask("subscribe", channels=["market-data"], since=live.at(1))
        assert (later["type"], later["code"]) == ("error", "BAD_REQUEST")


async def test_since_in_the_query_counts_for_what_is_subscribed_first() -> None:
    async with served() as live:
        await live.publish("positions", *(position(f"p{n}") for n in range(4)))
        async with live.ws(since=live.at(3)) as reader:
            await reader.expect("welcome")
            await reader.send("subscribe", channels=["positions"])
            assert types(await reader.until("live")) == ["ack", "resume", "event", "live"]


async def test_a_second_subscribe_brings_a_snapshot_of_its_channels_alone() -> None:
    async with served() as live, live.ws() as reader:
        await live.publish("positions", position())
        await live.publish("market-data", price())
        await reader.send("subscribe", channels=["positions"])
        await reader.opening()
        ack = await reader.ask("subscribe", channels=["market-data"])
        assert ack["channels"] == ["positions", "market-data"]
        reported = await reader.until("live")
        assert types(reported) == ["snapshot", "event", "live"]
        assert reported[0].body["channels"] == ["market-data"]
        await live.publish("positions", position("p2"))
        await live.publish("market-data", price(price="2"))
        assert [e.body["channel"] for e in await reader.events(2)] == ["positions", "market-data"]


async def test_a_new_subscribe_replaces_the_filter_of_the_channels_that_it_names() -> None:
    async with served() as live, live.ws(channels="positions,risk-alerts", traderId="t1") as reader:
        await reader.opening()
        await live.publish("positions", position("p2", "t2"), position("p1", "t1"))
        await live.publish("risk-alerts", alert("a2", "t2"))
        assert (await reader.expect("event")).body["key"] == "p1"
        await reader.ask("subscribe", channels=["positions"], filter={"traderId": ["t2"]})
        reported = await reader.until("live")
        assert types(reported) == ["snapshot", "event", "live"]
        assert reported[1].body["key"] == "p2"
        await live.publish("risk-alerts", alert("a3", "t2"), alert("a1", "t1"))
        assert (await reader.expect("event")).body["key"] == "a1", "still filtered as before"


async def test_after_unsubscribe_nothing_of_it_comes() -> None:
    async with served() as live, live.ws(channels="positions,market-data") as reader:
        await reader.opening()
        ack = await reader.ask("unsubscribe", reqId="u", channels=["positions", "risk-alerts"])
        assert (ack["action"], ack["reqId"]) == ("unsubscribe", "u")
        assert ack["channels"] == ["market-data"]
        assert [each["channel"] for each in ack["rejected"]] == ["risk-alerts"]
        await live.publish("positions", position())
        await live.publish("market-data", price())
        assert (await reader.expect("event")).body["channel"] == "market-data"


@TRANSPORTS
async def test_of_several_channels_the_valid_ones_are_accepted_and_the_rest_named(
    transport: str,
) -> None:
    async with (
        served() as live,
        live.transport(transport, channels="postions,market-data,open") as reader,
    ):
        await reader.expect("welcome")
        ack = (await reader.expect("ack")).body
        assert ack["channels"] == ["market-data"]
        misspelt, reserved = ack["rejected"]
        assert (misspelt["channel"], misspelt["code"]) == ("postions", "UNKNOWN_CHANNEL")
        assert "Did you mean 'positions'?" in misspelt["message"]
        assert reserved["channel"] == "open"


async def test_when_no_channel_is_valid_the_request_fails_and_the_connection_lives() -> None:
    async with served() as live, live.ws() as reader:
        await reader.expect("welcome")
        error = await reader.ask("subscribe", reqId="7", channels=["postions", "error"])
        assert (error["type"], error["reqId"]) == ("error", "7")
        assert (error["code"], error["retryable"]) == ("UNKNOWN_CHANNEL", False)
        assert "Did you mean 'positions'?" in error["message"]
        assert (await reader.ask("subscribe", channels=["positions"]))["type"] == "ack"
        for transport in ("ws", "sse"):
            refused = await refusal(live, transport, channels="postions")
            assert (refused["status"], refused["code"]) == (404, "UNKNOWN_CHANNEL")


# --- what is gone


def keeping(events: int) -> MemoryJournal:
    return MemoryJournal({name: Retention(events, 1e9) for name in CHANNELS})


async def trimmed(live: Live) -> None:
    while await live.parts.journal.trim():
        pass


async def test_only_the_channel_that_has_expired_starts_over_the_others_resume() -> None:
    async with served(tape_events=4) as live:
        await live.publish("positions", position("p1"))
        start = live.at(1)
        states = ("RUNNING", "PAUSED")
        await live.publish("trader-status", *(trader(status=states[n % 2]) for n in range(1_100)))
        await live.publish("positions", position("p2"))
        for transport in ("ws", "sse"):
            reported = await opened(
                live, transport, channels="positions,trader-status", since=start
            )
            assert types(reported) == ["ack", "snapshot", "event", "resume", "event", "live"]
            _, snapshot, row, resume, event, _ = (each.body for each in reported)
            assert snapshot["channels"] == ["trader-status"]
            assert snapshot["reason"] == "POSITION_EXPIRED"
            assert (row["channel"], row["seq"]) == ("trader-status", 1_101)
            assert (resume["channels"], event["key"]) == (["positions"], "p2")


async def test_what_the_tape_has_lost_comes_whole_from_the_journal() -> None:
    async with served(tape_events=4) as live:
        await live.publish("market-data", *(price(price=f"{n}.0") for n in range(1_500)))
        for transport in ("ws", "sse"):
            reported = await opened(
                live, transport, channels="market-data", since=live.at(3), delivery="all"
            )
            assert types(reported[:2]) == ["ack", "resume"]
            assert seqs(reported) == list(range(4, 1_501))


@TRANSPORTS
async def test_with_delivery_all_a_range_that_exists_no_more_is_sent_as_a_gap(
    transport: str,
) -> None:
    async with served(journal=keeping(10), tape_events=4) as live:
        await live.publish("market-data", *(price(price=f"{n}.0") for n in range(100)))
        await trimmed(live)
        reported = await opened(
            live, transport, channels="market-data", since=live.at(3), delivery="all"
        )
        assert types(reported[:3]) == ["ack", "resume", "gap"]
        gap = reported[2].body
        assert (gap["channel"], gap["fromSeq"], gap["toSeq"]) == ("market-data", 4, 90)
        assert seqs(reported) == list(range(91, 101))
        page = await live.get("/api/v1/channels/market-data/events", query={"after": live.at(3)})
        assert page["gap"] == {"fromSeq": 4, "toSeq": 90}


@TRANSPORTS
async def test_a_stream_that_ends_is_forgotten(transport: str) -> None:
    async with served() as live:
        async with live.transport(transport, channels="positions") as reader:
            await reader.opening()
            assert len(live.parts.clients) == 1
        await live.everybody_gone()
        assert (await live.publish("positions", position()))["subscribers"] == 0


async def test_a_stream_that_the_server_ends_says_so_at_both_transports() -> None:
    async with (
        served() as live,
        live.ws(channels="positions") as ws,
        live.sse(channels="positions") as sse,
    ):
        await ws.opening()
        await sse.opening()
        going = asyncio.ensure_future(drain(live.parts))
        notice = (await ws.expect("notice")).body
        assert (notice["code"], notice["retryable"]) == ("SHUTTING_DOWN", True)
        assert notice["retryAfterMs"] > 0
        with pytest.raises(Ended) as end:
            await ws.read()
        assert end.value.code == 1001
        assert (await sse.expect("notice")).body["code"] == "SHUTTING_DOWN"
        with pytest.raises(Ended):
            await sse.read()
        assert len(sse.retry) == 2, "an EventSource comes back when it is asked to"
        await going


async def test_the_ends_are_spread_but_nobody_waits_after_the_last() -> None:
    """A service with one client took all of `drain_seconds` to go down."""
    async with served(drain_seconds=60.0) as live, live.ws(channels="positions") as reader:
        await reader.opening()
        async with asyncio.timeout(PATIENCE):
            await drain(live.parts)
            notice = (await reader.expect("notice")).body
        assert 500 <= notice["retryAfterMs"] <= 1_000


# --- what a stream holds


@TRANSPORTS
async def test_a_stream_holds_nothing_of_its_request_and_what_it_held_is_freed_with_it(
    transport: str,
) -> None:
    """Most of a connection's memory was aiohttp's part of it; and what held each other took the
    garbage collector a quarter of the time in which thousands came."""

    def there() -> Counter[str]:
        objects = gc.get_objects()
        return Counter(
            "stream" if isinstance(each, ws._WsStream | sse._SseStream) else "request"
            for each in objects
            if isinstance(each, ws._WsStream | sse._SseStream | web.BaseRequest | Connection)
        )

    async with served() as live:
        gc.collect()
        gc.freeze()  # what the tests before have left is not looked through each time
        others = there()
        gc.disable()
        try:
            for _ in range(3):
                async with live.transport(transport, channels="positions") as reader:
                    await reader.until("live")
                    await live.until(lambda: there() - others == {"stream": 1})
                await live.until(lambda: there() == others)
        finally:
            gc.enable()
            gc.unfreeze()


async def test_an_event_stream_whose_client_goes_on_sending_is_dropped() -> None:
    async with served() as live:
        line = await dial("sse", int(live.url.rpartition(":")[2]), live.secrets["desk"])
        await live.until(lambda: len(live.parts.streams) == 1)
        await line._send(bytes(sse.UNREAD_BYTES))
        await live.publish("positions", position("p1"))
        assert len(live.parts.streams) == 1, "as much is let pass"
        await line._send(b"and on")
        await live.until(lambda: len(live.parts.streams) == 0)
        await live.everybody_gone()
        line.cut()
