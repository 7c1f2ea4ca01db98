"""The laws of the wire contract, sections 3, 4, 6 and 8, through attach, change, stall and resume.

`World` drives a broadcaster on a virtual clock; a `Line` is one connection, whose every write is
held against the laws at the moment of the write, and whose bytes fold into a client's rows.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import event as note
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from telecast.channels.catalogue import CHANNELS
from telecast.errors import JournalCorrupt, JournalUnavailable, PeerFault, TelecastError
from telecast.fanout import backfill, cohort, fetcher, pending
from telecast.fanout.backfill import Backfill
from telecast.fanout.broadcaster import TURN, Broadcaster
from telecast.fanout.catchup import CatchUp
from telecast.fanout.delta import Stage
from telecast.fanout.subscriber import State, Subscriber
from telecast.model import Entry, Floor, Position, Row
from telecast.protocol import messages
from telecast.protocol.commands import Origin, Start
from telecast.protocol.framing import SSE, WS, Transport
from telecast.tape import compacted
from telecast.tape.chunks import leaves
from telecast.tape.selection import Selection
from telecast.tape.tape import Chunk, Tape
from tests.support.fakes import (
    CHANGES,
    EPOCH,
    NAMES,
    Change,
    FakeJournal,
    FakeSink,
    Ledger,
    ServerMessage,
    VirtualLoop,
    commit,
    event_of_entry,
    messages_in,
    selections,
)
from tests.support.fresh import FRESH, LINE

EVERYTHING = Selection(dict.fromkeys(NAMES, ()))
MARKET = Selection({"market-data": ()})


@pytest.fixture(autouse=True, scope="module")
def small_bounds() -> Iterator[None]:
    """Chunks, pieces, slices and pages so small that a few events fill them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compacted, "SLACK", 2)
        patch.setattr(backfill, "CHUNK_BYTES", 600)
        patch.setattr(cohort, "PIECE_BYTES", 500)
        patch.setattr(cohort, "SLICE_MEMBERS", 2)
        patch.setattr(pending, "RATED_ROWS", 3)
        patch.setattr(fetcher, "ENTRIES", 4)
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
        transport: Transport,
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
            transport=transport,
            sink=self.sink,
            selection=selection,
            delivery=delivery,
            max_rate=max_rate,
            heartbeat=heartbeat,
            expects_life=expects_life,
        )
        self.reported: list[ServerMessage] = []
        self.under: list[Selection] = []
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
        self.left_from: dict[str, int] = {}
        """From `earliest`: the journal's floors when the first event was sent."""
        # What the client remembers.
        self.read = 0
        self.rows = dict(held.rows) if held is not None else {}
        self.in_snapshot = False
        self.refining = False
        self.safe: list[Held] = []
        self.whole = start.origin is not Origin.LIVE
        if start.origin is Origin.LIVE:
            self.at = dict.fromkeys(selection.channels, world.tape.head)
        self.scanned = False
        """Whether what is written next are rows of a filter that changes."""
        self.switch: tuple[Selection, Selection | None] | None = None
        """What is written next was made under: the selection, and what has to want an event."""
        world.lines.append(self)
        world.broadcaster.attach(self.subscriber, start)

    @property
    def selection(self) -> Selection:
        return self.subscriber.selection if self.switch is None else self.switch[0]

    def wants(self, entry: Entry) -> bool:
        """Whether it is to be sent this as an event; what leaves is only named."""
        event = event_of_entry(entry)
        catchup = self.subscriber.catchup
        staying = None if catchup is None else catchup.staying
        if self.switch is not None:
            staying = self.switch[1]
        return self.selection.wants(event) and not leaves(event, staying)

    def step_over(self) -> None:
        """A step of a filter that changes begins: all before it was sent."""
        if self.switch is not None:
            self.all_sent()
            self.at = dict.fromkeys(self.selection.channels, self.world.tape.head)
            self.switch = None

    @property
    def open(self) -> bool:
        return self.subscriber.state is not State.CLOSED

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [reported.body for reported in self.reported if reported.type == kind]

    # the laws, at each write

    def _check(self, data: bytes) -> None:
        base = len(self.sink.written)
        if self.scanned:
            self.step_over()
        for reported in messages_in(self.subscriber.transport.name, data):
            self.reported.append(
                ServerMessage(reported.body, reported.json, reported.id, base + reported.end)
            )
            if reported.type == "live":
                self.step_over()
            self.under.append(self.selection)
            if self.start.origin is Origin.EARLIEST and not self.last_event:
                self.lost_before = self.world.lost(self.subscriber.delivery)
                floors = self.world.journal.floors
                self.left_from = {name: floors[name].whole_from for name in floors}
            getattr(self, f"_on_{reported.type}", lambda reported: None)(reported)
        self.step_over()
        self.scanned = False

    def _on_leave(self, reported: ServerMessage) -> None:
        assert reported.id is None
        assert reported.body["keys"]
        assert reported.body["channel"] in self.selection
        delta = self.subscriber.catchup.delta if self.subscriber.catchup else None
        assert delta is not None, "a row that leaves though no filter changes"

    def _on_snapshot(self, reported: ServerMessage) -> None:
        assert reported.id in (None, "")  # at SSE it empties what was earned before
        assert reported.body["channels"], "a snapshot of nothing"
        head = self.world.tape.head
        for name in reported.body["channels"]:
            assert name in self.selection
            self.at[name] = self.rows_until[name] = head
        self.last_row = 0

    def _on_resume(self, reported: ServerMessage) -> None:
        assert reported.id is None
        self.rows_until.clear()
        start = Position.parse(reported.body["from"])
        for name in reported.body["channels"]:
            assert self.at[name] is None, "resumed once"
            self.at[name] = start.seq

    def _on_event(self, reported: ServerMessage) -> None:
        entry = self.world.by_seq[reported.body["seq"]]
        assert reported.json == event_of_entry(entry).json, "the same bytes for every client"
        assert self.selection.wants(event_of_entry(entry))
        name = entry.channel
        if self.scanned:
            assert reported.id is None, "a row that comes in proves no position"
            row = self.world.tape.row(name, entry.key)
            assert row is not None
            assert row.seq == entry.seq, "a row that is not the newest"
            return
        if entry.seq <= self.rows_until.get(name, -1):
            assert reported.id is None, "a row's position proves nothing"
            row = self.world.tape.row(name, entry.key)
            assert row is not None
            assert row.seq == entry.seq, "a row that is not the newest"
            assert entry.seq > self.last_row, "rows rise, and none comes twice"
            self.last_row = entry.seq
            return
        self.rows_until.clear()
        if self.subscriber.transport is SSE:
            assert reported.id == f"{EPOCH}:{entry.seq}"
        assert entry.seq > self.last_event, "strictly rising, nothing twice"
        self.last_event = entry.seq
        self._all_sent(name, entry.seq - 1)
        for (channel, first, last), there in zip(self.gaps, self.there_at_gap, strict=True):
            if channel == name and first <= entry.seq <= last:
                assert entry.seq in there, "a false gap: what was said to be gone came after it"
        self.at[name] = entry.seq

    def _on_conflated(self, reported: ServerMessage) -> None:
        self.rows_until.clear()
        assert self.subscriber.delivery == "conflated"
        first, last = reported.body["fromSeq"], reported.body["toSeq"]
        assert first <= last <= self.world.tape.head
        assert first > self.last_event, "of the past nothing more is left out"
        assert first > (self.conflated[-1][1] if self.conflated else 0), "conflated twice"
        self.conflated.append((first, last))

    def _on_gap(self, reported: ServerMessage) -> None:
        self.rows_until.clear()
        assert self.subscriber.delivery == "all"
        name, first, last = (
            reported.body["channel"],
            reported.body["fromSeq"],
            reported.body["toSeq"],
        )
        assert first <= last
        at = self.at[name]
        assert at is not None
        assert first > at, "a gap in what was sent already"
        assert not any(channel == name and first <= to for channel, _, to in self.gaps), (
            "the same gap twice"
        )
        there = self.world.journal.lasting()
        there |= {event.seq for event in self.world.tape.logs[name].since(0)}
        assert last in self.world.by_seq, "the end of a gap is an event"
        assert last not in there, "a gap where nothing is missing"
        there |= {entry.seq for entry in self.world.journal.entries}
        self.gaps.append((name, first, last))
        self.there_at_gap.append(there)

    def _on_live(self, reported: ServerMessage) -> None:
        self._position(reported)

    def _on_heartbeat(self, reported: ServerMessage) -> None:
        self._position(reported)

    def _position(self, reported: ServerMessage) -> None:
        position = Position.parse(reported.body["position"])
        if self.subscriber.transport is SSE:
            assert reported.id == reported.body["position"]
        assert position.epoch == EPOCH
        assert position.seq <= self.world.tape.head, "ahead of what there is"
        assert position.seq >= self.last_position, "a position that goes back"
        self.last_position = position.seq
        self.rows_until.clear()
        for name in self.selection.channels:
            if self.at[name] is not None:
                self._all_sent(name, position.seq)
                self.at[name] = max(self.at[name] or 0, position.seq)
            else:
                # Before the first word of a resume: its own position, and nothing beyond.
                assert self.start.position == position or self.start.origin is Origin.EARLIEST

    def _all_sent(self, name: str, upto: int) -> None:
        """Nothing of a channel up to here is missing without a word."""
        after = self.at[name]
        assert after is not None, "an event of a channel that was neither sent nor resumed"
        for entry in self.world.between(after, upto):
            if entry.channel == name and self.wants(entry):
                assert self._excused(entry), f"{entry} is missing without a word"

    def _excused(self, entry: Entry) -> bool:
        if entry.seq in self.lost_before:
            return True
        if self.subscriber.delivery == "all":
            if entry.seq <= self.left_from.get(entry.channel, 0):
                # From `earliest` comes what is left: a row from before the floor, which has been
                # superseded, may go before it is read. What is still there is sent.
                return entry.seq in self.world.journal.gone
            return entry.seq in self.world.journal.gone and any(
                name == entry.channel and first <= entry.seq <= last
                for name, first, last in self.gaps
            )
        return (
            not entry.pinned
            and any(first <= entry.seq <= last for first, last in self.conflated)
            and self.world.newest[entry.channel, entry.key] > entry.seq
        )

    def all_sent(self) -> None:
        """At rest: everything there is was sent."""
        for name in self.selection.channels:
            self._all_sent(name, self.world.tape.head)

    # the client, of what the kernel accepted

    def catch_up(self) -> None:
        """Read what has arrived."""
        while self.read < len(self.reported) and self.reported[self.read].end <= self.sink.accepted:
            reported, selection = self.reported[self.read], self.under[self.read]
            self.read += 1
            self._read(reported, selection)

    def _read(self, reported: ServerMessage, selection: Selection) -> None:
        body = reported.body
        proven = (reported.id or None) if self.subscriber.transport is SSE else body.get("position")
        match body["type"]:
            case "snapshot":
                self.in_snapshot = True
                gone = set(body["channels"])
                self.rows = {k: row for k, row in self.rows.items() if k[0] not in gone}
            case "live":
                self.in_snapshot = self.refining = False
            case "leave":
                for key in body["keys"]:
                    self.rows.pop((body["channel"], key), None)
            case "event":
                where = (body["channel"], body["key"])
                if body["op"] == "delete":
                    self.rows.pop(where, None)
                else:
                    self.rows[where] = body["data"]
                if self.subscriber.transport is WS and not self.in_snapshot:
                    # Without an id on it, a row of a snapshot looks like any event.
                    proven = f"{EPOCH}:{body['seq']}"
        if proven is not None and self.whole:
            self.safe.append(Held(Position.parse(proven), selection, dict(self.rows)))

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
    stale_floors: dict[str, Floor] | None = None
    """What the journal's floors are thought to be, where word of a trim comes late."""

    def __post_init__(self) -> None:
        self.journal = FakeJournal(self.loop)
        self.tape = Tape(CHANNELS, most_events=self.most_events, most_bytes=self.most_bytes)
        self.tape.read = partial(self.tape.read, scan=self.scan)  # type: ignore[method-assign]
        self.tape.rows = partial(self.tape.rows, scan=self.scan)  # type: ignore[method-assign]
        self.broadcaster = Broadcaster(
            self.tape,
            EPOCH,
            scheduler=self.loop,
            now=lambda: int(self.loop.time() * 1000),
            journal_floor=self._floor,
            journal=self.journal,
        )
        self._watch_steps(self.broadcaster._backfill)

    def _watch_steps(self, backfill: Backfill) -> None:
        """Tells a line between which writes its filter changes."""
        refined, scan = backfill._refined, backfill._append_scan

        def note_step(subscriber: Subscriber, catchup: CatchUp) -> bool:
            if catchup.delta is None:
                return refined(subscriber, catchup)
            line = next(line for line in self.lines if line.subscriber is subscriber)
            line.switch = line.selection, catchup.staying
            try:
                return refined(subscriber, catchup)
            finally:
                if catchup.delta is None and line.switch[0] == subscriber.selection:
                    line.switch = None

        def note_scan(subscriber: Subscriber, catchup: CatchUp, blocks: list[bytes]) -> None:
            line = next(line for line in self.lines if line.subscriber is subscriber)
            line.step_over()
            scan(subscriber, catchup, blocks)
            line.scanned = bool(blocks)

        backfill._refined = note_step  # type: ignore[method-assign]
        backfill._append_scan = note_scan  # type: ignore[method-assign]

    def _floor(self, name: str) -> Floor:
        floor = (self.stale_floors or self.journal.floors)[name]
        return Floor(floor.whole_from, floor.compact_from)

    def __enter__(self) -> World:
        return self

    def __exit__(self, fault: object, *_: object) -> None:
        try:
            self.loop.run_until_complete(self.broadcaster.close())
            if fault is None:
                self.loop.turn()
        finally:
            self.loop.close()

    def commit(self, *changes: Change) -> list[Entry]:
        entries = commit(self.ledger, changes)
        for entry in entries:
            self.by_seq[entry.seq] = entry
            self.newest[entry.channel, entry.key] = entry.seq
        self.journal.commit(entries)
        self.broadcaster.take_in([self.tape.event(entry) for entry in entries])
        return entries

    def between(self, after: int, upto: int) -> Iterator[Entry]:
        for entry in reversed(self.ledger.history):
            if entry.seq <= after:
                return
            if entry.seq <= upto:
                yield entry

    def lost(self, delivery: str) -> set[int]:
        """What not even EARLIEST can be sent."""
        there = {event.seq for log in self.tape.logs.values() for event in log.since(0)}
        if delivery == "all":
            there |= {entry.seq for entry in self.journal.entries}
        return set(self.by_seq) - there

    def line(
        self, transport: Transport = WS, selection: Selection = EVERYTHING, **how: Any
    ) -> Line:
        start = how.pop("start", Start(Origin.SNAPSHOT))
        return Line(self, transport, selection, start, **how)

    def resume(self, held: Held, transport: Transport, **how: Any) -> Line:
        start = Start(Origin.POSITION, held.position)
        return Line(self, transport, held.selection, start, held=held, **how)

    def change(self, line: Line, selection: Selection) -> None:
        line.catch_up()
        fresh = selection.changed_since(line.selection)
        line.at = {name: line.at.get(name) for name in selection.channels} | dict.fromkeys(fresh)
        line.rows_until.clear()
        self.broadcaster.change(line.subscriber, selection)

    def refine(self, line: Line, selection: Selection) -> None:
        """A client that asks for other filters of channels that it has; it takes no position from
        what it is sent until it is live."""
        line.catch_up()
        line.in_snapshot = line.refining = True
        fresh = selection.changed_since(line.selection)
        self.broadcaster.refine(line.subscriber, selection)
        if line.subscriber.wanted is line.subscriber.selection:
            line.at |= dict.fromkeys(fresh)
            line.rows_until.clear()

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
            line.all_sent()
            if line.whole:
                line.holds_all()
        self.check_tally()

    def check_tally(self) -> None:
        """What the counters say was sent is what was sent."""
        tally = self.broadcaster.tally
        for transport in ("ws", "sse"):
            reported = sum(
                len(x.of("event")) for x in self.lines if x.subscriber.transport.name == transport
            )
            delivered = sum(n for (_, name), n in tally.delivered.items() if name == transport)
            assert delivered + tally.backfilled[transport] == reported
            conflated = sum(
                x.subscriber.conflated
                for x in self.lines
                if x.subscriber.transport.name == transport
            )
            assert tally.conflated[transport] == conflated

    def check_empty(self) -> None:
        for line in self.lines:
            self.broadcaster.detach(line.subscriber)
        self.loop.run_for(0.1)
        own = self.broadcaster
        assert not own.subscribers
        assert not own._cohorts
        assert not own._flusher._due
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


