"""This process as one of several: what it says to its parent, and asks of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from telecast.errors import Code, OwnFault
from telecast.supervision.line import Line
from telecast.supervision.sums import Family

JOIN_SECONDS = 8.0
"""How long the parent may take to gather what all have counted."""


class Worker:
    """`report` gives what this process has counted; it is set before `follow` runs."""

    def __init__(self, line: Line, number: int, beat: float) -> None:
        """`beat` is the seconds between two signs of life."""
        self.number = number
        self.report: Callable[[], Iterable[Family]] = tuple
        self._line = line
        self._beat = beat
        self._asked: asyncio.Future[list[Family]] | None = None
        self._joining: asyncio.Task[list[Family] | None] | None = None

    async def up(self, url: str) -> None:
        await self._line.send({"up": url})

    async def last(self) -> None:
        """Hand over what was counted until the end."""
        await self._line.send({"given": True, "families": self._families()})

    async def joined(self) -> list[Family]:
        """What all workers have counted; who asks meanwhile is answered the same. Raises
        OwnFault."""
        if self._joining is None or self._joining.done():
            self._joining = asyncio.create_task(self._joined())
        found = await asyncio.shield(self._joining)
        if found is None:
            raise OwnFault(
                Code.OVERLOADED, "The other workers did not answer in time.", retry_after=5
            )
        return found

    async def _joined(self) -> list[Family] | None:
        self._asked = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                await self._line.send({"join": True})
                return await self._asked
        except TimeoutError:
            return None

    async def follow(self, leave: Callable[[bool], None]) -> None:
        """Answer the parent. `leave` is called when it says so, with whether the service as a whole
        goes down; and when the parent is gone: a worker does not outlive it."""
        beating = asyncio.create_task(self._beats())
        try:
            async for message in self._line.messages():
                if "give" in message:
                    await self._line.send({"given": True, "families": self._families()})
                elif "joined" in message:
                    self._answer(message["joined"])
                elif "leave" in message:
                    leave(message["notice"])
            leave(False)
        finally:
            beating.cancel()

    def _answer(self, families: list[Any]) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result([Family.from_json(each) for each in families])

    def _families(self) -> list[Any]:
        return [each.as_json() for each in self.report()]

    async def _beats(self) -> None:
        while True:
            await self._line.send({"alive": True})
            await asyncio.sleep(self._beat)
