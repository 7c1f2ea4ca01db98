"""Which cohorts want an event, found without visiting those that don't."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from telecast.fanout.cohort import Cohort
from telecast.model import Event


class _ChannelIndex:
    """Cohorts of one channel: those without a filter, and the others under one of its fields."""

    __slots__ = ("by_value", "unfiltered")

    def __init__(self) -> None:
        self.unfiltered: dict[Cohort, None] = {}
        self.by_value: defaultdict[str, dict[str, dict[Cohort, None]]] = defaultdict(dict)


class Index:
    """(channel, field, value) to cohorts; a filter stands under its field with fewest values."""

    def __init__(self) -> None:
        self._channels: defaultdict[str, _ChannelIndex] = defaultdict(_ChannelIndex)

    def add(self, cohort: Cohort) -> None:
        for channel, narrow in cohort.selection.parts:
            index = self._channels[channel]
            if not narrow:
                index.unfiltered[cohort] = None
                continue
            field, values = min(narrow, key=lambda part: len(part[1]))
            # An empty set of values is wanted only where the field is null: under a value of
            # its own that no event has.
            for value in values or ("\0",):
                index.by_value[field].setdefault(value, {})[cohort] = None

    def discard(self, cohort: Cohort) -> None:
        for channel, narrow in cohort.selection.parts:
            index = self._channels[channel]
            index.unfiltered.pop(cohort, None)
            for field, values in narrow:
                by_value = index.by_value.get(field)
                if by_value is None:
                    continue
                for value in values or ("\0",):
                    cohorts = by_value.get(value)
                    if cohorts is not None and cohort in cohorts:
                        del cohorts[cohort]
                        if not cohorts:
                            del by_value[value]
                if not by_value:
                    del index.by_value[field]

    def wanting(self, event: Event) -> Iterator[Cohort]:
        """Each cohort that wants it, once."""
        index = self._channels.get(event.channel)
        if index is not None:
            yield from index.unfiltered
            yield from self._narrowed(index, event)

    def wanting_any(self, events: Iterable[Event]) -> set[Cohort]:
        """Those that want one of them at least."""
        found: set[Cohort] = set()
        channels = set[str]()
        for event in events:
            index = self._channels.get(event.channel)
            if index is not None:
                # Once: in a batch of thousands most cohorts would come up with every event.
                if event.channel not in channels:
                    channels.add(event.channel)
                    found.update(index.unfiltered)
                found.update(self._narrowed(index, event))
        return found

    def _narrowed(self, index: _ChannelIndex, event: Event) -> Iterator[Cohort]:
        for field, by_value in index.by_value.items():
            value = event.fields[field]
            if value is not None:
                found: dict[Cohort, None] = by_value.get(value, {})
            else:
                found = {cohort: None for cohorts in by_value.values() for cohort in cohorts}
            for cohort in found:
                if cohort.selection.wants(event):
                    yield cohort

    def __len__(self) -> int:
        """Entries held: nothing may be left when all cohorts are gone."""
        return sum(
            len(index.unfiltered)
            + sum(len(cohorts) for by in index.by_value.values() for cohorts in by.values())
            for index in self._channels.values()
        )
