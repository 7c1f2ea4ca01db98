"""What a WebSocket client may say, and what it hears when it says something else."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson
import pytest

from telecast.errors import JournalUnavailable
from telecast.protocol.commands import Publish
from telecast.web.streams import ws
from tests.support.fakes import ws_frames
from tests.support.held_journal import HeldJournal
from tests.support.payloads import position, price
from tests.support.service.live import PATIENCE, Ended, Live, WsReader, principal, served, types


async def closed(reader: WsReader) -> tuple[list[dict[str, Any]], int | None]:
    reported, code = await reader.rest()
    return [each.body for each in reported], code


# --- messages that are no commands


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("{", "BAD_JSON", "not valid JSON"),
        ("", "BAD_JSON", "not valid JSON"),
        ('{"action":NaN}', "BAD_JSON", "not valid JSON"),
        ('{"action":"heartbeat","reqId":"\\ud800"}', "BAD_JSON", "not valid JSON"),
        ("[" * 2_000, "BAD_JSON", "not valid JSON"),
        ("[]", "BAD_REQUEST", '"action"'),
        ('"subscribe"', "BAD_REQUEST", '"action"'),
        ("{}", "UNKNOWN_ACTION", "has no `action`"),
        ('{"action":"subscibe"}', "UNKNOWN_ACTION", "Did you mean 'subscribe'?"),
        ('{"action":["subscribe"]}', "UNKNOWN_ACTION", "`action` must be a string."),
        ('{"action":"subscribe"}', "BAD_REQUEST", "`channels`"),
        ('{"action":"subscribe","channels":"positions"}', "BAD_REQUEST", "`channels`"),
        ('{"action":"subscribe","channels":[]}', "BAD_REQUEST", "`channels`"),
        ('{"action":"subscribe","channels":[7]}', "BAD_REQUEST", "`channels`: Must be a JSON str"),
        ('{"action":"subscribe","channels":["a\\u0000"]}', "BAD_REQUEST", "control characters"),
        ('{"action":"subscribe","chanels":[]}', "BAD_REQUEST", "Did you mean 'channels'?"),
        ('{"action":"heartbeat","channels":[]}', "BAD_REQUEST", "has no field 'channels'"),
        (
            '{"action":"subscribe","channels":["positions"],"filter":[]}',
            "BAD_REQUEST",
            "`filter` must be an object",
        ),
        (
            '{"action":"subscribe","channels":["positions"],"filter":{"traderid":["t1"]}}',
            "UNKNOWN_FILTER",
            "Did you mean 'traderId'?",
        ),
        (
            '{"action":"subscribe","channels":["positions"],"filter":{"severity":["INFO"]}}',
            "UNKNOWN_FILTER",
            "has a filter 'severity'. The filters here: exchange, symbol, traderId.",
        ),
        (
            '{"action":"subscribe","channels":["positions"],"filter":{"foo":["1"]}}',
            "UNKNOWN_FILTER",
            "There is no filter 'foo'. There are: ",
        ),
        (
            '{"action":"subscribe","channels":["positions"],"filter":{"traderId":"t1"}}',
            "BAD_REQUEST",
            "`filter.traderId` must be a list",
        ),
        (
            '{"action":"subscribe","channels":["positions"],"filter":{"traderId":[null]}}',
            "BAD_REQUEST",
            "`filter.traderId`",
        ),
        (
            '{"action":"subscribe","channels":["positions"],"since":"1042"}',
            "POSITION_MALFORMED",
            "epoch:seq",
        ),
        (
            '{"action":"subscribe","channels":["positions"],"since":1042}',
            "POSITION_MALFORMED",
            "`since` must be a string",
        ),
        ('{"action":"heartbeat","reqId":{}}', "BAD_REQUEST", "`reqId`"),
        ('{"action":"publish","channel":"positions","data":[]}', "BAD_REQUEST", "`data`"),
        ('{"action":"publish","data":{}}', "BAD_REQUEST", "`channel`"),
        (
            '{"action":"publish","channel":"positions","data":{},"idempotencyKey":"\\n"}',
            "BAD_REQUEST",
            "`idempotencyKey`",
        ),
    ],
)
async def test_what_is_no_command_is_answered_with_why_and_the_connection_lives(
    text: str, code: str, says: str
) -> None:
    async with served() as live, live.ws() as reader:
        await reader.expect("welcome")
        await reader.socket.send_str(text)
        error = (await reader.expect("error")).body
        assert (error["code"], error["retryable"]) == (code, False)
        assert says in error["message"]
        assert error["advice"]
        await reader.send("heartbeat")
        await reader.expect("heartbeat")


async def test_req_id_is_echoed_wherever_it_could_be_read() -> None:
    async with served() as live, live.ws() as reader:
        await reader.expect("welcome")
        assert (await reader.ask("subscribe", reqId="a", channels=["nope"]))["reqId"] == "a"
        assert (await reader.ask("dance", reqId="b"))["reqId"] == "b"
        assert (await reader.ask("unsubscribe", reqId="c", channels=["positions"]))["reqId"] == "c"
        assert (await reader.ask("publish", reqId="d", channel="positions"))["reqId"] == "d"
        ack = await reader.ask("publish", reqId="e", channel="positions", data=position())
        assert (ack["type"], ack["reqId"]) == ("ack", "e")
        await reader.socket.send_str("{")
        assert (await reader.read()).body["reqId"] is None


# --- how much


async def test_the_limits_are_sent_in_the_welcome() -> None:
    limits = {"max_channels": 3, "max_filter_values": 7, "actions_per_second": 2.0}
    async with served(**limits, actions_burst=5) as live, live.ws() as reader:
        assert (await reader.expect("welcome")).body["limits"] == {
            "maxChannels": 3,
            "maxFilterValues": 7,
            "actionsPerSecond": 2,
            "actionsBurst": 5,
        }


async def test_too_many_channels_or_filter_values_are_refused_by_name_and_change_nothing() -> None:
    async with served(max_channels=2, max_filter_values=3) as live, live.ws() as reader:
        await reader.expect("welcome")
        three = ["positions", "market-data", "risk-alerts"]
        error = await reader.ask("subscribe", channels=three)
        assert (error["code"], error["details"]) == (
            "LIMIT_EXCEEDED",
            {"max_channels": 2, "asked": 3},
        )
        error = await reader.ask("subscribe", channels=[f"nothing-{n}" for n in range(3)])
        assert error["code"] == "LIMIT_EXCEEDED", "names are not even looked up"
        many = {"traderId": ["a", "b", "c", "d"]}
        error = await reader.ask("subscribe", channels=["positions"], filter=many)
        assert (error["code"], error["details"]) == (
            "LIMIT_EXCEEDED",
            {"max_filter_values": 3, "asked": 4},
        )
        ack = await reader.ask("subscribe", channels=["positions"])
        assert ack["channels"] == ["positions"]
        for transport in ("ws", "sse"):
            for query in ({"channels": ",".join(three)}, {"channels": "x,y,z"}):
                status, body, _ = await live.ask("GET", f"/{transport}/telemetry", query=query)
                assert (status, body["error"]["code"]) == (400, "LIMIT_EXCEEDED")


async def test_who_sends_bad_messages_again_and_again_is_closed_with_4400() -> None:
    async with served() as live, live.ws() as reader:
        await reader.expect("welcome")
        for _ in range(30):
            await reader.send("nonsense")
        reported, code = await closed(reader)
        assert code == 4400
        assert [each["code"] for each in reported[:20]] == ["UNKNOWN_ACTION"] * 20
        assert [each["type"] for each in reported[20:]] == ["error", "notice"]
        assert {each["code"] for each in reported[20:]} == {"TOO_MANY_BAD_MESSAGES"}


@pytest.mark.parametrize("action", ["\u00e9" * 60, "x" + "\u00e9" * 60], ids=["even", "odd"])
async def test_a_close_reason_is_not_cut_within_a_character(action: str) -> None:
    async with served() as live, live.ws() as reader:
        await reader.expect("welcome")
        for _ in range(21):
            await reader.send(action)
        _, code = await closed(reader)
        assert code == 4400


async def test_however_slow_a_rate_of_publishes_is_the_first_is_taken() -> None:
    async with served(publishes_per_second=0.1) as live, live.ws() as reader:
        await reader.expect("welcome")
        ack = await reader.ask("publish", channel="market-data", data=price())
        assert ack["type"] == "ack"


async def test_actions_over_the_rate_are_refused_and_in_the_end_closed_with_4429() -> None:
    async with served(actions_per_second=0.1, actions_burst=3) as live, live.ws() as reader:
        await reader.expect("welcome")
        for n in range(230):
            await reader.send("unsubscribe", reqId=str(n), channels=["positions"])
        reported, code = await closed(reader)
        assert code == 4429
        assert [each["type"] for each in reported[:3]] == ["ack"] * 3
        refused = reported[3:-1]
        assert {each["code"] for each in refused} == {"TOO_MANY_ACTIONS"}
        assert refused[0]["reqId"] == "3"
        assert (refused[0]["details"]["final"], refused[-1]["details"]["final"]) == (False, True)
        assert refused[0]["retryable"] is True
        assert (reported[-1]["type"], reported[-1]["code"]) == ("notice", "TOO_MANY_ACTIONS")


async def test_publishes_have_a_rate_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # However long the machine takes for it, it is all said at once.
    monkeypatch.setattr(ws, "time", SimpleNamespace(monotonic=lambda: 0.0))
    async with (
        served(actions_per_second=0.1, actions_burst=1, publishes_per_second=2.0) as live,
        live.ws() as reader,
    ):
        await reader.expect("welcome")
        for _ in range(5):
            await reader.send("publish", channel="market-data", data=price())
        kinds = sorted(types([await reader.read() for _ in range(5)]))
        assert kinds == ["ack"] * 4 + ["error"]
        assert (await reader.ask("unsubscribe", channels=["positions"]))["type"] == "ack"


async def test_behind_a_publish_that_was_not_taken_none_is_until_its_client_can_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was on its way would stand before that one, once it is repeated."""
    now, journal = 0.0, HeldJournal()
    monkeypatch.setattr(ws, "time", SimpleNamespace(monotonic=lambda: now))
    async with served(journal=journal) as live, live.ws() as reader:
        await reader.expect("welcome")
        journal.broken = "No space."
        error = await reader.ask("publish", channel="market-data", data=price("A"))
        assert (error["code"], error["message"]) == ("JOURNAL_UNAVAILABLE", "No space.")
        journal.broken = None
        error = await reader.ask("publish", channel="market-data", data=price("B"))
        assert (error["code"], error["retryable"]) == ("JOURNAL_UNAVAILABLE", True)
        assert "Repeat both, in order" in error["message"]
        now = ws.HELD_SECONDS
        for symbol in "AB":
            ack = await reader.ask("publish", channel="market-data", data=price(symbol))
            assert ack["type"] == "ack"
        assert live.parts.journal.head == 2


