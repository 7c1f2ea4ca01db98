"""Connections before anybody knows who asks: how many there are, and how long one may be silent.

`clients` counts streams, knows their keys, and refuses with a reason. Here a connection is only a
socket: past these bounds it is closed without one, since to answer would cost what the bound saves.
"""

from __future__ import annotations

import contextlib
import itertools
import resource
from collections import Counter
from dataclasses import dataclass
from typing import Protocol, cast

from telecast.fanout.wheel import Scheduler

RESERVED_FILES = 64
"""Descriptors that clients never get: the journal's, the keys file's, the loop's own."""
BESIDE_STREAMS = 1_000
"""Connections an address may have beyond its streams, for requests."""
LOOK_SECONDS = 1.0
"""Between two looks at who is late; none while nobody is waited for."""

FULL, CROWDED, SILENT = "full", "crowded", "silent"
SLOW_HEAD, SLOW_BODY, MALFORMED = "slow_head", "slow_body", "malformed"
WHY = (FULL, CROWDED, SILENT, SLOW_HEAD, SLOW_BODY, MALFORMED)
"""Why the service closes a connection that is no stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketLimits:
    """`max_per_address` is None where a proxy stands in front: all come from its address."""

    max_sockets: int
    max_per_address: int | None
    first_byte_seconds: float
    head_seconds: float


class Waited(Protocol):
    """A connection as it is seen from here."""

    def late(self, why: str) -> None:
        """End it: SILENT, no byte came; SLOW_HEAD, its request did not become complete."""
        ...


class Admission:
    """Every connection from its accept to its end. All methods run on the loop and never await."""

    def __init__(self, limits: SocketLimits, scheduler: Scheduler) -> None:
        self.closed: Counter[str] = Counter()
        """Of WHY to connections, since the start."""
        self._limits = limits
        self._scheduler = scheduler
        self._addresses: dict[object, str | None] = {}
        self._by_address: Counter[str] = Counter()
        # In each the one that waits longest comes first, since all get the same time.
        self._silent: dict[Waited, float] = {}
        self._asking: dict[Waited, float] = {}
        self._due: float | None = None

    def __len__(self) -> int:
        return len(self._addresses)

    def count(self, why: str) -> None:
        """A connection is closed for one of the reasons in WHY."""
        self.closed[why] += 1

    def full(self) -> bool:
        """Whether there is no room for another; counted, for then it is closed."""
        if len(self) < self._limits.max_sockets:
            return False
        self.count(FULL)
        return True

    def arrive(self, one: Waited) -> None:
        """Accepted. With TLS it has to shake hands before it has entered."""
        self._addresses[one] = None
        self._wait(self._silent, one)

    def enter(self, one: Waited, address: str) -> bool:
        """Connected from this address; False when that has too many, and then it is closed."""
        most = self._limits.max_per_address
        if most is not None and self._by_address[address] >= most:
            self.count(CROWDED)
            return False
        self._addresses[one] = address
        self._by_address[address] += 1
        self._silent.pop(one, None)
        self._wait(self._silent, one)
        return True

    def begin(self, one: Waited) -> None:
        """Some of a request's head has come."""
        self._silent.pop(one, None)
        if one not in self._asking:
            self._wait(self._asking, one)

    def asked(self, one: Waited) -> None:
        """Its request's head is complete: nothing is waited for here until the next begins."""
        self._silent.pop(one, None)
        self._asking.pop(one, None)

    def pass_on(self, one: object, another: object) -> None:
        """The same connection has another owner, and is waited for no more."""
        if one in self._addresses:
            self._addresses[another] = self._addresses.pop(one)

    def leave(self, one: object) -> None:
        """It is gone. Harmless when it was reported already."""
        for line in (self._silent, self._asking):
            line.pop(cast(Waited, one), None)
        address = self._addresses.pop(one, None)
        if address is None:
            return
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _wait(self, line: dict[Waited, float], one: Waited) -> None:
        line[one] = self._scheduler.time()
        self._arm()

    def _arm(self) -> None:
        if self._due is None and (self._silent or self._asking):
            self._due = self._scheduler.time() + LOOK_SECONDS
            self._scheduler.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        now, due = self._scheduler.time(), self._due or 0.0
        self._due = None
        # After a stall of ours, what they sent may wait to be read: the next look decides.
        if now < due + LOOK_SECONDS:
            for line, seconds, why in (
                (self._silent, self._limits.first_byte_seconds, SILENT),
                (self._asking, self._limits.head_seconds, SLOW_HEAD),
            ):
                since = now - seconds
                late = list(itertools.takewhile(lambda item: item[1] <= since, line.items()))  # noqa: B023
                for one, _ in late:
                    self.count(why)
                    self.leave(one)
                    one.late(why)
        self._arm()


def sockets_allowed(wanted: int) -> int:
    """As many as are wanted (0: all that can be), but never what the limit of open files forbids.

    At that limit the kernel would close newcomers, and the journal could open no file either.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = max(1, files - RESERVED_FILES)
    return min(wanted, room) if wanted else room


def raise_open_files(sockets: int) -> None:
    """Make room for so many, as far as the system lets this user. Its default is often 1,024."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(most, sockets + RESERVED_FILES)
    if wanted > files:
        with contextlib.suppress(OSError, ValueError):  # macOS has a limit below its limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
