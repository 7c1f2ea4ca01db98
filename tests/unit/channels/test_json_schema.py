"""A JSON Schema in the place of a channel's fields: what the types can say, and no less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from telecast.channel_file import read_catalogue
from telecast.channels.channel import Channel
from telecast.channels.configured import catalogue_from
from telecast.errors import SettingsError

ALL_TYPES = """\
[orders]
[orders.fields]
id = { type = "id", description = "Its own.", example = "o1" }
note = { type = "text", nullable = true, max = 80 }
free = { type = "text", nullable = true }
price = { type = "decimal", min = "0", max = "1000000", example = "67250.10" }
share = { type = "ratio", min = 0, max = 1 }
count = { type = "count", max = 9, nullable = true }
at = { type = "instant" }
held = { type = "duration", nullable = true }
open = { type = "flag" }
status = { type = "choice", values = ["OPEN", "CLOSED"] }
reason = { type = "choice", values = ["A", "B"], nullable = true }
legs = { type = "list", of = { type = "object", fields = { id = { type = "id" } } }, max = 4 }
part = { type = "object", fields = { side = { type = "choice", values = ["BUY", "SELL"] } } }
"""


def from_schema(schema: Any, more: str = "") -> Channel:
    text = schema if isinstance(schema, str) else orjson.dumps(schema).decode()
    return catalogue_from(
        f'[orders]\nschema = "orders.schema.json"\n{more}', "channels.toml", lambda name: text
    )["orders"]


def problems(schema: Any, more: str = "") -> list[str]:
    with pytest.raises(SettingsError) as caught:
        from_schema(schema, more)
    return list(caught.value.problems)


def test_what_a_channel_says_of_its_fields_makes_the_same_channel_again() -> None:
    first = catalogue_from(ALL_TYPES)["orders"]
    again = from_schema(first.json_schema)
    assert again.json_schema == first.json_schema
    assert again.load(first.example) == first.load(first.example)


def test_a_schema_as_others_write_it_is_read() -> None:
    made = from_schema(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "https://desk.example/orders",
            "title": "Order",
            "type": "object",
            "properties": {
                "id": {"type": "string", "minLength": 1, "maxLength": 128},
                "size": {"type": "integer", "minimum": 0, "examples": [3]},
                "price": {"type": "string", "format": "decimal"},
                "side": {"enum": ["BUY", "SELL", None]},
                "note": {"type": ["string", "null"], "description": "For\n  people."},
            },
            "required": ["id", "size", "price"],
        },
        'filters = ["side"]\n',
    )
    row = made.load({"id": "1", "size": 3, "price": "1.50"})
    assert row == {"id": "1", "size": 3, "price": "1.50", "side": None, "note": None}
    assert made.json_schema["properties"]["note"]["description"] == "For people."


def orders(**properties: Any) -> dict[str, Any]:
    """A schema that is right but for these, which are all required."""
    own = {"id": {"type": "string", "minLength": 1, "maxLength": 128}}
    return {"type": "object", "properties": own | properties, "required": ["id", *properties]}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("{", "#: it is no JSON"),
        ("[]", "#: the file must hold one JSON object"),
        ({"type": "array"}, '#/type: a payload is an object: "type": "object".'),
        (orders() | {"$schema": "http://json-schema.org/draft-07/schema#"}, "#/$schema: only"),
        (orders() | {"additionalProperties": True}, "#/additionalProperties: a field that is not"),
        (orders() | {"minProperties": 2}, "#/minProperties: no type here can say"),
        (orders() | {"required": ["id", "x"]}, "#/required: there is no property 'x'."),
        (orders(a={"$ref": "#/$defs/a"}), "#/properties/a: it needs a `type`"),
        (orders(a={"type": "string", "pattern": "^a+$"}), "a/pattern: a text takes no pattern"),
        (orders(a={"type": "string", "minLength": 3}), "a/minLength: a text may be empty"),
        (orders(a={"type": "string", "format": "uuid"}), "a/format: it must be one of date-time"),
        (orders(a={"type": "string", "format": ["uuid"]}), "a/format: it must be one of date-time"),
        (orders(a={"type": "string", "format": "decimal", "pattern": 1}), "a/pattern: the format"),
        (orders() | {"required": ["id", ["x"]]}, "#/required: there is no property ['x']."),
        (orders(a={"type": "number", "exclusiveMinimum": 0}), "can say 'exclusiveMinimum'."),
        (orders(a={"type": "integer"}), 'a: a count is never negative: it needs "minimum": 0'),
        (
            orders(a={"type": "array", "items": {"type": "boolean"}, "uniqueItems": True}),
            "uniqueItems",
        ),
        (orders(a={"type": ["string", "number"]}), "a/type: it must be one of string"),
        (orders(a={"type": ["string", "null"]}), "take it out of `required`"),
        (orders(a={"anyOf": []}), "a: it needs a `type`"),
        (orders(a={"enum": [1, 2]}), "a/enum: it must be a list of words"),
        (orders(a={"type": "string", "oneOf": []}), "no type here can say 'oneOf'."),
        (orders(**{"a/b": {"type": "date"}}), "#/properties/a~1b/type: it must be one of"),
        (orders(a=True), "a: each field has a schema of its own"),
    ],
)
def test_what_no_type_can_say_is_named_with_its_place(schema: Any, said: str) -> None:
    found = problems(schema)
    assert all(
        each.startswith("channels.toml:2: orders.schema: orders.schema.json#") for each in found
    )
    assert said in "\n".join(found)


def test_a_field_that_may_be_left_out_must_be_nullable_too() -> None:
    schema = orders()
    schema["properties"]["a"] = {"type": "string"}
    assert 'add "null" to its type.' in problems(schema)[0]


def test_all_that_is_wrong_with_a_schema_and_its_table_is_reported_at_once() -> None:
    schema = orders(a={"type": "string", "pattern": "x"}, b={"type": "date"})
    found = problems(schema, 'pin = ["c"]\n[orders.fields]\nid = { type = "id" }\n')
    assert any("stands in place of `fields`" in each for each in found)
    assert len(problems(schema)) == 2


def test_the_file_stands_beside_the_channels_file(tmp_path: Path) -> None:
    file = tmp_path / "channels.toml"
    file.write_text('[orders]\nschema = "schemas/orders.json"\n')
    with pytest.raises(SettingsError, match=r"schema: there is no file .*orders\.json"):
        read_catalogue(file)
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/orders.json").write_bytes(orjson.dumps(orders()))
    assert read_catalogue(file)["orders"].key_fields == ("id",)


@pytest.mark.parametrize("value", ["7", '""', "[]", '"a\\nb"'])
def test_what_names_no_file_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="it names a file beside this one"):
        catalogue_from(f"[orders]\nschema = {value}\n")


def test_a_built_in_channel_takes_no_schema() -> None:
    with pytest.raises(SettingsError, match="two channels of one name"):
        catalogue_from('[positions]\nschema = "x.json"\n')