async def test_what_is_read_in_the_turn_of_a_refusal_is_refused_too() -> None:
    """Callbacks of a future run a turn later than it has failed."""
    stream = object.__new__(ws._WsStream)
    stream._held_until = float("-inf")
    stream._newest = asyncio.get_running_loop().create_future()
    stream._newest.set_exception(JournalUnavailable("No space."))
    command = Publish(req_id="2", channel="market-data", data=price(), idempotency_key=None)
    with pytest.raises(JournalUnavailable, match="Repeat both, in order"):
        stream._publish(command)


@pytest.mark.parametrize("last_straw", ["bad messages", "a binary one"])
async def test_what_comes_behind_the_last_straw_is_not_done(last_straw: str) -> None:
    async with served() as live, live.ws() as reader:
        await reader.expect("welcome")
        if last_straw == "a binary one":
            await reader.socket.send_bytes(b"{}")
        else:
            for _ in range(21):
                await reader.send("nonsense")
        for number in range(100):
            await reader.send("publish", channel="market-data", data=price(f"S{number}"))
        await closed(reader)
        await live.everybody_gone()
        assert live.parts.journal.head == 0


# --- frames


async def test_a_binary_message_ends_the_connection_with_1003_and_why() -> None:
    async with served() as live, live.ws() as reader:
        await reader.expect("welcome")
        await reader.socket.send_bytes(b'{"action":"heartbeat"}')
        reported, code = await closed(reader)
        assert code == 1003
        assert [each["type"] for each in reported] == ["notice"]


