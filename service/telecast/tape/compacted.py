"""Events of which more and more go out of date, swept out a few with each that comes.

`holds` says whether an event is up to date; one that is not never is again. So they can be passed
over where they lie, and nobody has to know which one went. The invariant: what `after` yields
is exactly the events in seq order that `holds` accepts at that moment, wherever the sweep is: it
moves a few events at a time from `_rest` to `_swept`, and every event is in one of the two, or out
of date.

`gone` answers which seq was lost last, which the floors need: each event has noted the last one
before it that was gone when it was looked at, so only those between have to be asked. This would
break it: an event that is appended out of order, or a `holds` that takes back its no. No step is
long: a sweep of all at once held the loop for 22 to 138 ms. See docs/design/fanout.md, The tape,
and tests/unit/fanout/test_tape.py.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

from telecast.model import Event

LOOKS = 8
"""Events that a sweep looks at with each that comes: however many there are, none waits for all."""
SLACK = 1_024
"""Events that a list may hold for nothing before it is swept or moved: each is rare so."""
LET_GO: Any = None
"""In the place of an event that is taken from a list's front, so that it is freed by itself:
freeing many together holds the event loop."""

seq_of = attrgetter("seq")


class CompactedLog:
    """Events in seq order; those that are out of date, for `holds` to say, are passed over.

    An event that is out of date stays so. A sweep begins when there are twice as many as the last
    one left.
    """

    def __init__(self, holds: Callable[[Event], bool]) -> None:
        self._holds = holds
        self._swept: list[Event] = []
        """What the sweep under way has left, before what it has yet to look at."""
        self._rest: list[Event] = []
        self._at = 0
        """Where the sweep is in `_rest`; 0 if none is under way."""
        self._sweep_at = SLACK
        self._swept_gone, self._rest_gone = array("q"), array("q")
        """For each event the seq of the last before it that had gone when it was looked at."""
        self._gone = 0
        """The same, for whatever the sweep has yet to look at."""

    def __len__(self) -> int:
        return len(self._swept) + len(self._rest) - self._at

    def append(self, event: Event, gone: int = 0) -> None:
        """`gone` is the seq of the last event before it that is not here or out of date."""
        self._rest.append(event)
        self._rest_gone.append(gone)
        if self._at or len(self._rest) > self._sweep_at:
            self._sweep()

    def after(self, seq: int) -> Iterator[Event]:
        """What is up to date after a position."""
        holds, swept, rest = self._holds, self._swept, self._rest
        for index in range(bisect_right(swept, seq, key=seq_of), len(swept)):
            if holds(swept[index]):
                yield swept[index]
        for index in range(bisect_right(rest, seq, lo=self._at, key=seq_of), len(rest)):
            if holds(rest[index]):
                yield rest[index]

    def gone(self, upto: int) -> int:
        """The last seq up to this one that is not here or out of date; 0 if there is none.

        `upto` itself must be the seq of an event, here or not.
        """
        swept, rest, at = self._swept, self._rest, self._at
        if at < len(rest) and rest[at].seq <= upto:
            index = bisect_right(rest, upto, lo=at, key=seq_of) - 1
            event, gone = rest[index], max(self._gone, self._rest_gone[index])
            earlier = [(rest, range(index - 1, at - 1, -1)), (swept, range(len(swept))[::-1])]
        elif swept and swept[0].seq <= upto:
            index = bisect_right(swept, upto, key=seq_of) - 1
            event, gone = swept[index], self._swept_gone[index]
            earlier = [(swept, range(index - 1, -1, -1))]
        else:
            return upto
        if event.seq != upto or not self._holds(event):
            return upto
        for events, places in earlier:
            for place in places:
                event = events[place]
                if event.seq <= gone:
                    return gone
                if not self._holds(event):
                    return event.seq
        return gone

    def _sweep(self) -> None:
        rest, rest_gone, gone = self._rest, self._rest_gone, self._gone
        end = min(self._at + LOOKS, len(rest))
        for place in range(self._at, end):
            event, rest[place] = rest[place], LET_GO
            if rest_gone[place] > gone:
                gone = rest_gone[place]
            if self._holds(event):
                self._swept.append(event)
                self._swept_gone.append(gone)
            else:
                gone = event.seq
        self._at, self._gone = end, gone
        if end == len(rest):
            self._rest, self._rest_gone = self._swept, self._swept_gone
            self._swept, self._swept_gone = [], array("q")
            self._at = self._gone = 0
            self._sweep_at = 2 * len(self._rest) + SLACK
