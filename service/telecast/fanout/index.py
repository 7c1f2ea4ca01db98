"""Which cohorts want an event, found without visiting those that don't.

Cohorts of one channel that filter by the same fields stand together. Such a group has each cohort
under every value of every field of its filter, so an event is looked up by the field under whose
value the fewest stand; those few are asked. A null field passes every filter, so it finds nobody
out: where all fields of a group are null in an event, the whole group wants it. What breaks this:
a cohort that stands under one of its fields only, since then an event that is null in that field
visits all of them. See docs/design/fanout.md, Cohorts, and tests/unit/fanout/test_index.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from telecast.fanout.cohort import Cohort
from telecast.model import Event

_NOBODY: dict[Cohort, None] = {}


class _Group:
    """Cohorts of one channel that filter by the same fields."""

    __slots__ = ("by_field", "cohorts")

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.cohorts: dict[Cohort, None] = {}
        self.by_field: dict[str, dict[str, dict[Cohort, None]]] = {name: {} for name in fields}

    def add(self, cohort: Cohort, channel: str) -> None:
        self.cohorts[cohort] = None
        for field, values in cohort.selection.filter(channel):
            by_value = self.by_field[field]
            for value in values:
                by_value.setdefault(value, {})[cohort] = None

    def discard(self, cohort: Cohort, channel: str) -> None:
        if cohort not in self.cohorts:
            return
        del self.cohorts[cohort]
        for field, values in cohort.selection.filter(channel):
            by_value = self.by_field[field]
            for value in values:
                del by_value[value][cohort]
                if not by_value[value]:
                    del by_value[value]

    def wanting(self, event: Event) -> Collection[Cohort]:
        """Those who want the event."""
        fewest: dict[Cohort, None] | None = None
        for field, by_value in self.by_field.items():
            value = event.fields[field]
            if value is not None:
                found = by_value.get(value, _NOBODY)
                if fewest is None or len(found) < len(fewest):
                    fewest = found
        if fewest is None:
            return self.cohorts
        return [cohort for cohort in fewest if cohort.selection.wants(event)]


class _ChannelIndex:
    __slots__ = ("groups", "narrow", "unfiltered", "wide")

    def __init__(self) -> None:
        self.unfiltered: dict[Cohort, None] = {}
        self.narrow: list[tuple[str, dict[str, dict[Cohort, None]], _Group]] = []
        """The groups of one field: that, its values, and the group."""
        self.wide: list[_Group] = []
        self.groups: dict[tuple[str, ...], _Group] = {}
        """By the fields of the filter."""

    def sort(self) -> None:
        """After a group came or went."""
        self.narrow = [
            (field, by_value, group)
            for group in self.groups.values()
            if len(group.by_field) == 1
            for field, by_value in group.by_field.items()
        ]
        self.wide = [group for group in self.groups.values() if len(group.by_field) > 1]


class Index:
    """Each cohort stands here from its first member to its last."""

    def __init__(self) -> None:
        self._channels: defaultdict[str, _ChannelIndex] = defaultdict(_ChannelIndex)

    def add(self, cohort: Cohort) -> None:
        for channel, narrow in cohort.selection.parts:
            index = self._channels[channel]
            if not narrow:
                index.unfiltered[cohort] = None
                continue
            fields = tuple(field for field, _ in narrow)
            group = index.groups.get(fields)
            if group is None:
                group = index.groups[fields] = _Group(fields)
                index.sort()
            group.add(cohort, channel)

    def discard(self, cohort: Cohort) -> None:
        for channel, narrow in cohort.selection.parts:
            index = self._channels[channel]
            if not narrow:
                index.unfiltered.pop(cohort, None)
                continue
            fields = tuple(field for field, _ in narrow)
            group = index.groups.get(fields)
            if group is not None:
                group.discard(cohort, channel)
                if not group.cohorts:
                    del index.groups[fields]
                    index.sort()

    def wanting(self, event: Event) -> Iterator[Cohort]:
        """Each cohort that wants it, once."""
        index = self._channels.get(event.channel)
        if index is not None:
            yield from index.unfiltered
            for field, by_value, narrow in index.narrow:
                value = event.fields[field]
                yield from narrow.cohorts if value is None else by_value.get(value, _NOBODY)
            for group in index.wide:
                yield from group.wanting(event)

    def gather(self, events: Iterable[Event], found: set[Cohort]) -> Iterator[None]:
        """Add those who want one of the events at least, in steps of one event."""
        visited = set[str]()
        whole = set[_Group]()
        """Of which everybody has been found."""
        for event in events:
            index = self._channels.get(event.channel)
            if index is not None:
                # Once: in a batch of thousands most cohorts would come up with every event.
                if event.channel not in visited:
                    visited.add(event.channel)
                    found.update(index.unfiltered)
                for group in tuple(index.groups.values()):
                    if group not in whole:
                        wanting = group.wanting(event)
                        found.update(wanting)
                        if wanting is group.cohorts:
                            whole.add(group)
            yield

    def __len__(self) -> int:
        """Entries held: nothing may be left when all cohorts are gone."""
        return sum(
            len(index.unfiltered) + sum(len(group.cohorts) for group in index.groups.values())
            for index in self._channels.values()
        )
