"""Reading a SQLite journal beside its writer: short transactions on read-only connections."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Collection
from typing import Any
from zlib import crc32

import orjson

from telecast.errors import JournalCorrupt, JournalUnavailable, TelecastError
from telecast.journal.base import Note
from telecast.journal.sqlite.faults import is_damage
from telecast.journal.sqlite.schema import connect
from telecast.model import Entry, Floor, Page

MAX_READERS = 4
"""Reads at a time: each may hold a page of the largest events, and SQLite's log, meanwhile."""

# One row per page: a step of SQLite lets go of the interpreter lock and takes it again, so rows
# fetched one by one beside a busy loop would cost a switch interval each.
_PAGE = """
SELECT json_group_array(
           json_array(seq, timestamp, channel, key, op, pinned, crc, length(data))),
       CAST(group_concat(data, '') AS BLOB),
       (SELECT json_group_object(channel, json_array(whole_from, compact_from)) FROM floors)
  FROM ({entries} ORDER BY seq LIMIT ?)
"""
_NOTES = """
SELECT json_group_array(json_array(key, crc, length(value))),
       CAST(group_concat(value, '') AS BLOB)
  FROM (SELECT * FROM notes WHERE book = ? AND key > ? ORDER BY key LIMIT ?)
"""
_ALL = "SELECT * FROM events WHERE seq > ? AND seq <= ?"
_OF_CHANNEL = "SELECT * FROM events WHERE channel = ? AND seq > ? AND seq <= ?"


def checksum(entry: Entry) -> int:
    """Distinguishes a damaged or misplaced row from a sound one: SQLite's pages carry none."""
    head = f"{entry.seq} {entry.timestamp} {entry.channel} {entry.op} {entry.pinned:d} {entry.key}"
    return crc32(entry.data, crc32(head.encode()))


def key_checksum(key: str, digest: str, *receipt: int) -> int:
    """The same for an idempotency key, its digest in hex, and the numbers of its receipt."""
    return crc32(" ".join((key, digest, *map(str, receipt))).encode())


def note_checksum(note: Note) -> int:
    """The same for a note."""
    return crc32(note.value or b"", crc32(f"{note.book} {note.key}".encode()))


class Readers:
    """Read-only connections, each used by one thread at a time and kept for the next."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: deque[sqlite3.Connection] = deque()

    def history(self, after: int, upto: int, limit: int) -> tuple[tuple[Entry, ...], int]:
        """Entries of all channels in (after, upto], and the seq up to which that is all."""
        entries, _ = self._page(_ALL, (after, upto), limit)
        return entries, entries[-1].seq if len(entries) == limit else upto

    def page(self, channels: Collection[str], after: int, upto: int, limit: int) -> Page:
        """As Journal.read says, as if `upto` were the head. `channels` are not repeated."""
        entries: tuple[Entry, ...] = ()
        floors: dict[str, Floor] = {}
        if channels:
            sql = " UNION ALL ".join([_OF_CHANNEL] * len(channels))
            bounds = [value for channel in channels for value in (channel, after, upto)]
            entries, floors = self._page(sql, bounds, limit)
        more = len(entries) == limit
        return Page(
            entries,
            entries[-1].seq if more else max(after, upto),
            more,
            {channel: floors.get(channel, Floor()) for channel in channels},
        )

    def notes(self, book: str, after: str, limit: int) -> tuple[Note, ...]:
        """As Journal.notes says."""
        described, payload = self._row(_NOTES, (book, after, limit))
        notes = []
        start = 0
        for key, crc, size in orjson.loads(described):
            note = Note(book, key, (payload or b"")[start : start + size])
            start += size
            if note_checksum(note) != crc:
                raise self._rotten(f"the note {key!r} of {book!r}")
            notes.append(note)
        return tuple(notes)

    def _page(
        self, sql: str, bounds: Collection[int | str], limit: int
    ) -> tuple[tuple[Entry, ...], dict[str, Floor]]:
        found = self._row(_PAGE.format(entries=sql), (*bounds, limit))
        return self._entries(found[0], found[1] or b""), _floors(found[2])

    def _row(self, sql: str, parameters: tuple[int | str, ...]) -> tuple[Any, ...]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            found: tuple[Any, ...] = connection.execute(sql, parameters).fetchone()
        except sqlite3.Error as error:
            connection.close()
            raise self._fault(error) from error
        self._idle.append(connection)
        return found

    def _connect(self) -> sqlite3.Connection:
        try:
            return connect(self._path, "ro")
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def _fault(self, error: sqlite3.Error) -> TelecastError:
        if is_damage(error):
            return JournalCorrupt(f"The journal is damaged: {error}. Restore it from a backup.")
        return JournalUnavailable(f"The journal can't be read just now: {error}.")

    def _rotten(self, what: str) -> JournalCorrupt:
        return JournalCorrupt(
            f"The journal is damaged: {what} is not what was written. Restore it from a backup."
        )

    def _entries(self, described: str, payload: bytes) -> tuple[Entry, ...]:
        entries = []
        start = 0
        for seq, timestamp, channel, key, op, pinned, crc, size in orjson.loads(described):
            data = payload[start : start + size]
            start += size
            entry = Entry(seq, timestamp, channel, key, op, bool(pinned), data)
            if checksum(entry) != crc:
                raise self._rotten(f"entry {seq}")
            entries.append(entry)
        return tuple(entries)

    def close(self) -> None:
        """Close the idle connections: all of them, once no read is under way."""
        while self._idle:
            self._idle.pop().close()


def _floors(described: str) -> dict[str, Floor]:
    return {channel: Floor(*floor) for channel, floor in orjson.loads(described).items()}
