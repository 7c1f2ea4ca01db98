"""Up to where a copy has applied the log, as a note in the copy itself."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

import orjson

from telecast.errors import JournalCorrupt
from telecast.journal.base import Note
from telecast.journal.jetstream.checkpoints.marks import Marks
from telecast.journal.jetstream.nodes import Nodes
from telecast.journal.sqlite.readers import note_checksum

BOOK, PLACE = "log", "place"


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where the log is applied: the sequence and time of that message, and the checksum of
    all judgements until then."""

    applied: int = 0
    timestamp: int = 0
    chain: int = 0


@dataclass(slots=True)
class State:
    """What a copy remembers of the log beside its entries."""

    place: Place = field(default_factory=Place)
    nodes: Nodes = field(default_factory=Nodes)
    marks: Marks = field(default_factory=Marks)

    def as_note(self) -> bytes:
        place, marks = self.place, self.marks
        return orjson.dumps(
            {
                "applied": place.applied,
                "timestamp": place.timestamp,
                "chain": place.chain,
                "nodes": self.nodes.as_json(),
                "marks": [marks.name, marks.sequence, marks.claimed, marks.weight],
            }
        )

    @classmethod
    def from_note(cls, kept: bytes | None) -> State:
        if kept is None:
            return cls()
        found = orjson.loads(kept)
        return cls(
            Place(found["applied"], found["timestamp"], found["chain"]),
            Nodes.from_json(found["nodes"]),
            Marks(*found["marks"]),
        )


def read_place(database: sqlite3.Connection) -> Place:
    """Raises JournalCorrupt where it is not what was written."""
    for crc, value in database.execute(
        "SELECT crc, value FROM notes WHERE book = ? AND key = ?", (BOOK, PLACE)
    ):
        if note_checksum(Note(BOOK, PLACE, value)) != crc:
            raise JournalCorrupt("the note of its place in the log is damaged")
        return State.from_note(value).place
    return Place()
