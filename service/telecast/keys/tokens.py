"""What a browser is given instead of a key: signed words that name a key and run out.

Nothing is kept of them but the ids of those that were used up. Whether the key still holds is
asked of the keys each time; here it is only said which key it was, and which secret it had.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from itsdangerous import BadSignature, TimestampSigner, URLSafeTimedSerializer

from telecast.errors import Code, OwnFault, PeerFault

STEP_BACK = 60
"""Seconds that the clock may be set back without ending what was signed just before."""
MOST_USED = 65_536
"""Ids of a kind remembered for one key, about 8 MB; beyond it nothing more of that kind can be
used up under that key until some expire. Others are not kept from anything by it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A purpose. A word signed for one is foreign to every other."""

    name: str
    seconds: int
    most: int = 0
    """Seconds after which no renewal helps any more; 0: it is never renewed."""
    lasting: bool = False
    """Whether it outlives a restart of a single service. What may be used once must not, since what
    was used up is not remembered longer than that."""


MOST_SECONDS = 7 * 24 * 3600
TICKET = Kind("ticket", 30)
"""Opens one stream, from a page elsewhere."""
SIGN_IN = Kind("sign-in link", 600)
"""Opens one session on our own page: the link that the demo prints."""
STREAM = Kind("stream", 12 * 3600, MOST_SECONDS, lasting=True)
"""The cookie with which a stream that a ticket opened comes back."""
SESSION = Kind("session", 12 * 3600, MOST_SECONDS, lasting=True)
"""The cookie of our own page."""
OPERATOR = Kind("operator session", 12 * 3600, MOST_SECONDS, lasting=True)
"""The same, where whoever signed in asked to acknowledge alerts too."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a signed word says. `fingerprint` tells a key from a later one of the same id."""

    kind: Kind
    id: str
    key_id: str
    fingerprint: str
    issued_at: int
    began_at: int
    """When the first of the words that carry this id was issued."""

    @property
    def expires_at(self) -> int:
        """Seconds since 1970, both bounds included."""
        end = self.issued_at + self.kind.seconds
        return min(end, self.ends_at) if self.kind.most else end

    @property
    def ends_at(self) -> int:
        """No renewal of it counts later than this."""
        return self.began_at + (self.kind.most or self.kind.seconds)


class _Used:
    """The ids of one kind that count no more, until they may be forgotten."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.by_key: Counter[str] = Counter()
        self._queue: list[tuple[int, str, str]] = []

    def remember(self, token_id: str, key_id: str, until: int) -> None:
        """`until` is in seconds since 1970."""
        if token_id not in self.ids:
            self.ids.add(token_id)
            self.by_key[key_id] += 1
            heappush(self._queue, (until, token_id, key_id))

    def forget(self, now: int) -> None:
        while self._queue and self._queue[0][0] < now:
            _, token_id, key_id = heappop(self._queue)
            self.ids.discard(token_id)
            self.by_key[key_id] -= 1
            if not self.by_key[key_id]:
                del self.by_key[key_id]


class Tokens:
    """Signs, reads and uses up. `now` gives seconds since 1970."""

    def __init__(self, secret: bytes, *, now: Callable[[], float]) -> None:
        self._secret = secret
        self._now = now
        self._start = secrets.token_hex(8)
        self._used: defaultdict[Kind, _Used] = defaultdict(_Used)
        self._forget_by = now

    def forget_by(self, believed: Callable[[], float]) -> None:
        """By this time ids are forgotten, not by the clock: one that is wrong for a while would
        let count again what was used up, as soon as it is right."""
        self._forget_by = believed

    def share(self, life: str) -> None:
        """What may be used once counts at each node of this life of a log, not in this process
        alone. To be called before anything is issued."""
        self._start = life

    def issue(self, kind: Kind, key_id: str, fingerprint: str) -> str:
        """A word for this key."""
        content = [secrets.token_hex(12), key_id, fingerprint, int(self._now())]
        return str(self._serializer(kind).dumps(content))

    def renew(self, token: Token) -> str:
        """The same word with a later date."""
        content = [token.id, token.key_id, token.fingerprint, token.began_at]
        return str(self._serializer(token.kind).dumps(content))

    def read(self, kind: Kind, text: str) -> Token:
        """What it says, used up or expired as it may be. Raises PeerFault for a foreign one."""
        try:
            content: Any
            content, at = self._serializer(kind).loads(text, return_timestamp=True)
        except (BadSignature, UnicodeEncodeError):
            raise PeerFault(
                Code.UNAUTHENTICATED,
                f"This {kind.name} is not of this service"
                + ("." if kind.lasting else ", or it is from before its last start."),
            ) from None
        token_id, key_id, fingerprint, began_at = content
        return Token(kind, token_id, key_id, fingerprint, int(at.timestamp()), began_at)

    def why_not(self, token: Token) -> str | None:
        """Why it counts no more, as a sentence; None while it does."""
        if token.id in self._used[token.kind].ids:
            return f"This {token.kind.name} was used already."
        if not token.issued_at - STEP_BACK <= int(self._now()) <= token.expires_at:
            return f"This {token.kind.name} has expired: it holds for {_span(token.kind.seconds)}."
        return None

    def remember(self, kind: Kind, token_id: str, key_id: str, until: int) -> None:
        """It was used up before this start, as `use_up` said: it still counts no more."""
        self._used[kind].remember(token_id, key_id, until)

    def age(self, token: Token) -> float:
        return self._now() - token.issued_at

    def use_up(self, token: Token) -> int:
        """Let it count no more. Returns until when, in seconds since 1970, that must be known.

        Raises OwnFault where no more ids can be remembered.
        """
        used, now = self._used[token.kind], int(self._now())
        used.forget(int(self._forget_by()))
        if used.by_key[token.key_id] >= MOST_USED:
            raise OwnFault(
                Code.OVERLOADED,
                f"Too many of this key's {token.kind.name}s at once.",
                retry_after=5,
            )
        # Renewals carry the id on: the last of them was issued just now.
        until = now + token.kind.seconds
        used.remember(token.id, token.key_id, until)
        return until

    def _serializer(self, kind: Kind) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(
            self._secret,
            salt=f"telecast {kind.name} 2{'' if kind.lasting else self._start}",
            signer=_Signer,
            signer_kwargs={
                "key_derivation": "hmac",
                "digest_method": hashlib.sha256,
                "now": self._now,
            },
        )


class _Signer(TimestampSigner):
    """With a clock of ours."""

    def __init__(self, *args: Any, now: Callable[[], float], **options: Any) -> None:
        super().__init__(*args, **options)
        self._now = now

    def get_timestamp(self) -> int:
        return int(self._now())


def _span(seconds: int) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"