async def test_a_message_over_the_limit_ends_the_connection_with_1009() -> None:
    async with served(max_frame_bytes=1024) as live, live.ws() as reader:
        await reader.expect("welcome")
        await reader.send("heartbeat", reqId="x" * 2_000)
        assert (await closed(reader))[1] == 1009


async def test_a_ping_is_answered_with_its_payload() -> None:
    async with served() as live, live.ws(autoping=False) as reader:
        await reader.expect("welcome")
        await reader.socket.ping(b"are you there?")
        pong = await reader.socket.receive()
        assert (pong.type, bytes(pong.data)) == (aiohttp.WSMsgType.PONG, b"are you there?")


# --- bytes on the wire, without a client library's good manners


class Raw:
    """A WebSocket by hand: what is sent is masked with zeros."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, opcode: int, payload: bytes, *, final: bool = True) -> None:
        size = len(payload)
        head = bytes([opcode | (0x80 if final else 0)])
        if size < 126:
            head += bytes([0x80 | size])
        else:
            head += b"\xfe" + size.to_bytes(2, "big")
        self.writer.write(head + bytes(4) + payload)

    async def frames(self) -> list[tuple[int, bytes]]:
        """All frames until the server ends the connection."""
        async with asyncio.timeout(PATIENCE):
            data = await self.reader.read(-1)
        return [(opcode, payload) for opcode, payload, _ in ws_frames(data)]


@asynccontextmanager
async def raw(live: Live, query: str = "", **headers: str) -> AsyncIterator[tuple[bytes, Raw]]:
    """(response head, connection) of a handshake; `headers` with `_` for `-` replace the usual."""
    host, port = live.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    usual = {
        "Host": f"{host}:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "X-API-Key": live.secrets["desk"],
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"GET /ws/telemetry{query} HTTP/1.1", *(f"{n}: {v}" for n, v in usual.items() if v)]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    try:
        yield await reader.readuntil(b"\r\n\r\n"), Raw(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_bad_utf_8_ends_the_connection_with_1007() -> None:
    async with served() as live, raw(live) as (head, peer):
        assert head.startswith(b"HTTP/1.1 101")
        peer.send(1, b'{"action":"\xff"}')
        peer.send(8, (1000).to_bytes(2, "big"))
        frames = await peer.frames()
        assert (frames[-1][0], frames[-1][1][:2]) == (8, (1007).to_bytes(2, "big"))


@pytest.mark.parametrize("cause", ["too big", "bad utf-8", "binary"])
async def test_nothing_follows_our_close_frame(cause: str) -> None:
    """RFC 6455 §5.5.1. Events went out behind it while the peer's close frame was waited for."""
    async with (
        served(max_frame_bytes=1024) as live,
        raw(live, "?channels=market-data") as (_, peer),
        live.ws(channels="market-data") as other,
    ):
        await other.opening()
        match cause:
            case "too big":
                peer.send(1, b"x" * 2_000)
            case "bad utf-8":
                peer.send(1, b"\xff")
            case _:
                peer.send(2, b"x")
        while len(live.parts.broadcaster.subscribers) > 1:
            await live.publish("market-data", price())
        await live.publish("market-data", price())
        peer.send(8, (1000).to_bytes(2, "big"))
        frames = await peer.frames()
        assert [opcode for opcode, _ in frames].index(8) == len(frames) - 1


