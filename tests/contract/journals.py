"""The journals that the contract is shown on, and what opens one for the length of a block."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from telecast.journal.base import Journal
from telecast.journal.memory import MemoryJournal
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.model import Retention


class Clock:
    """Seconds since 1970, moved by the test alone."""

    def __init__(self, seconds: float = 1_700_000_000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds

    @property
    def ms(self) -> int:
        return int(self.seconds * 1000)


Make = Callable[[Path, Mapping[str, Retention], Clock], Journal]


class Kind:
    """An implementation under test; `outlives` says that a journal can be opened again."""

    def __init__(self, name: str, make: Make, *, outlives: bool) -> None:
        self.name = name
        self.outlives = outlives
        self._make = make

    @asynccontextmanager
    async def journal(
        self,
        retention: Mapping[str, Retention],
        clock: Clock | None = None,
        directory: str | None = None,
    ) -> AsyncIterator[Journal]:
        with tempfile.TemporaryDirectory() as own:
            journal = self._make(Path(directory or own), retention, clock or Clock())
            await journal.open()
            try:
                yield journal
            finally:
                await journal.close()


KINDS = [
    Kind(
        "memory",
        lambda directory, retention, now: MemoryJournal(retention, now=now, elapsed=now),
        outlives=False,
    ),
    Kind(
        "sqlite",
        lambda directory, retention, now: SqliteJournal(
            directory / "journal.db", retention, now=now, elapsed=now
        ),
        outlives=True,
    ),
]
