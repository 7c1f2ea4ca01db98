"""An ordered, replicated log: all that the judge and the copy know of JetStream.

Another log (a simulated one, PostgreSQL) can stand in: it has to order messages, keep them, and
give every follower the same ones at the same sequences with the same times.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass

from telecast.journal.jetstream.checkpoints.shelf import Shelf
from telecast.journal.peers import Alone, Peers


@dataclass(frozen=True, slots=True)
class Logged:
    """A message in its place. `timestamp` is the log's time, in ms since 1970."""

    sequence: int
    timestamp: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Extent:
    """The sequences of the first and last message that the log has; `first` is `last + 1` in an
    empty one."""

    first: int
    last: int


class Log(ABC):
    """Messages in one order for all nodes.

    Order: messages that one node appends one after the other take their places in that order,
    unless one is lost on the way. Durability: as the log is set up; `append` returns after it.
    One event loop owns an instance.
    """

    epoch: str
    """Of the positions that clients are given: `[0-9a-z]{4,16}`. A log that is made anew or
    restored has another."""
    life: str
    """Names the log itself, for its copies and checkpoints. Like `epoch`, but for a log that goes
    on from a journal which was moved: that one's epoch stays, and the log has a life of its own."""
    shelf: Shelf
    """Where checkpoints of the log's copies are kept."""
    most_bytes: int
    """The largest message that it takes."""
    end: int = 0
    """The sequence of the last message that it is known to have: it may have more by now."""
    peers: Peers = Alone()
    """The other nodes on it."""

    def known_end(self) -> int:
        """As `end`, and as what other nodes have said of it."""
        return self.end

    @abstractmethod
    async def open(self) -> None:
        """Connect, and make the log where there is none.

        Raises JournalUnavailable where it can't be reached or is not for us: the message says what
        to do."""

    @abstractmethod
    async def extent(self) -> Extent:
        """What the log has now. Raises JournalUnavailable."""

    @abstractmethod
    async def timestamp_of(self, sequence: int) -> int | None:
        """The time of one message, None where the log does not have it. Raises
        JournalUnavailable."""

    @abstractmethod
    async def append(self, data: bytes) -> None:
        """Return once the message is kept. Tried again, it may be kept twice.

        Raises JournalFull where it is surely not kept for lack of space, JournalUnavailable where
        it may or may not be."""

    @abstractmethod
    def follow(self, after: int) -> AsyncIterator[tuple[Logged, ...]]:
        """Every message after a sequence, once, in order and without end, in tuples of any size.

        It waits while the log is away. Raises JournalCorrupt where a message is missing, and
        JournalUnavailable where the log has been trimmed beyond what comes next."""

    @abstractmethod
    async def forget(self, upto: int) -> None:
        """Remove the messages up to that one. Raises JournalUnavailable."""

    def now(self) -> float | None:
        """The log's time, in seconds since 1970; None where it is not known."""
        return None

    @abstractmethod
    def away(self) -> str | None:
        """Why the log can't be reached just now, or None."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of everything; `follow` ends. Safe to call twice."""