TRANSPORTS = st.sampled_from((WS, SSE))
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
    world: World,
    transport: Transport,
    selection: Selection,
    how: tuple[str, float | None],
    origin: str,
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
    line = world.line(transport, selection, start=start, delivery=delivery, max_rate=rate)
    if origin == "ahead":
        # Nothing is known of what such a client holds: only that it is sent a start.
        line.whole = False


def _resume(
    world: World, number: int, back: int, transport: Transport, how: tuple[str, float | None]
) -> None:
    """Drop a client, and come back with any position that it was ever sent."""
    line = _pick(world, number)
    if line is None:
        return
    line.catch_up()
    world.broadcaster.detach(line.subscriber)
    if line.safe:
        held = line.safe[-1 - back % len(line.safe)]
        world.resume(held, transport, delivery=how[0], max_rate=how[1])
        note("resumed")


def _come_back(world: World, number: int, transport: Transport) -> None:
    """Drop a client in whatever state it is, and come back with the last position it was sent."""
    line = _pick(world, number)
    if line is None:
        return
    line.catch_up()
    world.broadcaster.detach(line.subscriber)
    if line.safe and line.safe[-1].selection == line.selection and not line.refining:
        last = line.safe[-1]
        world.resume(Held(last.position, last.selection, line.rows), transport)


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


