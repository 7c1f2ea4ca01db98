"""One table of channels.toml, which is to become a channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from marshmallow import ValidationError, fields

from telecast.channels.catalogue import nearest
from telecast.channels.channel import Channel
from telecast.channels.fields import Choice, Count, Flag, Identifier
from telecast.channels.json_schema import fields_of
from telecast.channels.rules import gone_of, hashable, key_of, pin_of, schema_by_key
from telecast.channels.types import FieldReader, Path, example_of
from telecast.errors import SettingsError
from telecast.model import Retention

RESERVED_FILTERS = frozenset(
    {
        *("channels", "since", "replay", "delivery", "maxRate", "heartbeat", "clientId", "ticket"),
        *("limit", "cursor", "after", "position", "filter", "format", "action", "reqId"),
        *("from", "to", "lastEventId", "lastEventID", "Last-Event-ID", "last-event-id"),
        # What libraries add against caches means nothing, so a filter of that name would not hold.
        *("_", "t", "ts", "r", "rnd", "cb", "nocache", "cachebust", "cacheBuster"),
    }
)
"""Parameters of streams and of pages: a filter of the same name would be taken for one of them."""
KEPT = Retention(events=100_000, seconds=7 * 86_400.0)
OPTIONS = (
    *("title", "description", "mode", "key", "filters", "pin", "ends", "retention"),
    *("stale_after", "conflation", "fields", "schema"),
)


class File(Protocol):
    """The file that the table stands in."""

    def read(self, name: str) -> str:
        """The text of a file beside it. Raises SettingsError."""

    def report(self, path: Path, sentence: str) -> None:
        """Something is wrong there, and what would be right."""

    def retention(self, name: str, table: Mapping[str, Any], usual: Retention) -> Retention: ...

    def age(self, path: Path, value: Any, usual: float | None) -> float | None: ...


class Table:
    """Made for one channel; what is wrong is reported to the file."""

    def __init__(self, file: File, name: str, table: Mapping[str, Any]) -> None:
        self._file = file
        self._name = name
        self._table = table
        self._tables: Any = table.get("fields")
        """What says what its fields are."""
        self._fields: dict[str, fields.Field[Any]] = {}
        self._wrong = False

    def _report(self, path: Path, sentence: str) -> None:
        self._wrong = True
        self._file.report(path, sentence)

    def channel(self) -> Channel | None:
        """None where something is wrong, which was reported."""
        name, table = self._name, self._table
        for option in table:
            if option not in OPTIONS:
                self._report(
                    (name, option),
                    f"a channel has no {option!r}.{nearest(option, OPTIONS)} "
                    f"It takes {', '.join(OPTIONS)}.",
                )
        if "schema" in table:
            self._tables = self._from_schema(table["schema"])
        if self._tables or not self._wrong:
            self._fields = FieldReader(self._report).all_of(self._tables, (name, "fields"))
        mode = self._one_of("mode", ("keyed", "log"), "keyed")
        key = self._key(mode)
        filters = self._filters()
        pin = self._names("pin")
        ends = self._ends()
        if mode == "log":
            for option, value in (("pin", pin), ("ends", ends)):
                if value:
                    self._report((name, option), "a log has no rows: every event of it stays.")
        conflated = self._flag("conflation", usual=True)
        title, description = self._text("title", name), self._text("description", "")
        retention = self._file.retention(name, table, KEPT)
        stale_after = self._file.age((name, "stale_after"), table.get("stale_after"), None)
        if self._wrong or not key:
            return None
        made = Channel(
            name=name,
            title=title,
            description=description or f"{title}.",
            schema=schema_by_key(name, self._fields, key),
            key=key_of(key),
            key_fields=key,
            filters=filters,
            pin=pin_of(pin),
            gone=gone_of(ends),
            retention=retention,
            example={each: example_of(spec) for each, spec in self._tables.items()},
            key_holds_filters=set(filters.values()) <= set(key),
            mode="log" if mode == "log" else "keyed",
            conflated=conflated,
            stale_after=stale_after,
        )
        self._check_example(made)
        return made

    def _from_schema(self, file: Any) -> dict[str, Any]:
        """The fields that a JSON Schema says."""
        path = (self._name, "schema")
        if "fields" in self._table:
            self._report(path, "it stands in place of `fields`: take one of them out.")
            return {}
        if not isinstance(file, str) or not file.isprintable() or not file:
            self._report(path, 'it names a file beside this one, such as "funding.schema.json".')
            return {}
        try:
            text = self._file.read(file)
        except SettingsError as fault:
            for problem in fault.problems:
                self._report(path, problem)
            return {}
        return fields_of(text, lambda at, said: self._report(path, f"{file}#{at}: {said}"))

    def _check_example(self, channel: Channel) -> None:
        try:
            channel.load(channel.example)
        except ValidationError as fault:
            for field, message in channel.problems(fault):
                path = (self._name, "fields", *field.split("."))
                self._report(path, f"the example is refused: {message}")

    def _key(self, mode: str) -> tuple[str, ...]:
        path = (self._name, "key")
        if not self._fields and "schema" in self._table:
            return ()  # its file could not be read, which was reported
        if "key" not in self._table and isinstance(self._fields.get("id"), Identifier):
            names: list[str] = ["id"]
        elif "key" not in self._table:
            what = "the event's own id" if mode == "log" else "what tells rows apart"
            self._report(path, f'it needs its key, {what}, such as key = ["exchange", "symbol"].')
            return ()
        else:
            names = self._names("key")
        for each in names:
            field = self._fields[each]
            if field.allow_none:
                self._report(path, f"{each!r} may be null: a field of the key must not be.")
            elif not isinstance(field, Identifier | Choice | Count):
                self._report(path, f"{each!r} can't be in a key: an id, choice or count can.")
        return tuple(names)

    def _filters(self) -> dict[str, str]:
        asked, path = self._table.get("filters", []), (self._name, "filters")
        if isinstance(asked, list):
            found = {each: each for each in self._names("filters")}
        elif isinstance(asked, dict):
            found = {}
            for each, source in asked.items():
                if self._known(source, (*path, each)):
                    found[each] = source
        else:
            self._report(path, 'it must be a list of fields, such as ["symbol", "exchange"].')
            return {}
        for each, source in found.items():
            if each in RESERVED_FILTERS:
                self._report(path, f"{each!r} is a parameter of streams: choose another name.")
            if not isinstance(self._fields[source], Identifier | Choice):
                self._report(path, f"{source!r} can't be filtered by: an id or a choice can.")
        return found

    def _ends(self) -> dict[str, frozenset[Any]]:
        asked, path = self._table.get("ends", {}), (self._name, "ends")
        if not isinstance(asked, dict):
            self._report(path, 'it must be a table such as { status = ["CLOSED"] }.')
            return {}
        found = {}
        for each, values in asked.items():
            if not self._known(each, (*path, each)):
                continue
            listed = values if isinstance(values, list) else [values]
            field = self._fields[each]
            if not isinstance(field, Identifier | Choice | Flag) or not listed:
                self._report((*path, each), "a row can end by values of an id, choice or flag.")
                continue
            for value in listed:
                try:
                    field.deserialize(value)
                except ValidationError as fault:
                    self._report((*path, each), f"{value!r}: {fault.messages[0]}")
            found[each] = frozenset(map(hashable, listed))
        return found

    def _names(self, option: str) -> list[str]:
        """A list of fields of this channel."""
        asked, path = self._table.get(option, []), (self._name, option)
        asked = [asked] if isinstance(asked, str) else asked
        if not isinstance(asked, list) or (option in self._table and not asked):
            self._report(path, f'it must be a list of fields, such as {option} = ["symbol"].')
            return []
        found = [each for each in asked if self._known(each, path)]
        if len(set(found)) < len(found):
            self._report(path, "a field stands twice.")
        return found

    def _known(self, name: Any, path: Path) -> bool:
        if isinstance(name, str) and name in self._fields:
            return True
        declared = self._tables if isinstance(self._tables, dict) else {}
        if name not in declared and not (
            "schema" in self._table and self._wrong
        ):  # else what is wrong with it was reported already
            near = nearest(name, declared) if isinstance(name, str) else ""
            there = ", ".join(declared) or "none"
            self._report(path, f"there is no field {name!r}.{near} The fields are {there}.")
        return False

    def _one_of(self, option: str, words: tuple[str, ...], usual: str) -> str:
        value = self._table.get(option, usual)
        if value not in words:
            near = nearest(value, words) if isinstance(value, str) else ""
            self._report((self._name, option), f"it must be {' or '.join(words)}.{near}")
            return usual
        return str(value)

    def _flag(self, option: str, *, usual: bool) -> bool:
        value = self._table.get(option, usual)
        if not isinstance(value, bool):
            self._report((self._name, option), "it must be true or false.")
            return usual
        return value

    def _text(self, option: str, usual: str) -> str:
        value = self._table.get(option, usual)
        if not isinstance(value, str) or not value.isprintable() or len(value) > 500:
            self._report((self._name, option), "it must be one line of up to 500 characters.")
            return usual
        return value
