"""One suite that every journal must pass. `journal_model` is the oracle."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telecast.errors import (
    Conflict,
    IdempotencyConflict,
    IdempotencyExhausted,
    JournalUnavailable,
    SettingsError,
)
from telecast.journal import journal_from_url
from telecast.journal import tail as tail_module
from telecast.journal.base import (
    IDEMPOTENCY_SECONDS,
    MAX_BATCH,
    MAX_NOTE_BYTES,
    Batch,
    Idempotency,
    Journal,
    KeyLimits,
    Note,
    Receipt,
    read_book,
)
from telecast.journal.memory import MemoryJournal
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.journal.trimming import TRIM_MOST
from telecast.model import MAX_SEQ, Entry, Floor, Op, Record, Retention
from tests.contract.journal_model import Model
from tests.contract.journals import Clock, Kind

A, B = "trader-status", "market-data"
KEEP = {A: Retention(1_000_000, 1e9), B: Retention(1_000_000, 1e9)}
FEW = {A: Retention(3, 10.0), B: Retention(2, 30.0)}
LIGHT = {A: Retention(100, 1e9, 10), B: Retention(3, 30.0, 6)}
"""So few bytes that some of the smallest payloads are trimmed."""
"""So little that a handful of entries is trimmed by count and by age."""

DIGEST = b"d" * 32

several = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def record(
    key: str = "k",
    *,
    channel: str = A,
    op: Op = "upsert",
    pinned: bool = False,
    data: bytes = b"{}",
) -> Record:
    return Record(channel, key, op, pinned, data)


def batch(*records: Record, **options: Any) -> Batch:
    return Batch(records=records, **options)


def keyed(key: str, *records: Record, digest: bytes = DIGEST, **options: Any) -> Batch:
    return Batch(records=records, idempotency=Idempotency(key, digest), **options)


async def everything(journal: Journal, *channels: str) -> tuple[Entry, ...]:
    return (await journal.read(channels or (A, B), 0, 1_000_000)).entries


async def collect(tail: AsyncIterator[tuple[Entry, ...]], upto: int) -> list[tuple[Entry, ...]]:
    reported: list[tuple[Entry, ...]] = []
    while not reported or reported[-1][-1].seq < upto:
        if entries := await anext(tail):
            reported.append(entries)
    return reported


async def drain(tail: AsyncIterator[tuple[Entry, ...]]) -> list[tuple[Entry, ...]]:
    return [entries async for entries in tail]


def flat(reported: Iterable[tuple[Entry, ...]]) -> list[Entry]:
    return [entry for entries in reported for entry in entries]


# numbers, order, receipts


async def test_a_batch_gets_consecutive_numbers_and_the_time_of_its_commit(kind: Kind) -> None:
    clock = Clock()
    async with kind.journal(KEEP, clock) as journal:
        first = await journal.append(batch(record("x"), record("y", channel=B)))
        clock.seconds += 1.5
        second = await journal.append(batch(record("z", op="delete", pinned=True, data=b'{"a":1}')))
        assert (first.count, first.first_seq, first.last_seq) == (2, 1, 2)
        assert second.first_seq == first.last_seq + 1
        assert not second.duplicate
        assert journal.head == second.last_seq
        assert await everything(journal) == (
            Entry(1, 1_700_000_000_000, A, "x", "upsert", False, b"{}"),
            Entry(2, 1_700_000_000_000, B, "y", "upsert", False, b"{}"),
            Entry(3, 1_700_000_001_500, A, "z", "delete", True, b'{"a":1}'),
        )


async def test_its_time_is_that_of_what_commits(kind: Kind) -> None:
    clock = Clock()
    async with kind.journal(KEEP, clock) as journal:
        for _ in range(2):
            receipt = await journal.append(batch(record("x")))
            assert int(journal.now() * 1000) == receipt.timestamp
            clock.seconds += 3600


async def test_appends_made_one_after_the_other_commit_in_that_order(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        receipts = await asyncio.gather(
            *(journal.append(batch(record(f"k{n}"), record(f"l{n}"))) for n in range(200))
        )
        assert all(a.last_seq < b.first_seq for a, b in pairwise(receipts))
        keys = [entry.key for entry in await everything(journal)]
        assert keys == [key for n in range(200) for key in (f"k{n}", f"l{n}")]


async def test_the_head_is_raised_before_the_receipt_is_seen(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:

        async def one() -> None:
            receipt = await journal.append(batch(record()))
            assert journal.head >= receipt.last_seq

        await asyncio.gather(*(one() for _ in range(50)))


async def test_each_life_has_an_epoch_of_its_own(kind: Kind) -> None:
    async with kind.journal(KEEP) as one, kind.journal(KEEP) as other:
        assert re.fullmatch(r"[0-9a-z]{4,16}", one.epoch)
        assert one.epoch != other.epoch


async def test_payloads_and_keys_come_back_byte_for_byte(kind: Kind) -> None:
    data = '{ "price": "1.10",\n"text": "\\u0000 é 漢 🦉 \\" \\\\", "n": 1.0e+5 }'.encode()
    keys = ["", 'a"b\\c\n\t\x01\x7f', "漢🦉", "1", "[2]", "null", "k" * 5000]
    async with kind.journal(KEEP) as journal:
        receipt = await journal.append(batch(*(record(key, data=data) for key in keys)))
        entries = await everything(journal)
        assert [entry.key for entry in entries] == keys
        assert {entry.data for entry in entries} == {data}
        rows = {(A, key): receipt.first_seq + n for n, key in enumerate(keys)}
        await journal.append(batch(record(), expect=rows))


async def test_a_batch_of_the_largest_size_is_taken_and_a_larger_one_is_not(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        receipt = await journal.append(batch(*(record(str(n)) for n in range(MAX_BATCH))))
        assert receipt.last_seq - receipt.first_seq == MAX_BATCH - 1
        with pytest.raises(ValueError, match="at most 4096"):
            await journal.append(batch(*(record(str(n)) for n in range(MAX_BATCH + 1))))


@pytest.mark.parametrize(
    "wrong",
    [
        batch(),
        batch(record("a\0b")),
        batch(record("\ud800")),
        batch(record(channel="c\0")),
        batch(record(), expect={(A, "\udfff"): 0}),
        keyed("\ud800", record()),
    ],
)
async def test_what_no_journal_can_keep_is_refused_and_harms_no_one(
    kind: Kind, wrong: Batch
) -> None:
    async with kind.journal(KEEP) as journal:
        outcomes = await asyncio.gather(
            journal.append(batch(record("x"))),
            journal.append(wrong),
            journal.append(batch(record("y"))),
            return_exceptions=True,
        )
        assert isinstance(outcomes[1], ValueError)
        assert [entry.key for entry in await everything(journal)] == ["x", "y"]


async def test_a_channel_without_retention_is_kept_whole(kind: Kind) -> None:
    async with kind.journal({}) as journal:
        await journal.append(batch(record(), record()))
        assert await journal.trim() == 0
        page = await journal.read([A], 0, 10)
        assert len(page.entries) == 2
        assert page.floors == {A: Floor()}
        assert journal.floors() == {}


# expect and idempotency


async def test_expect_compares_the_live_row_of_each_key(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        await journal.append(batch(record("x"), expect={(A, "x"): 0}))
        await journal.append(batch(record("x"), expect={(A, "x"): 1, (B, "x"): 0}))
        with pytest.raises(Conflict) as caught:
            await journal.append(batch(record("x"), expect={(A, "x"): 1, (A, "y"): 7, (B, "x"): 0}))
        assert set(caught.value.keys) == {(A, "x"), (A, "y")}
        await journal.append(batch(record("x", op="delete"), expect={(A, "x"): 2}))
        await journal.append(batch(record("x"), expect={(A, "x"): 0}))


async def test_a_conflict_leaves_nothing_and_does_not_fail_its_neighbours(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        outcomes = await asyncio.gather(
            journal.append(batch(record("x"))),
            journal.append(keyed("i", record("x"), record("y"), expect={(A, "x"): 0})),
            journal.append(batch(record("z"), expect={(A, "x"): 1, (A, "y"): 0})),
            return_exceptions=True,
        )
        assert isinstance(outcomes[1], Conflict)
        assert [entry.key for entry in await everything(journal)] == ["x", "z"]
        assert journal.head == 2
        again = await journal.append(keyed("i", record("y"), digest=b"other"))
        assert not again.duplicate


async def test_of_writers_that_derive_from_the_same_row_one_wins(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        outcomes = await asyncio.gather(
            *(journal.append(batch(record("x"), expect={(A, "x"): 0})) for _ in range(30)),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, Receipt) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 29


async def test_a_repeat_is_answered_by_the_first_receipt_whatever_it_expects(kind: Kind) -> None:
    clock = Clock()
    async with kind.journal(KEEP, clock) as journal:
        first, beside = await asyncio.gather(
            journal.append(keyed("i", record("x"))), journal.append(keyed("i", record("x")))
        )
        clock.seconds += 60
        later = await journal.append(keyed("i", record("y"), expect={(A, "x"): 99}))
        assert not first.duplicate
        assert beside == later == Receipt(1, 1, 1, first.timestamp, duplicate=True)
        assert len(await everything(journal)) == 1


async def test_a_known_key_with_another_digest_is_refused(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        outcomes = await asyncio.gather(
            journal.append(keyed("i", record("x"))),
            journal.append(keyed("i", record("y"), digest=b"other")),
            return_exceptions=True,
        )
        assert isinstance(outcomes[1], IdempotencyConflict)
        with pytest.raises(IdempotencyConflict):
            await journal.append(keyed("i", record("y"), digest=b"other"))
        assert len(await everything(journal)) == 1


async def test_a_batch_without_records_keeps_its_key_and_reports_the_head(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        await journal.append(batch(record(), record()))
        receipt = await journal.append(keyed("i"))
        assert (receipt.count, receipt.first_seq, receipt.last_seq) == (0, 0, 2)
        await journal.append(batch(record()))
        assert await journal.append(keyed("i")) == Receipt(
            0, 0, 2, receipt.timestamp, duplicate=True
        )
        assert journal.head == 3


async def test_trim_forgets_keys_that_are_older_than_a_day(kind: Kind) -> None:
    clock = Clock()
    async with kind.journal(KEEP, clock) as journal:
        await journal.append(keyed("old", record()))
        clock.seconds += IDEMPOTENCY_SECONDS - 1
        await journal.append(keyed("young", record()))
        assert await journal.trim() == 0
        assert (await journal.append(keyed("old", record()))).duplicate
        clock.seconds += 2
        await journal.trim()
        assert not (await journal.append(keyed("old", record(), digest=b"other"))).duplicate
        assert (await journal.append(keyed("young", record()))).duplicate


# notes


async def noted(journal: Journal, *notes: tuple[str, bytes | None], book: str = "b") -> Receipt:
    return await journal.append(Batch(notes=tuple(Note(book, key, value) for key, value in notes)))


async def test_a_note_is_read_back_byte_for_byte_and_replaced_and_erased(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        await noted(journal, ("漢", bytes(range(256))), ("a", b""), ("z", b"1"))
        await noted(journal, ("a", b"2"), ("z", None), ("new", b"x"), ("new", None))
        assert await read_book(journal, "b") == {"a": b"2", "漢": bytes(range(256))}
        await noted(journal, ("a", None))
        assert list(await read_book(journal, "b")) == ["漢"]


async def test_books_do_not_see_each_other(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        await noted(journal, ("k", b"1"), book="one")
        await noted(journal, ("k", b"2"), book="two")
        assert await read_book(journal, "one") == {"k": b"1"}
        assert await read_book(journal, "two") == {"k": b"2"}
        assert await read_book(journal, "none") == {}


async def test_notes_are_paged_in_the_order_of_their_keys(kind: Kind) -> None:
    keys = sorted(["", "a", "b", "漢", "é", "Z", "🦉", "\uffff"][1:])
    async with kind.journal(KEEP) as journal:
        await noted(journal, *((key, key.encode()) for key in reversed(keys)))
        for limit in (1, 2, 7, 100):
            found: list[str] = []
            while page := await journal.notes("b", found[-1] if found else "", limit):
                assert len(page) <= limit
                found += [note.key for note in page]
            assert found == keys


async def test_notes_alone_move_no_number_and_the_tail_does_not_report_them(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        await journal.append(batch(record("x")))
        receipt = await noted(journal, ("k", b"v"))
        assert (receipt.count, receipt.first_seq, receipt.last_seq) == (0, 0, 1)
        await journal.append(batch(record("y")))
        tail = flat(await collect(journal.tail(), 2))
        assert [entry.key for entry in tail] == ["x", "y"]


async def test_notes_and_records_commit_as_one_or_not_at_all(kind: Kind) -> None:
    note = (Note("b", "k", b"first"),)
    async with kind.journal(KEEP) as journal:
        await journal.append(keyed("i", record("x"), notes=note))
        later = (Note("b", "k", b"later"),)
        outcomes = await asyncio.gather(
            journal.append(keyed("i", record("x"), notes=later)),
            journal.append(keyed("i", record("y"), digest=b"other", notes=later)),
            journal.append(Batch(records=(record("x"),), expect={(A, "x"): 0}, notes=later)),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [Receipt, IdempotencyConflict, Conflict]
        assert await read_book(journal, "b") == {"k": b"first"}
        assert len(await everything(journal)) == 1


async def test_notes_outlive_trimming_and_another_opening(kind: Kind) -> None:
    clock = Clock()
    with tempfile.TemporaryDirectory() as directory:
        async with kind.journal(FEW, clock, directory) as journal:
            await noted(journal, ("k", b"v"))
            clock.seconds += 1e6
            await journal.trim()
            assert await read_book(journal, "b") == {"k": b"v"}
        async with kind.journal(FEW, clock, directory) as journal:
            assert await read_book(journal, "b") == ({"k": b"v"} if kind.outlives else {})


@pytest.mark.parametrize(
    "wrong",
    [
        Note("b", "", b""),
        Note("b", "a\0b", b""),
        Note("\ud800", "k", b""),
        Note("b", "k", bytes(MAX_NOTE_BYTES + 1)),
    ],
)
async def test_a_note_that_no_journal_can_keep_is_refused(kind: Kind, wrong: Note) -> None:
    async with kind.journal(KEEP) as journal:
        with pytest.raises(ValueError, match=r"note|NUL|surrogate"):
            await journal.append(batch(record("x"), notes=(wrong,)))
        assert journal.head == 0


# how many idempotency keys


FEW_KEYS = KeyLimits(per_owner=2, total=3)


async def test_a_full_budget_of_keys_refuses_the_newcomer_and_answers_the_known(
    kind: Kind,
) -> None:
    async with kind.journal(KEEP, limits=FEW_KEYS) as journal:
        for key in ("a:1", "a:2"):
            await journal.append(keyed(key, record()))
        with pytest.raises(IdempotencyExhausted, match="2 idempotency keys of this key"):
            await journal.append(keyed("a:3", record()))
        assert (await journal.append(keyed("a:1", record()))).duplicate
        await journal.append(keyed("b:1", record()))
        with pytest.raises(IdempotencyExhausted, match="3 idempotency keys are remembered"):
            await journal.append(keyed("c:1", record()))
        await journal.append(batch(record()))
        assert journal.head == 4
        assert journal.figures().idempotency_keys in (0, 3)  # as of the last look


async def test_keys_that_come_at_once_do_not_pass_the_budget_together(kind: Kind) -> None:
    async with kind.journal(KEEP, limits=FEW_KEYS) as journal:
        outcomes = await asyncio.gather(
            *(journal.append(keyed(f"a:{n}", record())) for n in range(20)), return_exceptions=True
        )
        assert [type(each) for each in outcomes] == [Receipt] * 2 + [IdempotencyExhausted] * 18


async def test_keys_that_are_forgotten_make_room_also_after_a_restart(kind: Kind) -> None:
    clock = Clock()
    with tempfile.TemporaryDirectory() as directory:
        async with kind.journal(KEEP, clock, directory, FEW_KEYS) as journal:
            for key in ("a:1", "a:2"):
                await journal.append(keyed(key, record()))
        async with kind.journal(KEEP, clock, directory, FEW_KEYS) as journal:
            if kind.outlives:
                with pytest.raises(IdempotencyExhausted):
                    await journal.append(keyed("a:3", record()))
            clock.seconds += IDEMPOTENCY_SECONDS + 1
            assert await journal.trim() == (2 if kind.outlives else 0)
            for key in ("a:3", "a:4"):
                await journal.append(keyed(key, record()))
            with pytest.raises(IdempotencyExhausted):
                await journal.append(keyed("a:5", record()))


# reading


async def test_pages_of_any_size_join_to_the_whole(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        await journal.append(batch(*(record(str(n), channel=(A, B)[n % 3 > 0]) for n in range(40))))
        for channels in ([A], [B], [A, B], {B, A}, [A, B, A, "unknown"]):
            whole = await journal.read(channels, 0, 1000)
            assert [e.seq for e in whole.entries] == [
                seq for seq in range(1, 41) if (A, B)[(seq - 1) % 3 > 0] in channels
            ]
            assert not whole.more
            assert whole.upto == 40
            assert whole.floors.keys() == set(channels)
            for limit in (1, 7, 14, 40):
                entries: list[Entry] = []
                after, more = 0, True
                while more:
                    page = await journal.read(channels, after, limit)
                    assert len(page.entries) <= limit
                    assert all(after < e.seq <= page.upto for e in page.entries)
                    entries += page.entries
                    after, more = page.upto, page.more
                assert tuple(entries) == whole.entries


async def test_a_read_beyond_the_head_or_of_no_channel_is_empty(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        await journal.append(batch(record(), record()))
        beyond = await journal.read([A], 5, 10)
        assert (beyond.entries, beyond.upto, beyond.more) == ((), 5, False)
        nothing = await journal.read([], 0, 10)
        assert (nothing.entries, nothing.upto, nothing.more) == ((), 2, False)
        assert (await journal.read([B], 0, 10)).upto == 2
        with pytest.raises(ValueError, match="at least one"):
            await journal.read([A], 0, 0)


# the tail


async def test_the_tail_yields_history_and_then_each_commit_whole(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        await journal.append(batch(record("x"), record("y")))
        async with aclosing(journal.tail()) as tail:  # type: ignore[type-var]
            assert [e.key for e in flat(await collect(tail, 2))] == ["x", "y"]
            assert await anext(tail) == (), "one empty tuple ends the history"
            waiting = asyncio.ensure_future(anext(tail))
            await journal.append(batch(record("z", channel=B), record("x")))
            assert [e.key for e in await waiting] == ["z", "x"]


async def test_a_live_tail_never_yields_a_part_of_a_batch(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        following = asyncio.ensure_future(collect(journal.tail(), 90))
        await asyncio.sleep(0)
        receipts = await asyncio.gather(
            *(journal.append(batch(record("x"), record("y"), record("z"))) for _ in range(30))
        )
        ends = {receipt.last_seq for receipt in receipts}
        assert all(entries[-1].seq in ends for entries in await following)


async def test_the_tail_ends_when_the_journal_closes_and_has_all_by_then(
    kind: Kind,
) -> None:
    async with kind.journal(KEEP) as journal:
        tail = journal.tail()
        await journal.append(batch(record("first")))
        assert [e.key for e in await anext(tail)] == ["first"]
        assert await anext(tail) == ()
        rest = asyncio.ensure_future(drain(tail))
        await asyncio.sleep(0)  # it has caught up, and waits
        await asyncio.gather(
            *(journal.append(batch(record(str(n)))) for n in range(10)), journal.close()
        )
        assert [e.key for e in flat(await rest)] == [str(n) for n in range(10)]


async def test_a_tail_that_waits_is_ended_by_close(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        tail = journal.tail()
        assert await anext(tail) == (), "there is no history, and that is said"
        waiting = asyncio.ensure_future(anext(tail, None))
        await asyncio.sleep(0)
        await journal.close()
        assert await waiting is None


async def test_what_commits_while_the_end_of_the_history_is_read_comes_after_it(
    kind: Kind,
) -> None:
    async with kind.journal(KEEP) as journal:
        await journal.append(batch(record("before")))
        tail = journal.tail()
        assert [e.key for e in await anext(tail)] == ["before"]
        assert await anext(tail) == ()
        await journal.append(batch(record("after")))
        assert [e.key for e in await anext(tail)] == ["after"]


async def test_a_tail_whose_journal_closed_amid_the_history_does_not_call_it_complete(
    kind: Kind,
) -> None:
    with patch.object(tail_module, "HISTORY_PAGE", 2):
        async with kind.journal(KEEP) as journal:
            await journal.append(batch(*(record() for _ in range(5))))
            tail = journal.tail()
            assert len(await anext(tail)) == 2
            await journal.close()
            assert await drain(tail) == []


async def test_there_is_one_tail_at_a_time(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        await journal.append(batch(record()))
        async with aclosing(journal.tail()) as tail:  # type: ignore[type-var]
            await anext(tail)
            with pytest.raises(RuntimeError, match="one tail"):
                await anext(journal.tail())
        async with aclosing(journal.tail()) as tail:  # type: ignore[type-var]
            assert len(await anext(tail)) == 1


@several
@given(
    before=st.lists(st.integers(1, 5), max_size=8),
    meanwhile=st.lists(st.integers(1, 5), max_size=12),
    after=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    page=st.integers(1, 4),
)
def test_the_tail_equals_the_committed_history_once_and_in_order(
    kind: Kind, before: list[int], meanwhile: list[int], after: list[int], page: int
) -> None:
    """Appends go on while the history is paged: at the hand-over nothing is lost or repeated."""

    if not kind.affords("tail"):
        return

    async def scenario() -> None:
        async with kind.journal(KEEP) as journal:

            async def append(sizes: list[int]) -> None:
                for size in sizes:
                    await journal.append(batch(*(record(str(n)) for n in range(size))))

            await append(before)
            upto = sum(before) + sum(meanwhile) + sum(after)
            following = asyncio.ensure_future(collect(journal.tail(), upto))
            await asyncio.gather(append(meanwhile[::2]), append(meanwhile[1::2]))
            await append(after)
            reported = await following
            assert [entry.seq for entry in flat(reported)] == list(range(1, upto + 1))
            assert tuple(flat(reported)) == await everything(journal)

    with patch.object(tail_module, "HISTORY_PAGE", page):
        asyncio.run(scenario())


# cancellation and closing


async def test_cancelling_a_caller_cancels_neither_its_commit_nor_others(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        tasks = [asyncio.ensure_future(journal.append(batch(record(str(n))))) for n in range(20)]
        await asyncio.sleep(0)  # each has handed its batch over
        for task in tasks[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, Receipt) for outcome in outcomes[1::2])
        last = await journal.append(batch(record("last")))
        assert last.last_seq == journal.head == 21
        keys = [entry.key for entry in await everything(journal)]
        assert keys == [*(str(n) for n in range(20)), "last"]


async def test_cancelling_reads_trims_and_tails_harms_nothing(kind: Kind) -> None:
    async with kind.journal(FEW) as journal:
        for n in range(10):
            await journal.append(batch(record(str(n % 2))))
        tail = journal.tail()
        tasks = [
            asyncio.ensure_future(journal.read([A], 0, 10)),
            asyncio.ensure_future(journal.trim()),
            asyncio.ensure_future(collect(tail, 99)),
        ]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await journal.append(batch(record("last")))
        await journal.trim()
        assert [e.key for e in await everything(journal)][-1] == "last"


async def test_close_finishes_what_is_under_way_and_may_be_called_twice(kind: Kind) -> None:
    async with kind.journal(KEEP) as journal:
        assert journal.failure() is None
        pending = [asyncio.ensure_future(journal.append(batch(record()))) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.gather(journal.close(), journal.close())
        assert [(await task).last_seq for task in pending] == [1, 2, 3, 4, 5]
        await journal.close()
        assert journal.failure() is not None
        with pytest.raises(JournalUnavailable, match="closed"):
            await journal.append(batch(record()))


# trimming


async def test_retention_counts_per_channel_and_spares_the_newest_row_of_each_key(
    kind: Kind,
) -> None:
    async with kind.journal(FEW) as journal:
        await journal.append(batch(record("quiet"), *(record("busy") for _ in range(9))))
        await journal.append(batch(record("other", channel=B)))
        assert await journal.trim() == 6
        assert [e.seq for e in await everything(journal, A)] == [1, 8, 9, 10]
        assert journal.floors() == {A: Floor(7, 0), B: Floor()}
        assert (await journal.read([A], 0, 10)).floors == {A: Floor(7, 0)}


async def test_retention_goes_by_age(kind: Kind) -> None:
    clock = Clock()
    async with kind.journal(FEW, clock) as journal:
        await journal.append(batch(record("x", pinned=True), record("y", op="delete")))
        clock.seconds += 10
        await journal.append(batch(record("x")))
        assert await journal.trim() == 0
        clock.seconds += 0.001
        assert await journal.trim() == 2
        assert [e.seq for e in await everything(journal)] == [3]
        assert journal.floors()[A] == Floor(2, 2)


async def test_retention_goes_by_bytes_and_spares_newest_rows(kind: Kind) -> None:
    async with kind.journal(LIGHT) as journal:
        await journal.append(batch(record("quiet", data=b"12345678")))
        for _ in range(4):
            await journal.append(batch(record("busy", data=b"1234")))
        assert await journal.trim() == 2
        assert [e.seq for e in await everything(journal)] == [1, 4, 5]
        assert journal.floors()[A] == Floor(3, 0)
        await journal.append(batch(record("busy", data=b"12")))
        assert await journal.trim() == 0
        await journal.append(batch(record("busy", data=b"1")))
        assert await journal.trim() == 1


async def test_whole_from_stays_where_only_live_rows_grew_old(kind: Kind) -> None:
    """Nothing went, so nobody may be sent a gap."""
    clock = Clock()
    async with kind.journal(FEW, clock) as journal:
        await journal.append(batch(*(record(str(n)) for n in range(5))))
        clock.seconds += 100
        assert await journal.trim() == 0
        assert journal.floors()[A] == Floor()


async def test_a_row_that_was_spared_goes_once_it_is_superseded(kind: Kind) -> None:
    async with kind.journal(FEW) as journal:
        await journal.append(batch(record("x", pinned=True), record("y"), record("z")))
        await journal.append(batch(*(record("w") for _ in range(5))))
        await journal.trim()
        assert [e.key for e in await everything(journal)] == ["x", "y", "z", "w", "w", "w"]
        await journal.append(batch(record("x"), record("y", op="delete")))
        assert len(await everything(journal)) == 8, "only trim removes"
        await journal.trim()
        assert [(e.key, e.op) for e in await everything(journal)] == [
            ("z", "upsert"),
            ("w", "upsert"),
            ("x", "upsert"),
            ("y", "delete"),
        ]
        assert journal.floors()[A].compact_from == 1


async def test_numbers_are_not_used_again_after_the_newest_entries_went(kind: Kind) -> None:
    clock = Clock()
    async with kind.journal(FEW, clock) as journal:
        await journal.append(batch(record("x"), record("x", op="delete")))
        clock.seconds += 1000
        assert await journal.trim() == 2
        assert await everything(journal) == ()
        assert journal.head == 2
        assert journal.floors()[A] == Floor(2, 2)
        assert (await journal.append(batch(record("x"), expect={(A, "x"): 0}))).first_seq == 3


async def test_a_retention_that_is_given_trims_the_channels_that_it_names_alone(
    kind: Kind,
) -> None:
    async with kind.journal(KEEP) as journal:
        for key in ("a", "b", "a"):
            await journal.append(batch(record(key), record(key, channel=B)))
        await journal.append(batch(record("b", op="delete")))
        while await journal.trim({A: Retention(0, 0.0)}):
            pass
        left = (await journal.read([A, B], 0, 100)).entries
        assert [entry.key for entry in left if entry.channel == A] == ["a"]
        assert [entry.key for entry in left if entry.channel == B] == ["a", "b", "a"]
        assert journal.floors()[A].whole_from == journal.head
        assert journal.floors()[B] == Floor()


async def test_one_trim_is_bounded_and_the_next_goes_on(kind: Kind) -> None:
    clock = Clock()
    async with kind.journal(FEW, clock) as journal:
        for _ in range(3):
            await journal.append(batch(*(record() for _ in range(MAX_BATCH))))
        total = 3 * MAX_BATCH
        assert await journal.trim() == TRIM_MOST
        assert len(await everything(journal)) == total - TRIM_MOST
        while await journal.trim():
            pass
        assert [e.seq for e in await everything(journal)] == [total - 2, total - 1, total]


async def test_a_clock_that_was_set_back_holds_nothing_up_for_ever(kind: Kind) -> None:
    clock = Clock()
    async with kind.journal(FEW, clock) as journal:
        await journal.append(batch(record()))
        clock.seconds -= 86400
        await journal.append(batch(record(), record()))
        clock.seconds += 86400 + 9
        assert await journal.trim() == 0
        clock.seconds += 2
        assert await journal.trim() == 2


# any sequence at all

ROWS = [(A, "x"), (A, "y"), (B, "x"), (B, "z")]
_records = st.builds(
    Record,
    st.sampled_from([A, B]),
    st.sampled_from("xyz"),
    st.sampled_from(["upsert", "upsert", "delete"]),
    st.booleans(),
    st.sampled_from([b"{}", b'{"a":"b"}', b'"\xc3\xa9"']),
)
_proposals = st.tuples(
    st.lists(_records, max_size=4),
    st.lists(st.tuples(st.sampled_from(ROWS), st.sampled_from([0, 0, 0, 1])), max_size=2),
    st.one_of(
        st.none(), st.tuples(st.sampled_from("ijk"), st.sampled_from([DIGEST, DIGEST, b"o"]))
    ),
).filter(lambda proposal: bool(proposal[0] or proposal[2]))
"""Records, rows to expect with how far off to be, and perhaps an idempotency key."""

_steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(_proposals, min_size=1, max_size=5)),
        st.tuples(st.just("trim"), st.none()),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 11.0, 31.0])),
        st.tuples(st.just("reopen"), st.none()),
    ),
    max_size=14,
)


def proposed(model: Model, proposal: Any) -> Batch:
    records, expected, key = proposal
    return Batch(
        records=tuple(records),
        expect={row: model.live.get(row, 0) + off for row, off in expected},
        idempotency=Idempotency(*key) if key else None,
    )


async def play(
    kind: Kind, steps: list[Any], keep: Mapping[str, Retention] = FEW
) -> tuple[Model, tuple[Entry, ...], dict[str, Floor]]:
    """Take the steps with a journal and with the model, side by side."""
    clock, model = Clock(), Model(keep)
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        opened = await stack.enter_async_context(AsyncExitStack())
        journal = await opened.enter_async_context(kind.journal(keep, clock, directory))
        epoch = journal.epoch
        for what, detail in steps:
            if what == "append":
                asked, foreseen = [], []
                for proposal in detail:
                    asked.append(proposed(model, proposal))
                    foreseen.append(model.append(asked[-1], clock.ms))
                outcomes = await asyncio.gather(
                    *(journal.append(one) for one in asked), return_exceptions=True
                )
                assert [o if isinstance(o, Receipt) else type(o) for o in outcomes] == foreseen
            elif what == "trim":
                assert await journal.trim() == model.trim(clock.seconds)
            elif what == "wait":
                clock.seconds += detail
            elif kind.outlives:
                await opened.aclose()
                journal = await opened.enter_async_context(kind.journal(keep, clock, directory))
            assert journal.head == model.head
            assert journal.floors() == model.floors
        assert journal.epoch == epoch
        entries = await everything(journal)
        assert list(entries) == model.kept
        assert list(await everything(journal, B)) == model.of(B)
        if entries:
            assert flat(await collect(journal.tail(), entries[-1].seq)) == model.kept
        return model, entries, dict(journal.floors())


@several
@given(steps=_steps)
def test_any_sequence_of_appends_and_trims_does_what_the_model_does(
    kind: Kind, steps: list[Any]
) -> None:
    if kind.affords("model"):
        asyncio.run(play(kind, steps))
        asyncio.run(play(kind, steps, LIGHT))


@several
@given(steps=_steps)
def test_after_any_sequence_the_floors_are_honest(kind: Kind, steps: list[Any]) -> None:
    """From the history alone, without the model's idea of trimming."""
    if not kind.affords("floors"):
        return
    steps = [step for step in steps if step[0] != "reopen"] + [("trim", None)]
    model, entries, floors = asyncio.run(play(kind, steps))
    kept = set(entries)
    newest = {(entry.channel, entry.key): entry for entry in model.committed}
    for entry in newest.values():
        assert entry.op == "delete" or entry in kept, "trim took a live row"
    for entry in model.committed:
        floor = floors[entry.channel]
        assert floor.compact_from <= floor.whole_from <= model.head <= MAX_SEQ
        if entry.seq > floor.whole_from:
            assert entry in kept
        if entry.seq > floor.compact_from and (
            entry.pinned or newest[entry.channel, entry.key] is entry
        ):
            assert entry in kept


# which journal a setting names


def test_the_url_names_the_journal() -> None:
    assert isinstance(journal_from_url("memory:", KEEP), MemoryJournal)
    assert isinstance(journal_from_url("sqlite:some/where.db", KEEP), SqliteJournal)


@pytest.mark.parametrize(
    "url", ["", "memory", "memory:x", "sqlite", "sqlite:", "sqlite::memory:", "redis://x", "a.db"]
)
def test_any_other_url_is_refused_with_the_forms_that_are_accepted(url: str) -> None:
    with pytest.raises(SettingsError, match="memory:, sqlite:PATH"):
        journal_from_url(url, KEEP)
