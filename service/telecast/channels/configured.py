"""Channels from a file: each table of channels.toml becomes a channel like the built-in ones.

The same schemas and the same short way for plainly valid payloads come out of it, so a configured
channel costs what a built-in one does. Nothing is guessed: whatever is not right is reported with
its line and with what would be right, all of it at once.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from telecast.channels.catalogue import CHANNELS, Catalogue, nearest
from telecast.channels.channel import Channel
from telecast.channels.lines import Located
from telecast.channels.table import Table
from telecast.channels.types import Path
from telecast.errors import SettingsError
from telecast.model import Retention

NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*", re.ASCII)
MOST_NAME = 64
MOST_CHANNELS = 512
RESERVED_CHANNELS = frozenset({"all", "none", "telecast", "channels", "events", "rows"})
MOST_BYTES = 2**44
MOST_EVENTS = 10_000_000

CHANGES = ("enabled", "retention", "stale_after")
"""What may be said of a built-in channel."""

_AGE = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_RIGHT_AGE = 'it must be an age such as "90s", "10m", "12h" or "30d".'


Read = Callable[[str], str]
"""Gives the text of a file that the channels file names. Raises SettingsError."""


def catalogue_from(text: str, name: str = "channels.toml", read: Read | None = None) -> Catalogue:
    """The built-in channels as the file leaves them, and then its own. `read` is for the JSON
    Schemas that it names.

    Raises SettingsError with a sentence for each problem, in the order of the lines.
    """
    return _File(text, name, read or _no_file).catalogue()


def _no_file(name: str) -> str:
    raise SettingsError([f"{name} can't be read from here."])


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

    def __init__(self, text: str, name: str, read: Read) -> None:
        self._read = read
        self._name = name
        self._located = Located(text)
        self._problems: list[tuple[int, str]] = list(self._located.problems)

    def read(self, name: str) -> str:
        return self._read(name)

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
                made = Table(self, name, table).channel()
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
        if "fields" in table or "schema" in table:
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
