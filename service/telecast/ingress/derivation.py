"""From what was asked to what is committed: deletes, upserts and pins, given the rows there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

import orjson

from telecast.errors import Code, PeerFault
from telecast.ingress.checking import Checked, Scope, must_hold
from telecast.journal.base import MAX_BATCH, Batch, Idempotency
from telecast.model import Event, Op, Principal, Record, Row
from telecast.tape.tape import Tape

SCAN = 256
"""Rows looked at in one step for those of a scope: the channel may have 100,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One publish: rows to write, and perhaps a scope to replace, or a row to withdraw."""

    checked: Checked
    principal: Principal
    idempotency: Idempotency | None = None
    replace: Scope | None = None
    withdraw: str | None = None

    @property
    def channel(self) -> str:
        return self.checked.channel.name


class Derivation:
    """What one publish changes, given the rows there are: deletes, upserts, pins."""

    def __init__(self, tape: Tape, asked: Asked) -> None:
        self.told: list[Event] = []
        """One event without JSON for each distinct set of filter fields: whom it is told to."""
        self.expect: dict[tuple[str, str], int] = {}
        """(channel, key) to the seq of each row that this was derived from."""
        self._tape = tape
        self._asked = asked
        self._channel = asked.checked.channel
        self._records: list[Record] = []
        self._now: dict[str, Row | None] = {}
        self._seen: set[tuple[str | None, ...]] = set()

    def steps(self) -> Iterable[None]:
        for key, row, data in self._asked.checked.rows:
            self._upsert(key, row, data)
            yield
        if self._asked.withdraw is not None:
            self._withdraw(self._asked.withdraw)
        if self._asked.replace is not None:
            yield from self._replace(self._asked.replace)

    def batch(self) -> Batch:
        if len(self._records) > MAX_BATCH:
            raise PeerFault(
                Code.LIMIT_EXCEEDED,
                f"It changes {len(self._records)} rows, more than {MAX_BATCH} at once: split it.",
            )
        return Batch(
            records=tuple(self._records),
            expect=self.expect,
            idempotency=self._asked.idempotency,
        )

    def _before(self, key: str) -> Row | None:
        if key in self._now:
            return self._now[key]
        event = self._tape.row(self._channel.name, key)
        self.expect[self._channel.name, key] = 0 if event is None else event.seq
        return None if event is None else event.row

    def _upsert(self, key: str, row: Row, data: bytes) -> None:
        channel = self._channel
        fields = channel.fields_of(row)
        if channel.mode == "log":
            self._add(key, "delete", True, data, fields)
            return
        if channel.stateless:
            before = None
        else:
            before = self._before(key)
            if before is not None:
                had = channel.fields_of(before)
                must_hold(self._asked.principal, channel, had)
                if had != fields:
                    # Else a view that is filtered by the old value would keep a ghost.
                    self._add(key, "delete", True, orjson.dumps(before), had)
                    before = None
        gone = channel.gone(row)
        pinned = channel.pinned(before, row, "delete" if gone else "upsert")
        self._add(key, "delete" if gone else "upsert", pinned, data, fields)
        self._now[key] = None if gone else row

    def _withdraw(self, key: str) -> None:
        before = self._before(key)
        if before is None:
            raise PeerFault(Code.ROW_NOT_FOUND, f"{self._channel.name} has no row {key[:128]!r}.")
        fields = self._channel.fields_of(before)
        must_hold(self._asked.principal, self._channel, fields)
        pinned = self._channel.pinned(before, before, "delete")
        self._add(key, "delete", pinned, orjson.dumps(before), fields)
        self._now[key] = None

    def _replace(self, scope: Scope) -> Iterable[None]:
        kept = {key for key, _, _ in self._asked.checked.rows}
        log, after = self._tape.logs[self._channel.name], 0
        while rows := list(islice(log.upserts(after), SCAN)):
            for event in rows:
                if event.fields[scope.field] == scope.value and event.key not in kept:
                    self._withdraw(event.key)
                    yield
            after = rows[-1].seq
            yield

    def _add(
        self, key: str, op: Op, pinned: bool, data: bytes, fields: Mapping[str, str | None]
    ) -> None:
        self._records.append(Record(self._channel.name, key, op, pinned, data))
        distinct = tuple(fields.values())
        if distinct not in self._seen:
            self._seen.add(distinct)
            self.told.append(Event(0, self._channel.name, key, op, pinned, 0, fields, b""))
