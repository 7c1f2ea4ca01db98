"""What a configured channel asks of each row: its key, what keeps its history, whether it ends."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from marshmallow import ValidationError, fields

from telecast.channels.fields import Identifier
from telecast.channels.schemas import Payload
from telecast.channels.types import schema_of
from telecast.model import Row


def schema_by_key(
    name: str, found: Mapping[str, fields.Field[Any]], key: tuple[str, ...]
) -> Payload:
    """The schema of a channel with this key. A key is joined by ":", so only its last field may
    have one: else two rows could have one key."""
    schema = schema_of(name, found)
    before_last = [each for each in key[:-1] if isinstance(found[each], Identifier)]
    if before_last:

        def agree(row: Mapping[str, Any]) -> None:
            for each in before_last:
                if ":" in row[each]:
                    raise ValidationError('Must not contain ":".', each)

        schema.agree = agree  # type: ignore[method-assign]
    return schema


def key_of(names: tuple[str, ...]) -> Callable[[Row], str]:
    """Reads a row's key: its fields, joined by colons."""
    if len(names) == 1:
        (name,) = names
        return lambda row: str(row[name])
    if len(names) == 2:
        first, second = names
        return lambda row: f"{row[first]}:{row[second]}"
    values = itemgetter(*names)
    return lambda row: ":".join(map(str, values(row)))


def pin_of(names: Iterable[str]) -> Callable[[Row], Hashable] | None:
    pinned = tuple(names)
    if not pinned:
        return None
    return lambda row: tuple(hashable(row[name]) for name in pinned)


def gone_of(ends: Mapping[str, frozenset[Any]]) -> Callable[[Row], bool]:
    if not ends:
        return lambda row: False
    return lambda row: any(row[name] in values for name, values in ends.items())


def hashable(value: Any) -> Hashable:
    if isinstance(value, dict | list):
        return repr(value)
    return value  # type: ignore[no-any-return]
