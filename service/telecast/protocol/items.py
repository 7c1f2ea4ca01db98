"""A JSON array cut into pieces without parsing it: each piece is parsed in a step of its own.

orjson holds the interpreter for as long as it parses, in a thread too: 8 MiB of small lists take
it most of a second, in which nobody else is served.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from telecast.errors import PeerFault

PIECE = 64 * 1024
"""Bytes of a piece; only an item that is longer by itself makes a longer one."""
DEPTH = 8
"""Lists and objects within an item: the deepest payload of the catalogue has three."""

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'


def _inside(depth: int) -> bytes:
    """What may stand between brackets: only strings and brackets matter, orjson sees the rest."""
    below = rb"|[\[{]%b[\]}]" % _inside(depth - 1) if depth else b""
    return rb"(?:[^\"\[\]{}]++|%b%b)*+" % (_STRING, below)


_ITEM = rb"(?:[^\"\[\]{},]++|%b|[\[{]%b[\]}])++" % (_STRING, _inside(DEPTH - 1))
# Possessive throughout: whatever the bytes are, no one of them is looked at twice.
_ONE = re.compile(_ITEM)
_ITEMS = re.compile(rb"(?:%b,)*+" % _ITEM)
_SPACE = b" \t\r\n"


def pieces(body: bytes, most: int) -> Iterator[bytes]:
    """JSON arrays that together have the items of `body`, which is one, in order.

    `most` is how many bytes the text of one item may have. What is no JSON may come out as a piece
    that is none. Raises PeerFault where `body` can't be cut.
    """
    at = start = len(body) - len(body.lstrip(_SPACE)) + 1
    if body[start - 1 : start] != b"[":
        raise PeerFault(
            "LIMIT_EXCEEDED", f"More than {most} bytes must be an array of events.", {"bytes": most}
        )
    while True:
        end = _ITEMS.match(body, at, at + PIECE).end() - 1  # type: ignore[union-attr]
        if end < at:
            one = _ONE.match(body, at, at + most)
            end = at if one is None else one.end()
        mark, items = body[end : end + 1], body[at:end]
        last = mark == b"]" and not body[end + 1 :].strip(_SPACE)
        # Without an item there is no comma, before it or behind it.
        nothing = not items.strip(_SPACE) and not (last and at == start)
        if nothing or not (last or mark == b","):
            raise PeerFault(
                "BAD_JSON",
                f"After byte {at} comes no JSON value, or one that nests deeper than {DEPTH} or "
                f"whose text has more than {most} bytes.",
            )
        yield b"[%b]" % items
        if last:
            return
        at = end + 1
