"""A journal that commits when the test lets it, and fails when it says so."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from telecast.channels.catalogue import CHANNELS
from telecast.errors import JournalCorrupt, JournalUnavailable
from telecast.journal.base import Batch, Receipt
from telecast.journal.memory import MemoryJournal


class HeldJournal(MemoryJournal):
    """Commits only while it is let; fails when told to."""

    def __init__(self) -> None:
        super().__init__({name: channel.retention for name, channel in CHANNELS.items()})
        self.let = asyncio.Event()
        self.let.set()
        self.asked = asyncio.Event()
        self.broken: str | None = None
        self.damaged = False

    async def append(self, batch: Batch) -> Receipt:
        if not batch.records and batch.idempotency is None:
            return await super().append(batch)  # notes of the service's own
        self.asked.set()
        await self.let.wait()
        if self.broken is not None:
            raise JournalUnavailable(self.broken)
        return await super().append(batch)

    def failure(self) -> str | None:
        return self.broken or super().failure()

    async def read(self, channels: Collection[str], after: int, limit: int) -> Any:
        if self.damaged:
            raise JournalCorrupt("Entry 3 is not what was written.")
        if self.broken is not None:
            raise JournalUnavailable(self.broken)
        return await super().read(channels, after, limit)
