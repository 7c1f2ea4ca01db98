"""Channels from a file: what is right becomes a channel, and what is wrong is reported at once."""

from __future__ import annotations

import re
from typing import Any

import pytest
from marshmallow import ValidationError

from telecast.channels.catalogue import CHANNELS
from telecast.channels.channel import Channel
from telecast.channels.configured import RESERVED_CHANNELS, catalogue_from
from telecast.channels.table import RESERVED_FILTERS
from telecast.channels.template import template
from telecast.channels.types import KINDS
from telecast.errors import SettingsError
from telecast.model import Retention
from telecast.protocol import query
from tests.support.payloads import ORDERS


def channel(text: str, name: str = "orders") -> Channel:
    return catalogue_from(text)[name]


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        catalogue_from(text)
    return list(caught.value.problems)


def one_field(spec: str, value: Any) -> Any:
    """What a field of this table makes of a value."""
    made = channel(f'[orders.fields]\nid = {{ type = "id" }}\nx = {{ {spec} }}\n')
    return made.load({"id": "1", "x": value})["x"]


def test_what_new_prints_is_right_and_has_a_key_a_text_and_a_decimal() -> None:
    text = template("funding-rates")
    made = channel(text, "funding-rates")
    assert made.key(made.load(made.example)) == "BINANCE:BTCUSDT"
    kinds = re.findall(r'^type = "(\w+)"', text, re.MULTILINE)
    assert {"id", "text", "decimal"} <= set(kinds) <= set(KINDS)


def test_a_table_becomes_a_channel_with_all_that_it_says() -> None:
    made = channel(ORDERS)
    row = made.load(made.example)
    assert (made.mode, made.key_fields, made.key(row)) == ("keyed", ("id",), "o1")
    assert made.fields_of(row) == {"symbol": "BTCUSDT", "traderId": "t1"}
    assert made.retention == Retention(5_000, 3_600.0)
    assert made.stale_after == 90.0
    assert not made.gone(row)
    assert made.gone(row | {"status": "FILLED"})
    assert made.pinned(row, row | {"status": "PARTIAL"}, "upsert")
    assert not made.pinned(row, row | {"price": "2"}, "upsert")


def test_all_mistakes_are_reported_at_once_each_with_its_line_and_what_would_be_right() -> None:
    text = """\
[funding]
key = ["symbol", "note"]
filters = ["symbl"]
[funding.fields.symbol]
type = "id"
[funding.fields.rate]
type = "decimel"
[funding.fields.note]
type = "text"
nullable = true
[funding.fields.side]
type = "choice"
[all.fields.id]
type = "id"
[positions.fields.id]
type = "id"
"""
    found = problems(text)
    for line, said in (
        (2, "'note' may be null"),
        (3, "no field 'symbl'. Did you mean 'symbol'?"),
        (7, "no type 'decimel'. Did you mean 'decimal'?"),
        (11, "a choice needs its values"),
        (13, "the name is reserved"),
        (15, "two channels of one name"),
    ):
        assert any(each.startswith(f"channels.toml:{line}: ") and said in each for each in found), (
            said,
            found,
        )
    assert len(found) == 6


def test_two_tables_of_one_name_hide_no_other_mistake() -> None:
    text = """\
[funding.fields.id]
type = "id"

[fees]
mode = "kyed"
[fees.fields.id]
type = "id"

[funding]
title = 3
"""
    found = problems("[funding]\n" + text)
    assert [each.partition(": ")[0] for each in found] == ["channels.toml:6", "channels.toml:10"]
    assert "Did you mean 'keyed'?" in found[0]
    assert "'funding'" in found[1]
    assert "line 1" in found[1]


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        ('type = "id"', "a", ""),
        ('type = "text", max = 3', "abc", "abcd"),
        ('type = "decimal", min = "0.10", max = "2"', "2.000", "0.09"),
        ('type = "decimal", min = "0.10", max = "2"', "0.100", "2.01"),
        ('type = "ratio", min = -1, max = 1', -0.5, 1.5),
        ('type = "count", max = 9', 9, 10),
        ('type = "instant"', "2026-11-22T18:17:19Z", "yesterday"),
        ('type = "duration"', "PT2H", "2h"),
        ('type = "flag"', True, "true"),
        ('type = "choice", values = ["A", "B"]', "A", "C"),
        ('type = "text", nullable = true', None, 3),
        ('type = "list", of = { type = "count" }, max = 2', [1, 2], [1, 2, 3]),
        ('type = "object", fields = { a = { type = "flag" } }', {"a": True}, {"b": True}),
        ('type = "object", nullable = true, fields = { a = { type = "flag" } }', None, {}),
    ],
)
def test_each_type_takes_its_values_and_no_others(spec: str, good: Any, bad: Any) -> None:
    assert one_field(spec, good) == good
    with pytest.raises(ValidationError):
        one_field(spec, bad)


def test_a_field_that_may_not_be_null_is_required_and_one_that_may_is_null_when_left_out() -> None:
    made = channel(ORDERS)
    assert made.load({k: v for k, v in made.example.items() if k != "traderId"})["traderId"] is None
    with pytest.raises(ValidationError, match="Missing"):
        made.load({k: v for k, v in made.example.items() if k != "price"})


def test_bounds_descriptions_and_examples_are_part_of_the_json_schema() -> None:
    spec = 'type = "count", min = 1, max = 9, description = "So many."'
    made = channel(f'[orders.fields]\nid = {{ type = "id" }}\nx = {{ {spec} }}\n')
    said = made.json_schema["properties"]["x"]
    assert (said["minimum"], said["maximum"], said["description"]) == (1, 9, "So many.")


def test_the_same_fields_cost_the_same_short_way_as_in_a_built_in_channel() -> None:
    made = channel(ORDERS)
    assert made._plain.read(made.example) == made.schema.load(made.example)


