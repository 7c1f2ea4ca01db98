"""Events in and rows out over REST: all of it or nothing, and every refusal says why."""

from __future__ import annotations

import asyncio
import gzip
import io
import itertools
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import jsonschema
import orjson
import pytest

import telecast.web.api.publish as publishing
from telecast.channels.catalogue import CHANNELS, Channel
from telecast.ingress import derivation
from tests.support.held_journal import HeldJournal
from tests.support.payloads import alert, metrics, position, price, trader
from tests.support.service.live import PATIENCE, Live, principal, served, types

EVENTS = "/api/v1/channels/{}/events"
NDJSON = {"Content-Type": "application/x-ndjson"}


def problems(error: Mapping[str, Any]) -> dict[tuple[int, str], str]:
    assert (error["status"], error["code"]) == (422, "VALIDATION_FAILED"), error
    found = error["details"]["problems"]
    assert error["details"]["total"] >= len(found)
    return {(each["item"], each["field"]): each["message"] for each in found}


async def snapshot(live: Live, channel: str = "positions", **query: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (
        await live.get(f"/api/v1/channels/{channel}/snapshot", query=query)
    )["rows"]
    return rows


# --- what is accepted


async def test_one_payload_is_committed_and_the_receipt_says_where() -> None:
    async with served() as live:
        status, body, _ = await live.post("positions", position())
        assert (status, body["success"]) == (201, True)
        assert body["data"] == {
            "accepted": 1,
            "firstSeq": 1,
            "lastSeq": 1,
            "position": live.at(1),
            "subscribers": 0,
        }


async def test_an_array_is_committed_in_its_order() -> None:
    async with served() as live:
        receipt = await live.publish("positions", position("b"), position("a"), position("b"))
        assert (receipt["accepted"], receipt["firstSeq"], receipt["lastSeq"]) == (3, 1, 3)
        page = await live.get(EVENTS.format("positions"))
        assert [(each["seq"], each["key"]) for each in page["events"]] == [
            (1, "b"),
            (2, "a"),
            (3, "b"),
        ]


@pytest.mark.parametrize(
    "kind", ["application/x-ndjson", "application/ndjson", "application/jsonl; charset=utf-8"]
)
async def test_ndjson_is_committed_line_by_line_as_one(kind: str) -> None:
    async with served() as live:
        lines = [orjson.dumps(position(f"p{n}")) for n in range(3)]
        body = b"\r\n".join([lines[0], b"", lines[1], b"  ", lines[2]])
        status, answer, _ = await live.post("positions", body, headers={"Content-Type": kind})
        assert (status, answer["data"]["accepted"]) == (201, 3)
        assert [row["key"] for row in await snapshot(live)] == ["p0", "p1", "p2"]


async def test_decimals_come_out_byte_for_byte_as_they_went_in() -> None:
    odd = ["0.50", "-0", "1.000000000000000000000000000000", "9" * 30 + "." + "0" * 30, "0.10"]
    async with served() as live, live.ws(channels="market-data", delivery="all") as reader:
        await reader.opening()
        await live.publish("market-data", *(price(price=each, bid=each, ask=each) for each in odd))
        for each, reported in zip(odd, await reader.events(len(odd)), strict=True):
            assert reported.json.count(f'"{each}"'.encode()) == 3
        (row,) = await snapshot(live, "market-data")
        assert row["data"]["price"] == "0.10"


async def test_what_a_publisher_leaves_out_is_sent_as_null() -> None:
    async with served() as live:
        await live.publish("positions", position())
        (row,) = await snapshot(live)
        for name in ("realizedPnL", "reason", "stopLossPrice", "exchange", "leverage", "openedAt"):
            assert row["data"][name] is None
        assert row["data"]["trailingStopActivated"] is False


async def test_instants_are_sent_in_utc_with_their_fraction() -> None:
    async with served() as live:
        moments = ("2026-11-22T18:17:19.123456789+05:30", "2026-11-22t18:17:19z")
        for moment in moments:
            await live.publish("positions", position(f"p{moment[-1]}", updatedAt=moment))
        reported = [row["data"]["updatedAt"] for row in await snapshot(live)]
        assert reported == ["2026-11-22T12:47:19.123456789Z", "2026-11-22T18:17:19Z"]


async def test_the_catalogue_holds_a_json_schema_that_takes_what_the_service_takes() -> None:
    rich = {
        "trader-status": [
            trader(),
            trader(metrics=None, exchange=None, reason="paused by hand"),
            trader(metrics=metrics()),
            trader(
                metrics=metrics(
                    profitFactor=None,
                    uptime="PT2H30M",
                    lastSignalAction="BUY",
                    lastSignalConfidence=0.75,
                    startTime="2026-11-22T00:00:00Z",
                    signalsExecuted=2**53 - 1,
                )
            ),
            trader(metrics=metrics(lastSignalAction=None, sharpeRatio=1)),
        ],
        "positions": [position(), position(realizedPnL=None, leverage="10", status="UPDATED")],
        "risk-alerts": [
            alert(),
            alert(trader=None, recommendation=None),
            alert(
                recommendation="BLOCK",
                violations=[
                    {"type": "DAILY_LOSS", "message": "x", "details": {"limit": "5", "by": None}}
                ],
            ),
        ],
        "market-data": [price(), price(exchange=None, change24h=-0.5, isSnapshot=True)],
    }
    wrong = {
        "trader-status": [trader(status="running"), trader(metrics=metrics(totalTrades="10"))],
        "positions": [position(quantity=0.5), position(quantity="1e3"), position(more=1)],
        "risk-alerts": [alert(severity=None), alert(status="ACKNOWLEDGED")],
        "market-data": [price(isSnapshot="yes"), {"symbol": "X"}],
    }
    async with served() as live:
        channels = {each["name"]: each for each in await live.get("/api/v1/channels")}
        assert list(channels) == list(CHANNELS)
        for name, entry in channels.items():
            assert await live.get(f"/api/v1/channels/{name}") == entry
            assert entry["filters"] == sorted(CHANNELS[name].filters)
            validator = jsonschema.Draft202012Validator(entry["schema"])
            validator.check_schema(entry["schema"])
            for payload in rich.get(name, [CHANNELS[name].example]):
                await live.publish(name, payload)
                validator.validate(payload)
            for payload in wrong.get(name, [{}, {"more": 1}]):
                assert (await live.refused(name, payload))["status"] == 422
                assert not validator.is_valid(payload), payload


# --- what is not


async def test_nothing_of_a_batch_with_a_bad_item_is_committed_and_all_bad_fields_are_listed() -> (
    None
):
    async with served() as live:
        error = await live.refused(
            "positions",
            [
                position("good"),
                position("bad", quantity=0.5, colour="red", isActive="yes"),
                7,
                position(),
                {},
            ],
        )
        found = problems(error)
        assert set(found) >= {(1, "quantity"), (1, "colour"), (1, "isActive"), (2, ""), (4, "id")}
        assert not any(item in (0, 3) for item, _ in found)
        assert "JSON string" in found[1, "quantity"]
        assert found[2, ""] == "Must be a JSON object."
        assert live.parts.journal.head == 0


async def test_every_bad_line_of_ndjson_is_listed_beside_every_bad_field() -> None:
    lines = [orjson.dumps(position()), b"{", b'{"id":NaN}', b"[1]", b'"\\ud800"', b"\xff"]
    async with served() as live:
        found = problems(await live.refused("positions", b"\n".join(lines), headers=NDJSON))
        assert sorted({item for item, _ in found}) == [1, 2, 3, 4, 5]
        assert "not valid JSON" in found[1, ""]
        assert live.parts.journal.head == 0


async def test_the_first_hundred_problems_are_listed_and_how_many_there_are() -> None:
    async with served() as live:
        error = await live.refused("market-data", [{}] * 50)
        assert len(error["details"]["problems"]) == 100
        assert error["details"]["total"] == 50 * 5
        assert error["message"].startswith("item 0, ")


@pytest.mark.parametrize(
    ("channel", "payload", "field"),
    [
        ("positions", position(quantity=1), "quantity"),
        ("positions", position(quantity="1e3"), "quantity"),
        ("positions", position(quantity="1_000"), "quantity"),
        ("positions", position(quantity="١٢"), "quantity"),
        ("positions", position(quantity="NaN"), "quantity"),
        ("positions", position(quantity="Infinity"), "quantity"),
        ("positions", position(quantity="+1"), "quantity"),
        ("positions", position(quantity="01"), "quantity"),
        ("positions", position(quantity="1."), "quantity"),
        ("positions", position(quantity=".5"), "quantity"),
        ("positions", position(quantity=" 1"), "quantity"),
        ("positions", position(quantity="1\n"), "quantity"),
        ("positions", position(quantity=""), "quantity"),
        ("positions", position(quantity="9" * 31), "quantity"),
        ("positions", position(quantity=None), "quantity"),
        ("positions", position(isActive=1), "isActive"),
        ("positions", position(isActive="true"), "isActive"),
        ("positions", position(status="open"), "status"),
        ("positions", position(status=["OPEN"]), "status"),
        ("positions", position("a\x00b"), "id"),
        ("positions", position("a\u2028b"), "id"),
        ("positions", position("a\nb"), "id"),
        ("positions", position("\x7f"), "id"),
        ("positions", position(""), "id"),
        ("positions", position("x" * 129), "id"),
        ("positions", position(id=7), "id"),
        ("positions", position(updatedAt="2026-11-22 18:17:19Z"), "updatedAt"),
        ("positions", position(updatedAt="2026-11-22T18:17:19"), "updatedAt"),
        ("positions", position(updatedAt="2026-02-30T18:17:19Z"), "updatedAt"),
        ("positions", position(updatedAt="٢٠٢٦-11-22T18:17:19Z"), "updatedAt"),
        ("positions", position(updatedAt=1700000000), "updatedAt"),
        ("positions", position(reason="x" * 4097), "reason"),
        ("positions", position(reason="a\x00b"), "reason"),
        ("positions", position(surprise={}), "surprise"),
        ("trader-status", trader(metrics=metrics(totalTrades=7.9)), "metrics.totalTrades"),
        ("trader-status", trader(metrics=metrics(totalTrades=7.0)), "metrics.totalTrades"),
        ("trader-status", trader(metrics=metrics(totalTrades="1_000")), "metrics.totalTrades"),
        ("trader-status", trader(metrics=metrics(totalTrades="7")), "metrics.totalTrades"),
        ("trader-status", trader(metrics=metrics(totalTrades=True)), "metrics.totalTrades"),
        ("trader-status", trader(metrics=metrics(totalTrades=-1)), "metrics.totalTrades"),
        ("trader-status", trader(metrics=metrics(totalTrades=2**53)), "metrics.totalTrades"),
        ("trader-status", trader(metrics=metrics(totalTrades=2**63)), "metrics.totalTrades"),
        ("trader-status", trader(metrics=metrics(winRate=1.01)), "metrics.winRate"),
        ("trader-status", trader(metrics=metrics(winRate="0.5")), "metrics.winRate"),
        ("trader-status", trader(metrics=metrics(uptime="2h")), "metrics.uptime"),
        ("trader-status", trader(metrics=metrics(uptime="P")), "metrics.uptime"),
        ("trader-status", trader(metrics=[]), "metrics"),
        ("risk-alerts", alert(violations=[{"type": "X", "message": ""}]), "violations.0.type"),
        ("risk-alerts", alert(violations=None), "violations"),
        ("risk-alerts", alert(count=3), "count"),
        ("market-data", price("A:B", None), "exchange"),
        ("market-data", price("A", "B:C"), "exchange"),
        ("market-data", price(change24h="0.1"), "change24h"),
        ("market-data", price(change24h=2**60), "change24h"),
    ],
)
async def test_a_wrong_value_is_refused_by_its_field(
    channel: str, payload: dict[str, Any], field: str
) -> None:
    async with served() as live:
        assert [where for _, where in problems(await live.refused(channel, payload))] == [field]
        assert live.parts.journal.head == 0


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("NaN", 400),
        ("Infinity", 400),
        ("-Infinity", 400),
        ("1e400", 0),
        ("1" * 400, 0),
        ("18446744073709551616", 422),
        ('"\\ud800"', 400),
        ('"\\udfff\\ud800"', 400),
        ("[" * 5_000 + "]" * 5_000, 400),
        ("[" * 500 + "]" * 500, 422),
        ("0x10", 400),
        ("01", 400),
        ("'a'", 400),
        ("", 400),
    ],
    ids=str,
)
async def test_numbers_and_texts_that_json_or_we_do_not_hold_are_refused(
    value: str, status: int
) -> None:
    body = orjson.dumps(trader(metrics=metrics(sharpeRatio="@"))).replace(b'"@"', value.encode())
    async with served() as live:
        error = await live.refused("trader-status", body)
        assert error["status"] in ((status,) if status else (400, 422))
        assert error["code"] == {400: "BAD_JSON", 422: "VALIDATION_FAILED"}[error["status"]]
        assert live.parts.journal.head == 0


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b"{} {}", b'{"a":1,}', b"[" * 100_000]
)
async def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    async with served() as live:
        error = await live.refused("positions", body)
        assert (error["status"], error["code"]) == (400, "BAD_JSON")


