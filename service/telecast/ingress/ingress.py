"""How events come in: checked against the catalogue, derived from the rows there are, committed.

One committer task derives and appends; what publishers send meanwhile waits, bounded, and goes
with the next group. So what a batch was derived from can't change under it on this node, and the
journal's `expect` guards it against other nodes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from telecast.channels.catalogue import Catalogue
from telecast.errors import (
    Code,
    Conflict,
    JournalUnavailable,
    OwnFault,
    PeerFault,
    TelecastError,
)
from telecast.ingress.backlog import Backlog, Published, Waiting
from telecast.ingress.budget import RowBudget
from telecast.ingress.checking import Checked, Checker, Scope, check_scope, writable
from telecast.ingress.derivation import Asked, Change, Derivation, Withdrawal
from telecast.ingress.tally import IngressTally
from telecast.journal.base import Batch, Idempotency, Journal, Receipt
from telecast.model import Event, Principal
from telecast.tape.tape import Tape
from telecast.turns import Turn, Turns, in_turns

log = logging.getLogger(__name__)

GROUP = 512
"""Publishes derived and appended together at the most."""
BEHIND = "The journal did not answer for what was sent before this; this was not taken."
DIED = "The service broke off; repeat it under its Idempotency-Key."
TRIES = 5
"""Derivations of one publish when other nodes keep changing its rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressLimits:
    max_events: int = 4_096
    max_event_bytes: int = 32_768
    backlog_events: int = 20_000
    backlog_bytes: int = 64 * 2**20
    max_rows_per_channel: int = 200_000


_Group = list[tuple[Waiting, Batch, list[Event]]]
"""Publishes that are appended together, each with whom it is sent to."""


