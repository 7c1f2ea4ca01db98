"""The default journal: one SQLite file, one writer thread, group commit."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any

from telecast.errors import JournalCorrupt, JournalUnavailable
from telecast.journal.ageing import monotonic
from telecast.journal.answers import answer
from telecast.journal.base import Batch, KeyLimits, Receipt
from telecast.journal.group import check
from telecast.journal.sqlite.reading import StoredJournal
from telecast.journal.sqlite.writer import (
    Append,
    Committed,
    Gone,
    Looked,
    Opened,
    Report,
    Trim,
    Trimmed,
    Writer,
)
from telecast.model import Retention


class _State(Enum):
    NEW = auto()
    OPEN = auto()
    FULL = auto()
    FAILED = auto()
    CLOSING = auto()
    CLOSED = auto()


_MOVES = {
    _State.NEW: {_State.OPEN, _State.CLOSED},
    _State.OPEN: {_State.OPEN, _State.FULL, _State.FAILED, _State.CLOSING, _State.CLOSED},
    _State.FULL: {_State.OPEN, _State.FULL, _State.FAILED, _State.CLOSING, _State.CLOSED},
    _State.FAILED: {_State.CLOSING, _State.CLOSED},
    _State.CLOSING: {_State.CLOSED},
    _State.CLOSED: set[_State](),
}


class SqliteJournal(StoredJournal):
    """Keeps the whole contract: a receipt is given after fsync.

    The loop never touches the disk: a writer thread owns the file and commits all that waits as
    one group; reads run on a few threads, each with a connection. `head` and `floors()`
    change on the loop only. An instance is opened once; after a failed sync, or once it turns out
    that the file is damaged (`failure` says so), it takes nothing more: make a new one, which
    recovers from the disk what is there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        retention: Mapping[str, Retention],
        *,
        now: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = monotonic,
        limits: KeyLimits | None = None,
    ) -> None:
        """`now` (seconds since 1970) and `elapsed` (of monotonic time) are asked in a thread."""
        # A lock, a log and a mark beside a link would not be those of the file.
        super().__init__(os.path.realpath(path))
        self._name = os.path.abspath(path)
        self._retention = dict(retention)
        self._now = now
        self._elapsed = elapsed
        self._limits = limits or KeyLimits()
        self._state = _State.NEW
        self._why = "The journal is not open."
        self._writer: Writer | None = None
        self._opened: asyncio.Future[None]
        self._gone: asyncio.Future[None]

    async def open(self) -> None:
        if self._writer is not None:
            raise RuntimeError("a journal is opened once")
        loop = asyncio.get_running_loop()
        self._opened, self._gone = loop.create_future(), loop.create_future()
        self._writer = Writer(
            self._path,
            self._retention,
            name=self._name,
            now=self._now,
            elapsed=self._elapsed,
            limits=self._limits,
            loop=loop,
            report=self._on_report,
            release=self._reading.release,
        )
        self._writer.start()
        try:
            with self._courtesy.shown():
                await self._opened
        except asyncio.CancelledError:
            self._writer.stop()
            raise

    async def append(self, batch: Batch) -> Receipt:
        check(batch)
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._writing().put(Append(batch, receipt))
        with self._courtesy.shown():
            return await receipt

    async def trim(self, retention: Mapping[str, Retention] | None = None) -> int:
        removed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._writing().put(Trim(removed, retention))
        with self._courtesy.shown():
            return await removed

    def _writing(self) -> Writer:
        if self._writer is None or self._state not in (_State.OPEN, _State.FULL):
            raise JournalUnavailable(self._why)
        return self._writer

    def _unreadable(self) -> str | None:
        shut = self._state in (_State.NEW, _State.CLOSING, _State.CLOSED)
        return self._why if shut else None

    def _on_damage(self, damage: JournalCorrupt) -> None:
        self._settle(None, damage.message)

    def now(self) -> float:
        return self._now()

    def failure(self) -> str | None:
        return None if self._state is _State.OPEN else f"{self._name}: {self._why}"

    async def close(self) -> None:
        if self._writer is None:
            return
        if self._state not in (_State.NEW, _State.CLOSING, _State.CLOSED):
            self._move(_State.CLOSING, "The journal is closed.")
            self._writer.stop()
        await asyncio.shield(self._gone)

    def _move(self, state: _State, why: str = "") -> None:
        if state not in _MOVES[self._state]:
            raise AssertionError(f"{self._state} -> {state}")
        self._state, self._why = state, why

    def _on_report(self, report: Report) -> None:
        match report:
            case Opened():
                self._on_opened(report)
            case Committed():
                self._on_committed(report)
            case Trimmed():
                self._floors = report.floors
                self._settle(report.full, report.failed)
                answer(report.answer, report.outcome)
            case Looked():
                self._figures = report.figures
                self._settle(report.full, report.failed)
            case Gone():
                self._on_gone(report)

    def _on_opened(self, report: Opened) -> None:
        self.epoch, self.head, self._floors = report.epoch, report.head, report.floors
        if self._opened.done():  # the caller was cancelled, and the writer asked to stop
            return
        self._move(_State.OPEN)
        self._opened.set_result(None)

    def _on_committed(self, report: Committed) -> None:
        self.head = report.head
        self._tail.add(report.entries)
        self._settle(report.full, report.failed)
        self.books.committed(report.notes)
        for future, outcome in report.answers:
            answer(future, outcome)

    def _settle(self, full: str | None, failed: str | None) -> None:
        if failed is not None:
            self._tail.end(JournalUnavailable(failed))
        if self._state not in (_State.OPEN, _State.FULL):
            return  # what failed stays so, whatever else it had under way
        if failed is not None:
            self._move(_State.FAILED, failed)
        elif full is not None:
            self._move(_State.FULL, full)
        else:
            self._move(_State.OPEN)

    def _on_gone(self, report: Gone) -> None:
        if self._state in (_State.NEW, _State.CLOSING):
            self._move(_State.CLOSED, "The journal is closed.")
            self._tail.end()
        else:  # its thread has died
            self._move(_State.CLOSED, "The journal's writer has ended: restart the service.")
            self._tail.end(JournalUnavailable(self._why))
            assert self._writer is not None
            for job in self._writer.left():
                waiting: asyncio.Future[Any] = job.answer
                answer(waiting, JournalUnavailable(self._why))
        if not self._opened.done() and report.fault is not None:
            self._opened.set_exception(report.fault)
        self._gone.set_result(None)
