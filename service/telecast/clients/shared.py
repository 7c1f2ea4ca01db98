"""What the nodes of one journal must know of each other's clients: bans, and who took whose place.

Both go through the log. A ban is a note, so it also reaches a node that is away just now, and a
restart does not end it. A client that takes the place of another of its name is a signal: a note
that leaves nothing behind. Its place in the log decides which of two that come at the same moment
stays. A newcomer whose own signal has not come back yet is not ended by one that stands before it:
its signal will stand behind, and ends the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Set

import orjson

from telecast.clients.bans import Banned
from telecast.clients.client import Client
from telecast.clients.registry import Clients
from telecast.errors import JournalUnavailable
from telecast.journal.ageing import Ageing, monotonic
from telecast.journal.base import Batch, Journal, Note, read_book
from telecast.journal.books import follow_book

log = logging.getLogger(__name__)

BANS = "ban"
"""[key id, clientId or null] to the second since 1970 at which it ends, and how long it is."""
TAKEN = "taken"
"""Signals: [key id, clientId, transport, connection id]."""
MOST_SIGNALS = 4096
"""Signals that wait for the log; more clients than that take no other's place at other nodes."""


class SharedClients:
    """A ban that comes while the service runs is as long here as where it was made, whatever the
    clocks say. After a start its end is looked up by the journal's time, which is believed as
    `ageing` says, from the newest commit on: a clock that is far ahead lets nobody in before it has
    proved steady, and no ban is longer than it was made. `elapsed` gives seconds of monotonic time.
    """

    def __init__(
        self,
        journal: Journal,
        clients: Clients,
        channels: Collection[str],
        *,
        elapsed: Callable[[], float] = monotonic,
    ) -> None:
        """`channels` are those of which the newest commit may be."""
        self._journal = journal
        self._clients = clients
        self._channels = channels
        self._elapsed = elapsed
        self._ageing = Ageing(aloud=False)
        self._opened = False
        self._doubtful: dict[str, float] = {}
        """Bans that are over by the clock of this start alone, and when each ends, in seconds since
        1970."""
        self._bans: dict[str, float] = {}
        """What is in the book, to when it is over for certain, by `elapsed`."""
        self._signals: dict[asyncio.Task[None], None] = {}

    async def open(self) -> None:
        """Let the bans hold that are kept. Raises JournalUnavailable and JournalCorrupt."""
        self._ageing.start(self._journal.now(), self._elapsed(), await self._newest())
        await follow_book(self._journal, BANS, self._on_ban)
        self._opened = True
        self._journal.books.follow(TAKEN, self._on_taken)

    async def _newest(self) -> float | None:
        """When the newest commit was that is kept, of a ban or a channel. By the bans alone every
        start would be long after it, and those that are over would hold again for a while."""
        kept = map(orjson.loads, (await read_book(self._journal, BANS)).values())
        found = [until - seconds for until, seconds in kept]
        last = await self._journal.read(self._channels, max(0, self._journal.head - 1), 1)
        return max([*found, *(entry.timestamp / 1000 for entry in last.entries)], default=None)

    async def ban(self, banned: Set[Banned], seconds: float) -> None:
        """Refuse each key and clientId, here at once, and at every node. Raises PeerFault, and
        bans nobody. Where the journal takes nothing the ban holds here, and the log says so."""
        self._clients.ban(banned, seconds)
        for each in banned:
            self._doubtful.pop(_key(each), None)
        value, elapsed = orjson.dumps([self._journal.now() + seconds, seconds]), self._elapsed()
        over = [key for key, until in self._bans.items() if until <= elapsed]
        notes = [Note(BANS, _key(each), value) for each in banned]
        notes += [Note(BANS, key, None) for key in over]
        if not notes:
            return
        try:
            await self._journal.append(Batch(notes=tuple(notes)))
        except JournalUnavailable as fault:
            log.error(  # noqa: TRY400
                "a ban holds at this node alone, until it restarts",
                extra={"reason": fault.message},
            )

    def _on_ban(self, note: Note) -> None:
        self._doubtful.pop(note.key, None)
        if note.value is None:
            self._bans.pop(note.key, None)
            return
        until, seconds = orjson.loads(note.value)
        self._bans[note.key] = self._elapsed() + seconds
        left = seconds
        if not self._opened:
            left = min(seconds, until - self._believed())
            if left > 0 and until <= self._journal.now():
                self._doubtful[note.key] = until
        if left > 0:
            self._clients.ban_by_name(_banned(note.key), left)

    def look(self) -> None:
        """Lift bans that are over by a clock that has proved steady by now. Called now and then."""
        if not self._doubtful:
            return
        believed = self._believed()
        for key in [key for key, until in self._doubtful.items() if until <= believed]:
            del self._doubtful[key]
            self._clients.lift_ban(_banned(key))

    def _believed(self) -> float:
        return self._ageing.at(self._journal.now(), self._elapsed()).before

    # --- whose place is taken

    def supersede(self, newcomer: Client) -> None:
        """End the older WebSockets of the same principal and clientId, at every node."""
        self._clients.supersede(newcomer)
        if not self._journal.shared or newcomer.client_id is None:
            return
        if len(self._signals) >= MOST_SIGNALS:
            log.warning("a client does not take another's place at other nodes: too many at once")
            return
        newcomer.taking = True
        task = asyncio.create_task(self._signal(newcomer))
        self._signals[task] = None
        task.add_done_callback(lambda done: self._signals.pop(done, None))

    async def _signal(self, newcomer: Client) -> None:
        place = [
            *(newcomer.principal.key_id, newcomer.client_id),
            *(newcomer.transport, newcomer.connection_id),
        ]
        try:
            await self._journal.append(Batch(notes=(Note(TAKEN, _key(place), None),)))
        except JournalUnavailable as fault:
            log.debug("other nodes were not asked to end a namesake", extra={"why": fault.message})
        finally:
            newcomer.taking = False

    def _on_taken(self, note: Note) -> None:
        key_id, client_id, transport, connection_id = orjson.loads(note.key)
        for client in self._clients.named(key_id, client_id):
            if client.connection_id == connection_id:
                client.taking = False
            elif client.transport == transport and not client.taking:
                self._clients.replace(client)

    def end(self) -> None:
        for task in tuple(self._signals):
            task.cancel()


def _banned(key: str) -> Banned:
    key_id, client_id = orjson.loads(key)
    return key_id, client_id


def _key(parts: Iterable[str | None] | Banned) -> str:
    return orjson.dumps(list(parts)).decode()
