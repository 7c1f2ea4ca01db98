"""Who did what: the last actions of operators, kept in the journal so that they outlive a restart.

An entry is a note of the journal (book `audit`). One that belongs to a change of a row commits in
the same transaction as that change: neither is ever there without the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from telecast.journal.base import Batch, Journal, Note, read_book
from telecast.model import Principal, rfc3339

BOOK = "audit"
MOST = 10_000
"""Entries that are kept: the newest. One takes some 400 bytes in memory and in the journal."""


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
        self._last = 0

    async def open(self) -> None:
        """Read what was kept. Raises JournalUnavailable and JournalCorrupt."""
        for key, value in (await read_book(self._journal, BOOK)).items():
            said = orjson.loads(value)
            self._entries[key] = AuditEntry(
                id=key,
                at=said["at"],
                principal=said["principal"],
                key_id=said["keyId"],
                action=said["action"],
                target=said["target"],
                fields=said["fields"],
                details=said["details"],
            )
            self._last = max(self._last, int(key))

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
        self._last = max(self._last + 1, int(seconds * 1_000_000))
        return AuditEntry(
            id=f"{self._last:020d}",
            at=rfc3339(seconds),
            principal=principal.name,
            key_id=principal.key_id,
            action=action,
            target=target,
            fields=fields or {},
            details=details,
        )

    def notes(self, entry: AuditEntry) -> tuple[Note, ...]:
        """What the journal is to write for it: the entry, and the end of the oldest ones."""
        beyond = max(0, len(self._entries) + 1 - MOST)
        oldest = [key for key, _ in zip(self._entries, range(beyond), strict=False)]
        return (
            Note(BOOK, entry.id, orjson.dumps(entry.as_json())),
            *(Note(BOOK, key, None) for key in oldest),
        )

    def committed(self, entry: AuditEntry) -> None:
        """Its notes are in the journal."""
        self._entries[entry.id] = entry
        while len(self._entries) > MOST:
            del self._entries[next(iter(self._entries))]

    async def record(
        self, principal: Principal, action: str, target: str, **details: Any
    ) -> AuditEntry:
        """Keep an entry by itself; it is durable once this returns. Raises JournalUnavailable."""
        entry = self.entry(principal, action, target, **details)
        await self._journal.append(Batch(notes=self.notes(entry)))
        self.committed(entry)
        return entry

    def before(self, key: str | None) -> Iterator[AuditEntry]:
        """Entries from the newest on, or from the one before `key`."""
        for entry in reversed(list(self._entries.values())):
            if key is None or entry.id < key:
                yield entry