class Ingress:
    """The only writer of the journal on this node."""

    def __init__(
        self,
        journal: Journal,
        tape: Tape,
        catalogue: Catalogue,
        *,
        reached: Callable[[int], Any],
        audience: Callable[[Iterable[Event]], Awaitable[int]],
        limits: IngressLimits,
        now: Callable[[], float] = time.time,
        turns: Turns | None = None,
    ) -> None:
        """`reached(seq)` returns an awaitable that ends once the tape holds that seq. `now` gives
        seconds since 1970."""
        self._now = now
        self.tally = IngressTally(published=dict.fromkeys(catalogue, 0))
        self._journal = journal
        self._tape = tape
        self._catalogue = catalogue
        self._reached = reached
        self._audience = audience
        self._limits = limits
        self._turns = turns or Turns()
        self._backlog = Backlog(limits.backlog_events, limits.backlog_bytes)
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    # --- what publishers call

    async def publish(
        self,
        principal: Principal,
        channel: str,
        payloads: Iterable[Any],
        *,
        idempotency_key: str | None = None,
        replace: Scope | None = None,
    ) -> Published:
        """Check some payloads of a channel, commit them as one and send them.

        A payload that is a PeerFault could not be read: it is a problem in its place. What making
        the next one raises is the publish's own end.
        Raises PeerFault (UNKNOWN_CHANNEL, FORBIDDEN, ValidationFailed with every bad field,
        LIMIT_EXCEEDED, ROWS_EXHAUSTED, IDEMPOTENCY_CONFLICT, IDEMPOTENCY_EXHAUSTED) and OwnFault
        (OVERLOADED, SHUTTING_DOWN, JournalUnavailable): then nothing of it is committed.
        """
        checker = self._checker(principal, channel, payloads, replace, idempotency_key)
        await in_turns(checker.steps(), self._turns.of(principal.key_id))
        return await self._submit(_asked(checker.result(), principal, idempotency_key, replace))

    def publish_one(
        self,
        principal: Principal,
        channel: str,
        payload: Any,
        idempotency_key: str | None,
        *,
        first: bool = False,
    ) -> asyncio.Future[Published]:
        """The same for one payload, queued before this returns: one caller's order is kept.

        `first`: it is the first of a connection, whose earlier ones may have come to another node.
        This one may not know yet what became of those; once the first is committed it does.
        """
        checker = self._checker(principal, channel, (payload,), None, idempotency_key)
        for _ in checker.steps():
            pass
        asked = _asked(checker.result(), principal, idempotency_key, None)
        return self._submit(dataclasses.replace(asked, first=first and self._journal.shared))

    async def withdraw(
        self,
        principal: Principal,
        channel: str,
        key: str,
        *,
        if_seq: int | None = None,
        idempotency_key: str | None = None,
    ) -> Published:
        """Take a row away: a tombstone with its last state.

        Raises ROW_NOT_FOUND, and ROW_MOVED where it is no longer the row of `if_seq`. Under an
        idempotency key a repeat withdraws nothing that was published since.
        """
        entry = writable(self._catalogue, principal, channel)
        nothing = Checked(entry, (), b"")
        idempotency = None
        if idempotency_key is not None:
            asked = orjson.dumps([channel, "withdraw", key, if_seq])
            idempotency = _idempotency(principal, idempotency_key, hashlib.sha256(asked).digest())
        withdrawal = Withdrawal(key=key, if_seq=if_seq)
        return await self._submit(
            Asked(
                checked=nothing, principal=principal, idempotency=idempotency, withdraw=withdrawal
            )
        )

    def change(
        self,
        principal: Principal,
        channel: str,
        change: Change,
        *,
        idempotency: Idempotency | None = None,
    ) -> asyncio.Future[Published]:
        """Change a row that is there, as an operator does. Raises PeerFault FORBIDDEN.

        The future raises ROW_NOT_FOUND, FORBIDDEN for a row outside of a forced filter, and what
        the change itself raises.
        """
        entry = self._catalogue.named(channel)
        if not principal.may("operate") or not entry.reached_by(principal):
            raise PeerFault(Code.FORBIDDEN, f"This key may not operate on {channel!r}.")
        nothing = Checked(entry, (), b"")
        return self._submit(
            Asked(checked=nothing, principal=principal, idempotency=idempotency, change=change)
        )

    def _checker(
        self,
        principal: Principal,
        channel: str,
        payloads: Iterable[Any],
        replace: Scope | None,
        idempotency_key: str | None,
    ) -> Checker:
        entry, limits = writable(self._catalogue, principal, channel), self._limits
        check_scope(entry, replace)
        keyed = idempotency_key is not None
        return Checker(
            *(entry, principal, payloads, replace),
            *(limits.max_events, limits.max_event_bytes, keyed),
        )

    def _submit(self, asked: Asked) -> asyncio.Future[Published]:
        if self._closed:
            raise self._counted(OwnFault(Code.SHUTTING_DOWN, "The service is going down."))
        events, size = max(1, len(asked.checked.rows)), asked.checked.size
        if not self._backlog.has_room(events, size):
            raise self._counted(
                OwnFault(
                    Code.OVERLOADED,
                    f"{self._backlog.events} events wait to be committed already.",
                    retry_after=1,
                )
            )
        future = asyncio.get_running_loop().create_future()
        self._backlog.put(Waiting(asked, future, events, size))
        self._idle.clear()
        self._wanted.set()
        return future

    @property
    def backlog(self) -> tuple[int, int]:
        """(events, bytes) that wait to be committed."""
        return self._backlog.events, self._backlog.bytes

    async def drain(self) -> None:
        """Take no more; return once everything taken is answered."""
        self._closed = True
        await self._idle.wait()

    # --- the committer

    async def run(self) -> None:
        """Commit what waits, group after group, until cancelled. What is left then is refused."""
        turn = Turn()
        try:
            while True:
                await self._wanted.wait()
                group: _Group = []
                try:
                    await self._derive(group)
                    await self._commit(group)
                finally:
                    # Only when this task dies: whether it was committed can't be known any more.
                    for waiting, _, _ in group:
                        if not waiting.future.done() and waiting not in self._backlog:
                            self._refuse(waiting, JournalUnavailable(DIED, outcome_unknown=True))
                if not self._backlog:
                    self._wanted.clear()
                    self._idle.set()
                elif turn.over():
                    # A journal in memory answers at once what it knows: nothing above had to wait.
                    await turn.next()
        finally:
            self._closed = True
            while self._backlog:
                waiting = self._backlog.take()
                self._refuse(waiting, OwnFault(Code.SHUTTING_DOWN, "It is going down."))
            self._idle.set()

    async def _derive(self, group: _Group) -> None:
        """Move to the group, from the front, what does not depend on what is in it already."""
        touched: set[tuple[str, str]] = set()
        channels: set[str] = set()
        alone: set[str] = set()
        budget = RowBudget(self._tape, self._limits.max_rows_per_channel)
        turn = Turn()
        while self._backlog and len(group) < GROUP:
            waiting = self._backlog.first
            name = waiting.asked.channel
            if waiting.asked.replace is not None and name in channels:
                break
            if waiting.asked.principal.key_id in alone:
                break
            derivation = Derivation(self._tape, waiting.asked, self._now())
            waiting.fault = None
            try:
                for _ in derivation.steps():
                    if turn.over():
                        await turn.next()
                batch = derivation.batch()
            except TelecastError as refused:
                waiting.fault = refused
            if waiting.fault is None:
                if budget.must_wait(derivation):
                    break
                waiting.fault = budget.refusal(derivation)
            if not touched.isdisjoint(derivation.expect):
                # It was derived from rows that this group is about to change: it goes next.
                break
            self._backlog.take()
            if waiting.asked.first:
                alone.add(waiting.asked.principal.key_id)
            if waiting.fault is not None:
                if waiting.asked.idempotency is None:
                    self._refuse(waiting, waiting.fault)
                else:
                    # Its rows may have moved since it was done: the journal knows its key or not.
                    group.append((waiting, _question(waiting.asked), []))
                continue
            budget.take(derivation)
            touched.update((record.channel, record.key) for record in batch.records)
            channels.add(name)
            if batch.records or batch.idempotency is not None:
                group.append((waiting, batch, derivation.audience))
            else:
                await self._answer(waiting, Receipt(0, 0, self._tape.head, 0), [])

    async def _commit(self, group: _Group) -> None:
        if not group:
            return
        results = await self._append([batch for _, batch, _ in group])
        committed = [result.last_seq for result in results if isinstance(result, Receipt)]
        if self._journal.shared:
            # What other nodes have committed before must be on the tape too, before anything is
            # derived from it.
            await self._reached(self._journal.head)
        elif committed:
            await self._reached(max(committed))
        if any(isinstance(each, JournalUnavailable) and each.outcome_unknown for each in results):
            self._refuse_waiting()
        again: list[Waiting] = []
        for (waiting, _, events), result in zip(group, results, strict=True):
            if isinstance(result, Receipt):
                await self._answer(waiting, result, events)
            elif isinstance(result, Conflict) and waiting.fault is not None:
                self._refuse(waiting, waiting.fault)
            elif isinstance(result, Conflict) and waiting.tries < TRIES:
                waiting.tries += 1
                again.append(waiting)
            elif isinstance(result, TelecastError):
                self._refuse(waiting, result)
            elif isinstance(result, Exception):
                # A fault of ours over one publish must not end the service of all others.
                log.error("a publish could not be committed", exc_info=result)
                self._refuse(waiting, OwnFault(Code.INTERNAL, "Something broke; the log has it."))
            else:
                raise result
        for waiting in reversed(again):
            self._backlog.put_back(waiting)

    def _refuse_waiting(self) -> None:
        """Nobody knows what became of a publish: what its publisher sent behind it must not be
        taken before it is sent again."""
        while self._backlog:
            fault = JournalUnavailable(BEHIND)
            self._refuse(self._backlog.take(), fault)

    async def _append(self, batches: Sequence[Batch]) -> Sequence[Receipt | BaseException]:
        """What became of each."""
        if len(batches) > 1:
            appends = map(self._journal.append, batches)
            return await asyncio.gather(*appends, return_exceptions=True)
        # One alone, as when it is quiet, needs no task of its own.
        try:
            return [await self._journal.append(batches[0])]
        except Exception as fault:
            return [fault]

    async def _answer(self, waiting: Waiting, receipt: Receipt, events: list[Event]) -> None:
        if receipt.duplicate:
            self.tally.duplicates += 1
        else:
            self.tally.published[waiting.asked.channel] += receipt.count
            self.tally.published_by(waiting.asked.principal.key_id, self._now())
            self.tally.commit.observe(time.monotonic() - waiting.since)
        if not waiting.future.done():
            audience = 0 if receipt.duplicate else await self._audience(events)
        if not waiting.future.done():
            waiting.future.set_result(Published(receipt, len(waiting.asked.checked.rows), audience))

    def _refuse(self, waiting: Waiting, fault: TelecastError) -> None:
        self._counted(fault)
        if not waiting.future.done():
            waiting.future.set_exception(fault)

    def _counted(self, fault: TelecastError) -> TelecastError:
        self.tally.refused[fault.code] = self.tally.refused.get(fault.code, 0) + 1
        return fault


def _question(asked: Asked) -> Batch:
    """Appends nothing: it gets the receipt of its idempotency key, or Conflict without one."""
    nowhere = {(asked.channel, ""): -1}
    return Batch(records=(), expect=nowhere, idempotency=asked.idempotency)


def _idempotency(principal: Principal, key: str, digest: bytes) -> Idempotency:
    """Each key of the service has its own idempotency keys."""
    return Idempotency(f"{principal.key_id}:{key}", digest)


def _asked(
    checked: Checked, principal: Principal, idempotency_key: str | None, replace: Scope | None
) -> Asked:
    idempotency = None
    if idempotency_key is not None:
        idempotency = _idempotency(principal, idempotency_key, checked.digest)
    return Asked(checked=checked, principal=principal, idempotency=idempotency, replace=replace)
