"""One channel: how its rows are checked, keyed, filtered, pinned and kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal

from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import ValidationError

from telecast.channels import schemas
from telecast.channels.fields import first_problems
from telecast.channels.plain import Plain
from telecast.model import Op, Principal, Retention, Row

Mode = Literal["keyed", "log"]


@dataclass(frozen=True, slots=True)
class Guard:
    """Rows that only some may see: without `scope`, `field` must have one of `values`."""

    scope: str
    field: str
    values: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One channel: how its rows are checked, keyed, filtered, pinned, kept.

    `filters` maps each filter to the payload field that it reads. `pin` gives the part of a row
    whose change makes an event pinned; None: only what withdraws a row from a filter is.
    `gone` says that an upsert of this row is the row's end. `key_holds_filters`: the key
    determines every filter field, so no upsert of a key can move it between filters.
    `key_fields` are the payload fields that `key` reads. `example` is a payload that the channel
    takes: docs, tests and test rows are made from it.

    A `log` is append-only: each event is a fact by itself that leaves no row. The journal and the
    tape treat its entries as those that end a row: kept until retention takes them. So a snapshot
    of a log is empty, and nothing of it is ever conflated. In events their `op` is "append".
    """

    name: str
    title: str
    description: str
    schema: schemas.Payload
    key: Callable[[Row], str]
    key_fields: tuple[str, ...]
    filters: Mapping[str, str]
    pin: Callable[[Row], Hashable] | None
    gone: Callable[[Row], bool]
    retention: Retention
    example: Row
    key_holds_filters: bool = False
    mode: Mode = "keyed"
    conflated: bool = True
    """Whether a slow client may get only the newest event of a row."""
    stale_after: float | None = None
    """Seconds without any event after which the channel counts as stale; None: it never does."""
    publish_scope: str = "publish"
    """The scope that a key needs to write to it."""
    by_name_only: bool = False
    """Whether a key without the scope `operate` or `admin` reaches it only if its `channels` name
    it by more than `*`."""
    guards: tuple[Guard, ...] = ()
    owned: Callable[[Row], Row] = field(default=lambda row: row)
    """Adds what the server owns to a publisher's row."""
    follow: Callable[[Row | None, Row, str], Row] | None = None
    """What a publisher's row makes of the one before, where the server owns a part of it: an
    alert's life. It gets the row before, the new one, and the server's time (RFC 3339)."""

    def reached_by(self, principal: Principal) -> bool:
        """Whether a key may know of this channel at all.

        A forced filter on a field that the channel lacks hides the channel: it could not narrow
        anything there, and the holder would see every row.
        """
        if not principal.forced.keys() <= self.filters.keys():
            return False
        if self.by_name_only and not principal.scopes & {"operate", "admin"}:
            return any(glob != "*" and fnmatchcase(self.name, glob) for glob in principal.channels)
        return principal.reaches(self.name)

    def writable_by(self, principal: Principal) -> bool:
        return principal.may(self.publish_scope) and self.reached_by(principal)

    def forced_on(self, principal: Principal) -> Mapping[str, frozenset[str]]:
        """The filter that holds for whatever a key sees and writes here: its own, and the guards
        whose scope it lacks."""
        guards = [guard for guard in self.guards if not principal.may(guard.scope)]
        if not guards:
            return principal.forced
        forced = dict(principal.forced)
        for guard in guards:
            forced[guard.field] = forced.get(guard.field, guard.values) & guard.values
        return forced

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
        if not self.conflated:
            return True
        if self.pin is None:
            return False
        return before is None or op == "delete" or self.pin(before) != self.pin(row)

    @property
    def stateless(self) -> bool:
        """Whether a change of a row can be derived without knowing the row before."""
        return self.pin is None and self.key_holds_filters and self.follow is None

    def word(self, op: Op) -> str:
        """What an entry's operation is called in events."""
        return "append" if self.mode == "log" else op

    @property
    def type_name(self) -> str:
        """What one of its rows is called in code: of `risk-alerts` it is RiskAlert."""
        name = "".join(part[:1].upper() + part[1:] for part in self.name.split("-"))
        return name[:-1] if name.endswith("s") and name[-2:-1] not in ("s", "u", "i") else name

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