async def test_nothing_is_no_publish() -> None:
    async with served() as live:
        for body, headers in ((b"[]", {}), (b"\n\n", NDJSON)):
            error = await live.refused("positions", body, headers=headers)
            assert (error["status"], error["code"]) == (400, "BAD_REQUEST")


async def test_an_unknown_channel_is_refused_with_the_nearest_name() -> None:
    async with served() as live:
        error = await live.refused("postions", position())
        assert (error["status"], error["code"]) == (404, "UNKNOWN_CHANNEL")
        assert "Did you mean 'positions'?" in error["message"]
        for path in ("", "/snapshot", "/events"):
            status, body, _ = await live.ask("GET", f"/api/v1/channels/live{path}")
            assert (status, body["error"]["code"]) == (404, "UNKNOWN_CHANNEL")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": ""},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "deflate"},
    ],
)
async def test_another_type_or_a_compressed_body_is_refused(headers: dict[str, str]) -> None:
    body = orjson.dumps(position())
    if headers.get("Content-Encoding") == "gzip":
        body = gzip.compress(body)
    async with served() as live:
        error = await live.refused("positions", body, headers=headers)
        assert (error["status"], error["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
        assert error["advice"]


async def test_a_body_over_the_limit_is_refused_and_one_just_at_it_is_not() -> None:
    async with served(max_body_bytes=2048) as live:
        body = orjson.dumps(position())
        assert (await live.post("positions", body + b" " * (2048 - len(body))))[0] == 201
        error = await live.refused("positions", body + b" " * (2049 - len(body)))
        assert (error["status"], error["code"]) == (413, "BODY_TOO_LARGE")
        assert error["details"] == {"max_body_bytes": 2048}

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield b" " * 100

        status, answer, _ = await live.ask(
            "POST",
            EVENTS.format("positions"),
            data=chunks(),
            headers={"Content-Type": "application/json"},
        )
        assert (status, answer["error"]["code"]) == (413, "BODY_TOO_LARGE")


async def test_too_many_events_and_too_big_an_event_are_refused_by_their_limit() -> None:
    async with served(max_batch_events=3, max_event_bytes=1024) as live:
        error = await live.refused("positions", [position()] * 4)
        assert (error["status"], error["code"]) == (400, "LIMIT_EXCEEDED")
        assert error["details"] == {"max_batch_events": 3}
        lines = b"\n".join([orjson.dumps(position())] * 4)
        reported = await live.refused("positions", lines, headers=NDJSON)
        assert (reported["code"], reported["details"]) == (error["code"], error["details"])
        found = problems(await live.refused("positions", [position(), position(reason="x" * 999)]))
        assert list(found) == [(1, "")]
        assert "max_event_bytes (1024)" in found[1, ""]


async def test_a_body_of_countless_lines_does_not_hold_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every line was parsed, and a refusal made of it, before they were counted: 15 s for 8 MiB."""
    parsed = 0

    def counted(*what: Any) -> Any:
        nonlocal parsed
        parsed += 1
        return parse_json(*what)

    parse_json = publishing.parse_json
    monkeypatch.setattr(publishing, "parse_json", counted)
    async with served() as live:
        lines = b"\n".join([orjson.dumps(position())] * 3)
        path = EVENTS.format("positions")
        assert (await live.ask("POST", path, data=lines, headers=NDJSON))[0] == 201
        assert parsed == 3
        body = io.BytesIO(b"x\n" * (4 * 2**20 - 1))
        _, answer, _ = await live.ask("POST", path, data=body, headers=NDJSON)
        assert answer["error"]["code"] == "LIMIT_EXCEEDED"
        assert parsed <= 3 + live.parts.settings.max_batch_events + 1


# --- once and only once


async def test_a_repeat_under_its_key_gets_the_first_answer() -> None:
    async with served() as live:
        key = {"Idempotency-Key": "order 7"}
        first = await live.publish("positions", position(), position("p2"), headers=key)
        await live.publish("positions", position("p3"))
        again = await live.publish("positions", position(), position("p2"), headers=key)
        assert again == first | {"duplicate": True}
        swapped = [dict(reversed(each.items())) for each in (position(), position("p2"))]
        body = orjson.dumps(swapped, option=orjson.OPT_INDENT_2)
        assert (await live.post("positions", body, headers=key))[1]["data"] == again
        lines = b"\n".join(map(orjson.dumps, swapped))
        assert (await live.post("positions", lines, headers=key | NDJSON))[1]["data"] == again
        assert live.parts.journal.head == 3


async def test_another_body_channel_or_scope_under_the_same_key_is_a_conflict() -> None:
    async with served(principal(), principal("other")) as live:
        key = {"Idempotency-Key": "k"}
        await live.publish("positions", position(), headers=key)
        for channel, body, query in (
            ("positions", position(quantity="0.5"), {}),
            ("positions", [position(), position()], {}),
            ("market-data", price(), {}),
            ("positions", position(), {"replace": "traderId:t1"}),
        ):
            error = await live.refused(channel, body, headers=key, query=query)
            assert (error["status"], error["code"]) == (409, "IDEMPOTENCY_CONFLICT")
        receipt = await live.publish("positions", position(), headers=key, who="other")
        assert "duplicate" not in receipt, "a key belongs to its principal"


async def test_a_repeat_gets_the_first_answer_though_its_row_has_moved_out_of_reach() -> None:
    """What is derived anew from the rows of now was refused: 403 for what had been committed."""
    t1 = principal("t1-desk", "read", "publish", forced={"traderId": frozenset({"t1"})})
    async with served(principal(), t1) as live:
        key = {"Idempotency-Key": "k"}
        first = await live.publish("positions", position(), headers=key, who="t1-desk")
        await live.publish("positions", position(trader="t2"))
        head = live.parts.journal.head
        again = await live.publish("positions", position(), headers=key, who="t1-desk")
        assert again == first | {"duplicate": True}
        other = {"Idempotency-Key": "other"}
        error = await live.refused("positions", position(), headers=other, who="t1-desk")
        assert error["code"] == "FORBIDDEN"
        assert live.parts.journal.head == head
        await live.publish("positions", position())
        receipt = await live.publish("positions", position(), headers=other, who="t1-desk")
        assert "duplicate" not in receipt, "a refusal leaves no mark"


async def test_concurrent_repeats_commit_once() -> None:
    async with served() as live:
        answers = await asyncio.gather(
            *(
                live.publish("market-data", price(), headers={"Idempotency-Key": "k"})
                for _ in range(8)
            )
        )
        assert {answer["position"] for answer in answers} == {live.at(1)}
        assert sum("duplicate" not in answer for answer in answers) == 1
        assert live.parts.journal.head == 1


@pytest.mark.parametrize("key", ["", "x" * 129, "a\tb"])
async def test_a_bad_idempotency_key_is_refused(key: str) -> None:
    async with served() as live:
        error = await live.refused("positions", position(), headers={"Idempotency-Key": key})
        assert (error["status"], error["code"]) == (400, "BAD_REQUEST")
        assert "Idempotency-Key" in error["message"]


# --- replacing and withdrawing


@pytest.mark.parametrize("scan", [1, derivation.SCAN])
async def test_a_replacing_publish_leaves_just_its_rows_of_that_scope_in_one_commit(
    scan: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derivation, "SCAN", scan)
    async with served() as live, live.ws(channels="positions", delivery="all") as reader:
        await reader.opening()
        await live.publish(
            "positions", position("a"), position("b"), position("c"), position("x", "t2")
        )
        await reader.events(4)
        receipt = await live.publish(
            "positions", position("b", quantity="9"), query={"replace": "traderId:t1"}
        )
        assert (receipt["accepted"], receipt["firstSeq"], receipt["lastSeq"]) == (1, 5, 7)
        reported = [(e.body["op"], e.body["key"]) for e in await reader.events(3)]
        assert sorted(reported) == [("delete", "a"), ("delete", "c"), ("upsert", "b")]
        assert {row["key"] for row in await snapshot(live)} == {"b", "x"}
        await live.publish("positions", query={"replace": "traderId:t1"})
        assert {row["key"] for row in await snapshot(live)} == {"x"}
        receipt = await live.publish("positions", query={"replace": "traderId:t1"})
        assert (receipt["accepted"], receipt["firstSeq"]) == (0, None)
        assert receipt["position"] == live.at(8)


async def test_a_replacing_publish_must_be_of_its_scope() -> None:
    async with served() as live:
        rows = [position("a"), position("b", "t2")]
        error = await live.refused("positions", rows, query={"replace": "traderId:t1"})
        assert list(problems(error)) == [(1, "traderId")]
        for scope in ("traderId", "traderId:", ":t1"):
            error = await live.refused("positions", rows, query={"replace": scope})
            assert (error["status"], error["code"]) == (400, "BAD_REQUEST")
        error = await live.refused("positions", rows, query={"replace": "severity:INFO"})
        assert (error["status"], error["code"]) == (400, "UNKNOWN_FILTER")


async def test_a_withdrawn_row_ends_with_a_tombstone_of_its_last_state() -> None:
    async with served() as live, live.ws(channels="positions") as reader:
        await reader.opening()
        odd = "a/b c?d%e#{f}é"
        await live.publish("positions", position(odd))
        await reader.events()
        path = "/api/v1/channels/positions/rows/a%2Fb%20c%3Fd%25e%23%7Bf%7D%C3%A9"
        async with live.session.delete(
            _encoded(live.url + path), headers=live.headers("desk")
        ) as response:
            assert response.status == 201, await response.text()
        (event,) = await reader.events()
        assert (event.body["op"], event.body["key"]) == ("delete", odd)
        assert event.row["quantity"] == "0.50"
        assert await snapshot(live) == []
        for key in ("nothing", "a%2Fb"):
            status, body, _ = await live.ask("DELETE", f"/api/v1/channels/positions/rows/{key}")
            assert (status, body["error"]["code"]) == (404, "ROW_NOT_FOUND")


def _encoded(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)


# --- rows and their history


async def test_a_row_that_moves_between_filters_is_deleted_and_upserted_in_one_commit() -> None:
    async with served() as live:
        await live.publish("positions", position("p1", "t1"))
        receipt = await live.publish("positions", position("p1", "t2"))
        assert receipt["accepted"] == 1
        page = await live.get(EVENTS.format("positions"), query={"after": live.at(1)})
        reported = [(each["op"], each["seq"], each["data"]["traderId"]) for each in page["events"]]
        assert reported == [("delete", 2, "t1"), ("upsert", 3, "t2")]
        assert len({each["timestamp"] for each in page["events"]}) == 1
        assert await snapshot(live, traderId="t1") == []
        assert len(await snapshot(live, traderId="t2")) == 1


async def test_pinned_changes_survive_conflation_and_others_do_not() -> None:
    async with served() as live:
        for said in (
            {"status": "RUNNING"},
            {"strategy": "a"},
            {"strategy": "b"},
            {"status": "PAUSED"},
            {"status": "PAUSED", "strategy": "c"},
            {"status": "PAUSED", "strategy": "d"},
        ):
            await live.publish("trader-status", trader(**said))
        async with live.ws(channels="trader-status", since=live.at(0)) as reader:
            reported = await reader.opening()
            assert [e.body["seq"] for e in reported if e.type == "event"] == [1, 4, 6]


async def test_a_snapshot_is_paged_at_one_position() -> None:
    async with served() as live:
        await live.publish("positions", *(position(f"p{n}") for n in range(7)))
        path, pages, query = "/api/v1/channels/positions/snapshot", [], {"limit": "3"}
        while True:
            page = await live.get(path, query=query)
            pages.append(page)
            if not page["more"]:
                break
            query["cursor"] = page["cursor"]
            await live.publish("positions", position("late"))
        assert [len(page["rows"]) for page in pages] == [3, 3, 2]
        assert {page["position"] for page in pages} == {live.at(7)}
        assert "cursor" not in pages[-1]
        keys = [row["key"] for page in pages for row in page["rows"]]
        assert keys == [*(f"p{n}" for n in range(7)), "late"]
        async with live.ws(channels="positions", since=pages[0]["position"]) as reader:
            await reader.opening()
            assert {e.body["key"] for e in reader.log if e.type == "event"} == {"late"}


async def test_a_row_that_changes_while_a_snapshot_is_listed_stands_once_at_its_new_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loop turns while many rows are looked at."""
    async with served() as live:
        await live.publish("positions", *(position(f"p{n}") for n in range(3)))
        tape = live.parts.broadcaster.tape
        rows, looks = tape.rows, itertools.count()

        def one_by_one(*asked: Any, **how: Any) -> Any:
            if next(looks) == 1:
                changed = tape.logs["positions"].rows["p0"]
                tape.apply(replace(changed, seq=4, json=changed.json.replace(b":1,", b":4,")))
            return rows(*asked, **how, scan=1)

        monkeypatch.setattr(tape, "rows", one_by_one)
        assert [row["key"] for row in await snapshot(live)] == ["p1", "p2", "p0"]


async def test_snapshots_and_history_take_filters() -> None:
    async with served() as live:
        await live.publish(
            "positions",
            position("a", "t1"),
            position("b", "t2"),
            position("c", "t2", symbol="ETH"),
        )
        assert [r["key"] for r in await snapshot(live, traderId="t2", symbol="ETH")] == ["c"]
        page = await live.get(EVENTS.format("positions"), query={"traderId": "t2"})
        assert [each["key"] for each in page["events"]] == ["b", "c"]
        for what in ("snapshot", "events"):
            path = f"/api/v1/channels/positions/{what}"
            status, body, _ = await live.ask("GET", path, query={"severity": "INFO"})
            assert (status, body["error"]["code"]) == (400, "UNKNOWN_FILTER")


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "5001"},
        {"limit": "1_0"},
        {"limit": "٣"},
        {"limit": "-1"},
        {"cursor": "x", "after": "x"},
        {"since": "abcd:1"},
        {"channels": "positions"},
        {"delivery": "all"},
        {"traderid": "t1"},
    ],
)
@pytest.mark.parametrize("what", ["snapshot", "events"])
async def test_a_wrong_parameter_of_a_read_is_refused(what: str, query: dict[str, str]) -> None:
    async with served() as live:
        status, body, _ = await live.ask("GET", f"/api/v1/channels/positions/{what}", query=query)
        assert status == 400, body


