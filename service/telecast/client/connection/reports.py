"""What becomes of a stream's connections, for whoever runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from telecast.client.connection.lines import Line, Transport


@dataclass(frozen=True, slots=True)
class Dropped:
    """A connection was lost, or not made: the next try follows after `delay` seconds."""

    reason: str
    code: int | None
    delay: float
    position: str | None


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The service answers again; `position` is from where it was asked to resume, if any."""

    transport: Transport
    position: str | None
    tries: int


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing has come for `seconds`, not even the answer to a question: the line may be dead."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Alive:
    """Something came again on a line that was Silent."""


Report = Dropped | Reconnected | Silent | Alive


async def watch(
    line: Line, liveness: float, asks_after: float, report: Callable[[Report], None]
) -> None:
    """Ask a line that was quiet for so many seconds for a sign of life, and report when none
    comes in time. Ends only by being cancelled."""
    clock = asyncio.get_running_loop().time
    asked_at = silent = 0.0
    while True:
        await asyncio.sleep(liveness / 8)
        quiet = clock() - line.heard_at
        if quiet < liveness * 0.75:
            if silent:
                silent = 0.0
                report(Alive())
        elif not silent:
            silent = quiet
            report(Silent(quiet))
        if quiet >= asks_after and clock() - asked_at >= liveness * 0.4:
            asked_at = clock()
            await line.probe(liveness / 4)
