"""Another life for a journal that was put back from a copy."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from dataclasses import dataclass

from telecast.errors import JournalUnavailable
from telecast.journal.epoch import new_epoch
from telecast.journal.sqlite.faults import explained
from telecast.journal.sqlite.lock import FileLock
from telecast.journal.sqlite.schema import connect, inspect


@dataclass(frozen=True, slots=True)
class Restored:
    was: str
    epoch: str
    head: int


def restored(path: str) -> Restored:
    """Give the journal a new epoch, durably: clients of the old one start over with a snapshot.

    Its numbers go on from its head. Without a new epoch they would name other events than those
    that clients got after the copy was made. A node's copy of a log becomes a journal by this, and
    one that was moved into a log is one again. Blocking. Raises JournalUnavailable (there is none,
    or it can't be written), JournalLocked, JournalCorrupt; then it is as it was.
    """
    if not os.path.isfile(path):
        raise JournalUnavailable(f"There is no journal {path}.")
    path = os.path.realpath(path)
    lock = FileLock(path)
    try:
        lock.hold()
        was, head = inspect(path)
        epoch = new_epoch()
        with explained(path), closing(connect(path, "rw")) as database:
            database.execute("PRAGMA synchronous = FULL")
            database.execute("BEGIN IMMEDIATE")
            database.execute("UPDATE meta SET value = ? WHERE name = 'epoch'", (epoch,))
            database.execute("DELETE FROM meta WHERE name IN ('copy', 'moved')")
            # A node's copy becomes a journal: what it knew of its log is not true of it any more.
            if database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'notes'").fetchone():
                database.execute("DELETE FROM notes WHERE book = 'log'")
            database.execute("COMMIT")
        with suppress(FileNotFoundError):
            os.remove(f"{path}.state")
    finally:
        lock.release()
    return Restored(was, epoch, head)
