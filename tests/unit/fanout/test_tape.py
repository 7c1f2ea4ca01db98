"""The tape against the whole history: what it can answer, it answers as the history would."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecast.channels.catalogue import CHANNELS
from telecast.model import Entry, Event
from telecast.tape import compacted
from telecast.tape.channel_log import Standing
from telecast.tape.selection import Selection
from telecast.tape.tape import Chunk, Tape
from tests.support.fakes import (
    NAMES,
    Change,
    FakeJournal,
    Ledger,
    VirtualLoop,
    commit,
    event_of_entry,
    folded,
    histories,
    selections,
)

EVERYTHING = Selection(dict.fromkeys(NAMES, ()))
HISTORIES = histories()
BOUNDS = st.fixed_dictionaries(
    {"most_events": st.integers(1, 12), "most_bytes": st.sampled_from((300, 1_500, 100_000))}
)


@pytest.fixture(autouse=True, scope="module")
def small_slack() -> Iterator[None]:
    """Sweep and move early, so that short histories meet both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compacted, "SLACK", 2)
        yield


def taped(entries: list[Entry], **bounds: int) -> Tape:
    tape = Tape(CHANNELS, **bounds)
    for entry in entries:
        tape.apply(tape.event(entry))
    return tape


def seqs(events: list[Event] | list[Entry]) -> list[int]:
    return [event.seq for event in events]


def wants(selection: Selection, entry: Entry) -> bool:
    return selection.wants(event_of_entry(entry))


def is_newest(history: list[Entry], entry: Entry) -> bool:
    same = [e for e in history if (e.channel, e.key) == (entry.channel, entry.key)]
    return same[-1] is entry


def read_on(tape: Tape, selection: Selection, after: int, **how: int | bool) -> list[Chunk]:
    """Chunk after chunk until the head, each of which gets further."""
    chunks = []
    while after < tape.head:
        chunks.append(tape.read(selection, after, **how))  # type: ignore[arg-type]
        assert chunks[-1].upto > after, "a read that gets nowhere would be repeated for ever"
        after = chunks[-1].upto
    assert after == tape.head
    return chunks


@given(HISTORIES, BOUNDS)
def test_exact_means_that_every_event_after_the_position_is_there(
    changes: list[Change], bounds: dict[str, int]
) -> None:
    ledger = Ledger()
    tape = taped(commit(ledger, changes), **bounds)
    for name, log in tape.logs.items():
        for after in range(ledger.seq + 1):
            if tape.standing(name, after) is Standing.EXACT:
                expected = [e.seq for e in ledger.history if e.channel == name and e.seq > after]
                assert seqs(list(log.since(after))) == expected


@given(HISTORIES, BOUNDS)
def test_compact_means_every_pinned_event_and_every_newest_one(
    changes: list[Change], bounds: dict[str, int]
) -> None:
    ledger = Ledger()
    tape = taped(commit(ledger, changes), **bounds)
    for name, log in tape.logs.items():
        mine = [entry for entry in ledger.history if entry.channel == name]
        for after in range(ledger.seq + 1):
            if tape.standing(name, after) is Standing.EXPIRED:
                continue
            reported = list(log.since(after))
            assert seqs(reported) == sorted(set(seqs(reported))), "rising, nothing twice"
            later = [entry for entry in mine if entry.seq > after]
            must = {e.seq for e in later if e.pinned or is_newest(mine, e)}
            assert must <= set(seqs(reported)) <= set(seqs(later))
            held = folded(entry for entry in mine if entry.seq <= after)
            assert folded(reported, held) == folded(mine)


@given(HISTORIES, BOUNDS)
def test_expired_means_that_something_is_missing(
    changes: list[Change], bounds: dict[str, int]
) -> None:
    """The floors are honest the other way too: no needless snapshots, no needless gaps."""
    ledger = Ledger()
    tape = taped(commit(ledger, changes), **bounds)
    for name, log in tape.logs.items():
        mine = {entry.seq: entry for entry in ledger.history if entry.channel == name}
        assert log.compact_from <= log.whole_from
        if log.compact_from:
            lost = mine[log.compact_from]
            assert lost.pinned or lost.op == "delete"
            assert lost.seq not in seqs(list(log.since(0)))
        if log.whole_from:
            assert log.whole_from in mine
        if len(mine) <= bounds["most_events"] and bounds["most_bytes"] > 50_000:
            assert log.whole_from == 0


