"""A channel's rows as a mapping that keeps itself current, and says when it can't.

What holds: `View` shows the rows of one complete state (`table` makes it up), and says by `state`
what they are worth. Rows stay as they were last known where that is not `live`: dim them, don't
trade on them.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from telecast.client.links import Seat
from telecast.client.table import State, Table
from telecast.client.wanted import Filter, lists_of
from telecast.errors import TelecastError

RowT = TypeVar("RowT", bound=Mapping[str, Any], covariant=True)

SPARE_KEYS = 10_000
"""Changed keys beyond the rows there are that wait for one reader; then it is to look at all."""


@dataclass(frozen=True, slots=True)
class Update:
    """What has changed in a view since the last one: the keys, and the state as it is now.

    The first one names all rows. `everything` says so: then `keys` are those of all rows there
    are, and what you hold of any other is gone. A slow reader may get such a one later too.
    """

    keys: frozenset[str]
    state: State
    everything: bool = False


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

    def _turn(self, table: Table) -> None:
        """Read another table from now on, all of it first."""
        self._table.drop(self)
        self._table = table
        table.add(self)
        self._keys, self._everything = set(), True
        self._event.set()

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

    def __init__(self, table: Table, seat: Seat) -> None:
        """Made by `Client.view`."""
        self._table = table
        self._seat = seat
        self._open = True
        self._readers: weakref.WeakSet[Changes] = weakref.WeakSet()

    @property
    def channel(self) -> str:
        return self._table.channel

    @property
    def filters(self) -> Mapping[str, tuple[str, ...]]:
        """Field to the values that pass."""
        return self._seat.filters

    @property
    def state(self) -> State:
        """What the rows are worth now. It leaves `live` within two seconds of a lost connection."""
        return self._table.state if self._open else State.DISCONNECTED

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
        reader = Changes(self._table, lambda: self._open)
        self._readers.add(reader)
        return reader

    async def refine(
        self,
        *,
        add: Mapping[str, Filter] | None = None,
        remove: Mapping[str, Filter] | None = None,
    ) -> None:
        """Take filter values in and let others go: `add={"traderId": "t2"}`.

        Returns once the rows are those of the new filter; up to then they stay those of the old
        one. A WebSocket sends only the difference; an event stream is opened anew. A view that
        shares its connection moves to another one.

        Raises ValueError for a field that the view is not filtered by, or that would have no value
        left, and Refused where the key may not read it: then nothing has changed. More values than
        a stream may have end the view: `fault` says so. Raises Unreachable where it took longer
        than the client's `patience`; it may become so later. `filters` says what it asks for.
        """
        table = await self._seat.refine(lists_of(add or {}), lists_of(remove or {}))
        if table is not self._table:
            self._table = table
            for reader in self._readers:
                reader._turn(table)

    def close(self) -> None:
        """End it: the rows stay as they are, `state` is `disconnected`. Twice is no error."""
        if self._open:
            self._open = False
            self._seat.leave()
            self._table._tell(set())

    def __getitem__(self, key: str) -> RowT:
        return cast(RowT, self._table.rows[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.rows)

    def __len__(self) -> int:
        return len(self._table.rows)

    def __repr__(self) -> str:
        return f"<View of {self.channel}: {len(self)} rows, {self.state}>"
