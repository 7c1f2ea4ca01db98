"""What any journal does, in as few lines as say it: the oracle of the contract suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from telecast.errors import Conflict, IdempotencyConflict
from telecast.journal.base import Batch, Receipt
from telecast.model import Entry, Floor, Retention

Outcome = Receipt | type[Exception]


class Model:
    def __init__(self, retention: Mapping[str, Retention]) -> None:
        self.retention = retention
        self.head = 0
        self.committed: list[Entry] = []
        self.kept: list[Entry] = []
        self.live: dict[tuple[str, str], int] = {}
        self.keys: dict[str, tuple[bytes, Receipt]] = {}
        self.through = dict.fromkeys(retention, 0)
        self.floors = dict.fromkeys(retention, Floor())

    def append(self, batch: Batch, now_ms: int) -> Outcome:
        if batch.idempotency and batch.idempotency.key in self.keys:
            digest, receipt = self.keys[batch.idempotency.key]
            same = digest == batch.idempotency.digest
            return replace(receipt, duplicate=True) if same else IdempotencyConflict
        if any(self.live.get(row, 0) != seq for row, seq in batch.expect.items()):
            return Conflict
        first = self.head + 1 if batch.records else 0
        for r in batch.records:
            self.head += 1
            entry = Entry(self.head, now_ms, r.channel, r.key, r.op, r.pinned, r.data)
            self.committed.append(entry)
            self.kept.append(entry)
            self.live[r.channel, r.key] = self.head if r.op == "upsert" else 0
        receipt = Receipt(len(batch.records), first, self.head, now_ms)
        if batch.idempotency:
            self.keys[batch.idempotency.key] = (batch.idempotency.digest, receipt)
        return receipt

    def trim(self, now: float) -> int:
        before = len(self.kept)
        for channel, retention in self.retention.items():
            fresh = [e for e in self.of(channel) if e.seq > self.through[channel]]
            while fresh and (
                len(fresh) > retention.events
                or fresh[0].timestamp < (now - retention.seconds) * 1000
                or sum(len(e.data) for e in fresh) > (retention.bytes or 10**9)
            ):
                self.through[channel] = fresh.pop(0).seq
            gone = [e for e in self.of(channel) if e.seq <= self.through[channel]]
            gone = [e for e in gone if self.live[e.channel, e.key] != e.seq]
            self.kept = [e for e in self.kept if e not in gone]
            lasting = [e.seq for e in gone if e.pinned or e.op == "delete"]
            floor = self.floors[channel]
            self.floors[channel] = Floor(
                max([floor.whole_from, *(e.seq for e in gone)]),
                max([floor.compact_from, *lasting]),
            )
        return before - len(self.kept)

    def of(self, *channels: str) -> list[Entry]:
        return [entry for entry in self.kept if entry.channel in channels]
