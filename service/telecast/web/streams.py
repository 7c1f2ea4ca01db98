"""The open streams: their tasks, and their connections until these are closed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from telecast.web.sockets import Sockets
from telecast.web.wire import Wire

CLOSE_SECONDS = 5.0
"""How long streams that were told to end may take for it when the service goes down."""


class Streams:
    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._wires: set[Wire] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Connections that are not closed yet, also of streams that have ended."""
        return len(self._wires)

    def start(self, protocol: object, wire: Wire, serving: Coroutine[None, None, None]) -> None:
        """Have it served, in the caller's context. `protocol` had the connection before."""
        self._sockets.pass_on(protocol, wire)
        wire.on_gone = self._gone
        self._wires.add(wire)
        task = asyncio.create_task(serving)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _gone(self, wire: Wire) -> None:
        self._wires.discard(wire)
        self._sockets.leave(wire)

    async def close(self) -> None:
        """Wait for those that are told to end, then end the rest, and drop what is not taken."""
        if self._tasks:
            _, staying = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in staying:
                task.cancel()
            if staying:
                await asyncio.wait(staying)
        for wire in tuple(self._wires):
            wire.abort()
