"""What operators do to alerts, and the escalation of those that nobody has acknowledged in time.

Each act is a change of the alert's row and an entry of the audit, in one transaction.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice

import orjson

from telecast.audit import Audit
from telecast.channels import alerts
from telecast.channels.channel import Channel
from telecast.errors import Code, JournalUnavailable, PeerFault, TelecastError
from telecast.ingress.backlog import Published
from telecast.ingress.derivation import Change
from telecast.ingress.ingress import Ingress
from telecast.journal.ageing import Ageing, monotonic
from telecast.journal.base import Idempotency, Note
from telecast.model import Principal, Row
from telecast.tape.tape import Tape
from telecast.turns import in_turns

log = logging.getLogger(__name__)

SCAN = 256
"""Rows that are looked at in one step."""
MAX_NOTE = 1_000
"""Characters of an operator's note."""
SERVER = Principal(key_id="telecast", name="telecast", scopes=frozenset({"operate"}))
"""Who escalates, in the audit."""


def check_note(note: object) -> str | None:
    """An operator's words. Raises PeerFault."""
    if note is None or note == "":
        return None
    if not isinstance(note, str):
        raise PeerFault(Code.BAD_REQUEST, "`note` must be a text.")
    if len(note) > MAX_NOTE:
        raise PeerFault(
            Code.LIMIT_EXCEEDED,
            f"`note` has {len(note)} characters, more than {MAX_NOTE}.",
            {"max_note_characters": MAX_NOTE},
        )
    if not note.isprintable():
        raise PeerFault(Code.BAD_REQUEST, "`note` must not contain control characters.")
    return note


