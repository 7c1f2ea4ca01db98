"""Whatever a publisher posts: committed and told byte for byte to all, or refused by name."""

from __future__ import annotations

import asyncio
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import telecast.web.api.publish as publishing
from telecast.channels.catalogue import CHANNELS
from telecast.client.connection.sse import Parser
from telecast.errors import CODES, PeerFault
from telecast.protocol.commands import parse_json
from telecast.protocol.items import DEPTH, PIECE, pieces
from tests.hostile.hosting import Host, answered
from tests.hostile.poison import JSON, TEXTS, json_values, mutated
from tests.support.fakes import sse_events
from tests.support.payloads import alert, metrics, position, price, trader
from tests.support.service.live import Live, served

VALID: tuple[dict[str, Any], ...] = (
    trader(metrics=metrics(), reason="x"),
    position(exchange="BINANCE", leverage="3"),
    alert(violations=[{"type": "BUDGET", "message": "m", "details": {"a": None}}]),
    price(change24h=0.5),
)
KINDS = (
    *("application/json", "application/x-ndjson", "application/json; charset=utf-16"),
    *("application/json; charset=nonsense", "text/plain", "multipart/form-data; boundary=x", "x/"),
)


def posted(live: Live, channel: str, kind: str, body: bytes, more: bytes = b"") -> bytes:
    head = (
        f"POST /api/v1/channels/{channel}/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"X-API-Key: {live.secrets['desk']}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n"
    )
    return head.encode() + more + b"\r\n" + body


bodies = (
    mutated(VALID).map(str.encode)
    | st.lists(mutated(VALID), min_size=1, max_size=3).map(
        lambda each: f"[{','.join(each)}]".encode()
    )
    | st.sampled_from(JSON).map(str.encode)
    | st.binary(max_size=30)
)


@settings(max_examples=200, derandomize=True)
@given(channel=st.sampled_from([*CHANNELS, "nothing"]), kind=st.sampled_from(KINDS), body=bodies)
def test_a_body_is_committed_or_refused_by_name_and_leaves_nothing(
    host: Host, channel: str, kind: str, body: bytes
) -> None:
    live = host.live
    before = live.parts.journal.head
    status, _, answer = host.run(answered(live, posted(live, channel, kind, body)))
    reported = orjson.loads(answer)
    assert (status == 201) == (live.parts.journal.head > before)
    if status != 201:
        assert status in (400, 404, 413, 415, 422), reported
        assert CODES[reported["error"]["code"]].http == status
        assert len(answer) < 64 * 1024
    if status == 422:
        problems = reported["error"]["details"]["problems"]
        assert all(set(each) == {"item", "field", "message"} for each in problems)


@pytest.mark.parametrize("field", ["winRate", "totalTrades", "lastSignalTime", "sharpeRatio"])
def test_what_is_committed_is_json_to_everybody(host: Host, field: str) -> None:
    """No NaN, no lone surrogate, no number beyond what a browser reads exactly."""
    for junk in JSON:
        host.run(_json_to_everybody(host.live, field, junk))


async def _json_to_everybody(live: Live, field: str, junk: str) -> None:
    before = live.parts.journal.head
    body = orjson.dumps(trader(metrics=metrics(**{field: "@"}))).replace(b'"@"', junk.encode())
    whole = posted(live, "trader-status", "application/json", body)
    status, _, _ = await answered(live, whole)
    if status == 201:
        event = (await _history(live, "trader-status", before))[-1]
        value = event["data"]["metrics"][field]
        assert value is None or isinstance(value, str) or abs(value) < 2**53
    else:
        assert live.parts.journal.head == before


async def _history(live: Live, channel: str, after: int) -> list[dict[str, Any]]:
    path = f"/api/v1/channels/{channel}/events"
    found: list[dict[str, Any]] = (await live.get(path, query={"after": live.at(after)}))["events"]
    return found


@pytest.mark.parametrize(
    "body",
    [
        b'{"key":"a","key":"b"}',
        b"[" * 100_000,
        b'{"key":' * 1_000 + b"1" + b"}" * 1_000,
        b'{"key":NaN}',
        b'{"key":"\\ud800"}',
        b'{"ticket":"\\udfff"}',
        b'{"ticket":7}',
        b"\xff\xfe{}",
        b"",
    ],
)
def test_no_sign_in_breaks_anything(host: Host, body: bytes) -> None:
    request = (
        b"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    status, headers, _ = host.run(answered(host.live, request))
    assert status in (400, 401, 413, 429)
    assert "set-cookie" not in headers


def test_of_doubled_members_the_last_one_counts_for_the_check_and_for_the_journal(
    host: Host,
) -> None:
    live, before = host.live, host.live.parts.journal.head
    body = orjson.dumps(position("last"))[:-1] + b',"quantity":"7","quantity":"8.50"}'
    assert host.run(answered(live, posted(live, "positions", "application/json", body)))[0] == 201
    [event] = host.run(_history(live, "positions", before))
    assert event["data"]["quantity"] == "8.50"
    bad = orjson.dumps(position("last"))[:-1] + b',"quantity":"7","quantity":"x"}'
    assert host.run(answered(live, posted(live, "positions", "application/json", bad)))[0] == 422


# --- one event in, one event out


words = st.text(
    st.characters(codec="utf-8", exclude_characters="\0")
    | st.sampled_from("\r\n\u2028\u2029\x85\x0b\ufeff:"),
    max_size=30,
)
names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1, max_size=20
)
published = (
    st.builds(trader, names, name=words, reason=st.none() | words, strategy=words)
    | st.builds(position, names, names, symbol=names, reason=words)
    | st.builds(
        alert,
        names,
        message=words,
        violations=st.lists(
            st.fixed_dictionaries(
                {
                    "type": st.just("UNKNOWN"),
                    "message": words,
                    "details": st.dictionaries(names, st.none() | words, max_size=3),
                }
            ),
            max_size=2,
        ),
    )
    | st.builds(price, names, names.filter(lambda name: ":" not in name), source=names)
)


