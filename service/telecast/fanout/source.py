"""What the fan-out asks of a journal: pages of a past that the tape has lost."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from telecast.model import Page


class JournalReader(Protocol):
    """Reads a page in one short transaction; raises OwnFault."""

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page: ...
