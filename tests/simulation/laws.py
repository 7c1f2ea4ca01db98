"""What a server may write to one connection: the wire contract, sections 3, 4 and 6.

Held at the moment of each write, when it is known what there was to tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telecast.model import Position
from telecast.protocol.commands import Origin, Start
from telecast.tape.selection import Selection
from tests.simulation.truth import reported

if TYPE_CHECKING:
    from tests.simulation.world import World

NOTHING = Selection()


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """One message; `id` only at SSE. `end` counts the connection's bytes up to its last."""

    body: dict[str, Any]
    json: bytes
    id: str | None
    end: int
    selection: Selection
    row: bool = False
    """An event that is a row of a snapshot."""


@dataclass(slots=True)
class _Conflated:
    """A `conflated`: what it says, and how much of it was found."""

    first: int
    last: int
    count: int | None
    found: int = 0


class Laws:
    def __init__(self, world: World, transport: str, delivery: str, key_id: str) -> None:
        self.selection = NOTHING
        self.start: Start | None = None
        self.events = 0
        self.seen: Counter[str] = Counter()
        self._world, self._transport, self._delivery, self._key_id = (
            world,
            transport,
            delivery,
            key_id,
        )
        self._at: dict[str, int | None] = {}
        """Channel to the position up to which nothing is missing; None: nothing is known yet."""
        self._rows_until: dict[str, int] = {}
        self._rows: set[int] = set()
        self._last_row = self._last_event = 0
        self._last_position = -1
        self._conflated: list[_Conflated] = []
        self._gaps: list[tuple[str, int, int]] = []
        self._lost_before: set[int] = set()
        self._floors: dict[str, int] = {}
        """From `earliest`: up to where nothing was whole any more when it began."""
        self._silent = False
        """From `earliest`: until the first event. What is gone by then is not missed."""

    # --- what the broadcaster was asked for

    def attached(self, selection: Selection, start: Start) -> None:
        self.selection = selection
        self._begin(start)

    def changed(
        self, selection: Selection, fresh: tuple[str, ...] | None, start: Start | None
    ) -> None:
        # A snapshot that is under way begins anew; one whose rows were all sent does not.
        unfinished = tuple(self._rows_until) if any(self._rows_missing()) else ()
        before, self.selection = self.selection, selection
        self._count_no_more()  # it was counted by the selection of that time
        if start is not None:
            self._begin(start)
            return
        if fresh is None:
            fresh = tuple(
                name
                for name in selection.channels
                if name not in before or before.filter(name) != selection.filter(name)
            )
        fresh += unfinished
        self._rows_until.clear()
        self._at = {name: None if name in fresh else self._at[name] for name in selection.channels}

    def _count_no_more(self) -> None:
        for conflated in self._conflated:
            conflated.count = None

    def _begin(self, start: Start) -> None:
        self.start = start
        at = self._world.tape.head if start.origin is Origin.LIVE else None
        self._at = dict.fromkeys(self.selection.channels, at)
        self._silent = start.origin is Origin.EARLIEST

    def _note_what_is_gone(self) -> None:
        world = self._world
        there = world.on_tape()
        if self._delivery == "all":
            there |= world.in_journal()
        tape, journal = world.tape.logs, world.journal.inner.floors()
        for name in self.selection.channels:
            if not self._at[name]:
                self._floors[name] = min(tape[name].whole_from, journal[name].whole_from)
                self._lost_before |= set(world.truth.between(name, 0, world.tape.head)) - there

    # --- what is written

    def take_in(
        self, body: dict[str, Any], json: bytes, sent_id: str | None, end: int
    ) -> ServerMessage:
        kind = body["type"]
        self.seen[kind] += 1
        row = False
        if self._silent:
            self._note_what_is_gone()
        match kind:
            case "snapshot":
                self._on_snapshot(body, sent_id)
            case "resume":
                self._on_resume(body, sent_id)
            case "event":
                row = self._on_event(body, json, sent_id)
            case "conflated":
                self._on_conflated(body)
            case "gap":
                self._on_gap(body)
            case "live" | "heartbeat":
                self._rows_end()
                self._on_position(body, sent_id)
            case "welcome":
                assert Position.parse(body["head"]).seq == self._world.tape.head
            case "ack" | "error" | "notice" | "stale" | "fresh":
                assert sent_id is None
            case _:
                raise AssertionError(f"no message is called {kind}")
        return ServerMessage(body, json, sent_id, end, self.selection, row)

    def _on_snapshot(self, body: dict[str, Any], sent_id: str | None) -> None:
        self._rows_end()
        assert sent_id == ("" if self._transport == "sse" else None), (
            "it empties what was earned before"
        )
        assert body["channels"], "a snapshot of nothing"
        if body["reason"] == "POSITION_EXPIRED":
            # A filter may have passed over events before what came next was lost.
            begun = [
                name for name in body["channels"] if self._at[name] or self.selection.filter(name)
            ]
            assert not self._silent or begun == body["channels"], "nothing to expire"
            self._expired_honestly(body["channels"])
        if body["reason"] == "POSITION_UNKNOWN":
            assert self.start is not None
            assert self.start.position is not None
            assert self._world.was_ahead(self.start.position.seq), "the position is known"
        if body["reason"] == "RIGHTS_CHANGED":
            assert self.start is not None
            assert set(body["channels"]) <= set(self.start.anew), "its rights are the same"
            assert self._world.counts["rights"], "nobody's rights have changed"
        for name in body["channels"]:
            assert name in self.selection, "a snapshot of what is not selected"
            self._at[name] = self._rows_until[name] = self._world.tape.head
        self._count_no_more()
        self._rows.clear()
        self._last_row = 0
        self.seen[body["reason"]] += 1

    def _expired_honestly(self, names: list[str]) -> None:
        """Something pinned, or a tombstone, is gone that came after where the client stands.

        With delivery=all, gone from the tape or from the journal: no more is known of the two.
        """
        truth, there = self._world.truth, self._world.on_tape()
        if self._delivery == "all":
            there &= self._world.in_journal()
        for name in names:
            after = self._at[name]
            if after is None:
                assert self.start is not None
                known = self.start.position
                after = 0 if known is None else known.seq
            gone = [n for n in truth.between(name, after, truth.head) if n not in there]
            assert any(truth[n].pinned or truth[n].op == "delete" for n in gone), (
                f"{name} was said to have expired after {after}, and all that lasts is there"
            )

    def _rows_missing(self) -> Iterator[int]:
        """Rows of a snapshot that lived when it began, live still, and were not sent."""
        truth, head = self._world.truth, self._world.tape.head
        for name, upto in self._rows_until.items():
            for seq in truth.live(self.selection, [name], upto):
                if seq not in self._rows and truth.next[seq] > head:
                    yield seq

    def _rows_end(self) -> None:
        missing = list(self._rows_missing())
        assert not missing, f"rows {missing} were not sent"
        self._rows_until.clear()

    def _on_resume(self, body: dict[str, Any], sent_id: str | None) -> None:
        self._rows_end()
        assert sent_id is None
        start = Position.parse(body["from"])
        assert self.start is not None
        earliest = self.start.origin is Origin.EARLIEST and start.seq == 0
        assert start == self.start.position or earliest
        for name in body["channels"]:
            assert self._at[name] is None, "resumed once"
            self._at[name] = start.seq

    def _on_event(self, body: dict[str, Any], json: bytes, sent_id: str | None) -> bool:
        world, seq, name = self._world, body["seq"], body["channel"]
        self.events += 1
        assert seq <= world.tape.head, "sent before it is committed here"
        assert reported(world.truth[seq], body, world.truth.row(seq)), "not what was committed"
        assert world.bytes_of.setdefault(seq, json) == json, "the same bytes for every client"
        assert world.truth.wanted(self.selection, seq), "what was not asked for"
        world.may_see(self._key_id, seq)
        if seq <= self._rows_until.get(name, -1):
            assert sent_id is None, "a row's position proves nothing"
            assert body["op"] == "upsert"
            assert world.truth.next[seq] > world.tape.head, "a row that is not the newest"
            assert seq > self._last_row, "rows rise, and none comes twice"
            self._last_row = seq
            self._rows.add(seq)
            return True
        self._rows_end()
        assert sent_id == (f"{world.epoch}:{seq}" if self._transport == "sse" else None)
        assert seq > self._last_event, "strictly rising, nothing twice"
        self._last_event = seq
        self._silent = False
        self._all_sent(name, seq - 1)
        self._at[name] = seq
        return False

    def _on_conflated(self, body: dict[str, Any]) -> None:
        self._rows_end()
        assert self._delivery == "conflated"
        conflated = _Conflated(body["fromSeq"], body["toSeq"], body.get("count"))
        assert conflated.first <= conflated.last <= self._world.tape.head
        assert conflated.first > self._last_event, "of the past nothing more is left out"
        before = self._conflated[-1].last if self._conflated else 0
        assert conflated.first > before, "conflated twice"
        assert conflated.count is None or conflated.count > 0
        self._conflated.append(conflated)

    def _on_gap(self, body: dict[str, Any]) -> None:
        self._rows_end()
        assert self._delivery == "all"
        name, first, last = body["channel"], body["fromSeq"], body["toSeq"]
        assert first <= last <= self._world.tape.head
        at = self._at[name]
        assert at is not None
        assert first > at, "a gap in what was sent already"
        assert at or not self._silent, "a gap in what nobody was promised"
        assert not any(channel == name and first <= to for channel, _, to in self._gaps), (
            "the same gap twice"
        )
        assert last in self._world.truth.of[name], "the end of a gap is an event"
        assert last not in self._world.on_tape(), "a gap where nothing is missing"
        assert last in self._world.truth.gone or self._world.leftover(last), "a false gap"
        self._gaps.append((name, first, last))

    def _on_position(self, body: dict[str, Any], sent_id: str | None) -> None:
        position = Position.parse(body["position"])
        assert sent_id == (body["position"] if self._transport == "sse" else None)
        assert position.epoch == self._world.epoch
        assert position.seq <= self._world.tape.head, "ahead of what there is"
        assert position.seq >= self._last_position, "a position that goes back"
        self._last_position = position.seq
        for name in self.selection.channels:
            at = self._at[name]
            if at is not None:
                self._all_sent(name, position.seq)
                self._at[name] = max(at, position.seq)
            else:
                # Before the first word of a resume: its own position, and nothing beyond.
                assert self.start is not None
                known = self.start.position
                assert position.seq == (0 if known is None else known.seq)
        for conflated in self._conflated:
            if conflated.last <= position.seq:
                assert conflated.count in (None, conflated.found), (
                    f"not as many as it said: {conflated}"
                )

    def _all_sent(self, name: str, upto: int) -> None:
        """Nothing of a channel up to here is missing without a word."""
        after = self._at[name]
        assert after is not None, "an event of a channel that was neither sent nor resumed"
        truth = self._world.truth
        for seq in truth.between(name, after, upto):
            if truth.wanted(self.selection, seq):
                assert self._excused(name, seq), f"{name} {seq} is missing without a word"

    def _excused(self, name: str, seq: int) -> bool:
        truth = self._world.truth
        if seq in self._lost_before:
            return True
        if self._delivery == "all":
            covered = any(
                channel == name and first <= seq <= last for channel, first, last in self._gaps
            )
            if seq <= self._floors.get(name, 0) and seq in truth.gone:
                # From `earliest` comes what is left: a row of long ago may go before it is read.
                return True
            return covered and (seq in truth.gone or self._world.leftover(seq))
        covers = [each for each in self._conflated if each.first <= seq <= each.last]
        for conflated in covers:
            conflated.found += 1
        superseded = truth.next[seq] <= self._world.tape.head
        return bool(covers) and superseded and not truth[seq].pinned

    def rest(self) -> None:
        """At rest: everything there is was sent."""
        self._rows_end()
        for name in self.selection.channels:
            self._all_sent(name, self._world.tape.head)
            self._at[name] = self._world.tape.head
