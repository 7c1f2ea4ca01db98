"""THE list of channels. Adding a channel is adding an entry here; nothing else names one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import ValidationError

from telecast.channels import schemas
from telecast.channels.fields import first_problems
from telecast.channels.plain import Plain
from telecast.errors import PeerFault
from telecast.model import Op, Retention, Row

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One channel: how its rows are checked, keyed, filtered, pinned, kept.

    `filters` maps each filter to the payload field that it reads. `pin` gives the part of a row
    whose change makes an event pinned; None: only what withdraws a row from a filter is.
    `gone` says that an upsert of this row is the row's end. `key_holds_filters`: the key
    determines every filter field, so no upsert of a key can move it between filters.
    """

    name: str
    title: str
    description: str
    schema: schemas.Payload
    key: Callable[[Row], str]
    filters: Mapping[str, str]
    pin: Callable[[Row], Hashable] | None
    gone: Callable[[Row], bool]
    retention: Retention
    key_holds_filters: bool = False
    owned: Callable[[Row], Row] = field(default=lambda row: row)
    """Adds what the server owns to a publisher's row."""

    def load(self, payload: Any) -> Row:
        """Check a payload. Raises ValidationError with marshmallow's tree of messages."""
        try:
            row = self._plain.read(payload)
        except ValidationError:
            row = self.schema.load(payload)
        return self.owned(row)

    def problems(self, fault: ValidationError) -> list[tuple[str, str]]:
        return list(first_problems(fault.messages))

    def fields_of(self, row: Row) -> dict[str, str | None]:
        """The value of each filter for this row; None matches every value."""
        return {name: row.get(source) for name, source in self.filters.items()}

    def pinned(self, before: Row | None, row: Row, op: Op) -> bool:
        """Whether conflation must never leave this change out."""
        if self.pin is None:
            return False
        return before is None or op == "delete" or self.pin(before) != self.pin(row)

    @property
    def stateless(self) -> bool:
        """Whether a change of a row can be derived without knowing the row before."""
        return self.pin is None and self.key_holds_filters

    @cached_property
    def _plain(self) -> Plain:
        return Plain(self.schema)

    @cached_property
    def json_schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of a payload as it is published."""
        # Schemas nest in place: without a spec to collect them, no name is ever resolved.
        converter = OpenAPIConverter(
            "3.1.0",
            schema_name_resolver=lambda _: False,
            spec=None,  # type: ignore[arg-type]
        )
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.name,
            **converter.schema2jsonschema(self.schema),  # type: ignore[no-untyped-call]
        }


def _market_key(row: Row) -> str:
    symbol: str = row["symbol"]
    return symbol if row["exchange"] is None else f"{row['exchange']}:{symbol}"


def _own_alert(row: Row) -> Row:
    return row | {
        "count": 1,
        "lastSeenAt": row["createdAt"],
        "acknowledgedBy": None,
        "acknowledgedAt": None,
        "note": None,
    }


CHANNELS: Mapping[str, Channel] = {
    channel.name: channel
    for channel in (
        Channel(
            name="trader-status",
            title="Traders",
            description="One row per trader: what it does, why, and how it has done.",
            schema=schemas.TraderStatus(),
            key=lambda row: str(row["id"]),
            filters={"traderId": "id", "exchange": "exchange", "symbol": "symbol"},
            pin=lambda row: row["status"],
            gone=lambda row: row["reason"] == "DELETED",
            retention=Retention(events=200_000, seconds=30 * DAY),
        ),
        Channel(
            name="positions",
            title="Positions",
            description="One row per position, from its opening to its close.",
            schema=schemas.Position(),
            key=lambda row: str(row["id"]),
            filters={"traderId": "traderId", "exchange": "exchange", "symbol": "symbol"},
            # OPEN to UPDATED is a position that lives on: no change worth pinning.
            pin=lambda row: row["status"] == "CLOSED",
            gone=lambda row: row["status"] == "CLOSED",
            retention=Retention(events=500_000, seconds=30 * DAY),
        ),
        Channel(
            name="risk-alerts",
            title="Risk alerts",
            description="One row per alert that is not resolved, keyed by its fingerprint.",
            schema=schemas.RiskAlert(),
            key=lambda row: str(row["id"]),
            filters={"traderId": "traderId", "severity": "severity"},
            pin=lambda row: (row["status"], row["severity"]),
            gone=lambda row: row["status"] == "RESOLVED",
            retention=Retention(events=200_000, seconds=90 * DAY),
            owned=_own_alert,
        ),
        Channel(
            name="market-data",
            title="Market data",
            description="One row per instrument and exchange: its newest price.",
            schema=schemas.MarketData(),
            key=_market_key,
            filters={"symbol": "symbol", "exchange": "exchange"},
            pin=None,
            gone=lambda row: False,
            retention=Retention(events=500_000, seconds=2 * DAY),
            key_holds_filters=True,
        ),
    )
}

FILTERS: frozenset[str] = frozenset(
    name for channel in CHANNELS.values() for name in channel.filters
)


def nearest(word: str, words: Any) -> str:
    """' Did you mean 'x'?' for a message, or nothing."""
    close = difflib.get_close_matches(word.lower(), list(words), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def channel_named(name: str) -> Channel:
    """Raises PeerFault UNKNOWN_CHANNEL, with the nearest name."""
    try:
        return CHANNELS[name]
    except KeyError:
        raise PeerFault(
            "UNKNOWN_CHANNEL",
            f"There is no channel {name[:64]!r}.{nearest(name[:64], CHANNELS)}",
            {"channels": list(CHANNELS)},
        ) from None
