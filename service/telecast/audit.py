"""Who did what: the last actions of operators, kept in the journal so that they outlive a restart.

An entry is a note of the journal (book `audit`). One that belongs to a change of a row commits in
the same transaction as that change: neither is ever there without the other.

Their number is bounded. What has to go is the oldest entry of the key that has the most, so that
nobody, and no flood of alerts that escalate, can push out what another did. An entry that is
committed takes some of those that went before it out of the journal; several may be under way at
once, so each takes others, and more than one, or the journal would keep what none of them took.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from telecast.journal.base import Batch, Journal, Note
from telecast.journal.books import follow_book
from telecast.model import Principal, rfc3339

BOOK = "audit"
MOST = 10_000
"""Entries that are kept. One takes some 400 bytes in memory and in the journal."""
NODES = 1000
"""An id's last three digits are a number that each node draws at its start, so that two nodes that
act in the same microsecond give two ids."""
MOST_TARGET = 512
"""Characters of a target that are kept: it may quote what a request said."""
ERASED = 8
"""Notes of older entries that a new one takes out of the journal at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """`id` rises with every entry. `fields` are the filter fields of the row, if it was one."""

    id: str
    at: str
    principal: str
    key_id: str
    action: str
    target: str
    fields: Mapping[str, str | None] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    erases: tuple[str, ...] = ()
    """Older entries whose notes go with this one's commit."""

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "at": self.at,
            "principal": self.principal,
            "keyId": self.key_id,
            "action": self.action,
            "target": self.target,
            "fields": dict(self.fields),
            "details": dict(self.details),
        }


class Audit:
    """The entries, oldest first. `now` gives seconds since 1970."""

    def __init__(self, journal: Journal, *, now: Callable[[], float]) -> None:
        self._journal = journal
        self._now = now
        self._entries: dict[str, AuditEntry] = {}
        self._by_key: dict[str, dict[str, None]] = {}
        """Key id to its entries, oldest first."""
        self._gone: dict[str, None] = {}
        """Entries that are kept no more, and may still be in the journal."""
        self._last = 0
        self._node = secrets.randbelow(NODES)

    async def open(self) -> None:
        """Read what was kept. Raises JournalUnavailable and JournalCorrupt."""
        await follow_book(self._journal, BOOK, self._take)

    def _take(self, note: Note) -> None:
        """A note has committed, here or at another node."""
        if note.value is None:
            self._gone.pop(note.key, None)
            return
        said = orjson.loads(note.value)
        self._keep(
            AuditEntry(
                id=note.key,
                at=said["at"],
                principal=said["principal"],
                key_id=said["keyId"],
                action=said["action"],
                target=said["target"],
                fields=said["fields"],
                details=said["details"],
            )
        )
        self._last = max(self._last, int(note.key))

    def __len__(self) -> int:
        return len(self._entries)

    def entry(
        self,
        principal: Principal,
        action: str,
        target: str,
        *,
        fields: Mapping[str, str | None] | None = None,
        **details: Any,
    ) -> AuditEntry:
        """An entry of this moment, that is not kept yet. `details` are JSON-ready."""
        seconds = self._now()
        # A clock that was set back must not put an entry among older ones.
        now = max(self._last // NODES + 1, int(seconds * 1_000_000))
        self._last = now * NODES + self._node
        erases = tuple(islice(self._gone, ERASED))
        for each in erases:  # the next entry takes others first
            del self._gone[each]
            self._gone[each] = None
        return AuditEntry(
            id=f"{self._last:020d}",
            at=rfc3339(seconds),
            principal=principal.name,
            key_id=principal.key_id,
            action=action,
            target=target[:MOST_TARGET],
            fields=fields or {},
            details=details,
            erases=erases,
        )

    def notes(self, entry: AuditEntry) -> tuple[Note, ...]:
        """What the journal is to write for it: the entry, and the end of older ones."""
        return (
            Note(BOOK, entry.id, orjson.dumps(entry.as_json())),
            *(Note(BOOK, key, None) for key in entry.erases),
        )

    def _keep(self, entry: AuditEntry) -> None:
        late = bool(self._entries) and entry.id < next(reversed(self._entries))
        self._entries[entry.id] = entry
        if late:  # of a node whose clock is behind: they stand in the order of their ids
            self._entries = dict(sorted(self._entries.items()))
        self._by_key.setdefault(entry.key_id, {})[entry.id] = None
        while len(self._entries) > MOST:
            self._drop_one()

    def _drop_one(self) -> None:
        key_id, its = max(self._by_key.items(), key=lambda pair: len(pair[1]))
        oldest = next(iter(its))
        del its[oldest], self._entries[oldest]
        if not its:
            del self._by_key[key_id]
        self._gone[oldest] = None

    async def record(
        self, principal: Principal, action: str, target: str, **details: Any
    ) -> AuditEntry:
        """Keep an entry by itself; it is durable once this returns. Raises JournalUnavailable."""
        entry = self.entry(principal, action, target, **details)
        await self._journal.append(Batch(notes=self.notes(entry)))
        return entry

    def before(self, key: str | None) -> Iterator[AuditEntry]:
        """Entries from the newest on, or from the one before `key`."""
        for entry in reversed(list(self._entries.values())):
            if key is None or entry.id < key:
                yield entry
