"""What a browser is given instead of a key: signed words that name a key and run out.

Nothing is kept of them but the ids of those that were used up. Whether the key still holds is
asked of the keys each time; here it is only said which key it was, and which secret it had.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
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


TICKET = Kind("ticket", 30)
"""Opens one stream, from a page elsewhere."""
SIGN_IN = Kind("sign-in link", 600)
"""Opens one session on our own page: the link that the demo prints."""
STREAM = Kind("stream", 12 * 3600)
"""The cookie with which a stream that a ticket opened comes back."""
SESSION = Kind("session", 12 * 3600)
"""The cookie of our own page."""
OPERATOR = Kind("operator session", 12 * 3600)
"""The same, where whoever signed in asked to acknowledge alerts too."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a signed word says. `fingerprint` tells a key from a later one of the same id."""

    kind: Kind
    id: str
    key_id: str
    fingerprint: str
    issued_at: int

    @property
    def expires_at(self) -> int:
        """Seconds since 1970, both bounds included."""
        return self.issued_at + self.kind.seconds


class _Used:
    """The ids of one kind that count no more, in the order in which they may be forgotten."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.by_key: Counter[str] = Counter()
        self._queue: deque[tuple[int, Token]] = deque()

    def remember(self, token: Token, until: int) -> None:
        """`until` is in seconds since 1970, and no earlier than that of the one before."""
        if token.id not in self.ids:
            self.ids.add(token.id)
            self.by_key[token.key_id] += 1
            self._queue.append((until, token))

    def forget(self, now: int) -> None:
        while self._queue and self._queue[0][0] < now:
            _, token = self._queue.popleft()
            self.ids.discard(token.id)
            self.by_key[token.key_id] -= 1
            if not self.by_key[token.key_id]:
                del self.by_key[token.key_id]


class Tokens:
    """Signs, reads and uses up. `now` gives seconds since 1970."""

    def __init__(self, secret: bytes, *, now: Callable[[], float]) -> None:
        self._secret = secret
        self._now = now
        self._used: defaultdict[Kind, _Used] = defaultdict(_Used)

    def issue(self, kind: Kind, key_id: str, fingerprint: str, token_id: str | None = None) -> str:
        """A word for this key; `token_id` carries an older one's id on."""
        content = [token_id or secrets.token_hex(12), key_id, fingerprint]
        return str(self._serializer(kind).dumps(content))

    def read(self, kind: Kind, text: str) -> Token:
        """What it says, used up or expired as it may be. Raises PeerFault for a foreign one."""
        try:
            content: Any
            content, at = self._serializer(kind).loads(text, return_timestamp=True)
        except (BadSignature, UnicodeEncodeError):
            raise PeerFault(Code.UNAUTHENTICATED, f"This {kind.name} is none of ours.") from None
        token_id, key_id, fingerprint = content
        return Token(kind, token_id, key_id, fingerprint, int(at.timestamp()))

    def why_not(self, token: Token) -> str | None:
        """Why it counts no more, as a sentence; None while it does."""
        if token.id in self._used[token.kind].ids:
            return f"This {token.kind.name} was used already."
        if not token.issued_at - STEP_BACK <= int(self._now()) <= token.expires_at:
            return f"This {token.kind.name} has expired: it holds for {_span(token.kind.seconds)}."
        return None

    def age(self, token: Token) -> float:
        return self._now() - token.issued_at

    def use_up(self, token: Token) -> None:
        """Let it count no more. Raises OwnFault where no more ids can be remembered."""
        used, now = self._used[token.kind], int(self._now())
        used.forget(now)
        if used.by_key[token.key_id] >= MOST_USED:
            raise OwnFault(
                Code.OVERLOADED,
                f"Too many of this key's {token.kind.name}s at once.",
                retry_after=5,
            )
        # It outlives its words, whose renewals carry the id on, by one life.
        used.remember(token, now + token.kind.seconds)

    def _serializer(self, kind: Kind) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(
            self._secret,
            salt=f"telecast {kind.name} 1",
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
