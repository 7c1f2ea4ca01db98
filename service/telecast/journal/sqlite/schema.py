"""The database file of a SQLite journal: how one is made, and how one is known for ours.

The file holds tables only. The statements that act on several of them at once are temporary
triggers of the writer (`store`), so they belong to the code and not to the format.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from telecast.errors import JournalCorrupt, JournalUnavailable
from telecast.journal.epoch import is_epoch, new_epoch
from telecast.journal.sqlite.faults import corrupt, explained
from telecast.journal.sqlite.mark import Mark
from telecast.model import MAX_SEQ

log = logging.getLogger(__name__)

APPLICATION_ID = int.from_bytes(b"Tlcj")
FORMAT = 3
"""3 has notes, and `since` for idempotency keys. 1 was never released: it checked less."""
OLDEST_SQLITE = (3, 38, 0)
"""Has STRICT tables and `->>`."""

BUSY_SECONDS = 5.0
"""How long to wait for another program's transaction: a backup, an operator's shell."""

_MAGIC = b"SQLite format 3\0"
_HEADER = 100

_NOTES = """
CREATE TABLE notes (
    book TEXT NOT NULL,
    key TEXT NOT NULL,
    crc INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (book, key)
) STRICT, WITHOUT ROWID;
"""

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
    at INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (since);
{_NOTES}"""

_UPGRADES: Mapping[int, str] = {
    2: f"""{_NOTES}
DROP INDEX idempotency_by_age;
ALTER TABLE idempotency ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
UPDATE idempotency SET since = at;
CREATE INDEX idempotency_by_age ON idempotency (since);
"""
}
"""What makes an older format the next one; each must leave what is there as it is."""

_SANE = """
SELECT (SELECT value FROM meta WHERE name = 'epoch'),
       (SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'),
       (SELECT ifnull(max(seq), 0) FROM events),
       (SELECT ifnull(max(through), 0) FROM floors),
       (SELECT count(*) FROM superseded) + (SELECT count(*) FROM idempotency),
       (SELECT count(*) FROM rows LEFT JOIN events USING (seq)
         WHERE events.seq IS NULL OR events.channel <> rows.channel OR events.key <> rows.key)
"""


@dataclass(frozen=True, slots=True)
class CopyOf:
    """The log that a database is only a copy of: the name of its life, and its epoch."""

    life: str
    epoch: str


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


