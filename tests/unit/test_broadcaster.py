"""The laws of the wire contract, sections 3, 4, 6 and 8, through attach, change, stall and resume.

`World` drives a broadcaster on a virtual clock; a `Line` is one connection, whose every write is
held against the laws at the moment of the write, and whose bytes fold into a client's rows.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st

from fakes import (
    CHANGES,
    EPOCH,
    NAMES,
    Change,
    FakeJournal,
    FakeSink,
    Ledger,
    Told,
    VirtualLoop,
    commit,
    selections,
    told_by,
    told_event,
)
from telecast.channels.catalogue import CHANNELS
from telecast.errors import JournalCorrupt, JournalUnavailable, TelecastError
from telecast.fanout import backfill, broadcaster, cohort
from telecast.fanout import tape as tape_module
from telecast.fanout.backfill import JournalFloor
from telecast.fanout.broadcaster import Broadcaster
from telecast.fanout.selection import Selection
from telecast.fanout.subscriber import State, Subscriber
from telecast.fanout.tape import Tape
from telecast.model import Entry, Position, Row
from telecast.protocol import messages
from telecast.protocol.commands import Origin, Start
from telecast.protocol.framing import SSE, WS, Door

EVERYTHING = Selection(dict.fromkeys(NAMES, ()))
MARKET = Selection({"market-data": ()})


@pytest.fixture(autouse=True, scope="module")
def small_bounds() -> Iterator[None]:
    """Chunks, pieces, slices and pages so small that a few events fill them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tape_module, "SLACK", 2)
        patch.setattr(backfill, "CHUNK_BYTES", 600)
        patch.setattr(cohort, "PIECE_BYTES", 500)
        patch.setattr(cohort, "SLICE_MEMBERS", 2)
        patch.setattr(broadcaster, "FETCH_ENTRIES", 4)
        yield


# --- one connection


@dataclass(slots=True)
class Held:
    """What a client of a position holds."""

    position: Position
    selection: Selection
    rows: dict[tuple[str, str], Row]


