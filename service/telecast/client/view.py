"""A channel's rows as a mapping that keeps itself current, and says when it can't.

What holds: `View` shows the rows of one complete state. A snapshot is put together beside it and
takes its place at once when it is whole, so that no reader ever sees half a table. `state` is
`live` only while the connection answers, the table is complete and its publishers are not overdue.
Rows stay as they were last known in every other state: dim them, don't trade on them.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Flag, StrEnum, auto
from typing import Any, Generic, TypeVar, cast

from telecast.errors import TelecastError

RowT = TypeVar("RowT", bound=Mapping[str, Any], covariant=True)

SPARE_KEYS = 10_000
"""Changed keys beyond the rows there are that wait for one reader; then it is to look at all."""


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


@dataclass(frozen=True, slots=True)
class Update:
    """What has changed in a view since the last one: the keys, and the state as it is now.

    The first one names all rows. `everything` says so: then `keys` are those of all rows there
    are, and what you hold of any other is gone. A slow reader may get such a one later too.
    """

    keys: frozenset[str]
    state: State
    everything: bool = False


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
        """Set once it has been live, or has failed for good."""
        self._now = now
        self._load = _Load.AWAY
        self._fresh: dict[str, Mapping[str, Any]] = {}
        self._doubts = _Doubt(0)
        self._readers: weakref.WeakSet[Changes] = weakref.WeakSet()

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

    def add(self, reader: Changes) -> None:
        self._readers.add(reader)

    def _tell(self, keys: set[str]) -> None:
        for reader in self._readers:
            reader._note(keys)


class Changes:
    """An async iterator of Updates. A slow reader gets fewer and larger ones; none grows for ever.

    Raises what has ended the view for good, StopAsyncIteration after the view was closed.
    """

    def __init__(self, table: Table, open_: Callable[[], bool]) -> None:
        self._table = table
        self._open = open_
        self._keys: set[str] = set()
        self._everything = True
        self._event = asyncio.Event()
        self._event.set()
        table.add(self)

    def _note(self, keys: set[str]) -> None:
        self._event.set()
        if self._everything:
            return
        self._keys |= keys
        if len(self._keys) > len(self._table.rows) + SPARE_KEYS:
            self._keys, self._everything = set(), True

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> Update:
        while True:
            if not self._open():
                raise StopAsyncIteration
            if self._event.is_set():
                break
            if self._table.fault is not None:
                raise self._table.fault
            await self._event.wait()
        self._event.clear()
        keys, self._keys = self._keys, set()
        everything, self._everything = self._everything, False
        named = frozenset(self._table.rows if everything else keys)
        return Update(named, self._table.state, everything)


class View(Mapping[str, RowT], Generic[RowT]):
    """The current rows of one channel under one filter, by the row's key. Read only.

    It changes between two awaits of yours and never within them: what you compute without
    awaiting is computed from one state of the table. Rows are the payloads as they were sent
    (decimals and instants are strings) and belong to the view: don't change them.

    `close()` ends it, as does the end of its client. A row is replaced as a whole, so one that
    you hold keeps its values.
    """

    def __init__(
        self, table: Table, filters: Mapping[str, tuple[str, ...]], close: Callable[[], None]
    ) -> None:
        """Made by `Client.view`."""
        self._table = table
        self._filters = filters
        self._close: Callable[[], None] | None = close

    @property
    def channel(self) -> str:
        return self._table.channel

    @property
    def filters(self) -> Mapping[str, tuple[str, ...]]:
        """Field to the values that pass."""
        return self._filters

    @property
    def state(self) -> State:
        """What the rows are worth now. It leaves `live` within two seconds of a lost connection."""
        return State.DISCONNECTED if self._close is None else self._table.state

    @property
    def since(self) -> datetime:
        """When `state` became what it is (UTC, this machine's clock)."""
        return self._table.since

    @property
    def position(self) -> str | None:
        """Up to where the rows are known: a position, None before the first."""
        return self._table.position

    @property
    def fault(self) -> TelecastError | None:
        """Why it will not become live again, such as a key that was revoked; None while it may."""
        return self._table.fault

    @property
    def changed(self) -> Changes:
        """Yields an Update with all rows, and then one for each change of rows or state.

        Each access gives an iterator of its own. Changes that come while you handle an Update are
        put together in the next one. It raises `fault` when the view has failed for good.
        """
        return Changes(self._table, lambda: self._close is not None)

    def close(self) -> None:
        """End it: the rows stay as they are, `state` is `disconnected`. Twice is no error."""
        close, self._close = self._close, None
        if close is not None:
            close()
            self._table._tell(set())

    def __getitem__(self, key: str) -> RowT:
        return cast(RowT, self._table.rows[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.rows)

    def __len__(self) -> int:
        return len(self._table.rows)

    def __repr__(self) -> str:
        return f"<View of {self.channel}: {len(self)} rows, {self.state}>"
