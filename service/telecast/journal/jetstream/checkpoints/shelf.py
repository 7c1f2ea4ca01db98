"""Where checkpoints are kept. On NATS an object store; in tests a simulated one stands in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A whole database. `life` and `epoch` are those of its log, `sequence` is the last message
    that it holds, `head` its last entry, `format` that of the database, `crc` of all its bytes."""

    name: str
    life: str
    epoch: str
    sequence: int
    head: int
    format: int
    size: int
    crc: int


class Shelf(ABC):
    """Whole files by name, for all nodes of one log. One event loop owns an instance.

    All raise JournalUnavailable while it can't be reached.
    """

    @abstractmethod
    async def found(self) -> list[Checkpoint]:
        """All there are, of any life, the newest (by what they cover) first."""

    @abstractmethod
    async def put(self, checkpoint: Checkpoint, path: str) -> None:
        """Return once the file at `path` is kept whole. What fails is not found later.

        Raises JournalFull."""

    @abstractmethod
    async def get(self, checkpoint: Checkpoint, path: str) -> None:
        """Write it to the file `path`, which is there. Raises JournalCorrupt where some of it is
        missing or is not what was put."""

    @abstractmethod
    async def tidy(self, keep: Collection[str]) -> None:
        """Remove all others, and what was left by those who were cut off while they put one."""
