"""`telecast journal`: what it does to a file, and what it says when it can't."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from telecast.cli import main
from telecast.cli.exits import Exit
from telecast.journal.base import Batch
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.journal.sqlite.lock import FileLock
from telecast.model import Record, Retention


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    await made(path)
    return path


async def made(path: Path) -> str:
    """The epoch of the journal, which is made where there is none."""
    journal = SqliteJournal(path, {})
    await journal.open()
    await journal.close()
    return journal.epoch


def run(path: Path) -> Result:
    return CliRunner().invoke(main, ["journal", "restored", str(path)])


async def test_a_restored_journal_gets_a_new_epoch_and_both_are_named(path: Path) -> None:
    was = await made(path)
    result = run(path)
    assert (result.exit_code, result.stdout) == (Exit.OK, "")
    epoch = await made(path)
    assert epoch != was
    assert f"ends at 0. Its epoch is {epoch} now, not {was}" in result.stderr


async def test_it_is_another_life_each_time(path: Path) -> None:
    epochs = {await made(path)}
    for _ in range(3):
        assert run(path).exit_code == Exit.OK
        epochs.add(await made(path))
    assert len(epochs) == 4


def missing(path: Path) -> str:
    path.unlink()
    return f"There is no journal {path}."


def a_folder(path: Path) -> str:
    path.unlink()
    path.mkdir()
    return f"There is no journal {path}."


def no_journal(path: Path) -> str:
    path.write_text("dear diary\n" * 100)
    return "it is no SQLite database"


def another_programs(path: Path) -> str:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (a)")
    return "it is a database of another program"


def damaged(path: Path) -> str:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(4096) + content[8192:])
    return "is no sound journal and was left as it is"


@pytest.mark.parametrize("spoil", [missing, a_folder, no_journal, another_programs, damaged])
def test_what_is_no_journal_is_left_as_it_is(path: Path, spoil: Callable[[Path], str]) -> None:
    said = spoil(path)
    before = path.read_bytes() if path.is_file() else None
    result = run(path)
    assert result.exit_code == Exit.ERROR
    assert said in result.stderr
    assert result.stderr.startswith("Error: ")
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_journal_in_use_is_refused_with_the_holder(path: Path) -> None:
    lock = FileLock(str(path))
    try:
        result = run(path)
    finally:
        lock.release()
    assert result.exit_code == Exit.ERROR
    assert f"is in use by process {os.getpid()}" in result.stderr


@contextmanager
def nobody() -> Iterator[None]:
    """As a user who may write nothing here: root may always."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.mark.skipif(sys.platform == "win32", reason="users and rights of POSIX")
async def test_a_folder_that_may_not_be_written_to_is_said_so() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        await made(path)
        (Path(folder) / "journal.db.lock").unlink()
        os.chmod(folder, 0o555)
        with nobody():
            result = run(path)
        os.chmod(folder, 0o755)
    assert result.exit_code == Exit.ERROR
    assert "a directory that exists and that it may write to" in result.stderr


async def test_info_knows_the_retention_of_channels_of_one_s_own(path: Path) -> None:
    """Bug: a channel that the service streamed was an "unknown channel" here."""
    file = path.with_name("channels.toml")
    file.write_text('[orders]\nfields = { id = { type = "id" } }\nretention = { events = 777 }\n')
    journal = SqliteJournal(path, {"orders": Retention(events=777, seconds=60.0)})
    await journal.open()
    await journal.append(Batch(records=(Record("orders", "o1", "upsert", False, b"{}"),)))
    await journal.close()
    command = ["journal", "info", str(path)]
    assert "see --channels" in CliRunner().invoke(main, command).stdout
    shown = CliRunner().invoke(main, [*command, "--channels", str(file)]).stdout
    (line,) = (line for line in shown.splitlines() if line.startswith("orders"))
    assert " 777 " in line


def test_a_file_is_asked_for() -> None:
    result = CliRunner().invoke(main, ["journal", "restored"])
    assert result.exit_code == Exit.USAGE
    assert "FILE" in result.stderr


def test_the_help_of_the_command_loads_no_service() -> None:
    program = (
        "import sys; from telecast.cli import main\n"
        "try: main(['journal', '--help'])\n"
        "except SystemExit: pass\n"
        "print('aiohttp' in sys.modules, file=sys.stderr)"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "restored" in process.stdout
    assert process.stderr.strip() == "False"
