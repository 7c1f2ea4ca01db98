"""A JSON Schema (2020-12) in the place of a channel's fields.

Only what the types can say is read, and each keyword that changes which values are good is either
kept or reported: a channel that took more than its schema allows would be a silent lie. The result
is tables as a channels file has them, which are judged there like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from telecast.channels.fields import MAX_ITEMS, MAX_TEXT, Identifier
from telecast.model import MAX_SEQ

Report = Callable[[str, str], None]
"""Takes the JSON Pointer of what is wrong (RFC 6901) and a sentence that says what would be right.
"""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DEEPEST = 8
"""Schemas within each other that are looked at."""
_ABOUT = frozenset(
    {
        "title",
        "description",
        "examples",
        "example",
        "default",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$comment",
    }
)
"""What says something to readers, and nothing about which values are good."""
_OF_TYPE: Mapping[str, frozenset[str]] = {
    "string": frozenset({"format", "minLength", "maxLength", "pattern", "x-minimum", "x-maximum"}),
    "number": frozenset({"minimum", "maximum"}),
    "integer": frozenset({"minimum", "maximum"}),
    "boolean": frozenset(),
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "maxItems"}),
}
_FORMATS = {"date-time": "instant", "duration": "duration", "decimal": "decimal"}
_DECIMAL = re.compile(r"\^-\?\(\?:0\|\[1-9\].*\$")
"""The pattern that our own schemas give a decimal."""


def fields_of(text: str, report: Report) -> dict[str, Any]:
    """The tables of a payload's fields, of those that are right; the rest is reported."""
    try:
        schema = orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        report("", f"it is no JSON: {fault}.")
        return {}
    if not isinstance(schema, dict):
        report("", "the file must hold one JSON object: the schema of a payload.")
        return {}
    if schema.get("$schema", DIALECT) != DIALECT:
        report("/$schema", f"only {DIALECT} is read.")
    body = {name: value for name, value in schema.items() if name not in ("$schema", "$id")}
    if body.get("type") != "object":
        report("/type", 'a payload is an object: "type": "object".')
        return {}
    return _Reader(report).fields("", body, 0)