class Line:
    """One connection: the laws on what is written, and the client that reads what is accepted."""

    def __init__(
        self,
        world: World,
        door: Door,
        selection: Selection,
        start: Start,
        *,
        delivery: Any = "conflated",
        max_rate: float | None = None,
        held: Held | None = None,
        heartbeat: float = 5.0,
        expects_life: bool = False,
        cost: float = 0.0,
    ) -> None:
        self.world = world
        self.sink = FakeSink(world.loop, watch=self._check, cost=cost)
        self.subscriber = Subscriber(
            connection_id=f"c{len(world.lines)}",
            door=door,
            sink=self.sink,
            selection=selection,
            delivery=delivery,
            max_rate=max_rate,
            heartbeat=heartbeat,
            expects_life=expects_life,
        )
        self.told: list[Told] = []
        # What the laws remember.
        self.at: dict[str, int | None] = dict.fromkeys(selection.channels)
        self.rows_until: dict[str, int] = {}
        self.last_row = 0
        self.last_event = 0
        self.last_position = -1
        self.conflated: list[tuple[int, int]] = []
        self.gaps: list[tuple[str, int, int]] = []
        self.there_at_gap: list[set[int]] = []
        self.start = start
        self.lost_before: set[int] = set()
        # What the client remembers.
        self.read = 0
        self.rows = dict(held.rows) if held is not None else {}
        self.in_snapshot = False
        self.safe: list[Held] = []
        self.whole = start.origin is not Origin.LIVE
        if start.origin is Origin.LIVE:
            self.at = dict.fromkeys(selection.channels, world.tape.head)
        elif start.origin is Origin.EARLIEST:
            self.lost_before = world.lost(delivery)
        world.lines.append(self)
        world.broadcaster.attach(self.subscriber, start)

    @property
    def selection(self) -> Selection:
        return self.subscriber.selection

    @property
    def open(self) -> bool:
        return self.subscriber.state is not State.CLOSED

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [told.body for told in self.told if told.type == kind]

    # the laws, at each write

    def _check(self, data: bytes) -> None:
        base = len(self.sink.written)
        for told in told_by(self.subscriber.door.name, data):
            self.told.append(Told(told.body, told.json, told.id, base + told.end))
            getattr(self, f"_on_{told.type}", lambda told: None)(told)

    def _on_snapshot(self, told: Told) -> None:
        assert told.id is None
        assert told.body["channels"], "a snapshot of nothing"
        head = self.world.tape.head
        for name in told.body["channels"]:
            assert name in self.selection
            self.at[name] = self.rows_until[name] = head
        self.last_row = 0

    def _on_resume(self, told: Told) -> None:
        assert told.id is None
        self.rows_until.clear()
        start = Position.parse(told.body["from"])
        for name in told.body["channels"]:
            assert self.at[name] is None, "resumed once"
            self.at[name] = start.seq

    def _on_event(self, told: Told) -> None:
        entry = self.world.by_seq[told.body["seq"]]
        assert told.json == told_event(entry).json, "the same bytes for every client"
        assert self.selection.wants(told_event(entry))
        name = entry.channel
        if entry.seq <= self.rows_until.get(name, -1):
            assert told.id is None, "a row's position proves nothing"
            row = self.world.tape.row(name, entry.key)
            assert row is not None
            assert row.seq == entry.seq, "a row that is not the newest"
            assert entry.seq > self.last_row, "rows rise, and none comes twice"
            self.last_row = entry.seq
            return
        self.rows_until.clear()
        if self.subscriber.door is SSE:
            assert told.id == f"{EPOCH}:{entry.seq}"
        assert entry.seq > self.last_event, "strictly rising, nothing twice"
        self.last_event = entry.seq
        self._all_told(name, entry.seq - 1)
        for (channel, first, last), there in zip(self.gaps, self.there_at_gap, strict=True):
            if channel == name and first <= entry.seq <= last:
                assert entry.seq in there, "a false gap: what was said to be gone came after it"
        self.at[name] = entry.seq

    def _on_conflated(self, told: Told) -> None:
        self.rows_until.clear()
        assert self.subscriber.delivery == "conflated"
        first, last = told.body["fromSeq"], told.body["toSeq"]
        assert first <= last <= self.world.tape.head
        assert first > self.last_event, "of the past nothing more is left out"
        self.conflated.append((first, last))

    def _on_gap(self, told: Told) -> None:
        self.rows_until.clear()
        assert self.subscriber.delivery == "all"
        name, first, last = told.body["channel"], told.body["fromSeq"], told.body["toSeq"]
        assert first <= last
        at = self.at[name]
        assert at is not None
        assert first > at, "a gap in what was told already"
        assert last in self.world.journal.gone, "a gap where nothing is missing"
        assert not any(
            channel == name and first <= to for channel, _, to in self.gaps
        ), "the same gap twice"
        there = {entry.seq for entry in self.world.journal.entries}
        there |= {event.seq for event in self.world.tape.logs[name].since(0)}
        self.gaps.append((name, first, last))
        self.there_at_gap.append(there)

    def _on_live(self, told: Told) -> None:
        self._position(told)

    def _on_heartbeat(self, told: Told) -> None:
        self._position(told)

    def _position(self, told: Told) -> None:
        position = Position.parse(told.body["position"])
        if self.subscriber.door is SSE:
            assert told.id == told.body["position"]
        assert position.epoch == EPOCH
        assert position.seq <= self.world.tape.head, "ahead of what there is"
        assert position.seq >= self.last_position, "a position that goes back"
        self.last_position = position.seq
        self.rows_until.clear()
        for name in self.selection.channels:
            if self.at[name] is not None:
                self._all_told(name, position.seq)
                self.at[name] = max(self.at[name] or 0, position.seq)
            else:
                # Before the first word of a resume: its own position, and nothing beyond.
                assert self.start.position == position or self.start.origin is Origin.EARLIEST

    def _all_told(self, name: str, upto: int) -> None:
        """Nothing of a channel up to here is missing without a word."""
        after = self.at[name]
        assert after is not None, "an event of a channel that was neither told nor resumed"
        for entry in self.world.between(after, upto):
            if entry.channel == name and self.selection.wants(told_event(entry)):
                assert self._excused(entry), f"{entry} is missing without a word"

    def _excused(self, entry: Entry) -> bool:
        if entry.seq in self.lost_before:
            return True
        if self.subscriber.delivery == "all":
            return entry.seq in self.world.journal.gone and any(
                name == entry.channel and first <= entry.seq <= last
                for name, first, last in self.gaps
            )
        return (
            not entry.pinned
            and any(first <= entry.seq <= last for first, last in self.conflated)
            and self.world.newest[entry.channel, entry.key] > entry.seq
        )

    def all_told(self) -> None:
        """At rest: everything there is was told."""
        for name in self.selection.channels:
            self._all_told(name, self.world.tape.head)

    # the client, of what the kernel accepted

    def catch_up(self) -> None:
        """Read what has arrived."""
        while self.read < len(self.told) and self.told[self.read].end <= self.sink.accepted:
            told = self.told[self.read]
            self.read += 1
            self._read(told)

    def _read(self, told: Told) -> None:
        body = told.body
        proven = told.id if self.subscriber.door is SSE else body.get("position")
        match body["type"]:
            case "snapshot":
                self.in_snapshot = True
                gone = set(body["channels"])
                self.rows = {k: row for k, row in self.rows.items() if k[0] not in gone}
            case "live":
                self.in_snapshot = False
            case "event":
                where = (body["channel"], body["key"])
                if body["op"] == "delete":
                    self.rows.pop(where, None)
                else:
                    self.rows[where] = body["data"]
                if self.subscriber.door is WS and not self.in_snapshot:
                    # Without an id on it, a row of a snapshot looks like any event.
                    proven = f"{EPOCH}:{body['seq']}"
        if proven is not None and self.whole:
            self.safe.append(Held(Position.parse(proven), self.selection, dict(self.rows)))

    def holds_all(self) -> None:
        """The rows that a client of this selection must hold, no ghost among them."""
        mine = {k: row for k, row in self.rows.items() if k[0] in self.selection}
        assert mine == self.world.ledger.state(self.selection)