def _refine(world: World, number: int, other: Selection) -> None:
    """Other filters for the channels that a WebSocket has."""
    line = _pick(world, number)
    if line is None or line.subscriber.transport is not WS:
        return
    parts = {name: other.filter(name) if name in other else () for name in line.selection.channels}
    world.refine(line, Selection(parts))
    note("refined")


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
CONNECT = act(_connect, TRANSPORTS, selections(least=0), HOW, ORIGINS)
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
    act(_resume, SOME, st.integers(0, 20), TRANSPORTS, HOW),
    act(_come_back, SOME, TRANSPORTS),
    act(_change, SOME, selections(least=0)),
    act(_refine, SOME, selections(least=3)),
    act(_refine, SOME, selections(least=3)),
    act(_trim, SOME, st.integers(1, 4)),
    act(_hold),
    act(_let_go),
    act(_heartbeat, SOME),
)


SCHEDULES = (
    st.integers(1, 12),
    st.lists(CHANGES, min_size=5, max_size=40),
    st.lists(CONNECT, min_size=1, max_size=3),
    st.lists(ACTS, min_size=12, max_size=60),
)
EXAMPLES = 3 * settings.default.max_examples


def play(most_events: int, before: list[Change], connects: list[Act], acts: list[Act]) -> None:
    with World(most_events=most_events) as world:
        world.commit(*before)
        for one in (*connects, *acts):
            one.do(world, *one.drawn)
        world.check_at_rest()
        world.check_empty()


@settings(max_examples=EXAMPLES)
@given(*SCHEDULES)
def test_any_schedule_keeps_the_laws(
    most_events: int, before: list[Change], connects: list[Act], acts: list[Act]
) -> None:
    play(most_events, before, connects, acts)


@pytest.mark.skipif(FRESH is None, reason="no fresh seed was asked for")
@seed(FRESH)
@settings(max_examples=EXAMPLES, derandomize=False)
@given(*SCHEDULES)
def test_any_schedule_that_nobody_has_tried_keeps_the_laws(
    most_events: int, before: list[Change], connects: list[Act], acts: list[Act]
) -> None:
    print(LINE)
    play(most_events, before, connects, acts)


# --- one law at a time


def price(key: int) -> Change:
    return Change(3, key, 0, 0, 1, 1)


def trader(key: int, status: int = 0) -> Change:
    return Change(0, key, 0, status, 1, 1)


def withdrawn(channel: int, key: int) -> Change:
    return Change(channel, key, 0, 0, 0, 1)


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def event_seqs(line: Line) -> list[int]:
    return [body["seq"] for body in line.of("event")]


def test_both_transports_carry_identical_bytes(world: World) -> None:
    """Snapshot, live, stall and catch-up: framing is the only difference."""
    world.commit(*(trader(key) for key in range(3)), price(0))
    lines = [world.line(transport, EVERYTHING) for transport in (WS, SSE)]
    world.loop.run_for(0.1)
    for number in range(20):
        world.commit(trader(number % 3, number % 2), price(number % 3))
        if number == 5:
            for line in lines:
                line.sink.stall()
        world.loop.run_for(0.05)
    world.check_at_rest()
    ws, sse = (
        [reported.json for reported in line.reported if reported.type == "event"] for line in lines
    )
    assert ws == sse
    assert [reported.type for reported in lines[0].reported if reported.type != "heartbeat"] == [
        reported.type for reported in lines[1].reported if reported.type != "heartbeat"
    ]


