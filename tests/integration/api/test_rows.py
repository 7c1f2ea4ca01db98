"""One row by its key, and answers that are sent only where something has changed."""

from __future__ import annotations

from typing import Any

import aiohttp
import orjson
import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.model import Entry, Op
from telecast.tape.selection import Selection
from telecast.tape.tape import Tape
from telecast.web.api.rows import rows_tag
from tests.support.payloads import position
from tests.support.service.live import Live, principal, served

ROWS = "/api/v1/channels/positions/rows"
SNAPSHOT = "/api/v1/channels/positions/snapshot"
DESK = principal()
T1 = principal("t1", forced={"traderId": frozenset({"t1"})})


async def ask(
    live: Live, path: str, tag: str | None = None, *, method: str = "GET", who: str = "desk"
) -> tuple[int, bytes, aiohttp.ClientResponse]:
    headers = live.headers(who, {} if tag is None else {"If-None-Match": tag})
    async with live.session.request(method, live.url + path, headers=headers) as response:
        return response.status, await response.read(), response


async def test_a_row_is_what_the_snapshot_has_of_it_and_its_tag_is_its_position() -> None:
    async with served() as live:
        await live.publish("positions", position("p1"), position("p/2"))
        rows = {each["key"]: each for each in (await live.get(SNAPSHOT))["rows"]}
        for path, key in (("/p1", "p1"), ("/p%2F2", "p/2"), ("?key=p/2", "p/2")):
            assert await live.get(ROWS + path) == rows[key]
        _, _, response = await ask(live, f"{ROWS}/p1")
        assert response.headers["ETag"] == f'W/"{live.at(1)}"'
        assert response.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/p9", "ROW_NOT_FOUND"),
        ("/gone", "ROW_NOT_FOUND"),
        ("", "BAD_REQUEST"),
        ("?key=p1&limit=1", "BAD_REQUEST"),
        ("/p1?traderId=t1", "BAD_REQUEST"),
    ],
)
async def test_what_is_no_row_is_refused_and_says_why(path: str, code: str) -> None:
    async with served() as live:
        await live.publish("positions", position("p1"), position("gone", status="CLOSED"))
        status, body, _ = await live.ask("GET", ROWS + path)
        assert body["error"]["code"] == code
        assert status == (404 if code == "ROW_NOT_FOUND" else 400)


async def test_a_row_of_others_looks_like_one_that_is_not_there() -> None:
    async with served(T1, DESK) as live:
        await live.publish("positions", position("mine"), position("other", trader="t2"))
        assert (await live.get(f"{ROWS}/mine", who="t1"))["key"] == "mine"
        refusals = []
        for key in ("other", "never"):
            status, body, _ = await live.ask("GET", f"{ROWS}/{key}", who="t1")
            assert status == 404
            refusals.append(body["error"] | {"message": body["error"]["message"].replace(key, "")})
        assert refusals[0] == refusals[1]


async def test_a_log_has_no_rows() -> None:
    async with served() as live:
        await live.publish("executions", fill := CHANNELS["executions"].example)
        status, _, _ = await live.ask("GET", f"/api/v1/channels/executions/rows/{fill['id']}")
        assert status == 404


@pytest.mark.parametrize("path", [f"{ROWS}/p1", f"{ROWS}?key=p1", SNAPSHOT, f"{SNAPSHOT}?limit=1"])
async def test_what_has_not_changed_is_answered_by_304_until_it_does(path: str) -> None:
    async with served() as live:
        await live.publish("positions", position("p1"))
        _, _, first = await ask(live, path)
        tag = first.headers["ETag"]
        await live.publish("market-data", CHANNELS["market-data"].example)
        for asked in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
            status, body, again = await ask(live, path, asked)
            assert (status, body, again.headers["ETag"]) == (304, b"", tag)
        for asked in ('"x"', "nonsense", '"*"', ""):
            assert (await ask(live, path, asked))[0] == 200
        await live.publish("positions", position("p1", quantity="7"))
        status, body, changed = await ask(live, path, tag)
        assert (status, b'"quantity":"7"' in body) == (200, True)
        assert changed.headers["ETag"] != tag


@pytest.mark.parametrize("path", [f"{ROWS}/p1", SNAPSHOT, "/api/v1/channels/positions/rows/p9"])
async def test_head_answers_as_get_does_without_the_body(path: str) -> None:
    async with served() as live:
        await live.publish("positions", position("p1"))
        got, headed = await ask(live, path), await ask(live, path, method="HEAD")
        assert headed[0] == got[0]
        assert headed[1] == b""
        names = ("ETag", "Content-Type", "Content-Length", "Cache-Control")
        for name in names:
            assert headed[2].headers.get(name) == got[2].headers.get(name)
        if got[0] == 200:
            status, _, _ = await ask(live, path, got[2].headers["ETag"], method="HEAD")
            assert status == 304


async def test_one_tag_never_stands_for_what_two_keys_or_two_filters_see() -> None:
    async with served(T1, DESK) as live:
        await live.publish("positions", position("mine"), position("other", trader="t2"))
        tags = [
            (await ask(live, path, who=who))[2].headers["ETag"]
            for path, who in (
                (SNAPSHOT, "desk"),
                (SNAPSHOT, "t1"),
                (f"{SNAPSHOT}?traderId=t2", "desk"),
                (f"{SNAPSHOT}?symbol=BTCUSDT", "desk"),
            )
        ]
        assert len(set(tags)) == len(tags)
        assert (await ask(live, SNAPSHOT, tags[0], who="t1"))[0] == 200


def test_a_tombstone_that_was_trimmed_before_a_restart_is_not_forgotten_by_the_tag() -> None:
    """Else the newest event that is left would name the rows as they were before it."""
    everything = Selection({"positions": ()})
    before = Tape(CHANNELS)
    after = Tape(CHANNELS, floors={"positions": (3, 3)})
    rows = [entry(1, "positions", position("a")), entry(2, "positions", position("b"))]
    for each in rows:
        before.apply(before.event(each))
    after.apply(after.event(rows[1]))
    after.advance(3)
    tags = [rows_tag(tape, "k3v9", "positions", everything) for tape in (before, after)]
    assert tags[0] != tags[1]
    before.apply(before.event(entry(3, "positions", position("a"), op="delete")))
    assert rows_tag(before, "k3v9", "positions", everything) == tags[1]


def entry(seq: int, channel: str, row: dict[str, Any], op: Op = "upsert") -> Entry:
    return Entry(seq, 1_000 + seq, channel, row["id"], op, True, orjson.dumps(row))
