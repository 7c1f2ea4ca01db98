"""How events come in: checked against the catalogue, derived from the rows there are, committed.

One committer task derives and appends; what publishers send meanwhile waits, bounded, and goes
with the next group. So what a batch was derived from can't change under it on this node, and the
journal's `expect` guards it against other nodes.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from marshmallow import ValidationError

from telecast.channels.catalogue import CHANNELS, Channel, channel_named
from telecast.errors import (
    Conflict,
    JournalUnavailable,
    OwnFault,
    PeerFault,
    TelecastError,
    ValidationFailed,
)
from telecast.fanout.tape import Tape
from telecast.journal.base import MAX_BATCH, Batch, Idempotency, Journal, Receipt
from telecast.model import Event, Principal, Record, Row

SLICE = 0.002
"""Seconds of work on one publish before the loop turns."""
GROUP = 512
"""Publishes derived and appended together at the most."""
DIED = "The service broke off; repeat it under its Idempotency-Key."
TRIES = 5
"""Derivations of one publish when other nodes keep changing its rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressLimits:
    max_events: int = 4_096
    max_event_bytes: int = 32_768
    backlog_events: int = 20_000
    backlog_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Scope:
    """Rows whose `field` has this value: what a replacing publish is the whole of."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Published:
    """A publish that is committed and told. `subscribers` are live ones that it was told to."""

    receipt: Receipt
    accepted: int
    subscribers: int


@dataclass(frozen=True, slots=True)
class Checked:
    """Rows of one publish that fit their channel, each with its JSON."""

    channel: Channel
    rows: tuple[tuple[str, Row, bytes], ...]
    digest: bytes

    @property
    def size(self) -> int:
        return sum(len(data) for _, _, data in self.rows)


@dataclass(slots=True, eq=False)
class _Waiting:
    checked: Checked
    principal: Principal
    idempotency: Idempotency | None
    replace: Scope | None
    withdraw: str | None
    future: asyncio.Future[Published]
    size: int
    tries: int = 0


@dataclass(slots=True)
class IngressTally:
    published: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHANNELS, 0))
    refused: dict[str, int] = field(default_factory=dict)
    """Code to publishes that were refused."""
    duplicates: int = 0


class Ingress:
    """The only writer of the journal on this node."""

    def __init__(
        self,
        journal: Journal,
        tape: Tape,
        *,
        reached: Callable[[int], Any],
        audience: Callable[[Iterable[Event]], int],
        limits: IngressLimits,
    ) -> None:
        """`reached(seq)` returns an awaitable that ends once the tape holds that seq."""
        self.tally = IngressTally()
        self._journal = journal
        self._tape = tape
        self._reached = reached
        self._audience = audience
        self._limits = limits
        self._waiting: deque[_Waiting] = deque()
        self._waiting_events = 0
        self._waiting_bytes = 0
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    # --- what publishers call

    async def publish(
        self,
        principal: Principal,
        channel: str,
        payloads: Sequence[Any],
        *,
        idempotency_key: str | None = None,
        replace: Scope | None = None,
    ) -> Published:
        """Check, commit as one and tell some payloads of a channel.

        Raises PeerFault (UNKNOWN_CHANNEL, FORBIDDEN, ValidationFailed with every bad field,
        LIMIT_EXCEEDED, IDEMPOTENCY_CONFLICT) and OwnFault (OVERLOADED, SHUTTING_DOWN,
        JournalUnavailable): then nothing of it is committed.
        """
        checker = self._checker(principal, channel, payloads, replace)
        until = time.monotonic() + SLICE
        for _ in checker.steps():
            if time.monotonic() >= until:
                await asyncio.sleep(0)
                until = time.monotonic() + SLICE
        return await self._submit(checker.result(), principal, idempotency_key, replace)

    def publish_one(
        self, principal: Principal, channel: str, payload: Any, idempotency_key: str | None
    ) -> asyncio.Future[Published]:
        """The same for one payload, queued before this returns: one caller's order is kept."""
        checker = self._checker(principal, channel, (payload,), None)
        for _ in checker.steps():
            pass
        return self._submit(checker.result(), principal, idempotency_key, None)

    async def withdraw(self, principal: Principal, channel: str, key: str) -> Published:
        """Take a row away: a tombstone with its last state. Raises ROW_NOT_FOUND."""
        entry = self._writable(principal, channel)
        return await self._submit(Checked(entry, (), b""), principal, None, None, withdraw=key)

    def _checker(
        self, principal: Principal, channel: str, payloads: Sequence[Any], replace: Scope | None
    ) -> _Checker:
        entry = self._writable(principal, channel)
        if replace is not None and replace.field not in entry.filters:
            raise PeerFault(
                "UNKNOWN_FILTER",
                f"{channel} has no filter {replace.field[:64]!r} to replace by.",
                {"filters": sorted(entry.filters)},
            )
        if len(payloads) > self._limits.max_events:
            raise PeerFault(
                "LIMIT_EXCEEDED",
                f"{len(payloads)} events are over max_batch_events ({self._limits.max_events}).",
                {"max_batch_events": self._limits.max_events},
            )
        if not payloads and replace is None:
            raise PeerFault("BAD_REQUEST", "There is nothing to publish.")
        return _Checker(entry, principal, payloads, replace, self._limits.max_event_bytes)

    def _writable(self, principal: Principal, channel: str) -> Channel:
        entry = channel_named(channel)
        if not principal.may("publish") or not principal.reaches(channel):
            raise PeerFault("FORBIDDEN", f"This key may not publish to {channel!r}.")
        return entry

    def _submit(
        self,
        checked: Checked,
        principal: Principal,
        idempotency_key: str | None,
        replace: Scope | None,
        *,
        withdraw: str | None = None,
    ) -> asyncio.Future[Published]:
        if self._closed:
            raise self._counted(OwnFault("SHUTTING_DOWN", "The service is going down."))
        count, size = max(1, len(checked.rows)), checked.size
        if self._waiting and (
            self._waiting_events + count > self._limits.backlog_events
            or self._waiting_bytes + size > self._limits.backlog_bytes
        ):
            raise self._counted(
                OwnFault(
                    "OVERLOADED",
                    f"{self._waiting_events} events wait to be committed already.",
                    {"retryAfterSeconds": 1},
                )
            )
        idempotency = None
        if idempotency_key is not None:
            idempotency = Idempotency(f"{principal.key_id}:{idempotency_key}", checked.digest)
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(
            _Waiting(checked, principal, idempotency, replace, withdraw, future, size)
        )
        self._waiting_events += count
        self._waiting_bytes += size
        self._idle.clear()
        self._wanted.set()
        return future

    @property
    def backlog(self) -> tuple[int, int]:
        """(events, bytes) that wait to be committed."""
        return self._waiting_events, self._waiting_bytes

    async def drain(self) -> None:
        """Take no more; return once everything taken is answered."""
        self._closed = True
        await self._idle.wait()

    # --- the committer

    async def run(self) -> None:
        """Commit what waits, group after group, until cancelled. What is left then is refused."""
        try:
            while True:
                await self._wanted.wait()
                group = await self._derive_group()
                try:
                    await self._commit(group)
                finally:
                    # Only when this task dies: whether it was committed can't be told any more.
                    for waiting, _, _ in group:
                        if not waiting.future.done() and waiting not in self._waiting:
                            self._refuse(waiting, JournalUnavailable(DIED, {"unknown": True}))
                if not self._waiting:
                    self._wanted.clear()
                    self._idle.set()
        finally:
            self._closed = True
            while self._waiting:
                self._refuse(self._waiting[0], OwnFault("SHUTTING_DOWN", "Nothing is taken now."))
                self._take()
            self._idle.set()

    async def _derive_group(self) -> list[tuple[_Waiting, Batch, list[Event]]]:
        """Derive from the front what does not depend on what is derived here already."""
        group: list[tuple[_Waiting, Batch, list[Event]]] = []
        touched: set[tuple[str, str]] = set()
        channels: set[str] = set()
        until = time.monotonic() + SLICE
        while self._waiting and len(group) < GROUP:
            waiting = self._waiting[0]
            name = waiting.checked.channel.name
            if waiting.replace is not None and name in channels:
                break
            derivation = _Derivation(self._tape, waiting)
            fault: TelecastError | None = None
            try:
                for _ in derivation.steps():
                    if time.monotonic() >= until:
                        await asyncio.sleep(0)
                        until = time.monotonic() + SLICE
                batch = derivation.batch()
            except TelecastError as refused:
                fault = refused
            if not touched.isdisjoint(derivation.expect):
                # It was derived from rows that this group is about to change: it goes next.
                break
            self._take()
            if fault is not None:
                self._refuse(waiting, fault)
                continue
            touched.update((record.channel, record.key) for record in batch.records)
            channels.add(name)
            if batch.records or batch.idempotency is not None:
                group.append((waiting, batch, derivation.told))
            else:
                self._answer(waiting, Receipt(0, 0, self._tape.head, 0), [])
        return group

    def _take(self) -> None:
        waiting = self._waiting.popleft()
        self._waiting_events -= max(1, len(waiting.checked.rows))
        self._waiting_bytes -= waiting.size

    async def _commit(self, group: list[tuple[_Waiting, Batch, list[Event]]]) -> None:
        if not group:
            return
        results = await asyncio.gather(
            *(self._journal.append(batch) for _, batch, _ in group), return_exceptions=True
        )
        committed = [result.last_seq for result in results if isinstance(result, Receipt)]
        if committed:
            await self._reached(max(committed))
        again: list[_Waiting] = []
        for (waiting, _, told), result in zip(group, results, strict=True):
            if isinstance(result, Receipt):
                self._answer(waiting, result, told)
            elif isinstance(result, Conflict) and waiting.tries < TRIES:
                waiting.tries += 1
                again.append(waiting)
            elif isinstance(result, TelecastError):
                self._refuse(waiting, result)
            else:
                self._refuse(waiting, OwnFault("INTERNAL", "The commit failed."))
                raise result
        for waiting in reversed(again):
            self._waiting.appendleft(waiting)
            self._waiting_events += max(1, len(waiting.checked.rows))
            self._waiting_bytes += waiting.size

    def _answer(self, waiting: _Waiting, receipt: Receipt, told: list[Event]) -> None:
        if receipt.duplicate:
            self.tally.duplicates += 1
        else:
            self.tally.published[waiting.checked.channel.name] += receipt.count
        if not waiting.future.done():
            audience = 0 if receipt.duplicate else self._audience(told)
            waiting.future.set_result(Published(receipt, len(waiting.checked.rows), audience))

    def _refuse(self, waiting: _Waiting, fault: TelecastError) -> None:
        self._counted(fault)
        if not waiting.future.done():
            waiting.future.set_exception(fault)

    def _counted(self, fault: TelecastError) -> TelecastError:
        self.tally.refused[fault.code] = self.tally.refused.get(fault.code, 0) + 1
        return fault