@given(HISTORIES, HISTORIES, BOUNDS, st.data())
def test_of_what_is_not_held_any_more_the_last_up_to_a_seq_is_known(
    old: list[Change], new: list[Change], bounds: dict[str, int], data: st.DataObject
) -> None:
    """Regression: only the floor was known, so that a gap ended with what was there."""
    ledger, loop = Ledger(), VirtualLoop()
    loop.close()
    journal = FakeJournal(loop)
    journal.commit(commit(ledger, old))
    for name in NAMES:
        journal.trim(name, data.draw(st.sampled_from((0, ledger.seq // 2))))
    floors = {name: (f.whole_from, f.compact_from) for name, f in journal.floors.items()}
    tape = Tape(CHANNELS, floors=floors, **bounds)
    for entry in [*journal.entries, *commit(ledger, new)]:
        tape.apply(tape.event(entry))
    for name, log in tape.logs.items():
        held, lost = set(seqs(list(log.since(0)))), 0
        assert log.lost(0) == 0
        for entry in ledger.history:
            if entry.channel == name:
                lost = lost if entry.seq in held else entry.seq
                if entry.seq >= floors[name][0]:
                    assert log.lost(entry.seq) == lost


def test_a_row_that_is_superseded_long_after_it_was_kept_is_lost_from_then_on() -> None:
    """No sweep has seen it yet."""
    ledger = Ledger()
    first, second, third = (Change(0, key, 0, 0, 1, 1) for key in range(3))
    tape = taped(
        commit(ledger, [first, first, second, second, second, third, third]), most_events=3
    )
    log = tape.logs["trader-status"]
    assert seqs(list(log.since(0))) == [1, 2, 3, 5, 6, 7]
    assert [log.lost(seq) for seq in range(1, 8)] == [0, 0, 0, 4, 4, 4, 4]
    for entry in commit(ledger, [first]):
        tape.apply(tape.event(entry))
    assert [log.lost(seq) for seq in range(1, 8)] == [0, 2, 2, 4, 4, 4, 4]


@given(HISTORIES, BOUNDS)
def test_newest_rows_are_never_trimmed_and_stand_in_seq_order(
    changes: list[Change], bounds: dict[str, int]
) -> None:
    ledger = Ledger()
    tape = taped(commit(ledger, changes), **bounds)
    rows = [event for log in tape.logs.values() for event in log.rows.values()]
    assert folded(rows) == ledger.rows
    for name, log in tape.logs.items():
        assert seqs(list(log.upserts(0))) == sorted(seqs(list(log.rows.values())))
        assert set(seqs(list(log.rows.values()))) <= set(seqs(list(log.since(0))))
        for key, row in log.rows.items():
            assert tape.row(name, key) is row


@given(HISTORIES, BOUNDS, selections(), st.booleans())
def test_a_read_is_the_history_s_answer_at_every_position(
    changes: list[Change], bounds: dict[str, int], selection: Selection, conflate: bool
) -> None:
    ledger = Ledger()
    tape = taped(commit(ledger, changes), **bounds)
    for after in range(ledger.seq + 1):
        standings = {tape.standing(name, after) for name in selection.channels}
        if Standing.EXPIRED in standings:
            continue
        chunk = tape.read(selection, after, conflate=conflate, most_bytes=10**9)
        later = [e for e in ledger.history if e.seq > after and wants(selection, e)]
        kept = [e for e in later if e.pinned or is_newest(ledger.history, e)]
        assert chunk.upto == ledger.seq
        if conflate:
            assert seqs(chunk.events) == seqs(kept)
        if standings <= {Standing.EXACT}:
            assert len(chunk.events) + chunk.conflated == len(later)
            if not conflate:
                assert seqs(chunk.events) == seqs(later)
        before = folded(e for e in ledger.history if e.seq <= after and wants(selection, e))
        assert folded(chunk.events, before) == ledger.state(selection)


@given(
    HISTORIES,
    BOUNDS,
    selections(),
    st.booleans(),
    st.integers(0, 400),
    st.integers(1, 9),
    st.data(),
)
def test_chunks_joined_are_the_same_as_one_read(
    changes: list[Change],
    bounds: dict[str, int],
    selection: Selection,
    conflate: bool,
    most_bytes: int,
    scan: int,
    data: st.DataObject,
) -> None:
    ledger = Ledger()
    tape = taped(commit(ledger, changes), **bounds)
    after = data.draw(st.integers(0, ledger.seq))
    whole = tape.read(selection, after, conflate=conflate, most_bytes=10**9, scan=10**9)
    chunks = read_on(tape, selection, after, conflate=conflate, most_bytes=most_bytes, scan=scan)
    assert [event for chunk in chunks for event in chunk.events] == whole.events
    assert sum(chunk.conflated for chunk in chunks) == whole.conflated
    for chunk in chunks:
        size = sum(len(event.json) for event in chunk.events[:-1])
        assert size < max(1, most_bytes), "only the last event may go over"
        assert len(chunk.events) + chunk.conflated <= scan


@given(HISTORIES, BOUNDS, selections(), st.data())
def test_a_channel_that_starts_later_is_sent_from_there_on(
    changes: list[Change], bounds: dict[str, int], selection: Selection, data: st.DataObject
) -> None:
    ledger = Ledger()
    tape = taped(commit(ledger, changes), **bounds)
    after = data.draw(st.integers(0, ledger.seq))
    starts = data.draw(
        st.dictionaries(st.sampled_from(NAMES), st.integers(0, ledger.seq), max_size=3)
    )
    plain = tape.read(selection, after, conflate=False, most_bytes=10**9)
    late = tape.read(selection, after, conflate=False, most_bytes=10**9, starts=starts)
    assert late.events == [e for e in plain.events if e.seq > starts.get(e.channel, 0)]
    assert late.upto == plain.upto


@given(HISTORIES, BOUNDS, selections(), st.integers(0, 400), st.integers(1, 9), st.data())
def test_rows_are_those_that_live_in_chunks_of_any_size(
    changes: list[Change],
    bounds: dict[str, int],
    selection: Selection,
    most_bytes: int,
    scan: int,
    data: st.DataObject,
) -> None:
    ledger = Ledger()
    tape = taped(commit(ledger, changes), **bounds)
    after = data.draw(st.integers(0, ledger.seq))
    upto = data.draw(st.integers(after, ledger.seq))
    rows = [row for log in tape.logs.values() for row in log.rows.values()]
    expected = sorted(row.seq for row in rows if after < row.seq <= upto and selection.wants(row))
    reported: list[Event] = []
    while after < upto:
        chunk = tape.rows(selection, after, upto=upto, most_bytes=most_bytes, scan=scan)
        assert after < chunk.upto <= upto, "a read that gets nowhere would be repeated for ever"
        assert len(chunk.events) <= max(scan, len(selection.channels))
        size = sum(len(event.json) for event in chunk.events[:-1])
        assert size < max(1, most_bytes), "only the last row may go over"
        reported += chunk.events
        after = chunk.upto
    assert seqs(reported) == expected


@given(HISTORIES, BOUNDS, selections(), st.booleans(), st.integers(1, 9), st.data())
def test_a_snapshot_at_n_and_what_follows_is_the_whole_history_folded(
    changes: list[Change],
    bounds: dict[str, int],
    selection: Selection,
    conflate: bool,
    scan: int,
    data: st.DataObject,
) -> None:
    """For every n, and however many commits come between the chunks that are sent."""
    ledger, tape = Ledger(), Tape(CHANNELS, **bounds)
    cut = data.draw(st.integers(0, len(changes)))

    def take_in(some: list[Change]) -> None:
        for entry in commit(ledger, some):
            tape.apply(tape.event(entry))

    take_in(changes[:cut])
    reported: list[Event] = []
    at, after, following = tape.head, 0, changes[cut:]
    while after < at:
        chunk = tape.rows(selection, after, upto=at, most_bytes=10**9, scan=scan)
        reported += chunk.events
        after = chunk.upto
        take_in(following[:1])
        following = following[1:]
    assert seqs(reported) == sorted(set(seqs(reported))), "rising, nothing twice"
    take_in(following)
    if any(tape.standing(name, at) is Standing.EXPIRED for name in selection.channels):
        return
    reported += tape.read(selection, at, conflate=conflate, most_bytes=10**9).events
    assert folded(reported) == ledger.state(selection)


@given(HISTORIES, HISTORIES, BOUNDS, st.data())
def test_a_tape_fed_from_a_trimmed_journal_claims_no_more_than_it_holds(
    old: list[Change], new: list[Change], bounds: dict[str, int], data: st.DataObject
) -> None:
    """Regression: letting go of an old live row took the floors that the journal had given down
    to that row's seq, so that lost events and lost tombstones passed for sent."""
    ledger, loop = Ledger(), VirtualLoop()
    loop.close()
    journal = FakeJournal(loop)
    journal.commit(commit(ledger, old))
    for name in NAMES:
        journal.trim(name, data.draw(st.sampled_from((0, ledger.seq // 2, ledger.seq))))
    floors = {name: (f.whole_from, f.compact_from) for name, f in journal.floors.items()}
    tape = Tape(CHANNELS, floors=floors, **bounds)
    for entry in [*journal.entries, *commit(ledger, new)]:
        tape.apply(tape.event(entry))
    for name, log in ((each, tape.logs[each]) for each in NAMES):
        mine = [entry for entry in ledger.history if entry.channel == name]
        assert log.whole_from >= floors[name][0]
        assert log.compact_from >= floors[name][1]
        for after in range(ledger.seq + 1):
            reported = list(log.since(after))
            later = [entry for entry in mine if entry.seq > after]
            standing = tape.standing(name, after)
            if standing is Standing.EXACT:
                assert seqs(reported) == seqs(later)
            elif standing is Standing.COMPACT:
                held = folded(entry for entry in mine if entry.seq <= after)
                assert folded(reported, held) == folded(mine)
                assert {e.seq for e in later if e.pinned} <= set(seqs(reported))


@given(histories(200), BOUNDS)
def test_memory_is_bounded_by_the_bounds_and_the_rows_that_live(
    changes: list[Change], bounds: dict[str, int]
) -> None:
    ledger = Ledger()
    tape = Tape(CHANNELS, **bounds)
    most, rows = bounds["most_events"], dict.fromkeys(NAMES, 0)
    for entry in commit(ledger, changes):
        tape.apply(tape.event(entry))
        log = tape.logs[entry.channel]
        live = rows[entry.channel] = max(rows[entry.channel], len(log.rows))
        # The whole part; and what is kept, which may grow by a half while a sweep goes over it.
        assert len(log) <= most + 3 * (live + most + compacted.SLACK)
        assert len(log._upserts) <= 3 * (live + compacted.SLACK)
    for log in tape.logs.values():
        whole = log._whole[log._first :]
        assert len(whole) <= most
        assert sum(len(e.json) for e in whole[1:]) <= bounds["most_bytes"]


def test_no_event_waits_until_all_that_is_kept_is_swept() -> None:
    """Regression: with 100,000 keys one event in as many held the event loop for 28 ms or more."""
    looks = most = 0

    class Rows(dict[str, Event]):
        def get(self, *key: Any) -> Event | None:
            nonlocal looks
            looks += 1
            return super().get(*key)

    ledger, tape = Ledger(), Tape(CHANNELS, most_events=10)
    log, chance = tape.logs["market-data"], random.Random(1)
    log.rows = Rows()
    for number in range(6_000):
        key = number if number < 1_000 else chance.randrange(1_000)
        for entry in ledger.upsert("market-data", {"symbol": f"S{key}", "exchange": None}):
            before = looks
            tape.apply(tape.event(entry))
            most = max(most, looks - before)
    assert compacted.LOOKS < most <= 2 * compacted.LOOKS + 4
    assert seqs(list(log.upserts(0))) == sorted(event.seq for event in log.rows.values())


def test_a_tombstone_is_held_until_it_is_old_history_and_then_the_position_before_expires() -> None:
    """Else a client from before it would keep a ghost."""
    ledger = Ledger()
    tape = Tape(CHANNELS, most_events=2)
    log = tape.logs["market-data"]
    for number in range(20):
        row = {"symbol": f"S{number}", "exchange": None}
        for entry in ledger.upsert("market-data", row) + ledger.delete("market-data", f"S{number}"):
            tape.apply(tape.event(entry))
        for after in range(ledger.seq):
            held = folded(entry for entry in ledger.history if entry.seq <= after)
            if tape.standing("market-data", after) is not Standing.EXPIRED:
                assert folded(log.since(after), held) == {}
    assert tape.standing("market-data", 1) is Standing.EXPIRED


def test_a_selection_of_nothing_is_sent_nothing_up_to_the_head() -> None:
    ledger = Ledger()
    tape = taped(commit(ledger, [Change(0, 0, 0, 0, 1, 1)]))
    assert tape.read(Selection(), 0, conflate=True, most_bytes=1) == Chunk([], ledger.seq, 0)


def test_an_event_is_sent_as_its_entry_says() -> None:
    """The JSON that every transport tells: the wire contract's fields, the payload's bytes
    untouched."""
    entry = Entry(
        7, 1_234, "market-data", 'S"0', "upsert", False, b'{"symbol":"S0","price":"1.50"}'
    )
    event = Tape(CHANNELS).event(entry)
    assert event.json == (
        b'{"type":"event","channel":"market-data","seq":7,"op":"upsert","key":"S\\"0",'
        b'"data":{"symbol":"S0","price":"1.50"},"timestamp":1234}'
    )
    assert event.row == {"symbol": "S0", "price": "1.50"}
    assert event.fields == {"symbol": "S0", "exchange": None}
