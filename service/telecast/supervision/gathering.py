"""What all workers have counted: the parent asks them, and adds it up.

What holds: one question is under way at a time, and who asks meanwhile gets its answer; a worker is
asked again only once it has answered. So however often somebody scrapes, nothing piles up before a
worker that hangs. It counts with what it said last, and is named as missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from telecast.supervision.line import Line
from telecast.supervision.sums import Family, Join, Sums

log = logging.getLogger(__name__)

GATHER_SECONDS = 4.0
"""How long a worker may take to say what it has counted; after that its last report counts."""
PARENT = 0
"""The parent's number among the workers."""


class Gathering:
    """Owns what the workers have reported."""

    def __init__(
        self, lines: Callable[[], Mapping[int, Line]], own: Callable[[], Mapping[str, float]]
    ) -> None:
        """`lines` gives those of the workers that serve, `own` the counters of the parent."""
        self._lines = lines
        self._own = own
        self._sums = Sums()
        self._owed: dict[int, asyncio.Future[None]] = {}
        """What a worker was asked and has not answered yet."""
        self._sending: set[asyncio.Task[None]] = set()
        self._round: asyncio.Task[set[int]] | None = None
        self._missing: set[int] = set()
        """Workers that did not answer in time, and have not answered since."""

    async def joined(self) -> list[Family]:
        """All that was counted, the newest that there is."""
        answered = await self.gather()
        counters = [_family("counter", name, count) for name, count in self._own().items()]
        missing = _family("gauge", "telecast_workers_unanswered", len(self._missing))
        self._sums.take(PARENT, [*counters, missing])
        return self._sums.joined({PARENT, *answered})

    async def gather(self) -> set[int]:
        """The numbers of those that answered in time."""
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._ask())
        return await asyncio.shield(self._round)

    def take(self, number: int, families: Iterable[Any]) -> None:
        """A worker says what it has counted, because it was asked or because it ends."""
        self._sums.take(number, map(Family.from_json, families))
        self._missing.discard(number)
        owed = self._owed.pop(number, None)
        if owed is not None and not owed.done():
            owed.set_result(None)

    def ended(self, number: int) -> None:
        self._sums.ended(number)
        self._missing.discard(number)
        owed = self._owed.pop(number, None)
        if owed is not None:
            owed.cancel()

    def end(self) -> None:
        for task in (*self._sending, *((self._round,) if self._round else ())):
            task.cancel()

    async def _ask(self) -> set[int]:
        lines = self._lines()
        for number, line in lines.items():
            if number not in self._owed:
                self._owed[number] = asyncio.get_running_loop().create_future()
                task = asyncio.create_task(line.send({"give": True}))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
        waited = {number: self._owed[number] for number in lines}
        # One that was waited for in vain before holds up no scrape again.
        if fresh := [answer for number, answer in waited.items() if number not in self._missing]:
            await asyncio.wait(fresh, timeout=GATHER_SECONDS)
        missing = {number for number, answer in waited.items() if not answer.done()}
        for number in missing - self._missing:
            log.warning("a worker did not say what it has counted", extra={"worker": number})
        self._missing = missing
        return {n for n, answer in waited.items() if answer.done() and not answer.cancelled()}


def _family(kind: str, name: str, value: float) -> Family:
    """Its help text is that of the workers, who have a row of the same name with 0."""
    return Family(kind, name, "", Join.SUM, (((), value),))
