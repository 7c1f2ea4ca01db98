"""A filter that changes while a subscriber goes on: only what it lets go or takes in is sent.

The invariant: at any moment the client holds the rows of `old`, less those that a `leave`
has named, until every one that leaves was named; and then those of `new`, less those that are still
to be sent.

It goes by steps, each of which begins when everything up to the head was sent. First the rows that
`old` wants and `new` does not are named (`LEAVES`). A row that changes meanwhile is not among them
any more; so what was committed since is sent under `old`, and what `new` does not want of it is
named in place of being sent (`LEAVING`). When the head is reached again the client holds nothing
but what both want. From this position on `new` holds: its other rows as they are now are sent
(`ENTERS`), and then what is committed after it.

This would break it: `new` in force before every row that leaves was named; a position that a client
is given before all of this is over, since it would come back from it with the new filter. See
docs/design/fanout.md, A filter that changes, and tests/unit/fanout/test_broadcaster.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from telecast.model import Event
from telecast.tape.selection import Selection, within
from telecast.tape.tape import Tape


class Stage(Enum):
    WAITING = "for all that was committed before it"
    LEAVES = "names the rows that leave"
    LEAVING = "sends what was committed meanwhile, and names what leaves of that"
    ENTERS = "sends the rows that have come in"

    __hash__ = object.__hash__  # as in `catchup`


STAGES: Mapping[Stage, frozenset[Stage]] = {
    Stage.WAITING: frozenset({Stage.LEAVES, Stage.ENTERS}),
    Stage.LEAVES: frozenset({Stage.LEAVING}),
    Stage.LEAVING: frozenset({Stage.ENTERS}),
    Stage.ENTERS: frozenset(),
}


@dataclass(slots=True)
class Delta:
    """What one subscriber goes from and to, and how far it is. The backfill alone changes it."""

    old: Selection
    new: Selection
    stage: Stage = Stage.WAITING
    upto: int = 0
    """The head when the scan under way began."""
    scanned: int = 0
    """Its rows were looked at up to this seq."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Those that are filtered otherwise."""
        return self.new.changed_since(self.old)

    def move(self, stage: Stage) -> None:
        """The only way a stage changes."""
        if stage not in STAGES[self.stage]:
            raise AssertionError(f"no way from {self.stage.name} to {stage.name}")
        self.stage = stage

    def scan(self, stage: Stage, head: int) -> None:
        """Look at the rows of this moment."""
        self.move(stage)
        self.upto, self.scanned = head, 0

    @property
    def following(self) -> Stage | None:
        """What comes next, now that everything up to the head was sent; None: it is over."""
        if self.stage is Stage.WAITING and self._beyond(self.old, self.new):
            return Stage.LEAVES
        return Stage.ENTERS if self._beyond(self.new, self.old) else None

    def _beyond(self, one: Selection, other: Selection) -> bool:
        """Whether one may want what the other does not."""
        return not all(within(one.filter(name), other.filter(name)) for name in self.channels)

    def step(self, tape: Tape, most_bytes: int) -> list[Event]:
        """The next rows that leave, or come in, of the scan under way."""
        wanted, other = self.old, self.new
        if self.stage is Stage.ENTERS:
            wanted, other = other, wanted
        chunk = tape.rows(
            wanted.only(self.channels), self.scanned, upto=self.upto, most_bytes=most_bytes
        )
        self.scanned = chunk.upto
        return [event for event in chunk.events if not other.wants(event)]

    @property
    def staying(self) -> Selection | None:
        """While rows leave: what an event has to be wanted by, or its row is named."""
        return self.new if self.stage is Stage.LEAVING else None
