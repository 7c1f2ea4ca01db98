"""The short way beside marshmallow: the same verdict, the same row, for whatever is published."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from telecast.channels.catalogue import CHANNELS, Channel
from telecast.channels.fields import MAX_ITEMS, MAX_TEXT
from telecast.channels.plain import Plain
from telecast.channels.schemas import TraderMetrics
from telecast.model import MAX_SEQ
from tests.support.payloads import AT, alert, metrics, position, price, trader


class Text(str):
    """Not what JSON makes."""


class Object(dict[str, Any]):
    """Not what JSON makes."""


VIOLATION = {"type": "BUDGET", "message": "Over it.", "details": {"limit": "5", "of": None}}
FULL = metrics(
    profitFactor=1,
    sharpeRatio=1.5,
    startTime="2026-11-22t18:17:19+05:30",
    uptime="P1DT2H30M0.5S",
    signalsExecuted=MAX_SEQ,
    lastSignalAction="HOLD",
)
GOOD: dict[str, list[dict[str, Any]]] = {
    "trader-status": [trader(), trader(metrics=FULL), trader(exchange="OKX", metrics=None)],
    "positions": [position(), position(realizedPnL="-0.50", openedAt=AT, leverage="3")],
    "risk-alerts": [alert(), alert(violations=[VIOLATION, VIOLATION | {"details": {}}])],
    "market-data": [price(), price(exchange=None, change24h=-0.0, isSnapshot=True)],
}
TEXTS = [
    *("", "x", "a:b", "OKX", "OPEN", "CLOSE", "INFO", "x\0", "\n", "\x85", "\u2028", "\ud800", "é"),
    *("1", "-1.50", "1e5", "01", "\uff11", "P1D", "P", AT, AT.lower(), f"{AT[:-1]}+23:59"),
    *("0001-01-01T00:00:00+01:00", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z"),
    *("x" * size for size in (128, 129, MAX_TEXT, MAX_TEXT + 1)),
]
NUMBERS = [0, 1, -1, 0.0, -0.0, 0.5, 1.0, 1.5, MAX_SEQ, MAX_SEQ + 1, 1e300, 10**400]
ODD = [math.nan, math.inf, -math.inf, b"x", Text("OKX"), Object(price()), (), 1j]
LEAVES = st.sampled_from([None, True, False, *TEXTS, *NUMBERS, *ODD]) | st.text(max_size=5)
VALUES = LEAVES | st.recursive(
    LEAVES,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below),
    max_leaves=5,
)
LISTS = st.sampled_from([[VIOLATION] * MAX_ITEMS, [VIOLATION] * (MAX_ITEMS + 1), [VIOLATION, 1]])
NESTED = {"metrics": FULL, "violations": VIOLATION}


def changed(draw: st.DrawFn, good: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """In a few places only: so some stay good, and some nearly do."""
    row = dict(good)
    for name in draw(st.lists(st.sampled_from([*names, "unknown"]), max_size=3)):
        if draw(st.booleans()):
            row.pop(name, None)
        elif name in NESTED and draw(st.booleans()):
            below = changed(draw, NESTED[name], [*NESTED[name]])
            row[name] = below if name == "metrics" else [below]
        else:
            row[name] = draw(VALUES | LISTS)
    return dict(draw(st.permutations([*row.items()])))


@st.composite
def payloads(draw: st.DrawFn) -> tuple[Channel, Any]:
    channel = CHANNELS[draw(st.sampled_from([*CHANNELS]))]
    if draw(st.integers(0, 19)) == 0:
        return channel, draw(VALUES)
    good = draw(st.sampled_from(GOOD.get(channel.name, [channel.example])))
    return channel, changed(draw, good, [*channel.schema.fields])


@settings(max_examples=1_000)
@given(payloads())
def test_it_reads_what_the_schema_takes_to_the_same_row_and_nothing_else(
    case: tuple[Channel, Any],
) -> None:
    channel, payload = case
    judged: Any = None
    problems: Any = None
    try:
        judged = channel.schema.load(payload)
    except ValidationError as fault:
        problems = fault.messages
    if problems is not None:
        with pytest.raises(ValidationError):
            Plain(channel.schema).read(payload)
        with pytest.raises(ValidationError) as reported:
            channel.load(payload)
        assert reported.value.messages == problems
        return
    # Told apart by `repr`: 1, 1.0 and True, -0.0 and 0.0, and the order of the fields.
    assert repr(channel.load(payload)) == repr(channel.owned(judged))
    if type(payload) is dict:
        assert repr(Plain(channel.schema).read(payload)) == repr(judged)


@pytest.mark.parametrize(
    ("name", "payload", "problem"),
    [
        ("market-data", price("A:B", exchange=None), ("exchange", 'A symbol with ":" needs')),
        ("market-data", price(exchange="A:B"), ("exchange", 'Must not contain ":".')),
        ("market-data", price(change24h=math.nan), ("change24h", "Must be a finite JSON number.")),
        ("market-data", price(change24h=10**400), ("change24h", "Must be a finite JSON number.")),
        ("market-data", price(isSnapshot=None), ("isSnapshot", "Field may not be null.")),
        ("risk-alerts", alert(violations=None), ("violations", "Field may not be null.")),
        ("trader-status", trader(metrics=metrics(winRate=2)), ("metrics.winRate", "Must be from")),
    ],
)
def test_what_is_nearly_good_is_refused_in_the_schemas_words(
    name: str, payload: dict[str, Any], problem: tuple[str, str]
) -> None:
    channel = CHANNELS[name]
    with pytest.raises(ValidationError):
        Plain(channel.schema).read(payload)
    with pytest.raises(ValidationError) as reported:
        channel.load(payload)
    ((field, message),) = channel.problems(reported.value)
    assert field == problem[0]
    assert message.startswith(problem[1])


@pytest.mark.parametrize(
    ("name", "payload"), [(name, good) for name, some in GOOD.items() for good in some]
)
def test_what_is_good_does_not_trouble_the_schema(
    name: str, payload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> Any:
        raise AssertionError("this is plainly valid")

    channel = CHANNELS[name]
    expected = channel.owned(channel.schema.load(payload))
    for schema in (type(channel.schema), TraderMetrics):
        monkeypatch.setattr(schema, "load", load)
    assert channel.load(payload) == expected


def test_a_default_belongs_to_its_row_alone() -> None:
    first, second = (CHANNELS["risk-alerts"].load(alert()) for _ in range(2))
    assert first["violations"] is not second["violations"]
