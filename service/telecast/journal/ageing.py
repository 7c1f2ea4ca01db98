"""What time it is as far as anything may be deleted for its age.

The system's clock may be wrong for a while: a virtual machine that was resumed, a bad answer of a
time server, an operator's typing error. A month of history must not go for it. So the clock is
compared with monotonic time, and after a start with the newest commit. While they agree, the clock
is believed. A step of more than TOLERANCE is not: time goes on from where it was, at the pace of
monotonic time, until the clock has stayed in its new place for WAIT, or is back.

What holds: `before` never runs ahead of either the clock or the believed time, so nothing is
deleted because of a step that lasts less than WAIT. `after` never falls behind either, so nothing
that is stamped with it seems old once the clock is right again. Both would break if a step were
believed at once; tests/unit/test_ageing.py takes it through steps of all kinds.

Pure but for the log: the clocks' readings come in as arguments.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

log = logging.getLogger(__name__)

TOLERANCE = 60.0
"""Seconds of a step that is believed at once: nothing here is deleted at so young an age."""
WAIT = 900.0
"""Seconds for which a clock must stay in its new place before anything is deleted by it."""


def monotonic() -> float:
    """Seconds that go on while the machine sleeps, as the clock does (CLOCK_BOOTTIME, Linux)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds since 1970. What is older than by `before` may go; `after` stamps what is new."""

    clock: float
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class _Step:
    """The clock is `ahead` of the believed time (behind it: negative), `since` so long."""

    ahead: float
    since: float


class Ageing:
    """The believed time. One owner reads both clocks and calls `at` with them, in order."""

    def __init__(self, *, aloud: bool = True) -> None:
        """`aloud`: the log says what is seen. Of all in one service only the journal's does."""
        self._aloud = aloud
        self.jumps = 0
        """Steps of the clock that were not believed at once, since the start."""
        self._believed: float | None = None
        self._seen = 0.0
        self._step: _Step | None = None

    def start(self, clock: float, elapsed: float, newest: float | None) -> None:
        """`newest` is the time of the newest commit. The clock may be far ahead of it with good
        reason, such as a long stop, or be wrong: nothing shows which, so it is waited out."""
        self._believed, self._seen = clock, elapsed
        if newest is None or abs(clock - newest) <= TOLERANCE:
            return
        self._believed = newest
        self._step = _Step(clock - newest, elapsed)
        fields = {"seconds": round(clock - newest, 1), "wait": WAIT}
        if not self._aloud:
            return
        if clock < newest:
            log.warning("the clock is behind the journal's newest commit", extra=fields)
        else:
            log.info("nothing is deleted by age until the clock has proved steady", extra=fields)

    def at(self, clock: float, elapsed: float) -> Times:
        """`clock` in seconds since 1970, `elapsed` of monotonic time."""
        if self._believed is None:
            self.start(clock, elapsed, None)
        assert self._believed is not None
        expected = self._believed + (elapsed - self._seen)
        self._believed, self._seen = expected, elapsed
        ahead = clock - expected
        if abs(ahead) <= TOLERANCE:
            if self._step is not None and self._aloud:
                log.info("the clock is right again")
            self._step = None
            self._believed = clock
        elif self._step is None or abs(ahead - self._step.ahead) > TOLERANCE:
            self.jumps += 1
            self._step = _Step(ahead, elapsed)
            if self._aloud:
                log.warning(
                    "the clock has jumped: nothing is deleted by age until it has proved steady",
                    extra={"seconds": round(ahead, 1), "wait": WAIT},
                )
        elif elapsed - self._step.since >= WAIT:
            if self._aloud:
                log.warning("the clock is believed again", extra={"seconds": round(ahead, 1)})
            self._step = None
            self._believed = clock
        return Times(clock, min(clock, self._believed), max(clock, self._believed))
