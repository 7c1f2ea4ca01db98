"""The web hook gets an escalation once, also where the journal did not say what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.errors import JournalUnavailable
from telecast.ingress import Alerts
from telecast.journal.base import Batch, Receipt
from telecast.journal.memory import MemoryJournal
from telecast.model import Row
from tests.support.payloads import alert
from tests.support.service.live import Live, principal, served

CRITICAL = alert("a1", severity="CRITICAL")


@pytest.fixture(autouse=True)
def _no_looks_but_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telecast.tasks.ESCALATE_SECONDS", 3_600.0)


class _Unsure(MemoryJournal):
    """While `unsure`, escalations are answered with "unknown": kept, lost, or kept once it is let
    ("late")."""

    def __init__(self, now: list[float]) -> None:
        super().__init__(CHANNELS.retention, now=lambda: now[0])
        self.unsure = ""
        self.late: list[Batch] = []

    async def append(self, batch: Batch) -> Receipt:
        ours = any(b'"escalatedAt":"' in each.data for each in batch.records)
        if not (self.unsure and ours):
            return await super().append(batch)
        if self.unsure == "kept":
            await super().append(batch)
        elif self.unsure == "late":
            self.late.append(batch)
        raise JournalUnavailable("Nobody knows.", outcome_unknown=True)


class Desk:
    def __init__(self, live: Live, journal: _Unsure, clock: list[float]) -> None:
        self.live, self.journal, self.clock = live, journal, clock
        (self.alerts,) = live.parts.alerts
        self.sent: list[tuple[str, Row]] = []
        self.alerts._on_escalated = lambda channel, row: self.sent.append((channel, row))

    async def looks(self, count: int = 1) -> None:
        for _ in range(count):
            self.clock[0] += 1
            await self.alerts.look()
            await self.live.until(lambda: self.live.parts.tape.head >= self.live.parts.journal.head)


@asynccontextmanager
async def waiting() -> AsyncIterator[Desk]:
    """A critical alert is due."""
    clock = [1_800_000_000.0]
    journal = _Unsure(clock)
    time = {"now": lambda: clock[0], "elapsed": lambda: clock[0]}
    async with served(principal(), journal=journal, **time, escalate_after=300.0) as live:
        await live.publish("risk-alerts", CRITICAL)
        desk = Desk(live, journal, clock)
        await desk.looks()
        clock[0] += 300
        yield desk


async def test_one_that_was_kept_all_the_same_is_sent_once_it_is_seen() -> None:
    """Regression: nothing was sent."""
    async with waiting() as desk:
        desk.journal.unsure = "kept"
        await desk.looks()
        assert desk.sent == []
        desk.journal.unsure = ""
        await desk.looks(3)
        ((channel, row),) = desk.sent
        assert (channel, row["id"], row["escalatedAt"] is not None) == ("risk-alerts", "a1", True)
        assert (desk.alerts.escalated, desk.alerts._unsure) == (1, {})


async def test_one_that_was_lost_is_tried_again_and_sent_once() -> None:
    async with waiting() as desk:
        desk.journal.unsure = "lost"
        await desk.looks(2)
        assert desk.sent == []
        desk.journal.unsure = ""
        await desk.looks(3)
        assert (len(desk.sent), desk.alerts.escalated, desk.alerts._unsure) == (1, 1, {})


async def test_one_that_is_kept_late_and_repeated_meanwhile_is_sent_once() -> None:
    async with waiting() as desk:
        desk.journal.unsure = "late"
        await desk.looks(2)
        desk.journal.unsure = ""
        await MemoryJournal.append(desk.journal, desk.journal.late[0])
        await desk.live.publish("risk-alerts", CRITICAL)
        await desk.looks(2)
        assert (len(desk.sent), desk.alerts._unsure) == (1, {})


async def test_what_another_node_escalated_is_sent_by_that_one() -> None:
    async with waiting() as desk:
        desk.journal.unsure = "lost"
        await desk.looks()
        desk.journal.unsure = ""
        desk.clock[0] += 7
        other = Alerts(
            desk.alerts.channel,
            desk.live.parts.tape,
            desk.live.parts.ingress,
            desk.live.parts.audit,
            escalate_after=1.0,
            now=lambda: desk.clock[0],
        )
        await other.look()
        await desk.looks(2)
        assert (other.escalated, desk.sent, desk.alerts._unsure) == (1, [], {})


@pytest.mark.parametrize("end", [{"status": "RESOLVED"}, None])
async def test_one_that_ends_before_it_is_known_leaves_nothing_behind(
    end: dict[str, str] | None,
) -> None:
    async with waiting() as desk:
        desk.journal.unsure = "lost"
        await desk.looks()
        if end is None:
            await desk.live.ask("POST", "/api/v1/risk-alerts/a1/acknowledge")
        else:
            await desk.live.publish("risk-alerts", CRITICAL | end)
        desk.journal.unsure = ""
        await desk.looks(2)
        assert (desk.sent, desk.alerts._unsure) == ([], {})