async def test_history_is_paged_until_there_is_no_more() -> None:
    async with served() as live:
        await live.publish("market-data", *(price(price=str(n)) for n in range(10)))
        await live.publish("positions", position())
        found: list[int] = []
        query = {"limit": "4", "after": live.at(0)}
        while True:
            page = await live.get(EVENTS.format("market-data"), query=query)
            found += [each["seq"] for each in page["events"]]
            assert page["gap"] is None
            if not page["more"]:
                break
            query["after"] = page["position"]
        assert found == list(range(1, 11))
        assert page["position"] == live.at(11), "what is of other channels was passed too"


async def test_history_is_read_from_one_time_to_another() -> None:
    moment = 1_795_371_440.0
    async with served(now=lambda: moment) as live:
        for number in range(5):
            await live.publish("positions", position(f"p{number}"))
            moment += 60
        path = EVENTS.format("positions")
        query = {"from": "2026-11-22T18:18:20Z", "to": "2026-11-22T18:20:20Z"}
        data = await live.get(path, query=query)
        assert [each["seq"] for each in data["events"]] == [2, 3]
        assert (data["more"], data["position"]) == (False, live.at(3))
        assert [e["seq"] for e in (await live.get(path, query={"from": "-90s"}))["events"]] == [5]
        page = await live.get(path, query={**query, "limit": 1})
        assert page["more"]
        rest = await live.get(path, query={"after": page["position"], "to": query["to"]})
        assert [each["seq"] for each in rest["events"]] == [3]
        for wrong, said in (
            ({"from": "-1m", "to": "-2m"}, "`to` is before `from`"),
            ({"from": "-1m", "after": live.at(1)}, "send one"),
            ({"from": "yesterday"}, "no position"),
            ({"to": "10:05"}, "no time"),
            ({"to": "2099-01-01T00:00:00Z"}, "in the future"),
        ):
            status, body, _ = await live.ask("GET", path, query=wrong)
            assert status == 400
            assert said in body["error"]["message"]


