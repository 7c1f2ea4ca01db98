"""Which workers run: decisions only, so that each can be tested without a process.

What holds: a worker that is not asked to go is started again, later each time that it fails; at
most one worker is away because of a rolling restart, and never the last that serves; and the
service ends with an error only if it could not be got to work: before all workers were up once, or
with no worker up at all. What would break it: ending everybody because one worker can't start while
the others serve.

A worker hangs if it gives no sign of life between two looks, LOOKS times in a row. One that starts
gives none, and may have much to read: it has START_SECONDS. Looks are counted and not seconds, and
one that comes late itself is not counted: this process, or the whole machine, stood still or had
too much to do, and signs of life may lie here unread.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from telecast.supervision.orders import Abort, End, Finish, Kill, Order, Say, Serving, Start

FIRST_SECONDS = 0.5
"""Before the first restart of a worker; doubled with each failure after it."""
MOST_SECONDS = 30.0
GOOD_SECONDS = 60.0
"""A worker that was up for so long has not failed at its start: its next restart is a first one."""
LOOKS = 6
"""Looks in a row that find no sign of life of a worker that hangs."""
START_SECONDS = 600.0
"""How long a start may take before the worker counts as hung."""
LATE = 1.5
"""Times the usual between two looks: a later one says nothing."""
TRACE_SECONDS = 2.0
"""How long a worker that hangs may take to write where it stands, before it is killed."""
MOST_STARTS = 3
"""Starts in a row that may fail before the service gives up, where it gives up at all."""


class State(Enum):
    """Of one worker."""

    WAITING = auto()
    """Not running: until its time comes."""
    STARTING = auto()
    UP = auto()
    LEAVING = auto()
    """Asked to go."""
    HUNG = auto()
    """It gave no sign of life: it is about to be killed."""
    GONE = auto()


_MOVES = {
    State.WAITING: {State.STARTING, State.GONE},
    State.STARTING: {State.UP, State.LEAVING, State.HUNG, State.WAITING},
    State.UP: {State.LEAVING, State.HUNG, State.WAITING},
    State.LEAVING: {State.WAITING, State.GONE},
    State.HUNG: {State.WAITING, State.GONE},
    State.GONE: set[State](),
}


class Phase(Enum):
    """Of the service."""

    BEGINNING = auto()
    """All workers were never up together yet."""
    SERVING = auto()
    STOPPING = auto()


_PHASES = {
    Phase.BEGINNING: {Phase.SERVING, Phase.STOPPING},
    Phase.SERVING: {Phase.STOPPING},
    Phase.STOPPING: set[Phase](),
}


@dataclass(slots=True, eq=False)
class _Worker:
    number: int
    state: State = State.WAITING
    since: float = 0.0
    """When it came into its state; seconds of a monotonic clock, as all times here."""
    due: float = 0.0
    """When a waiting one is started, and one that was asked to go, or hangs, is killed."""
    sign: float = 0.0
    """When it last gave a sign of life, or was started."""
    silent: int = 0
    """Looks since then."""
    failures: int = 0
    """Ends in a row that nobody asked for."""
    starts_failed: int = 0
    """Starts in a row that did not come as far as UP."""
    words: tuple[str, ...] = ()
    """Why it could not start, as it said itself."""

    def move(self, state: State, now: float) -> None:
        if state not in _MOVES[self.state]:
            raise AssertionError(f"worker {self.number}: {self.state} -> {state}")
        self.state, self.since = state, now


class Crew:
    """`now` is in seconds of a monotonic clock. Every method returns what is to be done, in order;
    after Finish nothing is."""

    def __init__(self, count: int, patience: float = math.inf, silent: float = math.inf) -> None:
        """`patience` is how many seconds a worker that was asked to go may take, `silent` how many
        one that serves may give no sign of life."""
        self._patience = patience
        self.every = silent / LOOKS
        """Seconds between two looks."""
        self._most_silent = {State.UP: LOOKS, State.STARTING: START_SECONDS // self.every}
        self._looked = 0.0
        self._workers = {number: _Worker(number) for number in range(1, count + 1)}
        self._phase = Phase.BEGINNING
        self._status = 0
        self._error: tuple[str, ...] = ()
        self._rolling: deque[int] = deque()
        """Workers that are still to be restarted, the first of them being at it."""
        self.restarts = 0
        """Ends that nobody asked for."""
        self.hangs = 0
        """Workers that were ended because they hung."""

    def _move(self, phase: Phase) -> None:
        if phase not in _PHASES[self._phase]:
            raise AssertionError(f"service: {self._phase} -> {phase}")
        self._phase = phase

    def state(self, number: int) -> State:
        return self._workers[number].state

    def next_due(self) -> float | None:
        """When `due` is to be called next."""
        waits = (each.due for each in self._in(State.WAITING, State.LEAVING, State.HUNG))
        return min((due for due in waits if due < math.inf), default=None)

    def due(self, now: float) -> list[Order]:
        """Start those whose time has come; all of them at the beginning. Kill those that should
        have gone: one that hangs must keep neither the service from its end nor a restart."""
        orders: list[Order] = []
        for each in self._in(State.HUNG):
            if each.due <= now:
                each.due = math.inf
                orders.append(Kill(each.number))
        for each in self._in(State.LEAVING):
            if each.due <= now:
                each.due = math.inf
                fields = {"worker": each.number, "seconds": round(now - each.since, 1)}
                said = Say(logging.ERROR, "a worker does not go: it is killed", fields)
                orders += [said, Kill(each.number)]
        if self._phase is Phase.STOPPING:
            return orders
        return orders + [
            self._start(each, now) for each in self._in(State.WAITING) if each.due <= now
        ]

    def up(self, number: int, now: float, pid: int) -> list[Order]:
        """A worker serves."""
        worker = self._workers[number]
        if worker.state is not State.STARTING:
            return []  # it was asked to go meanwhile
        worker.move(State.UP, now)
        self.sign(number, now)
        worker.starts_failed, worker.words = 0, ()
        orders: list[Order] = [Say(logging.INFO, "a worker is up", {"worker": number, "pid": pid})]
        all_up = all(each.state is State.UP for each in self._workers.values())
        if self._phase is Phase.BEGINNING and all_up:
            self._move(Phase.SERVING)
            orders.append(Serving())
        if self._rolling and self._rolling[0] == number:
            self._rolling.popleft()
            orders += self._roll_on(now)
        elif self._rolling and self.state(self._rolling[0]) is State.UP:
            orders += self._roll_on(now)  # it waited for another to be up
        return orders

    def sign(self, number: int, now: float) -> None:
        """A worker gives a sign of life: its loop turns."""
        worker = self._workers[number]
        worker.sign, worker.silent = now, 0

    def look(self, now: float) -> list[Order]:
        """Called `every` so many seconds."""
        orders: list[Order] = []
        late = now - self._looked > LATE * self.every
        self._looked = now
        if late:
            return orders
        for each in self._in(State.STARTING, State.UP):
            each.silent += 1
            starting = each.state is State.STARTING
            if each.silent <= self._most_silent[each.state]:
                if starting and each.silent % LOOKS == 0:
                    fields = {"worker": each.number, "seconds": round(now - each.since, 1)}
                    orders.append(Say(logging.WARNING, "a worker is still starting", fields))
                continue
            self.hangs += 1
            if starting:
                each.starts_failed += 1
            elif now - each.since >= GOOD_SECONDS:
                each.failures = 0
            each.move(State.HUNG, now)
            each.due = now + TRACE_SECONDS
            said = Say(
                logging.CRITICAL,
                "a worker's loop stood still: it is killed",
                {"worker": each.number, "seconds": round(now - each.sign, 1)},
            )
            orders += [said, Abort(each.number)]
        return orders

    def refused(self, number: int, words: Iterable[str]) -> None:
        """A worker says why it can't start. It ends next."""
        self._workers[number].words = tuple(words)

    def ended(self, number: int, status: int, now: float) -> list[Order]:
        """A worker's process is over; `status` is negative where a signal ended it."""
        worker = self._workers[number]
        if self._phase is Phase.STOPPING:
            worker.move(State.GONE, now)
            if status not in (0, -15):  # SIGTERM may come before it can be handled
                self._status = 1
            return self._all_gone()
        if worker.state is State.LEAVING:
            worker.move(State.WAITING, now)
            return [self._start(worker, now)]
        return self._failed(worker, status, now)

    def stop(self, now: float, *, notice: bool = True) -> list[Order]:
        """End all workers, together: one by one each would send its clients to the next."""
        if self._phase is Phase.STOPPING:
            return []
        self._move(Phase.STOPPING)
        self._rolling.clear()
        orders: list[Order] = []
        for each in self._workers.values():
            if each.state is State.WAITING:
                each.move(State.GONE, now)
            elif each.state in (State.STARTING, State.UP):
                self._leave(each, now)
                orders.append(End(each.number, notice))
        return orders + self._all_gone()

    def roll(self, now: float) -> list[Order]:
        """Restart one worker after the other; the next when the one before is up again."""
        if self._phase is not Phase.SERVING:
            return [Say(logging.WARNING, "no rolling restart: the service is not up")]
        if self._rolling:
            return [Say(logging.WARNING, "a rolling restart is under way already")]
        self._rolling.extend(self._workers)
        return [Say(logging.INFO, "rolling restart"), *self._roll_on(now)]

    def _roll_on(self, now: float) -> list[Order]:
        while self._rolling:
            worker = self._workers[self._rolling[0]]
            if worker.state is State.UP:
                if self._in(State.UP) == [worker] and len(self._workers) > 1:
                    return [
                        Say(
                            logging.WARNING,
                            "the rolling restart waits: no other worker is up",
                            {"worker": worker.number},
                        )
                    ]
                self._leave(worker, now)
                return [End(worker.number, notice=False)]
            self._rolling.popleft()  # it is starting anew anyway
        return [Say(logging.INFO, "rolling restart done")]

    def _failed(self, worker: _Worker, status: int, now: float) -> list[Order]:
        self.restarts += 1
        if worker.state is State.STARTING:
            worker.starts_failed += 1
        elif now - worker.since >= GOOD_SECONDS:
            worker.failures = 0
        pause = min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(worker.failures, 16))
        worker.failures += 1
        worker.move(State.WAITING, now)
        worker.due = now + pause
        fields: dict[str, Any] = {
            "worker": worker.number,
            "status": status,
            "again_in_seconds": pause,
        }
        if worker.words:
            fields["reason"] = list(worker.words)
        if self._is_hopeless(worker):
            self._status, self._error = (
                1,
                worker.words
                or (
                    f"Error: Worker {worker.number} ended {worker.starts_failed} times before it "
                    f"was ready ({_ending(status)}): the lines above may say why.",
                ),
            )
            return self.stop(now, notice=False)
        orders: list[Order] = [Say(logging.ERROR, "a worker has ended; it is restarted", fields)]
        if self._rolling and self._rolling[0] == worker.number:
            self._rolling.clear()
            orders.append(
                Say(
                    logging.ERROR,
                    "rolling restart given up: the others stay as they are",
                    {"worker": worker.number},
                )
            )
        return orders

    def _is_hopeless(self, worker: _Worker) -> bool:
        """Whether it is of no use to go on, which a worker that was never up says by its words."""
        if self._phase is Phase.BEGINNING:
            return bool(worker.words) or worker.starts_failed >= MOST_STARTS
        return worker.starts_failed >= MOST_STARTS and not self._in(State.UP)

    def _leave(self, worker: _Worker, now: float) -> None:
        worker.move(State.LEAVING, now)
        worker.due = now + self._patience

    def _start(self, worker: _Worker, now: float) -> Order:
        worker.move(State.STARTING, now)
        worker.sign, worker.silent, worker.words = now, 0, ()
        return Start(worker.number)

    def _all_gone(self) -> list[Order]:
        if all(each.state is State.GONE for each in self._workers.values()):
            return [Finish(self._status, self._error)]
        return []

    def _in(self, *states: State) -> list[_Worker]:
        return [each for each in self._workers.values() if each.state in states]


def _ending(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