def test_a_position_ahead_is_waited_for_and_then_resumed(world: World) -> None:
    world.commit(price(0))
    line = world.line(start=Start(Origin.POSITION, Position(EPOCH, 3)))
    world.loop.run_for(1.9)
    assert not line.reported
    world.commit(price(1), price(2), price(0))
    world.loop.run_for(0.1)
    assert [reported.type for reported in line.reported] == ["resume", "event", "live"]
    assert event_seqs(line) == [4]


def test_a_position_ahead_that_does_not_come_is_unknown_after_two_seconds(world: World) -> None:
    world.commit(price(0))
    line = world.line(start=Start(Origin.POSITION, Position(EPOCH, 3)))
    world.loop.run_for(1.99)
    assert not line.reported
    world.loop.run_for(0.05)
    assert [reported.type for reported in line.reported] == ["snapshot", "event", "live"]
    assert line.of("snapshot")[0]["reason"] == "POSITION_UNKNOWN"
    line.catch_up()
    line.holds_all()


def test_a_position_that_is_ahead_is_never_confirmed(world: World) -> None:
    """Regression: a heartbeat that was asked for at once sent the client's own word back."""
    line = world.line(start=Start(Origin.POSITION, Position(EPOCH, 3)))
    world.broadcaster.heartbeat(line.subscriber)
    world.loop.turn()
    world.broadcaster.heartbeat(line.subscriber)
    assert line.reported == []


def test_unsubscribing_while_ahead_ends_in_peace(world: World) -> None:
    """Regression: giving up on a position without channels raised in the pump, which then never
    served anybody again."""
    line = world.line(start=Start(Origin.POSITION, Position(EPOCH, 3)))
    world.loop.turn()
    world.change(line, Selection())
    world.loop.run_for(3)
    assert line.subscriber.state is State.LIVE
    other = world.line()
    world.check_at_rest()
    assert other.of("live")


class _BrokenSink(FakeSink):
    def write(self, data: bytes) -> bool:
        raise RuntimeError("out of luck")


def test_one_that_cannot_be_served_is_ended_and_the_others_are_served(world: World) -> None:
    """Regression: an exception in the pump left all who were behind unserved for ever."""
    broken = world.line()
    broken.subscriber.write = _BrokenSink(world.loop).write
    other = world.line()
    world.commit(price(0))
    world.loop.run_for(0.1)
    assert broken.sink.fault is not None
    assert broken.sink.fault.code == "INTERNAL"
    assert other.subscriber.state is State.LIVE
    assert event_seqs(other) == [1]


# --- all of a past that the tape has lost


def long_past(world: World, count: int = 40) -> None:
    for number in range(count):
        world.commit(trader(number % 2), price(number % 3))


def test_all_of_the_past_is_read_from_the_journal_in_pages(world: World) -> None:
    long_past(world)
    line = world.line(start=Start(Origin.EARLIEST), delivery="all")
    world.loop.run_for(0.1)
    assert event_seqs(line) == [entry.seq for entry in world.ledger.history]
    assert world.journal.reads >= 10
    assert not line.of("gap")


def test_at_most_four_read_the_journal_at_a_time(world: World) -> None:
    long_past(world)
    world.journal.held = True
    lines = [world.line(start=Start(Origin.EARLIEST), delivery="all") for _ in range(9)]
    for _ in range(9):
        world.loop.turn()
    assert world.journal.most_reading == 4
    world.check_at_rest()
    assert all(event_seqs(line) == [e.seq for e in world.ledger.history] for line in lines)


def test_a_gap_covers_exactly_what_exists_no_more(world: World) -> None:
    long_past(world)
    world.journal.trim("market-data", 40)
    selection = Selection({"market-data": ()})
    start = Start(Origin.POSITION, Position(EPOCH, 11))
    line = world.line(WS, selection, start=start, delivery="all")
    world.check_at_rest()
    assert line.of("gap") == [
        {"type": "gap", "channel": "market-data", "fromSeq": 12, "toSeq": 40, "timestamp": 0}
    ]
    assert event_seqs(line) == list(range(42, 81, 2))


def test_what_only_the_tape_has_is_sent_beside_pages_of_the_journal(world: World) -> None:
    """Regression: a page of the journal was taken for all channels, also for one of which the
    journal had trimmed what the tape still held: lost, tombstones too, without a word."""
    with World(most_events=30) as world:
        world.commit(trader(0), price(0), withdrawn(3, 0))
        for _ in range(40):
            world.commit(trader(0))
        world.journal.trim("market-data", world.ledger.seq)
        held = Held(Position(EPOCH, 2), EVERYTHING, world.ledger.state(EVERYTHING))
        held.rows["market-data", "S0"] = {"ghost": True}
        line = world.resume(held, WS, delivery="all")
        world.check_at_rest()
        assert event_seqs(line) == [entry.seq for entry in world.ledger.history if entry.seq > 2]
        assert not line.of("gap")


def test_what_the_journal_trimmed_and_the_tape_holds_is_sent_and_no_gap(world: World) -> None:
    """Regression: up to the lower of both floors a gap was sent, though the journal had let go of
    pinned events, which the tape keeps, and the tape of others, which the journal had."""
    world.commit(*(trader(0, number % 2) for number in range(6)))
    for _ in range(20):
        world.commit(trader(0, 1))
    world.journal.trim("trader-status", 6)
    held = Held(Position(EPOCH, 1), EVERYTHING, {})
    line = world.resume(held, WS, delivery="all")
    world.check_at_rest()
    assert not line.of("gap")
    assert event_seqs(line) == list(range(2, 27))


def test_a_gap_ends_with_the_last_event_that_is_gone(world: World) -> None:
    """Regression: as above, where before what the tape holds something is gone from both."""
    world.commit(trader(0), *(trader(0) for _ in range(5)), trader(0, 1), trader(0, 0))
    for _ in range(20):
        world.commit(trader(0))
    world.journal.trim("trader-status", 8)
    held = Held(Position(EPOCH, 1), EVERYTHING, {})
    line = world.resume(held, WS, delivery="all")
    world.check_at_rest()
    assert [(gap["fromSeq"], gap["toSeq"]) for gap in line.of("gap")] == [(2, 6)]
    assert event_seqs(line) == list(range(7, 29))


def test_a_trim_that_nobody_knows_of_yet_is_a_gap_all_the_same(world: World) -> None:
    """Regression: the page's own floors were not looked at."""
    long_past(world)
    world.journal.held = True
    world.stale_floors = dict(world.journal.floors)
    held = Held(Position(EPOCH, 4), MARKET, {})
    line = world.resume(held, WS, delivery="all")
    world.loop.turn()
    world.loop.turn()
    world.journal.trim("market-data", 30)
    world.journal.held = False
    world.journal.let_go()
    world.loop.run_for(0.1)
    assert [(gap["fromSeq"], gap["toSeq"]) for gap in line.of("gap")] == [(5, 30)]
    assert event_seqs(line) == list(range(32, 81, 2))


def test_what_was_read_before_a_trim_is_sent_and_no_gap(world: World) -> None:
    """Regression: a trim between the reading and the sending of a page was sent as a gap, and
    the events after it."""
    long_past(world)
    world.journal.before_answer = lambda: world.journal.trim("market-data", 20)
    held = Held(Position(EPOCH, 11), MARKET, {})
    line = world.resume(held, WS, delivery="all")
    world.loop.run_for(0.1)
    reported = event_seqs(line)
    assert reported[0] == 12
    gaps = {seq for gap in line.of("gap") for seq in range(gap["fromSeq"], gap["toSeq"] + 1)}
    assert gaps.isdisjoint(reported)
    assert {*reported, *gaps} >= set(range(12, 81, 2))


