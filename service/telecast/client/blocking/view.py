"""A view that is read from another thread than the one that keeps it current."""

from __future__ import annotations

import asyncio
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from datetime import datetime
from typing import Any, Generic, TypeVar

from telecast.client import view as asynchronous
from telecast.client.blocking.loop import LoopThread
from telecast.client.faults import Closed
from telecast.client.table import State
from telecast.client.view import Update
from telecast.client.wanted import Filter
from telecast.errors import TelecastError

RowT = TypeVar("RowT", bound=Mapping[str, Any], covariant=True)


class View(Mapping[str, RowT], Generic[RowT]):
    """The current rows of one channel under one filter, by the row's key. Read only.

    Another thread keeps it current: two accesses may see two states of the table. `rows()`, and so
    `items()`, `values()` and a loop over the keys, show one state. After the end of its client
    the rows stay as they were.
    """

    def __init__(self, loop: LoopThread, view: asynchronous.View[RowT], owner: object) -> None:
        """Made by `Client.view`; the client lives as long as its views."""
        self._owner = owner
        self._loop = loop
        self._view = view
        self._reader: asynchronous.Changes | None = None

    def rows(self) -> dict[str, RowT]:
        """A copy of the whole table: one state of it."""
        try:
            return self._loop.do(lambda: dict(self._view))
        except Closed:
            return dict(self._view)

    @property
    def channel(self) -> str:
        return self._view.channel

    @property
    def filters(self) -> Mapping[str, tuple[str, ...]]:
        """Field to the values that pass."""
        return self._view.filters

    @property
    def state(self) -> State:
        """What the rows are worth now. It leaves `live` within two seconds of a lost connection."""
        return self._view.state

    @property
    def since(self) -> datetime:
        """When `state` became what it is (UTC, this machine's clock)."""
        return self._view.since

    @property
    def position(self) -> str | None:
        """Up to where the rows are known: a position, None before the first."""
        return self._view.position

    @property
    def fault(self) -> TelecastError | None:
        """Why it will not become live again, such as a key that was revoked; None while it may."""
        return self._view.fault

    def refine(
        self,
        *,
        add: Mapping[str, Filter] | None = None,
        remove: Mapping[str, Filter] | None = None,
    ) -> None:
        """Take filter values in and let others go; returns once the rows are those."""
        self._loop.call(self._view.refine(add=add, remove=remove))

    def wait(self, seconds: float | None = None) -> Update | None:
        """Wait for the next Update; None where none has come within `seconds`.

        The first one names all rows. Changes that come while you handle one are put together in
        the next. Raises `fault` when the view has failed for good, and Closed after its end.
        """
        if self._reader is None:
            self._reader = self._loop.do(lambda: self._view.changed)
        update = self._loop.call(_next(self._reader, seconds))
        if update is _END:
            raise Closed
        return update

    @property
    def changed(self) -> Iterator[Update]:
        """Yields an Update with all rows, and then one for each change of rows or state.

        Each access gives an iterator of its own. It ends when the view or its client is closed,
        and raises `fault` when the view has failed for good.
        """
        try:
            reader = self._loop.do(lambda: self._view.changed)
            while (update := self._loop.call(_next(reader, None))) is not _END:
                if update is not None:
                    yield update
        except Closed:
            return

    def close(self) -> None:
        """End it: the rows stay as they are, `state` is `disconnected`. Twice is no error."""
        try:
            self._loop.do(self._view.close)
        except Closed:
            return

    def keys(self) -> KeysView[str]:
        return self.rows().keys()

    def items(self) -> ItemsView[str, RowT]:
        return self.rows().items()

    def values(self) -> ValuesView[RowT]:
        return self.rows().values()

    def __getitem__(self, key: str) -> RowT:
        return self._view[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows())

    def __len__(self) -> int:
        return len(self._view)

    def __repr__(self) -> str:
        return f"<View of {self.channel}: {len(self)} rows, {self.state}>"


_END = Update(frozenset(), State.DISCONNECTED)
"""Stands for the end of a view: a task can't raise what ends an iteration."""


async def _next(reader: asynchronous.Changes, seconds: float | None) -> Update | None:
    try:
        async with asyncio.timeout(seconds):
            return await anext(reader)
    except TimeoutError:
        return None
    except StopAsyncIteration:
        return _END