class _Checker:
    """Checks the payloads of one publish, one a step."""

    def __init__(
        self,
        channel: Channel,
        principal: Principal,
        payloads: Sequence[Any],
        replace: Scope | None,
        max_event_bytes: int,
    ) -> None:
        self._channel = channel
        self._principal = principal
        self._payloads = payloads
        self._replace = replace
        self._most = max_event_bytes
        self._rows: list[tuple[str, Row, bytes]] = []
        self._problems: list[dict[str, Any]] = []
        self._hash = hashlib.sha256(
            orjson.dumps([channel.name, replace and [replace.field, replace.value]])
        )

    def steps(self) -> Iterable[None]:
        for item, payload in enumerate(self._payloads):
            self._check(item, payload)
            yield

    def result(self) -> Checked:
        """Raises ValidationFailed, or FORBIDDEN for rows outside of a forced filter."""
        if self._problems:
            raise ValidationFailed(self._problems)
        return Checked(self._channel, tuple(self._rows), self._hash.digest())

    def _check(self, item: int, payload: Any) -> None:
        if isinstance(payload, PeerFault):
            self._problem(item, "", payload.message)
            return
        channel = self._channel
        try:
            row = channel.load(payload)
        except ValidationError as fault:
            for name, message in channel.problems(fault):
                self._problem(item, name, message)
            return
        data = orjson.dumps(row)
        if len(data) > self._most:
            self._problem(item, "", f"{len(data)} bytes are over max_event_bytes ({self._most}).")
            return
        fields = channel.fields_of(row)
        if self._replace is not None and fields[self._replace.field] != self._replace.value:
            scope = f"{self._replace.field}:{self._replace.value}"
            self._problem(item, channel.filters[self._replace.field], f"It is not of {scope}.")
            return
        must_hold(self._principal, channel, fields)
        # Publishers may order fields as they like: the same rows are the same request.
        self._hash.update(data)
        self._rows.append((channel.key(row), row, data))

    def _problem(self, item: int, name: str, message: str) -> None:
        self._problems.append({"item": item, "field": name, "message": message})