def prepare(path: str, source: CopyOf | None = None) -> None:
    """Make a journal where there is none; else make sure that it is a sound one of ours.

    A file that is refused is not changed in any way. The caller holds the lock. `source` is the
    log that the file is a copy of. Raises JournalCorrupt, JournalUnavailable.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise JournalUnavailable(
            f"SQLite {sqlite3.sqlite_version} is too old for the journal: it needs 3.38 or newer."
        )
    with explained(path):
        if header := _read_header(path):
            epoch, head = inspect(path, header)
            _check_kind(path, epoch, source)
            if source is None:
                _check_mark(path, epoch, head)
        else:
            _create(path, source)


def inspect(path: str, header: bytes | None = None) -> tuple[str, int]:
    """The epoch and the head of a sound journal; changes nothing. Raises as `prepare`."""
    with explained(path):
        _check_header(path, header or _read_header(path))
        return _check_content(path)


def is_ours(path: str) -> None:
    """Raise JournalCorrupt for a file that is no journal, by its header alone."""
    with explained(path):
        _check_header(path, _read_header(path))


def _read_header(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_HEADER)
    except FileNotFoundError:
        return b""


def inspect_format(path: str) -> int:
    """The format of a file that is a journal by its header. Raises JournalCorrupt."""
    header = _read_header(path)
    _check_header(path, header)
    return int.from_bytes(header[60:64])


def _check_header(path: str, header: bytes) -> None:
    """By the bytes themselves (sqlite.org/fileformat2.html §1.3): SQLite would replay the log of
    a foreign file before it could tell whose file it is."""
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        raise corrupt(path, "it is no SQLite database")
    if int.from_bytes(header[68:72]) != APPLICATION_ID:
        raise corrupt(path, "it is a database of another program")
    _check_format(path, int.from_bytes(header[60:64]))


def _check_format(path: str, version: int) -> None:
    if version > FORMAT:
        raise JournalCorrupt(
            f"{path} was left as it is: its format is {version} and this version of Telecast "
            f"reads up to {FORMAT}. Upgrade Telecast, or name another journal."
        )
    if version != FORMAT and version not in _UPGRADES:
        raise corrupt(path, f"its format number is {version}")


def upgrade(database: sqlite3.Connection, path: str) -> None:
    """Bring an older format to ours, in one transaction: a crash leaves the older one or ours.

    An older Telecast refuses the file from then on, and says why. The writer calls this, on its
    connection and once what is in the log is safe: closing another one would empty the log.
    """
    ((version,),) = database.execute("PRAGMA user_version")
    if version == FORMAT:
        return
    steps = "".join(_UPGRADES[older] for older in range(version, FORMAT))
    database.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {FORMAT}; COMMIT;")
    log.info("the journal's format was upgraded", extra={"path": path, "was": version})


def _check_content(path: str) -> tuple[str, int]:
    """Read-only, so that not even the log of a damaged file is moved into it."""
    with closing(connect(path, "ro")) as connection:
        ((version,),) = connection.execute("PRAGMA user_version")
        _check_format(path, version)
        findings = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
        if findings != ["ok"]:
            raise corrupt(path, str(findings[0]))
        ((epoch, head, newest, through, _, astray),) = connection.execute(_SANE)
        if version == FORMAT:
            connection.execute("SELECT 1 FROM notes LIMIT 1")
        if not is_epoch(epoch):
            raise corrupt(path, "it has no epoch")
        if not max(newest, through) <= head <= MAX_SEQ:
            raise corrupt(path, f"its head is {head}, but it speaks of {max(newest, through)}")
        if astray:
            raise corrupt(path, f"{astray} of its rows have lost their entries")
        return epoch, head


def _check_mark(path: str, epoch: str, head: int) -> None:
    mark = Mark(path).read()
    if mark is not None and mark[0] == epoch and mark[1] > head:
        raise JournalCorrupt(
            f"{path} was left as it is: it ends at {head}, but it was at {mark[1]} before, as "
            f"{path}.head says. Either an older copy was put in its place, or it has lost the end "
            "of its log (-wal). Put the newer files back; or go on from this one with "
            f"`telecast journal restored {path}`."
        )


def copy_of(database: sqlite3.Connection) -> str | None:
    """The life of the log that the database is a copy of, None for a journal."""
    for (life,) in database.execute("SELECT value FROM meta WHERE name = 'copy'"):
        return str(life)
    return None


def moved_to(database: sqlite3.Connection) -> str | None:
    """The log that the journal was moved into, None for one that was not."""
    for (url,) in database.execute("SELECT value FROM meta WHERE name = 'moved'"):
        return str(url)
    return None


def mark_moved(database: sqlite3.Connection, url: str) -> None:
    """No service starts on the journal from now on, durably."""
    database.execute("PRAGMA synchronous = FULL")
    database.execute("INSERT OR REPLACE INTO meta VALUES ('moved', ?)", (url,))


def _check_kind(path: str, epoch: str, source: CopyOf | None) -> None:
    with closing(connect(path, "ro")) as database:
        life, moved = copy_of(database), moved_to(database)
    if moved is not None:
        raise JournalUnavailable(
            f"{path} was moved to {moved}, and is left as it was then: start with --journal "
            f"{moved}. To go on from this file after all, without what was published there: "
            f"`telecast journal restored {path}`."
        )
    if source is None and life is not None:
        raise JournalCorrupt(
            f"{path} is one node's copy of a log and no journal of its own: start with "
            "--journal nats://... as before, or name another file. To make a journal of it, which "
            f"goes on without that log: `telecast journal restored {path}`."
        )
    if source is not None and life is None:
        raise JournalCorrupt(
            f"{path} is a journal and no copy of a log: name another file as the copy."
        )
    if source is not None and (life, epoch) != (source.life, source.epoch):
        raise JournalCorrupt(
            f"{path} is the copy of another log, or of one that was made anew or restored since "
            f"(its epoch is {epoch}, the log's is {source.epoch}). Check the address; if the log "
            "is right, move the file away, and a new copy is made from the log."
        )


def _create(path: str, source: CopyOf | None) -> None:
    """Make the file under another name and move it: a crash leaves a whole one or none."""
    beside = Path(f"{path}-wal")
    if beside.exists() and beside.stat().st_size:
        raise corrupt(path, f"it is missing, but its log {beside.name} is there")
    if (mark := Mark(path).read()) is not None:
        if Path(path).exists():
            raise corrupt(path, "it is empty, but was not before")
        raise JournalUnavailable(
            f"{path} is missing, but it was there before and ended at {mark[1]}, as {path}.head "
            f"says. Put it back, or delete {path}.head to start anew with an empty journal."
        )
    draft = f"{path}.new"
    for leftover in (draft, f"{draft}-journal", f"{draft}-wal", f"{draft}-shm"):
        with suppress(FileNotFoundError):
            os.remove(leftover)
    # SQLite gives its log the mode of the database: rows are for the service's user alone.
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(connect(draft, "rw")) as connection:
        # Here, not once it has its name: the change goes through a journal of the other kind,
        # and if that is left beside the file, nobody who only reads can open it again.
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.executescript(f"BEGIN; {_TABLES}")
        connection.execute(
            "INSERT INTO meta VALUES ('epoch', ?)", (source.epoch if source else new_epoch(),)
        )
        if source is not None:
            connection.execute("INSERT INTO meta VALUES ('copy', ?)", (source.life,))
        connection.execute("COMMIT")
    for leftover in (f"{path}-wal", f"{path}-shm"):
        with suppress(FileNotFoundError):
            os.remove(leftover)
    os.replace(draft, path)  # the writer syncs the directory, once the log is there too


def sync_directory(path: str) -> None:
    """Make it durable that the file, and those beside it, have their names."""
    handle = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
