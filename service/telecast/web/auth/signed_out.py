"""Sessions that were signed out, so that a restart brings none of them back."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from telecast.journal.base import MAX_BATCH, Batch, Journal, Note, read_book
from telecast.keys.tokens import OPERATOR, SESSION, Kind, Token, Tokens

BOOK = "signed-out"
"""Token id to [kind, key id, until when it is kept]. Tokens bounds how many one key can have."""
_KINDS: dict[str, Kind] = {kind.name: kind for kind in (SESSION, OPERATOR)}


class SignedOut:
    """The journal's book of them. What can count no more by its age is erased at each start."""

    def __init__(self, journal: Journal, tokens: Tokens, *, now: Callable[[], float]) -> None:
        """`now` gives seconds since 1970."""
        self._journal = journal
        self._tokens = tokens
        self._now = now

    async def open(self) -> None:
        """Read the book. Raises JournalUnavailable or JournalCorrupt."""
        over: list[Note] = []
        for token_id, value in (await read_book(self._journal, BOOK)).items():
            kind, key_id, until = orjson.loads(value)
            if until < self._now():
                over.append(Note(BOOK, token_id, None))
            else:
                self._tokens.remember(_KINDS[kind], token_id, key_id, until)
        for first in range(0, len(over), MAX_BATCH):
            await self._journal.append(Batch(notes=tuple(over[first : first + MAX_BATCH])))

    async def end(self, token: Token) -> None:
        """End the session: durable once this returns. Raises JournalUnavailable: then it has ended
        here, and a restart would bring it back; OwnFault as `Tokens.use_up`."""
        until = self._tokens.use_up(token)
        value = orjson.dumps([token.kind.name, token.key_id, until])
        await self._journal.append(Batch(notes=(Note(BOOK, token.id, value),)))
