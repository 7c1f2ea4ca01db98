"""Copying, checking and compacting a journal's file. Blocking; for commands, not for the service.

A copy is made by one statement in one read transaction (VACUUM INTO): it sees one moment, however
much is committed meanwhile, and it ends. SQLite's online backup copies page by page and begins
anew when the file changes, which beside a busy service it does for ever. The price is that the
log can't be emptied while the copy is made.

A copy has its name only once it is whole, verified and on the disk.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

from telecast.errors import JournalUnavailable, SettingsError
from telecast.journal.base import Note
from telecast.journal.sqlite.faults import corrupt, explained
from telecast.journal.sqlite.lock import FileLock
from telecast.journal.sqlite.readers import Readers, key_checksum, note_checksum
from telecast.journal.sqlite.schema import connect, inspect, sync_directory

PAGE = 1000
"""Entries that are checked at a time."""
LOOK_SECONDS = 0.2
"""Between two looks at how far a copy is."""

Progress = Callable[[int, int], None]
"""Called with how much is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A sound journal. `entries`, `keys` and `notes` have been read and compared each."""

    epoch: str
    head: int
    entries: int
    keys: int
    notes: int
    file_bytes: int


def _silent(done: int, total: int) -> None:
    pass


def backup(path: str, to: str, progress: Progress = _silent) -> Checked:
    """Copy the journal to a new file, for its user alone, and check the copy.

    A service may run on it meanwhile. Raises SettingsError where `to` is there already,
    JournalUnavailable, JournalFull, JournalCorrupt: then `to` is not there.
    """
    _exists(path)
    if os.path.lexists(to):
        raise SettingsError([f"{to} is there already, and is not overwritten: name a new file."])
    with _draft(to) as draft:
        _copy(path, draft, progress)
        found = check(draft)
        with explained(to):
            try:
                os.link(draft, to)
            except FileExistsError:
                raise SettingsError([f"{to} is there by now, and is not overwritten."]) from None
            except OSError:  # a file system without hard links
                os.replace(draft, to)
            sync_directory(to)
    return found


def check(path: str, progress: Progress = _silent) -> Checked:
    """Read everything, and compare it with its checksums. Changes nothing.

    A service may run on it meanwhile. Raises JournalCorrupt, JournalUnavailable.
    """
    _exists(path)
    epoch, head = inspect(path)
    readers = Readers(path)
    try:
        entries = 0
        after = 0
        while after < head:
            page, after = readers.history(after, head, PAGE)
            entries += len(page)
            progress(after, head)
    finally:
        readers.close()
    with explained(path), closing(connect(path, "ro")) as database:
        keys, notes = _check_keys(path, database), _check_notes(path, database)
    return Checked(epoch, head, entries, keys, notes, os.path.getsize(path))


def compact(path: str, progress: Progress = _silent) -> tuple[int, int]:
    """Give back the space that trimmed entries have left; returns the bytes before and after.

    No service may run on it. The journal stays the same: epoch, numbers, mark. Raises
    JournalLocked, JournalCorrupt, JournalUnavailable, JournalFull: then it is as it was.
    """
    _exists(path)
    path = os.path.realpath(path)
    lock = FileLock(path)
    try:
        lock.hold()
        before = inspect(path)
        with explained(path), closing(connect(path, "rw")) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if os.path.exists(f"{path}-wal"):  # the last one who closes it removes it
            raise JournalUnavailable(f"Another program has {path} open: end it, then try again.")
        stat = os.stat(path)
        with _draft(path) as draft:
            _copy(path, draft, progress)
            found = check(draft)
            if (found.epoch, found.head) != before:
                raise corrupt(path, "its compacted copy is another journal")
            with explained(path):
                with closing(connect(draft, "rw")) as database:
                    database.execute("PRAGMA journal_mode = WAL").fetchone()
                with suppress(PermissionError):
                    os.chown(draft, stat.st_uid, stat.st_gid)
                os.chmod(draft, stat.st_mode & 0o777)
                os.replace(draft, path)
                sync_directory(path)
        return stat.st_size, os.path.getsize(path)
    finally:
        lock.release()


def _exists(path: str) -> None:
    if not os.path.isfile(path):
        raise JournalUnavailable(f"There is no journal {path}.")


@contextmanager
def _draft(to: str) -> Iterator[str]:
    """An empty file beside `to`, for this user alone, that does not outlive the block."""
    draft = f"{to}.{secrets.token_hex(4)}.part"
    with explained(to):
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield draft
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.remove(f"{draft}{suffix}")


def _copy(path: str, draft: str, progress: Progress) -> None:
    with explained(path), closing(connect(path, "ro")) as database:
        ((pages, free, size),) = database.execute(
            "SELECT (SELECT page_count FROM pragma_page_count),"
            "       (SELECT freelist_count FROM pragma_freelist_count),"
            "       (SELECT page_size FROM pragma_page_size)"
        )
        total = (pages - free) * size
        with _watched(draft, total, progress):
            database.execute("VACUUM INTO ?", (draft,))
        handle = os.open(draft, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _watched(draft: str, total: int, progress: Progress) -> Iterator[None]:
    """Report how large the file is by now; the statement that writes it says nothing itself."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(LOOK_SECONDS):
            progress(min(os.path.getsize(draft), total), total)

    thread = threading.Thread(target=watch, name="journal-copy-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    progress(total, total)


def _check_keys(path: str, database: sqlite3.Connection) -> int:
    rows = database.execute(
        "SELECT key, digest, count, first_seq, last_seq, at, crc FROM idempotency"
    )
    count = 0
    for *used, crc in rows:
        if key_checksum(*used) != crc:
            raise corrupt(path, f"the idempotency key {used[0]!r} is not what was written")
        count += 1
    return count


def _check_notes(path: str, database: sqlite3.Connection) -> int:
    ((there,),) = database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'notes'")
    count = 0
    for book, key, crc, value in database.execute("SELECT * FROM notes") if there else ():
        if note_checksum(Note(book, key, value)) != crc:
            raise corrupt(path, f"the note {key!r} of {book!r} is not what was written")
        count += 1
    return count
