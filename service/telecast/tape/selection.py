"""What one subscriber wants: channels, each with its filter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from telecast.model import Event

Filter = tuple[tuple[str, frozenset[str]], ...]
"""(field, values) pairs in the order of the field names: any of the values, all of the fields.

An event whose field is None passes; an empty set of values lets only such events pass.
"""


def filter_of(fields: Mapping[str, frozenset[str]]) -> Filter:
    return tuple(sorted(fields.items()))


def within(inner: Filter, outer: Filter) -> bool:
    """Whether whatever passes one filter surely passes the other."""
    narrow = dict(inner)
    return all(field in narrow and narrow[field] <= values for field, values in outer)


class Selection:
    """An immutable value, equal and hashed by its parts: (channel, filter) sorted by channel."""

    __slots__ = ("_filters", "_hash", "channels", "parts")

    def __init__(self, filters: Mapping[str, Filter] | None = None) -> None:
        self._filters = dict(sorted((filters or {}).items()))
        self.parts = tuple(self._filters.items())
        self.channels = tuple(self._filters)
        self._hash = hash(self.parts)

    def filter(self, channel: str) -> Filter:
        return self._filters[channel]

    def wants(self, event: Event) -> bool:
        narrow = self._filters.get(event.channel)
        if narrow is None:
            return False
        for name, values in narrow:
            value = event.fields[name]
            if value is not None and value not in values:
                return False
        return True

    def only(self, channels: Iterable[str]) -> Selection:
        kept = set(channels)
        return Selection({name: f for name, f in self._filters.items() if name in kept})

    def changed_since(self, before: Selection) -> tuple[str, ...]:
        """Channels whose rows a subscriber of `before` can't be said to hold."""
        return tuple(
            name for name, narrow in self.parts if before._filters.get(name, None) != narrow
        )

    def __contains__(self, channel: object) -> bool:
        return channel in self._filters

    def __bool__(self) -> bool:
        return bool(self._filters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection) and self.parts == other.parts

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Selection({self._filters!r})"
