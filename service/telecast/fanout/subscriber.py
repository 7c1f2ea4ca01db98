"""A subscriber is a selection, a sink and one state. Nothing is queued for it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from telecast.fanout.catchup import CatchUp
from telecast.fanout.sink import Sink
from telecast.fanout.watch import Watch
from telecast.protocol.commands import Delivery
from telecast.protocol.framing import Transport
from telecast.tape.selection import Selection


class State(Enum):
    """The first four are BEHIND: the subscriber has a cursor that is not at the head."""

    QUEUED = "waits for its turn to be served"
    FULL = "waits for its sink to drain"
    FETCHING = "waits for a page of the journal"
    AHEAD = "waits for the position it named to be committed here"
    LIVE = "is sent every commit with its cohort"
    CLOSED = "is gone"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset(
        {State.QUEUED, State.FULL, State.FETCHING, State.AHEAD, State.LIVE, State.CLOSED}
    ),
    State.FULL: frozenset({State.QUEUED, State.CLOSED}),
    State.FETCHING: frozenset({State.QUEUED, State.CLOSED}),
    State.AHEAD: frozenset({State.QUEUED, State.CLOSED}),
    State.LIVE: frozenset({State.FULL, State.QUEUED, State.CLOSED}),
    State.CLOSED: frozenset(),
}


class Seat:
    """How far a member of a cohort is. Its cohort alone changes it. Who is settled has a place and
    needs no cursor: it was sent what the others were."""

    __slots__ = ("cursor", "place")

    def __init__(self, cursor: int) -> None:
        self.cursor = cursor
        """Of a newcomer: all that the selection holds up to here has been handed to the sink."""
        self.place: int | None = None
        """Where it is among those who are settled; None for a newcomer."""


class Subscriber:
    """One connection, from `attach` on changed by the fan-out alone.

    Each part of it has one owner: the broadcaster its state, the backfill its selection and its
    catch-up, a cohort its seat, liveness its watch. While it is BEHIND it has a catch-up and while
    it is LIVE a seat: its cursor is there. `Broadcaster.position` is how far it is in any state.
    """

    __slots__ = (
        "catchup",
        "conflated",
        "connection_id",
        "delivery",
        "due_at",
        "expects_life",
        "gaps",
        "heartbeat",
        "last",
        "max_rate",
        "proven",
        "seat",
        "selection",
        "sink",
        "state",
        "transport",
        "watch",
        "write",
    )

    def __init__(
        self,
        *,
        connection_id: str,
        transport: Transport,
        sink: Sink,
        selection: Selection,
        delivery: Delivery = "conflated",
        max_rate: float | None = None,
        heartbeat: float = 15.0,
        expects_life: bool = False,
    ) -> None:
        """`heartbeat` is in seconds, `max_rate` in batches a second.

        `expects_life`: inbound frames are this transport's sign of life.
        """
        self.connection_id = connection_id
        self.transport = transport
        self.sink = sink
        self.write = sink.write
        self.selection = selection
        self.delivery: Delivery = delivery
        self.max_rate = max_rate
        self.heartbeat = heartbeat
        self.expects_life = expects_life
        self.state = State.QUEUED
        self.catchup: CatchUp | None = CatchUp(0)
        """Of one that is BEHIND, and of no other. The backfill alone sets and changes it."""
        self.seat: Seat | None = None
        """Of one that is LIVE, and of no other. Its cohort alone sets and changes it."""
        self.last = 0
        """Of a closed one: its position, and what it had been sent whole."""
        self.proven = 0
        self.due_at = 0.0
        """When the pace of the cohort that it has left would have let its next batch go. Its cohort
        alone sets it."""
        self.conflated = 0
        """Events that were conflated for it, and gaps that were sent to it."""
        self.gaps = 0
        self.watch = Watch()

    @property
    def wanted(self) -> Selection:
        """Its selection, or what that is to become once what was committed before is sent."""
        delta = None if self.catchup is None else self.catchup.delta
        return self.selection if delta is None else delta.new

    def put_in_force(self, selection: Selection) -> None:
        """From its cursor on it is sent this. The backfill alone calls it, once the broadcaster has
        taken the subscriber out of its cohort: a cohort is found by the selection of its members.
        """
        assert self.seat is None
        self.selection = selection

    def move(self, state: State) -> None:
        """The only way a state changes."""
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"no way from {self.state.name} to {state.name}")
        self.state = state

    def close(self, last: int, proven: int) -> None:
        """It is gone, and had been sent so much."""
        self.move(State.CLOSED)
        self.last, self.proven = last, proven

    def miss(self, conflated: int) -> None:
        """So many events were left out of what it was sent."""
        self.conflated += conflated

    def lose(self, gaps: int) -> None:
        """It was sent so many gaps."""
        self.gaps += gaps