class Alerts:
    """The acts of one channel of alerts."""

    def __init__(
        self,
        channel: Channel,
        tape: Tape,
        ingress: Ingress,
        audit: Audit,
        *,
        escalate_after: float,
        now: Callable[[], float],
        elapsed: Callable[[], float] = monotonic,
        on_escalated: Callable[[str, Row], None] = lambda channel, row: None,
    ) -> None:
        """`escalate_after` is in seconds, 0 for never; `now` gives seconds since 1970, `elapsed`
        seconds of monotonic time. `on_escalated` gets the channel and the alert, once it is
        committed."""
        self.channel = channel
        self.escalated = 0
        self._tape = tape
        self._ingress = ingress
        self._audit = audit
        self._escalate_after = escalate_after
        self._now = now
        self._elapsed = elapsed
        self._ageing = Ageing(aloud=False)
        """A clock that jumps makes no alert look as if it had waited. At a start the clock is
        believed: a false escalation shows, and one that comes too late does not."""
        self._on_escalated = on_escalated
        self._upto = 0
        """The newest row that was looked at."""
        self._unsure: dict[str, set[str]] = {}
        """Id of each alert that this node may have escalated, the journal did not say, and the
        `escalatedAt` that it would then have. The event itself says so, once it is there."""
        self._waiting: dict[str, float] = {}
        """Id of each critical alert that nobody has acknowledged, and since when it waits, in
        monotonic time."""

    def escalate_after(self, seconds: float) -> None:
        """Let another patience hold from the next look on, 0 for endless."""
        self._escalate_after = seconds

    def row(self, alert_id: str) -> Row | None:
        """The alert as it is now; None once it is resolved."""
        event = self._tape.row(self.channel.name, alert_id)
        return None if event is None else event.row

    def acknowledge(
        self, principal: Principal, alert_id: str, note: str | None, key: str | None = None
    ) -> asyncio.Future[Published]:
        """Raises, also by the future, PeerFault: FORBIDDEN, ROW_NOT_FOUND, ALERT_ACKNOWLEDGED.

        `key` is the caller's idempotency key.
        """
        return self._submit(
            principal,
            "acknowledge-alert",
            alert_id,
            lambda row, now: alerts.acknowledge(row, principal.name, note, now),
            note=note,
            key=key,
        )

    def unacknowledge(
        self, principal: Principal, alert_id: str, note: str | None, key: str | None = None
    ) -> asyncio.Future[Published]:
        """The same for the way back. The note is for the audit alone."""
        return self._submit(
            principal,
            "unacknowledge-alert",
            alert_id,
            alerts.unacknowledge,
            note=note,
            key=key,
        )

    @property
    def unacknowledged(self) -> int:
        """Critical alerts that nobody has acknowledged or escalated, as of the last look."""
        return len(self._waiting)

    async def look(self) -> None:
        """Escalate what is due. Called every second or so; it reads what is new since the last."""
        await in_turns(self._scan())
        due: list[str] = []
        await in_turns(self._sort(due))
        for alert_id in due:
            await self._escalate(alert_id)

    def _scan(self) -> Iterator[None]:
        elapsed = self._elapsed()
        believed = self._ageing.at(self._now(), elapsed).before
        rows = self._tape.logs[self.channel.name]
        while events := list(islice(rows.upserts(self._upto), SCAN)):
            for event in events:
                self._waiting.pop(event.key, None)
                if event.key in self._unsure:
                    self._resolve(event.key, event.row, event.seq)
                if event.fields.get("severity") == alerts.SEVERITIES[-1]:
                    row = event.row
                    if alerts.waits(row):
                        since = row.get("activeSince")
                        moment = event.timestamp / 1000 if since is None else _seconds(since)
                        self._waiting[event.key] = elapsed - max(0.0, believed - moment)
            self._upto = events[-1].seq
            yield

    def _sort(self, due: list[str]) -> Iterator[None]:
        """Let go of those that have ended, and find those that are due."""
        for alert_id in [each for each in self._unsure if self.row(each) is None]:
            del self._unsure[alert_id]
        latest = self._elapsed() - self._escalate_after
        waiting = tuple(self._waiting)
        for first in range(0, len(waiting), SCAN):
            for alert_id in waiting[first : first + SCAN]:
                if self._tape.row(self.channel.name, alert_id) is None:
                    del self._waiting[alert_id]
                elif self._escalate_after and self._waiting[alert_id] <= latest:
                    due.append(alert_id)
            yield

    async def _escalate(self, alert_id: str) -> None:
        tried: set[str] = set()

        def escalate(row: Row, now: str) -> Row:
            tried.add(now)
            return alerts.escalate(row, now)

        try:
            done = await self._submit(SERVER, "escalate-alert", alert_id, escalate)
        except TelecastError as fault:
            if isinstance(fault, JournalUnavailable) and fault.outcome_unknown:
                self._unsure.setdefault(alert_id, set()).update(tried)
            if fault.code != Code.ROW_NOT_FOUND:
                log.warning("alert not escalated", extra={"alert_id": alert_id, "code": fault.code})
            return
        self._waiting.pop(alert_id, None)
        row = self.row(alert_id)
        if done.receipt.count and row is not None:
            self._unsure.pop(alert_id, None)
            self._report(alert_id, row, done.receipt.last_seq)

    def _resolve(self, alert_id: str, row: Row, seq: int) -> None:
        """The alert has moved on after an escalation of which nobody knew what became of it."""
        if row.get("escalatedAt") is not None:
            if row["escalatedAt"] in self._unsure.pop(alert_id):
                self._report(alert_id, row, seq)
        elif not alerts.waits(row):
            del self._unsure[alert_id]

    def _report(self, alert_id: str, row: Row, seq: int) -> None:
        self.escalated += 1
        self._on_escalated(self.channel.name, row)
        log.warning(
            "alert escalated",
            extra={
                "alert_id": alert_id,
                "trader_id": row["traderId"],
                "active_since": row["activeSince"],
                "count": row["count"],
                "seq": seq,
            },
        )

    def _submit(
        self,
        principal: Principal,
        action: str,
        alert_id: str,
        apply: Callable[[Row, str], Row],
        *,
        note: str | None = None,
        key: str | None = None,
    ) -> asyncio.Future[Published]:
        def notes(before: Row, after: Row, now: str) -> tuple[Note, ...]:
            entry = self._audit.entry(
                principal,
                action,
                alert_id,
                fields=self.channel.fields_of(after),
                note=note,
                before=before["status"],
                after=after["status"],
            )
            return self._audit.notes(entry)

        change = Change(key=alert_id, apply=apply, notes=notes)
        idempotency = None
        if key is not None:
            asked = orjson.dumps([self.channel.name, action, alert_id, note])
            idempotency = Idempotency(f"{principal.key_id}:{key}", hashlib.sha256(asked).digest())
        return self._ingress.change(principal, self.channel.name, change, idempotency=idempotency)


def _seconds(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()
