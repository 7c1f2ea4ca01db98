"""The database file of a SQLite journal: how one is made, and how one is known for ours.

The file holds tables only. The statements that act on several of them at once are temporary
triggers of the writer (`store`), so they belong to the code and not to the format.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from telecast.errors import JournalCorrupt, JournalFull, JournalUnavailable, TelecastError
from telecast.journal.epoch import is_epoch, new_epoch
from telecast.model import MAX_SEQ

APPLICATION_ID = int.from_bytes(b"Tlcj")
FORMAT = 1
OLDEST_SQLITE = (3, 38, 0)
"""Has STRICT tables and `->>`."""

BUSY_SECONDS = 5.0
"""How long to wait for another program's transaction: a backup, an operator's shell."""

_MAGIC = b"SQLite format 3\0"
_HEADER = 100

# seq is AUTOINCREMENT for sqlite_sequence: it keeps the head, also when the newest entries went.
_TABLES = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp INTEGER NOT NULL,
    channel TEXT NOT NULL,
    key TEXT NOT NULL,
    op TEXT NOT NULL CHECK (op IN ('upsert', 'delete')),
    pinned INTEGER NOT NULL CHECK (pinned IN (0, 1)),
    crc INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE INDEX events_by_channel ON events (channel);
CREATE TABLE rows (
    channel TEXT NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (channel, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE superseded (seq INTEGER PRIMARY KEY) STRICT;
CREATE TABLE floors (
    channel TEXT PRIMARY KEY,
    through INTEGER NOT NULL,
    whole_from INTEGER NOT NULL,
    compact_from INTEGER NOT NULL,
    CHECK (0 <= compact_from AND compact_from <= whole_from AND whole_from <= through)
) STRICT, WITHOUT ROWID;
CREATE TABLE idempotency (
    key TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    count INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (at);
"""

_SANE = """
SELECT (SELECT value FROM meta WHERE name = 'epoch'),
       (SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'),
       (SELECT ifnull(max(seq), 0) FROM events),
       (SELECT ifnull(max(through), 0) FROM floors),
       (SELECT count(*) FROM superseded) + (SELECT count(*) FROM idempotency),
       (SELECT count(*) FROM rows LEFT JOIN events USING (seq)
         WHERE events.seq IS NULL OR events.channel <> rows.channel OR events.key <> rows.key)
"""


def connect(path: str, mode: str) -> sqlite3.Connection:
    """A connection in autocommit to a file that exists; `mode` is "ro" or "rw"."""
    uri = f"file:{quote(os.path.abspath(path))}?mode={mode}"
    connection = sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
    )
    # What stands in the file is data: no view or trigger in it may reach out of SQL.
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def prepare(path: str) -> None:
    """Make a journal where there is none; else make sure that it is a sound one of ours.

    A file that is refused is not changed in any way. The caller holds the lock. Raises
    JournalCorrupt, JournalUnavailable.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise JournalUnavailable(
            f"SQLite {sqlite3.sqlite_version} is too old for the journal: it needs 3.38 or newer."
        )
    try:
        header = _read_header(path)
        if header:
            _check_header(path, header)
            _check_content(path)
        else:
            _create(path)
    except OSError as error:
        raise JournalUnavailable(f"{path} can't be opened: {error.strerror}.") from error
    except sqlite3.Error as error:
        raise opening_fault(path, error) from error


def _read_header(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_HEADER)
    except FileNotFoundError:
        return b""


def _check_header(path: str, header: bytes) -> None:
    """By the bytes themselves (sqlite.org/fileformat2.html §1.3): SQLite would replay the log of
    a foreign file before it could tell whose file it is."""
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        raise _corrupt(path, "it is no SQLite database")
    if int.from_bytes(header[68:72]) != APPLICATION_ID:
        raise _corrupt(path, "it is a database of another program")
    _check_format(path, int.from_bytes(header[60:64]))


def _check_format(path: str, version: int) -> None:
    if version > FORMAT:
        raise JournalCorrupt(
            f"{path} was left as it is: its format is {version} and this version of Telecast "
            f"reads up to {FORMAT}. Upgrade Telecast, or name another journal."
        )
    if version < 1:
        raise _corrupt(path, f"its format number is {version}")


def _check_content(path: str) -> None:
    """Read-only, so that not even the log of a damaged file is moved into it."""
    with closing(connect(path, "ro")) as connection:
        ((version,),) = connection.execute("PRAGMA user_version")
        _check_format(path, version)
        findings = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
        if findings != ["ok"]:
            raise _corrupt(path, str(findings[0]))
        ((epoch, head, newest, through, _, astray),) = connection.execute(_SANE)
        if not is_epoch(epoch):
            raise _corrupt(path, "it has no epoch")
        if not max(newest, through) <= head <= MAX_SEQ:
            raise _corrupt(path, f"its head is {head}, but it speaks of {max(newest, through)}")
        if astray:
            raise _corrupt(path, f"{astray} of its rows have lost their entries")


def _create(path: str) -> None:
    """Make the file under another name and move it: a crash leaves a whole one or none."""
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size:
        raise _corrupt(path, f"it is missing, but its log {log.name} is there")
    draft = f"{path}.new"
    for leftover in (draft, f"{draft}-journal"):
        with suppress(FileNotFoundError):
            os.remove(leftover)
    with open(draft, "xb"):
        pass
    with closing(connect(draft, "rw")) as connection:
        connection.executescript(f"BEGIN; {_TABLES}")
        connection.execute("INSERT INTO meta VALUES ('epoch', ?)", (new_epoch(),))
        connection.execute("COMMIT")
    for leftover in (f"{path}-wal", f"{path}-shm"):
        with suppress(FileNotFoundError):
            os.remove(leftover)
    os.replace(draft, path)
    _sync_directory(os.path.dirname(os.path.abspath(path)))


def _sync_directory(path: str) -> None:
    if os.name == "nt":  # pragma: no cover
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _corrupt(path: str, finding: str) -> JournalCorrupt:
    return JournalCorrupt(
        f"{path} is no sound journal and was left as it is: {finding}. Name another journal, or "
        "move the file and those beside it away to start anew."
    )


def primary_code(error: sqlite3.Error) -> int:
    """The primary result code (sqlite.org/rescode.html); SQLITE_ERROR where there is none."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def opening_fault(path: str, error: sqlite3.Error) -> TelecastError:
    """What an error of SQLite means while nothing was written yet."""
    code = primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        return JournalFull(f"There is no space to open {path}: free some.")
    if code in (
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_MISMATCH,
    ):
        return _corrupt(path, str(error))
    return JournalUnavailable(f"{path} can't be used: {error}.")
