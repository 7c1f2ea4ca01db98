"""What waits for the next batch of a cohort: all that its members want or, where they asked for a
pace, the newest of each row."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from telecast.model import Event

RATED_ROWS = 256
RATED_CONFLATED = 4_096
"""Rows, and seqs of what is left out, that wait for the next batch of a rated cohort, for each of
its members: some 64 KiB. Beyond it nothing is kept, and the members read the batch from the tape:
one who asks for a slow pace and a filter that nobody shares must not hold a book of all rows."""

_seq = attrgetter("seq")


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch that is to be written. `since` is the position just before its first event;
    `conflated` are the seqs that it leaves out, ascending."""

    since: int
    events: list[Event]
    conflated: Sequence[int] = ()


class Pending:
    """Of a cohort without a pace. Its cohort alone changes it."""

    __slots__ = ("events", "members", "since")

    spilled = False

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.since = 0
        """The position just before the first event that is pending."""
        self.members = 0
        """Who share what is kept."""

    def add(self, event: Event) -> bool:
        """Note an event; True if nothing was pending before it."""
        first = not self.events
        if first:
            self.since = event.seq - 1
        self.events.append(event)
        return first

    def take(self) -> Taken:
        """All of it, in the order of seq; nothing is pending any more."""
        events, self.events = self.events, []
        return Taken(self.since, events)

    def clear(self) -> None:
        """Forget it: nobody is left, or the members read it from the tape."""
        self.events = []


class RatedPending(Pending):
    """Of a cohort with a pace: one place for each row."""

    __slots__ = ("_conflated", "_newest", "spilled")

    def __init__(self) -> None:
        super().__init__()
        self._forget_places()

    def _forget_places(self) -> None:
        self._newest: dict[tuple[str, str], int] = {}
        self._conflated = array("q")
        """What the batch leaves out: a member whose sink fills up within it was sent as many as
        come before its position, and its catch-up sends the others."""
        self.spilled = False
        """It was more than may be kept. One event stays, as the sign that something is pending."""

    def add(self, event: Event) -> bool:
        first = not self.events
        if first:
            self.since = event.seq - 1
        elif self.spilled:
            return False
        newest, conflated = self._newest, self._conflated
        where = (event.channel, event.key)
        before = None if event.pinned else newest.get(where)
        if before is not None:
            conflated.append(self.events[before].seq)
            self.events[before] = event
        else:
            if not event.pinned:
                newest[where] = len(self.events)
            self.events.append(event)
        if len(newest) > RATED_ROWS or len(conflated) > RATED_CONFLATED:
            members = self.members
            if len(newest) > RATED_ROWS * members or len(conflated) > RATED_CONFLATED * members:
                self.events = [event]
                self._forget_places()
                self.spilled = True
        return first

    def take(self) -> Taken:
        events, conflated = self.events, sorted(self._conflated)
        events.sort(key=_seq)
        self.clear()
        return Taken(self.since, events, conflated)

    def clear(self) -> None:
        super().clear()
        self._forget_places()
