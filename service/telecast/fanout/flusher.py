"""When cohorts are flushed: at once when quiet, joined when busy, rated ones at their pace.

A system call for each message and client is what fan-out costs. So what is pending goes out in
one write, and the busier it is, the more is pending: a round of flushes waits REST times as long as
the last one took, never longer than PATIENCE. Nothing to tune, and no timer when it is quiet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum

from telecast.fanout.cohort import Cohort
from telecast.fanout.tally import Tally
from telecast.fanout.wheel import Scheduler, Wheel

log = logging.getLogger(__name__)

REST = 2
"""So flushing takes a third of the time, as long as PATIENCE is enough: the rest is for what
comes in."""
PATIENCE = 0.0125
"""Seconds that a commit waits for the next round at the most, however long the last one took."""
TURN = 0.002
"""Seconds of a round after which the loop turns."""


class Phase(Enum):
    IDLE = "no round is due"
    ARMED = "a round starts soon"
    ROUND = "a round is under way, or its last write is"

    __hash__ = object.__hash__  # Enum's is a call of Python for each look into the table of moves


MOVES: Mapping[Phase, frozenset[Phase]] = {
    Phase.IDLE: frozenset({Phase.ARMED}),
    Phase.ARMED: frozenset({Phase.ROUND}),
    Phase.ROUND: frozenset({Phase.IDLE}),
}


class Flusher:
    """Runs rounds: each flushes the cohorts that were due when it began, in slices."""

    def __init__(
        self,
        scheduler: Scheduler,
        wheel: Wheel,
        tally: Tally,
        *,
        flush: Callable[[Cohort], Iterator[None]],
        on_broken: Callable[[Cohort], None],
    ) -> None:
        """`flush` writes what is pending for a cohort, yielding between slices; should it raise,
        `on_broken` gets the cohort: its members are not whole any more."""
        self._scheduler = scheduler
        self._wheel = wheel
        self._tally = tally
        self._flush = flush
        self._on_broken = on_broken
        self._due: dict[Cohort, None] = {}
        self._phase = Phase.IDLE
        self._round: Iterator[None] = iter(())
        self._started = 0.0
        self._due_since = float("inf")
        """When the first of `_due` that no rate held back became so."""
        self._since = 0.0
        self._ended = float("-inf")
        self._took = 0.0

    def move(self, phase: Phase) -> None:
        """The only way the phase changes."""
        if phase not in MOVES[self._phase]:
            raise AssertionError(f"no way from {self._phase.name} to {phase.name}")
        self._phase = phase

    def add(self, cohort: Cohort, *, first: bool, at_once: bool) -> None:
        """A cohort has something pending: the `first`, or one that goes `at_once` before its
        pace. `arm` follows."""
        if at_once or cohort.max_rate is None:
            if not self._due:
                self._due_since = self._scheduler.time()
            self._due[cohort] = None
        elif first:
            self._pace(cohort)

    def forget(self, cohort: Cohort) -> None:
        """Nobody is left in it."""
        self._due.pop(cohort, None)

    def arm(self) -> None:
        """Have a round start if a cohort is due: now, or when the last is long enough ago."""
        if self._phase is not Phase.IDLE or not self._due:
            return
        self.move(Phase.ARMED)
        wait = self._ended + min(REST * self._took, PATIENCE) - self._scheduler.time()
        if wait <= 0:
            self._scheduler.call_soon(self._begin)
        else:
            self._scheduler.call_later(wait, self._begin)

    def _pace(self, cohort: Cohort) -> None:
        """The first event since its last batch: have it flushed when its pace lets it."""
        wait = cohort.wait(self._scheduler.time())
        if wait <= 0:
            self._due[cohort] = None
        else:
            self._wheel.after(wait, lambda: self._come_due(cohort))

    def _come_due(self, cohort: Cohort) -> None:
        if cohort.is_pending and cohort.wait(self._scheduler.time()) <= 0:
            self._due[cohort] = None
            self.arm()

    def _begin(self) -> None:
        self.move(Phase.ROUND)
        due, self._due = self._due, {}
        self._started = self._scheduler.time()
        self._since, self._due_since = min(self._due_since, self._started), float("inf")
        self._round = self._flush_all(due)
        self._turn()

    def _turn(self) -> None:
        """One slice; the loop turns in between."""
        for _ in self._round:
            self._scheduler.call_soon(self._turn)
            return
        # The event loop may write what it was handed only after this callback: let it.
        self._scheduler.call_soon(self._end)

    def _end(self) -> None:
        self.move(Phase.IDLE)
        self._ended = self._scheduler.time()
        self._took = self._ended - self._started
        self._tally.flush.observe(self._took)
        self._tally.write.observe(self._ended - self._since)
        self.arm()

    def _flush_all(self, due: Iterable[Cohort]) -> Iterator[None]:
        clock = self._scheduler.time
        until = clock() + TURN
        for cohort in due:
            cohort.keep_pace(clock())
            try:
                for _ in self._flush(cohort):
                    yield
                    until = clock() + TURN
            except Exception:
                # One cohort that can't be served must not end the service of all others.
                log.exception("flush failed")
                self._on_broken(cohort)
            if clock() >= until:
                yield
                until = clock() + TURN
