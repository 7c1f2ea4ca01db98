"""Sessions that were signed out: at one node is at all, and a restart brings none of them back."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from telecast.clients import Clients
from telecast.errors import Code, PeerFault
from telecast.journal.ageing import Ageing, monotonic
from telecast.journal.base import MAX_BATCH, Batch, Journal, Note, read_book
from telecast.journal.books import follow_book
from telecast.keys.tokens import OPERATOR, SESSION, Kind, Token, Tokens

BOOK = "signed-out"
"""Token id to [kind, key id, until when it is kept]. Tokens bounds how many one key can have."""
_KINDS: dict[str, Kind] = {kind.name: kind for kind in (SESSION, OPERATOR)}


class SignedOut:
    """The journal's book of them. What can count no more by its age is erased at each start.

    Age is that of `ageing`, after a start from the newest sign-out on: a clock that is far ahead
    erases nothing, or the session would be back once the clock is right.
    """

    def __init__(
        self,
        journal: Journal,
        tokens: Tokens,
        clients: Clients,
        *,
        now: Callable[[], float],
        elapsed: Callable[[], float] = monotonic,
    ) -> None:
        """`now` gives seconds since 1970, `elapsed` seconds of monotonic time."""
        self._journal = journal
        self._tokens = tokens
        self._clients = clients
        self._now = now
        self._elapsed = elapsed
        self._ageing = Ageing(aloud=False)

    async def open(self) -> None:
        """Read the book. Raises JournalUnavailable or JournalCorrupt."""
        kept = await read_book(self._journal, BOOK)
        ends = {token_id: _read(value) for token_id, value in kept.items()}
        newest = max((until - kind.seconds for kind, _, until in ends.values()), default=None)
        self._ageing.start(self._now(), self._elapsed(), newest)
        self._tokens.forget_by(self._believed)
        await follow_book(self._journal, BOOK, self._take)
        believed = self._believed()
        over = [
            Note(BOOK, token_id, None)
            for token_id, (_, _, until) in ends.items()
            if until < believed
        ]
        for first in range(0, len(over), MAX_BATCH):
            await self._journal.append(Batch(notes=tuple(over[first : first + MAX_BATCH])))

    def _take(self, note: Note) -> None:
        """A note has committed, here or at another node."""
        if note.value is None:
            return
        kind, key_id, until = _read(note.value)
        self._tokens.remember(kind, note.key, key_id, until)
        self.end_streams(note.key)

    def _believed(self) -> float:
        return self._ageing.at(self._now(), self._elapsed()).before

    def end_streams(self, session_id: str) -> None:
        """End the streams that this session has at this node."""
        for client in self._clients.of_session(session_id):
            client.evict(PeerFault(Code.SESSION_OVER, "The session was signed out."))

    async def end(self, token: Token) -> None:
        """End the session: durable once this returns. Raises JournalUnavailable: then it has ended
        here, and a restart would bring it back; OwnFault as `Tokens.use_up`."""
        until = self._tokens.use_up(token)
        value = orjson.dumps([token.kind.name, token.key_id, until])
        await self._journal.append(Batch(notes=(Note(BOOK, token.id, value),)))


def _read(value: bytes) -> tuple[Kind, str, int]:
    """What the session was, its key, and until when it has to be known."""
    kind, key_id, until = orjson.loads(value)
    return _KINDS[kind], key_id, until