@pytest.mark.parametrize(
    ("after", "status", "code"),
    [
        ("1042", 400, "POSITION_MALFORMED"),
        ("", 400, "POSITION_MALFORMED"),
        ("zzzz:1", 410, "POSITION_UNKNOWN"),
        ("@:99", 410, "POSITION_UNKNOWN"),
        ("@:9007199254740992", 400, "POSITION_MALFORMED"),
    ],
)
async def test_history_after_what_is_no_position_of_ours_is_refused(
    after: str, status: int, code: str
) -> None:
    async with served() as live:
        await live.publish("positions", position())
        got, body, _ = await live.ask(
            "GET",
            EVENTS.format("positions"),
            query={"after": after.replace("@", live.epoch)},
        )
        assert (got, body["error"]["code"]) == (status, code)


# --- around every answer


async def test_unknown_paths_and_methods_have_the_envelope_too() -> None:
    async with served() as live:
        status, body, _ = await live.ask("GET", "/api/v1/nothing")
        assert (status, body["success"], body["error"]["code"]) == (404, False, "NOT_FOUND")
        status, body, response = await live.ask("PUT", EVENTS.format("positions"), data=b"{}")
        assert (status, body["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")
        assert set(response.headers["Allow"].split(",")) >= {"GET", "POST"}
        status, body, _ = await live.ask("POST", "/ws/telemetry")
        assert (status, body["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")


async def test_every_answer_carries_the_correlation_id_if_it_is_sane_or_one_of_ours() -> None:
    async with served() as live:
        for asked, kept in (
            ("abc-1.2_3", True),
            ("x" * 64, True),
            ("x" * 65, False),
            ("a b", False),
            ('"><script>', False),
            ("é", False),
            ("", False),
        ):
            for path in ("/api/v1/channels", "/api/v1/nothing", "/livez"):
                async with live.session.get(
                    live.url + path,
                    headers=live.headers("desk", {"X-Correlation-ID": asked}),
                ) as response:
                    reported = response.headers["X-Correlation-ID"]
                    assert (reported == asked) is kept
                    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", reported)


async def test_a_request_of_a_trace_is_logged_under_the_id_of_the_trace() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with served() as live:
        for traceparent, more, found in (
            (f"00-{trace}-00f067aa0ba902b7-01", {}, trace),
            (f"cc-{trace}-00f067aa0ba902b7-01-what-comes", {}, trace),
            (f"00-{trace}-00f067aa0ba902b7-01", {"X-Correlation-ID": "mine"}, "mine"),
            (f"ff-{trace}-00f067aa0ba902b7-01", {}, None),
            (f"00-{'0' * 32}-00f067aa0ba902b7-01", {}, None),
            (f"00-{trace}-{'0' * 16}-01", {}, None),
            (f"00-{trace}-00f067aa0ba902b7-01-more", {}, None),
            (f"00-{trace.upper()}-00f067aa0ba902b7-01", {}, None),
            ("nonsense", {}, None),
        ):
            headers = live.headers("desk", {"traceparent": traceparent, **more})
            async with live.session.get(f"{live.url}/api/v1/channels", headers=headers) as response:
                reported = response.headers["X-Correlation-ID"]
            assert reported == found if found else re.fullmatch("[0-9a-f]{16}", reported)


async def test_answers_carry_the_time_in_utc() -> None:
    async with served() as live:
        for path in ("/api/v1/channels", "/api/v1/nothing"):
            _, body, _ = await live.ask("GET", path)
            assert body["timestamp"].endswith("Z")
            assert abs(datetime.fromisoformat(body["timestamp"]).timestamp() - time.time()) < 60


# --- a journal that is slow, or fails


async def test_when_too_much_waits_publishers_are_given_a_time_to_return() -> None:
    journal = HeldJournal()
    async with served(journal=journal, backlog_events=4) as live:
        journal.let.clear()
        first = asyncio.ensure_future(live.publish("market-data", price()))
        await journal.asked.wait()
        waiting = [asyncio.ensure_future(live.publish("market-data", price())) for _ in range(4)]
        await live.until(lambda: live.parts.ingress.backlog[0] == 4)
        for headers in ({}, {"Accept": "text/event-stream"}):
            status, body, response = await live.post("market-data", price(), headers=headers)
            assert (status, body["error"]["code"]) == (503, "OVERLOADED")
            assert int(response.headers["Retry-After"]) >= 1
            assert body["error"]["retryable"] is True
        assert live.parts.ingress.tally.refused == {"OVERLOADED": 2}
        journal.let.set()
        receipts = await asyncio.gather(first, *waiting)
        # Each came over a connection of its own: among these there is no order to keep.
        assert sorted(each["lastSeq"] for each in receipts) == [1, 2, 3, 4, 5]
        assert live.parts.journal.head == 5


async def test_a_journal_that_fails_is_reported_and_nothing_is_acknowledged() -> None:
    journal = HeldJournal()
    async with served(journal=journal) as live, live.ws(channels="market-data") as reader:
        await reader.opening()
        await live.publish("market-data", price())
        await reader.events()
        journal.broken = "The disk says no."
        error = await live.refused("market-data", price())
        assert (error["status"], error["code"]) == (503, "JOURNAL_UNAVAILABLE")
        assert error["retryable"] is True
        status, body, _ = await live.ask("GET", EVENTS.format("market-data"))
        assert (status, body["error"]["code"]) == (503, "JOURNAL_UNAVAILABLE")
        async with live.session.get(f"{live.url}/readyz?verbose") as response:
            assert response.status == 503
            assert "[-] journal: The disk says no." in await response.text()
        async with live.session.get(f"{live.url}/livez") as response:
            assert response.status == 200
        assert len(await snapshot(live, "market-data")) == 1, "what is in memory is still served"
        journal.broken = None
        assert (await live.publish("market-data", price(price="2")))["lastSeq"] == 2
        (event,) = await reader.events()
        assert event.row["price"] == "2", "what was refused was never told"


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_who_needs_a_damaged_part_of_the_journal_gets_an_error_and_is_not_left_waiting(
    transport: str,
) -> None:
    """Its page was never answered: it got heartbeats, and nothing else for good."""
    journal = HeldJournal()
    async with served(journal=journal, tape_events=1) as live:
        await live.publish("market-data", *(price(price=str(n)) for n in range(20)))
        journal.damaged = True
        async with live.transport(
            transport, channels="market-data", delivery="all", since=live.at(1)
        ) as reader:
            reported, code = await reader.rest()
            assert types(reported) == ["welcome", "ack", "resume", "notice"]
            assert (reported[-1].body["code"], reported[-1].body["retryable"]) == (
                "OVERLOADED",
                True,
            )
            assert code == (1013 if transport == "ws" else None)
        status, body, _ = await live.ask("GET", EVENTS.format("market-data"))
        assert (status, body["error"]["code"]) == (503, "JOURNAL_UNAVAILABLE")


async def test_a_publisher_that_leaves_does_not_take_its_commit_along() -> None:
    journal = HeldJournal()
    async with served(journal=journal) as live, live.ws(channels="market-data") as reader:
        await reader.opening()
        journal.let.clear()
        going = asyncio.ensure_future(live.publish("market-data", price()))
        await journal.asked.wait()
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        journal.let.set()
        assert types(await reader.events()) == ["event"]


async def test_what_is_acknowledged_can_be_read_at_once() -> None:
    async with served() as live:
        own, desk = live.parts, live.parts.keys.authenticate(live.secrets["desk"])
        payloads = [price(f"S{n}") for n in range(2_000)]
        published = await own.ingress.publish(desk, "market-data", payloads)
        assert own.broadcaster.tape.head == published.receipt.last_seq == 2_000


# --- what one publisher sends must not hurt the others


async def test_an_idempotency_key_that_is_no_utf_8_is_refused_and_the_committer_lives_on() -> None:
    async with served() as live:
        for key in (b"a\xffb", b"\xed\xa0\x80"):
            body = orjson.dumps(price())
            answer = await _raw(
                live,
                b"POST /api/v1/channels/market-data/events HTTP/1.1\r\nHost: x\r\n"
                b"Connection: close\r\nX-API-Key: %b\r\nContent-Type: application/json\r\n"
                b"Idempotency-Key: %b\r\nContent-Length: %d\r\n\r\n%b"
                % (live.secrets["desk"].encode(), key, len(body), body),
            )
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"Idempotency-Key" in answer
        await live.publish("market-data", price())
        assert live.parts.ready


async def test_a_compressed_sign_in_is_refused() -> None:
    """It was inflated for whoever has no key, up to the largest body: 4 KiB became megabytes."""
    async with served() as live:
        answer = await _raw(
            live,
            b"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain",
        )
        assert answer.startswith(b"HTTP/1.1 415")
        assert b"UNSUPPORTED_MEDIA_TYPE" in answer


async def test_a_payload_of_any_size_is_measured_before_its_schema_looks_at_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(self: Channel, payload: Any) -> Any:
        raise AssertionError("it would hold up everybody for as long as it is big")

    monkeypatch.setattr(Channel, "load", load)
    many = orjson.dumps(alert(violations=[{}] * 15_000))
    deep = b'{"id":%b}' % (b"[" * 400 + b"]" * 400)
    async with served() as live:
        for payload, why in ((many, "max_event_bytes"), (deep, "nested")):
            found = problems(await live.refused("risk-alerts", payload))
            assert why in found[0, ""]


async def test_what_a_list_or_map_of_a_payload_holds_is_counted_before_it_is_looked_at() -> None:
    violation = {"type": "BUDGET", "message": ""}
    many = {str(number): None for number in range(33)}
    async with served() as live:
        found = problems(
            await live.refused(
                "risk-alerts",
                [
                    alert(violations=[{}] * 33),
                    alert(violations=[violation | {"details": many}]),
                    alert(violations=[violation] * 32),
                ],
            )
        )
        assert found == {
            (0, "violations"): "Must have at most 32 items.",
            (1, "violations.0.details"): "Must have at most 32 members.",
        }


async def _raw(live: Live, request: bytes) -> bytes:
    """The answer to bytes that no client of ours would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(live.url.rpartition(":")[2]))
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
            size = re.search(rb"Content-Length: (\d+)", head)
            return head + await reader.readexactly(int(size[1]) if size else 0)
    finally:
        writer.close()
