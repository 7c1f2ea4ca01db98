"""Several nodes on a log that loses, repeats and delays messages: what was acknowledged is there
once, in its sender's order, and the same on every node. The bugs that are planted are found."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from telecast.errors import Conflict, JournalCorrupt, JournalFull, JournalUnavailable
from telecast.journal.ageing import Times
from telecast.journal.base import Batch, Idempotency, KeyLimits, Receipt
from telecast.journal.jetstream import applier as applier_module
from telecast.journal.jetstream import copy as copy_module
from telecast.journal.jetstream import journal as journal_module
from telecast.journal.jetstream import sender as sender_module
from telecast.journal.jetstream.applier import Applier
from telecast.journal.jetstream.copy import Copy
from telecast.journal.jetstream.journal import JetStreamJournal
from telecast.journal.jetstream.message import decode, encode
from telecast.journal.jetstream.nodes import Nodes, Verdict
from telecast.journal.sqlite import store as store_module
from telecast.journal.sqlite.store import Store
from telecast.model import Entry, Record, Retention
from tests.support.unsure_log import Stream, UnsureLog

A = "trader-status"
KEEP = {A: Retention(1_000_000, 1e9)}
FAULTS = {"lost": 0.15, "unanswered": 0.15, "delayed": 0.1, "twice": 0.1}


def record(key: str) -> Record:
    return Record(A, key, "upsert", False, b'{"n":1}')


@asynccontextmanager
async def nodes(stream: Stream, folder: Path, count: int) -> AsyncIterator[list[JetStreamJournal]]:
    async with AsyncExitStack() as stack:
        found = []
        for number in range(count):
            journal = JetStreamJournal(
                UnsureLog(stream), folder / f"{number}.db", KEEP, now=lambda: 1.7e9
            )
            await journal.open()
            stack.push_async_callback(journal.close)
            found.append(journal)
        yield found


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(sender_module, "GIVE_UP_SECONDS", 0.3)


async def everything(journal: JetStreamJournal) -> list[Entry]:
    return list((await journal.read([A], 0, 1_000_000)).entries)


async def level(stream: Stream, journals: list[JetStreamJournal]) -> None:
    """Every node has applied all that the log holds."""
    async with asyncio.timeout(20):
        for journal in journals:
            await journal._reached(len(stream.kept))


async def publish(
    journal: JetStreamJournal, name: str, count: int
) -> tuple[dict[str, int], set[str]]:
    """Keys that were acknowledged, each with its number, and those of which nobody knows."""
    known, unknown = dict[str, int](), set[str]()

    async def one(key: str) -> None:
        try:
            known[key] = (await journal.append(Batch(records=(record(key),)))).last_seq
        except JournalUnavailable as fault:
            if fault.outcome_unknown:
                unknown.add(key)

    waiting = []
    for number in range(count):
        waiting.append(asyncio.create_task(one(f"{name}-{number:04}")))
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    return known, unknown


async def a_bad_day(seed: int, folder: Path) -> list[str]:
    """What went wrong, as sentences."""
    stream = Stream(random.Random(seed), **FAULTS)
    async with nodes(stream, folder, 3) as journals:
        results = await asyncio.gather(
            *(publish(each, f"n{index}", 60) for index, each in enumerate(journals))
        )
        stream.heal()
        for data in stream.late:
            stream.keep(data)
        await publish(journals[0], "end", 1)
        await level(stream, journals)
        told = [await everything(each) for each in journals]
    found = []
    if not told[0] == told[1] == told[2]:
        found.append("the nodes differ")
    keys = [entry.key for entry in told[0]]
    if len(keys) != len(set(keys)):
        found.append("an event is there twice")
    numbers = {entry.key: entry.seq for entry in told[0]}
    for known, unknown in results:
        if not set(known) <= set(keys):
            found.append("an acknowledged event is lost")
        if any(numbers.get(key) != number for key, number in known.items()):
            found.append("an event has another number than its publisher was given")
        mine = [key for key in keys if key in set(known) | unknown]
        if mine != sorted(mine):
            found.append("a sender's events are out of order")
    if extra := set(keys) - set().union(*(set(a) | b for a, b in results)) - {"end-0000"}:
        found.append(f"what was refused is there: {len(extra)}")
    return found


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_the_log_does_each_acknowledged_event_is_there_once(
    seed: int, tmp_path: Path
) -> None:
    assert await a_bad_day(seed, tmp_path) == []


def _judge_anything(self: Nodes, node: str, number: int) -> Verdict:
    return Verdict.NEXT if number > self.counted.get(node, 0) else Verdict.REPEAT


def _judge_repeats(self: Nodes, node: str, number: int) -> Verdict:
    return Verdict.NEXT


_append = JetStreamJournal.append


async def _number_early(self: JetStreamJournal, batch: Batch) -> Receipt:
    """As if a node numbered what it sends, and did not wait for what the log makes of it."""
    first = self.head + 1
    receipt = await _append(self, batch)
    return replace(receipt, first_seq=first, last_seq=first + receipt.count - 1)


@pytest.mark.parametrize(
    ("owner", "name", "planted"),
    [
        pytest.param(Nodes, "judge", _judge_anything, id="gaps are taken"),
        pytest.param(Nodes, "judge", _judge_repeats, id="repeats are taken"),
        pytest.param(JetStreamJournal, "append", _number_early, id="numbered before it is judged"),
    ],
)
async def test_a_planted_bug_is_found(
    owner: type, name: str, planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, planted)
    for seed in range(12):
        (tmp_path / str(seed)).mkdir()
        try:
            async with asyncio.timeout(4):
                if await a_bad_day(seed, tmp_path / str(seed)):
                    return
        except (TimeoutError, JournalUnavailable):
            return  # somebody waits for ever, or the nodes have found out themselves
    pytest.fail("it went unnoticed")


async def test_a_fence_that_is_skipped_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Nodes.take

    def take_all(self: Nodes, node: str, number: int, fences: object, now: int) -> None:
        take(self, node, number, (), now)

    monkeypatch.setattr(Nodes, "take", take_all)
    with pytest.raises(AssertionError, match="late"):
        await test_what_a_node_gave_up_on_never_counts_once_its_next_message_did(tmp_path)


async def test_what_a_node_gave_up_on_never_counts_once_its_next_message_did(
    tmp_path: Path,
) -> None:
    stream = Stream(random.Random(1), delayed=1.0)
    async with nodes(stream, tmp_path, 2) as journals:
        with pytest.raises(JournalUnavailable) as given_up:
            await journals[0].append(Batch(records=(record("late"),)))
        assert given_up.value.outcome_unknown
        stream.heal()
        await journals[0].append(Batch(records=(record("next"),)))
        for data in stream.late:
            stream.keep(data)
        await level(stream, journals)
        for journal in journals:
            assert [entry.key for entry in await everything(journal)] == ["next"]


async def test_what_waited_behind_a_message_that_was_given_up_is_refused(tmp_path: Path) -> None:
    """Its sender repeats the one before, and it must not stand before that."""
    stream = Stream(random.Random(1), delayed=1.0)
    async with nodes(stream, tmp_path, 1) as (journal,):
        waiting = [asyncio.create_task(journal.append(Batch(records=(record("first"),))))]
        await stream.held_back.wait()
        for number in range(sender_module.WINDOW + 1):
            batch = Batch(records=(record(f"k{number}"),))
            waiting.append(asyncio.create_task(journal.append(batch)))
        found = await asyncio.gather(*waiting, return_exceptions=True)
        unknown = [isinstance(each, JournalUnavailable) and each.outcome_unknown for each in found]
        assert all(isinstance(each, JournalUnavailable) for each in found)
        assert unknown == [True, *[False] * (sender_module.WINDOW + 1)]
        stream.heal()
        await journal.append(Batch(records=(record("next"),)))
        await level(stream, [journal])
        assert [entry.key for entry in await everything(journal)] == ["next"]


class TightLog(UnsureLog):
    """Has no space for the first message once several are under way, and takes the others."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.let = asyncio.Event()
        self.under_way = 0
        self.several = asyncio.Event()

    async def append(self, data: bytes) -> None:
        self.under_way += 1
        first = self.under_way == 1
        if self.under_way == sender_module.WINDOW:
            self.several.set()
        await self.let.wait()
        if first:
            raise JournalFull("full")
        await super().append(data)


