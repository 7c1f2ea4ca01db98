"""A cohort's batches: what waits, what is left out, and where each member stands at any moment."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telecast.fanout import cohort as cohort_module
from telecast.fanout.cohort import Cohort
from telecast.fanout.pending import RatedPending
from telecast.fanout.sink import Sinks
from telecast.fanout.subscriber import Subscriber
from telecast.model import Event
from telecast.protocol.framing import WS
from telecast.tape.selection import Selection
from tests.support.fakes import (
    EPOCH,
    NAMES,
    Change,
    FakeSink,
    Ledger,
    VirtualLoop,
    commit,
    event_of_entry,
    histories,
    messages_in,
)

EVERYTHING = Selection(dict.fromkeys(NAMES, ()))


@pytest.fixture(autouse=True, scope="module")
def small_slices() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohort_module, "PIECE_BYTES", 400)
        patch.setattr(cohort_module, "SLICE_MEMBERS", 2)
        yield


class Members:
    """A cohort with members that joined at some cursor; counts what it is sent."""

    def __init__(self, max_rate: float | None = None) -> None:
        self.loop = VirtualLoop()
        self.loop.close()
        self.cohort = Cohort(EVERYTHING, WS, max_rate, Sinks())
        self.head = 0
        self.left: dict[Subscriber, int] = {}
        """Who has left, at which cursor."""
        self.delivered = 0
        self.conflated = 0
        self.bytes = 0

    def join(self, cursor: int) -> Subscriber:
        sink = FakeSink(self.loop, high=10**9)
        member = Subscriber(connection_id="c", transport=WS, sink=sink, selection=EVERYTHING)
        self.cohort.join(member, cursor)
        return member

    def leave(self, member: Subscriber) -> None:
        self.left[member] = self.cohort.leave(member, self.head)

    def position(self, member: Subscriber) -> int:
        return self.cohort.position(member, self.head)

    def flush(self) -> Iterator[None]:
        return self.cohort.flush(epoch=EPOCH, now=0, on_full=self.leave, on_flushed=self._count)

    def _count(self, transport: str, events: Any, conflated: int, size: int) -> None:
        assert transport == "ws"
        self.delivered += sum(events.values())
        self.conflated += conflated
        self.bytes += size


def reported(member: Subscriber) -> list[dict[str, Any]]:
    sink = member.sink
    assert isinstance(sink, FakeSink)
    return [one.body for one in messages_in("ws", bytes(sink.written))]


def seqs(member: Subscriber) -> list[int]:
    return [body["seq"] for body in reported(member) if body["type"] == "event"]


def events_of(changes: list[Change]) -> list[Event]:
    return [event_of_entry(entry) for entry in commit(Ledger(), changes)]


def batch_of(events: list[Event]) -> list[Event]:
    """What a conflated batch holds: all that is pinned, and the newest of the rest of each key."""
    newest = {(e.channel, e.key): e.seq for e in events if not e.pinned}
    return [e for e in events if e.pinned or newest[e.channel, e.key] == e.seq]


@given(st.lists(histories(20), min_size=1, max_size=3), st.booleans())
def test_a_batch_is_all_that_waited_or_conflated_the_newest_and_the_pinned_of_it(
    parts: list[list[Change]], rated: bool
) -> None:
    members = Members(1.0 if rated else None)
    member = members.join(0)
    ledger = Ledger()
    expected: list[int] = []
    for changes in parts:
        events = [event_of_entry(entry) for entry in commit(ledger, changes)]
        for event in events:
            members.cohort.add(event)
        before = member.conflated
        list(members.flush())
        batch = batch_of(events) if rated else events
        expected += [event.seq for event in batch]
        assert seqs(member) == expected
        assert member.conflated - before == len(events) - len(batch)
        if len(events) > len(batch):
            missed = [event.seq for event in events if event not in batch]
            notices = [body for body in reported(member) if body["type"] == "conflated"]
            check_notices([n for n in notices if n["fromSeq"] >= events[0].seq], missed)
    assert members.delivered == len(expected)
    assert members.conflated == member.conflated
    assert members.bytes == len(member.sink.written)  # type: ignore[attr-defined]


def check_notices(notices: list[dict[str, Any]], missed: list[int]) -> None:
    """Each tells how many are missing between its two ends, and no event of two."""
    for before, after in pairwise(notices):
        assert before["toSeq"] < after["fromSeq"]
    for notice in notices:
        between = [seq for seq in missed if notice["fromSeq"] <= seq <= notice["toSeq"]]
        assert notice["count"] == len(between) > 0
    assert sum(notice["count"] for notice in notices) == len(missed)


_AT_THE_END_OF_A_PIECE = [
    *(Change(channel=0, key=0, group=0, status=0, kind=kind, skip=1) for kind in (0, 0, 1, 0)),
    *(Change(channel=2, key=0, group=0, status=0, kind=1, skip=1) for _ in range(3)),
]
"""One who joined there was not sent what the pieces after it leave out."""


@example(_AT_THE_END_OF_A_PIECE, True, [2])
@given(histories(30), st.booleans(), st.lists(st.integers(0, 30), max_size=5))
def test_who_joins_while_a_batch_waits_gets_the_rest_of_it(
    changes: list[Change], rated: bool, joins: list[int]
) -> None:
    """Nothing twice, nothing lost, and `conflated` exactly where something was left out for it."""
    members = Members(1.0 if rated else None)
    events = events_of(changes)
    first = members.join(0)
    late: list[tuple[Subscriber, int]] = []
    for number, event in enumerate(events):
        members.cohort.add(event)
        late += [(members.join(event.seq), event.seq) for at in joins if at == number]
    batch = batch_of(events) if rated else events
    list(members.flush())
    assert seqs(first) == [event.seq for event in batch]
    for member, since in late:
        assert seqs(member) == [event.seq for event in batch if event.seq > since]
        missed = [e.seq for e in events if e.seq > since and e not in batch]
        notices = [body for body in reported(member) if body["type"] == "conflated"]
        check_notices(notices, missed)
        assert member.conflated == len(missed)
        for notice in notices:
            assert notice["fromSeq"] > since
    assert members.delivered == sum(len(seqs(member)) for member in (first, *(m for m, _ in late)))


@given(histories(30), st.booleans(), st.lists(st.integers(0, 8), max_size=6), st.integers(2, 5))
def test_a_position_is_true_between_any_two_slices_and_never_goes_back(
    changes: list[Change], rated: bool, cuts: list[int], count: int
) -> None:
    """What was left out of a batch that is half sent has its newest still to come."""
    members = Members(1.0 if rated else None)
    everyone = [members.join(0) for _ in range(count)]
    events = events_of(changes)
    newest = {(event.channel, event.key): event.seq for event in events}
    last = dict.fromkeys(everyone, 0)
    head = 0

    def check() -> None:
        for member in everyone:
            position = members.cohort.position(member, head)
            assert last[member] <= position <= head
            last[member] = position
            have = set(seqs(member))
            for event in events:
                if event.seq <= position and event.seq not in have:
                    assert rated
                    assert not event.pinned
                    assert newest[event.channel, event.key] > event.seq

    for number, event in enumerate(events):
        members.cohort.add(event)
        head = event.seq
        check()
        if number in cuts:
            for _ in members.flush():
                check()
            check()
    for _ in members.flush():
        check()
    check()
    assert all(position == head for position in last.values())


def test_one_who_fills_up_or_leaves_in_the_middle_is_written_to_no_more() -> None:
    members = Members()
    fills, leaves, stays = members.join(0), members.join(0), members.join(0)
    events = events_of([Change(3, number % 3, 0, 0, 1, 1) for number in range(12)])
    for event in events:
        members.cohort.add(event)
    assert isinstance(fills.sink, FakeSink)
    fills.sink.stall()
    fills.sink.high = 1
    flush = members.flush()
    next(flush)
    members.leave(leaves)
    list(flush)
    assert seqs(stays) == [event.seq for event in events]
    assert seqs(fills) == seqs(leaves) == seqs(stays)[: len(seqs(fills))]
    assert members.left[fills] == seqs(fills)[-1] < events[-1].seq
    assert list(members.cohort) == [stays]


def test_one_who_fills_up_within_a_batch_was_sent_only_what_is_conflated_before_it() -> None:
    """Regression: the first piece said how many the whole batch leaves out, and the catch-up of
    one whose sink was full by then sent some of them again."""
    members = Members(1.0)
    fills, stays = members.join(0), members.join(0)
    events = events_of([Change(3 - 2 * (n > 8), n % 3, 0, 0, 1, 1) for n in range(18)])
    for event in events:
        members.cohort.add(event)
    assert isinstance(fills.sink, FakeSink)
    fills.sink.stall()
    fills.sink.high = 1
    list(members.flush())
    missed = [event.seq for event in events if event not in batch_of(events)]
    assert 0 < members.left[fills] < missed[-1]
    for member, upto in ((fills, members.left[fills]), (stays, events[-1].seq)):
        notices = [body for body in reported(member) if body["type"] == "conflated"]
        check_notices(notices, [seq for seq in missed if seq <= upto])


def test_one_who_joins_between_two_slices_gets_nothing_twice() -> None:
    members = Members()
    for _ in range(5):
        members.join(0)
    events = events_of([Change(3, number % 3, 0, 0, 1, 1) for number in range(12)])
    for event in events:
        members.cohort.add(event)
    late = None
    for _ in members.flush():
        late = late or members.join(events[-1].seq)
    assert late is not None
    assert reported(late) == []
    assert members.position(late) == events[-1].seq


def test_what_waits_for_a_rated_cohort_is_bounded_by_the_rows_there_are() -> None:
    pending = RatedPending()
    for event in events_of([Change(3, number % 3, 0, 0, 1, 1) for number in range(900)]):
        pending.add(event)
    assert len(pending.events) == 3


def held_by(cohort: Cohort, events: list[Event]) -> int:
    """Bytes that the cohort keeps at the most, beside the events, which the tape has too."""
    tracemalloc.start()
    try:
        for event in events:
            cohort.add(event)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "keys", [pytest.param(4_000, id="many rows"), pytest.param(1, id="one row, again and again")]
)
def test_a_slow_pace_and_a_filter_that_nobody_shares_hold_no_book_of_all_rows(keys: int) -> None:
    """Regression: with `maxRate=0.2` each stream held up to 1.2 MB between two batches."""
    events = events_of([Change(3, number % keys, 0, 0, 1, 1) for number in range(24_000)])
    members = Members(0.2)
    alone = members.join(0)
    assert held_by(members.cohort, events) < 80 * 1024
    assert members.cohort.spilled
    members.head = events[-1].seq
    list(members.cohort.spill(members.leave))
    assert members.left == {alone: 0}
    assert len(members.cohort) == 0
    assert not members.cohort.is_pending


def test_what_a_cohort_may_keep_grows_with_its_members() -> None:
    """A crowd that shares a cohort is written as one, and no desk's rows are too many for it."""
    events = events_of([Change(3, number, 0, 0, 1, 1) for number in range(4_000)])
    members = Members(1.0)
    for _ in range(16):
        members.join(0)
    held = held_by(members.cohort, events)
    assert not members.cohort.spilled
    assert held < 16 * 64 * 1024
    list(members.flush())
    assert members.delivered == 16 * 4_000


def test_one_who_joins_while_a_spilled_batch_is_handed_over_stands_where_it_stood() -> None:
    events = events_of([Change(3, number, 0, 0, 1, 1) for number in range(1_000)])
    members = Members(1.0)
    early = [members.join(0), members.join(0), members.join(0)]
    for event in events:
        members.cohort.add(event)
    members.head = events[-1].seq
    assert members.cohort.spilled
    late = members.join(members.head)
    assert [members.position(member) for member in (*early, late)] == [0, 0, 0, 1_000]
    for _ in members.cohort.spill(members.leave):
        assert {members.position(member) for member in members.cohort} <= {0, 1_000}
    assert [members.left[member] for member in (*early, late)] == [0, 0, 0, 1_000]
