"""What of its past a subscriber can be sent: the tape's floors and the journal's, put together.

Each of the two says of a channel from where it has every event (`whole_from`), and from where it
has at least pinned events and tombstones (`compact_from`). The invariant: an event that a
subscriber asked for is sent, or lies in a `gap` or `conflated` that was sent, or its channel began
anew with a snapshot. A subscriber that wants all is sent what either of the two holds; one that
takes conflated batches is served by the tape alone.

It holds because every answer here is asked for and acted on in one turn of the loop, and a page of
the journal is judged by its own floors: those from before or after its read may be others. This
would break it: a floor that is kept over an `await`; to compare only the floors where a journal
has more than its floor says, as rows from before it that were superseded since it trimmed last.
See docs/design/fanout.md, The tape, and tests/unit/fanout/test_broadcaster.py, any schedule.
"""

from __future__ import annotations

from collections.abc import Callable

from telecast.fanout.catchup import CatchUp
from telecast.fanout.subscriber import Subscriber
from telecast.model import Floor
from telecast.tape.channel_log import Standing
from telecast.tape.tape import Tape

FloorOf = Callable[[str], Floor]
Gap = tuple[str, int, int]
"""(channel, from, to), both included."""


class Floors:
    """Answers of this moment: either floor may rise before the next. `floor` gives the journal's
    of a channel, where it is not to be asked now: a page of the journal has its own."""

    def __init__(self, tape: Tape, journal_floor: FloorOf) -> None:
        self._tape = tape
        self._journal_floor = journal_floor

    def excuse(
        self, subscriber: Subscriber, catchup: CatchUp, floor: FloorOf | None = None
    ) -> None:
        """From `earliest`, what is gone before anything was sent is not missed."""
        if catchup.cursor:
            return
        for name in subscriber.selection.channels:
            if name in catchup.excused and name not in catchup.starts:
                catchup.excused[name] = self._compact_from(subscriber, name, floor)
                catchup.gap_sent[name] = self._lost(name, floor)

    def expired(
        self, subscriber: Subscriber, catchup: CatchUp, floor: FloorOf | None = None
    ) -> tuple[str, ...]:
        """Channels of which pinned events or tombstones that it has yet to be sent are gone."""
        busy, starts, excused = catchup.anew, catchup.starts, catchup.excused
        return tuple(
            name
            for name in subscriber.selection.channels
            if name not in busy
            and self._compact_from(subscriber, name, floor)
            > max(catchup.cursor, starts.get(name, 0), excused.get(name, 0))
        )

    def gaps(
        self, subscriber: Subscriber, catchup: CatchUp, floor: FloorOf | None = None
    ) -> list[Gap]:
        """Where neither the tape nor the journal has all of it. The last event of each is gone."""
        if subscriber.delivery != "all":
            return []
        gaps = []
        for name in subscriber.selection.channels:
            after = max(catchup.cursor, catchup.starts.get(name, 0), catchup.gap_sent.get(name, 0))
            lost = self._lost(name, floor)
            if lost > after:
                gaps.append((name, after + 1, lost))
        return gaps

    def must_fetch(self, subscriber: Subscriber, catchup: CatchUp) -> bool:
        """Whether the journal has more than the tape of what this subscriber must be sent."""
        if subscriber.delivery != "all":
            return False
        return any(self._journal_has_more(name, catchup) for name in subscriber.selection.channels)

    def _journal_has_more(self, name: str, catchup: CatchUp) -> bool:
        after = max(catchup.cursor, catchup.starts.get(name, 0))
        if self._tape.standing(name, after) is Standing.EXACT:
            return False
        whole_from = self._journal_floor(name).whole_from
        if whole_from < self._tape.logs[name].whole_from:
            return True
        # Below its floor the journal still keeps rows that were superseded since it trimmed last:
        # the tape may have lost them, and the oldest event that there is may be one of these.
        return name in catchup.excused and name not in catchup.starts and after < whole_from

    def _compact_from(self, subscriber: Subscriber, name: str, floor: FloorOf | None) -> int:
        compact_from = self._tape.logs[name].compact_from
        if subscriber.delivery == "all":
            return min(compact_from, (floor or self._journal_floor)(name).compact_from)
        return compact_from

    def _lost(self, name: str, floor: FloorOf | None) -> int:
        # What the journal let go of up to its floor is all but the rows that lived. The tape holds
        # these too; but of the rest it may hold what is pinned, at the very floor.
        return self._tape.logs[name].lost((floor or self._journal_floor)(name).whole_from)
