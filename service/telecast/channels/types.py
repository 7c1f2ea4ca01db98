"""The types that a field of a configured channel can have, and how each is made from its table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from marshmallow import ValidationError, fields

from telecast.channels.catalogue import nearest
from telecast.channels.fields import (
    MAX_ITEMS,
    MAX_TEXT,
    Choice,
    Count,
    Duration,
    FewList,
    Flag,
    Identifier,
    Instant,
    PlainDecimal,
    Ratio,
    Scalar,
    Text,
    first_problems,
)
from telecast.channels.schemas import Payload

Path = tuple[str, ...]
Report = Callable[[Path, str], None]
"""Takes the path of what is wrong and a sentence that says what would be right."""

FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
MOST_FIELDS = 64
MOST_VALUES = 64
DEEPEST = 3
"""Objects and lists within each other: as deep as a payload of the built-in channels goes."""

COMMON = ("type", "nullable", "description", "example")
NUMERIC = ("min", "max")


@dataclass(frozen=True, slots=True)
class Kind:
    """A type: its field, the options that it takes beyond COMMON, and a value as an example."""

    make: Callable[..., fields.Field[Any]]
    options: tuple[str, ...] = ()
    example: Any = None


KINDS: Mapping[str, Kind] = {
    "id": Kind(Identifier, (), "a1"),
    "text": Kind(Text, ("max",), "A text."),
    "decimal": Kind(PlainDecimal, NUMERIC, "0.0001"),
    "ratio": Kind(Ratio, NUMERIC, 0.5),
    "count": Kind(Count, NUMERIC, 1),
    "instant": Kind(Instant, (), "2026-11-22T18:17:19.387Z"),
    "duration": Kind(Duration, (), "PT2H30M"),
    "flag": Kind(Flag, (), False),
    "choice": Kind(Choice, ("values",)),
    "object": Kind(fields.Nested, ("fields",)),
    "list": Kind(FewList, ("of", "max")),
}


class FieldReader:
    """Makes marshmallow's fields from the tables of a file; what is wrong is reported."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def all_of(self, tables: Any, path: Path, depth: int = 0) -> dict[str, fields.Field[Any]]:
        """All fields that are right."""
        if not isinstance(tables, dict) or not tables:
            self._report(path, 'it needs a field at least, such as fields.id.type = "id".')
            return {}
        if len(tables) > MOST_FIELDS:
            self._report(path, f"{len(tables)} fields are too many; {MOST_FIELDS} are the most.")
            return {}
        found = {}
        for name, table in tables.items():
            at = (*path, name)
            if not FIELD_NAME.fullmatch(name):
                self._report(at, f"{name[:64]!r} is no field's name: letters, digits and _.")
            made = self.one(table, at, depth)
            if made is not None:
                found[name] = made
        return found

    def one(self, table: Any, path: Path, depth: int) -> fields.Field[Any] | None:
        if not isinstance(table, dict):
            self._report(path, 'a field is a table, such as { type = "decimal" }.')
            return None
        name = table.get("type")
        kind = KINDS.get(name) if isinstance(name, str) else None
        if kind is None:
            shown = f"there is no type {name!r}." if name is not None else "it has no `type`."
            near = nearest(name, KINDS) if isinstance(name, str) else ""
            where = (*path, "type") if name is not None else path
            self._report(where, f"{shown}{near} The types are {', '.join(KINDS)}.")
            return None
        for option in table:
            if option not in (*COMMON, *kind.options):
                allowed = (*COMMON, *kind.options)
                self._report(
                    (*path, option),
                    f"a field of type {name!r} has no {option!r}.{nearest(option, allowed)} "
                    f"It takes {', '.join(allowed)}.",
                )
        made = self._made(str(name), kind, table, path, depth)
        if made is not None:
            self._describe(made, table, path)
        return made

    def _made(
        self, name: str, kind: Kind, table: Mapping[str, Any], path: Path, depth: int
    ) -> fields.Field[Any] | None:
        nullable = table.get("nullable", False)
        if not isinstance(nullable, bool):
            self._report((*path, "nullable"), "it must be true or false.")
        # A field is required, or it may be null and is null where it is left out.
        rule: dict[str, Any] = (
            {"allow_none": True, "load_default": None} if nullable else {"required": True}
        )
        match name:
            case "choice":
                values = self._values(table, path)
                return Choice(*values, **rule) if values else None
            case "object" | "list" if depth >= DEEPEST:
                self._report(path, f"objects and lists may be nested {DEEPEST} deep at the most.")
                return None
            case "object":
                below = self.all_of(table.get("fields"), (*path, "fields"), depth + 1)
                return fields.Nested(schema_of("object", below), **rule) if below else None
            case "list":
                item = self.one(table.get("of"), (*path, "of"), depth + 1)
                return self._list(item, table, path, rule) if item is not None else None
            case _:
                made = kind.make(**rule)
                assert isinstance(made, Scalar)
                self._bound(name, made, table, path)
                return made

    def _values(self, table: Mapping[str, Any], path: Path) -> list[str]:
        values = table.get("values")
        right = 'such as values = ["OPEN", "CLOSED"].'
        if not isinstance(values, list) or not values:
            self._report(path, f"a choice needs its values, {right}")
            return []
        if len(values) > MOST_VALUES or len(set(map(str, values))) < len(values):
            self._report((*path, "values"), f"up to {MOST_VALUES} different values, {right}")
            return []
        wrong = [v for v in values if not isinstance(v, str) or not WORD.fullmatch(v)]
        if wrong:
            self._report((*path, "values"), f"{wrong[0]!r} is no word, {right}")
            return []
        return values

    def _list(
        self, item: fields.Field[Any], table: Mapping[str, Any], path: Path, rule: Any
    ) -> fields.Field[Any]:
        most = table.get("max", MAX_ITEMS)
        if type(most) is not int or not 1 <= most <= MAX_ITEMS:
            self._report((*path, "max"), f"it must be a whole number from 1 to {MAX_ITEMS}.")
            most = MAX_ITEMS
        made = FewList(item, **rule)
        if most < MAX_ITEMS:
            made.validators.append(_at_most(most))
            _say(made, maxItems=most)
        return made

    def _bound(self, name: str, made: Scalar, table: Mapping[str, Any], path: Path) -> None:
        """Reads `min` and `max`, in the form that values have."""
        if name == "text":
            most: Any = table.get("max")
            if most is None:
                return
            if not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= MAX_TEXT:
                self._report((*path, "max"), f"characters: a whole number from 1 to {MAX_TEXT}.")
                return
            made.bound(lambda value: len(value) <= most, f"Must have at most {most} characters.")
            _say(made, maxLength=most)
            return
        low, high = (self._end(each, name, made, table, path) for each in NUMERIC)
        if low is not None and high is not None and low > high:
            self._report((*path, "min"), f"{table['min']} is more than max, {table['max']}.")
        self._set_ends(name, made, table, low, high)

    def _end(
        self, end: str, name: str, made: Scalar, table: Mapping[str, Any], path: Path
    ) -> Decimal | None:
        value = table.get(end)
        if value is None or end not in KINDS[name].options:
            return None
        try:
            return Decimal(str(made.read(value)))
        except ValidationError as fault:
            self._report((*path, end), str(fault.messages[0]))
            return None

    @staticmethod
    def _set_ends(
        name: str,
        made: Scalar,
        table: Mapping[str, Any],
        least: Decimal | None,
        most: Decimal | None,
    ) -> None:
        # JSON Schema knows bounds of numbers only; a decimal is a text there.
        words = {"min": "x-minimum", "max": "x-maximum"}
        if name != "decimal":
            words = {"min": "minimum", "max": "maximum"}
        read = Decimal if name == "decimal" else _as_it_is
        if least is not None:
            low = read(table["min"])
            made.bound(lambda value: read(value) >= low, f"Must be {table['min']} or more.")
            _say(made, **{words["min"]: table["min"]})
        if most is not None:
            high = read(table["max"])
            made.bound(lambda value: read(value) <= high, f"Must be {table['max']} or less.")
            _say(made, **{words["max"]: table["max"]})

    def _describe(self, made: fields.Field[Any], table: Mapping[str, Any], path: Path) -> None:
        description = table.get("description")
        if description is not None:
            if isinstance(description, str) and description.isprintable():
                _say(made, description=description)
            else:
                self._report((*path, "description"), "it must be a text of one line.")
        if "example" in table:
            try:
                made.deserialize(table["example"])
            except ValidationError as fault:
                _, message = next(iter(first_problems(fault.messages)))
                self._report((*path, "example"), f"it is not a value of this field: {message}")


