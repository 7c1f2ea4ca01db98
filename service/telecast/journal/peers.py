"""The other nodes of a shared journal: who is there, and what they answer when they are asked.

Nothing here is ordered or durable: what must reach every node whatever happens goes through the
log, as a note (`journal.books`). Here a node asks what others alone know, such as their streams,
waits for the answers until a deadline, and says who did not answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

ASK_SECONDS = 2.0
"""How long answers of other nodes are waited for."""
SILENT_SECONDS = 6.0
"""Who has said nothing for so long, though every two seconds are the rule, is not expected to
answer, but named as missing."""

Handler = Callable[[Any], Awaitable[Any]]
"""Is given a question's body and returns the answer's; both are JSON-ready. A TelecastError that it
raises is the reason that the one who asked is given."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node. `facts` are what it last said of itself, `silent` seconds ago."""

    node: str
    facts: Mapping[str, Any]
    silent: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node answered; `why` says why it did not."""

    node: str
    body: Any = None
    why: str | None = None


class Peers(ABC):
    """One event loop owns an instance. What a handler needs must be there before `begin`."""

    node: str | None = None
    """What this node is called in what others are shown; None where there are no others."""
    refused: int = 0
    """Questions of others that this node left out, since too many were under way."""

    @abstractmethod
    def others(self) -> tuple[Peer, ...]:
        """Those that were there a moment ago, in the order of their names."""

    @abstractmethod
    async def ask(self, kind: str, body: Any) -> tuple[Answer, ...]:
        """One answer of each other node, within ASK_SECONDS. Never raises."""

    @abstractmethod
    def say(self, kind: str, body: Any) -> None:
        """Have it handled by all others that can be reached just now; nobody answers."""

    @abstractmethod
    def on(self, kind: str, handler: Handler) -> None:
        """Answer what others ask or say of this kind."""

    @abstractmethod
    async def begin(self, describe: Callable[[], Mapping[str, Any]]) -> None:
        """Be there for others from now on. `describe` gives what they get to know of this node."""

    @abstractmethod
    async def end(self) -> None:
        """Say goodbye, and answer no more. Safe to call twice."""


class Alone(Peers):
    """There is one node."""

    def others(self) -> tuple[Peer, ...]:
        return ()

    async def ask(self, kind: str, body: Any) -> tuple[Answer, ...]:
        return ()

    def say(self, kind: str, body: Any) -> None:
        """Nobody is there."""

    def on(self, kind: str, handler: Handler) -> None:
        """Nobody asks."""

    async def begin(self, describe: Callable[[], Mapping[str, Any]]) -> None:
        """Nobody is there."""

    async def end(self) -> None:
        """Nothing to end."""