async def test_what_waited_behind_a_message_that_a_full_log_refused_is_refused(
    tmp_path: Path,
) -> None:
    log = TightLog(Stream(random.Random(1)))
    journal = JetStreamJournal(log, tmp_path / "copy.db", KEEP, now=lambda: 1.7e9)
    await journal.open()
    try:
        waiting = []
        for number in range(sender_module.WINDOW + 2):
            batch = Batch(records=(record(f"k{number}"),))
            waiting.append(asyncio.create_task(journal.append(batch)))
            while log.under_way < min(number + 1, sender_module.WINDOW):  # noqa: ASYNC110
                await asyncio.sleep(0)
        log.let.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in found] == [
            *[JournalFull] * sender_module.WINDOW,
            *[JournalUnavailable] * 2,
        ]
        await journal.append(Batch(records=(record("next"),)))
        assert [entry.key for entry in await everything(journal)] == ["next"]
    finally:
        await journal.close()


async def test_two_nodes_that_change_one_row_see_who_came_first(tmp_path: Path) -> None:
    stream = Stream(random.Random(1))
    async with nodes(stream, tmp_path, 2) as journals:
        first = await journals[0].append(Batch(records=(record("row"),)))
        await level(stream, journals)
        expect = {(A, "row"): first.last_seq}
        results = await asyncio.gather(
            *(each.append(Batch(records=(record("row"),), expect=expect)) for each in journals),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in results) == ["Conflict", "Receipt"]
        assert any(isinstance(each, Conflict) for each in results)


