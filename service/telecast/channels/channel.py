"""One channel: how its rows are checked, keyed, filtered, pinned and kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import ValidationError

from telecast.channels import schemas
from telecast.channels.fields import first_problems
from telecast.channels.plain import Plain
from telecast.model import Op, Principal, Retention, Row


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One channel: how its rows are checked, keyed, filtered, pinned, kept.

    `filters` maps each filter to the payload field that it reads. `pin` gives the part of a row
    whose change makes an event pinned; None: only what withdraws a row from a filter is.
    `gone` says that an upsert of this row is the row's end. `key_holds_filters`: the key
    determines every filter field, so no upsert of a key can move it between filters.
    `key_fields` are the payload fields that `key` reads. `example` is a payload that the channel
    takes: docs, tests and test rows are made from it.
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
    owned: Callable[[Row], Row] = field(default=lambda row: row)
    """Adds what the server owns to a publisher's row."""

    def reached_by(self, principal: Principal) -> bool:
        """Whether a key may know of this channel at all.

        A forced filter on a field that the channel lacks hides the channel: it could not narrow
        anything there, and the holder would see every row.
        """
        return principal.reaches(self.name) and principal.forced.keys() <= self.filters.keys()

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