def channel_of(payload: dict[str, Any]) -> str:
    marks = {"name": "trader-status", "price": "market-data", "message": "risk-alerts"}
    return next((name for mark, name in marks.items() if mark in payload), "positions")


@settings(max_examples=60, derandomize=True)
@example([trader(name=text.replace("\0", "")[:2_000]) for text in TEXTS])
@example([alert(message="data: x\n\nid: 9:9\nevent: live\rdata: y\r\n\r\n:")])
@given(st.lists(published, min_size=1, max_size=6))
def test_an_event_is_one_event_with_the_same_bytes_for_every_reader(
    host: Host, payloads: list[dict[str, Any]]
) -> None:
    host.run(_same_for_all(host.live, payloads))


async def _same_for_all(live: Live, payloads: list[dict[str, Any]]) -> None:
    everything = {"channels": ",".join(CHANNELS), "replay": False, "delivery": "all"}
    async with live.ws(**everything) as ws, live.sse(**everything) as sse:
        await ws.until("live")
        await sse.until("live")
        before = live.parts.journal.head
        for payload in payloads:
            await live.publish(channel_of(payload), payload)
        count = live.parts.journal.head - before
        at_ws, at_sse = await ws.events(count), await sse.events(count)
        assert [each.json for each in at_ws] == [each.json for each in at_sse]
        rows = [each.row for each in at_ws if each.body["op"] == "upsert" or len(payloads) == 1]
        assert all(each in rows for each in _said(payloads, rows))
        # The same bytes, cut anywhere, to two parsers that know nothing of each other.
        ours = Parser()
        raw = bytes(sse.raw)
        ours_told = [e for at in range(0, len(raw), 7) for e in ours.feed(raw[at : at + 7])]
        whole = list(sse_events(raw))
        assert [e.data.decode() for e in ours_told] == [data for _, data, _ in whole]
        assert [e.event for e in ours_told] == [name for name, _, _ in whole]
        assert [each.json.decode() for each in sse.log] == [data for _, data, _ in whole]


