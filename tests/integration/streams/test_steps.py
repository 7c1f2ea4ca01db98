"""What one client sends or asks for is looked at in small steps: by count, since seconds vary."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator
from itertools import chain, count
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import telecast.web.api.channels as reading
import telecast.web.api.publish as publishing
from telecast import turns
from telecast.channels.catalogue import CHANNELS
from telecast.errors import PeerFault, ValidationFailed
from telecast.ingress.checking import Checker
from telecast.protocol.items import PIECE, pieces
from tests.support.payloads import alert, position, price
from tests.support.service.live import Live, principal, served

MOST = 1_024
NDJSON = {"Content-Type": "application/x-ndjson"}


# --- payloads, one at a time


def check(payloads: Any, channel: str = "positions") -> Checker:
    checker = Checker(CHANNELS[channel], principal(), payloads, None, 4_096, 32_768)
    for _ in checker.steps():
        pass
    return checker


class Weighed(dict[str, Any]):
    """A payload that can be seen to be gone."""


def test_a_payload_is_gone_before_the_next_but_one_is_asked_for() -> None:
    """8 MiB of lists were all parsed first: 180 MB, and the garbage collector took 0.1 s."""
    there: list[weakref.ref[Weighed]] = []

    def made() -> Iterator[Weighed]:
        for _ in range(100):
            assert sum(ref() is not None for ref in there) <= 1
            payload = Weighed(a=[])
            there.append(weakref.ref(payload))
            yield payload
            del payload

    with pytest.raises(ValidationFailed):
        check(made()).result()
    assert len(there) == 100


def test_of_problems_without_end_those_that_are_listed_are_kept_and_all_are_counted() -> None:
    checker = check([{}] * 1_000)
    each = len(check([{}])._problems)
    assert len(checker._problems) == ValidationFailed.MOST
    with pytest.raises(ValidationFailed) as refused:
        checker.result()
    assert refused.value.details["total"] == 1_000 * each
    assert len(refused.value.details["problems"]) == ValidationFailed.MOST
    assert f"and {1_000 * each - 1} more" in refused.value.message


async def test_a_large_body_is_parsed_as_it_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def noted(name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*arguments: Any) -> Any:
            seen.append(name)
            return act(*arguments)

        return noting

    monkeypatch.setattr(publishing, "parse_json", noted("parsed", publishing.parse_json))
    monkeypatch.setattr(Checker, "_check", noted("checked", Checker._check))
    rows = [orjson.dumps(alert(f"a{n}", message="x" * 1_000)) for n in range(200)]
    async with served() as live:
        for body, how in (
            (b"[%b]" % b",".join(rows), {}),
            (b"\n".join(rows), {"headers": NDJSON}),
        ):
            seen.clear()
            assert (await live.post("risk-alerts", body, **how))[0] == 201
            assert seen.count("checked") == len(rows)
            between = [len(run) for run in "".join(name[0] for name in seen).split("p")]
            assert max(between) <= PIECE // 1_000, "checked before the next piece is parsed"


# --- lines


def in_lines(body: bytes) -> list[Any]:
    try:
        return list(publishing._lines(body, MOST))
    except PeerFault as fault:
        return [fault]


@given(st.lists(st.sampled_from([b"1", b"[2]", b'"a b"', b" ", b"\t", b"\r", b"\n", b"\r\n"])))
def test_lines_are_what_stands_between_two_line_ends(parts: list[bytes]) -> None:
    body = b"".join(parts)
    lines = [line.lstrip(b" \t") for line in re.split(rb"[\r\n]", body) if line.strip(b" \t")]
    found = in_lines(body)
    assert len(found) == len(lines)
    for line, payload in zip(lines, found, strict=True):
        try:
            assert payload == orjson.loads(line)
        except orjson.JSONDecodeError:
            assert isinstance(payload, PeerFault)


def test_a_line_that_is_too_long_is_a_problem_in_its_place_and_the_next_line_is_read() -> None:
    text = b"x" * (publishing.ESCAPED * MOST)
    first, second, third = in_lines(b"%b\n%bxxxx\n3\n" % (text, text))
    assert first.code == "BAD_JSON", "it is just not too long"
    assert second.code == "LIMIT_EXCEEDED"
    assert third == 3
    assert [each.code for each in in_lines(text + b"x\r3")] == ["LIMIT_EXCEEDED"]


@pytest.mark.parametrize("blank", [b"\n", b"\r", b" ", b"\t\r\n"])
async def test_white_space_is_passed_over_in_one_step_and_only_so_much_of_it(blank: bytes) -> None:
    """8 MiB of line ends were one step of 24 ms, and 8 MiB of spaces before an array 12."""
    much = (blank * PIECE)[: PIECE - 1]
    row = orjson.dumps(position())
    array = b"[%b]" % row
    async with served() as live:
        for body, kind in (
            (much + row + b"\n" + much[1:] + row + b"\n" + much[1:], NDJSON),
            (much + array + much, None),
        ):
            assert (await live.post("positions", body, headers=kind))[0] == 201
        before = live.parts.journal.head
        for body, kind in (
            (much + blank * 2 + row, NDJSON),
            (much + blank * 2 + array + much * 4, None),
            (much * 4 + array + much, None),
            (array + much * 5, None),
        ):
            assert (await live.refused("positions", body, headers=kind))["status"] == 400
        assert live.parts.journal.head == before


# --- brackets


def test_an_item_of_more_brackets_than_a_row_has_bytes_is_not_looked_through() -> None:
    few, many = (b"[" + b"[]," * n + b"1]" for n in (30_000, 33_000))
    assert few in b"".join(pieces(b"[%b]" % few, 2**18, 32_768))
    for body in (b"[%b]" % many, b"[1,%b]" % many, b"[%b,1]" % many):
        with pytest.raises(PeerFault, match="brackets"):
            list(pieces(body, 2**18, 32_768))


async def test_neither_is_a_body_or_a_line() -> None:
    many = b'{"a":[' + b"{}," * 33_000 + b"1]}"
    async with served() as live:
        error = await live.refused("positions", many)
        assert (error["code"], error["details"]) == ("LIMIT_EXCEEDED", {"max_event_bytes": 32_768})
        error = await live.refused("positions", many, headers=NDJSON)
        assert "brackets" in error["details"]["problems"][0]["message"]
        strings = orjson.dumps(alert(message="[" * 4_000)) + b" " * PIECE
        assert (await live.post("risk-alerts", strings))[0] == 201


# --- pages


async def gathered(live: Live, what: str, limit: int) -> list[list[int]]:
    """The seqs of each page, to the end."""
    found: list[list[int]] = []
    name, query = {"snapshot": "rows", "events": "events"}[what], {"limit": str(limit)}
    while True:
        page = await live.get(f"/api/v1/channels/market-data/{what}", query=query)
        found.append([each["seq"] for each in page[name]])
        if not page["more"]:
            return found
        query |= {"cursor": page["cursor"]} if what == "snapshot" else {"after": page["position"]}


@pytest.mark.parametrize("what", ["snapshot", "events"])
async def test_a_page_ends_by_its_bytes_too_and_the_next_goes_on_there(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5,000 rows of 32 KiB were one answer of 160 MB."""
    async with served() as live:
        await live.publish("market-data", *(price(f"S{n}") for n in range(40)))
        everything = [list(range(1, 41))]
        assert await gathered(live, what, 5_000) == everything
        monkeypatch.setattr(reading, "PAGE_BYTES", 2_000)
        pages = await gathered(live, what, 5_000)
        assert [[*chain(*pages)]] == everything
        assert 1 < max(map(len, pages)) < 10
        assert max(map(len, await gathered(live, what, 2))) == 2
        monkeypatch.setattr(reading, "PAGE_BYTES", 1)
        assert await gathered(live, what, 5_000) == [[seq] for seq in everything[0]] + (
            [[]] if what == "events" else []
        )


