"""What a journal's file holds of a channel, and a new life for a channel. While nobody owns it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from telecast.journal.base import Note
from telecast.journal.sqlite.faults import explained
from telecast.journal.sqlite.lock import FileLock
from telecast.journal.sqlite.readers import note_checksum
from telecast.journal.sqlite.schema import connect, prepare

BOOK = "channels"
"""Notes: of each channel the digest of what it was when its rows were last looked at."""

_ROWS = "SELECT rows.key, events.data FROM rows JOIN events USING (seq) WHERE rows.channel = ?"
_EVENTS = "SELECT key, data FROM events WHERE channel = ?"
_NEW_LIFE = """
BEGIN IMMEDIATE;
DELETE FROM superseded WHERE seq IN (SELECT seq FROM events WHERE channel = {channel});
DELETE FROM rows WHERE channel = {channel};
DELETE FROM events WHERE channel = {channel};
INSERT OR REPLACE INTO floors
SELECT {channel}, head, head, head
  FROM (SELECT ifnull(max(seq), 0) AS head FROM sqlite_sequence WHERE name = 'events');
COMMIT;
"""


class StoredChannels:
    """A journal's file between two owners. Made by `stored_channels`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def digests(self) -> dict[str, bytes]:
        with closing(connect(self._path, "ro")) as database:
            found = database.execute("SELECT key, value FROM notes WHERE book = ?", (BOOK,))
            return {str(key): bytes(value) for key, value in found}

    def rows(self, channel: str) -> Iterator[tuple[str, bytes]]:
        """(key, JSON) of each live row."""
        yield from self._all(_ROWS, channel)

    def events(self, channel: str) -> Iterator[tuple[str, bytes]]:
        """(key, JSON) of each event that is kept: what a log has."""
        yield from self._all(_EVENTS, channel)

    def _all(self, query: str, channel: str) -> Iterator[tuple[str, bytes]]:
        with closing(connect(self._path, "ro")) as database:
            yield from database.execute(query, (channel,))

    def begin_anew(self, channel: str) -> None:
        """Forget the channel's rows and events, durably: whoever resumes gets a snapshot of it."""
        quoted = "'" + channel.replace("'", "''") + "'"
        with closing(connect(self._path, "rw")) as database:
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(_NEW_LIFE.format(channel=quoted))

    def remember(self, digests: Mapping[str, bytes]) -> None:
        with closing(connect(self._path, "rw")) as database:
            database.executemany(
                "INSERT OR REPLACE INTO notes (book, key, crc, value) VALUES (?, ?, ?, ?)",
                [
                    (BOOK, name, note_checksum(Note(BOOK, name, digest)), digest)
                    for name, digest in digests.items()
                ],
            )


@contextmanager
def stored_channels(path: str) -> Iterator[StoredChannels | None]:
    """The file of a journal, held so that nobody else opens it meanwhile; None: there is none yet.

    Blocking. Raises JournalUnavailable, JournalLocked, JournalCorrupt.
    """
    if not os.path.isfile(path):
        yield None
        return
    path = os.path.realpath(path)
    lock = FileLock(path)
    try:
        lock.hold()
        prepare(path)
        with explained(path):
            yield StoredChannels(path)
    finally:
        lock.release()