@pytest.mark.parametrize("delivery", ["conflated", "all"])
def test_what_is_trimmed_before_the_first_word_is_not_missed_from_earliest(
    world: World, delivery: str
) -> None:
    """Regression: a trim between a connect and its first turn led to a snapshot or a gap."""
    world.commit(trader(0), withdrawn(0, 0))
    line = world.line(start=Start(Origin.EARLIEST), delivery=delivery)
    for _ in range(20):
        world.commit(trader(1), withdrawn(0, 1))
    world.journal.trim("trader-status", 30)
    world.check_at_rest()
    assert world.tape.logs["trader-status"].compact_from > 2
    assert not line.of("snapshot")
    assert not line.of("gap")


def test_what_is_trimmed_while_the_first_page_is_read_is_not_missed_from_earliest(
    world: World,
) -> None:
    """Regression: as above, for delivery=all."""
    long_past(world)
    world.journal.held = True
    line = world.line(start=Start(Origin.EARLIEST), delivery="all")
    world.loop.turn()
    world.loop.turn()
    assert line.subscriber.state is State.FETCHING
    for number in range(20):
        world.commit(trader(number % 2, 1), trader(number % 2, 0))
    for name in NAMES:
        world.journal.trim(name, 60)
    world.check_at_rest()
    assert not line.of("snapshot")
    assert not line.of("gap")


def test_from_earliest_a_channel_that_began_anew_expires_as_any_other(world: World) -> None:
    """Its rows were sent, while of the other channels nothing was."""
    world.commit(price(0), *(trader(key) for key in range(4)))
    line = world.line(start=Start(Origin.EARLIEST))
    world.change(
        line,
        Selection({**dict(EVERYTHING.parts), "trader-status": (("symbol", frozenset({"XAU"})),)}),
    )
    line.sink.stall()
    line.sink.high = 1
    world.loop.run_for(0.1)
    assert event_seqs(line) == [2, 3, 4, 5]
    assert world.broadcaster.position(line.subscriber).seq == 0
    world.commit(withdrawn(0, 0))
    for _ in range(10):
        world.commit(trader(1), withdrawn(0, 1), trader(2), withdrawn(0, 2))
    line.sink.high = 1_000
    world.check_at_rest()


def test_from_earliest_a_ghost_is_not_forgotten(world: World) -> None:
    """Regression: `earliest` excused every trim for as long as the catch-up lasted, so that a
    row sent before a stall outlived its tombstone."""
    world.commit(trader(0))
    line = world.line(WS, EVERYTHING, start=Start(Origin.EARLIEST))
    line.sink.stall()
    line.sink.high = 1
    world.loop.run_for(0.1)
    assert event_seqs(line) == [1]
    world.commit(withdrawn(0, 0))
    for _ in range(10):
        world.commit(trader(1), withdrawn(0, 1), trader(2), withdrawn(0, 2))
    assert world.tape.logs["trader-status"].compact_from > 2
    line.sink.high = 1_000
    world.check_at_rest()


def test_from_earliest_a_later_loss_is_a_gap(world: World) -> None:
    """Regression: as above, for delivery=all."""
    long_past(world)
    line = world.line(WS, MARKET, start=Start(Origin.EARLIEST), delivery="all")
    line.sink.stall()
    world.loop.run_for(0.1)
    seen = event_seqs(line)[-1]
    world.journal.trim("market-data", 60)
    assert seen < 40
    world.check_at_rest()
    assert [(gap["fromSeq"], gap["toSeq"]) for gap in line.of("gap")] == [(seen + 1, 60)]


def test_from_earliest_the_oldest_event_is_one_that_only_the_journal_still_has() -> None:
    """Regression: both floors were the same, so nobody asked the journal, which still had the
    row from before its floor that had been superseded since it trimmed."""
    with World(most_events=1) as world:
        world.commit(trader(0), trader(1), withdrawn(0, 1))
        line = world.line(start=Start(Origin.EARLIEST), delivery="all")
        world.journal.trim("trader-status", 2)
        world.commit(withdrawn(0, 0))
        world.check_at_rest()
        assert event_seqs(line) == [1, 3, 4]
        assert not line.of("gap")


def test_a_page_for_a_selection_that_changed_before_its_read_began_is_asked_for_again(
    world: World,
) -> None:
    """Regression: the new catch-up passed for the one that had asked, and got the page although
    its snapshot was to come first."""
    long_past(world)
    line = world.line(WS, MARKET, start=Start(Origin.EARLIEST), delivery="all")
    world.loop.turn()
    assert line.subscriber.state is State.FETCHING
    world.change(line, EVERYTHING)
    world.check_at_rest()
    assert line.subscriber.state is State.LIVE


@pytest.mark.parametrize("fault", [JournalUnavailable("away"), JournalCorrupt("bad page")])
def test_one_whose_past_cannot_be_read_is_asked_to_come_back(
    world: World, fault: TelecastError
) -> None:
    """Regression: a corrupt page left the subscriber waiting for ever, and nobody the wiser."""
    long_past(world)
    world.journal.fault = fault
    line = world.line(start=Start(Origin.EARLIEST), delivery="all")
    world.loop.run_for(0.1)
    assert line.sink.fault is not None
    assert line.sink.fault.code == "OVERLOADED"
    assert line.sink.fault.retryable


# --- slow clients


def test_no_byte_for_45_seconds_is_gone(world: World) -> None:
    line = world.line(WS, MARKET)
    world.loop.run_for(0.1)
    line.sink.stall()
    for _ in range(10):
        world.commit(*(price(key) for key in range(3)))
        world.loop.run_for(0.01)
    assert line.subscriber.state is State.FULL
    world.loop.run_for(44.5)
    assert line.sink.fault is None
    world.loop.run_for(1)
    assert line.sink.fault is not None
    assert line.sink.fault.code == "NO_PROGRESS"
    assert world.broadcaster.tally.evicted["NO_PROGRESS"] == 1


def fill(world: World, line: Line) -> None:
    line.sink.stall()
    while line.subscriber.state is not State.FULL:
        world.commit(*(price(key) for key in range(3)))
        world.loop.run_for(0.001)


def test_slow_but_moving_is_never_cut(world: World) -> None:
    line = world.line(WS, MARKET)
    world.loop.run_for(0.1)
    fill(world, line)
    for _ in range(60):
        world.loop.run_for(10)
        line.sink.accept(1)
        assert line.sink.fault is None


def test_answers_to_its_actions_do_not_hide_that_a_slow_one_moves(world: World) -> None:
    """Regression: what we wrote meanwhile was taken for bytes that the peer had not."""
    line = world.line(WS, MARKET)
    world.loop.run_for(0.1)
    fill(world, line)
    fault = PeerFault("BAD_REQUEST", "x" * 200)
    for _ in range(20):
        world.loop.run_for(4)
        line.sink.accept(10)
        world.broadcaster.send(line.subscriber, messages.error(0, fault))
        assert line.sink.fault is None


