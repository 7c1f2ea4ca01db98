"""Channels from a file: each table of channels.toml becomes a channel like the built-in ones.

The same schemas and the same short way for plainly valid payloads come out of it, so a configured
channel costs what a built-in one does. Nothing is guessed: whatever is not right is reported with
its line and with what would be right, all of it at once.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from marshmallow import ValidationError, fields

from telecast.channels.catalogue import CHANNELS, Catalogue, nearest
from telecast.channels.channel import Channel
from telecast.channels.fields import Choice, Count, Flag, Identifier
from telecast.channels.lines import Located
from telecast.channels.rules import gone_of, hashable, key_of, pin_of, schema_by_key
from telecast.channels.types import FieldReader, Path, example_of
from telecast.errors import SettingsError
from telecast.model import Retention

NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*", re.ASCII)
MOST_NAME = 64
MOST_CHANNELS = 512
RESERVED_CHANNELS = frozenset({"all", "none", "telecast", "channels", "events", "rows"})
RESERVED_FILTERS = frozenset(
    {
        *("channels", "since", "replay", "delivery", "maxRate", "heartbeat", "clientId", "ticket"),
        *("limit", "cursor", "after", "position", "filter", "format", "action", "reqId"),
    }
)
"""Parameters of streams and of pages: a filter of the same name could not be told from them."""
MOST_BYTES = 2**44
KEPT = Retention(events=100_000, seconds=7 * 86_400.0)
MOST_EVENTS = 10_000_000

OPTIONS = (
    *("title", "description", "mode", "key", "filters", "pin", "ends", "retention"),
    *("stale_after", "conflation", "fields"),
)
CHANGES = ("enabled", "retention", "stale_after")
"""What may be said of a built-in channel."""

_AGE = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_RIGHT_AGE = 'it must be an age such as "90s", "10m", "12h" or "30d".'


def catalogue_from(text: str, name: str = "channels.toml") -> Catalogue:
    """The built-in channels as the file leaves them, and then its own.

    Raises SettingsError with a sentence for each problem, in the order of the lines.
    """
    return _File(text, name).catalogue()


def wrong_name(name: str) -> str | None:
    """Why a channel of one's own can't have this name; None: it can, if no other has it."""
    if name in RESERVED_CHANNELS:
        return "the name is reserved; choose another."
    if not NAME.fullmatch(name) or len(name) > MOST_NAME:
        return (
            "a channel's name is of small letters, digits and single hyphens, begins with a letter "
            f"and has {MOST_NAME} characters at the most, such as funding-rates."
        )
    return None


class _File:
    """One channels.toml while it is read."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._located = Located(text)
        self._problems: list[tuple[int, str]] = list(self._located.problems)

    def report(self, path: Path, sentence: str) -> None:
        where = ".".join(path)
        self._problems.append((self._located.line(path), f"{where}: {sentence}"))

    def catalogue(self) -> Catalogue:
        tables = self._located.content
        channels = {channel.name: channel for channel in CHANNELS.values()}
        if len(tables) > MOST_CHANNELS:
            self._problems.append((1, f"{len(tables)} channels; {MOST_CHANNELS} are the most."))
        for name, table in tables.items():
            if not isinstance(table, dict):
                self.report((name,), f"each channel is a table of its own: [{name}].")
            elif name in CHANNELS:
                changed = self._changed(CHANNELS[name], table)
                if changed is None:
                    del channels[name]
                else:
                    channels[name] = changed
            elif self._named(name):
                made = _Table(self, name, table).channel()
                if made is not None:
                    channels[name] = made
        self._same_types(channels.values())
        if self._problems:
            ordered = sorted(self._problems, key=itemgetter(0))
            raise SettingsError([f"{self._name}:{line}: {said}" for line, said in ordered])
        return Catalogue(channels.values())

    def _same_types(self, channels: Iterable[Channel]) -> None:
        """Types in code are named after channels: no two may have one name."""
        taken: dict[str, str] = {}
        for channel in channels:
            first = taken.setdefault(channel.type_name, channel.name)
            if first != channel.name:
                self.report(
                    (channel.name,),
                    f"its rows would be a {channel.type_name} in code, as those of {first!r} are: "
                    "choose a name that differs by more.",
                )

    def _named(self, name: str) -> bool:
        wrong = wrong_name(name)
        if wrong is not None:
            self.report((name,), wrong)
        return wrong is None

    def _changed(self, channel: Channel, table: Mapping[str, Any]) -> Channel | None:
        """A built-in channel as the file wants it; None: it is switched off."""
        name = channel.name
        if "fields" in table:
            self.report(
                (name,),
                "two channels of one name: this one is built in. Choose another name, or change "
                f"only {', '.join(CHANGES)} of it.",
            )
            return channel
        for option in table:
            if option not in CHANGES:
                self.report(
                    (name, option),
                    f"of a built-in channel only {', '.join(CHANGES)} can be set."
                    f"{nearest(option, CHANGES)}",
                )
        enabled = table.get("enabled", True)
        if not isinstance(enabled, bool):
            self.report((name, "enabled"), "it must be true or false.")
        retention = self.retention(name, table, channel.retention)
        stale = self.age((name, "stale_after"), table.get("stale_after"), channel.stale_after)
        if enabled is False:
            return None
        return dataclasses.replace(channel, retention=retention, stale_after=stale)

    def retention(self, name: str, table: Mapping[str, Any], usual: Retention) -> Retention:
        asked, path = table.get("retention", {}), (name, "retention")
        if not isinstance(asked, dict):
            self.report(path, 'it must be a table such as { events = 100_000, age = "7d" }.')
            return usual
        for option in asked:
            if option not in ("events", "age", "bytes"):
                self.report((*path, option), "retention takes `events`, `age` and `bytes`.")
        events = asked.get("events", usual.events)
        if type(events) is not int or not 1 <= events <= MOST_EVENTS:
            self.report((*path, "events"), f"it must be a whole number from 1 to {MOST_EVENTS:,}.")
            events = usual.events
        seconds = self.age((*path, "age"), asked.get("age"), usual.seconds)
        assert seconds is not None
        size = asked.get("bytes", usual.bytes)
        if size is not None and (type(size) is not int or not 1 <= size <= MOST_BYTES):
            self.report((*path, "bytes"), f"it must be a whole number from 1 to {MOST_BYTES:,}.")
            size = usual.bytes
        return Retention(events=events, seconds=seconds, bytes=size)

    def age(self, path: Path, value: Any, usual: float | None) -> float | None:
        if value is None:
            return usual
        match = _AGE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            self.report(path, _RIGHT_AGE)
            return usual
        return int(match[1]) * _SECONDS[match[2]]


class _Table:
    """One table of the file, which is to become a channel."""

    def __init__(self, file: _File, name: str, table: Mapping[str, Any]) -> None:
        self._file = file
        self._name = name
        self._table = table
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
        self._fields = FieldReader(self._report).all_of(table.get("fields"), (name, "fields"))
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
            example={each: example_of(spec) for each, spec in table["fields"].items()},
            key_holds_filters=set(filters.values()) <= set(key),
            mode="log" if mode == "log" else "keyed",
            conflated=conflated,
            stale_after=stale_after,
        )
        self._check_example(made)
        return made

    def _check_example(self, channel: Channel) -> None:
        try:
            channel.load(channel.example)
        except ValidationError as fault:
            for field, message in channel.problems(fault):
                path = (self._name, "fields", *field.split("."))
                self._report(path, f"the example is refused: {message}")

    def _key(self, mode: str) -> tuple[str, ...]:
        path = (self._name, "key")
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
        tables = self._table.get("fields")
        declared = tables if isinstance(tables, dict) else {}
        if name not in declared:  # else what is wrong with it was reported already
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