# --- the service around them


@dataclass
class World:
    most_events: int = 6
    most_bytes: int = 100_000
    scan: int = 5
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    lines: list[Line] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    by_seq: dict[int, Entry] = field(default_factory=dict)
    newest: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.journal = FakeJournal(self.loop)
        self.tape = Tape(CHANNELS, most_events=self.most_events, most_bytes=self.most_bytes)
        self.tape.read = partial(self.tape.read, scan=self.scan)  # type: ignore[method-assign]
        self.broadcaster = Broadcaster(
            self.tape,
            EPOCH,
            scheduler=self.loop,
            now=lambda: int(self.loop.time() * 1000),
            journal_floor=self._floor,
            journal=self.journal,
        )

    def _floor(self, name: str) -> JournalFloor:
        floor = self.journal.floors[name]
        return JournalFloor(floor.whole_from, floor.compact_from)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.run_until_complete(self.broadcaster.close())
        self.loop.turn()
        self.loop.close()

    def commit(self, *changes: Change) -> list[Entry]:
        entries = commit(self.ledger, changes)
        for entry in entries:
            self.by_seq[entry.seq] = entry
            self.newest[entry.channel, entry.key] = entry.seq
        self.journal.commit(entries)
        self.broadcaster.hear([self.tape.event(entry) for entry in entries])
        return entries

    def between(self, after: int, upto: int) -> Iterator[Entry]:
        for entry in reversed(self.ledger.history):
            if entry.seq <= after:
                return
            if entry.seq <= upto:
                yield entry

    def lost(self, delivery: str) -> set[int]:
        """What not even EARLIEST can be told."""
        there = {event.seq for log in self.tape.logs.values() for event in log.since(0)}
        if delivery == "all":
            there |= {entry.seq for entry in self.journal.entries}
        return set(self.by_seq) - there

    def line(self, door: Door = WS, selection: Selection = EVERYTHING, **how: Any) -> Line:
        start = how.pop("start", Start(Origin.SNAPSHOT))
        return Line(self, door, selection, start, **how)

    def resume(self, held: Held, door: Door, **how: Any) -> Line:
        start = Start(Origin.POSITION, held.position)
        return Line(self, door, held.selection, start, held=held, **how)

    def change(self, line: Line, selection: Selection) -> None:
        line.catch_up()
        fresh = selection.changed_since(line.selection)
        line.at = {name: line.at.get(name) for name in selection.channels} | dict.fromkeys(fresh)
        line.rows_until.clear()
        self.broadcaster.change(line.subscriber, selection)

    def rest(self) -> None:
        """Let everything go on until nothing is left to do."""
        self.journal.held = False
        self.journal.let_go()
        for line in self.lines:
            line.sink.drain()
        self.loop.run_for(6.0)

    def check_at_rest(self) -> None:
        self.rest()
        for line in self.lines:
            line.catch_up()
            assert line.sink.fault is None or line.sink.fault.code == "NO_PROGRESS"
            if not line.open:
                continue
            assert line.subscriber.state is State.LIVE
            assert self.broadcaster.position(line.subscriber) == self.broadcaster.head
            line.all_told()
            if line.whole:
                line.holds_all()

    def check_empty(self) -> None:
        for line in self.lines:
            self.broadcaster.detach(line.subscriber)
        self.loop.run_for(0.1)
        own = self.broadcaster
        assert not own.subscribers
        assert not own._cohorts
        assert not own._dirty
        assert not own._ready
        assert not own._ahead
        assert len(own._index) == 0


# --- any schedule


@dataclass(frozen=True, slots=True)
class Act:
    """Something that happens to a world; hypothesis shows it as its name and what was drawn."""

    name: str
    do: Callable[..., None] = field(repr=False)
    drawn: tuple[Any, ...] = ()


DOORS = st.sampled_from((WS, SSE))
SECONDS = st.sampled_from((0.0, 0.001, 0.03, 0.3, 2.5, 5.0))


def _pick(world: World, number: int) -> Line | None:
    alive = [line for line in world.lines if line.open]
    return alive[number % len(alive)] if alive else None


