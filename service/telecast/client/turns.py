"""Which transport the next connection takes. Pure.

With `auto` a WebSocket is tried first. Where it does not come to its `welcome` (a proxy refuses
the upgrade, drops it, or passes the handshake and nothing else), the event stream is tried at
once, and the one that works is kept. Both tell the same events under the same positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from telecast.client.faults import BadAnswer, Refused
from telecast.client.lines import Transport

FOREIGN = frozenset({"REFUSED", "REDIRECTED", "UPGRADE_REQUIRED", "BAD_REQUEST"})
"""Codes of a refused handshake that may be a proxy's doing: not our words, or what the service
says when a proxy has taken the upgrade out."""


class Turns:
    def __init__(
        self,
        choice: Transport | Literal["auto"] | Sequence[Transport] | Callable[[int], Transport],
    ) -> None:
        self._auto = choice == "auto"
        self._choose = _chooser(choice)
        self._count = 0
        self._works = False
        """Whether the transport of now has come to its welcome since it was chosen."""
        self._tried_both = False
        self._reopens = False
        self.now: Transport = "ws" if self._auto else self._choose(0)

    def next(self) -> Transport:
        """The transport of the connection that is made now."""
        if not self._auto:
            self.now = self._choose(self._count)
        self._count += 1
        return self.now

    def worked(self) -> None:
        self._works = True
        self._tried_both = False

    def failed(self) -> bool:
        """The connection is over. True: try the other transport at once, without a pause."""
        worked, self._works = self._works, False
        if not self._auto or worked:
            return False
        self.now = "sse" if self.now == "ws" else "ws"
        at_once = not self._tried_both
        self._tried_both = not self._tried_both
        return at_once

    @staticmethod
    def blocked_by(fault: Refused | BadAnswer) -> bool:
        """Whether this answer to a handshake may be that of something in between."""
        return isinstance(fault, BadAnswer) or fault.code in FOREIGN

    def reopen(self) -> None:
        """The connection is closed by us, to be made anew with another query."""
        self._reopens = True

    def reopens(self) -> bool:
        reopens, self._reopens = self._reopens, False
        return reopens


def _chooser(
    choice: Transport | Literal["auto"] | Sequence[Transport] | Callable[[int], Transport],
) -> Callable[[int], Transport]:
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
