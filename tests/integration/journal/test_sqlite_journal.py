"""What only a journal on a disk can show: death, damage, fullness, and others at the file."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest

from telecast import tasks
from telecast.errors import (
    Conflict,
    JournalCorrupt,
    JournalFull,
    JournalLocked,
    JournalUnavailable,
)
from telecast.journal.ageing import WAIT
from telecast.journal.base import MAX_BATCH, Batch, Idempotency, Note, Receipt
from telecast.journal.sqlite import procedures, schema, store, writer
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.journal.sqlite.mark import Mark
from telecast.journal.sqlite.restored import restored
from telecast.journal.sqlite.schema import CopyOf
from telecast.journal.sqlite.store import Store
from telecast.journal.sqlite.writer import GROUP_RECORDS
from telecast.model import Entry, Floor, Op, Record, Retention
from tests.integration.journal import journal_child
from tests.integration.journal.journal_child import CHANNELS, KEEP, numbered
from tests.support.payloads import position
from tests.support.service.live import served

FEW = {"positions": Retention(3, 10.0)}


def record(key: str = "k", *, op: Op = "upsert", data: bytes = b"{}") -> Record:
    return Record("positions", key, op, False, data)


def batch(*records: Record, **options: Any) -> Batch:
    return Batch(records=records, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a journal?.db"


@asynccontextmanager
async def opened(
    path: Path,
    retention: Mapping[str, Retention] = KEEP,
    now: Callable[[], float] = time.time,
    elapsed: Callable[[], float] | None = None,
) -> AsyncIterator[SqliteJournal]:
    """Without `elapsed` monotonic time goes along with `now`: no step is one of the clock."""
    journal = SqliteJournal(path, retention, now=now, elapsed=elapsed or now)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


async def everything(journal: SqliteJournal) -> tuple[Entry, ...]:
    return (await journal.read(CHANNELS, 0, 1_000_000)).entries


@contextmanager
def child(*arguments: object) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A journal's owner in a process of its own, killed at the end if it still lives."""
    process = subprocess.Popen(
        [sys.executable, journal_child.__file__, *map(str, arguments)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Gate:
    """Holds the writer thread at its commits until it is let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        self.groups: list[int] = []
        commit = Store.commit

        def held(this: Store, group: Any) -> None:
            self.reached.set()
            assert self.open.wait(30)
            self.groups.append(len(group.entries))
            commit(this, group)

        monkeypatch.setattr(Store, "commit", held)

    async def arrival(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.reached.wait, 30)


# a life beyond the process


async def test_a_journal_opened_again_is_the_same(path: Path) -> None:
    now = [1_000_000.0]
    asked = batch(record("x"), idempotency=Idempotency("i", b"d"))
    async with opened(path, FEW, lambda: now[0]) as journal:
        epoch = journal.epoch
        receipt = await journal.append(asked)
        await journal.append(batch(*(record("y") for _ in range(5))))
        now[0] += 1
        await journal.trim()
        kept, floors = await everything(journal), journal.floors()
        assert floors == {"positions": Floor(3, 0)}
    async with opened(path, FEW, lambda: now[0]) as journal:
        assert (journal.epoch, journal.head, journal.floors()) == (epoch, 6, floors)
        assert await everything(journal) == kept
        assert await journal.append(asked) == replace(receipt, duplicate=True)
        with pytest.raises(Conflict):
            await journal.append(batch(record("x"), expect={("positions", "x"): 0}))
        assert (await journal.append(batch(record("x")))).first_seq == 7
        await journal.trim()
        assert [entry.seq for entry in await everything(journal)] == [5, 6, 7]


async def test_numbers_go_on_after_a_restart_though_the_newest_entries_are_gone(
    path: Path,
) -> None:
    now = [1_000_000.0]
    async with opened(path, FEW, lambda: now[0]) as journal:
        await journal.append(batch(record("x"), record("x", op="delete")))
        now[0] += 100
        assert await journal.trim() == 2
    async with opened(path, FEW, lambda: now[0]) as journal:
        assert journal.head == 2
        assert (await journal.append(batch(record("x")))).first_seq == 3


async def test_floors_of_a_channel_outlive_its_retention(path: Path) -> None:
    async with opened(path, FEW) as journal:
        await journal.append(batch(*(record() for _ in range(5))))
        await journal.trim()
    async with opened(path, {}) as journal:
        assert journal.floors() == {}
        assert (await journal.read(["positions"], 0, 9)).floors == {"positions": Floor(2, 0)}


async def test_the_file_is_left_without_its_log_after_a_close(path: Path) -> None:
    async with opened(path) as journal:
        await journal.append(batch(record()))
    assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}.head", f"{path.name}.lock"]


async def test_every_acknowledged_batch_outlives_kill_9_whole(path: Path) -> None:
    """Killed at any moment of group commits and trims, several times over the same file."""
    first, epoch, acknowledged = 0, None, {}
    for round_ in range(6):
        with child("write", path, first) as (process, said):
            for _ in range(30 + 97 * round_):
                number, *receipt = json.loads(said.readline())
                acknowledged[number] = Receipt(*receipt)
            process.kill()
            for line in said.read().splitlines():  # said before it died
                number, *receipt = json.loads(line)
                acknowledged[number] = Receipt(*receipt)
        first = max(acknowledged) + 1000
        async with opened(path) as journal:
            epoch = epoch or journal.epoch
            assert journal.epoch == epoch
            assert journal.head >= max(receipt.last_seq for receipt in acknowledged.values())
            for number, receipt in acknowledged.items():
                again = await journal.append(numbered(number))
                assert again == replace(receipt, duplicate=True)
            check_whole(await everything(journal), acknowledged, journal.floors())


def check_whole(
    entries: tuple[Entry, ...],
    acknowledged: Mapping[int, Receipt],
    floors: Mapping[str, Floor],
) -> None:
    """Beyond the floors, each batch that is there at all is there as it was asked for."""
    kept = {entry.seq: entry for entry in entries}
    floor = max(floor.whole_from for floor in floors.values())
    found: dict[int, list[Entry]] = {}
    for entry in entries:
        found.setdefault(json.loads(entry.data)["batch"], []).append(entry)
    for number, reported in found.items():
        if reported[0].seq > floor and reported[0].seq - 1 in kept:
            asked = numbered(number).records
            assert [(e.channel, e.key, e.data) for e in reported] == [
                (r.channel, r.key, r.data) for r in asked
            ]
    for number, receipt in acknowledged.items():
        if receipt.first_seq > floor:
            assert [entry.seq for entry in found[number]] == list(
                range(receipt.first_seq, receipt.last_seq + 1)
            )


# who may have the file


async def test_a_second_process_is_refused_with_the_pid_of_the_first(path: Path) -> None:
    with child("hold", path) as (process, said):
        assert json.loads(said.readline()) == "open"
        with pytest.raises(JournalLocked, match=rf"in use by process {process.pid}\b"):
            await SqliteJournal(path, KEEP).open()
        process.kill()
        process.wait()
        async with opened(path) as journal:
            await journal.append(batch(record()))


async def test_a_second_instance_in_the_same_process_is_refused_until_the_first_closes(
    path: Path,
) -> None:
    second = SqliteJournal(path, KEEP)
    async with opened(path):
        with pytest.raises(JournalLocked, match=str(os.getpid())):
            await second.open()
        await second.close()
    async with opened(path) as journal:
        assert journal.failure() is None


async def test_a_directory_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(JournalUnavailable, match="a directory that exists"):
        await SqliteJournal(tmp_path / "no" / "where.db", KEEP).open()


async def test_another_programs_transaction_is_waited_for_and_then_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.01)
    async with opened(path) as journal:
        with closing(sqlite3.connect(path, isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalUnavailable, match="Another program") as caught:
                await journal.append(batch(record()))
            assert caught.value.details is None, "nothing was committed, and that is known"
            shell.execute("ROLLBACK")
        assert journal.failure() is None
        assert (await journal.append(batch(record()))).first_seq == 1


async def test_an_open_that_is_cancelled_lets_go_of_the_file(path: Path) -> None:
    journal = SqliteJournal(path, KEEP)
    opening = asyncio.ensure_future(journal.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await journal.close()
    async with opened(path) as other:
        assert other.head == 0


# formats of other versions


def written_by_format_2(path: Path) -> None:
    """As the version before wrote it: without notes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(
            "BEGIN; DROP TABLE notes; DROP INDEX idempotency_by_age;"
            "ALTER TABLE idempotency DROP COLUMN since;"
            "CREATE INDEX idempotency_by_age ON idempotency (at); PRAGMA user_version = 2; COMMIT"
        )


async def test_a_journal_of_the_format_before_is_upgraded_and_keeps_all(path: Path) -> None:
    asked = batch(record("x"), record("y"), idempotency=Idempotency("i", b"d"))
    async with opened(path) as journal:
        receipt = await journal.append(asked)
        epoch, entries = journal.epoch, await everything(journal)
    written_by_format_2(path)
    async with opened(path) as journal:
        assert (journal.epoch, journal.head) == (epoch, receipt.last_seq)
        assert await everything(journal) == entries
        assert await journal.append(asked) == replace(receipt, duplicate=True)
        await journal.append(batch(notes=(Note("book", "k", b"v"),)))
    content = contents(path.parent)[path.name]
    assert int.from_bytes(content[60:64]) == schema.FORMAT


async def test_the_version_before_refuses_an_upgraded_journal_by_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path):
        pass
    before = contents(path.parent)
    monkeypatch.setattr(schema, "FORMAT", schema.FORMAT - 1)
    with pytest.raises(JournalCorrupt, match=r"its format is 3 .* reads up to 2. Upgrade Telecast"):
        await SqliteJournal(path, KEEP).open()
    assert contents(path.parent) == before


# names that lead elsewhere


@asynccontextmanager
async def watched(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteJournal]:
    """A journal with an entry, whose writer looks at its files before each commit."""
    monkeypatch.setattr(writer, "LOOK_SECONDS", 0.0)
    async with opened(path) as journal:
        await journal.append(batch(record("before")))
        yield journal


def deleted(path: Path) -> None:
    for name in (path, f"{path}-wal", f"{path}-shm"):
        os.remove(name)


def moved(path: Path) -> None:
    path.rename(path.with_suffix(".away"))


def exchanged(path: Path) -> None:
    copy = path.with_suffix(".copy")
    shutil.copy(path, copy)
    copy.replace(path)


def without_its_log(path: Path) -> None:
    os.remove(f"{path}-wal")


@pytest.mark.parametrize("away", [deleted, moved, exchanged, without_its_log])
async def test_nothing_is_acknowledged_in_a_file_that_is_not_there_any_more(
    path: Path, monkeypatch: pytest.MonkeyPatch, away: Callable[[Path], None]
) -> None:
    async with watched(path, monkeypatch) as journal:
        away(path)
        with pytest.raises(JournalUnavailable, match="nothing more is acknowledged"):
            await journal.append(batch(record("after")))
        assert journal.head == 1
        assert str(path) in (journal.failure() or "")
        with pytest.raises(JournalUnavailable):
            await anext(aiter(ended(journal)))


async def ended(journal: SqliteJournal) -> AsyncIterator[None]:
    async for _ in journal.tail():
        pass
    yield


async def test_a_file_that_goes_is_noticed_though_nobody_publishes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LOOK_SECONDS", 0.01)
    failed = asyncio.Event()
    async with opened(path) as journal:
        settle = journal._settle

        def settled(full: str | None, why: str | None) -> None:
            settle(full, why)
            if why is not None:
                failed.set()

        monkeypatch.setattr(journal, "_settle", settled)
        deleted(path)
        await failed.wait()
        assert "was moved or deleted" in (journal.failure() or "")


async def test_what_lies_in_its_place_by_then_is_left_as_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing SQLite's file must not take the log of another with the same name along."""
    async with watched(path, monkeypatch) as journal:
        deleted(path)
        write(path, b"another")
        write(Path(f"{path}-wal"), b"its log")
        with pytest.raises(JournalUnavailable):
            await journal.append(batch(record()))
    left = contents(path.parent)
    assert (left[path.name], left[f"{path.name}-wal"]) == (b"another", b"its log")


async def test_a_journal_that_is_missing_is_not_begun_anew_without_a_word(path: Path) -> None:
    async with opened(path) as journal:
        await journal.append(batch(record()))
    os.remove(path)
    with pytest.raises(JournalUnavailable, match=r"is missing.*delete .*\.head to start anew"):
        await SqliteJournal(path, KEEP).open()
    assert path.name not in contents(path.parent)
    os.remove(f"{path}.head")
    async with opened(path) as journal:
        assert journal.head == 0


@pytest.mark.parametrize("link", [os.symlink, os.link])
async def test_a_second_service_by_another_name_of_the_file_is_refused(
    path: Path, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    other = tmp_path / "current.db"
    async with opened(path) as journal:
        link(path, other)
        with pytest.raises(JournalLocked, match="in use by"):
            await SqliteJournal(other, KEEP).open()
        await journal.append(batch(record()))
    async with opened(other) as journal:
        assert journal.head == 1


async def test_the_lock_is_free_after_an_opening_that_failed(path: Path) -> None:
    foreign_text(path)
    for _ in range(2):
        with pytest.raises(JournalCorrupt, match="no SQLite database"):
            await SqliteJournal(path, KEEP).open()


async def test_nobody_but_its_user_can_read_a_journals_files(path: Path) -> None:
    async with opened(path) as journal:
        await journal.append(batch(record()))
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert len(modes) == 5
    assert set(modes.values()) == {0o600}


# a log that another program's read keeps from being emptied


async def test_a_large_log_is_warned_of_once_and_seen_in_the_figures(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(store, "LOG_WARNING", 250_000)
    async with opened(path) as journal:
        await journal.append(batch(record()))
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM events").fetchone()
            for _ in range(10):
                await journal.append(batch(record(data=b" " * 30_000)))
            assert journal.figures().log_bytes > 250_000
            assert [r.message for r in caplog.records if "log is large" in r.message] == [
                "the journal's log is large: another program has been reading it for long"
            ]


async def test_an_opening_writes_a_long_log_again_in_pieces(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PIECE", 1000)
    with child("write", path, 0) as (process, said):
        for _ in range(50):
            said.readline()
        process.kill()
        process.wait()
        before = contents(path.parent)[f"{path.name}-wal"]
    seen: list[bytes] = []
    monkeypatch.setattr(store, "sync_directory", lambda _: seen.append(read(f"{path}-wal")))
    async with opened(path):
        assert seen == [before]


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


# files that are refused, and left as they are


def foreign_text(path: Path) -> None:
    path.write_text("dear diary\n" * 100)


def foreign_stub(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0")


def foreign_database(path: Path) -> None:
    """In WAL mode, with its log beside it, as another program's crash leaves it."""
    original = path.with_suffix(".other")
    with closing(sqlite3.connect(original, isolation_level=None)) as database:
        database.executescript(
            "PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES (1)"
        )
        path.write_bytes(original.read_bytes())
        Path(f"{path}-wal").write_bytes(Path(f"{original}-wal").read_bytes())
    original.unlink()


def newer_format(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[60:64] = (schema.FORMAT + 1).to_bytes(4)
    path.write_bytes(content)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096 * 3)


def scribbled_over(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for page in range(4, len(content) // 4096, 3):
        content[page * 4096 : page * 4096 + 64] = os.urandom(64)
    path.write_bytes(content)


def without_a_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE floors")


def without_notes(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE notes")


def without_an_epoch(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE meta SET value = 'no epoch'")


def with_a_head_that_fell(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE sqlite_sequence SET seq = 1")


def with_a_row_astray(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE rows SET seq = seq - 1 WHERE key = 'k1'")


def without_its_database(path: Path) -> None:
    path.rename(f"{path}-wal")


def rotten(path: Path, was: bytes, became: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(was, became))


def leftovers(path: Path) -> None:
    Path(f"{path}.new").write_text("half")
    Path(f"{path}.new-journal").write_text("half")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def contents(directory: Path) -> dict[str, bytes]:
    """What the files hold, but for the lock, which names its last holder."""
    files = [file for file in directory.iterdir() if file.suffix != ".lock"]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (foreign_text, "no SQLite database"),
        (foreign_stub, "no SQLite database"),
        (foreign_database, "another program"),
        (newer_format, "Upgrade Telecast"),
        (truncated, "no sound journal"),
        (scribbled_over, "no sound journal"),
        (without_a_table, "no such table: floors"),
        (without_notes, "no such table: notes"),
        (without_an_epoch, "no epoch"),
        (with_a_head_that_fell, "its head is 1"),
        (with_a_row_astray, "lost their entries"),
        (without_its_database, "its log"),
    ],
)
async def test_a_file_that_is_no_sound_journal_is_refused_and_not_touched(
    path: Path, damage: Callable[[Path], None], said: str
) -> None:
    async with opened(path) as journal:
        for number in range(40):
            await journal.append(numbered(number))
    damage(path)
    before = contents(path.parent)
    journal = SqliteJournal(path, KEEP)
    with pytest.raises(JournalCorrupt, match=said):
        await journal.open()
    await journal.close()
    after = contents(path.parent)
    assert {name: after[name] for name in before} == before
    assert not after.get(f"{path.name}-wal") or f"{path.name}-wal" in before


async def test_a_payload_that_rotted_on_disk_is_never_sent(path: Path) -> None:
    """SQLite's pages have no checksum: quick_check finds nothing wrong with this one."""
    async with opened(path) as journal:
        await journal.append(batch(record("x", data=b'{"price":"1000"}')))
    rotten(path, b'"1000"', b'"9000"')
    async with opened(path) as journal:
        with pytest.raises(JournalCorrupt, match="entry 1"):
            await anext(journal.tail())
    async with opened(path) as journal:
        with pytest.raises(JournalCorrupt, match="entry 1"):
            await everything(journal)


async def test_a_journal_that_turns_out_damaged_takes_nothing_more(path: Path) -> None:
    """What it would acknowledge, nobody could be sure to read again."""
    async with opened(path) as journal:
        await journal.append(batch(record("x", data=b'{"price":"1000"}')))
        tail = journal.tail()
        assert [len(entries) for entries in (await anext(tail), await anext(tail))] == [1, 0]
        with closing(sqlite3.connect(path)) as shell, shell:
            shell.execute("UPDATE events SET key = 'y'")
        under_way = asyncio.ensure_future(journal.append(batch(record("z"))))
        with pytest.raises(JournalCorrupt, match="entry 1"):
            await everything(journal)
        async with asyncio.timeout(30):
            await under_way
        assert "entry 1" in str(journal.failure())
        with pytest.raises(JournalUnavailable, match="entry 1"):
            await journal.append(batch(record()))
        with pytest.raises(JournalUnavailable, match="entry 1"):
            async for _ in tail:
                pass


@pytest.mark.parametrize(
    "change",
    ["timestamp = 1", "channel = 'market-data'", "key = 'y'", "op = 'delete'", "pinned = 1"],
)
async def test_no_part_of_an_entry_can_rot_unnoticed(path: Path, change: str) -> None:
    """The checksum left the time, the channel, the op and the pin uncovered."""
    async with opened(path) as journal:
        await journal.append(batch(record("x"), record("x")))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"UPDATE events SET {change} WHERE seq = 1")
    async with opened(path) as journal:
        with pytest.raises(JournalCorrupt, match="entry 1"):
            await everything(journal)


async def test_a_note_that_rotted_is_not_given(path: Path) -> None:
    async with opened(path) as journal:
        await journal.append(batch(notes=(Note("book", "k", b"what was written"),)))
    rotten(path, b"what was written", b"what was wr\x00tten")
    async with opened(path) as journal:
        with pytest.raises(JournalCorrupt, match="the note 'k' of 'book' is not what was written"):
            await journal.notes("book")
        assert journal.failure() is not None


@pytest.mark.parametrize("change", ["first_seq = 9", "at = 0", "digest = '00'", "count = 2"])
async def test_a_receipt_that_rotted_is_not_given(path: Path, change: str) -> None:
    asked = batch(record(), idempotency=Idempotency("i", b"d"))
    async with opened(path) as journal:
        await journal.append(asked)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"UPDATE idempotency SET {change}")
    async with opened(path) as journal:
        with pytest.raises(JournalUnavailable, match="idempotency key 'i' is not what was"):
            await journal.append(asked)
        assert "damaged" in str(journal.failure())


# an older file in its place


def copied(path: Path, name: str) -> Path:
    """The database as `.backup` of SQLite's shell copies it."""
    copy = path.with_name(name)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


async def test_an_older_copy_in_its_place_is_refused_until_it_is_said_to_be_one(
    path: Path,
) -> None:
    async with opened(path) as journal:
        before = await journal.append(batch(record("before")))
        copy = copied(path, "copy.db")
        lost = await journal.append(batch(record("lost")))
        epoch = journal.epoch
    copy.replace(path)
    untouched = contents(path.parent)
    refused = SqliteJournal(path, KEEP)
    with pytest.raises(JournalCorrupt, match=r"ends at 1, but it was at 2 .* journal restored"):
        await refused.open()
    await refused.close()
    after = contents(path.parent)
    assert {name: after[name] for name in untouched} == untouched
    done = restored(str(path))
    assert (done.was, done.head) == (epoch, before.last_seq)
    async with opened(path) as journal:
        assert journal.epoch == done.epoch != epoch
        again = await journal.append(batch(record("another")))
        assert again.first_seq == lost.first_seq, "the same number, but of another life"


def as_killed(path: Path, folder: Path) -> Path:
    """The files of an open journal as kill -9 would leave them, elsewhere."""
    folder.mkdir()
    for file in (path, Path(f"{path}-wal"), Path(f"{path}.head")):
        shutil.copy(file, folder)
    return folder / path.name


def flipped(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


async def test_a_log_that_lost_its_end_is_noticed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite takes a rotten bit in its log for the end of it."""
    monkeypatch.setattr(store, "MARK_EVERY", 1)
    async with opened(path) as journal:
        for key in "abc":
            await journal.append(batch(record(key)))
        left = as_killed(path, tmp_path / "left")
    flipped(Path(f"{left}-wal"), -1)
    before = contents(left.parent)
    refused = SqliteJournal(left, KEEP)
    with pytest.raises(JournalCorrupt, match=r"ends at 2, but it was at 3 .* the end of its log"):
        await refused.open()
    await refused.close()
    after = contents(left.parent)
    assert {name: after[name] for name in before} == before


def replaced(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 64, b"abcd 99 00000000\n", b"\xff" * 64, b"abcd", None],
    ids=["empty", "zeros", "wrong sum", "no text", "short", "missing"],
)
async def test_a_mark_that_is_no_mark_stops_nobody(path: Path, content: bytes | None) -> None:
    async with opened(path) as journal:
        await journal.append(batch(record()))
    replaced(Path(f"{path}.head"), content)
    async with opened(path) as journal:
        assert journal.head == 1
    assert Mark(str(path)).read() == (journal.epoch, 1), "it was made anew"


async def test_a_mark_that_rotted_raises_no_false_alarm(path: Path) -> None:
    async with opened(path) as journal:
        await journal.append(batch(record()))
    rotten(Path(f"{path}.head"), b" 1 ", b" 9 ")
    async with opened(path) as again:
        assert (again.epoch, again.head) == (journal.epoch, 1)


async def test_a_file_that_was_emptied_is_not_taken_for_a_new_one(path: Path) -> None:
    async with opened(path) as journal:
        await journal.append(batch(record()))
    os.truncate(path, 0)
    refused = SqliteJournal(path, KEEP)
    with pytest.raises(JournalCorrupt, match="empty, but was not before"):
        await refused.open()
    await refused.close()
    os.remove(path)
    os.remove(f"{path}.head")
    async with opened(path) as anew:
        assert (anew.head, anew.epoch != journal.epoch) == (0, True)


async def test_the_mark_follows_the_head_without_a_close(path: Path) -> None:
    mark = Mark(str(path))
    async with opened(path, FEW) as journal:
        assert mark.read() == (journal.epoch, 0)
        await journal.append(batch(record()))
        await journal.trim()
        assert mark.read() == (journal.epoch, 1)
        receipt = await journal.append(batch(*(record() for _ in range(store.MARK_EVERY))))
        assert mark.read() == (journal.epoch, receipt.last_seq)


# a clock that jumps


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 3 * 86400.0, -3 * 86400.0])
async def test_a_clock_that_jumps_moves_no_number_and_doubles_no_batch(
    path: Path, jump: float
) -> None:
    """Wall time decides only what is old: a retry within the day as the clock has it is known."""
    now = [1_700_000_000.0]
    asked = batch(record("x"), idempotency=Idempotency("i", b"d"))
    async with opened(path, now=lambda: now[0]) as journal:
        tail = journal.tail()
        assert await anext(tail) == ()
        first = await journal.append(asked)
        now[0] += jump
        await journal.trim()
        again = await journal.append(asked)
        forgotten = jump > 24 * 3600
        assert again.duplicate is not forgotten
        second = await journal.append(batch(record("y")))
        assert second.first_seq == again.last_seq + 1
        assert second.timestamp == int(now[0] * 1000)
        now[0] -= jump
        third = await journal.append(batch(record("z")))
        reported = [entry.seq for _ in range(3 - again.duplicate) for entry in await anext(tail)]
        assert reported == list(range(first.first_seq, third.last_seq))
    async with opened(path, now=lambda: now[0]) as journal:
        assert journal.head == third.last_seq


async def test_a_wrong_clock_for_some_seconds_deletes_nothing_and_forgets_no_key(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    off, elapsed = [0.0], [1_000_000.0]
    asked = [batch(record(str(n)), idempotency=Idempotency(str(n), b"d")) for n in range(3)]

    def now() -> float:
        return 1_700_000_000.0 + elapsed[0] + off[0]

    month = {"positions": Retention(1_000, 30 * 86400.0)}
    async with opened(path, month, now, lambda: elapsed[0]) as journal:
        await journal.append(asked[0])
        await journal.append(batch(record("0")))
        for wrong in (31 * 86400.0, -31 * 86400.0):
            elapsed[0] += 10
            off[0] = wrong
            await journal.append(asked[1 if wrong > 0 else 2])
            assert await journal.trim() == 0
            elapsed[0] += 6
            off[0] = 0
            assert await journal.trim() == 0
        for batch_ in asked:
            assert (await journal.append(batch_)).duplicate
        assert len(await everything(journal)) == 4
    assert sum("the clock has jumped" in r.message for r in caplog.records) == 2


async def test_a_restart_with_a_wrong_clock_deletes_nothing_until_it_has_proved_steady(
    path: Path,
) -> None:
    few = {"positions": Retention(1_000, 2 * WAIT)}
    async with opened(path, few, lambda: 1_000_000.0) as journal:
        await journal.append(batch(record("x"), record("x")))
    elapsed = [0.0]
    async with opened(path, few, lambda: 9_000_000.0 + elapsed[0], lambda: elapsed[0]) as journal:
        for elapsed[0] in (1.0, 100.0, WAIT - 1):
            assert await journal.trim() == 0
        elapsed[0] = WAIT
        assert await journal.trim() == 1


async def test_a_retry_after_the_day_is_a_new_batch_and_says_so(path: Path) -> None:
    now = [1_700_000_000.0]
    asked = batch(record("x"), idempotency=Idempotency("i", b"d"))
    async with opened(path, now=lambda: now[0]) as journal:
        first = await journal.append(asked)
        now[0] += 24 * 3600 - 1
        await journal.trim()
        assert (await journal.append(asked)).duplicate
        now[0] += 2
        assert (await journal.append(asked)).duplicate, "until a trim has looked"
        await journal.trim()
        late = await journal.append(asked)
        assert not late.duplicate
        assert late.first_seq == first.last_seq + 1
        assert await journal.append(asked) == replace(late, duplicate=True)


@pytest.mark.parametrize("before", [empty, leftovers])
async def test_an_empty_file_or_half_a_creation_becomes_a_journal(
    path: Path, before: Callable[[Path], None]
) -> None:
    before(path)
    async with opened(path) as journal:
        assert journal.head == 0
    assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}.head", f"{path.name}.lock"]


# a disk that is full, or fails


class SmallDisk:
    """Has the writer's connection, so that its file may be forbidden to grow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._connection: sqlite3.Connection
        connect = schema.connect

        def remembered(path: str, mode: str) -> sqlite3.Connection:
            self._connection = connect(path, mode)
            return self._connection

        monkeypatch.setattr(store, "connect", remembered)

    def setting(self, name: str) -> Any:
        ((value,),) = self._connection.execute(f"PRAGMA {name}")
        return value

    def limit(self, pages: int) -> None:
        most = self.setting("page_count") + pages
        self._connection.execute(f"PRAGMA max_page_count = {most}")


async def test_a_full_disk_refuses_batches_and_recovers_by_itself(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SmallDisk(monkeypatch)
    large = batch(record("large", data=b"x" * 30_000), idempotency=Idempotency("i", b"d"))
    async with opened(path, FEW) as journal:
        await journal.append(batch(record("before")))
        disk.limit(pages=4)
        for _ in range(2):
            with pytest.raises(JournalFull, match="free some"):
                await journal.append(large)
        assert "no space left" in str(journal.failure())
        assert [entry.key for entry in await everything(journal)] == ["before"], "reads go on"
        disk.limit(pages=1000)
        receipt = await journal.append(large)
        assert (receipt.first_seq, receipt.duplicate) == (2, False)
        assert journal.failure() is None


async def test_trim_finds_out_that_there_is_space_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that is not ready gets no batches: something else has to try."""
    disk = SmallDisk(monkeypatch)
    async with opened(path, FEW) as journal:
        await journal.append(batch(record()))
        disk.limit(pages=0)
        with pytest.raises(JournalFull):
            await journal.append(batch(record(data=b"x" * 30_000)))
        disk.limit(pages=1000)
        assert await journal.trim() == 0
        assert journal.failure() is None


async def test_the_service_is_ready_again_when_there_is_space_though_nobody_publishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It trimmed only while the journal took batches, so a full one stayed full for it."""
    monkeypatch.setattr(tasks, "TRIM_SECONDS", 0.0)
    disk = SmallDisk(monkeypatch)
    async with served(journal=f"sqlite:{tmp_path / 'journal.db'}") as live:
        disk.limit(pages=0)
        refused = await live.refused("positions", [position(f"p{n}") for n in range(50)])
        assert refused["code"] == "JOURNAL_UNAVAILABLE"
        disk.limit(pages=1000)
        await live.until(lambda: live.parts.ready)


async def test_trimming_makes_the_space_that_a_full_disk_lacks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SmallDisk(monkeypatch)
    async with opened(path, FEW) as journal:
        for _ in range(20):
            await journal.append(batch(record(data=b"x" * 8000)))
        disk.limit(pages=0)
        with pytest.raises(JournalFull):
            await journal.append(batch(record(data=b"x" * 30_000)))
        assert await journal.trim() == 17
        assert (await journal.append(batch(record(data=b"x" * 30_000)))).first_seq == 21


async def test_a_file_that_may_not_grow_is_a_full_disk(path: Path) -> None:
    """EFBIG, as EDQUOT, is an I/O error to SQLite, unlike ENOSPC: it passed for a broken disk."""
    with child("outgrow", path) as (process, said):
        reported = json.loads(said.readline())
        assert process.wait(10) == 0
    assert reported["acknowledged"] > 5
    assert reported["details"] == [None] * 5, "nothing was committed, and that is known"
    assert "quota" in reported["failure"]
    assert reported["readable"] == 10
    assert reported["ready"], "a trim has found out"
    assert not reported["duplicate"]
    async with opened(path) as journal:
        for number in range(1, reported["acknowledged"] + 2):
            assert (await journal.append(numbered(number))).duplicate
        assert not (await journal.append(numbered(reported["acknowledged"] + 2))).duplicate


async def test_a_fault_of_the_writer_itself_is_loud_and_final(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path) as journal:
        monkeypatch.setattr(Store, "commit", lambda *_: 1 / 0)
        with pytest.raises(JournalUnavailable) as caught:
            await journal.append(batch(record()))
        assert caught.value.outcome_unknown
        assert "ZeroDivisionError" in str(journal.failure())
        with pytest.raises(JournalUnavailable):
            await journal.trim()
        tail = journal.tail()
        assert await anext(tail) == ()
        with pytest.raises(JournalUnavailable, match="ZeroDivisionError"):
            await anext(tail)
    assert "a fault in the code" in caplog.text


# one group, one statement, and a loop that is never held


async def test_a_writer_that_dies_is_no_journal_that_seems_open(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path) as journal:
        tail = journal.tail()
        assert await anext(tail) == ()
        monkeypatch.setattr(writer, "LOOK_SECONDS", 0.0)
        monkeypatch.setattr(Store, "look", lambda _: 1 / 0)
        with pytest.raises(JournalUnavailable, match="writer has ended"):
            await anext(tail)
        assert "writer has ended" in (journal.failure() or "")
        with pytest.raises(JournalUnavailable, match="writer has ended"):
            await journal.append(batch(record()))
    assert "has died" in caplog.text


async def test_a_writer_that_dies_leaves_no_publish_unanswered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as journal:
        monkeypatch.setattr(writer, "LOOK_SECONDS", 0.0)
        monkeypatch.setattr(Store, "look", lambda _: 1 / 0)
        waiting = [journal.append(batch(record())) for _ in range(3)]
        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(each) for each in outcomes} == {JournalUnavailable}
        assert journal.head == 0


async def test_what_waits_commits_as_one_group(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    async with opened(path) as journal:
        appends = [asyncio.ensure_future(journal.append(batch(record())))]
        await gate.arrival()
        appends += [asyncio.ensure_future(journal.append(batch(record()))) for _ in range(64)]
        await asyncio.sleep(0)  # the loop goes on while the writer is held
        assert not any(append.done() for append in appends)
        assert journal.head == 0
        gate.open.set()
        await asyncio.gather(*appends)
        assert gate.groups == [1, 64]


async def test_a_group_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    async with opened(path) as journal:
        sizes = [1, 3000, 1096, 1, MAX_BATCH, 2]
        appends = [asyncio.ensure_future(journal.append(batch(record())))]
        await gate.arrival()
        appends += [
            asyncio.ensure_future(journal.append(batch(*(record() for _ in range(size)))))
            for size in sizes[1:]
        ]
        wide = record(data=b"x" * (5 * 2**20))
        appends += [asyncio.ensure_future(journal.append(batch(wide))) for _ in range(3)]
        await asyncio.sleep(0)
        gate.open.set()
        receipts = await asyncio.gather(*appends)
        assert [receipt.count for receipt in receipts] == [*sizes, 1, 1, 1]
        assert gate.groups == [1, 4096, 1, 4096, 3, 1, 1]
        assert max(gate.groups) <= GROUP_RECORDS


async def test_when_a_commit_fails_no_verdict_of_its_group_stands(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conflict with a batch of the same group is none once that batch is not there."""
    disk = SmallDisk(monkeypatch)
    gate = Gate(monkeypatch)
    async with opened(path) as journal:
        disk.limit(pages=4)
        appends = [asyncio.ensure_future(journal.append(batch(record("first"))))]
        await gate.arrival()
        fresh: dict[str, Any] = {"expect": {("positions", "x"): 0}}
        for data in (b"x" * 50_000, b"y"):
            asked = batch(record("x", data=data), **fresh)
            appends.append(asyncio.ensure_future(journal.append(asked)))
        await asyncio.sleep(0)
        gate.open.set()
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        assert isinstance(outcomes[0], Receipt)
        assert [type(outcome) for outcome in outcomes[1:]] == [JournalFull, JournalFull]
        assert outcomes[1] is not outcomes[2]
        assert (await journal.append(batch(record("x", data=b"y"), **fresh))).first_seq == 2


@pytest.mark.parametrize("turn", [0.00005, 0.0002, 0.01], ids="{:.0e}s".format)
async def test_a_busy_loop_starves_neither_commits_nor_reads(path: Path, turn: float) -> None:
    """With short turns no switch of threads is ever forced: it took 1 to 30 s a commit. With
    long ones each handover takes a switch interval (here 5 ms): row by row that were 5 s."""
    records = tuple(record(str(n), data=b"x" * 200) for n in range(1000))
    async with opened(path) as journal, BusyLoop(turn) as busy:
        commits = [await busy.turns_of(journal.append(batch(*records))) for _ in range(5)]
        reads = [await busy.turns_of(journal.read(["positions"], 0, 1000)) for _ in range(5)]
    # In turns, since a machine with no time for us takes none; the best, for one whose disk waits.
    most = 0.5 / turn
    assert min(commits) < most
    assert min(reads) < most


class BusyLoop:
    """A loop that is never idle while it is entered, with turns of so many seconds."""

    def __init__(self, turn: float) -> None:
        self._turn = turn
        self._turns = 0

    async def turns_of(self, work: Awaitable[object]) -> int:
        """How many turns of the loop it takes."""
        before = self._turns
        await work
        return self._turns - before

    async def _spin(self) -> None:
        while True:
            self._turns += 1
            until = time.perf_counter() + self._turn
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(0)

    async def __aenter__(self) -> BusyLoop:
        self._spinning = asyncio.ensure_future(self._spin())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._spinning.cancel()
        await asyncio.gather(self._spinning, return_exceptions=True)


async def test_the_writer_syncs_its_log_at_every_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SmallDisk(monkeypatch)
    async with opened(path):
        assert disk.setting("journal_mode") == "wal"
        assert disk.setting("synchronous") == 2, "FULL (sqlite.org/pragma.html#pragma_synchronous)"


async def test_no_statement_scans_what_grows(path: Path) -> None:
    """Neither a commit, nor a trim with nothing to do, walks entries or keys."""
    async with opened(path) as journal:
        await journal.append(batch(record()))
    with closing(sqlite3.connect(path)) as database:
        database.executescript(procedures.PROCEDURES)
        for sql, parameters in (
            (procedures.COMMIT, (1, 1, "[]", b"", "[]", "[]", "[]", 1)),
            (procedures.TRIM, ("[]", "[]", 0, 1)),
            (procedures.LOOK_UP, ("[]", "[]")),
            (procedures.LEFT_OVER, (1, 0, 1)),
            (procedures.CANDIDATES, ("positions", 0, 1)),
        ):
            plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
            scans = [step for step in plan if step.startswith("SCAN")]
            allowed = ("json_each", "SCAN w", "superseded", "CONSTANT", "SCAN (subquery")
            assert all(any(word in step for word in allowed) for step in scans), plan


ONE_LOG = CopyOf("c0ffee1234", "epoch1")


def test_a_copy_of_a_log_is_no_journal_and_the_other_way_round(tmp_path: Path) -> None:
    copy, journal = str(tmp_path / "copy.db"), str(tmp_path / "journal.db")
    store.Store(copy, KEEP, copy_of=ONE_LOG).close()
    store.Store(copy, KEEP, copy_of=ONE_LOG).close()
    store.Store(journal, KEEP).close()
    for path, copy_of, words in (
        (copy, None, "no journal of its own"),
        (copy, CopyOf("c0ffee9999", "epoch1"), "another log"),
        (journal, ONE_LOG, "no copy of a log"),
    ):
        before = Path(path).read_bytes()
        with pytest.raises(JournalCorrupt, match=words):
            store.Store(path, KEEP, copy_of=copy_of)
        assert Path(path).read_bytes() == before
