"""What happened: what publishers were answered, what subscribers were sent, what the journal has.

Record it as it happens, and let `judge` say when all is quiet whether it can be. Times are those
of a counter: only their order counts. Events are JSON bytes, as they were sent. Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

Kind = Literal[
    "lost",  # acknowledged and not there, or there and never sent
    "repeated",  # sent twice, or committed twice
    "reordered",
    "phantom",  # sent, though nobody published it, the journal lacks it, or nobody asked for it
    "changed",  # not what was published
    "reused",  # one number for two events
    "stale",  # what is held in the end, or offered to a newcomer, is not the newest
    "silent",  # left out by conflation without a word
    "untrue",  # a gap, conflation or reset is sent where there is none
    "ahead",  # a position is sent before all that it proves
]
Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Flaw:
    """`who` is the publisher or subscriber, `seq` is where, `what` is the rest in words."""

    kind: Kind
    seq: int
    what: str
    who: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One event that a publish must have become; `says` is what its payload must hold."""

    channel: str
    op: str
    key: str
    says: Mapping[str, Any]

    def is_reported_by(self, event: Mapping[str, Any]) -> bool:
        return self.place == place_of(event) and self.says.items() <= event["data"].items()

    @property
    def place(self) -> tuple[str, str, str]:
        return self.channel, self.op, self.key


@dataclass(slots=True, eq=False)
class Publish:
    """One publish, however often it was sent, all of it or nothing of it.

    Without `answers` its outcome is unknown; `refused` says that nothing of it was committed.
    """

    publisher: str
    changes: Sequence[Change]
    invoked: int = 0
    answered: int = 0
    answers: list[tuple[str, int]] = field(default_factory=list)
    """(epoch, seq of the last change), one for each time that it was acknowledged."""
    refused: bool = False

    def last_seq(self, epoch: str) -> int:
        """As it was acknowledged in this epoch at first; 0 if it was not."""
        return next((last for where, last in self.answers if where == epoch), 0)


@dataclass(slots=True, eq=False)
class Session:
    """One connection of a subscriber: what it asked for and every message that came."""

    subscriber: str
    wants: Callable[[Event], bool] = lambda event: True
    delivery: str = "all"
    start: str = "snapshot"
    """`snapshot`, `earliest`, `live`, or a position."""
    began: int = 0
    heard: list[tuple[bytes, str | None]] = field(default_factory=list)
    """Messages, each with the position that it proves, if any."""
    settled: bool = False
    """It ended when all was quiet: nothing was on its way to it any more."""


@dataclass(slots=True)
class Kept:
    """What the journal of one epoch has in the end, in the order of `seq`."""

    events: Sequence[bytes]
    head: int
    floors: Mapping[str, int] = field(default_factory=dict)
    """Channel to the seq after which nothing is missing; before it only newest rows are."""


@dataclass(slots=True)
class History:
    """All that happened; `seed` is what would make most of it happen again."""

    seed: object = None
    pins: Mapping[str, Sequence[str] | None] = field(default_factory=dict)
    """Channel to the fields whose change pins an event; a first and a last are pinned as well.
    A channel that is not named pins nothing."""
    one_node: bool = True
    """Whether all ask one node: then whoever connects after an answer finds its head there."""
    publishes: list[Publish] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)
    now: Callable[[], int] = field(default_factory=lambda: itertools.count(1).__next__)

    def publish(self, publisher: str, changes: Sequence[Change]) -> Publish:
        made = Publish(publisher, changes, invoked=self.now())
        self.publishes.append(made)
        return made

    def acknowledge(self, publish: Publish, epoch: str, last_seq: int) -> None:
        publish.answers.append((epoch, last_seq))
        publish.answered = publish.answered or self.now()

    def session(self, subscriber: str, **said: Any) -> Session:
        made = Session(subscriber, began=self.now(), **said)
        self.sessions.append(made)
        return made


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


def parsed(history: Iterable[bytes]) -> list[Event]:
    return [orjson.loads(json) for json in history]


def listener_flaws(truth: Sequence[bytes], reported: Sequence[bytes]) -> list[Flaw]:
    """How what a listener was sent differs from what there was to send, byte for byte."""
    if reported == truth and len(set(truth)) == len(truth):
        return []
    right = {event["seq"]: json for event, json in zip(parsed(truth), truth, strict=True)}
    flaws: list[Flaw] = []
    seen: set[int] = set()
    latest = -1
    for event, json in zip(parsed(reported), reported, strict=True):
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


def folded(history: Iterable[bytes]) -> dict[tuple[str, str], Event]:
    """The rows that a client holds after these events."""
    rows: dict[tuple[str, str], Event] = {}
    for event in parsed(history):
        rows.pop(row_of(event), None)
        if event["op"] == "upsert":
            rows[row_of(event)] = event["data"]
    return rows


def place_of(event: Mapping[str, Any]) -> tuple[str, str, str]:
    return event["channel"], event["op"], event["key"]


def row_of(event: Mapping[str, Any]) -> tuple[str, str]:
    return event["channel"], event["key"]


def number(position: str) -> int:
    """The seq of a position."""
    return int(position.rpartition(":")[2])