def _commit(world: World, changes: list[Change]) -> None:
    world.commit(*changes)


def _run(world: World, seconds: float) -> None:
    world.loop.run_for(seconds)


def _turn(world: World) -> None:
    world.loop.turn()


def _connect(
    world: World, door: Door, selection: Selection, how: tuple[str, float | None], origin: str
) -> None:
    delivery, rate = how
    start = {
        "snapshot": Start(Origin.SNAPSHOT),
        "live": Start(Origin.LIVE),
        "earliest": Start(Origin.EARLIEST),
        "malformed": Start(Origin.MALFORMED),
        "epoch": Start(Origin.POSITION, Position("zzzz", 5)),
        "ahead": Start(Origin.POSITION, Position(EPOCH, world.ledger.seq + 3)),
    }[origin]
    line = world.line(door, selection, start=start, delivery=delivery, max_rate=rate)
    if origin == "ahead":
        # Nothing is known of what such a client holds: only that it is told a start.
        line.whole = False


def _resume(
    world: World, number: int, back: int, door: Door, how: tuple[str, float | None]
) -> None:
    """Drop a client, and come back with any position that it was ever told."""
    line = _pick(world, number)
    if line is None:
        return
    line.catch_up()
    world.broadcaster.detach(line.subscriber)
    if line.safe:
        held = line.safe[-1 - back % len(line.safe)]
        world.resume(held, door, delivery=how[0], max_rate=how[1])
        note("resumed")


def _come_back(world: World, number: int, door: Door) -> None:
    """Drop a client in whatever state it is, and come back with the last position it was told."""
    line = _pick(world, number)
    if line is None:
        return
    line.catch_up()
    world.broadcaster.detach(line.subscriber)
    if line.safe and line.safe[-1].selection == line.selection:
        last = line.safe[-1]
        world.resume(Held(last.position, last.selection, line.rows), door)


def _stall(world: World, number: int) -> None:
    if (line := _pick(world, number)) is not None:
        line.sink.stall()


def _drain(world: World, number: int) -> None:
    if (line := _pick(world, number)) is not None:
        line.sink.drain()


def _accept(world: World, number: int, size: int) -> None:
    if (line := _pick(world, number)) is not None:
        line.sink.accept(size)


def _change(world: World, number: int, selection: Selection) -> None:
    if (line := _pick(world, number)) is not None:
        # A client without rows may learn them channel by channel; the old ones stay unknown.
        world.change(line, selection)


def _trim(world: World, channel: int, share: int) -> None:
    world.journal.trim(NAMES[channel], world.ledger.seq * share // 4)


def _hold(world: World) -> None:
    world.journal.held = True


def _let_go(world: World) -> None:
    world.journal.held = False
    world.journal.let_go()


def _heartbeat(world: World, number: int) -> None:
    if (line := _pick(world, number)) is not None:
        world.broadcaster.heartbeat(line.subscriber)


def act(function: Callable[..., None], *drawn: st.SearchStrategy[Any]) -> st.SearchStrategy[Act]:
    return st.builds(Act, st.just(function.__name__), st.just(function), st.tuples(*drawn))


HOW = st.sampled_from((("conflated", None), ("conflated", None), ("all", None), ("conflated", 2.0)))
SOME = st.integers(0, 3)
ORIGINS = st.sampled_from(
    ("snapshot", "snapshot", "live", "earliest", "earliest", "malformed", "epoch", "ahead")
)
COMMIT = act(_commit, st.lists(CHANGES, min_size=1, max_size=12))
CONNECT = act(_connect, DOORS, selections(least=0), HOW, ORIGINS)
ACTS = st.one_of(
    COMMIT,
    COMMIT,
    CONNECT,
    act(_run, SECONDS),
    act(_turn),
    act(_turn),
    act(_stall, SOME),
    act(_stall, SOME),
    act(_drain, SOME),
    act(_accept, SOME, st.integers(1, 900)),
    act(_resume, SOME, st.integers(0, 20), DOORS, HOW),
    act(_come_back, SOME, DOORS),
    act(_change, SOME, selections(least=0)),
    act(_trim, SOME, st.integers(1, 4)),
    act(_hold),
    act(_let_go),
    act(_heartbeat, SOME),
)


@given(
    st.integers(1, 12),
    st.lists(CHANGES, min_size=5, max_size=40),
    st.lists(CONNECT, min_size=1, max_size=3),
    st.lists(ACTS, min_size=12, max_size=60),
)
def test_any_schedule_keeps_the_laws(
    most_events: int, before: list[Change], connects: list[Act], acts: list[Act]
) -> None:
    with World(most_events=most_events) as world:
        world.commit(*before)
        for one in (*connects, *acts):
            one.do(world, *one.drawn)
        world.check_at_rest()
        world.check_empty()
