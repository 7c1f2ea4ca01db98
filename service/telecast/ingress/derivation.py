"""From what was asked to what is committed: deletes, upserts and pins, given the rows there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import orjson

from telecast.errors import Code, PeerFault
from telecast.ingress.checking import Checked, Fields, Scope, may_see, must_hold
from telecast.journal.base import MAX_BATCH, Batch, Idempotency, Note
from telecast.model import Event, Op, Principal, Record, Row, rfc3339
from telecast.tape.tape import Tape

SCAN = 256
"""Rows looked at in one step for those of a scope: the channel may have 100,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an operator does to the row that there is, such as to acknowledge an alert.

    `apply` gets that row and the server's time, and returns the row that it becomes: the same
    object where nothing changes. `notes` gets both, for what the journal is to keep beside the
    change.
    """

    key: str
    apply: Callable[[Row, str], Row]
    notes: Callable[[Row, Row, str], tuple[Note, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """The end of a row; with `if_seq` only if the row is still the one of that seq."""

    key: str
    if_seq: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One publish: rows to write, and perhaps a scope to replace, a row to withdraw or change."""

    checked: Checked
    principal: Principal
    idempotency: Idempotency | None = None
    replace: Scope | None = None
    withdraw: Withdrawal | None = None
    change: Change | None = None
    first: bool = False
    """The first of a connection: what its key publishes behind it waits until it is committed."""

    @property
    def channel(self) -> str:
        return self.checked.channel.name


class Derivation:
    """What one publish changes, given the rows there are: deletes, upserts, pins."""

    def __init__(self, tape: Tape, asked: Asked, now: float) -> None:
        """`now` is in seconds since 1970."""
        self.audience: list[Event] = []
        """One event without JSON for each distinct set of filter fields: who receives it."""
        self.expect: dict[tuple[str, str], int] = {}
        """(channel, key) to the seq of each row that this was derived from."""
        self._tape = tape
        self._asked = asked
        self._channel = asked.checked.channel
        self.channel = self._channel.name
        self._records: list[Record] = []
        self._seconds = now
        self._now: dict[str, tuple[Row, Fields] | None] = {}
        """The rows as this publish has left them so far."""
        self._notes: tuple[Note, ...] = ()
        self._seen: set[tuple[str | None, ...]] = set()

    def steps(self) -> Iterable[None]:
        for row in self._asked.checked.rows:
            self._upsert(*row)
            yield
        if self._asked.withdraw is not None:
            self._withdraw(self._asked.withdraw.key, self._asked.withdraw.if_seq)
        if self._asked.change is not None:
            self._change(self._asked.change)
        if self._asked.replace is not None:
            yield from self._replace(self._asked.replace)

    @property
    def _time(self) -> str:
        return rfc3339(self._seconds)

    def batch(self) -> Batch:
        if len(self._records) > MAX_BATCH:
            raise PeerFault(
                Code.LIMIT_EXCEEDED,
                f"It changes {len(self._records)} rows, more than {MAX_BATCH} at once: split it.",
            )
        return Batch(
            records=tuple(self._records),
            notes=self._notes,
            expect=self.expect,
            idempotency=self._asked.idempotency,
        )

    @property
    def changed(self) -> int:
        """How many rows it touches."""
        return len(self._now)

    def new_rows(self) -> int:
        """By how many rows the channel grows; those that it ends count against those it makes."""
        grown = 0
        for key, state in self._now.items():
            there = self._tape.row(self._channel.name, key) is not None
            grown += (state is not None) - there
        return max(0, grown)

    def _before(self, key: str) -> tuple[Row, Fields] | None:
        if key in self._now:
            return self._now[key]
        event = self._tape.row(self._channel.name, key)
        self.expect[self._channel.name, key] = 0 if event is None else event.seq
        return None if event is None else (event.row, event.fields)

    def _upsert(self, key: str, row: Row, data: bytes, fields: Fields) -> None:
        channel = self._channel
        if channel.mode == "log":
            self._add(key, "delete", True, data, fields)
            return
        if channel.stateless:
            self._put(key, None, row, data, fields)
            return
        before = self._before(key)
        if before is not None:
            must_hold(self._asked.principal, channel, before[1])
        if channel.follow is not None:
            row = channel.follow(None if before is None else before[0], row, self._time)
            data = orjson.dumps(row)
        self._put(key, before, row, data, fields)

    def _put(
        self, key: str, before: tuple[Row, Fields] | None, row: Row, data: bytes, fields: Fields
    ) -> None:
        if before is not None and before[1] != fields:
            # Else a view that is filtered by the old value would keep a ghost.
            self._add(key, "delete", True, orjson.dumps(before[0]), before[1])
            before = None
        gone = self._channel.gone(row)
        op: Op = "delete" if gone else "upsert"
        pinned = self._channel.pinned(None if before is None else before[0], row, op)
        self._add(key, op, pinned, data, fields)
        self._now[key] = None if gone else (row, fields)

    def _change(self, change: Change) -> None:
        before = self._before(change.key)
        if before is None or not may_see(self._asked.principal, self._channel, before[1]):
            raise PeerFault(
                Code.ROW_NOT_FOUND,
                f"{self._channel.name} has no row {change.key[:128]!r}: it has ended, or it never "
                "was there.",
            )
        must_hold(self._asked.principal, self._channel, before[1])
        row = change.apply(before[0], self._time)
        if row is not before[0]:
            self._put(change.key, before, row, orjson.dumps(row), self._channel.fields_of(row))
            self._notes = change.notes(before[0], row, self._time)

    def _withdraw(self, key: str, if_seq: int | None = None) -> None:
        before = self._before(key)
        # A row that the holder may not read does not exist for it: to say FORBIDDEN would tell it
        # which rows others have.
        if before is None or not may_see(self._asked.principal, self._channel, before[1]):
            raise PeerFault(Code.ROW_NOT_FOUND, f"{self._channel.name} has no row {key[:128]!r}.")
        row, fields = before
        must_hold(self._asked.principal, self._channel, fields)
        seq = self.expect[self._channel.name, key]
        if if_seq is not None and seq != if_seq:
            raise PeerFault(
                Code.ROW_MOVED,
                f"The row {key[:128]!r} has changed: it is at seq {seq}, not {if_seq}.",
                {"seq": seq},
            )
        pinned = self._channel.pinned(row, row, "delete")
        self._add(key, "delete", pinned, orjson.dumps(row), fields)
        self._now[key] = None

    def _replace(self, scope: Scope) -> Iterable[None]:
        kept = {row.key for row in self._asked.checked.rows}
        log, after = self._tape.logs[self._channel.name], 0
        while rows := list(islice(log.upserts(after), SCAN)):
            for event in rows:
                if (
                    event.fields[scope.field] == scope.value
                    and event.key not in kept
                    and may_see(self._asked.principal, self._channel, event.fields)
                ):
                    self._withdraw(event.key)
                    yield
            after = rows[-1].seq
            yield

    def _add(self, key: str, op: Op, pinned: bool, data: bytes, fields: Fields) -> None:
        self._records.append(Record(self._channel.name, key, op, pinned, data))
        distinct = tuple(fields.values())
        if distinct not in self._seen:
            self._seen.add(distinct)
            self.audience.append(Event(0, self._channel.name, key, op, pinned, 0, fields, b""))