def test_filling_and_draining_again_and_again_does_not_shorten_the_patience(world: World) -> None:
    """Regression: each time a sink filled began a watch of its own, and all of them counted."""
    line = world.line(WS, MARKET)
    world.loop.run_for(0.1)
    for _ in range(50):
        fill(world, line)
        line.sink.drain()
        world.loop.run_for(0.01)
    fill(world, line)
    world.loop.run_for(44.5)
    assert line.sink.fault is None
    world.loop.run_for(6)
    assert line.sink.fault is not None


def test_a_frozen_process_wakes_mildly(world: World) -> None:
    """30 s pass at once: neither the stalled nor the silent one is cut for it."""
    stalled = world.line(WS, MARKET)
    silent = world.line(WS, Selection(), heartbeat=15.0, expects_life=True)
    world.loop.run_for(0.1)
    fill(world, stalled)
    world.loop.run_for(6)
    for _ in range(3):
        world.loop.spend(30)
        world.loop.run_for(0.1)
        silent.subscriber.watch.heard()
    assert stalled.sink.fault is None
    assert silent.sink.fault is None
    world.loop.run_for(46)
    assert stalled.sink.fault is not None


def test_one_that_has_gone_is_freed_before_its_next_heartbeat_would_be_due(world: World) -> None:
    """Regression: the wheel held each until then, with its filters: 2,000 visits took 100 MB."""
    subscriber = Subscriber(
        connection_id="gone",
        transport=WS,
        sink=FakeSink(world.loop),
        selection=EVERYTHING,
        heartbeat=60.0,
    )
    gone = weakref.ref(subscriber.sink)
    world.broadcaster.attach(subscriber, Start(Origin.SNAPSHOT))
    world.loop.run_for(0.1)
    world.broadcaster.detach(subscriber)
    del subscriber
    world.loop.run_for(0.1)
    assert gone() is None


def test_three_silent_beats_are_no_sign_of_life(world: World) -> None:
    line = world.line(WS, Selection(), heartbeat=15.0, expects_life=True)
    world.loop.run_for(40)
    line.subscriber.watch.heard()
    world.loop.run_for(49)
    assert line.sink.fault is None, "heard 49 s ago, but the third beat is not over"
    world.loop.run_for(2)
    assert line.sink.fault is not None
    assert line.sink.fault.code == "NO_SIGN_OF_LIFE"


def test_an_sse_client_that_never_speaks_lives(world: World) -> None:
    line = world.line(SSE, Selection(), heartbeat=5.0)
    world.loop.run_for(300)
    assert line.open
    assert len(line.of("heartbeat")) in (58, 59, 60)


@pytest.mark.parametrize("heartbeat", [2.0, 4.0, 5.0, 15.0, 60.0])
def test_no_client_that_reads_for_5_seconds_is_cut_from_a_quiet_event_stream(
    world: World, heartbeat: float
) -> None:
    """Regression: httpx gives up after 5 s without a byte, and a heartbeat came every 15 s."""
    line = world.line(SSE, MARKET, heartbeat=heartbeat)
    for pause in (0.0, 0.4, 0.9, 2.9, 3.3, 70.0):
        world.loop.run_for(pause)
        world.commit(price(0))
    world.loop.run_for(130.0)
    times = [at for at, _ in line.sink.writes]
    assert max(later - sooner for sooner, later in pairwise(times)) < 4.6
    assert SSE.comment in bytes(line.sink.written)
    assert 200 / heartbeat - 3 <= len(line.of("heartbeat")) <= 210 / heartbeat
    assert event_seqs(line) == [1, 2, 3, 4, 5, 6]


def test_a_line_that_is_busy_or_full_or_a_websocket_gets_no_comment(world: World) -> None:
    busy, quiet = world.line(SSE, MARKET, heartbeat=15.0), world.line(WS, MARKET, heartbeat=15.0)
    world.loop.run_for(0.1)
    for _ in range(100):
        world.commit(price(0))
        world.loop.run_for(0.2)
    assert SSE.comment not in bytes(busy.sink.written)
    fill(world, busy)
    buffered, written = busy.sink.buffered(), len(quiet.sink.writes)
    world.loop.run_for(14.0)
    assert busy.sink.buffered() == buffered
    assert len(quiet.sink.writes) - written == len(quiet.of("heartbeat")) - 1 <= 1


def test_a_full_sink_gets_no_heartbeats(world: World) -> None:
    line = world.line(WS, MARKET, expects_life=True)
    world.loop.run_for(0.1)
    fill(world, line)
    buffered = line.sink.buffered()
    world.loop.run_for(40)
    assert line.sink.buffered() == buffered
    assert line.open


def test_nothing_grows_for_one_who_does_not_read(world: World) -> None:
    """Neither in its subscriber, nor in a cohort, a queue or the wheel."""
    line = world.line(WS, MARKET)
    world.loop.run_for(0.1)
    fill(world, line)
    subscriber, own = line.subscriber, world.broadcaster

    def held() -> dict[str, Any]:
        seen = {name: getattr(subscriber, name) for name in Subscriber.__slots__}
        return seen | {"buffered": line.sink.buffered()}

    before = held()
    for _ in range(200):
        world.commit(*(price(key) for key in range(3)), trader(0))
        world.loop.run_for(0.01)
    assert held() == before
    assert not world.broadcaster._cohorts
    assert not own._cohorts
    assert not own._ready
    assert sum(map(len, own._wheel._slots.values())) <= 2
    world.check_at_rest()


def test_a_stalled_snapshot_holds_how_far_it_is_and_nothing_else(world: World) -> None:
    for key in range(3):
        world.commit(trader(key), price(key))
    line = world.line()
    line.sink.stall()
    line.sink.high = 1
    world.loop.run_for(0.1)
    catchup = line.subscriber.catchup
    assert catchup is not None
    reported = catchup.rows_sent
    for _ in range(50):
        world.commit(price(0), trader(1))
    assert line.subscriber.catchup is catchup
    assert catchup.rows_sent == reported
    assert catchup.page is None
    assert len(catchup.starts) == len(NAMES)
    line.sink.high = 1_000
    world.check_at_rest()


def test_a_stalled_one_never_delays_the_others(world: World) -> None:
    stalled, other = world.line(WS, MARKET), world.line(WS, MARKET)
    world.loop.run_for(0.1)
    stalled.sink.stall()
    for _ in range(30):
        before = len(other.sink.writes)
        world.loop.run_for(0.1)
        now = world.loop.time()
        world.commit(price(0))
        world.loop.turn()
        world.loop.turn()
        assert len(other.sink.writes) == before + 1
        assert other.sink.writes[-1][0] == now
    assert stalled.subscriber.state is State.FULL


# --- positions


def test_in_the_middle_of_a_snapshot_a_heartbeat_proves_nothing(world: World) -> None:
    for key in range(3):
        world.commit(trader(key), price(key))
    line = world.line(SSE)
    line.sink.stall()
    line.sink.high = 1
    world.loop.run_for(0.1)
    catchup = line.subscriber.catchup
    assert catchup is not None
    assert catchup.unfinished
    world.broadcaster.heartbeat(line.subscriber)
    assert not line.of("heartbeat")
    assert world.broadcaster.delivered(line.subscriber) == 0, "nothing to be acknowledged"
    line.sink.high = 1_000
    world.check_at_rest()
    assert world.broadcaster.delivered(line.subscriber) == world.tape.head
    world.broadcaster.detach(line.subscriber)
    assert world.broadcaster.delivered(line.subscriber) == world.tape.head


