"""An event loop whose time is virtual and whose order is a seed's, and the clock that all read.

What asyncio promises holds: `call_soon` is first in, first out, and no timer fires before its time.
What it does not promise is up to the seed: in which turn a socket's readiness is seen, and in which
order what became ready or due at the same moment runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

from telecast.clients import Clients
from telecast.fanout.wheel import LoopScheduler
from tests.support.fakes import VirtualLoop

if TYPE_CHECKING:
    from tests.simulation.ends import Descriptor

BIRTH = 1_790_000_000
"""Seconds since 1970 at the loop's zero."""
ENDLESS = 20_000
"""Turns without any time in between after which the service is taken to spin."""
LATE = 0.15
"""How often, when shuffled, a socket's readiness is seen a turn later."""


class Loop(VirtualLoop):
    """`shuffled`: the seed orders what asyncio does not. `glance`: seconds that a look at the clock
    takes, so that work costs time."""

    def __init__(self, rng: random.Random, *, shuffled: bool, glance: float) -> None:
        super().__init__()
        self._instant.select = self._wait  # type: ignore[method-assign]
        self._rng, self._shuffled, self._glance = rng, shuffled, glance
        self._sockets: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._number = 0
        self._trace = hashlib.sha256()
        self.turns = self._idle_turns = 0
        self._turned_at = 0.0
        self.tasks: list[asyncio.Task[Any]] = []
        """Those that are not done, oldest first: `all_tasks` has no order."""
        self.counts: Counter[str] = Counter()
        """What happened how often."""
        self.files: dict[int, Descriptor] = {}
        """All that were ever open, by their numbers; none is used twice."""
        self.set_task_factory(self._begin_task)

    # --- what happened

    def note(self, *what: object) -> None:
        """Part of what a replay must repeat."""
        self._trace.update(repr((round(self.time(), 6), *what)).encode())

    @property
    def trace(self) -> str:
        return self._trace.hexdigest()

    # --- time

    def look(self) -> float:
        """What the service reads as its monotonic clock."""
        self.spend(self._glance)
        return self.time()

    def on_socket(self, delay: float, callback: Callable[..., object], *args: Any) -> None:
        """Have a socket become ready: no promise binds its order to anything else's."""
        self._number += 1
        heapq.heappush(self._sockets, (self.time() + delay, self._number, callback, args))

    def add_reader(self, fd: int, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        self._file(fd).watch("read", asyncio.Handle(callback, args, self))

    def remove_reader(self, fd: int) -> bool:  # type: ignore[override]
        return self._file(fd).watch("read", None)

    def add_writer(self, fd: int, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        self._file(fd).watch("write", asyncio.Handle(callback, args, self))

    def remove_writer(self, fd: int) -> bool:  # type: ignore[override]
        return self._file(fd).watch("write", None)

    def _file(self, fd: int) -> Descriptor:
        file = self.files.get(fd)
        if file is None or file.lent:
            self.fail(AssertionError(f"{fd} is no descriptor of the service's own"))
        return self.files[fd]

    def after_turns(self, turns: int, callback: Callable[[], object]) -> None:
        """Run it when the loop has turned so often: at whatever await a task then stands."""
        if turns <= 0:
            callback()
        else:
            self.call_soon(self.after_turns, turns - 1, callback)

    def _wait(self, timeout: float | None = None) -> list[Any]:
        if timeout is None and not self._sockets:
            raise AssertionError("nothing will ever happen again: somebody waits for ever")
        until = float("inf") if timeout is None else self.time() + max(0.0, timeout)
        if self._sockets:
            until = min(until, self._sockets[0][0])
        self._instant.now = max(self.time(), until)
        return []

    def _process_events(self, event_list: Any) -> None:
        """What has become ready or due since the last turn is queued now."""
        self.turns += 1
        self._idle_turns = self._idle_turns + 1 if self.time() == self._turned_at else 0
        self._turned_at = self.time()
        if self._idle_turns > ENDLESS:
            raise AssertionError(f"turning on the spot: {list(self._ready)[:3]}")  # type: ignore[attr-defined]
        fresh: list[asyncio.Handle] = []
        late = []
        while self._sockets and self._sockets[0][0] <= self.time():
            ready = heapq.heappop(self._sockets)
            if self._shuffled and self._rng.random() < LATE:
                late.append(ready)
            else:
                fresh.append(asyncio.Handle(ready[2], ready[3], self))
        for ready in late:
            heapq.heappush(self._sockets, ready)
        if self._shuffled:
            # uvloop runs timers before sockets, asyncio after; equal timers have no order at all.
            scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
            while scheduled and scheduled[0].when() <= self.time():
                timer = heapq.heappop(scheduled)
                timer._scheduled = False  # type: ignore[attr-defined]
                fresh.append(timer)
            self._rng.shuffle(fresh)
        self._ready.extend(fresh)  # type: ignore[attr-defined]

    # --- tasks

    def _begin_task(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **how: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=loop, **how)
        self.tasks.append(task)
        task.add_done_callback(self.tasks.remove)
        return task

    def tasks_of(self, owner: object) -> list[asyncio.Task[Any]]:
        """Tasks that run a method of this object, oldest first."""
        found = []
        for task in self.tasks:
            frame = getattr(task.get_coro(), "cr_frame", None)
            if frame is not None and frame.f_locals.get("self") is owner:
                found.append(task)
        return found


class _Patched:
    """A module with some of its names replaced."""

    def __init__(self, module: ModuleType, **names: Any) -> None:
        self._module = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@contextmanager
def virtual_world(loop: Loop, rng: random.Random) -> Iterator[None]:
    """All of the service reads this loop's clock, and this seed's dice."""
    clock = _Patched(
        time,
        monotonic=loop.look,
        time=lambda: BIRTH + loop.time(),
        time_ns=lambda: int((BIRTH + loop.time()) * 1e9),
    )
    named = {
        time: clock,
        random: _Patched(random, randint=rng.randint, uniform=rng.uniform),
        secrets: _Patched(
            secrets,
            choice=rng.choice,
            token_hex=lambda size=32: rng.randbytes(size).hex(),
            token_bytes=lambda size=32: rng.randbytes(size),
        ),
    }
    with mock.patch.object(LoopScheduler, "time", staticmethod(loop.look)):
        patches = [mock.patch.dict(Clients.__init__.__kwdefaults__, clock=loop.look)]
        for module in [m for n, m in sys.modules.items() if n.startswith("telecast.")]:
            patches += [
                mock.patch.object(module, name, named[was])
                for name, was in vars(module).items()
                if isinstance(was, ModuleType) and was in named
            ]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()
