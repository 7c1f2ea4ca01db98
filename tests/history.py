"""Holds histories against each other, and against what publishers were promised. Pure.

A history is events as JSON bytes, in the order in which they were told.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

Kind = Literal["lost", "repeated", "reordered", "phantom", "changed"]


@dataclass(frozen=True, slots=True)
class Flaw:
    """`seq` is where, `what` is the rest in words."""

    kind: Kind
    seq: int
    what: str


@dataclass(frozen=True, slots=True)
class Change:
    """One event that a publish must have become; `says` is what its payload must hold."""

    channel: str
    op: str
    key: str
    says: Mapping[str, Any]

    def is_told_by(self, event: Mapping[str, Any]) -> bool:
        return self._place == _place(event) and self.says.items() <= event["data"].items()

    @property
    def _place(self) -> tuple[str, str, str]:
        return self.channel, self.op, self.key


@dataclass(slots=True)
class Publish:
    """What a publisher was answered: its changes are committed, the last one as `last_seq`."""

    publisher: str
    changes: Sequence[Change]
    last_seq: int = 0

    @property
    def first_seq(self) -> int:
        return self.last_seq - len(self.changes) + 1


@dataclass(slots=True)
class Book:
    """What one publisher's rows become, by section 2 of the wire contract."""

    filters: Mapping[str, Sequence[str]]
    """Channel to the payload's fields whose change moves a row between filters."""
    rows: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

    def enter(
        self, channel: str, key: str, payload: Mapping[str, Any], *, end: bool
    ) -> list[Change]:
        """The events of one payload. `end`: it is the row's last; it must not move it as well."""
        changes = []
        before = self.rows.pop((channel, key), None)
        moved = before is not None and any(
            before.get(name) != payload.get(name) for name in self.filters.get(channel, ())
        )
        if moved and before is not None:
            assert not end
            changes.append(Change(channel, "delete", key, before))
        changes.append(Change(channel, "delete" if end else "upsert", key, payload))
        if not end:
            self.rows[channel, key] = payload
        return changes


def parsed(history: Iterable[bytes]) -> list[dict[str, Any]]:
    return [orjson.loads(json) for json in history]


def listener_flaws(truth: Sequence[bytes], told: Sequence[bytes]) -> list[Flaw]:
    """How what a listener was told differs from what there was to tell, byte for byte."""
    if told == truth and len(set(truth)) == len(truth):
        return []
    right = {event["seq"]: json for event, json in zip(parsed(truth), truth, strict=True)}
    flaws: list[Flaw] = []
    seen: set[int] = set()
    latest = -1
    for event, json in zip(parsed(told), told, strict=True):
        seq = event["seq"]
        if seq in seen:
            flaws.append(Flaw("repeated", seq, f"after {latest}"))
        elif seq < latest:
            flaws.append(Flaw("reordered", seq, f"after {latest}"))
        seen.add(seq)
        latest = max(latest, seq)
        if seq not in right:
            flaws.append(Flaw("phantom", seq, repr(json)))
        elif right[seq] != json:
            flaws.append(Flaw("changed", seq, f"{json!r} and not {right[seq]!r}"))
    flaws += [Flaw("lost", seq, repr(json)) for seq, json in right.items() if seq not in seen]
    return flaws


def publisher_flaws(truth: Sequence[bytes], publishes: Sequence[Publish]) -> list[Flaw]:
    """How a history differs from what its publishers were answered.

    `publishes` are all there were, each publisher's in the order in which it sent them.
    """
    events = {event["seq"]: event for event in parsed(truth)}
    flaws: list[Flaw] = []
    owners: Counter[int] = Counter()
    latest: defaultdict[str, int] = defaultdict(int)
    for publish in publishes:
        if publish.first_seq <= latest[publish.publisher]:
            after = latest[publish.publisher]
            flaws.append(Flaw("reordered", publish.last_seq, f"{publish.publisher}: after {after}"))
        latest[publish.publisher] = max(publish.last_seq, latest[publish.publisher])
        for seq, change in enumerate(publish.changes, publish.first_seq):
            owners[seq] += 1
            event = events.get(seq)
            if event is None or _place(event) != change._place:
                flaws.append(Flaw("lost", seq, f"{publish.publisher}: {change}, there is {event}"))
            elif not change.is_told_by(event):
                flaws.append(Flaw("changed", seq, f"{publish.publisher}: {change}, it is {event}"))
    known = defaultdict(list)
    for publish in publishes:
        for change in publish.changes:
            known[change._place].append(change)
    for seq, event in events.items():
        if not owners[seq]:
            again = any(change.is_told_by(event) for change in known[_place(event)])
            flaws.append(Flaw("repeated" if again else "phantom", seq, f"{event}"))
    return flaws


def folded(history: Iterable[bytes]) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows that a client holds after these events."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for event in parsed(history):
        where = event["channel"], event["key"]
        rows.pop(where, None)
        if event["op"] == "upsert":
            rows[where] = event["data"]
    return rows


def _place(event: Mapping[str, Any]) -> tuple[str, str, str]:
    return event["channel"], event["op"], event["key"]
