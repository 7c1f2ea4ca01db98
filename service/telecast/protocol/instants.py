"""Points in time as a reader writes them: `-10m`, or an RFC 3339 instant. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from telecast.errors import Code, PeerFault

_AGO = re.compile(r"-([0-9]{1,9})(s|m|h|d)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LOOKS_LIKE_TIME = re.compile(r"[-+]|[0-9]{4}-|[0-9]+(?:s|m|h|d)$|[0-9]{1,2}:[0-9]{2}", re.ASCII)
_SPACE_FOR_PLUS = re.compile(r" (?=[0-9]{2}:[0-9]{2}$)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Instant:
    """Milliseconds since 1970, or before now."""

    ms: int
    relative: bool = False

    def at(self, now: int) -> int:
        """Milliseconds since 1970; `now` is too. Raises PeerFault for a time in the future."""
        found = now - self.ms if self.relative else self.ms
        if found > now:
            raise PeerFault(
                Code.BAD_REQUEST, f"This time is {(found - now) / 1000:.0f} s in the future."
            )
        return max(0, found)


def parse_instant(text: str, name: str) -> Instant | None:
    """None for what does not look like a time. Raises PeerFault for a time that is wrong.

    `name` is the parameter's. A plus sign that a query has turned into a space is one again.
    """
    if not _LOOKS_LIKE_TIME.match(text):
        return None
    if match := _AGO.fullmatch(text):
        return Instant(int(match[1]) * _SECONDS[match[2]] * 1000, relative=True)
    try:
        moment = datetime.fromisoformat(_SPACE_FOR_PLUS.sub("+", text))
        if moment.tzinfo is not None and "T" in text.upper():
            return Instant(int(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        pass
    raise PeerFault(
        Code.BAD_REQUEST,
        f"`{name}`: {text[:64]!r} is no time: write -10m (s, m, h, d), or an instant with its zone "
        "such as 2026-11-22T18:17:20Z.",
    )