@pytest.mark.parametrize("version", ["8", "99", "13, 8", "thirteen"])
async def test_another_version_is_refused_with_426_and_ours(version: str) -> None:
    async with served() as live, raw(live, Sec_WebSocket_Version=version) as (head, _):
        assert head.startswith(b"HTTP/1.1 426")
        assert b"sec-websocket-version: 13\r\n" in head.lower()


async def test_a_plain_get_is_answered_that_this_is_a_websocket() -> None:
    async with served() as live:
        status, body, _ = await live.ask("GET", "/ws/telemetry")
        assert (status, body["error"]["code"]) == (400, "BAD_REQUEST")
        assert "WebSocket" in body["error"]["message"]
        assert len(live.parts.clients) == 0
        for headers in ({"Sec_WebSocket_Key": "short"}, {"Sec_WebSocket_Key": ""}, {"Upgrade": ""}):
            async with raw(live, **headers) as (head, _):
                assert head.startswith(b"HTTP/1.1 400")
        assert len(live.parts.clients) == 0


async def test_the_subprotocol_is_agreed_on_but_not_needed() -> None:
    async with served() as live:
        for asked, agreed in (("telecast.v1", True), ("other", False)):
            async with raw(live, Sec_WebSocket_Protocol=asked) as (head, _):
                assert head.startswith(b"HTTP/1.1 101")
                assert (b"telecast.v1" in head) is agreed


# --- publishing


async def test_publishes_of_a_connection_commit_in_the_order_sent() -> None:
    async with served() as live, live.ws(channels="market-data", delivery="all") as hearer:
        await hearer.opening()
        async with live.ws() as feed:
            await feed.expect("welcome")
            for n in range(200):
                row = price(price=str(n))
                await feed.send("publish", reqId=str(n), channel="market-data", data=row)
            acks = [await feed.expect("ack") for _ in range(200)]
        assert [each.body["reqId"] for each in acks] == [str(n) for n in range(200)]
        assert [each.body["seq"] for each in acks] == list(range(1, 201))
        assert acks[-1].body["position"] == live.at(200)
        assert [each.row["price"] for each in await hearer.events(200)] == [
            str(n) for n in range(200)
        ]


