"""What stands between one subscriber and the head, and which part of it is sent next."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain

from telecast.fanout.delta import Delta, Stage
from telecast.model import Event, Position
from telecast.protocol.messages import SnapshotReason
from telecast.tape.selection import Selection


class Phase(Enum):
    """What the next step sends."""

    SNAPSHOT = "the start of a snapshot"
    ROWS = "the rows of the snapshot that was started"
    RESUME = "the word that the resume is exact"
    PAGE = "a page that was read from the journal"
    EVENTS = "events that the tape holds, or nothing until a page was read"
    SCAN = "rows that a changed filter lets go, or takes in"

    __hash__ = object.__hash__  # Enum's is a call of Python for each look into the table of moves


MOVES: Mapping[Phase, frozenset[Phase]] = {
    Phase.SNAPSHOT: frozenset({Phase.ROWS}),
    Phase.ROWS: frozenset({Phase.SNAPSHOT, Phase.RESUME, Phase.EVENTS}),
    Phase.RESUME: frozenset({Phase.SNAPSHOT, Phase.EVENTS}),
    Phase.PAGE: frozenset({Phase.EVENTS}),
    Phase.EVENTS: frozenset({Phase.SNAPSHOT, Phase.RESUME, Phase.PAGE, Phase.SCAN}),
    Phase.SCAN: frozenset({Phase.SNAPSHOT, Phase.EVENTS}),
}


@dataclass(slots=True)
class FetchedPage:
    """What there is of the whole past up to `upto`, and the gaps in it: (channel, from, to)."""

    events: list[Event]
    upto: int
    gaps: list[tuple[str, int, int]]


@dataclass(slots=True)
class CatchUp:
    """Snapshots first, then what came since. The backfill alone changes it."""

    cursor: int
    """All that the selection holds up to here has been handed to the sink, but for the channels
    that are `unfinished`."""
    phase: Phase = Phase.EVENTS
    snapshots: deque[tuple[tuple[str, ...], SnapshotReason]] = field(default_factory=deque)
    """Those that are to be started."""
    sending: tuple[str, ...] = ()
    """The channels of the snapshot that is being sent, and the seq up to which its rows were."""
    rows_sent: int = 0
    starts: dict[str, int] = field(default_factory=dict)
    """Where channels go on whose snapshot was sent: later than the cursor of the others."""
    resume: Position | None = None
    """Set until the client has been sent that its resume is exact."""
    announce: bool = False
    """Whether the client waits for `live`, and how many events it was sent until then."""
    count: int = 0
    excused: dict[str, int] = field(default_factory=dict)
    """From `earliest`: what had been trimmed up to here when it began needs no snapshot."""
    gap_sent: dict[str, int] = field(default_factory=dict)
    """Up to where the client knows, or from `earliest` does not ask, what exists no more."""
    page: FetchedPage | None = None
    delta: Delta | None = None
    """A filter that is to change without snapshots, once the head is reached."""

    @property
    def anew(self) -> tuple[str, ...]:
        """Channels whose snapshot is being sent, or waits."""
        if not self.snapshots:
            return self.sending
        waiting = [names for names, _ in self.snapshots]
        return tuple(dict.fromkeys(chain(self.sending, *waiting)))

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Channels of which the client does not hold all rows yet, or holds too many."""
        if self.delta is None:
            return self.anew
        return tuple(dict.fromkeys((*self.anew, *self.delta.channels)))

    @property
    def staying(self) -> Selection | None:
        """While a filter lets rows go: what an event must be wanted by, or its row is named."""
        return None if self.delta is None else self.delta.staying

    def move(self, phase: Phase) -> None:
        """The only way a phase changes."""
        if phase not in MOVES[self.phase]:
            raise AssertionError(f"no way from {self.phase.name} to {phase.name}")
        self.phase = phase

    def resume_from(self, position: Position) -> None:
        """Go on from a position, once its snapshots were sent."""
        self.resume = position
        self.move(Phase.RESUME)

    def start_over(self, names: tuple[str, ...], reason: SnapshotReason) -> None:
        """Send a snapshot of these channels, after those that are to be sent already."""
        self.snapshots.append((names, reason))
        self.announce = True
        if self.phase not in (Phase.SNAPSHOT, Phase.ROWS):
            self.move(Phase.SNAPSHOT)

    def start_rows(self) -> tuple[tuple[str, ...], SnapshotReason]:
        """The rows of the next snapshot are to be sent: of these channels, for this reason."""
        self.move(Phase.ROWS)
        names, reason = self.snapshots.popleft()
        self.sending, self.rows_sent = names, 0
        return names, reason

    def rows_end(self) -> None:
        """All rows of the snapshot under way were sent."""
        self.sending = ()
        if self.snapshots:
            self.move(Phase.SNAPSHOT)
        else:
            self.move(Phase.EVENTS if self.resume is None else Phase.RESUME)

    def scan(self, delta: Delta, stage: Stage, head: int) -> None:
        """Look at the rows of this moment for a filter that changes."""
        delta.scan(stage, head)
        self.move(Phase.SCAN)

    def scan_ends(self) -> None:
        """All rows of the scan were looked at."""
        assert self.delta is not None
        if self.delta.stage is Stage.LEAVES:
            self.delta.move(Stage.LEAVING)
        else:
            self.delta = None
        self.move(Phase.EVENTS)

    def keep_page(self, page: FetchedPage) -> None:
        """Send this next."""
        self.page = page
        self.move(Phase.PAGE)

    def drop_page(self) -> None:
        """It was sent, or is to be read again."""
        if self.phase is Phase.PAGE:
            self.page = None
            self.move(Phase.EVENTS)
