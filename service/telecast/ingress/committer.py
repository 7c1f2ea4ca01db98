"""One committer a node: it derives what waits from the rows there are, and commits it in groups.

While a group is under way, what publishers send waits, bounded, and goes with the next one. So what
a batch was derived from can't change under it on this node, and the journal's `expect` guards it
against other nodes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from telecast.errors import Code, Conflict, JournalUnavailable, OwnFault, TelecastError
from telecast.ingress.backlog import Backlog, Published, Waiting
from telecast.ingress.budget import RowBudget
from telecast.ingress.derivation import Asked, Derivation
from telecast.ingress.tally import IngressTally
from telecast.journal.base import Batch, Journal, Receipt
from telecast.model import Event
from telecast.tape.tape import Tape
from telecast.turns import Turn

log = logging.getLogger(__name__)

GROUP = 512
"""Publishes derived and appended together at the most."""
BEHIND = "The journal did not take what was sent before this; nor was this taken."
DIED = "The service broke off; repeat it under its Idempotency-Key."
TRIES = 5
"""Derivations of one publish when other nodes keep changing its rows."""

_Group = list[tuple[Waiting, Batch, list[Event]]]
"""Publishes that are appended together, each with whom it is sent to."""


class Committer:
    """The only writer of the journal on this node. What waits for it is in its backlog."""

    def __init__(
        self,
        journal: Journal,
        tape: Tape,
        backlog: Backlog,
        tally: IngressTally,
        *,
        reached: Callable[[int], Any],
        audience: Callable[[Iterable[Event]], Awaitable[int]],
        max_rows: int,
        now: Callable[[], float],
    ) -> None:
        """`reached(seq)` returns an awaitable that ends once the tape holds that seq. `max_rows`
        is of a channel. `now` gives seconds since 1970."""
        self._journal = journal
        self._tape = tape
        self._backlog = backlog
        self._tally = tally
        self._reached = reached
        self._audience = audience
        self._max_rows = max_rows
        self._now = now
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def submit(self, asked: Asked) -> asyncio.Future[Published]:
        """Queue it, before this returns. Raises OwnFault SHUTTING_DOWN and OVERLOADED."""
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

    async def drain(self) -> None:
        """Take no more; return once everything taken is answered."""
        self._closed = True
        await self._idle.wait()

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
        budget = RowBudget(self._tape, self._max_rows)
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
        all_taken = not self._refuse_untaken(group, results)
        again: list[Waiting] = []
        for (waiting, _, events), result in zip(group, results, strict=True):
            if isinstance(result, Receipt):
                await self._answer(waiting, result, events)
            elif isinstance(result, Conflict) and waiting.fault is not None:
                self._refuse(waiting, waiting.fault)
            elif isinstance(result, Conflict) and all_taken and waiting.tries < TRIES:
                waiting.tries += 1
                again.append(waiting)
            elif isinstance(result, JournalUnavailable):
                pass  # refused above
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

    def _refuse_untaken(self, group: _Group, results: Sequence[Receipt | BaseException]) -> bool:
        """Whether a publish was not taken, or nobody knows: what its publisher sent behind it must
        not be taken before it is sent again, nor be tried again. All are refused in one step,
        before anybody is answered who has to be waited for: their publishers would send more
        meanwhile."""
        untaken = [
            (waiting, fault)
            for (waiting, _, _), fault in zip(group, results, strict=True)
            if isinstance(fault, JournalUnavailable)
        ]
        if not untaken:
            return False
        for waiting, fault in untaken:
            self._refuse(waiting, fault)
        while self._backlog:
            fault = JournalUnavailable(BEHIND)
            self._refuse(self._backlog.take(), fault)
        return True

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
            self._tally.duplicates += 1
        else:
            self._tally.published[waiting.asked.channel] += receipt.count
            self._tally.published_by(waiting.asked.principal.key_id, self._now())
            self._tally.commit.observe(time.monotonic() - waiting.since)
        if not waiting.future.done():
            audience = 0 if receipt.duplicate else await self._audience(events)
        if not waiting.future.done():
            waiting.future.set_result(Published(receipt, len(waiting.asked.checked.rows), audience))

    def _refuse(self, waiting: Waiting, fault: TelecastError) -> None:
        self._counted(fault)
        if not waiting.future.done():
            waiting.future.set_exception(fault)

    def _counted(self, fault: TelecastError) -> TelecastError:
        self._tally.refused[fault.code] = self._tally.refused.get(fault.code, 0) + 1
        return fault


def _question(asked: Asked) -> Batch:
    """Appends nothing: it gets the receipt of its idempotency key, or Conflict without one."""
    nowhere = {(asked.channel, ""): -1}
    return Batch(records=(), expect=nowhere, idempotency=asked.idempotency)
