"""A checkpoint as a file: made from a live copy, and checked. Blocking.

It is made by one statement in one read transaction (VACUUM INTO), so it is the copy at one
message's end. Which one stands in it: the place in the log is committed together with what a
message changed. To take the sequence from anywhere else would be wrong by what was applied
meanwhile, and whoever went on from there would skip messages or apply them twice.
"""

from __future__ import annotations

import os
import secrets
from contextlib import closing, suppress
from zlib import crc32

import orjson

from telecast.errors import JournalCorrupt
from telecast.journal.base import Note
from telecast.journal.jetstream.checkpoints.shelf import Checkpoint
from telecast.journal.jetstream.place import BOOK, PLACE, Place, State, read_place
from telecast.journal.sqlite.faults import explained
from telecast.journal.sqlite.readers import note_checksum
from telecast.journal.sqlite.schema import FORMAT, CopyOf, connect, inspect_format, upgrade

PIECE = 2**20


def make(path: str, draft: str) -> Checkpoint:
    """Write a checkpoint of the copy at `path`, which a node may have open, to the file `draft`.

    Raises JournalUnavailable, JournalFull, JournalCorrupt.
    """
    new_file(draft)
    with explained(path), closing(connect(path, "ro")) as database:
        database.execute("VACUUM INTO ?", (draft,))
    return describe(draft)


def new_file(path: str) -> None:
    """An empty file for this user alone; one that was left there goes."""
    remove(path)
    with explained(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def remove(path: str) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.remove(f"{path}{suffix}")


def describe(path: str) -> Checkpoint:
    """Of a file that nobody has open. Raises JournalCorrupt where it is not sound."""
    with explained(path):
        version = inspect_format(path)
        with closing(connect(path, "ro")) as database:
            ((found,),) = database.execute("PRAGMA quick_check(1)")
            if found != "ok":
                raise JournalCorrupt(f"it is damaged: {found}")
            meta = dict(database.execute("SELECT name, value FROM meta"))
            ((head,),) = database.execute(
                "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'"
            )
            place = read_place(database)
        size, crc = _weighed(path)
    if "copy" not in meta:
        raise JournalCorrupt("it is no copy of a log")
    return Checkpoint(
        name=f"{place.applied:016}-{secrets.token_hex(4)}",
        life=meta["copy"],
        epoch=meta["epoch"],
        sequence=place.applied,
        head=head,
        format=version,
        size=size,
        crc=crc,
    )


def adopt(path: str, log: CopyOf, sequence: int | None = None) -> Checkpoint:
    """Make the file, which nobody has open, a checkpoint of a log. Its rows, its history and its
    numbers stay; its place in the log too, unless it begins another one behind `sequence`."""
    with explained(path), closing(connect(path, "rw")) as database:
        upgrade(database, path)
        database.execute("BEGIN")
        if sequence is not None:
            ((newest,),) = database.execute("SELECT ifnull(max(timestamp), 0) FROM events")
            note = State(Place(sequence, newest)).as_note()
            database.execute("DELETE FROM notes WHERE book = ?", (BOOK,))
            database.execute(
                "INSERT INTO notes (book, key, crc, value) VALUES (?, ?, ?, ?)",
                (BOOK, PLACE, note_checksum(Note(BOOK, PLACE, note)), note),
            )
        database.execute("DELETE FROM meta WHERE name = 'moved'")
        database.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)", [("copy", log.life), ("epoch", log.epoch)]
        )
        database.execute("COMMIT")
    return describe(path)


def verify(path: str, checkpoint: Checkpoint) -> None:
    """Raise JournalCorrupt where the file is not that checkpoint, whole."""
    if checkpoint.format > FORMAT:
        raise JournalCorrupt(
            f"its format is {checkpoint.format} and this version of Telecast reads up to {FORMAT}:"
            " upgrade Telecast"
        )
    size, crc = _weighed(path)
    if (size, crc) != (checkpoint.size, checkpoint.crc):
        raise JournalCorrupt("it is not what was put there")
    found = describe(path)
    wanted = (checkpoint.life, checkpoint.epoch, checkpoint.sequence, checkpoint.head)
    if (found.life, found.epoch, found.sequence, found.head) != wanted:
        raise JournalCorrupt("it holds something else than it says")


def _weighed(path: str) -> tuple[int, int]:
    """The file's size and the CRC of all its bytes."""
    size = crc = 0
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            size, crc = size + len(piece), crc32(piece, crc)
    return size, crc


def as_metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """As it is kept beside the file: names and texts."""
    return {
        "telecast.life": checkpoint.life,
        "telecast.epoch": checkpoint.epoch,
        "telecast.numbers": orjson.dumps(
            [
                checkpoint.sequence,
                checkpoint.head,
                checkpoint.format,
                checkpoint.size,
                checkpoint.crc,
            ]
        ).decode(),
    }


def from_metadata(name: str, kept: dict[str, str]) -> Checkpoint:
    """Raises KeyError, TypeError or ValueError for what is none of ours."""
    sequence, head, version, size, crc = map(int, orjson.loads(kept["telecast.numbers"]))
    return Checkpoint(
        name=name,
        life=kept["telecast.life"],
        epoch=kept["telecast.epoch"],
        sequence=sequence,
        head=head,
        format=version,
        size=size,
        crc=crc,
    )
