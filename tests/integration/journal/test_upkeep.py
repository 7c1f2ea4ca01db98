"""What an operator does with a journal's file: copies, checks, figures, compacting."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from telecast.cli import main
from telecast.cli.exits import Exit
from telecast.errors import JournalCorrupt, JournalLocked, JournalUnavailable, SettingsError
from telecast.journal.base import Batch, Idempotency, Note
from telecast.journal.sqlite import upkeep
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.model import Entry, Record, Retention

KEEP = {"positions": Retention(5, 1e9)}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "telecast.db")


def batch(number: int, data: bytes = b'{"a":1}') -> Batch:
    return Batch(
        records=(Record("positions", f"k{number % 3}", "upsert", False, data),),
        idempotency=Idempotency(str(number), b"d"),
        notes=(Note("book", f"n{number % 5}", str(number).encode()),),
    )


async def opened(path: str) -> SqliteJournal:
    journal = SqliteJournal(path, KEEP)
    await journal.open()
    return journal


async def filled(path: str, count: int = 50, data: bytes = b'{"a":1}') -> None:
    journal = await opened(path)
    for number in range(count):
        await journal.append(batch(number, data))
    await journal.close()


async def entries(path: str) -> tuple[Entry, ...]:
    journal = await opened(path)
    try:
        return (await journal.read(["positions"], 0, 10_000)).entries
    finally:
        await journal.close()


def rot(path: str, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)


ROTTEN = [
    "UPDATE events SET data = x'7b7d' WHERE seq = 7",
    "UPDATE idempotency SET at = at + 1 WHERE key = '7'",
    "UPDATE notes SET value = x'00' WHERE key = 'n2'",
]


async def test_a_backup_beside_commits_is_of_one_moment_and_sound(
    path: str, tmp_path: Path
) -> None:
    to = str(tmp_path / "backup.db")
    journal = await opened(path)
    for number in range(20):
        await journal.append(batch(number))
    copying = asyncio.ensure_future(asyncio.to_thread(upkeep.backup, path, to))
    number = 20
    while not copying.done():
        await journal.append(batch(number))
        number += 1
    found = await copying
    there = (await journal.read(["positions"], 0, 10_000)).entries
    epoch = journal.epoch
    await journal.close()
    assert found.epoch == epoch
    assert 20 <= found.head == found.entries == found.keys <= number
    assert os.stat(to).st_mode & 0o777 == 0o600
    assert await entries(to) == there[: found.head]
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


async def test_a_backup_overwrites_nothing_and_leaves_nothing_when_it_fails(
    path: str, tmp_path: Path
) -> None:
    await filled(path)
    to = tmp_path / "backup.db"
    to.touch()
    with pytest.raises(SettingsError, match="not overwritten"):
        upkeep.backup(path, str(to))
    with pytest.raises(JournalUnavailable, match="There is no journal"):
        upkeep.backup(f"{path}x", str(tmp_path / "other.db"))
    with pytest.raises(JournalUnavailable, match="No such file or directory"):
        upkeep.backup(path, str(tmp_path / "nowhere" / "other.db"))


@pytest.mark.parametrize("statement", ROTTEN)
async def test_a_backup_of_what_has_rotted_is_no_backup(
    path: str, tmp_path: Path, statement: str
) -> None:
    await filled(path)
    rot(path, statement)
    to = tmp_path / "backup.db"
    with pytest.raises(JournalCorrupt):
        upkeep.backup(path, str(to))
    assert not [name for name in os.listdir(tmp_path) if "backup" in name]


@pytest.mark.parametrize("statement", ROTTEN)
async def test_a_check_finds_what_has_rotted_and_changes_nothing(path: str, statement: str) -> None:
    await filled(path)
    sound = upkeep.check(path)
    assert (sound.head, sound.entries, sound.keys, sound.notes) == (50, 50, 50, 5)
    rot(path, statement)
    with pytest.raises(JournalCorrupt, match="is not what was written"):
        upkeep.check(path)


async def test_compacting_gives_space_back_and_changes_nothing_else(path: str) -> None:
    await filled(path, 200, b'{"a":"%b"}' % (b"x" * 5000))
    journal = await opened(path)
    await journal.trim()
    epoch, kept = journal.epoch, (await journal.read(["positions"], 0, 10_000)).entries
    with pytest.raises(JournalLocked):
        upkeep.compact(path)
    await journal.close()
    before, after = upkeep.compact(path)
    assert after < before / 4
    assert await entries(path) == kept
    journal = await opened(path)
    assert (journal.epoch, journal.head) == (epoch, 200)
    assert (await journal.append(batch(7))).duplicate
    await journal.close()
    assert os.stat(path).st_mode & 0o777 == 0o600


async def test_nothing_is_compacted_while_another_program_has_it_open(path: str) -> None:
    await filled(path)
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("SELECT count(*) FROM events").fetchone()
        with pytest.raises(JournalUnavailable, match=r"has .* open"):
            upkeep.compact(path)
    assert upkeep.check(path).entries == 50


def spoil(path: str) -> None:
    Path(path).write_text("no journal")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["journal", *arguments])


async def test_the_figures_say_what_each_channel_holds_and_may_cost(path: str) -> None:
    await filled(path)
    shown = run("info", path)
    assert shown.exit_code == Exit.OK
    assert "head 50" in shown.stdout
    told = orjson.loads(run("info", "--journal", f"sqlite:{path}", "--json").stdout)
    (channel,) = told["channels"]
    assert (channel["name"], channel["events"], channel["rows"]) == ("positions", 50, 3)
    assert channel["payload_bytes"] == 50 * len(b'{"a":1}')
    assert told["notes"] == {"book": 5}
    cost = channel["atRetention"]
    assert cost["disk_bytes"] > cost["events"] * len(b'{"a":1}')
    assert cost["start_seconds"] > 0


async def test_the_commands_say_what_they_did_or_what_to_do(path: str, tmp_path: Path) -> None:
    await filled(path)
    to = str(tmp_path / "backup.db")
    done = run("backup", to, "--journal", f"sqlite:{path}")
    assert (done.exit_code, done.stdout) == (Exit.OK, "")
    assert f"telecast journal restored {to}" in done.stderr
    assert "is sound" in run("check", to).stderr
    assert "has" in run("compact", path).stderr
    assert run("info", str(tmp_path / "no.db")).exit_code == Exit.ERROR
    spoil(to)
    for command in ("check", "info", "compact"):
        refused = run(command, to)
        assert refused.exit_code == Exit.ERROR
        assert "no SQLite database" in refused.stderr
    assert "has no file" in run("info", "--journal", "memory:").stderr
