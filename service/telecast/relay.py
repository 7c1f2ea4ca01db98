"""Carries every committed entry from the journal to the broadcaster, once and in order."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

from telecast.errors import JournalUnavailable
from telecast.fanout.broadcaster import Broadcaster
from telecast.journal.base import Journal
from telecast.model import Entry
from telecast.tape.tape import Tape
from telecast.turns import in_turns

log = logging.getLogger(__name__)


class Relay:
    """`run` is the one task that moves the head; others wait for the head to pass a seq."""

    def __init__(self, journal: Journal, tape: Tape, broadcaster: Broadcaster) -> None:
        self._passed_over: Counter[str] = Counter()
        self._journal = journal
        self._tape = tape
        self._broadcaster = broadcaster
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        """A heap: by seq, then in the order in which they came."""
        self._asked = 0
        self._target = journal.head
        self._caught_up = asyncio.Event()
        self._ended: str | None = None

    @property
    def ready(self) -> bool:
        """Whether all that was committed before the start has been taken in."""
        return self._caught_up.is_set() and self._ended is None

    async def caught_up(self) -> None:
        await self._caught_up.wait()

    async def run(self) -> None:
        """Until the journal closes. Raises what the journal's tail raises."""
        try:
            async for entries in self._journal.tail():
                if not entries:
                    self._say_passed_over()
                    # The history has ended. Its last entries may have been trimmed: the head
                    # is where the journal's is all the same, or positions would fall.
                    self._tape.advance(self._target)
                await in_turns(self._take_in(entries))
                self._settle(self._tape.head)
        finally:
            self._ended = "the journal's tail has ended"
            for _, _, future in self._waiting:
                if not future.done():
                    future.set_exception(JournalUnavailable(self._ended, outcome_unknown=True))

    def _say_passed_over(self) -> None:
        for channel, count in self._passed_over.items():
            log.warning(
                "the journal holds events of a channel that there is not: they are passed over, "
                "and stay in the journal",
                extra={"channel": channel, "count": count},
            )

    def _take_in(self, entries: Sequence[Entry]) -> Iterator[None]:
        """An event a step: thousands of cohorts may want each."""
        event_of, take_in, known = self._tape.event, self._broadcaster.take_in, self._tape.logs
        for entry in entries:
            if entry.channel in known:
                take_in((event_of(entry),))
            else:
                # Of a channel that is switched off, no longer in the channels file, or of a
                # newer version that was rolled back.
                self._passed_over[entry.channel] += 1
                self._tape.advance(entry.seq)
            yield

    def _settle(self, head: int) -> None:
        if head >= self._target:
            self._caught_up.set()
        while self._waiting and self._waiting[0][0] <= head:
            _, _, future = heappop(self._waiting)
            if not future.done():
                future.set_result(None)

    async def reached(self, seq: int) -> None:
        """Return once the tape holds everything up to `seq`.

        Raises JournalUnavailable (unknown) where the tape has ended before it.
        """
        if self._tape.head >= seq:
            return
        if self._ended is not None:
            raise JournalUnavailable(self._ended, outcome_unknown=True)
        future = asyncio.get_running_loop().create_future()
        self._asked += 1
        heappush(self._waiting, (seq, self._asked, future))
        await future
