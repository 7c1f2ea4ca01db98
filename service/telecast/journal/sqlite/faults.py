"""What SQLite's errors mean for a journal (sqlite.org/rescode.html)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from telecast.errors import JournalCorrupt, JournalFull, JournalUnavailable, TelecastError

_DAMAGE = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_MISMATCH,
    # Our statements are right: it is the schema, or Python met text that is no UTF-8.
    sqlite3.SQLITE_ERROR,
)


def is_damage(error: sqlite3.Error) -> bool:
    return _primary(error) in _DAMAGE


def is_busy(error: sqlite3.Error) -> bool:
    return _primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_full(error: sqlite3.Error) -> bool:
    return _primary(error) == sqlite3.SQLITE_FULL


def takes_no_more(error: sqlite3.Error) -> bool:
    """Whether the disk takes no more, as opposed to losing what it had taken.

    The transaction is rolled back then, and the next one writes the same place again. SQLite
    says "full" for ENOSPC alone: a quota or a size limit is a write that failed.
    """
    return is_full(error) or _code(error) == sqlite3.SQLITE_IOERR_WRITE or is_in_log(error)


def is_in_log(error: sqlite3.Error) -> bool:
    """Shared memory grows after the log was synced: a crash now would bring the commit back."""
    return _code(error) == sqlite3.SQLITE_IOERR_SHMSIZE


def corrupt(path: str, finding: str) -> JournalCorrupt:
    return JournalCorrupt(
        f"{path} is no sound journal and was left as it is: {finding}. Name another journal, or "
        "move the file and those beside it away to start anew."
    )


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Around what is done to the file before the journal is open: its errors become ours."""
    try:
        yield
    except OSError as error:
        raise JournalUnavailable(f"{path} can't be opened: {error.strerror}.") from error
    except sqlite3.Error as error:
        raise _opening(path, error) from error
    except UnicodeDecodeError as error:  # SQLite's message quotes what has rotted
        raise corrupt(path, "its schema is malformed") from error


def _opening(path: str, error: sqlite3.Error) -> TelecastError:
    if is_full(error):
        return JournalFull(f"There is no space to open {path}: free some.")
    if is_damage(error):
        return corrupt(path, str(error))
    return JournalUnavailable(f"{path} can't be used: {error}.")


def _primary(error: sqlite3.Error) -> int:
    return _code(error) & 0xFF


def _code(error: sqlite3.Error) -> int:
    """The extended result code; SQLITE_ERROR where Python itself raised it."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code
