"""Whatever a WebSocket client says: it is answered in the words of the contract, and lives on."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings

import telecast.web.streams.websocket as websocket
import telecast.web.streams.ws as ws
from telecast.channels.catalogue import CHANNELS
from telecast.channels.fields import Identifier
from telecast.errors import CODES
from telecast.protocol import messages
from telecast.protocol.commands import Command, CommandFault, Publish, parse_command
from telecast.protocol.session import Session, SessionLimits
from tests.hostile.hosting import Host, connected
from tests.hostile.poison import JSON, json_texts, mutated
from tests.support.fakes import ws_frames
from tests.support.payloads import alert, position, price, trader
from tests.support.service.live import PATIENCE, principal, served, types
from tests.support.sockets.raw import _masked, request

COMMANDS: tuple[dict[str, Any], ...] = (
    {"action": "subscribe", "reqId": "1", "channels": ["positions", "risk-alerts"]},
    {"action": "subscribe", "channels": ["positions"], "filter": {"traderId": ["t1"]}},
    {"action": "subscribe", "channels": ["positions"], "since": "k3v9:1042"},
    {"action": "unsubscribe", "reqId": "2", "channels": ["positions"]},
    {"action": "heartbeat", "reqId": "3"},
    {"action": "ack", "reqId": "4", "position": "k3v9:1057"},
    {"action": "acknowledge-alert", "reqId": "5", "alertId": "a", "note": "flattened"},
    *(
        {"action": "publish", "reqId": "6", "channel": name, "data": data, "idempotencyKey": "k"}
        for name, data in (
            ("trader-status", trader()),
            ("positions", position()),
            ("risk-alerts", alert()),
            ("market-data", price()),
        )
    ),
)
sayings = mutated(COMMANDS) | json_texts
TOLD = {"reqId", "code", "message", "details", "advice", "retryable", "type", "timestamp"}
HUGE = SessionLimits(actions_per_second=1e9, actions_burst=1e9, bad_messages=2**60)


def right_shape(error: dict[str, Any]) -> None:
    assert set(error) == TOLD
    assert error["code"] in CODES
    assert error["message"]
    assert len(error["message"]) < 1_000
    assert error["reqId"] is None or 0 < len(error["reqId"]) <= Identifier.MOST


@settings(max_examples=400, derandomize=True)
@given(sayings)
def test_a_message_is_a_command_or_a_named_refusal(text: str) -> None:
    judged(text)


def judged(text: str) -> None:
    session = Session(principal(), CHANNELS, HUGE, 0.0)
    try:
        session.receive(text, 0.0)
    except CommandFault as fault:
        right_shape(orjson.loads(messages.error(0, fault, fault.req_id).json))


def test_a_name_that_is_null_or_left_out_is_refused_in_the_words_for_null() -> None:
    for said in ({}, {"channel": None}):
        text = orjson.dumps({"action": "publish", "data": {}, **said}).decode()
        with pytest.raises(CommandFault, match=r"`channel`: Field may not be null\."):
            parse_command(text, CHANNELS.filters)


@pytest.mark.parametrize(
    "where",
    [
        "@",
        '{"action":@}',
        '{"action":"heartbeat","reqId":@}',
        '{"action":"subscribe","channels":@}',
        '{"action":"subscribe","channels":[@]}',
        '{"action":"subscribe","channels":["positions"],"filter":@}',
        '{"action":"subscribe","channels":["positions"],"filter":{"traderId":@}}',
        '{"action":"subscribe","channels":["positions"],"filter":{"traderId":[@]}}',
        '{"action":"subscribe","channels":["positions"],"since":@}',
        '{"action":"unsubscribe","channels":@}',
        '{"action":"publish","channel":@,"data":{}}',
        '{"action":"publish","channel":"positions","data":@}',
        '{"action":"publish","channel":"positions","data":{},"idempotencyKey":@}',
        '{"action":"ack","position":@}',
        '{"action":"acknowledge-alert","alertId":@,"note":@}',
        '{"action":"heartbeat",@:1}',
    ],
)
def test_junk_in_any_place_of_a_command_is_no_crash(where: str) -> None:
    """A list of a thousand lists as the action filled the stack when it was quoted."""
    for junk in JSON:
        judged(where.replace("@", junk))


@settings(max_examples=120, derandomize=True)
@example('{"action":%s}' % ("[" * 1_000 + "]" * 1_000))
@example('{"action":"publish","channel":"positions","data":{"id":%s}}' % ("[" * 900 + "]" * 900))
@given(text=sayings)
def test_the_connection_answers_lives_on_and_journals_nothing_of_a_refusal(
    host: Host, text: str
) -> None:
    host.run(_lives_on(host, text))


async def _lives_on(host: Host, text: str) -> None:
    live = host.live
    async with live.ws() as reader:
        await reader.expect("welcome")
        before = live.parts.journal.head
        await reader.socket.send_str(text)
        await reader.send("unsubscribe", reqId="behind", channels=["nothing"])
        reported = [(await reader.read()).body]
        while reported[-1].get("reqId") != "behind":
            reported.append((await reader.read()).body)
        expected = _read(text)
        if isinstance(expected, CommandFault):
            error, ack = reported
            right_shape(error)
            assert (error["type"], error["code"]) == ("error", expected.code)
            assert error["reqId"] == expected.req_id
            assert ack["type"] == "ack"
            assert live.parts.journal.head == before
        elif isinstance(expected, Publish):
            # The only command whose answer waits for others' work.
            [answer] = reported[:-1] or [(await reader.read()).body]
            assert answer["type"] in ("ack", "error")
            if answer["type"] == "error":
                right_shape(answer)
                assert live.parts.journal.head == before


def _read(text: str) -> Command | CommandFault:
    try:
        return parse_command(text, CHANNELS.filters)
    except CommandFault as fault:
        return fault


# --- how much


NAMES = [f"{number:x}" for number in range(9_000)]


@pytest.mark.parametrize(
    ("asked", "limit"),
    [
        ({"channels": NAMES}, "max_channels"),
        ({"channels": ["positions"], "filter": {"traderId": NAMES}}, "max_filter_values"),
        (
            {
                "channels": ["positions"],
                "filter": dict.fromkeys(("traderId", "symbol"), NAMES[:200]),
            },
            "max_filter_values",
        ),
    ],
)
async def test_names_are_counted_before_any_of_them_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], limit: str
) -> None:
    """A frame of 64 KiB holds nine thousand, each of which took a microsecond to check."""
    looked_at: list[Any] = []
    check = Identifier._deserialize

    def counting(self: Identifier, value: Any, *rest: Any, **more: Any) -> str:
        looked_at.append(value)
        return check(self, value, *rest, **more)

    async with served() as live, live.ws() as reader:
        await reader.expect("welcome")
        monkeypatch.setattr(Identifier, "_deserialize", counting)
        error = await reader.ask("subscribe", **asked)
        assert (error["code"], list(error["details"])) == ("LIMIT_EXCEEDED", [limit, "asked"])
        assert len(looked_at) <= 256
        query = {"channels": ",".join(NAMES[:1_000])}
        for transport in ("ws", "sse"):
            status, body, _ = await live.ask("GET", f"/{transport}/telemetry", query=query)
            assert (status, body["error"]["code"]) == (400, "LIMIT_EXCEEDED")
        assert len(looked_at) <= 256


async def test_a_flood_of_subscribes_costs_snapshots_for_its_burst_alone_and_is_forgotten() -> None:
    async with served(actions_per_second=0.1, actions_burst=5) as live:
        await live.publish("positions", *(position(f"p{n}") for n in range(50)))
        async with live.ws() as reader:
            await reader.expect("welcome")
            for number in range(230):
                action = ("subscribe", "unsubscribe")[number % 2]
                await reader.send(action, channels=["positions"])
            reported, code = await reader.rest()
        kinds = types(reported)
        assert code == 4429
        assert kinds.count("ack") == 5
        assert kinds.count("snapshot") <= 3
        assert kinds.count("event") <= 3 * 50
        assert kinds.count("error") == 201
        await live.everybody_gone()
        assert live.parts.broadcaster.subscriber_count("positions") == 0


async def test_messages_that_come_at_once_do_not_keep_the_loop_from_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand publishes in one write held it for 80 ms, and each connection can send as many."""
    monkeypatch.setattr(websocket, "SLICE", 0.0)
    turns, seen = 0, []
    obey = ws._WsStream._obey

    def noting(self: Any, text: str) -> None:
        seen.append(turns)
        obey(self, text)

    monkeypatch.setattr(ws._WsStream, "_obey", noting)
    async with served() as live, connected(live) as (reader, writer):
        writer.write(request("ws", live.secrets["desk"], {}))
        await reader.readuntil(b"\r\n\r\n")
        frame = _masked(1, orjson.dumps({"action": "publish", "channel": "nothing", "data": {}}))
        writer.write(frame * 300)
        async with asyncio.timeout(PATIENCE):
            while len(seen) < 300:
                turns += 1
                await asyncio.sleep(0)
        assert len(set(seen)) == 300