def test_a_position_never_goes_back_while_a_flush_is_under_way(world: World) -> None:
    """Regression: between two slices a member stood where its last event had been, not where its
    last heartbeat was; whom that made behind was sent a false gap or a needless snapshot."""
    lines = [world.line(WS, MARKET) for _ in range(5)]
    world.commit(price(0))
    world.loop.run_for(0.1)
    for _ in range(30):
        world.commit(trader(0))
    world.loop.run_for(5.1)
    position = lines[-1].last_position
    assert position >= 31
    world.commit(price(1))
    world.loop.turn()
    writes = [len(line.of("event")) for line in lines]
    assert writes[0] > writes[-1], "the flush is between two slices"
    world.broadcaster.heartbeat(lines[-1].subscriber)
    world.check_at_rest()


def test_a_row_that_changes_before_it_is_sent_comes_as_its_change_alone(world: World) -> None:
    """Also where another was sent the same part of the same snapshot before the change."""
    for key in range(3):
        world.commit(trader(key), price(key), Change(1, key, 0, 0, 1, 1))
    quick, slow = world.line(), world.line()
    slow.sink.stall()
    slow.sink.high = 1
    world.loop.run_for(0.1)
    assert quick.of("live")
    reported = event_seqs(slow)
    assert 0 < len(reported) < 9
    changed = world.commit(Change(1, 2, 0, 0, 1, 1), withdrawn(0, 2))
    slow.sink.high = 1_000
    world.check_at_rest()
    rows = [seq for seq in event_seqs(slow) if seq <= 9]
    assert event_seqs(slow)[len(rows) :] == [entry.seq for entry in changed]
    assert len(rows) == 7


