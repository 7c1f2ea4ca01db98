"""What commits together: each batch judged on its own, numbered after the ones before it.

Pure: no clock, no disk. Every journal that numbers its own entries judges by this module, so
that idempotency, `expect` and order can't differ between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from telecast.errors import (
    Conflict,
    IdempotencyConflict,
    IdempotencyExhausted,
    JournalUnavailable,
)
from telecast.journal.base import MAX_BATCH, MAX_NOTE_BYTES, Batch, KeyLimits, Receipt
from telecast.model import MAX_SEQ, Entry

RowKey = tuple[str, str]
"""(channel, key)"""
NoteKey = tuple[str, str]
"""(book, key)"""


@dataclass(frozen=True, slots=True)
class Known:
    """An idempotency key that was used: for what, what came of it, and since when it counts.

    `since` (ms since 1970) is the receipt's time, or a later one where the clock was behind.
    """

    digest: bytes
    receipt: Receipt
    since: int


class Remembered:
    """How many idempotency keys there are, by owner, so that nobody fills the journal with them.

    Its journal owns it: `add` once they are durable, `forget` once they are gone.
    """

    def __init__(self, limits: KeyLimits, by_owner: Mapping[str, int] | None = None) -> None:
        self.limits = limits
        self.by_owner = Counter(by_owner or {})
        self.total = self.by_owner.total()

    def add(self, owners: Mapping[str, int]) -> None:
        self.by_owner.update(owners)
        self.total += sum(owners.values())

    def forget(self, owners: Mapping[str, int]) -> None:
        for owner, count in owners.items():
            self.by_owner[owner] -= count
            if self.by_owner[owner] <= 0:
                del self.by_owner[owner]
            self.total -= count

    def refusal(self, owner: str, beside: Counter[str]) -> IdempotencyExhausted | None:
        """Why one more is not remembered; `beside` are those that wait for the same commit."""
        most, all_ = self.limits.per_owner, self.limits.total
        if self.by_owner[owner] + beside[owner] >= most:
            return IdempotencyExhausted(
                f"{most:,} idempotency keys of this key are remembered already, each for a day."
            )
        if self.total + beside.total() >= all_:
            return IdempotencyExhausted(
                f"{all_:,} idempotency keys are remembered already, each for a day."
            )
        return None


def check(batch: Batch) -> None:
    """Raise ValueError for a batch that no journal can keep: a fault of the calling code.

    Text must be storable as UTF-8 and without NUL, where databases and their tools disagree
    about its end.
    """
    for what, many in (("records", batch.records), ("notes", batch.notes)):
        if len(many) > MAX_BATCH:
            raise ValueError(f"a batch holds at most {MAX_BATCH} {what}, not {len(many)}")
    if not (batch.records or batch.notes) and batch.idempotency is None:
        raise ValueError("a batch without records and notes needs an idempotency key")
    for record in batch.records:
        _check_text(record.channel)
        _check_text(record.key)
    for channel, key in batch.expect:
        _check_text(channel)
        _check_text(key)
    if batch.idempotency is not None:
        _check_text(batch.idempotency.key)
    for note in batch.notes:
        _check_text(note.book)
        _check_text(note.key)
        if not note.key:
            raise ValueError("a note needs a key")
        if note.value is not None and len(note.value) > MAX_NOTE_BYTES:
            raise ValueError(f"a note holds at most {MAX_NOTE_BYTES} bytes, not {len(note.value)}")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ValueError(f"{text[:64]!r} holds a NUL character")
    if not text.isascii():
        text.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError


class Group:
    """Batches that become durable in one act, in the order in which they were added.

    `timestamp` stamps the entries, `since` the idempotency keys, in ms since 1970.
    `rows` and `known` are what is committed: the seq of each live row and the used idempotency
    keys. They need only hold what the batches ask about, and are never changed here: what the
    group changes stands in `entries`, `moved` (0 for a row that was deleted), `keys` and `notes`
    (None for one that was erased).
    """

    __slots__ = (
        "_known",
        "_remembered",
        "_rows",
        "entries",
        "head",
        "keys",
        "moved",
        "notes",
        "owners",
        "since",
        "timestamp",
    )

    def __init__(
        self,
        *,
        head: int,
        timestamp: int,
        since: int | None = None,
        rows: Mapping[RowKey, int],
        known: Mapping[str, Known],
        remembered: Remembered | None = None,
    ) -> None:
        self.head = head
        self.timestamp = timestamp
        self.since = timestamp if since is None else since
        self.entries: list[Entry] = []
        self.moved: dict[RowKey, int] = {}
        self.keys: dict[str, Known] = {}
        self.owners: Counter[str] = Counter()
        """How many of `keys` are whose."""
        self._remembered = remembered
        self.notes: dict[NoteKey, bytes | None] = {}
        self._rows = rows
        self._known = known

    def add(self, batch: Batch) -> Receipt:
        """Take a checked batch in, and say what its receipt is once the group is durable.

        Idempotency first, then `expect`, then the records; earlier batches of the group count
        as committed. Raises IdempotencyConflict, Conflict, IdempotencyExhausted or
        JournalUnavailable; then the group is as it was.
        """
        asked = batch.idempotency
        if asked is not None:
            first = self.keys.get(asked.key) or self._known.get(asked.key)
            if first is not None:
                if first.digest != asked.digest:
                    raise IdempotencyConflict()
                return replace(first.receipt, duplicate=True)
        elsewhere = [row for row, seq in batch.expect.items() if self._seq_of(row) != seq]
        if elsewhere:
            raise Conflict(elsewhere)
        if asked is not None and self._remembered is not None:
            refusal = self._remembered.refusal(asked.owner, self.owners)
            if refusal is not None:
                raise refusal
        count = len(batch.records)
        if self.head + count > MAX_SEQ:
            raise JournalUnavailable("The journal has used up its numbers: start a new one.")
        receipt = Receipt(
            count=count,
            first_seq=self.head + 1 if count else 0,
            last_seq=self.head + count,
            timestamp=self.timestamp,
        )
        self._take(batch)
        if asked is not None:
            self.keys[asked.key] = Known(asked.digest, receipt, self.since)
            self.owners[asked.owner] += 1
        return receipt

    def _seq_of(self, row: RowKey) -> int:
        seq = self.moved.get(row)
        return self._rows.get(row, 0) if seq is None else seq

    def _take(self, batch: Batch) -> None:
        seq, timestamp = self.head, self.timestamp
        keep, moved = self.entries.append, self.moved
        for record in batch.records:
            seq += 1
            channel, key, op = record.channel, record.key, record.op
            keep(Entry(seq, timestamp, channel, key, op, record.pinned, record.data))
            moved[channel, key] = seq if op == "upsert" else 0
        self.head = seq
        for note in batch.notes:
            self.notes[note.book, note.key] = note.value
