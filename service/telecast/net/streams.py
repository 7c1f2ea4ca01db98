"""The connections of the streams, from their first byte until they are closed."""

from __future__ import annotations

import asyncio

from telecast.net.admission import Admission
from telecast.net.wire import Wire

CLOSE_SECONDS = 5.0
"""How long streams that are ending may take for it when the service goes down."""


class StreamWires:
    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._wires: set[Wire] = set()
        self._all_gone: asyncio.Event | None = None

    def __len__(self) -> int:
        """Connections that are not closed yet, also of streams that have ended."""
        return len(self._wires)

    def add(self, wire: Wire, protocol: object) -> None:
        """`protocol` is what had the connection before."""
        self._admission.pass_on(protocol, wire)
        wire.on_gone = self._gone
        self._wires.add(wire)

    def _gone(self, wire: Wire) -> None:
        self._wires.discard(wire)
        self._admission.leave(wire)
        if self._all_gone is not None and not self._wires:
            self._all_gone.set()

    async def close(self) -> None:
        """Wait for the streams that are ending, then drop the rest."""
        self._all_gone = asyncio.Event()
        if self._wires:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._all_gone.wait()
            except TimeoutError:
                for wire in tuple(self._wires):
                    wire.abort()
                await self._all_gone.wait()
        await asyncio.sleep(0)  # what ends them is called soon
