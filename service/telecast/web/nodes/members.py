"""Which nodes there are, also those that have gone without a goodbye: a book of the journal.

A node writes where it runs (its host and its copy) as soon as it serves, once an hour after that,
and erases it on its way out. So a note without a node that answers is one that was killed, or is
cut off; it stays for a day, or until the node comes back to its place or is forgotten. What would
break it: to know nodes by their names alone, which each start makes anew, so that whoever was
restarted after a crash would be missed for a day.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from telecast import __version__
from telecast.errors import JournalUnavailable
from telecast.journal.base import Batch, Journal, Note
from telecast.journal.books import follow_book
from telecast.journal.peers import SILENT_SECONDS, Peer

log = logging.getLogger(__name__)

BOOK = "members"
"""Place to [node, version, when it wrote that]."""
REFRESH_SECONDS = 3600.0
KEPT_SECONDS = 24 * 3600.0 + REFRESH_SECONDS
"""How long one that is gone is kept, after what it wrote last."""
MOST = 256
"""Places. Of more the ones that wrote longest ago go."""
LEAVE_SECONDS = 1.0
"""How long a goodbye may take."""


@dataclass(frozen=True, slots=True)
class Member:
    place: str
    node: str
    version: str
    at: float
    """When it was last known to be there, in seconds since 1970."""


def place_of(copy: Path) -> str:
    """Names this host and this copy, and gives neither away."""
    where = f"{socket.gethostname()}:{copy.expanduser().absolute()}"
    return hashlib.sha256(where.encode()).hexdigest()[:16]


class Members:
    """Owns the book. Where the journal is one process's alone, there is nobody to know of."""

    def __init__(self, journal: Journal, copy: Path) -> None:
        self.place = place_of(copy)
        self._journal = journal
        self._kept: dict[str, Member] = {}
        self._seen: dict[str, float] = {}
        """When each place was last there, as this node has seen it."""
        self._leaving = False

    async def open(self) -> None:
        """Raises JournalUnavailable and JournalCorrupt."""
        if self._journal.shared:
            await follow_book(self._journal, BOOK, self._take)

    def _take(self, note: Note) -> None:
        if note.value is None:
            self._kept.pop(note.key, None)
            self._seen.pop(note.key, None)
            return
        node, version, at = orjson.loads(note.value)
        self._kept[note.key] = Member(note.key, node, version, at)

    async def look(self) -> None:
        """Note who is there, and that this node is, up to its goodbye. Called every few seconds;
        never raises."""
        if not self._journal.shared or self._leaving:
            return
        now = self._journal.now()
        for peer in self._journal.peers.others():
            if (place := peer.facts.get("place")) in self._kept:
                self._seen[place] = max(self._seen.get(place, 0.0), now - peer.silent)
        notes = [*self._mine(now), *self._over(now)]
        if notes:
            with suppress(JournalUnavailable):  # at the next look, then
                await self._journal.append(Batch(notes=tuple(notes)))

    def _mine(self, now: float) -> list[Note]:
        node, mine = self._journal.peers.node, self._kept.get(self.place)
        if mine is not None and mine.node == node and now - mine.at < REFRESH_SECONDS:
            return []
        return [Note(BOOK, self.place, orjson.dumps([node, __version__, now]))]

    def _over(self, now: float) -> list[Note]:
        others = sorted((m for m in self._kept.values() if m.place != self.place), key=_at)
        over = [m for m in others if now - m.at > KEPT_SECONDS] or others[
            : max(0, len(others) - MOST)
        ]
        return [Note(BOOK, member.place, None) for member in over]

    def gone(self) -> list[Member]:
        """Those that do not say that they are there, though they said no goodbye."""
        peers = self._journal.peers
        there = {each.node for each in peers.others() if each.silent < SILENT_SECONDS}
        there.add(str(peers.node))
        return [
            Member(m.place, m.node, m.version, max(m.at, self._seen.get(m.place, 0.0)))
            for m in sorted(self._kept.values(), key=_at)
            if m.node not in there
        ]

    def misses(self, peer: Peer) -> bool:
        """Whether one that is silent should be there: nobody took its place, or forgot it."""
        place = peer.facts.get("place")
        kept = self._kept.get(str(place))
        return place is None or (kept is not None and kept.node == peer.node)

    async def forget(self, node: str) -> bool:
        """At all nodes; False where no node of this name has gone. Raises JournalUnavailable."""
        places = [each.place for each in self.gone() if each.node == node]
        if places:
            await self._journal.append(Batch(notes=tuple(Note(BOOK, p, None) for p in places)))
        return bool(places)

    async def leave(self) -> None:
        """Say goodbye. Where the log is away the others will miss this node for a while."""
        self._leaving = True  # a look that came later would take it back
        mine = self._kept.get(self.place)
        if mine is None or mine.node != self._journal.peers.node or self._journal.failure():
            return
        with suppress(JournalUnavailable, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._journal.append(Batch(notes=(Note(BOOK, self.place, None),)))


def _at(member: Member) -> float:
    return member.at
