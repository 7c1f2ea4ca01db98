"""What the admin calls have in common: parameters that are checked, and what one admin may see."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aiohttp import web

from telecast.channels.catalogue import Catalogue, nearest
from telecast.errors import Code, PeerFault
from telecast.model import Principal

MOST_SPAN = 366 * 24 * 3600
MOST_REASON = 256
"""Characters of a reason: it is sent to the client, and logged."""
MOST_NAME = 128
"""Characters of a clientId, and more than a key's name may have."""
_SPAN = re.compile(r"([0-9]{1,9})([smhd]?)", re.ASCII)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def parameters(request: web.Request, allowed: tuple[str, ...]) -> dict[str, str]:
    """The query, of these names alone and each once. Raises PeerFault BAD_REQUEST."""
    found: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in allowed:
            close = nearest(name[:64], allowed)
            raise PeerFault(Code.BAD_REQUEST, f"There is no parameter {name[:64]!r}.{close}")
        if name in found:
            raise PeerFault(Code.BAD_REQUEST, f"{name!r} stands twice.")
        if value:
            found[name] = value
    return found


def seconds(text: str, name: str, most: float = MOST_SPAN) -> int:
    """A span such as `60`, `60s`, `10m`, `1h` or `2d`: 1 second at least. Raises PeerFault."""
    match = _SPAN.fullmatch(text)
    span = int(match[1]) * _UNITS[match[2]] if match is not None else 0
    if not 1 <= span <= most:
        raise PeerFault(
            Code.BAD_REQUEST, f"`{name}` must be a span such as 60s, 10m or 1h, up to {most:.0f} s."
        )
    return span


def whole(text: str, name: str, least: int, most: int) -> int:
    """Raises PeerFault BAD_REQUEST."""
    if not re.fullmatch(r"[0-9]{1,16}", text, re.ASCII) or not least <= int(text) <= most:
        raise PeerFault(
            Code.BAD_REQUEST, f"`{name}` must be a whole number from {least} to {most}."
        )
    return int(text)


def flag(text: str, name: str) -> bool:
    if text not in ("true", "false"):
        raise PeerFault(Code.BAD_REQUEST, f"`{name}` must be true or false.")
    return text == "true"


def name(text: str | None, of: str) -> str | None:
    """What is to be equal to a name. Raises PeerFault BAD_REQUEST where no name is like that: it
    would be kept in the log and in the audit."""
    if text is not None and (len(text) > MOST_NAME or _CONTROL.search(text)):
        raise PeerFault(
            Code.BAD_REQUEST,
            f"`{of}` must be at most {MOST_NAME} characters, none a control character.",
        )
    return text


def reason(text: str | None) -> str | None:
    """Raises PeerFault BAD_REQUEST: too long, or not for one line of text."""
    if text is None:
        return None
    if len(text) > MOST_REASON or _CONTROL.search(text):
        raise PeerFault(
            Code.BAD_REQUEST,
            f"`reason` must be at most {MOST_REASON} characters, none a control character.",
        )
    return text


def may_see(admin: Principal, other: Principal, catalogue: Catalogue) -> bool:
    """Whether all that the other may read is what this admin may read too.

    An admin without forced filters, and for all channels, sees everybody.
    """
    if not _within(admin.forced, other.forced):
        return False
    if "*" in admin.channels and not admin.forced:
        return True
    return all(
        channel.reached_by(admin) for channel in catalogue.values() if channel.reached_by(other)
    )


def _within(outer: Mapping[str, frozenset[str]], inner: Mapping[str, frozenset[str]]) -> bool:
    return all(name in inner and inner[name] <= values for name, values in outer.items())


def limited(admin: Principal) -> bool:
    """Whether an admin sees less than all."""
    return bool(admin.forced) or "*" not in admin.channels