@pytest.mark.parametrize("journal", ["memory:", "sqlite:{}/journal.db"])
async def test_each_publish_of_a_row_is_derived_from_the_one_before(
    journal: str, tmp_path: Path
) -> None:
    async with served(journal=journal.format(tmp_path)) as live:
        async with live.ws() as feed:
            await feed.expect("welcome")
            for n in range(40):
                row = position("p1", f"t{n % 2}", quantity=str(n))
                await feed.send("publish", channel="positions", data=row)
            acks = [await feed.expect("ack") for _ in range(40)]
        assert [each.body["seq"] for each in acks] == [1, *range(3, 80, 2)]
        page = await live.get("/api/v1/channels/positions/events")
        reported = [(each["op"], each["data"]["quantity"]) for each in page["events"]]
        moves = [[("delete", str(n - 1)), ("upsert", str(n))] for n in range(1, 40)]
        assert reported == [("upsert", "0"), *(each for move in moves for each in move)]


async def test_a_publish_repeated_under_its_key_is_answered_and_not_done_again() -> None:
    async with served() as live, live.ws() as reader:
        await reader.expect("welcome")
        ask = {"channel": "positions", "idempotencyKey": "k1"}
        first = await reader.ask("publish", data=position(), **ask)
        again = await reader.ask("publish", data=position(), **ask)
        assert (first["duplicate"], again["duplicate"]) == (False, True)
        assert first["seq"] == again["seq"] == 1
        other = await reader.ask("publish", data=position(symbol="ETH"), **ask)
        assert (other["type"], other["code"]) == ("error", "IDEMPOTENCY_CONFLICT")
        status, body, _ = await live.post(
            "positions", position(), headers={"Idempotency-Key": "k1"}
        )
        assert (status, body["data"]["duplicate"]) == (201, True), (
            "the same key over both transports"
        )
        assert live.parts.journal.head == 1


async def test_a_publish_that_fails_says_why_and_commits_nothing() -> None:
    reader_only = principal("reader", "read")
    async with served(principal(), reader_only) as live:
        async with live.ws() as reader:
            await reader.expect("welcome")
            bad = await reader.ask(
                "publish", reqId="1", channel="positions", data=position(quantity=0.5, colour="red")
            )
            assert (bad["type"], bad["code"], bad["reqId"]) == ("error", "VALIDATION_FAILED", "1")
            assert {each["field"] for each in bad["details"]["problems"]} == {"quantity", "colour"}
            lost = await reader.ask("publish", channel="postions", data=position())
            assert lost["code"] == "UNKNOWN_CHANNEL"
        async with live.ws(who="reader") as reader:
            await reader.expect("welcome")
            denied = await reader.ask("publish", channel="positions", data=position())
            assert denied["code"] == "FORBIDDEN"
        assert live.parts.journal.head == 0


# --- one of a kind


async def test_a_newer_connection_of_the_same_client_takes_its_place() -> None:
    async with served() as live, live.ws(clientId="bot", channels="positions") as old:
        await old.opening()
        async with live.ws(clientId="bot", channels="positions") as new:
            await new.opening()
            assert (await old.expect("notice")).body["code"] == "REPLACED"
            with pytest.raises(Ended) as end:
                await old.read()
            assert end.value.code == 4409
            await live.publish("positions", position())
            await new.events()
            assert len(live.parts.clients) == 1


async def test_a_client_id_belongs_to_its_principal_and_to_websockets() -> None:
    async with (
        served(principal(), principal("other")) as live,
        live.sse(clientId="bot", channels="positions") as label,
        live.sse(clientId="bot", channels="positions") as shared,
        live.ws(clientId="bot", channels="positions", who="other") as theirs,
        live.ws(channels="positions") as nameless,
        live.ws(clientId="bot", channels="positions") as mine,
        live.ws(channels="positions") as another,
        live.ws(clientId="bot-2", channels="positions") as second,
    ):
        everyone = (label, shared, theirs, nameless, mine, another, second)
        for reader in everyone:
            await reader.opening()
        await live.publish("positions", position())
        for reader in everyone:
            await reader.events()


# --- going


async def test_a_client_that_closes_is_answered_and_forgotten() -> None:
    async with served() as live, live.ws(channels="positions") as reader:
        await reader.opening()
        await reader.socket.close(code=1000)
        assert reader.socket.close_code == 1000
        await live.everybody_gone()


async def test_what_is_no_text_in_a_reply_can_not_forge_another() -> None:
    async with served() as live, live.ws() as reader:
        await reader.expect("welcome")
        error = await reader.ask("subscribe", channels=['x"},{"type":"live'])
        assert error["code"] == "UNKNOWN_CHANNEL"
        assert orjson.loads(reader.log[-1].json)["details"]["channels"]
