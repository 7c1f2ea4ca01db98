"""Checkpoints of the log's copies, and what of the log they make needless: on a simulated log,
where a node may be cut off between any two steps, and on a real server."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from telecast.errors import JournalCorrupt, JournalFull, JournalUnavailable
from telecast.journal import Access
from telecast.journal.base import Batch
from telecast.journal.jetstream.address import parse_address
from telecast.journal.jetstream.checkpoints import file, keeper, newest, objects
from telecast.journal.jetstream.checkpoints.marks import CLAIM_MS, Claim, Made, Marks
from telecast.journal.jetstream.checkpoints.shelf import Checkpoint
from telecast.journal.jetstream.journal import JetStreamJournal
from telecast.journal.jetstream.move import restored
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.model import Entry, Record, Retention
from tests.support.service import nats
from tests.support.service.nats import NatsServer, put_back
from tests.support.unsure_log import MemoryShelf, Stream, UnsureLog

A = "trader-status"
KEEP = {A: Retention(1_000_000, 1e9)}
EVERY = 40 * 1024
"""Some forty messages; the copy itself counts as more."""


def batch(key: str, size: int = 10) -> Batch:
    return Batch(records=(Record(A, key, "upsert", False, b'"%s"' % (b"x" * size)),))


@asynccontextmanager
async def node(stream: Stream, copy: Path, every: int = EVERY) -> AsyncIterator[JetStreamJournal]:
    journal = JetStreamJournal(
        UnsureLog(stream), copy, KEEP, now=lambda: 1.7e9, checkpoint_bytes=every
    )
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy's own size does not count, and nobody waits."""
    seen = keeper.Keeper.seen
    monkeypatch.setattr(keeper.Keeper, "seen", lambda self, marks, _: seen(self, marks, 0))
    monkeypatch.setattr(keeper, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(keeper, "FULL_SECONDS", 0.0)
    monkeypatch.setattr(newest, "AGAIN_SECONDS", 0.0)


async def publish(journal: Any, count: int, name: str = "k", size: int = 10) -> None:
    for number in range(count):
        await journal.append(batch(f"{name}{number}", size))


async def fill(journal: Any, stream: Stream, name: str = "fill") -> None:
    """Publish until the log was trimmed once more."""
    first, number = stream.first, 0
    async with asyncio.timeout(20):
        while stream.first == first:
            await journal.append(batch(f"{name}{number}"))
            number += 1


async def everything(journal: Any) -> list[Entry]:
    return list((await journal.read([A], 0, 1_000_000)).entries)


async def until(stream: Stream, condition: Any) -> None:
    """Lets the node go on until it holds."""
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


async def test_a_node_without_a_copy_goes_on_from_a_checkpoint_of_a_log_that_was_trimmed(
    tmp_path: Path,
) -> None:
    stream = Stream(random.Random(1))
    async with node(stream, tmp_path / "a.db") as first:
        await fill(first, stream)
        await publish(first, 5, "last")
        entries = await everything(first)
        async with node(stream, tmp_path / "b.db") as second:
            assert await everything(second) == entries
            assert (second.head, second.epoch) == (first.head, first.epoch)
            receipt = await second.append(batch("more"))
            assert receipt.first_seq == first.head + 1 or first.head == receipt.last_seq
            # Both judge alike from there on.
            assert second._place.chain == (await _chain_at(first, second._place.applied))


async def _chain_at(journal: JetStreamJournal, sequence: int) -> int:
    await journal._reached(sequence)
    return journal._place.chain


async def test_the_log_is_trimmed_only_up_to_the_checkpoint_before_the_newest(
    tmp_path: Path,
) -> None:
    stream = Stream(random.Random(1))
    async with node(stream, tmp_path / "a.db") as journal:
        await publish(journal, 60)
        await until(stream, lambda: len(stream.shelf.files) == 1)
        assert stream.first == 1
        await fill(journal, stream)
        older = min(each.sequence for each in stream.shelf.files)
        assert stream.first == older + 1


async def test_a_copy_that_is_a_little_older_needs_no_checkpoint(tmp_path: Path) -> None:
    stream = Stream(random.Random(1))
    async with node(stream, tmp_path / "late.db") as late:
        await publish(late, 60)
        await until(stream, lambda: late._keeper._marks.name)
    async with node(stream, tmp_path / "a.db") as journal:
        await fill(journal, stream)
        stream.shelf.broken = {"get"}
        async with node(stream, tmp_path / "late.db") as late:
            assert await everything(late) == await everything(journal)


async def test_a_copy_older_than_the_log_begins_anew_from_a_checkpoint(tmp_path: Path) -> None:
    stream = Stream(random.Random(1))
    async with node(stream, tmp_path / "old.db", 1 << 30) as old:
        await publish(old, 3, "old")
    async with node(stream, tmp_path / "a.db") as journal:
        await fill(journal, stream)
        async with node(stream, tmp_path / "old.db") as old:
            assert await everything(old) == await everything(journal)


async def trimmed(folder: Path) -> Stream:
    """A log that begins later, with two checkpoints."""
    stream = Stream(random.Random(1))
    async with node(stream, folder / "a.db") as journal:
        await fill(journal, stream)
    return stream


def spoil(stream: Stream, index: int, how: str) -> None:
    """Make one of the checkpoints, the newest first, a bad one."""
    checkpoint = sorted(stream.shelf.files, key=lambda each: -each.sequence)[index]
    data = stream.shelf.files.pop(checkpoint)
    if how == "a flipped bit":
        data = data.replace(b"xxx", b"xyx", 1)
    elif how == "torn":
        data = data[: len(data) // 2]
    elif how == "of another log":
        checkpoint = replace(checkpoint, life="elsewhere")
    elif how == "newer":
        checkpoint = replace(checkpoint, format=99)
    elif how == "of another place":
        checkpoint = replace(checkpoint, sequence=checkpoint.sequence - 1)
    stream.shelf.files[checkpoint] = data


BAD = ("a flipped bit", "torn", "of another log", "newer", "of another place")


@pytest.mark.parametrize("how", BAD)
async def test_a_bad_checkpoint_is_passed_over_for_the_next(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await trimmed(tmp_path)
    async with node(stream, tmp_path / "a.db", 1 << 30) as journal:
        entries = await everything(journal)
    spoil(stream, 0, how)
    async with node(stream, tmp_path / "b.db", 1 << 30) as journal:
        assert await everything(journal) == entries
    assert "a checkpoint is passed over" in caplog.text


@pytest.mark.parametrize("removed", [False, True], ids=["still there", "removed"])
async def test_a_node_that_starts_while_others_trim_the_log_takes_a_newer_checkpoint(
    removed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream(random.Random(1))
    get, lately = stream.shelf.get, []

    async with node(stream, tmp_path / "a.db") as first:
        await fill(first, stream)

        async def get_late(checkpoint: Checkpoint, path: str) -> None:
            if not removed:
                await get(checkpoint, path)
            if not lately:
                lately.append(checkpoint)
                for number in range(3):
                    await fill(first, stream, f"later{number}-")
            if removed:
                if checkpoint not in stream.shelf.files:
                    raise JournalCorrupt("it is not there any more")
                await get(checkpoint, path)

        monkeypatch.setattr(stream.shelf, "get", get_late)
        async with node(stream, tmp_path / "b.db") as second:
            assert lately[0].sequence + 1 < stream.first
            await until(stream, lambda: second.head == first.head)
            assert await everything(second) == await everything(first)


@pytest.mark.parametrize("how", BAD)
async def test_without_a_good_checkpoint_a_trimmed_log_is_no_start_and_says_why(
    how: str, tmp_path: Path
) -> None:
    stream = await trimmed(tmp_path)
    for index in range(2):
        spoil(stream, index, how)
    with pytest.raises(JournalCorrupt, match=r"no checkpoint leads from there \(checkpoint 0000"):
        async with node(stream, tmp_path / "b.db"):
            pass
    assert not [name for name in os.listdir(tmp_path) if "fetched" in name]


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (JournalFull("no space"), "free some, then start this node again"),
        (JournalUnavailable("no answer"), r"just now \(checkpoint .*\)\. Start this node again"),
    ],
)
async def test_a_checkpoint_that_can_not_be_fetched_now_is_not_one_that_there_is_not(
    fault: JournalUnavailable, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get(*_: object) -> None:
        raise fault

    stream = await trimmed(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(MemoryShelf, "get", get)
        with pytest.raises(JournalUnavailable, match=advice):
            async with node(stream, tmp_path / "b.db"):
                pass
    async with node(stream, tmp_path / "b.db"):
        pass


def test_a_disk_without_space_for_a_checkpoint_is_not_the_object_store() -> None:
    shelf = objects.ObjectShelf(None, "desk", lambda: 1)  # type: ignore[arg-type]
    with pytest.raises(JournalFull, match="no space here"), shelf._explained():
        raise OSError(28, "No space left on device")


async def test_what_a_killed_process_had_fetched_is_removed(tmp_path: Path) -> None:
    stream = await trimmed(tmp_path)
    beside = [tmp_path / "b.db.4194303.fetched", tmp_path / "c.db.4194303.fetched"]
    for file_ in beside:
        file_.write_bytes(b"half")  # a pid that no process has (Linux: below 2**22)
    async with node(stream, tmp_path / "b.db"):
        assert [each.name for each in beside if os.path.exists(each)] == [beside[1].name]  # noqa: ASYNC240


async def test_a_log_that_is_whole_is_read_whole_where_the_checkpoint_is_bad(
    tmp_path: Path,
) -> None:
    stream = Stream(random.Random(1))
    async with node(stream, tmp_path / "a.db") as journal:
        await publish(journal, 60)
        await until(stream, lambda: len(stream.shelf.files) == 1)
        entries = await everything(journal)
    spoil(stream, 0, "torn")
    async with node(stream, tmp_path / "b.db") as journal:
        assert await everything(journal) == entries


async def test_a_file_of_something_else_in_the_copys_place_is_left_alone(tmp_path: Path) -> None:
    stream = await trimmed(tmp_path)
    (tmp_path / "b.db").write_bytes(b"not yours")
    with pytest.raises(JournalCorrupt, match="no SQLite database"):
        async with node(stream, tmp_path / "b.db"):
            pass
    assert (tmp_path / "b.db").read_bytes() == b"not yours"


@pytest.mark.parametrize("state", [None, "open before-the-crash"])
async def test_a_journal_in_the_copys_place_is_left_alone(
    state: str | None, tmp_path: Path
) -> None:
    stream = await trimmed(tmp_path)
    journal = SqliteJournal(tmp_path / "b.db", KEEP)
    await journal.open()
    await journal.append(batch("mine"))
    await journal.close()
    if state is not None:
        (tmp_path / "b.db.state").write_text(state)
    before = (tmp_path / "b.db").read_bytes()
    with pytest.raises(JournalCorrupt, match="no copy of a log"):
        async with node(stream, tmp_path / "b.db"):
            pass
    assert (tmp_path / "b.db").read_bytes() == before


async def test_of_two_nodes_one_makes_the_checkpoint(tmp_path: Path) -> None:
    stream = Stream(random.Random(1))
    put = list[str]()

    async with node(stream, tmp_path / "a.db") as a, node(stream, tmp_path / "b.db") as b:
        keep = keeper.Keeper._keep

        async def counted(self: keeper.Keeper) -> Checkpoint:
            made = await keep(self)
            put.append(made.name)
            return made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keeper.Keeper, "_keep", counted)
            await asyncio.gather(publish(a, 40, "a"), publish(b, 40, "b"))
            await until(stream, lambda: a._keeper._marks.name and b._keeper._marks.name)
        assert a._keeper._marks.name == b._keeper._marks.name
        assert len(put) == len(stream.shelf.files) == 1


async def test_two_that_make_one_at_once_leave_what_every_node_goes_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim may lapse while its node is still at it."""
    monkeypatch.setattr(Marks, "free", lambda self, now: True)
    stream = Stream(random.Random(1))
    async with node(stream, tmp_path / "a.db") as a, node(stream, tmp_path / "b.db") as b:
        await asyncio.gather(fill(a, stream, "a"), fill(b, stream, "b"))
        entries = await everything(a)
    async with node(stream, tmp_path / "c.db") as c:
        assert (await everything(c))[: len(entries)] == entries


class Died(Exception):
    """The node dies here."""


@pytest.mark.parametrize("step", ["make", "put", "announce", "tidy", "forget"])
async def test_a_node_that_dies_between_two_steps_harms_nobody(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream(random.Random(1))
    died = asyncio.Event()

    async def dies(*_: Any, **__: Any) -> None:
        died.set()
        await asyncio.Future()  # until its task is cancelled

    with monkeypatch.context() as patch:
        async with node(stream, tmp_path / "a.db") as journal:
            await publish(journal, 20)
            if step == "make":

                def make(path: str, draft: str) -> Checkpoint:
                    Path(draft).write_bytes(b"half of it")
                    died.set()
                    raise OSError("it dies")

                patch.setattr(keeper, "make", make)
            elif step == "put":
                patch.setattr(stream.shelf, "put", dies)
            elif step == "announce":
                patch.setattr(keeper.Keeper, "_announce", dies)
            elif step == "tidy":
                patch.setattr(keeper.Keeper, "_tidy", dies)
            else:
                patch.setattr(keeper.Keeper, "_forget", dies)
                patch.setattr(keeper, "KEPT", 1)
            await publish(journal, 40, "more")
            async with asyncio.timeout(20):
                await died.wait()
            entries = await everything(journal)
    # Another node without a copy, then the same node again: both have all of it.
    stream.clock += CLAIM_MS  # the claim of the one that died lapses
    for name in ("b.db", "a.db"):
        async with node(stream, tmp_path / name, 1 << 30) as journal:
            assert await everything(journal) == entries
    async with node(stream, tmp_path / "a.db") as journal:
        await fill(journal, stream, "later")
        entries = await everything(journal)
    async with node(stream, tmp_path / "c.db") as journal:
        assert await everything(journal) == entries


async def test_where_the_checkpoint_is_not_kept_nothing_of_the_log_goes(tmp_path: Path) -> None:
    stream = await trimmed(tmp_path)
    first = stream.first
    stream.shelf.broken = {"put"}
    async with node(stream, tmp_path / "a.db") as journal:
        await publish(journal, 150, "more")
        assert journal.failure() is None
        assert (stream.first, len(stream.shelf.files)) == (first, 2)
        stream.shelf.broken.clear()
        stream.clock += CLAIM_MS
        await fill(journal, stream, "again")


async def test_a_full_log_is_trimmed_and_publishing_goes_on(tmp_path: Path) -> None:
    stream = Stream(random.Random(1), most=30)
    async with node(stream, tmp_path / "a.db", 1 << 30) as journal:
        with pytest.raises(JournalFull):
            await publish(journal, 31)
        await until(stream, lambda: stream.first > 1)
        await publish(journal, 10, "more")
        entries = await everything(journal)
    async with node(stream, tmp_path / "b.db", 1 << 30) as journal:
        assert await everything(journal) == entries


def test_the_first_claim_wins_until_it_lapses() -> None:
    marks = Marks().judge(Claim(""), 1000)
    assert marks is not None
    assert marks.judge(Claim(""), 1000 + CLAIM_MS - 1) is None
    assert marks.judge(Claim(""), 1000 + CLAIM_MS) is not None
    made = marks.judge(Made("", "one", 5), 2000)
    assert made == Marks("one", 5)
    assert made.judge(Made("", "other", 9), 2000) is None
    assert made.judge(Made("one", "older", 4), 2000) is None


# --- bugs that are planted


async def goes_wrong(folder: Path) -> str:
    """What a node makes of a trimmed log and its checkpoints, the newest of which is rotten;
    empty where all is well."""
    stream = Stream(random.Random(1))
    async with node(stream, folder / "a.db") as journal:
        await fill(journal, stream)
        await publish(journal, 5, "last")
        entries = await everything(journal)
    spoil(stream, 0, "a flipped bit")
    try:
        async with node(stream, folder / "b.db", 1 << 30) as journal:
            return "" if await everything(journal) == entries else "it has something else"
    except (JournalCorrupt, JournalUnavailable, AssertionError) as fault:
        return str(fault)


async def test_without_a_bug_nothing_goes_wrong(tmp_path: Path) -> None:
    assert await goes_wrong(tmp_path) == ""


async def test_a_crc_that_is_not_checked_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newest, "verify", lambda path, checkpoint: None)
    assert await goes_wrong(tmp_path)


async def test_a_checkpoint_whose_place_is_not_its_own_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the sequence were that of the node once it was done."""

    def make(path: str, draft: str) -> Checkpoint:
        made = file.make(path, draft)
        return replace(made, sequence=made.sequence + 1)

    monkeypatch.setattr(keeper, "make", make)
    assert await goes_wrong(tmp_path)


async def test_a_log_that_is_trimmed_before_the_checkpoint_is_kept_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take_turn(self: keeper.Keeper) -> None:
        await self._log.forget(self._place().applied)
        await keep(self)

    keep = keeper.Keeper._take_turn
    monkeypatch.setattr(keeper.Keeper, "_take_turn", take_turn)
    with pytest.raises((AssertionError, JournalCorrupt)):
        await test_where_the_checkpoint_is_not_kept_nothing_of_the_log_goes(tmp_path)


# --- on a real server


def real(
    server: NatsServer, name: str, copy: Path, every: int = EVERY
) -> AbstractAsyncContextManager[Any]:
    return nats.opened(f"{server.url}/{name}", KEEP, copy, checkpoint_bytes=every)


async def test_on_a_server_a_node_goes_on_from_the_object_store(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PIECE", 8 * 1024)
    async with real(server, "desk", tmp_path / "a.db") as first:
        await fill_server(first)
        async with real(server, "desk", tmp_path / "b.db", 1 << 30) as second:
            assert await everything(second) == await everything(first)
            await publish(second, 3, "more")
            await first._reached(second._place.applied)
            assert first._place == second._place


async def fill_server(journal: Any) -> None:
    """Publish until the stream was trimmed."""
    async with asyncio.timeout(20):
        while (await journal._log.extent()).first == 1:
            await publish(journal, 10)


async def settled(journal: Any, condition: Any) -> None:
    async with asyncio.timeout(20):
        while True:
            if condition(await journal._log.extent(), await journal._log.shelf.found()):
                return


async def test_on_a_server_a_checkpoint_that_lacks_a_piece_is_passed_over(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PIECE", 8 * 1024)
    async with real(server, "torn", tmp_path / "a.db") as first:
        await fill_server(first)
        shelf = first._log.shelf
        newest_one = (await shelf.found())[0]
        about = (await shelf._described())[shelf._about(newest_one.name)]
        await shelf._servers.call(
            f"STREAM.PURGE.{shelf._stream}",
            {"filter": f"$O.telecast-torn.C.{about['nuid']}", "keep": 2},
        )
        async with real(server, "torn", tmp_path / "b.db", 1 << 30) as second:
            assert await everything(second) == await everything(first)


async def test_on_a_server_what_a_cut_off_upload_left_is_removed(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with real(server, "left", tmp_path / "a.db") as first:
        await publish(first, 50)
        await settled(first, lambda _, found: len(found) == 1)
        shelf = first._log.shelf
        await shelf._servers.ask("$O.telecast-left.C.orphan", b"half")
        await shelf.tidy([each.name for each in await shelf.found()])
        assert "$O.telecast-left.C.orphan" in await shelf._subjects("$O.telecast-left.C.>")
        monkeypatch.setattr(objects, "LEFT_SECONDS", -1.0)
        await shelf.tidy([each.name for each in await shelf.found()])
        assert len(await shelf._subjects("$O.telecast-left.C.>")) == len(await shelf.found()) == 1


async def test_on_a_server_a_full_stream_says_so_and_goes_on_once_it_is_trimmed(
    server: NatsServer, tmp_path: Path
) -> None:
    async with real(server, "full", tmp_path / "a.db", 1 << 30) as journal:
        call = journal._log._servers.call
        config = (await call("STREAM.INFO.full"))["config"]
        await call("STREAM.UPDATE.full", config | {"max_bytes": 20_000})
        with pytest.raises(JournalFull, match="trimmed"):
            await publish(journal, 100, size=1000)
        await settled(journal, lambda extent, _: extent.first > 1)
        await publish(journal, 5, "more")


async def test_on_a_server_a_node_that_the_trimming_overtakes_says_so(
    server: NatsServer, tmp_path: Path
) -> None:
    async with real(server, "over", tmp_path / "a.db", 1 << 30) as journal:
        await publish(journal, 5)
        await journal._log.forget(4)
        with pytest.raises(JournalUnavailable, match="goes on from a checkpoint"):
            await anext(journal._log.follow(1))


async def test_on_a_server_a_stream_that_was_put_back_goes_on_with_a_new_epoch(
    server: NatsServer, tmp_path: Path
) -> None:
    async with real(server, "back", tmp_path / "a.db") as first:
        await fill_server(first)
        await publish(first, 20, "after")
        entries, epoch = await everything(first), first.epoch
    await put_back(server, "back", "OBJ_telecast-back")
    with pytest.raises(JournalCorrupt, match="made anew or restored"):
        async with real(server, "back", tmp_path / "a.db"):
            pass
    with pytest.raises(JournalCorrupt, match="telecast journal restored nats://"):
        async with real(server, "back", tmp_path / "b.db"):
            pass
    made = await restored(parse_address(f"{server.url}/back"), Access())
    assert made is not None
    async with real(server, "back", tmp_path / "b.db") as second:
        assert await everything(second) == entries
        assert second.epoch == made.epoch != epoch
        await publish(second, 3, "more")


async def test_on_a_server_a_whole_stream_that_was_put_back_needs_no_checkpoint(
    server: NatsServer, tmp_path: Path
) -> None:
    async with real(server, "whole", tmp_path / "a.db") as first:
        await publish(first, 5)
        entries = await everything(first)
    await put_back(server, "whole")
    assert await restored(parse_address(f"{server.url}/whole"), Access()) is None
    async with real(server, "whole", tmp_path / "b.db") as second:
        assert await everything(second) == entries
