"""Pages of the journal for subscribers that want all of a past which the tape has lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Protocol

from telecast.errors import Code, OwnFault
from telecast.fanout.catchup import CatchUp
from telecast.fanout.subscriber import State, Subscriber
from telecast.model import Page

log = logging.getLogger(__name__)

ENTRIES = 256
READERS = 4
"""Journal readers at a time: history must not crowd out commits."""


class JournalReader(Protocol):
    """Reads a page in one short transaction; raises OwnFault."""

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page: ...


class Fetcher:
    """Owns the reads that are under way; `len` is how many."""

    def __init__(
        self,
        journal: JournalReader | None,
        *,
        on_page: Callable[[Subscriber, CatchUp, Page], None],
        on_fault: Callable[[Subscriber, OwnFault], None],
    ) -> None:
        """`on_page` gets the catch-up that asked: it may have been replaced meanwhile."""
        self._journal = journal
        self._on_page = on_page
        self._on_fault = on_fault
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._readers = asyncio.Semaphore(READERS)

    def __len__(self) -> int:
        return len(self._tasks)

    def fetch(self, subscriber: Subscriber) -> None:
        """Read one page after the cursor of a subscriber that is BEHIND."""
        assert subscriber.catchup is not None, "it is BEHIND"
        task = asyncio.ensure_future(self._fetch(subscriber, subscriber.catchup))
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _fetch(self, subscriber: Subscriber, catchup: CatchUp) -> None:
        after = catchup.cursor
        assert self._journal is not None
        try:
            async with self._readers:
                if subscriber.state is not State.FETCHING:
                    return  # it has gone meanwhile: who stays must not wait for its page
                page = await self._journal.read(subscriber.selection.channels, after, ENTRIES)
        except OwnFault as fault:
            # What it says is for those who run the service: it names their files.
            log.warning("history can't be read", extra={"reason": str(fault)})
            self._on_fault(subscriber, OwnFault(Code.OVERLOADED, "History can't be read just now."))
        except Exception:
            log.exception("history can't be read")
            self._on_fault(subscriber, OwnFault(Code.INTERNAL, "This stream can't go on."))
        else:
            self._on_page(subscriber, catchup, page)

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
