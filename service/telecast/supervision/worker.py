"""This process as one of several: what it says to its parent, and asks of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from telecast.errors import Code, OwnFault
from telecast.supervision.line import Line
from telecast.supervision.sums import Family

JOIN_SECONDS = 8.0
"""How long the parent may take to gather what all have counted."""


class Worker:
    """`report` gives what this process has counted; it is set before `follow` runs."""

    def __init__(self, line: Line, number: int, beat: float | None) -> None:
        """`beat` is the seconds between two signs of life, None where nobody wants any."""
        self.number = number
        self.report: Callable[[], Iterable[Family]] = tuple
        self._line = line
        self._beat = beat
        self._ids = itertools.count(1)
        self._asked: dict[int, asyncio.Future[list[Family]]] = {}

    async def up(self, url: str) -> None:
        await self._line.send({"up": url})

    async def last(self) -> None:
        """Hand over what was counted until the end."""
        await self._line.send({"given": 0, "families": self._families()})

    async def joined(self) -> list[Family]:
        """What all workers have counted. Raises OwnFault."""
        number = next(self._ids)
        self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                await self._line.send({"join": number})
                return await self._asked[number]
        except TimeoutError as error:
            raise OwnFault(
                Code.OVERLOADED, "The other workers did not answer in time.", retry_after=5
            ) from error
        finally:
            del self._asked[number]

    async def follow(self, leave: Callable[[bool], None]) -> None:
        """Answer the parent. `leave` is called when it says so, with whether the service as a whole
        goes down; and when the parent is gone: a worker does not outlive it."""
        beating = asyncio.create_task(self._beats())
        try:
            async for message in self._line.messages():
                if "give" in message:
                    await self._line.send({"given": message["give"], "families": self._families()})
                elif "joined" in message:
                    self._answer(message)
                elif "leave" in message:
                    leave(message["notice"])
            leave(False)
        finally:
            beating.cancel()

    def _answer(self, message: dict[str, Any]) -> None:
        waiting = self._asked.get(message["joined"])
        if waiting is not None and not waiting.done():
            waiting.set_result([Family.from_json(each) for each in message["families"]])

    def _families(self) -> list[Any]:
        return [each.as_json() for each in self.report()]

    async def _beats(self) -> None:
        while self._beat is not None:
            await self._line.send({"alive": True})
            await asyncio.sleep(self._beat)
