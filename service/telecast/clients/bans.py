"""Who may not open a stream for a while, because an operator said so."""

from __future__ import annotations

from collections.abc import Set

from telecast.errors import Code, PeerFault

MOST_BANS = 1_000
"""About 200 KB. Beyond it an operator is asked to revoke keys, or to wait."""
MOST_BAN_SECONDS = 24 * 3600.0
"""A longer ban is a key to be revoked."""

Banned = tuple[str, str | None]
"""A key id and a clientId; None stands for the streams of the key that have no clientId."""


class Bans:
    """Each ends by itself. Times are of the clock that the caller passes in."""

    def __init__(self) -> None:
        self._until: dict[Banned, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, those: Set[Banned], now: float, seconds: float) -> None:
        """Ban all of them, or none: raises PeerFault LIMIT_EXCEEDED."""
        self._forget(now)
        if len(self._until.keys() | those) > MOST_BANS:
            raise PeerFault(
                Code.LIMIT_EXCEEDED,
                f"More than {MOST_BANS} bans would be in force: revoke keys, or wait.",
                {"max_bans": MOST_BANS},
            )
        for each in those:
            self._until[each] = max(self._until.get(each, 0.0), now + seconds)

    def lift(self, banned: Banned) -> None:
        self._until.pop(banned, None)

    def check(self, banned: Banned, now: float) -> None:
        """Raises PeerFault BANNED, with the time that is left."""
        until = self._until.get(banned)
        if until is None:
            return
        if until <= now:
            del self._until[banned]
            return
        raise PeerFault(
            Code.BANNED,
            "An operator has banned this client for a while.",
            retry_after=round(until - now, 1),
        )

    def _forget(self, now: float) -> None:
        for each in [each for each, until in self._until.items() if until <= now]:
            del self._until[each]
