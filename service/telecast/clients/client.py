"""One open stream, as the registry and the admin API see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from telecast.clients.progress import Progress
from telecast.errors import TelecastError
from telecast.fanout.subscriber import State, Subscriber
from telecast.model import Position, Principal
from telecast.protocol.commands import Delivery

Phase = Literal["live", "behind", "full"]
"""`live`: every commit is sent as it happens. `full`: its socket takes no more for now. `behind`:
anything else, such as a snapshot or a resume that is under way."""


def _ignore(_: object) -> None:
    """No handler is set yet, or any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a stream is doing, or did last. Everything up to `seq` was handed to its sink."""

    filters: Mapping[str, Mapping[str, frozenset[str]]]
    delivery: Delivery
    max_rate: float | None
    heartbeat: float
    phase: Phase
    seq: int
    lag: int
    """Events that were committed after that, of all channels."""
    unsent: int
    """Bytes that were handed over and, for all that is known, have not reached the peer."""
    conflated: int
    gaps: int


@dataclass(slots=True, eq=False, kw_only=True)
class Client:
    """One open stream. `narrow` applies changed rights, `evict` ends it; both return at once."""

    connection_id: str
    client_id: str | None
    principal: Principal
    address: str
    transport: str
    opened_at: float
    user_agent: str | None = None
    reads_only: bool = False
    """It came with a ticket or a cookie, not with a key: it only reads, whatever its key may do."""
    session_id: str | None = None
    """The browser's session that it belongs to, and ends with."""
    taking: bool = False
    """It takes the place of others of its name at all nodes, and the log has not said so yet."""
    number: int = 0
    """Rises with each client that was admitted: the registry's order."""
    heard_at: float = 0.0
    """When its last frame came, by the registry's clock. SSE streams send nothing."""
    acknowledged: Position | None = None
    """Up to where the client says that it has handled what it got."""
    progress: Progress = field(default_factory=Progress)
    subscriber: Subscriber | None = None
    filters: Callable[[], Mapping[str, Mapping[str, frozenset[str]]]] = field(default=dict)
    """Its channels, each with the filter that holds."""
    narrow: Callable[[Principal], None] = field(default=_ignore)
    evict: Callable[[TelecastError], None] = field(default=_ignore)

    def let_go(self) -> None:
        """Forget its stream: two that refer to each other would wait for the garbage collector."""
        self.subscriber, self.narrow, self.evict, self.filters = None, _ignore, _ignore, dict

    def stale_seconds(self, now: float) -> float:
        """How long it has shown no sign of life: a WebSocket that sent no frame, an SSE stream
        that took no byte while some waited. `now` is by the registry's clock."""
        if self.subscriber is None:
            return 0.0
        if self.subscriber.expects_life:
            return max(0.0, now - self.heard_at)
        return self.progress.look(self.subscriber.sink, now)

    def facts(self, seq: int, head: int) -> Facts | None:
        """What it is doing now; None before it is served. `seq` is its position's, `head` that of
        the newest event."""
        subscriber = self.subscriber
        if subscriber is None:
            return None
        return Facts(
            filters=self.filters(),
            delivery=subscriber.delivery,
            max_rate=subscriber.max_rate,
            heartbeat=subscriber.heartbeat,
            phase=_PHASES.get(subscriber.state, "behind"),
            seq=seq,
            lag=max(0, head - seq),
            unsent=subscriber.sink.buffered(),
            conflated=subscriber.conflated,
            gaps=subscriber.gaps,
        )


_PHASES: Mapping[State, Phase] = {State.LIVE: "live", State.FULL: "full"}
