"""One selection's rows, as the connection that brings them makes them up.

What holds: `rows` is one complete state. A snapshot, or what a new filter takes, is put together
beside it and takes its place at once when it is whole, so that no reader ever sees half a table.
`state` is `live` only while the connection answers, the table is complete and its publishers are
not overdue.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Flag, StrEnum, auto
from typing import Any, Protocol

from telecast.errors import TelecastError


class State(StrEnum):
    """What a view's rows are worth now.

    - `LOADING` ("loading"): connected; the rows, or what was missed, are on their way.
    - `LIVE` ("live"): complete, and changes come as they happen.
    - `STALE` ("stale"): complete, but nothing proves that it is current: the line is silent, or
      the channel's publishers are overdue.
    - `DISCONNECTED` ("disconnected"): no connection; it is tried again unless `fault` says why
      not.
    """

    LOADING = "loading"
    LIVE = "live"
    STALE = "stale"
    DISCONNECTED = "disconnected"


class _Load(StrEnum):
    """How far a table has come on this connection."""

    AWAY = "no connection"
    WAITING = "connected, its snapshot or resume has not begun"
    FILLING = "its snapshot comes"
    RESUMING = "what it missed comes"
    WHOLE = "complete"


_ANYWHERE = frozenset({_Load.AWAY, _Load.WAITING, _Load.FILLING, _Load.RESUMING})
_MOVES: Mapping[_Load, frozenset[_Load]] = {
    _Load.AWAY: _ANYWHERE,
    _Load.WAITING: _ANYWHERE,
    _Load.FILLING: _ANYWHERE,
    _Load.RESUMING: _ANYWHERE | {_Load.WHOLE},
    _Load.WHOLE: _ANYWHERE,
}
"""The service may begin anew at any time. Complete is only what came to the end of its changes."""


class _Doubt(Flag):
    """Why nothing proves that a complete table is current."""

    SILENT = auto()
    """The connection does not answer."""
    OVERDUE = auto()
    """The channel's publishers are late, as the service says."""


class Reader(Protocol):
    """Who is to know what changes in a table."""

    def _note(self, keys: set[str]) -> None: ...


class Table:
    """One selection's rows, written by its connection alone and read by its views."""

    def __init__(self, channel: str, now: Callable[[], datetime]) -> None:
        self.channel = channel
        self.rows: dict[str, Mapping[str, Any]] = {}
        self.state = State.DISCONNECTED
        self.since = now()
        self.position: str | None = None
        self.fault: TelecastError | None = None
        self.settled = asyncio.Event()
        """Set once it has been live since its filter changed last, has failed for good, or is had
        by nobody any more."""
        self._now = now
        self._load = _Load.AWAY
        self._fresh: dict[str, Mapping[str, Any]] = {}
        self._doubts = _Doubt(0)
        self._readers: weakref.WeakSet[Reader] = weakref.WeakSet()

    # --- its connection's side

    def connected(self) -> None:
        """What is overdue is said anew on each connection."""
        self._doubts = _Doubt(0)
        self._move(_Load.WAITING)

    def dropped(self) -> None:
        self._move(_Load.AWAY)

    def begin(self) -> None:
        """A snapshot comes: its rows, and no others, will be the table."""
        self._fresh = {}
        self._move(_Load.FILLING)

    def resume(self) -> None:
        """The rows stand; what was missed comes."""
        self._move(_Load.RESUMING)

    def refine(self) -> None:
        """Its filter changes: rows leave and come in beside the table, up to `live`."""
        if self.fault is None:
            self.settled.clear()
        if self._load is _Load.RESUMING or self._load is _Load.WHOLE:
            self._fresh = dict(self.rows)
            self._move(_Load.FILLING)

    def apply(self, op: str, key: str, row: Mapping[str, Any]) -> None:
        if self._load is _Load.WAITING or self._load is _Load.AWAY:
            return  # of a subscription before this one
        rows = self._fresh if self._load is _Load.FILLING else self.rows
        if op == "upsert":
            rows[key] = row
        elif rows.pop(key, None) is None:
            return
        if rows is self.rows:
            self._tell({key})

    def rows_end(self) -> None:
        """A snapshot that was coming is whole."""
        if self._load is _Load.FILLING:
            before, self.rows, self._fresh = self.rows, self._fresh, {}
            self._move(_Load.RESUMING)
            keys = before.keys() ^ self.rows.keys()
            self._tell({*keys, *(k for k, row in self.rows.items() if before.get(k) != row)})

    def live(self, position: str | None) -> None:
        """What was coming is complete; nothing for a table whose own has not begun."""
        self.rows_end()
        if self._load is _Load.RESUMING:
            self.position = position
            self.settled.set()
            self._move(_Load.WHOLE)

    def silent(self, *, silent: bool) -> None:
        """Whether the connection answers."""
        self._doubt(_Doubt.SILENT, there=silent)

    def overdue(self, *, overdue: bool) -> None:
        """Whether the channel's publishers are late, as the service says."""
        self._doubt(_Doubt.OVERDUE, there=overdue)

    def fail(self, fault: TelecastError) -> None:
        """There will be no more."""
        self.fault = fault
        self.settled.set()
        self._move(_Load.AWAY)
        self._tell(set())

    def let_go(self) -> None:
        """Nobody has it any more: who waits for it to settle waits no longer."""
        self.settled.set()

    def reached(self, position: str | None) -> None:
        """The rows are known up to here; None where a message proves no position."""
        self.position = position or self.position

    def _doubt(self, doubt: _Doubt, *, there: bool) -> None:
        self._doubts = self._doubts | doubt if there else self._doubts & ~doubt
        self._show()

    def _move(self, load: _Load) -> None:
        """The only way `_load` changes."""
        if load not in _MOVES[self._load]:
            raise AssertionError(f"no way from {self._load.name} to {load.name}")
        self._load = load
        self._show()

    def _show(self) -> None:
        """The state follows from what is known; `since` changes with it."""
        match self._load:
            case _Load.AWAY:
                state = State.DISCONNECTED
            case _Load.WHOLE:
                state = State.STALE if self._doubts else State.LIVE
            case _:
                state = State.LOADING
        if state is not self.state:
            self.state, self.since = state, self._now()
            self._tell(set())

    # --- its readers' side

    def add(self, reader: Reader) -> None:
        self._readers.add(reader)

    def drop(self, reader: Reader) -> None:
        self._readers.discard(reader)

    def _tell(self, keys: set[str]) -> None:
        for reader in self._readers:
            reader._note(keys)