async def test_one_key_used_at_two_nodes_is_one_commit(tmp_path: Path) -> None:
    stream = Stream(random.Random(1))
    batch = Batch(records=(record("row"),), idempotency=Idempotency("k", b"d" * 32))
    async with nodes(stream, tmp_path, 2) as journals:
        receipts = await asyncio.gather(*(each.append(batch) for each in journals))
        assert sorted(each.duplicate for each in receipts) == [False, True]
        assert receipts[0].first_seq == receipts[1].first_seq
        await level(stream, journals)
        assert len(await everything(journals[0])) == 1


async def test_a_full_log_refuses_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    stream = Stream(random.Random(1))
    async with nodes(stream, tmp_path, 2) as journals:
        await journals[0].append(Batch(records=(record("a"),)))
        stream.most = len(stream.kept)
        with pytest.raises(JournalFull):
            await journals[0].append(Batch(records=(record("b"),)))
        stream.most += 1000
        await journals[0].append(Batch(records=(record("c"),)))
        await level(stream, journals)
        assert [entry.key for entry in await everything(journals[1])] == ["a", "c"]


async def test_a_node_that_judges_otherwise_finds_out_and_stops(tmp_path: Path) -> None:
    stream = Stream(random.Random(1))
    async with nodes(stream, tmp_path, 2) as journals:
        await journals[0].append(Batch(records=(record("a"),)))
        await level(stream, journals)
        message = decode(stream.kept[0].data)
        wrong = copy_module.Message(
            node="elsewhere", number=1, at=1, chain=message.chain + 1, batches=()
        )
        stream.keep(encode(wrong))
        with pytest.raises(JournalUnavailable, match="judged the log differently"):
            await level(stream, journals)
        with pytest.raises(JournalUnavailable, match="judged the log differently"):
            await journals[0].append(Batch(records=(record("b"),)))


async def test_a_message_of_a_newer_version_stops_the_node_and_loses_nothing(
    tmp_path: Path,
) -> None:
    stream = Stream(random.Random(1))
    async with nodes(stream, tmp_path, 1) as journals:
        await journals[0].append(Batch(records=(record("a"),)))
        stream.keep(encode(decode(stream.kept[0].data)).replace(b'{"v":1', b'{"v":2', 1))
        with pytest.raises(JournalUnavailable, match="upgrade this node"):
            await level(stream, journals)
        assert len(await everything(journals[0])) == 1


async def test_a_log_that_lost_its_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telecast.journal.jetstream.journal.DOUBT_SECONDS", 0.0)
    stream = Stream(random.Random(1))
    async with nodes(stream, tmp_path, 1) as journals:
        await journals[0].append(Batch(records=(record("a"),)))
        await journals[0].append(Batch(records=(record("b"),)))
    stream.kept.pop()
    with pytest.raises(JournalCorrupt, match="lost its end"):
        async with nodes(stream, tmp_path, 1):
            pass


async def test_a_copy_is_made_anew_after_the_machine_went_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream(random.Random(1))
    async with nodes(stream, tmp_path, 1) as journals:
        await journals[0].append(Batch(records=(record("a"),)))
        (tmp_path / "0.db.state").write_text("open before-the-crash", "ascii")
        taken = (tmp_path / "0.db").read_bytes()
    (tmp_path / "0.db").write_bytes(taken[: len(taken) // 2])
    (tmp_path / "0.db.state").write_text("open before-the-crash", "ascii")
    async with nodes(stream, tmp_path, 1) as journals:
        assert [entry.key for entry in await everything(journals[0])] == ["a"]


def test_a_copy_that_was_closed_is_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "copy.db")
    Copy(path, "c0ffee1234", "epoch1", KEEP).close()
    before = Path(path).stat().st_ino
    Copy(path, "c0ffee1234", "epoch1", KEEP).close()
    assert Path(path).stat().st_ino == before


# --- the copy's thread


async def test_a_copy_whose_thread_dies_is_no_journal_that_seems_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with nodes(Stream(random.Random(1)), tmp_path, 1) as (journal,), asyncio.timeout(20):
        tail = journal.tail()
        assert await anext(tail) == ()
        monkeypatch.setattr(Applier, "_due", lambda *_: 1 / 0)
        with pytest.raises(JournalUnavailable, match="thread has ended"):
            await asyncio.gather(journal.trim(), journal.trim())
        with pytest.raises(JournalUnavailable, match="thread has ended"):
            await anext(tail)
        assert "thread has ended" in (journal.failure() or "")
        with pytest.raises(JournalUnavailable, match="thread has ended"):
            await journal.append(Batch(records=(record("late"),)))
    assert "has died" in caplog.text


async def test_a_trim_that_cannot_be_looked_at_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nodes(Stream(random.Random(1)), tmp_path, 1) as (journal,), asyncio.timeout(20):
        monkeypatch.setattr(Copy, "due", lambda *_: 1 / 0)
        with pytest.raises(JournalUnavailable, match="division"):
            await journal.trim()
        assert (await journal.append(Batch(records=(record("next"),)))).count == 1


async def test_a_copy_that_cannot_be_written_to_fails_the_start_and_is_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, state: str) -> None:
        raise OSError(28, "No space left on device")

    stream, path = Stream(random.Random(1)), tmp_path / "copy.db"
    journals = [JetStreamJournal(UnsureLog(stream), path, KEEP, now=lambda: 1.7e9) for _ in "ab"]
    async with asyncio.timeout(20):
        with monkeypatch.context() as patched:
            patched.setattr(copy_module, "_say_state", full)
            with pytest.raises(JournalUnavailable, match="No space"):
                await journals[0].open()
        await journals[1].open()
        await journals[1].close()


