"""A worker that dies takes readiness with it, and leaves nobody waiting for an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.errors import JournalUnavailable, OwnFault
from telecast.ingress import Ingress, IngressLimits
from telecast.journal.base import Batch, Receipt
from telecast.journal.memory import MemoryJournal
from telecast.model import Event
from telecast.tape.tape import Tape
from tests.support.payloads import position
from tests.support.service.live import PATIENCE, principal, served


class TornTape(Tape):
    """Breaks at one row."""

    def row(self, channel: str, key: str) -> Event | None:
        if key == "torn":
            raise RuntimeError("a fault of ours")
        return super().row(channel, key)


async def test_who_waits_for_the_tape_after_its_feed_has_died_gets_an_error() -> None:
    async with served() as live:
        await live.parts.journal.close()
        await live.until(lambda: live.parts.broken)
        with pytest.raises(JournalUnavailable) as raised:
            async with asyncio.timeout(PATIENCE):
                await live.parts.relay.reached(1)
        assert raised.value.details == {"unknown": True}


async def nobody(events: object) -> int:
    return 0


async def test_a_fault_in_one_derivation_leaves_no_publish_of_its_group_unanswered() -> None:
    async def reached(seq: int) -> None:
        raise AssertionError("nothing is committed")

    journal = MemoryJournal({name: channel.retention for name, channel in CHANNELS.items()})
    ingress = Ingress(
        journal,
        TornTape(CHANNELS),
        CHANNELS,
        reached=reached,
        audience=nobody,
        limits=IngressLimits(),
    )
    waiting: list[asyncio.Future[Any]] = [
        ingress.publish_one(principal(), "positions", position(key), None)
        for key in ("whole", "torn", "later")
    ]
    with pytest.raises(RuntimeError):
        await ingress.run()
    assert all(isinstance(future.exception(), OwnFault) for future in waiting if future.done())
    assert all(future.done() for future in waiting)
    await ingress.drain()
    assert journal.head == 0


class OddJournal(MemoryJournal):
    """Breaks on one row, as no contract allows."""

    async def append(self, batch: Batch) -> Receipt:
        if any(record.key == "odd" for record in batch.records):
            raise ValueError("a fault of ours")
        return await super().append(batch)


async def test_a_fault_of_the_journal_over_one_publish_ends_that_publish_alone() -> None:
    retention = {name: channel.retention for name, channel in CHANNELS.items()}
    async with served(journal=OddJournal(retention)) as live:
        await live.publish("positions", position("before"))
        refused = await live.refused("positions", position("odd"))
        assert (refused["status"], refused["code"]) == (500, "INTERNAL")
        await live.publish("positions", position("after"))
        assert live.parts.broken is None