# --- a fault of ours


@pytest.mark.parametrize("place", ["_act", "_publish"])
async def test_a_fault_of_ours_over_one_message_ends_that_connection_alone_with_1011(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The answer of a failed request, 500 and all, was written where the client reads frames."""
    broken = getattr(ws._WsStream, place)

    def breaking(self: Any, command: Any) -> None:
        if command.req_id == "poison":
            raise RuntimeError("canary")
        broken(self, command)

    monkeypatch.setattr(ws._WsStream, place, breaking)
    async with served() as live, live.ws() as bystander, live.ws() as reader:
        await bystander.expect("welcome")
        await reader.expect("welcome")
        await reader.send("publish", reqId="poison", channel="market-data", data=price())
        reported, code = await reader.rest()
        assert code == 1011
        assert [(each.type, each.body["code"]) for each in reported] == [("notice", "INTERNAL")]
        assert b"canary" not in reported[0].json
        answer = await bystander.ask("publish", channel="market-data", data=price())
        assert answer["type"] == "ack"
        assert live.parts.ready


# --- compression


async def test_compression_is_not_agreed_on_and_a_compressed_frame_is_a_protocol_error() -> None:
    """So 60 KiB that would inflate to 60 MiB are refused by their first byte (RFC 7692 §6)."""
    async with served() as live, connected(live) as (reader, writer):
        head = request("ws", live.secrets["desk"], {}).removesuffix(b"\r\n")
        offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
        writer.write(head + offer)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101")
        assert b"extensions" not in answer.lower()
        bomb = zlib.compress(bytes(60_000), wbits=-15)
        writer.write(b"\xc1" + bytes([0x80 | len(bomb)]) + bytes(4) + bomb)
        opcodes = [(opcode, data) for opcode, data, _ in ws_frames(await reader.read())]
        assert {opcode for opcode, _ in opcodes[:-1]} == {1}
        assert opcodes[-1][0] == 8
        assert int.from_bytes(opcodes[-1][1][:2], "big") == 1002