@pytest.mark.parametrize("what", ["snapshot", "events"])
async def test_a_page_is_made_in_slices(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 rows were one step of 20 to 110 ms."""
    looks, taken = count(), 0

    class Counted(turns.Turn):
        async def next(self) -> None:
            nonlocal taken
            taken += 1
            await super().next()

    async with served() as live:
        await live.publish("market-data", *(price(f"S{n}") for n in range(400)))
        clock = SimpleNamespace(monotonic=lambda: next(looks) * turns.SLICE / 4)
        monkeypatch.setattr(turns, "time", clock)
        monkeypatch.setattr(live.parts.turns, "of", lambda key: Counted())
        assert len([*chain(*await gathered(live, what, 5_000))]) == 400
        assert taken >= 400 // 5


@pytest.mark.parametrize("what", ["snapshot", "events"])
async def test_a_row_that_changes_while_a_page_is_made_is_sent_as_it_is_then(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served() as live:
        await live.publish("market-data", *(price(f"S{n}") for n in range(3)))
        desk = live.parts.keys.authenticate(live.secrets["desk"])
        changes = [price("S0", price="7"), price("S1", price="7")]

        class Busy(turns.Turn):
            def over(self) -> bool:
                return True

            async def next(self) -> None:
                if changes:
                    await live.parts.ingress.publish(desk, "market-data", [changes.pop(0)])

        monkeypatch.setattr(live.parts.turns, "of", lambda key: Busy())
        reported = await gathered(live, what, 5_000)
        # A history ends at the head of when it was asked for; a row stands where it is now.
        assert reported == [[3, 4, 5] if what == "snapshot" else [1, 2, 3]]
