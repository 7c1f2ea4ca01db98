"""Which connection carries which views: one for each filter and rate, whatever their channels."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from telecast.client.connection.reports import Report
from telecast.client.faults import Closed, Unreachable
from telecast.client.link import Link
from telecast.client.stream import Stream
from telecast.client.table import Table
from telecast.client.wanted import Selection, Values, refined, selection_of

Kind = tuple[Selection, float | None]
"""The filter, and the most batches a second."""
OpenStream = Callable[[Kind, list[str], Callable[[Report], None]], Stream]
Allow = Callable[[str, Values], Awaitable[Any]]


class Links:
    """Owns the connections of one client's views."""

    def __init__(self, open_stream: OpenStream, allow: Allow, patience: float) -> None:
        """`allow` asks whether the key may read a selection; `patience` is in seconds."""
        self.allow = allow
        self.patience = patience
        self._open_stream = open_stream
        self._links: dict[Kind, Link] = {}
        self._ending: set[Link] = set()

    def __len__(self) -> int:
        """How many there are that may be joined."""
        return len(self._links)

    def of(self, kind: Kind) -> Link:
        """The link of this kind, a new one if there is none."""
        link = self._links.get(kind)
        if link is None:

            def open_stream(channels: list[str], report: Callable[[Report], None]) -> Stream:
                return self._open_stream(kind, channels, report)

            link = self._links[kind] = Link(open_stream, self._ended)
        return link

    def becomes(self, link: Link, kind: Kind) -> bool:
        """Whether the link may be of this kind from now on: there must be no other."""
        if link.over or kind in self._links:
            return False
        self._links = {(kind if each is link else k): each for k, each in self._links.items()}
        return True

    def _ended(self, link: Link) -> None:
        kept = {kind: each for kind, each in self._links.items() if each is not link}
        if len(kept) < len(self._links):
            self._links = kept
            self._ending.add(link)
            link.when_closed(self._ending.discard)

    async def close(self) -> None:
        """End them all and wait until their connections are closed."""
        links = [*self._links.values(), *self._ending]
        self._links = {}
        for link in links:
            await link.close()


class Seat:
    """One view's place: the link that it is on and its table there. `leave` it once."""

    def __init__(self, links: Links, channel: str, kind: Kind) -> None:
        self._links = links
        self._channel = channel
        self._kind = kind
        self._link = links.of(kind)
        self._left = False
        self._turn = asyncio.Lock()
        """One change of the filter after the other."""

    @property
    def filters(self) -> Mapping[str, tuple[str, ...]]:
        return dict(self._kind[0])

    async def take(self) -> Table:
        """The table, once it is complete. Raises what keeps it from that."""
        return await self._complete(self._link)

    def leave(self) -> None:
        self._left = True
        self._link.leave(self._channel)

    async def refine(self, add: Values, remove: Values) -> Table:
        """The table of the new filter, once it is complete: this one, or that of another link.

        Raises ValueError, Refused, Unreachable, and Closed where the view is closed meanwhile.
        """
        async with self._turn:
            self._check_open()
            chosen = selection_of(refined(self.filters, add, remove))
            if add:
                await self._links.allow(self._channel, dict(chosen))
                self._check_open()
            kind = chosen, self._kind[1]
            link = self._link
            if link.users == 1 and self._links.becomes(link, kind):
                self._kind = kind
                table = await link.refine(self._channel, add, remove)
                await self._settle(table)
                self._check_open()
                return table
            other = self._links.of(kind)
            table = await self._complete(other)
            try:
                self._check_open()
            except Closed:
                other.leave(self._channel)
                raise
            link.leave(self._channel)
            self._link, self._kind = other, kind
            return table

    def _check_open(self) -> None:
        if self._left:
            raise Closed

    async def _complete(self, link: Link) -> Table:
        table = await link.join(self._channel)
        try:
            await self._settle(table)
        except BaseException:
            link.leave(self._channel)
            raise
        return table

    async def _settle(self, table: Table) -> None:
        patience = self._links.patience
        try:
            async with asyncio.timeout(patience):
                await table.settled.wait()
        except TimeoutError:
            why = f"{self._channel!r} did not become complete within {patience:g} s."
            raise Unreachable(why) from None
        if table.fault is not None:
            raise table.fault