def schema_of(name: str, found: Mapping[str, fields.Field[Any]]) -> Payload:
    """A schema as the built-in channels have it."""
    made = Payload.from_dict(dict(found), name=name)
    schema = made()
    assert isinstance(schema, Payload)
    return schema


def example_of(table: Mapping[str, Any]) -> Any:
    """A value of a field whose table is right: its own example, or one of its type."""
    if "example" in table:
        return table["example"]
    match table["type"]:
        case "choice":
            return table["values"][0]
        case "object":
            return {name: example_of(each) for name, each in table["fields"].items()}
        case "list":
            return [example_of(table["of"])]
        case kind if "min" in table and "min" in KINDS[kind].options:
            return table["min"]
        case kind if "max" in table and kind in ("decimal", "ratio", "count"):
            return table["max"]
        case "text":
            text: str = KINDS["text"].example
            return text[: table.get("max", MAX_TEXT)]
        case kind:
            return KINDS[kind].example


def _say(made: fields.Field[Any], **said: Any) -> None:
    """Adds to what the JSON Schema of a field says."""
    made.metadata = {**made.metadata, **said}


def _as_it_is(value: Any) -> Any:
    return value


def _at_most(most: int) -> Callable[[Any], None]:
    def judge(value: Any) -> None:
        if value is not None and len(value) > most:
            raise ValidationError(f"Must have at most {most} items.")

    return judge