async def test_a_copy_without_space_goes_on_by_itself_once_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = False
    connect = store_module.connect

    def connect_small(path: str, mode: str) -> Any:
        database = connect(path, mode)
        if not room and path == str(tmp_path / "1.db"):
            database.execute("PRAGMA max_page_count = 1")  # as many as it has
        return database

    monkeypatch.setattr(store_module, "connect", connect_small)
    monkeypatch.setattr(store_module, "MARK_EVERY", 1)
    monkeypatch.setattr(applier_module, "AGAIN_SECONDS", 0.001)
    stream = Stream(random.Random(1))
    async with nodes(stream, tmp_path, 2) as journals, asyncio.timeout(20):
        first, second = journals
        large = Record(A, "large", "upsert", False, b'"%b"' % (b"x" * 300_000))
        for key in ("one", "two"):
            await first.append(Batch(records=(record(key), large)))
        while second.failure() is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert "free some" in (second.failure() or "")
        with pytest.raises(JournalFull, match="free some"):
            await second.append(Batch(records=(record("refused"),)))
        with pytest.raises(JournalFull, match="free some"):
            await second.trim()
        room = True
        await level(stream, journals)
        assert second.failure() is None
        assert (await second.append(Batch(records=(record("three"),)))).count == 1
        await level(stream, journals)
        assert await everything(first) == await everything(second)


def test_a_copy_is_not_held_against_a_head_that_was_never_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MARK_EVERY", 1)
    path = str(tmp_path / "copy.db")
    copy = Copy(path, "c0ffee1234", "epoch1", KEEP)
    group = copy.store.group([Batch()], Times(1.0, 1.0, 1.0), KeyLimits())
    group.add(Batch(records=(record("one"),)))
    with suppress(ZeroDivisionError), copy.store.together():
        copy.store.commit(group)
        raise ZeroDivisionError  # as where the process is killed before it commits
    copy.close()
    Copy(path, "c0ffee1234", "epoch1", KEEP).close()


async def test_a_copy_without_space_is_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(copy: Copy, logged: object) -> None:
        raise JournalFull("full")

    stream = Stream(random.Random(1))
    monkeypatch.setattr(journal_module, "CLOSE_SECONDS", 0.01)
    async with asyncio.timeout(20):
        async with nodes(stream, tmp_path, 2) as (first, second):
            await first.append(Batch(records=(record("one"),)))
            await second._reached(1)
            with monkeypatch.context() as patched:
                patched.setattr(Copy, "apply", full)
                waits = asyncio.create_task(first.append(Batch(records=(record("two"),))))
                while second.failure() is None:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                await second.close()
                await first.close()
            with pytest.raises(JournalUnavailable):
                await waits
        async with nodes(stream, tmp_path, 2) as journals:
            told = [await everything(each) for each in journals]
            assert [each.key for each in told[0]] == ["one", "two"]
            assert told[0] == told[1]


async def test_a_copy_that_cannot_be_synced_is_closed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(store: Store) -> None:
        raise JournalFull("full")

    monkeypatch.setattr(Store, "sync", full)
    async with asyncio.timeout(20), nodes(Stream(random.Random(1)), tmp_path, 1) as (journal,):
        await journal.append(Batch(records=(record("kept"),)))
    assert (tmp_path / "0.db.state").read_text().startswith("open ")
    assert journal.failure() == "The journal is closed."
