"""Bytes of both transports, read back by small parsers of our own."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecast.client.connection.sse import Parser
from telecast.model import Entry, Event, Position
from telecast.protocol import framing, messages
from telecast.protocol.framing import (
    SSE,
    SSE_HTTP10,
    SSE_HTTP10_POSITIONED,
    SSE_POSITIONED,
    WS,
    WS_POSITIONED,
    Message,
)
from telecast.protocol.messages import event_of
from tests.support.fakes import EPOCH, dechunked, messages_in, sse_events, ws_frames

TEXT = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("\r\n\0\u2028\u2029\u0085:\ufeff\x1e")),
    max_size=30,
)


@st.composite
def events(draw: st.DrawFn) -> Event:
    data = orjson.dumps(
        {draw(TEXT): draw(TEXT), "pad": "x" * draw(st.sampled_from((0, 70, 70000)))}
    )
    seq = draw(st.integers(1, 2**53 - 1))
    return event_of(Entry(seq, 5, "market-data", draw(TEXT), "upsert", False, data), {})


@given(st.lists(events(), min_size=1, max_size=5))
def test_one_event_in_is_one_event_out_at_every_transport(reported: list[Event]) -> None:
    """For any Unicode: CR, LF, NUL, U+2028, a colon or a byte order mark end nothing."""
    expected = [event.json for event in reported]
    ws = WS.join([WS.event(event, EPOCH) for event in reported])
    assert [(op, payload) for op, payload, _ in ws_frames(ws)] == [(1, json) for json in expected]
    chunk = SSE.join([SSE.event(event, EPOCH) for event in reported])
    plain = SSE_HTTP10.join([SSE_HTTP10.event(event, EPOCH) for event in reported])
    assert dechunked(chunk) == plain
    assert list(sse_events(plain)) == [
        ("market-data", event.json.decode(), f"{EPOCH}:{event.seq}") for event in reported
    ]


@given(events())
def test_a_row_of_a_snapshot_has_no_id(event: Event) -> None:
    assert WS.row(event) == WS.event(event, EPOCH)
    block = SSE.row(event)
    assert list(sse_events(block)) == [("market-data", event.json.decode(), None)]
    assert b"id:" not in block.splitlines()[0]


@given(events())
def test_a_position_that_was_asked_for_is_one_member_more_and_changes_nothing_else(
    event: Event,
) -> None:
    ((_, ws, _),) = ws_frames(WS_POSITIONED.event(event, EPOCH))
    ((_, sse, at),) = sse_events(SSE_HTTP10_POSITIONED.event(event, EPOCH))
    assert sse.encode() == ws
    said = orjson.loads(ws)
    assert said.pop("position") == at == f"{EPOCH}:{event.seq}"
    assert said == orjson.loads(event.json)
    assert list(said)[-1] == "timestamp"
    for transport in (WS_POSITIONED, SSE_POSITIONED):
        assert b'"position":"' + EPOCH.encode() not in transport.row(event)


@given(TEXT, TEXT)
def test_a_message_is_its_type_and_its_json(channel: str, note: str) -> None:
    message = Message("notice", orjson.dumps({"type": "notice", "channel": channel, "note": note}))
    (ws,) = messages_in("ws", WS.message(message))
    (sse,) = messages_in("sse", SSE.join([SSE.message(message)]))
    assert ws.json == sse.json == message.json
    assert sse.id is None


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_frame_says_its_length_in_the_shortest_form(size: int) -> None:
    """RFC 6455 §5.2: the minimal number of bytes must be used."""
    frame = framing.ws_text(b"x" * size)
    assert list(ws_frames(frame)) == [(1, b"x" * size, len(frame))]
    assert len(frame) - size == (2 if size < 126 else 4 if size < 65_536 else 10)


@pytest.mark.parametrize("size", [0, 125])
def test_a_pong_repeats_the_ping(size: int) -> None:
    assert list(ws_frames(framing.ws_pong(b"p" * size))) == [(10, b"p" * size, size + 2)]
    assert list(ws_frames(framing.WS_PING)) == [(9, b"", 2)]


def test_positions_stand_where_a_client_may_resume_from() -> None:
    at = Position(EPOCH, 7)
    reported = {
        "live": messages.live(0, at, 3),
        "heartbeat": messages.heartbeat(0, at),
        "snapshot": messages.snapshot(0, ["positions"], "NEW"),
        "resume": messages.resume(0, at, ["positions"]),
        "conflated": messages.conflated(0, 1, 7, None),
        "gap": messages.gap(0, "positions", 1, 7),
    }
    ids = {kind: next(sse_events(SSE.message(one)))[2] for kind, one in reported.items()}
    assert {kind for kind, position in ids.items() if position == "abcd:7"} == {"live", "heartbeat"}
    assert [ids[kind] for kind in ("resume", "conflated", "gap")] == [None] * 3


def test_a_snapshot_makes_an_event_source_forget_its_position() -> None:
    # Cut short, it would else come back with a position earned with rows that it has forgotten.
    block = SSE.message(messages.snapshot(0, ["positions"], "POSITION_UNKNOWN"))
    assert next(sse_events(block))[2] == ""


def test_an_error_is_a_fault_at_sse() -> None:
    """EventSource dispatches its own `error` events: a listener could not tell them apart."""
    message = Message("error", b'{"type":"error"}')
    assert list(sse_events(SSE.message(message))) == [("fault", '{"type":"error"}', None)]
    assert next(ws_frames(WS.message(message)))[1] == b'{"type":"error"}'


def test_a_comment_is_one_line_after_which_no_parser_hands_on_an_event() -> None:
    """With a blank line of its own, httpx-sse and fetch-event-source hand on an empty event."""
    assert SSE_HTTP10.comment == b":\n"
    assert SSE.comment == b"2\r\n:\n\r\n"
    assert WS.comment == b""
    parser = Parser()
    assert parser.feed(b"id: e:1\ndata: 1\n\n" + SSE_HTTP10.comment) != []
    assert parser.feed(SSE_HTTP10.comment) == []
    assert [event.data for event in parser.feed(b"data: 2\n\n")] == [b"2"]


def test_a_retry_is_no_event() -> None:
    assert framing.sse_retry(1_500) == b"retry: 1500\n"
    assert list(sse_events(framing.sse_retry(1_500) + b"\n")) == []
