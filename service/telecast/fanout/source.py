"""What the fan-out asks of a journal: its floors, and pages of a past that the tape has lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from telecast.model import Entry


class Floor(Protocol):
    """What trimming left of a channel in the journal."""

    @property
    def whole_from(self) -> int: ...

    @property
    def compact_from(self) -> int: ...


class JournalPage(Protocol):
    """`floors` were true after the entries were read."""

    @property
    def entries(self) -> tuple[Entry, ...]: ...

    @property
    def upto(self) -> int: ...

    @property
    def floors(self) -> Mapping[str, Floor]: ...


class JournalReader(Protocol):
    """Reads a page in one short transaction; raises OwnFault."""

    async def read(self, channels: Collection[str], after: int, limit: int) -> JournalPage: ...