class _Reader:
    def __init__(self, report: Report) -> None:
        self._report = report

    def fields(self, at: str, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        self._known(at, schema, "object", ())
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties:
            self._report(f"{at}/properties", "it must name the fields of the object.")
            return {}
        if schema.get("additionalProperties", False) is not False:
            self._report(
                f"{at}/additionalProperties",
                "a field that is not named is refused here: leave it out, or write false.",
            )
        required = schema.get("required", [])
        if not isinstance(required, list):
            self._report(f"{at}/required", "it must be a list of the fields that must be there.")
            required = []
        for name in required:
            if not isinstance(name, str) or name not in properties:
                self._report(f"{at}/required", f"there is no property {name!r}.")
        found = {
            name: self._field(
                f"{at}/properties/{_escaped(name)}", below, depth + 1, required=name in required
            )
            for name, below in properties.items()
        }
        return {name: table for name, table in found.items() if table}

    def _field(self, at: str, schema: Any, depth: int, *, required: bool) -> dict[str, Any]:
        """One field's table; an empty one where something was reported."""
        if not isinstance(schema, dict) or depth > DEEPEST:
            self._report(at, "each field has a schema of its own, an object, 8 deep at the most.")
            return {}
        kind, nullable = self._kind(at, schema)
        if kind is None:
            return {}
        if nullable == required:
            self._report(
                at,
                "a field that may be left out may also be null, and the other way round: "
                + ("take it out of `required`." if required else 'add "null" to its type.'),
            )
        match kind:
            case "choice":
                table = self._choice(at, schema)
            case "string":
                table = self._text(at, schema)
            case "object":
                below = self.fields(at, schema, depth)
                table = {"type": "object", "fields": below} if below else {}
            case "array":
                table = self._list(at, schema, depth)
            case _:
                table = self._number(at, schema, kind)
        return table and {**table, **_about(schema), **({"nullable": True} if nullable else {})}

    def _kind(self, at: str, schema: Mapping[str, Any]) -> tuple[str | None, bool]:
        """Its one type beside null, and whether it may be null."""
        asked = schema.get("type", "string" if "enum" in schema else None)
        listed = [asked] if isinstance(asked, str) else asked
        if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
            self._report(at, f"it needs a `type`: {', '.join(_OF_TYPE)}.")
            return None, False
        rest = [each for each in listed if each != "null"]
        if len(rest) != 1 or rest[0] not in _OF_TYPE:
            words = ", ".join(_OF_TYPE)
            self._report(f"{at}/type", f'it must be one of {words}, and may be "null" beside it.')
            return None, False
        values = schema.get("enum", [])
        nullable = "null" in listed or (isinstance(values, list) and None in values)
        return ("choice" if "enum" in schema else rest[0]), nullable

    def _known(self, at: str, schema: Mapping[str, Any], kind: str, more: tuple[str, ...]) -> None:
        allowed = _OF_TYPE.get(kind, frozenset()) | _ABOUT | {"type", *more}
        for word in schema:
            if word not in allowed:
                self._report(
                    f"{at}/{_escaped(word)}", f"no type here can say {word!r}. {_INSTEAD[kind]}"
                )

    def _choice(self, at: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        self._known(at, schema, "choice", ("enum",))
        values = schema["enum"]
        texts = [each for each in values if each is not None] if isinstance(values, list) else []
        if not texts or not all(isinstance(each, str) for each in texts):
            self._report(f"{at}/enum", "it must be a list of words, and may have null among them.")
            return {}
        return {"type": "choice", "values": texts}

    def _text(self, at: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        self._known(at, schema, "string", ())
        form, pattern = schema.get("format"), schema.get("pattern")
        most, least = schema.get("maxLength"), schema.get("minLength", 0)
        if form is not None and (not isinstance(form, str) or form not in _FORMATS):
            self._report(f"{at}/format", f"it must be one of {', '.join(_FORMATS)}, or left out.")
            return {}
        kind = _FORMATS.get(str(form), "text")
        is_decimal = isinstance(pattern, str) and _DECIMAL.fullmatch(pattern) is not None
        if kind == "text" and is_decimal:
            kind = "decimal"
        if kind != "text":
            if pattern is not None and not (kind == "decimal" and is_decimal):
                self._report(f"{at}/pattern", f"the format of {kind} says it already.")
            for word in ("minLength", "maxLength"):
                if word in schema:
                    self._report(f"{at}/{word}", f"the format of {kind} says it already.")
            ends = {"min": schema.get("x-minimum"), "max": schema.get("x-maximum")}
            return {
                "type": kind,
                **{end: value for end, value in ends.items() if value is not None},
            }
        if most == Identifier.MOST and least == 1:
            if pattern not in (None, Identifier().metadata["pattern"]):
                self._report(f"{at}/pattern", "an id takes no pattern.")
            return {"type": "id"}
        if pattern is not None:
            self._report(f"{at}/pattern", "a text takes no pattern; a choice has an `enum`.")
        if least:
            self._report(
                f"{at}/minLength",
                f"a text may be empty; an id has minLength 1 and maxLength {Identifier.MOST}.",
            )
        return {"type": "text"} if most in (None, MAX_TEXT) else {"type": "text", "max": most}

    def _number(self, at: str, schema: Mapping[str, Any], kind: str) -> dict[str, Any]:
        self._known(at, schema, kind, ())
        if kind == "boolean":
            return {"type": "flag"}
        ends = {"min": schema.get("minimum"), "max": schema.get("maximum")}
        if kind == "integer":
            least = ends["min"]
            if not isinstance(least, int) or isinstance(least, bool) or least < 0:
                self._report(at, 'a count is never negative: it needs "minimum": 0 or more.')
                return {}
            if least == 0:
                del ends["min"]
            if ends["max"] == MAX_SEQ:
                del ends["max"]
        found = {end: value for end, value in ends.items() if value is not None}
        return {"type": "count" if kind == "integer" else "ratio", **found}

    def _list(self, at: str, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        self._known(at, schema, "array", ())
        item = self._field(f"{at}/items", schema.get("items"), depth + 1, required=True)
        most = schema.get("maxItems")
        bound = {} if most in (None, MAX_ITEMS) else {"max": most}
        return {"type": "list", "of": item, **bound} if item else {}


_INSTEAD = {
    "string": "A text takes maxLength and format.",
    "number": "A number takes minimum and maximum.",
    "integer": "A number takes minimum and maximum.",
    "boolean": "",
    "object": "An object takes properties and required.",
    "array": "A list takes items and maxItems.",
    "choice": "A choice takes its enum.",
}


def _about(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Its description on one line, and an example."""
    said: dict[str, Any] = {}
    if isinstance(schema.get("description"), str):
        said["description"] = " ".join(schema["description"].split())
    examples = schema.get("examples", [schema["example"]] if "example" in schema else [])
    if isinstance(examples, list) and examples and examples[0] is not None:
        said["example"] = examples[0]
    return said


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