def test_a_snapshot_that_finds_few_rows_among_many_lets_others_have_their_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: all rows of a channel were looked at within one turn."""
    rows = world.tape.rows

    def slowly(*asked: Any, **how: Any) -> Chunk:
        world.loop.spend(0.001)
        return rows(*asked, **how)

    monkeypatch.setattr(world.tape, "rows", slowly)
    world.commit(*(trader(number) for number in range(100)), price(0))
    narrow = world.line(WS, Selection({"trader-status": (("symbol", frozenset({"none"})),)}))
    other = world.line(WS, MARKET)
    while not other.of("live"):
        world.loop.turn()
    assert not narrow.of("live")
    world.check_at_rest()


@pytest.mark.parametrize("delivery", ["conflated", "all"])
def test_a_channel_that_is_added_in_a_stall_starts_with_its_snapshot_and_goes_on_from_there(
    world: World, delivery: str
) -> None:
    """What the snapshot held does not come again as events, and the other channel goes on from
    where it stalled."""
    world.commit(*(price(key) for key in range(3)), trader(0))
    line = world.line(WS, MARKET, delivery=delivery)
    world.loop.run_for(0.1)
    fill(world, line)
    for number in range(4):
        world.commit(trader(number % 3, number % 2), price(0))
    added = Selection({**dict(line.selection.parts), "trader-status": ()})
    world.change(line, added)
    before = len(line.reported)
    for number in range(4):
        world.commit(trader(number % 3), price(1))
    world.check_at_rest()
    reported = line.reported[before:]
    assert [one.body["channels"] for one in reported if one.type == "snapshot"] == [
        ["trader-status"]
    ]
    assert reported[0].type == "snapshot"
    seqs = [one.body["seq"] for one in reported if one.type == "event"]
    assert len(seqs) == len(set(seqs))


def test_a_storm_of_resumes_is_served_from_one_encoding(world: World) -> None:
    for number in range(6):
        world.commit(price(number % 3))
    before = world.broadcaster._backfill.chunks.encoded
    for _ in range(50):
        world.line(WS, MARKET, start=Start(Origin.POSITION, Position(EPOCH, 2)))
    world.loop.run_for(0.5)
    chunks = world.broadcaster._backfill.chunks.encoded - before
    assert 1 <= chunks <= 2
    world.check_at_rest()


# --- maxRate


def rated(world: World, rate: float = 2.0, transport: Transport = WS) -> Line:
    line = world.line(transport, EVERYTHING, max_rate=rate)
    world.loop.run_for(1.0)
    return line


def batches(line: Line, first: int) -> list[float]:
    """When each began, of the writes from one on: pieces follow each other at once."""
    times = [at for at, _ in line.sink.writes[first:]]
    return times[:1] + [at for before, at in pairwise(times) if at - before > 0.1]


def test_a_rated_client_gets_at_most_so_many_batches_a_second(world: World) -> None:
    world.commit(*(price(key) for key in range(3)))
    line = rated(world)
    before = len(line.sink.writes)
    for _ in range(400):
        world.commit(price(0), price(1))
        world.loop.run_for(0.01)
    assert not line.of("heartbeat")
    assert 7 <= len(batches(line, before)) <= 9, "four seconds, two a second"
    assert line.of("conflated")
    assert line.subscriber.conflated >= 700
    world.check_at_rest()


def test_a_pinned_row_flushes_a_rated_client_at_once(world: World) -> None:
    world.commit(price(0), trader(0))
    line = rated(world)
    world.commit(price(0))
    world.loop.turn()
    world.loop.turn()
    world.commit(price(0), price(0))
    world.loop.run_for(0.1)
    before = event_seqs(line)
    world.commit(trader(0, status=1))
    world.loop.turn()
    world.loop.turn()
    assert event_seqs(line)[len(before) :] == [5, 6]
    assert line.of("conflated")[-1] | {"timestamp": 0} == {
        "type": "conflated",
        "fromSeq": 4,
        "toSeq": 6,
        "count": 1,
        "timestamp": 0,
    }


def test_a_batch_that_is_too_large_to_keep_is_read_from_the_tape_when_it_is_due(
    world: World,
) -> None:
    """One who asks for a slow pace gets its batches at that pace, whatever they hold."""
    line = world.line(WS, EVERYTHING, max_rate=0.5, heartbeat=60.0)
    world.loop.run_for(1.0)
    world.commit(price(0))
    world.loop.run_for(0.1)
    before = len(line.sink.writes)
    spilled = world.broadcaster.tally.spilled
    for _ in range(3):
        world.commit(*(price(key) for key in range(6)), price(0))
        world.loop.run_for(1.7)
        assert world.broadcaster.position(line.subscriber).seq <= event_seqs(line)[-1]
    world.loop.run_for(2.0)
    assert world.broadcaster.tally.spilled - spilled == 2
    starts = batches(line, before)
    assert len(starts) == 2
    assert all(later - sooner >= 2.0 for sooner, later in pairwise(starts))
    assert line.of("conflated")
    world.check_at_rest()


def test_a_batch_that_is_too_large_to_keep_delays_no_pinned_row(world: World) -> None:
    world.commit(trader(0))
    line = rated(world, 0.2)
    world.commit(price(0))
    world.loop.run_for(0.1)
    world.commit(*(price(key) for key in range(6)))
    world.loop.run_for(0.1)
    assert event_seqs(line)[-1] == 2
    world.commit(trader(0, status=1))
    world.loop.run_for(0.1)
    assert event_seqs(line)[-1] == 9
    world.check_at_rest()


@pytest.mark.parametrize("late", range(12))
def test_what_waits_for_a_rated_client_is_flushed_however_late_timers_run(
    world: World, late: int
) -> None:
    """Regression: a turn of the wheel that came late took along what was due up to half a tick
    later; the cohort, not due yet, was left alone and never looked at again."""
    line = rated(world, 20.0)
    for number in range(40):
        world.commit(price(number % 2))
        world.loop.run_for(0.0123)
        world.loop.spend(late / 1000)
        world.broadcaster._wheel.after(0.003, lambda: world.loop.spend(late / 1000))
    world.loop.run_for(0.2)
    assert event_seqs(line)[-1] == world.ledger.seq


def test_one_that_a_message_fills_up_misses_nothing_of_what_waited(world: World) -> None:
    """A heartbeat or an answer may be what fills a sink, while a batch waits."""
    world.commit(price(0))
    line = rated(world, 0.2)
    world.commit(price(0))
    world.loop.run_for(0.1)
    world.commit(price(1))
    line.sink.stall()
    line.sink.high = 1
    world.broadcaster.heartbeat(line.subscriber)
    assert line.subscriber.state is State.FULL
    line.sink.high = 1_000
    world.check_at_rest()
    assert event_seqs(line) == [1, 2, 3]


def test_one_who_joins_a_rated_cohort_is_sent_how_many_are_conflated_for_it(world: World) -> None:
    """Regression: the word was given only to those who were members when the batch began."""
    world.commit(price(0), price(1))
    rated(world, 0.2)
    world.commit(price(0))
    world.loop.run_for(0.1)
    world.commit(price(1))
    late = world.line(WS, EVERYTHING, max_rate=0.2)
    world.loop.run_for(0.1)
    assert late.subscriber.state is State.LIVE
    world.commit(price(0), price(0), price(0))
    world.loop.run_for(6)
    reported = late.of("conflated")
    assert [(body["fromSeq"], body["toSeq"]) for body in reported] == [(5, 7)]
    world.check_at_rest()


# --- all gone


@pytest.mark.parametrize("stalled", [False, True])
def test_nothing_is_left_when_all_have_gone(world: World, stalled: bool) -> None:
    lines = [
        world.line(transport, selection, delivery=delivery)
        for transport in (WS, SSE)
        for selection in (EVERYTHING, MARKET, Selection())
        for delivery in ("conflated", "all")
    ]
    world.line(start=Start(Origin.POSITION, Position(EPOCH, 99)))
    for line in lines:
        if stalled:
            line.sink.stall()
            line.sink.high = 1
    long_past(world, 10)
    world.loop.run_for(0.1)
    world.check_empty()
    world.loop.run_for(16)
    assert not world.broadcaster._wheel._slots
    subscribers = [line.subscriber for line in lines]
    assert all(each.catchup is None for each in subscribers)


# --- a filter that changes while its client goes on


def at(*exchanges: str) -> Selection:
    return Selection({"trader-status": (("exchange", frozenset(exchanges)),)})


def seen_at(exchange: int, key: int, kind: int = 1) -> Change:
    """A trader at the exchange "one" (0), "two" (1), or none (2), who passes every filter."""
    return Change(0, key, exchange, 0, kind, 1)


def kinds(line: Line, since: int = 0) -> list[str]:
    return [each.type for each in line.reported[since:] if each.type != "heartbeat"]


def test_only_what_leaves_and_what_comes_in_is_sent(world: World) -> None:
    world.commit(*(seen_at(key % 3, key) for key in range(9)))
    line = world.line(selection=at("one", "three"))
    world.loop.run_for(0.1)
    before = len(line.reported)
    world.refine(line, at("two", "three"))
    world.loop.run_for(0.1)
    assert kinds(line, before)[-1] == "live"
    assert set(kinds(line, before)) == {"leave", "event", "live"}
    left = [key for body in line.of("leave") for key in body["keys"]]
    assert sorted(left) == ["t0", "t3", "t6"]
    came = [each.body["key"] for each in line.reported[before:] if each.type == "event"]
    assert sorted(came) == ["t1", "t4", "t7"]
    world.check_at_rest()


@pytest.mark.parametrize(
    ("new", "sent"),
    [
        (("one", "three"), {"live"}),
        (("one", "two", "three"), {"event", "live"}),
        (("three",), {"leave", "live"}),
    ],
)
def test_a_filter_that_only_grows_or_shrinks_takes_no_step_more(
    world: World, new: tuple[str, ...], sent: set[str]
) -> None:
    world.commit(*(seen_at(key % 3, key) for key in range(9)))
    line = world.line(selection=at("one", "three"))
    world.loop.run_for(0.1)
    before = len(line.reported)
    world.refine(line, at(*new))
    world.loop.run_for(0.1)
    assert set(kinds(line, before)) == sent
    world.check_at_rest()


def test_a_row_that_changes_or_ends_while_the_rows_that_leave_are_named_leaves_too(
    world: World,
) -> None:
    """The scan does not meet it any more."""
    world.commit(*(seen_at(key % 2, key) for key in range(30)))
    line = world.line(selection=at("one"))
    world.loop.run_for(0.1)
    world.refine(line, at("two"))
    delta = line.subscriber.catchup.delta if line.subscriber.catchup else None
    assert delta is not None
    line.sink.cost = TURN  # a write takes all of a turn
    while not 0 < delta.scanned < delta.upto:
        world.loop.turn()
    world.commit(seen_at(0, 28), seen_at(0, 26, kind=0), seen_at(1, 24), seen_at(1, 29))
    world.check_at_rest()
    assert delta.stage is Stage.ENTERS
    left = [key for body in line.of("leave") for key in body["keys"]]
    assert "t28" in left
    assert not {"t26", "t24"} & set(left), "their tombstones said so"


def test_nothing_is_proven_until_the_new_filter_is_live(world: World) -> None:
    world.commit(*(seen_at(key % 2, key) for key in range(8)))
    line = world.line(selection=at("one"))
    world.loop.run_for(0.1)
    world.refine(line, at("one", "two"))
    world.broadcaster.heartbeat(line.subscriber)
    assert kinds(line)[-1] == "live"
    assert line.of("heartbeat") == []
    assert world.broadcaster.delivered(line.subscriber) == 0
    world.loop.run_for(0.1)
    assert world.broadcaster.delivered(line.subscriber) == world.ledger.seq


def test_a_filter_that_changes_in_the_middle_of_a_snapshot_begins_it_anew(world: World) -> None:
    world.commit(*(seen_at(key % 2, key) for key in range(30)))
    line = world.line(selection=at("one"))
    line.sink.cost = TURN
    while not line.of("event"):
        world.loop.turn()
    world.refine(line, at("two"))
    world.check_at_rest()
    assert kinds(line).count("snapshot") == 2
    assert not line.of("leave")


def test_rights_that_change_before_a_filter_is_in_force_win(world: World) -> None:
    """Else the filter that waits would come into force with the rights of before."""
    world.commit(*(seen_at(key % 2, key) for key in range(4)))
    line = world.line(selection=at("one"))
    world.loop.run_for(0.1)
    world.refine(line, at("one", "two"))
    assert line.subscriber.wanted == at("one", "two")
    world.change(line, at("one"))
    world.check_at_rest()
    assert line.selection == line.subscriber.wanted == at("one")
