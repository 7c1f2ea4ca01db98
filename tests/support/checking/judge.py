"""Holds what publishers were answered and subscribers were sent against what the journal has. Pure.

Nothing is taken from the service but its words: pins, rows and gaps are worked out anew.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from tests.support.checking.history import (
    Change,
    Event,
    Flaw,
    History,
    Kept,
    Kind,
    Publish,
    Session,
    number,
    parsed,
    place_of,
    row_of,
)


def flaws(history: History) -> list[Flaw]:
    found: list[Flaw] = []
    truths = {epoch: _Truth(kept, history.pins) for epoch, kept in history.kept.items()}
    heard = [_parsed(session) for session in history.sessions]
    for session, (epoch, messages) in zip(history.sessions, heard, strict=True):
        for body, json, _ in messages:
            if body["type"] == "event":
                found += truths[epoch].witness(session.subscriber, body, json)
    for epoch, truth in truths.items():
        truth.settle()
        answered = [p for p in history.publishes if any(e == epoch for e, _ in p.answers)]
        found += _answer_flaws(epoch, truth, answered)
    found += _owner_flaws(truths, history.publishes)
    views: defaultdict[str, _View] = defaultdict(_View)
    newest = [(p.answered, *p.answers[0]) for p in history.publishes if p.answers]
    for session, (epoch, messages) in zip(history.sessions, heard, strict=True):
        if not epoch:
            continue  # it was cut before the welcome
        listening = _Listening(session, epoch, truths[epoch], views[session.subscriber])
        reported = [last for at, where, last in newest if where == epoch and at < session.began]
        least = max(reported, default=0) if history.one_node else 0
        found += listening.flaws(messages, least_head=least)
    return found


def check(history: History) -> None:
    """Raise AssertionError with the seed and the first flaw, unless there is none."""
    found = flaws(history)
    if found:
        counts = Counter(flaw.kind for flaw in found)
        first = {flaw.kind: flaw for flaw in reversed(found)}
        kinds = "\n".join(
            f"{count} {kind}, the first: {first[kind]}" for kind, count in counts.items()
        )
        raise AssertionError(f"seed {history.seed}: {len(found)} flaws\n{kinds}")


Message = tuple[Event, bytes, str | None]
_COMMITTED = ("channel", "op", "key", "timestamp")
"""What two tellings of one commit have in common, even if its payload is damaged."""


def _parsed(session: Session) -> tuple[str, list[Message]]:
    """The epoch that the session was welcomed to, and its messages."""
    messages = [(orjson.loads(json), json, position) for json, position in session.heard]
    heads = [body["head"] for body, _, _ in messages if body["type"] == "welcome"]
    return heads[0].partition(":")[0] if heads else "", messages


class _Truth:
    """Every event of one epoch that the journal has or anybody was sent."""

    def __init__(self, kept: Kept, pins: Mapping[str, Sequence[str] | None]) -> None:
        self.kept = kept
        self.events = {event["seq"]: event for event in parsed(kept.events)}
        self.has = frozenset(self.events)
        """What the journal itself has."""
        self.seqs: dict[str, list[int]] = {}
        """Channel to what is known of it."""
        self.whole = False
        """Whether it is known what every number stands for."""
        self._json = dict(zip(self.events, kept.events, strict=True))
        self._pins = pins
        self._pinned: set[int] = set()
        self._of_key: defaultdict[tuple[str, str], list[int]] = defaultdict(list)

    def witness(self, who: str, event: Event, json: bytes) -> Iterator[Flaw]:
        """Somebody was sent this event."""
        seq = event["seq"]
        known = self._json.get(seq)
        if known is None:
            self.events[seq], self._json[seq] = event, json
            if seq > min(self.kept.head, self.kept.floors.get(event["channel"], 0)):
                yield Flaw("phantom", seq, f"the journal does not have {json!r}", who)
        elif known != json:
            there = self.events[seq]
            same = place_of(there) == place_of(event) and there.get("timestamp") == event.get(
                "timestamp"
            )
            what = f"{json!r}, but it is {known!r}"
            yield Flaw("changed" if same else "reused", seq, what, who)

    def settle(self) -> None:
        """All witnesses were heard."""
        rows: dict[tuple[str, str], Event] = {}
        seqs = defaultdict(list)
        self.whole = len(self.events) >= self.kept.head
        for seq in sorted(self.events):
            event = self.events[seq]
            row = row_of(event)
            seqs[event["channel"]].append(seq)
            self._of_key[row].append(seq)
            if self._is_pinned(rows.get(row), event):
                self._pinned.add(seq)
            rows[row] = event
        self.seqs = dict(seqs)

    def _is_pinned(self, before: Event | None, event: Event) -> bool:
        fields = self._pins.get(event["channel"])
        if fields is None:
            return False
        if before is None or before["op"] == "delete":
            return self.whole or event["op"] == "delete"
        return event["op"] == "delete" or any(
            before["data"].get(name) != event["data"].get(name) for name in fields
        )

    def between(self, channel: str, after: int, upto: int) -> list[int]:
        """What is known of a channel in (after, upto]."""
        seqs = self.seqs.get(channel, [])
        return seqs[bisect_right(seqs, after) : bisect_right(seqs, upto)]

    def conflatable(self, seq: int) -> bool:
        """Whether it may be left out: a newer state of its row is there, and nothing pins it."""
        return seq not in self._pinned and self._of_key[row_of(self.events[seq])][-1] > seq

    def changes_after(self, row: tuple[str, str], seq: int) -> bool:
        return self._of_key.get(row, [0])[-1] > seq

    def rows_at(self, seq: int) -> dict[tuple[str, str], int]:
        """The rows that live after `seq`, each with the number of its last change."""
        rows = {}
        for row, seqs in self._of_key.items():
            index = bisect_right(seqs, seq)
            if index and self.events[seqs[index - 1]]["op"] == "upsert":
                rows[row] = seqs[index - 1]
        return rows


def _answer_flaws(epoch: str, truth: _Truth, publishes: Sequence[Publish]) -> Iterator[Flaw]:
    """What was acknowledged is there, once, as it was published, and in the order of time."""
    ended = sorted(publishes, key=lambda publish: publish.answered)
    newest = index = 0
    latest: defaultdict[str, int] = defaultdict(int)
    for publish in sorted(publishes, key=lambda publish: publish.invoked):
        who, last = publish.publisher, publish.last_seq(epoch)
        first = last - len(publish.changes) + 1
        if any(where == epoch and again != last for where, again in publish.answers):
            yield Flaw("repeated", last, f"acknowledged as {publish.answers}", who)
        while ended[index].answered < publish.invoked:
            newest, index = max(newest, ended[index].last_seq(epoch)), index + 1
        if first <= max(latest[who], newest):
            what = f"{max(latest[who], newest)} was published or acknowledged before it"
            yield Flaw("reordered", last, what, who)
        latest[who] = max(latest[who], last)
        for seq, change in enumerate(publish.changes, first):
            event = truth.events.get(seq)
            if event is None and seq <= truth.kept.floors.get(change.channel, 0):
                continue
            if event is None or change.place != place_of(event):
                yield Flaw("lost", seq, f"{change} was acknowledged, there is {event}", who)
            elif not change.is_reported_by(event):
                yield Flaw("changed", seq, f"{change}, it is {event}", who)


def _owner_flaws(truths: Mapping[str, _Truth], publishes: Sequence[Publish]) -> Iterator[Flaw]:
    """Every event is one publish's, and every publish's events are its own."""
    owners: dict[tuple[str, int], tuple[Publish, Change]] = {}
    for publish in publishes:
        for epoch, last in set(publish.answers):
            for seq, change in enumerate(publish.changes, last - len(publish.changes) + 1):
                owner, owned = owners.setdefault((epoch, seq), (publish, change))
                if owner is not publish:
                    kind: Kind = "lost" if owned == change else "reused"
                    what = f"{change} was acknowledged, it is {owner.publisher}'s {owned}"
                    yield Flaw(kind, seq, what, publish.publisher)
    unknown: defaultdict[tuple[str, str, str], list[Publish]] = defaultdict(list)
    published = defaultdict(list)
    for publish in publishes:
        if not publish.answers and not publish.refused:
            unknown[publish.changes[0].place].append(publish)
        if not publish.refused:
            for change in publish.changes:
                published[change.place].append(change)
    for epoch, truth in truths.items():
        for seq in sorted(truth.events):
            if (epoch, seq) in owners:
                continue
            event = truth.events[seq]
            for publish in unknown[place_of(event)]:
                if publish.changes[0].is_reported_by(event):
                    unknown[place_of(event)].remove(publish)
                    yield from _unanswered_flaws(epoch, truth, seq, publish, owners)
                    break
            else:
                again = any(change.is_reported_by(event) for change in published[place_of(event)])
                yield Flaw("repeated" if again else "phantom", seq, f"nobody's: {event}")


def _unanswered_flaws(
    epoch: str,
    truth: _Truth,
    first: int,
    publish: Publish,
    owners: dict[tuple[str, int], tuple[Publish, Change]],
) -> Iterator[Flaw]:
    """One that was not acknowledged is there: then all of it is."""
    for seq, change in enumerate(publish.changes, first):
        owners[epoch, seq] = publish, change
        event = truth.events.get(seq)
        gone = event is None and seq <= truth.kept.floors.get(change.channel, 0)
        if not gone and (event is None or not change.is_reported_by(event)):
            yield Flaw("lost", seq, f"{change} of a torn publish", publish.publisher)


@dataclass(slots=True)
class _View:
    """What a subscriber holds over all its sessions, of channels that it holds all rows of."""

    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    channels: set[str] = field(default_factory=set)
    reported: set[tuple[str, int]] = field(default_factory=set)
    """(epoch, seq) of every event that was no row of a snapshot."""
    horizon: int = 0
    """The highest head of a node that it came to: what it was sent was conflated against that."""


class _Listening:
    """Goes through one session's messages, and holds each against the truth."""

    def __init__(self, session: Session, epoch: str, truth: _Truth, view: _View) -> None:
        self._session = session
        self._epoch = epoch
        self._truth = truth
        self._view = view
        self._rows = view.rows
        self._all = session.delivery == "all"
        self._sent: set[int] = set()
        self._last = 0
        self._in_snapshot = False
        self._telling: tuple[str, ...] = ()
        """The channels whose rows may come."""
        self._last_row = 0
        self._proven: dict[str, int | None] = {}
        """Channel to where all was sent or excused; None until its snapshot is complete."""
        self._since = 0
        """From here on it is known what each channel had to tell."""
        self._excused = 0
        self._gaps: list[tuple[str, int, int]] = []
        self._conflated: list[tuple[int, int, int | None]] = []
        self._missing: dict[int, int] = {}
        """What was not sent when a position that covers it was: seq to that position."""
        self._flaws: list[Flaw] = []

    def flaws(self, messages: Sequence[Message], *, least_head: int) -> list[Flaw]:
        truth, start = self._truth, self._session.start
        if start == "earliest":
            self._proven = dict.fromkeys(truth.seqs, 0)
            self._excused = max(truth.kept.floors.values(), default=0)
        for body, _, position in messages:
            if body["type"] == "welcome":
                self._view.horizon = max(self._view.horizon, number(body["head"]))
            match body["type"]:
                case "welcome" if number(body["head"]) < least_head:
                    what = f"the head, but {least_head} had been acknowledged"
                    self._flaw("stale", number(body["head"]), what)
                case "snapshot":
                    self._reset(body)
                case "resume":
                    self._resume(body)
                case "event":
                    self._event(body)
                case "gap":
                    self._gap(body)
                case "conflated":
                    said = body["fromSeq"], body["toSeq"], body.get("count")
                    self._conflated.append(said)
                case "live":
                    self._live(number(body["position"]))
                case _:
                    pass
            if position:
                self._view.horizon = max(self._view.horizon, number(position))
                self._position(position)
        if self._session.settled:
            self._prove(truth.kept.head)
            self._holds(truth.kept.head, self._view.channels)
        self._judge_missing()
        self._judge_excuses()
        return self._flaws

    def _flaw(self, kind: Kind, seq: int, what: str) -> None:
        self._flaws.append(Flaw(kind, seq, what, self._session.subscriber))

    def _reset(self, body: Event) -> None:
        epoch, _, seq = self._session.start.rpartition(":")
        honest = {
            "EPOCH_CHANGED": epoch != self._epoch,
            "POSITION_UNKNOWN": not epoch or int(seq) > 0,
        }
        if not honest.get(body["reason"], True):
            self._flaw("untrue", 0, f"a reset of {self._session.start}: {body}")
        self._in_snapshot, self._telling, self._last_row = True, tuple(body["channels"]), 0
        for name in body["channels"]:
            self._proven[name] = None
            self._view.channels.add(name)
        for row in [row for row in self._rows if row[0] in body["channels"]]:
            del self._rows[row]

    def _resume(self, body: Event) -> None:
        asked = self._session.start
        if body["from"] != (f"{self._epoch}:0" if asked == "earliest" else asked):
            self._flaw("untrue", number(body["from"]), f"a resume, {asked} was asked for")
        self._in_snapshot, self._telling, self._last = False, (), number(body["from"])
        for name in body["channels"]:
            self._proven[name] = self._last
            if asked == "earliest":
                self._view.channels.add(name)
        self._since = max(self._since, self._last)

    def _event(self, event: Event) -> None:
        seq = event["seq"]
        if not self._session.wants(event):
            self._flaw("phantom", seq, f"not asked for: {event}")
        if self._is_row(event):
            self._last_row = seq
        else:
            if seq <= self._last:
                again = (self._epoch, seq) in self._view.reported
                kind: Kind = "repeated" if again else "reordered"
                if seq not in self._missing:
                    self._flaw(kind, seq, f"after {self._last}")
            self._last = max(self._last, seq)
            self._view.reported.add((self._epoch, seq))
        self._sent.add(seq)
        if event["op"] == "upsert":
            self._rows[row_of(event)] = seq
        else:
            self._rows.pop(row_of(event), None)

    def _is_row(self, event: Event) -> bool:
        """Rows rise, and end at what can't be one: then the others go on where they were."""
        if event["channel"] not in self._telling or event["seq"] <= self._last_row:
            self._telling = ()
        return bool(self._telling)

    def _gap(self, body: Event) -> None:
        said = body["channel"], body["fromSeq"], body["toSeq"]
        if not self._all or said[1] <= (self._proven.get(said[0]) or 0):
            self._flaw("untrue", said[1], f"out of place: {body}")
        self._gaps.append(said)

    def _live(self, seq: int) -> None:
        fresh = {name for name, proven in self._proven.items() if proven is None}
        if fresh:
            self._since = seq
        for name in fresh:
            self._proven[name] = seq
        if self._session.start == "live" and not self._proven:
            self._proven = dict.fromkeys(self._truth.seqs, seq)
        if self._truth.whole:
            self._holds(seq, self._view.channels, up_to_date=seq >= self._view.horizon)
        self._in_snapshot, self._telling, self._last = False, (), max(self._last, seq)

    def _position(self, position: str) -> None:
        epoch, _, seq = position.rpartition(":")
        if epoch != self._epoch or int(seq) > self._truth.kept.head:
            self._flaw("ahead", int(seq), f"{position}, nothing of it was committed")
        if not self._in_snapshot:
            self._prove(int(seq))

    def _prove(self, upto: int) -> None:
        """All that was asked for up to here should have been sent."""
        for name, after in self._proven.items():
            if after is None or after >= upto:
                continue
            for seq in self._truth.between(name, after, upto):
                if seq in self._sent or not self._session.wants(self._truth.events[seq]):
                    continue
                if not self._excuse(name, seq):
                    self._missing.setdefault(seq, upto)
            self._proven[name] = upto

    def _excuse(self, channel: str, seq: int) -> bool:
        there = seq in self._truth.has
        if seq <= self._excused and not there:
            return True
        if self._all:
            return not there and any(
                name == channel and first <= seq <= last for name, first, last in self._gaps
            )
        return self._truth.conflatable(seq) and any(
            first <= seq <= last for first, last, _ in self._conflated
        )

    def _judge_missing(self) -> None:
        for seq, upto in self._missing.items():
            event = self._truth.events[seq]
            if seq in self._sent:
                self._flaw("ahead", seq, f"sent after the position {upto}: {event}")
            elif not self._all and self._truth.conflatable(seq):
                self._flaw("silent", seq, f"left out up to {upto} without a word: {event}")
            else:
                self._flaw("lost", seq, f"not sent up to {upto}: {event}")

    def _judge_excuses(self) -> None:
        """What was said to be missing is missing, and just so many."""
        truth = self._truth
        for name, first, last in self._gaps:
            known = truth.between(name, first - 1, last)
            if truth.whole and all(seq in self._sent for seq in known):
                self._flaw("untrue", first, f"a gap of {name} to {last} where nothing is missing")
        upto = min((proven or 0 for proven in self._proven.values()), default=0)
        for first, last, count in self._conflated:
            left_out = [
                seq
                for name in self._proven
                for seq in truth.between(name, first - 1, last)
                if seq not in self._sent and self._session.wants(truth.events[seq])
            ]
            # Not of one that was cut before all of the batch had come.
            known = truth.whole and first > self._since and last <= upto
            if self._all or (known and count not in (None, len(left_out))):
                what = f"{count} conflated up to {last}, but it is {left_out[:9]}"
                self._flaw("untrue", first, what)

    def _holds(self, seq: int, channels: set[str], *, up_to_date: bool = True) -> None:
        """The rows that it holds of some channels are those that there are at `seq`.

        One that was cut in a conflated catch-up, and came to a node that is behind the one before,
        lacks rows that were left out for the sake of states which this node does not have yet: they
        change later."""
        there = {
            row: at
            for row, at in self._truth.rows_at(seq).items()
            if row[0] in channels and self._session.wants(self._truth.events[at])
        }
        held = {row: at for row, at in self._rows.items() if row[0] in channels}
        for row in sorted(there.keys() | held.keys()):
            changes = not up_to_date and self._truth.changes_after(row, seq)
            if there.get(row) != held.get(row) and not changes:
                what = f"holds {row} as of {held.get(row)}, at {seq} it is of {there.get(row)}"
                self._flaw("stale", there.get(row, seq), what)
