"""The values that every room speaks of. No behaviour beyond their own meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Literal

import orjson

from telecast.errors import PositionMalformed

Op = Literal["upsert", "delete"]
Row = dict[str, Any]
"""A channel's payload as its JSON object, in the schema's field order."""

MAX_SEQ = 2**53 - 1
"""The largest integer that a JavaScript client reads exactly (RFC 8259 §6)."""

SCOPES = ("read", "publish", "operate", "metrics", "admin")

_POSITION = re.compile(r"([0-9a-z]{4,16}):(0|[1-9][0-9]{0,15})", re.ASCII)


def rfc3339(seconds: float) -> str:
    """A moment, in seconds since 1970, as the wire writes it: UTC, with milliseconds and `Z`."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in one journal's life: good over either transport, on any node, after any restart."""

    epoch: str
    seq: int

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read ``epoch:seq``. Raises PositionMalformed for anything else."""
        match = _POSITION.fullmatch(text)
        if match is None or int(match[2]) > MAX_SEQ:
            raise PositionMalformed(text)
        return cls(match[1], int(match[2]))

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


@dataclass(frozen=True, slots=True)
class Record:
    """One change of one row, as it is handed to the journal.

    `data` is the whole row as JSON; for a delete the last row that there was. `pinned` says
    that conflation must never leave it out.
    """

    channel: str
    key: str
    op: Op
    pinned: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A record with the number and the time (ms since 1970, server's clock) of its commit."""

    seq: int
    timestamp: int
    channel: str
    key: str
    op: Op
    pinned: bool
    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """An entry as it is sent: its JSON, made once, and what a selection asks of it.

    `fields` holds the value of each filter that the channel declares; None matches every value.
    """

    seq: int
    channel: str
    key: str
    op: Op
    pinned: bool
    timestamp: int
    fields: Mapping[str, str | None]
    json: bytes

    @property
    def row(self) -> Row:
        """The payload, parsed anew at each call."""
        row: Row = orjson.loads(self.json)["data"]
        return row


@dataclass(frozen=True, slots=True)
class Retention:
    """What a journal keeps of a channel; a key's newest row stays beyond all bounds.

    `bytes` bounds the payloads of the events that are kept; None: it does not.
    """

    events: int
    seconds: float
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Floor:
    """What trimming left of one channel.

    Every entry after `whole_from` is there. After `compact_from` each key's newest entry, row
    or tombstone, and every pinned entry are there. `compact_from <= whole_from`.
    """

    whole_from: int = 0
    compact_from: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """Entries of some channels in seq order.

    All that the journal holds of these channels in (after, upto] is in `entries`; `more` says
    that entries beyond `upto` may exist. `floors` were true after the entries were read.
    """

    entries: tuple[Entry, ...]
    upto: int
    more: bool
    floors: Mapping[str, Floor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who is asking, as the keys file says at this moment.

    `channels` are globs; `forced` is a filter ANDed into all that the holder sees and publishes;
    `expires_at` is in seconds since 1970.
    """

    key_id: str
    name: str
    scopes: frozenset[str]
    channels: tuple[str, ...] = ("*",)
    forced: Mapping[str, frozenset[str]] = field(default_factory=dict)
    expires_at: float | None = None

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def reaches(self, channel: str) -> bool:
        return "*" in self.channels or any(fnmatchcase(channel, glob) for glob in self.channels)

    def reading(self) -> Principal:
        """The same holder where it may look on and do nothing else: what a browser is given."""
        return replace(self, scopes=self.scopes & {"read"})

    def operating(self) -> Principal:
        """The same holder where it may look on and acknowledge: what our own page is given."""
        return replace(self, scopes=self.scopes & {"read", "operate"})

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at
