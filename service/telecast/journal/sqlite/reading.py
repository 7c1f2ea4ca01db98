"""How a journal reads its database without holding up the loop or the thread that writes it, and
the half of the contract that this keeps for each journal with a database of ours."""

from __future__ import annotations

import asyncio
import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from telecast.errors import JournalCorrupt, JournalUnavailable
from telecast.journal.base import Books, Figures, Journal, Note
from telecast.journal.sqlite.courtesy import Courtesy
from telecast.journal.sqlite.readers import MAX_READERS, Readers
from telecast.journal.tail import Tail
from telecast.model import Entry, Floor, Page

_T = TypeVar("_T")


class Reading:
    """Keeps the reading part of the journal's contract, on a few threads.

    All but `release` is called on the loop.
    """

    def __init__(
        self,
        path: str,
        courtesy: Courtesy,
        *,
        head: Callable[[], int],
        closed: Callable[[], str | None],
        damaged: Callable[[JournalCorrupt], None],
    ) -> None:
        """Nothing is read beyond `head()`: what is committed after it, the tail has not passed on
        yet. `closed()` says why nothing can be read now, None while it can. `damaged` is called
        before a read raises JournalCorrupt.
        """
        self._courtesy = courtesy
        self._head = head
        self._closed = closed
        self._damaged = damaged
        self._readers = Readers(path)
        self._threads = ThreadPoolExecutor(MAX_READERS, thread_name_prefix="journal-read")

    async def history(self, after: int, limit: int) -> tuple[tuple[Entry, ...], int]:
        """Entries of all channels after `after`, and the seq up to which that is all."""
        return await self._in_thread(self._readers.history, after, self._head(), limit)

    async def page(self, channels: Collection[str], after: int, limit: int) -> Page:
        """As Journal.read says."""
        if limit < 1:
            raise ValueError("a page holds at least one entry")
        chosen = dict.fromkeys(channels)
        return await self._in_thread(self._readers.page, chosen, after, self._head(), limit)

    async def notes(self, book: str, after: str, limit: int) -> tuple[Note, ...]:
        """As Journal.notes says."""
        return await self._in_thread(self._readers.notes, book, after, limit)

    async def _in_thread(self, read: Callable[..., _T], *arguments: object) -> _T:
        if (why := self._closed()) is not None:
            raise JournalUnavailable(why)
        loop = asyncio.get_running_loop()
        with self._courtesy.shown():
            try:
                return await loop.run_in_executor(self._threads, read, *arguments)
            except JournalCorrupt as damage:
                self._damaged(damage)
                raise

    def release(self) -> None:
        """Wait for the reads that are under way, then let go of the file. Blocking, in any thread.
        Nothing can be read afterwards."""
        self._threads.shutdown(wait=True)
        self._readers.close()


class StoredJournal(Journal):
    """The half of the contract that reads, for a journal whose entries stand in a database of ours.

    Whoever writes the database sets `epoch`, `head`, `_floors` and `_figures`, and feeds `_tail`
    and `books` with what it has committed; all of that on the loop.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.epoch = ""
        self.head = 0
        self.books = Books()
        self._path = os.fspath(path)
        self._floors: Mapping[str, Floor] = {}
        self._figures = Figures()
        self._tail = Tail()
        self._courtesy = Courtesy()
        self._reading = Reading(
            self._path,
            self._courtesy,
            head=lambda: self.head,
            closed=self._unreadable,
            damaged=self._on_damage,
        )

    @abstractmethod
    def _unreadable(self) -> str | None:
        """Why nothing can be read now, None while it can."""

    @abstractmethod
    def _on_damage(self, damage: JournalCorrupt) -> None:
        """An entry that was read is not what was committed."""

    def tail(self) -> AsyncIterator[tuple[Entry, ...]]:
        return self._tail.follow(self._reading.history, lambda: self.head)

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page:
        return await self._reading.page(channels, after, limit)

    async def notes(self, book: str, after: str = "", limit: int = 1000) -> tuple[Note, ...]:
        return await self._reading.notes(book, after, limit)

    def floors(self) -> Mapping[str, Floor]:
        return self._floors

    def figures(self) -> Figures:
        return self._figures
