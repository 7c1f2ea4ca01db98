"""Events in over REST: POST /api/v1/channels/{channel}/events, and the withdrawal of a row."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from typing import Any

from aiohttp import web
from marshmallow import ValidationError

from telecast.channels.fields import Identifier
from telecast.errors import PeerFault
from telecast.ingress import SLICE, Published, Scope
from telecast.model import Position
from telecast.protocol.commands import parse_json
from telecast.protocol.items import pieces
from telecast.web.answers import ok
from telecast.web.auth import require
from telecast.web.body import read_body
from telecast.web.parts import parts

ESCAPED = 8
"""How many times longer than its event a text may be: `\\u0041` is six, the rest is for spaces."""
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
_IDENTIFIER = Identifier()
_LINE = re.compile(rb"[^ \t\r\n][^\r\n]*")


async def publish(request: web.Request) -> web.Response:
    """One payload, an array of payloads, or NDJSON: all of it is committed, or nothing."""
    principal = require(request, "publish")
    key, replace = _idempotency_key(request), _scope(request)
    most = parts(request).settings.max_body_bytes
    payloads = await _payloads(request, await read_body(request, most, "max_body_bytes"))
    published = await parts(request).ingress.publish(
        principal,
        request.match_info["channel"],
        payloads,
        idempotency_key=key,
        replace=replace,
    )
    return _receipt(request, published)


async def withdraw(request: web.Request) -> web.Response:
    """Take a row away: its tombstone is told to everyone who holds it."""
    principal = require(request, "publish")
    published = await parts(request).ingress.withdraw(
        principal, request.match_info["channel"], request.match_info["key"]
    )
    return _receipt(request, published)


def _receipt(request: web.Request, published: Published) -> web.Response:
    receipt = published.receipt
    told: dict[str, Any] = {
        "accepted": published.accepted,
        "firstSeq": receipt.first_seq or None,
        "lastSeq": receipt.last_seq,
        "position": str(Position(parts(request).journal.epoch, receipt.last_seq)),
        "subscribers": published.subscribers,
    }
    if receipt.duplicate:
        told["duplicate"] = True
    return ok(told, status=201)


async def _payloads(request: web.Request, body: bytes) -> list[Any]:
    """The payloads in order; a line that is not JSON is a PeerFault in its place."""
    settings = parts(request).settings
    most = ESCAPED * settings.max_event_bytes
    if request.content_type == "application/json":
        if len(body) > most:
            return await _items(body, settings.max_batch_events, most)
        parsed = parse_json(body, "The body")
        return parsed if isinstance(parsed, list) else [parsed]
    if request.content_type in NDJSON:
        return await _lines(body, settings.max_batch_events, most)
    raise PeerFault(
        "UNSUPPORTED_MEDIA_TYPE",
        f"{request.content_type[:64]!r} is not taken: say -H 'Content-Type: application/json', "
        "or application/x-ndjson.",
    )


async def _items(body: bytes, most: int, most_bytes: int) -> list[Any]:
    """The items of an array that is too long to be parsed in one step."""
    payloads: list[Any] = []
    until = time.monotonic() + SLICE
    for piece in pieces(body, most_bytes):
        payloads += parse_json(piece, "The body")
        if len(payloads) > most:
            break  # the ingress counts them, and says so
        if time.monotonic() >= until:
            await asyncio.sleep(0)
            until = time.monotonic() + SLICE
    return payloads


async def _lines(body: bytes, most: int, most_bytes: int) -> list[Any]:
    """Counted before any is parsed: 8 MiB hold millions of them."""
    lines = [match[0] for match in itertools.islice(_LINE.finditer(body), most + 1)]
    if len(lines) > most:
        raise PeerFault(
            "LIMIT_EXCEEDED",
            f"More than {most} lines: that is over max_batch_events.",
            {"max_batch_events": most},
        )
    payloads: list[Any] = []
    until = time.monotonic() + SLICE
    for line in lines:
        payloads.append(_line(line, most_bytes))
        if time.monotonic() >= until:
            await asyncio.sleep(0)
            until = time.monotonic() + SLICE
    return payloads


def _line(line: bytes, most: int) -> Any:
    try:
        if len(line) > most:
            raise PeerFault("LIMIT_EXCEEDED", f"Its text has more than {most} bytes.")
        return parse_json(line, "The line")
    except PeerFault as fault:
        return fault


def _idempotency_key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    try:
        key.encode()  # what is no UTF-8 in a header comes as lone surrogates: no journal keeps them
        text: str = _IDENTIFIER.deserialize(key)
    except (UnicodeEncodeError, ValidationError):
        raise PeerFault(
            "BAD_REQUEST",
            "An Idempotency-Key has 1 to 128 characters in UTF-8, none a control character.",
        ) from None
    return text


def _scope(request: web.Request) -> Scope | None:
    values = request.query.getall("replace", [])
    if not values:
        return None
    field, colon, value = values[0].partition(":")
    if len(values) > 1 or not (field and colon and value):
        raise PeerFault("BAD_REQUEST", "`replace` names one scope, such as traderId:t1.")
    return Scope(field, value)
