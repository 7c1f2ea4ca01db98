"""The hand-over from history to what commits now, without a gap or a repeat."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from telecast.errors import TelecastError
from telecast.model import Entry

Entries = tuple[Entry, ...]

HISTORY_PAGE = 1024
"""Entries in one read of the history: a few ms, and at most 32 MiB of the largest events."""


class Tail:
    """Hands one follower, on the loop, what was committed.

    Live commits are kept for the follower only once it has read up to the head, and that
    comparison and its registration happen without an `await` between them: so nothing is passed on
    twice, nothing is left out, and a long history is not piled up in memory meanwhile.
    """

    def __init__(self) -> None:
        self._live: deque[Entries] | None = None
        self._followed = False
        self._wake = asyncio.Event()
        self._fault: TelecastError | None = None
        self.ended = False

    def add(self, entries: Entries) -> None:
        """Pass on what was committed. The head must have been raised before."""
        if self._live is not None and entries:
            self._live.append(entries)
            self._wake.set()

    def end(self, fault: TelecastError | None = None) -> None:
        """Let the follower finish what was added; then it ends, or raises `fault`."""
        self.ended = True
        self._fault = self._fault or fault
        self._wake.set()

    async def follow(
        self,
        history: Callable[[int, int], Awaitable[tuple[Entries, int]]],
        head: Callable[[], int],
    ) -> AsyncIterator[Entries]:
        """The history from its beginning, one empty tuple, then what is added.

        `history(after, limit)` returns entries and the seq up to which they are complete.
        """
        if self._followed:
            raise RuntimeError("a journal has one tail")
        self._followed = True
        try:
            after = 0
            while after < head() and not self.ended:
                entries, after = await history(after, HISTORY_PAGE)
                if entries:
                    yield entries
            live = self._live = deque()
            if after >= head():
                yield ()  # the history has ended, also where there was none
            while True:
                while live:
                    yield live.popleft()
                if self.ended:
                    break
                self._wake.clear()
                await self._wake.wait()
            if self._fault is not None:
                raise self._fault
        finally:
            self._followed = False
            self._live = None
