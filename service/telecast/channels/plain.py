"""The short way for payloads that are plainly valid, as nearly all are.

A schema's judgement takes marshmallow some ten times as long as the checks in it. So these are
run on their own first. Whatever they do not simply accept, marshmallow judges, alone: no error
is reported from here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from marshmallow import ValidationError, fields, missing

from telecast.channels.fields import Scalar
from telecast.channels.schemas import Payload
from telecast.model import Row


class Plain:
    """Reads what is plainly valid, to the same row, in the same order, as its schema does."""

    def __init__(self, schema: Payload) -> None:
        self._agree = schema.agree
        self._names = schema.load_fields.keys()
        self._parts = [(name, *_part(field)) for name, field in schema.load_fields.items()]

    def read(self, payload: Any) -> Row:
        """Raises ValidationError, which says nothing, for what the schema is to judge."""
        if type(payload) is not dict or not payload.keys() <= self._names:
            raise ValidationError("not plainly valid")
        row: Row = {}
        for name, read, default, nullable in self._parts:
            value = payload.get(name, default)
            row[name] = None if value is None and nullable else read(value)
        self._agree(row)
        return row


def _part(field: fields.Field[Any]) -> tuple[Callable[[Any], Any], Any, bool]:
    """How its value is read, what stands for one that is left out, and whether it may be null."""
    if isinstance(field, Scalar):
        read: Callable[[Any], Any] = field.read  # does not take `missing`
    elif isinstance(field, fields.Nested) and isinstance(field.schema, Payload):
        read = Plain(field.schema).read  # nor does this
    else:
        return field.deserialize, missing, False
    return read, field.load_default, bool(field.allow_none)