def test_a_log_keeps_events_not_rows() -> None:
    log = 'mode = "log"'
    made = channel(f'[orders]\n{log}\n[orders.fields.id]\ntype = "id"\n')
    assert (made.mode, made.word("delete")) == ("log", "append")
    assert (
        "every event of it stays"
        in problems(f'[orders]\n{log}\npin = ["id"]\n[orders.fields.id]\ntype = "id"\n')[0]
    )


def test_a_key_of_several_fields_can_not_be_two_rows() -> None:
    made = channel(template("quotes"), "quotes")
    with pytest.raises(ValidationError, match='Must not contain ":"'):
        made.load(made.example | {"exchange": "A:B"})


def test_built_in_channels_can_be_switched_off_and_kept_otherwise() -> None:
    made = catalogue_from(
        "[risk-alerts]\nenabled = false\n"
        '[market-data]\nretention = { events = 10, age = "1h" }\nstale_after = "5s"\n'
    )
    assert set(made) == set(CHANNELS) - {"risk-alerts"}
    assert made["market-data"].retention == Retention(10, 3_600.0)
    assert made["market-data"].stale_after == 5.0
    assert CHANNELS["market-data"].retention != Retention(10, 3_600.0)
    assert "Did you mean 'retention'?" in problems("[positions]\nretentoin = {}\n")[0]


@pytest.mark.parametrize("name", sorted(RESERVED_CHANNELS))
def test_a_reserved_name_is_refused(name: str) -> None:
    assert "reserved" in problems(f'[{name}.fields.id]\ntype = "id"\n')[0]


def test_every_parameter_of_a_stream_is_reserved() -> None:
    """Regression: a filter named `ts` was taken for what libraries add, and narrowed nothing."""
    parameters = {*query._SINGLE, *query.CACHE_BUSTERS, *query.LAST_EVENT_IDS, "channels", "ticket"}
    assert parameters | {"from", "to", "after", "limit", "cursor"} <= RESERVED_FILTERS


@pytest.mark.parametrize("name", sorted(RESERVED_FILTERS))
def test_no_filter_has_the_name_of_a_parameter(name: str) -> None:
    text = f'[orders]\nfilters = {{ {name} = "id" }}\n[orders.fields.id]\ntype = "id"\n'
    assert "parameter of streams" in problems(text)[0]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "needs a field at least"),
        ('fields = { id = { type = "id" } }\nky = ["id"]', "Did you mean 'key'?"),
        ('fields = { a = { type = "id" } }', "it needs its key"),
        ('fields = { a = { type = "ratio" } }\nkey = "a"', "can't be in a key"),
        ('fields = { id = { type = "id" } }\nkey = ["id", "id"]', "stands twice"),
        ('fields = { id = { type = "id" } }\nkey = []', "a list of fields"),
        ('fields = { id = { type = "id", vlues = [] } }', "has no 'vlues'"),
        ("fields = { id = { nullable = true } }", "has no `type`"),
        ('fields = { id = { type = "id", nullable = "yes" } }', "true or false"),
        ('fields = { id = { type = "id", example = 3 } }', "not a value of this field"),
        ('fields = { id = { type = "id", description = 3 } }', "a text of one line"),
        ('fields = { id = { type = "id" }, "a-b" = { type = "id" } }', "no field's name"),
        ('fields = { id = "id" }', "a field is a table"),
        ('fields = { id = { type = "id" } }\nfilters = 3', "a list of fields"),
        ('fields = { id = { type = "id" }, n = { type = "count" } }\nfilters = ["n"]', "filtered"),
        ('fields = { id = { type = "id" } }\nends = { id = 3 }', "JSON string"),
        ('fields = { id = { type = "id" }, n = { type = "count" } }\nends = { n = 3 }', "can end"),
        ('fields = { id = { type = "id" } }\nends = 3', "must be a table"),
        ('fields = { id = { type = "id" } }\nretention = { age = "soon" }', "must be an age"),
        ('fields = { id = { type = "id" } }\nretention = { events = 0 }', "whole number"),
        ('fields = { id = { type = "id" } }\nretention = { days = 3 }', "`age` and `bytes`"),
        ('fields = { id = { type = "id" } }\nretention = 3', "must be a table"),
        ('fields = { id = { type = "id" } }\nconflation = 1', "true or false"),
        ('fields = { id = { type = "id" } }\nmode = "list"', "keyed or log"),
        ('fields = { id = { type = "id" }, d = { type = "decimal", min = 1 } }', "JSON string"),
        (
            'fields = { id = { type = "id" }, d = { type = "count", min = 2, max = 1 } }',
            "more than",
        ),
        ('fields = { id = { type = "id" }, d = { type = "text", max = 0 } }', "from 1 to"),
        ('fields = { id = { type = "id" }, d = { type = "choice", values = ["", 1] } }', "no word"),
        (
            'fields = { id = { type = "id" }, d = { type = "choice", values = ["A", "A"] } }',
            "differ",
        ),
        ('fields = { id = { type = "id" }, d = { type = "list" } }', "a field is a table"),
    ],
)
def test_a_mistake_is_named_with_what_would_be_right(table: str, said: str) -> None:
    found = problems(f"[orders]\n{table}\n")
    assert any(said in each for each in found), found


def test_two_channels_whose_types_would_have_one_name_are_refused() -> None:
    text = '[order.fields]\nid = { type = "id" }\n[orders.fields]\nid = { type = "id" }\n'
    assert "would be a Order in code, as those of 'order'" in problems(text)[0]


def test_what_is_no_toml_is_reported_with_its_line() -> None:
    assert problems('[orders]\ntitle = "x\n')[0].startswith("channels.toml:2: no valid TOML")