def _said(payloads: list[dict[str, Any]], rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each payload as a row that was sent: what was published of it stands there unchanged."""
    for payload in payloads:
        found = [row for row in rows if payload.items() <= row.items()]
        if not found:
            raise AssertionError((payload, rows))
        yield found[0]


# --- compression


@pytest.mark.parametrize("path", ["channels/positions/events", "session", "tickets"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "x, identity", "GZIP"])
async def test_no_compressed_body_is_inflated_for_anybody(
    monkeypatch: pytest.MonkeyPatch, path: str, encoding: str
) -> None:
    """4 KiB of a sign-in, for which no key is needed, became 4 MB of JSON; 8 MiB became 8 GiB."""

    def inflated(*_: Any) -> Any:
        raise AssertionError("inflated")

    monkeypatch.setattr("aiohttp.http_parser.DeflateBuffer", inflated)
    monkeypatch.setattr("aiohttp._http_parser.DeflateBuffer", inflated, raising=False)
    bomb = gzip.compress(b"[" + b"[]," * 1_000_000 + b"[]]")
    if encoding == "deflate":
        bomb = zlib.compress(bytes(4_000_000))
    async with served() as live:
        headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
        who = None if path == "session" else "desk"
        status, body, _ = await live.ask(
            "POST", f"/api/v1/{path}", who=who, headers=headers, data=bomb
        )
        if path == "tickets":
            assert status == 201, "its body is not looked at"
        else:
            assert (status, body["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
        await live.publish("positions", position())


# --- a body that is as bad for the parser as can be


def whole(body: bytes) -> Any:
    try:
        return parse_json(body)
    except PeerFault:
        return None


def in_pieces(body: bytes, most: int = 4 * PIECE) -> Any:
    try:
        return [each for piece in pieces(body, most, most) for each in parse_json(piece)]
    except PeerFault:
        return None


def too_deep(body: bytes) -> bool:
    """Whether an item of this array nests deeper than is taken in pieces."""
    at = deepest = 0
    for byte in re.sub(rb'"(?:[^"\\]|\\.)*"', b"", body):
        at += (byte in b"[{") - (byte in b"]}")
        deepest = max(deepest, at)
    return deepest > 1 + DEPTH


spaces = st.text(" \t\r\n", max_size=3).map(str.encode)


@settings(max_examples=120, derandomize=True)
@given(st.lists(json_values, max_size=5), st.sampled_from([None, orjson.OPT_INDENT_2]), spaces)
def test_an_array_in_pieces_is_the_array(
    items: list[Any], option: int | None, space: bytes
) -> None:
    body = space + orjson.dumps(items, option=option) + space
    found = in_pieces(body)
    assert found == (None if too_deep(body) else whole(body))


@settings(max_examples=250, derandomize=True)
@example(b"[1,2],[3]")
@example(b'["a\\",1]')
@example(b'[{"a":"]"},"\\\\",[","]]')
@example(b"[1,]")
@example(b"[,1]")
@example(b"[ ] x")
@example(b"[}{]")
@example(b"[[}]")
@given(
    st.lists(st.sampled_from([*b'[]{},:"\\ 1']), max_size=14).map(bytes).map(lambda b: b"[" + b)
    | st.lists(mutated(VALID), max_size=3).map(lambda each: f"[{','.join(each)}]".encode())
)
def test_in_pieces_nothing_is_taken_that_is_no_array(body: bytes) -> None:
    found, parsed = in_pieces(body), whole(body)
    if found is not None:
        assert found == parsed
    elif isinstance(parsed, list):
        assert too_deep(body)


def test_pieces_are_small_and_an_item_may_be_larger_up_to_its_own_bound() -> None:
    large = b'{"a":"' + b"x" * (2 * PIECE) + b'"}'
    body = b"[" + b"[]," * 100_000 + large + b',{"b":1}' + b"]"
    found = list(pieces(body, 3 * PIECE, PIECE))
    assert max(len(each) for each in found if large not in each) <= PIECE + 2
    assert sum(len(parse_json(each)) for each in found) == 100_002
    with pytest.raises(PeerFault):
        list(pieces(body, PIECE, PIECE))


MEBIBYTES = 8 * 2**20 - 1
WORST = {
    "lists": b"[" + b"[]," * ((MEBIBYTES - 4) // 3) + b"[]]",
    "objects": b"[" + b'{"a":0},' * (MEBIBYTES // 8 - 1) + b"0]",
    "strings": b"[" + b'"",' * (MEBIBYTES // 3 - 1) + b"0]",
    "one object": b"{" + b'"a":0,' * (MEBIBYTES // 6 - 1) + b'"a":0}',
    "one string": b'["' + b"\\n" * (MEBIBYTES // 2 - 2) + b'"]',
    "brackets": b"[" * MEBIBYTES,
    "quotes": b"[" + b'"' * MEBIBYTES,
    "backslashes": b'["' + b"\\" * (MEBIBYTES - 2),
    "spaces": b"[" + b" " * (MEBIBYTES - 1),
    "spaces before": b" " * (MEBIBYTES - 2) + b"[]",
    "line ends": b"\n" * MEBIBYTES,
    "large lists": b"[" + (b"[" + b"[]," * 80_000 + b"1],") * 34 + b"1]",
}


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
@pytest.mark.parametrize("shape", WORST)
async def test_the_largest_body_is_never_parsed_in_one_step(
    monkeypatch: pytest.MonkeyPatch, shape: str, kind: str
) -> None:
    """8 MiB of empty lists held the loop for 0.7 s, and a thread would have held it as well."""
    sizes: list[int] = []

    def measured(data: bytes, *what: str) -> Any:
        sizes.append(len(data))
        return parse_json(data, *what)

    monkeypatch.setattr(publishing, "parse_json", measured)
    async with served() as live:
        status, _, _ = await live.ask(
            "POST",
            "/api/v1/channels/positions/events",
            data=io.BytesIO(WORST[shape]),
            headers={"Content-Type": kind},
        )
        assert status in (400, 422)
        assert max(sizes, default=0) <= PIECE + len("[]")
        # More than an array may have is not parsed to its end.
        assert sum(sizes) <= 8 * PIECE
        assert live.parts.journal.head == 0


async def test_a_large_array_of_events_is_committed_whole_and_others_are_served_meanwhile() -> None:
    async with served() as live:
        many = [trader(f"t{n}", reason=']},{[\\"' * 100) for n in range(4_096)]
        body = orjson.dumps(many)
        assert len(body) > 2 * 2**20
        publish = asyncio.create_task(
            live.ask(
                "POST",
                "/api/v1/channels/trader-status/events",
                data=io.BytesIO(body),
                headers={"Content-Type": "application/json"},
            )
        )
        turns = 0
        while not publish.done():
            await asyncio.sleep(0)
            turns += 1
        assert publish.result()[0] == 201
        assert turns > 64
        row = (await _history(live, "trader-status", 4_095))[0]["data"]
        assert (row["id"], row["reason"]) == ("t4095", many[0]["reason"])
