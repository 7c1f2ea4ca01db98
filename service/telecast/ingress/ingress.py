"""What publishers and operators ask for: checked here, then handed to the committer."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from telecast.channels.catalogue import Catalogue
from telecast.errors import Code, PeerFault
from telecast.ingress.backlog import Backlog, Published
from telecast.ingress.checking import Checked, Checker, Scope, check_scope, writable
from telecast.ingress.committer import Committer
from telecast.ingress.derivation import Asked, Change, Withdrawal
from telecast.ingress.tally import IngressTally
from telecast.journal.base import Idempotency, Journal
from telecast.model import Event, Principal
from telecast.tape.tape import Tape
from telecast.turns import Turns, in_turns


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressLimits:
    max_events: int = 4_096
    max_event_bytes: int = 32_768
    backlog_events: int = 20_000
    backlog_bytes: int = 64 * 2**20
    max_rows_per_channel: int = 200_000


class Ingress:
    """The way into the journal, for all on this node."""

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
        self.tally = IngressTally(published=dict.fromkeys(catalogue, 0))
        self._shared = journal.shared
        self._catalogue = catalogue
        self._limits = limits
        self._turns = turns or Turns()
        self._backlog = Backlog(limits.backlog_events, limits.backlog_bytes)
        self._committer = Committer(
            journal,
            tape,
            self._backlog,
            self.tally,
            reached=reached,
            audience=audience,
            max_rows=limits.max_rows_per_channel,
            now=now,
        )

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
        return await self._committer.submit(
            _asked(checker.result(), principal, idempotency_key, replace)
        )

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
        return self._committer.submit(dataclasses.replace(asked, first=first and self._shared))

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
        return await self._committer.submit(
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
        return self._committer.submit(
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

    # --- what waits, and its committer

    @property
    def backlog(self) -> tuple[int, int]:
        """(events, bytes) that wait to be committed."""
        return self._backlog.events, self._backlog.bytes

    async def run(self) -> None:
        """Commit what waits until cancelled."""
        await self._committer.run()

    async def drain(self) -> None:
        """Take no more; return once everything taken is answered."""
        await self._committer.drain()


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
