"""What may be used once is used once at all nodes: a ticket, a sign-in link."""

from __future__ import annotations

import secrets

from telecast.errors import Code, IdempotencyConflict, PeerFault
from telecast.journal.base import Batch, Idempotency, Journal
from telecast.keys.tokens import Token

DIGEST_BYTES = 32


async def claim(journal: Journal, token: Token) -> None:
    """Use it up at every node; the first in the log's order has it. A single node knows by itself.

    It is an idempotency key of the journal, with a digest that nobody else sends: so whoever comes
    second is refused. Raises PeerFault TICKET_SPENT, and JournalUnavailable where nobody can know
    whether it was used at another node: then it must not count.
    """
    if not journal.shared:
        return
    asked = Idempotency(
        f"{token.key_id}:telecast/{token.kind.name}/{token.id}",
        secrets.token_bytes(DIGEST_BYTES),
    )
    try:
        await journal.append(Batch(idempotency=asked))
    except IdempotencyConflict:
        raise PeerFault(
            Code.TICKET_SPENT, f"This {token.kind.name} was used already, at another node."
        ) from None
