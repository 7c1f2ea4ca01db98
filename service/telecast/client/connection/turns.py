"""Which transport the next connection takes. Pure.

With `auto` a WebSocket is tried first. Where it does not come to its `welcome` (a proxy refuses
the upgrade, drops it, or passes the handshake and nothing else), the event stream is tried at
once, and the one that works is kept. Both tell the same events under the same positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Literal

from telecast.client.connection.lines import Transport
from telecast.client.faults import BadAnswer, Refused

FOREIGN = frozenset({"REFUSED", "REDIRECTED", "UPGRADE_REQUIRED", "BAD_REQUEST"})
"""Codes of a refused handshake that may be a proxy's doing: not our words, or what the service
says when a proxy has taken the upgrade out."""


Transports = Transport | Literal["auto"] | Sequence[Transport] | Callable[[int], Transport]
"""One transport, transports in turn, or a function from the number of the connection (from 0) to
its transport. `auto` is WebSocket, and SSE where a WebSocket does not get through."""


class Stage(Enum):
    """Of `auto`: how far it is with the transport of now."""

    FIRST = "it is tried, and the other one would be tried next without a pause"
    SECOND = "it is tried because the other one has just failed"
    WORKS = "it has come to its welcome"


MOVES: Mapping[Stage, frozenset[Stage]] = {
    Stage.FIRST: frozenset({Stage.SECOND, Stage.WORKS}),
    Stage.SECOND: frozenset({Stage.FIRST, Stage.WORKS}),
    Stage.WORKS: frozenset({Stage.FIRST, Stage.WORKS}),
}


class Turns:
    def __init__(self, choice: Transports) -> None:
        self._auto = choice == "auto"
        self._choose = _chooser(choice)
        self._count = 0
        self._stage = Stage.FIRST
        self.now: Transport = "ws" if self._auto else self._choose(0)

    def move(self, stage: Stage) -> None:
        """The only way the stage changes."""
        if stage not in MOVES[self._stage]:
            raise AssertionError(f"no way from {self._stage.name} to {stage.name}")
        self._stage = stage

    def next(self) -> Transport:
        """The transport of the connection that is made now."""
        if not self._auto:
            self.now = self._choose(self._count)
        self._count += 1
        return self.now

    def worked(self) -> None:
        """The connection has come to its welcome."""
        self.move(Stage.WORKS)

    def failed(self) -> bool:
        """The connection is over. True: try the other transport at once, without a pause."""
        if not self._auto:
            return False
        if self._stage is Stage.WORKS:
            self.move(Stage.FIRST)
            return False
        self.now = "sse" if self.now == "ws" else "ws"
        self.move(Stage.SECOND if self._stage is Stage.FIRST else Stage.FIRST)
        return self._stage is Stage.SECOND

    @staticmethod
    def blocked_by(fault: Refused | BadAnswer) -> bool:
        """Whether this answer to a handshake may be that of something in between."""
        return isinstance(fault, BadAnswer) or fault.code in FOREIGN


def _chooser(choice: Transports) -> Callable[[int], Transport]:
    if callable(choice):
        return choice
    if choice == "auto":
        return lambda _: "ws"
    if choice == "ws":
        return lambda _: "ws"
    if choice == "sse":
        return lambda _: "sse"
    transports = tuple(choice)
    return lambda count: transports[count % len(transports)]
