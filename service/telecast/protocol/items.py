"""A JSON array cut into pieces without parsing it: each piece is parsed in a step of its own.

orjson holds the interpreter for as long as it parses, in a thread too: 8 MiB of small lists take
it most of a second, in which nobody else is served.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from telecast.errors import Code, PeerFault

PIECE = 32 * 1024
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
_SPACES = re.compile(rb"[ \t\r\n]*+")


def dense(text: bytes | bytearray, most: int, at: int = 0, end: int | None = None) -> bool:
    """Whether more than `most` lists and objects may begin here: each costs 0.1 µs.

    Each is a byte of the row as it is sent too, so what is worth asking of a long text is whether
    it has more than a row may have bytes.
    """
    return text.count(b"[", at, end) + text.count(b"{", at, end) > most


def pieces(body: bytes | bytearray, most: int, most_brackets: int) -> Iterator[bytes]:
    """JSON arrays that together have the items of `body`, which is one, in order.

    `most` is how many bytes the text of one item may have, `most_brackets` how many `[` and `{`
    there may be in so many bytes from its beginning, where it is longer than PIECE. What is no JSON
    may come out as a piece that is none. Raises PeerFault where `body` can't be cut.
    """
    at = start = _after_space(body, 0) + 1
    if body[start - 1 : start] != b"[":
        raise PeerFault(
            Code.LIMIT_EXCEEDED,
            f"More than {most} bytes must be an array of events.",
            {"bytes": most},
        )
    while True:
        end = _ITEMS.match(body, at, at + PIECE).end() - 1  # type: ignore[union-attr]
        if end < at:
            too_dense = dense(body, most_brackets, at, at + most)
            one = None if too_dense else _ONE.match(body, at, at + most)
            end = at if one is None else one.end()
        mark, items = body[end : end + 1], body[at:end]
        last = mark == b"]" and _after_space(body, end + 1) == len(body)
        # Without an item there is no comma, before it or behind it.
        nothing = not items.strip(_SPACE) and not (last and at == start)
        if nothing or not (last or mark == b","):
            raise PeerFault(
                Code.BAD_JSON,
                f"After byte {at} comes no JSON value, or one that nests deeper than {DEPTH} or "
                f"whose text has more than {most} bytes or {most_brackets} brackets.",
            )
        yield b"[" + items + b"]"
        if last:
            return
        at = end + 1


def _after_space(body: bytes | bytearray, at: int) -> int:
    """Where the white space ends; more than PIECE bytes of it are not passed over."""
    return _SPACES.match(body, at, at + PIECE).end()  # type: ignore[union-attr]