def must_hold(principal: Principal, channel: Channel, fields: Mapping[str, str | None]) -> None:
    """Raises FORBIDDEN for a row outside of the principal's forced filter.

    Unlike in a selection null does not pass here: a row for everybody is not for one to write.
    """
    for name, values in principal.forced.items():
        if name in fields and fields[name] not in values:
            raise PeerFault(
                "FORBIDDEN",
                f"This key may only write rows of {name} {', '.join(sorted(values))}.",
            )


class _Derivation:
    """What one publish changes, given the rows there are: deletes, upserts, pins."""

    def __init__(self, tape: Tape, waiting: _Waiting) -> None:
        self.told: list[Event] = []
        """One event without JSON for each distinct set of filter fields: whom it is told to."""
        self.expect: dict[tuple[str, str], int] = {}
        """(channel, key) to the seq of each row that this was derived from."""
        self._tape = tape
        self._waiting = waiting
        self._channel = waiting.checked.channel
        self._records: list[Record] = []
        self._now: dict[str, Row | None] = {}
        self._seen: set[tuple[str | None, ...]] = set()

    def steps(self) -> Iterable[None]:
        for key, row, data in self._waiting.checked.rows:
            self._upsert(key, row, data)
            yield
        if self._waiting.withdraw is not None:
            self._withdraw(self._waiting.withdraw)
        if self._waiting.replace is not None:
            yield from self._replace(self._waiting.replace)

    def batch(self) -> Batch:
        if len(self._records) > MAX_BATCH:
            raise PeerFault(
                "LIMIT_EXCEEDED",
                f"It changes {len(self._records)} rows, more than {MAX_BATCH} at once: split it.",
            )
        return Batch(
            records=tuple(self._records),
            expect=self.expect,
            idempotency=self._waiting.idempotency,
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
        if channel.stateless:
            before = None
        else:
            before = self._before(key)
            if before is not None:
                had = channel.fields_of(before)
                must_hold(self._waiting.principal, channel, had)
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
            raise PeerFault("ROW_NOT_FOUND", f"{self._channel.name} has no row {key[:128]!r}.")
        fields = self._channel.fields_of(before)
        must_hold(self._waiting.principal, self._channel, fields)
        pinned = self._channel.pinned(before, before, "delete")
        self._add(key, "delete", pinned, orjson.dumps(before), fields)
        self._now[key] = None

    def _replace(self, scope: Scope) -> Iterable[None]:
        kept = {key for key, _, _ in self._waiting.checked.rows}
        log = self._tape.logs[self._channel.name]
        going = [
            key
            for key, event in log.rows.items()
            if event.fields[scope.field] == scope.value and key not in kept
        ]
        for key in going:
            self._withdraw(key)
            yield

    def _add(
        self, key: str, op: Any, pinned: bool, data: bytes, fields: Mapping[str, str | None]
    ) -> None:
        self._records.append(Record(self._channel.name, key, op, pinned, data))
        distinct = tuple(fields.values())
        if distinct not in self._seen:
            self._seen.add(distinct)
            self.told.append(Event(0, self._channel.name, key, op, pinned, 0, fields, b""))
