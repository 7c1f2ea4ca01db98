"""Events in over REST: POST /api/v1/channels/{channel}/events, and the withdrawal of a row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from aiohttp import web
from marshmallow import ValidationError

from telecast.channels.fields import Identifier
from telecast.errors import Code, PeerFault
from telecast.ingress import Published, Scope
from telecast.model import MAX_SEQ, Position, rfc3339
from telecast.protocol.commands import parse_json
from telecast.protocol.items import PIECE, dense, pieces
from telecast.web.api import asking
from telecast.web.auth.credentials import authenticate, require
from telecast.web.front.answers import ok
from telecast.web.front.body import read_body
from telecast.web.parts import COMMITTED, Parts, parts_from

MAX_ALIVE_BODY = 1_024
"""What a heartbeat may bring along: nothing of it is looked at."""
ESCAPED = 8
"""How many times longer than its event a text may be: `\\u0041` is six, the rest is for spaces."""
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
_IDENTIFIER = Identifier()
_BLANK = re.compile(rb"[ \t\r\n]*+")
_LINE = re.compile(rb"[^\r\n]*+")


async def publish(request: web.Request) -> web.Response:
    """One payload, an array of payloads, or NDJSON: all of it is committed, or nothing."""
    parts = parts_from(request)
    principal = require(request, _scope_to_write(parts, request))
    key, replace = idempotency_key(request), _scope(request)
    settings = parts.settings
    body = await read_body(request, settings.max_body_bytes, "max_body_bytes")
    payloads = _payloads(request, body, settings.max_event_bytes)
    published = await parts.ingress.publish(
        principal,
        request.match_info["channel"],
        payloads,
        idempotency_key=key,
        replace=replace,
    )
    return _receipt(parts, request, published)


async def alive(request: web.Request) -> web.Response:
    """Say that a publisher of the channel is there, though it has nothing to publish."""
    parts, principal = parts_from(request), authenticate(request)
    channel = parts.catalogue.named(request.match_info["channel"])
    if not channel.writable_by(principal):
        raise PeerFault(Code.FORBIDDEN, f"This key may not publish to {channel.name!r}.")
    await read_body(request, MAX_ALIVE_BODY, "max_alive_bytes")
    at = parts.staleness.alive(channel.name)
    parts.journal.peers.say("alive", channel.name)
    return ok({"channel": channel.name, "at": rfc3339(at)})


async def withdraw(request: web.Request) -> web.Response:
    """Take a row away: everyone who holds it gets its tombstone.

    The key stands in the path, or where a proxy decodes paths in the query, `rows?key=`.
    """
    parts, key = parts_from(request), request.match_info.get("key")
    principal = require(request, _scope_to_write(parts, request))
    query = asking.parameters(request, ("ifSeq",) if key is not None else ("ifSeq", "key"))
    key = query.get("key") if key is None else key
    if key is None:
        raise PeerFault(Code.BAD_REQUEST, "Name the row: DELETE .../rows?key=KEY.")
    if_seq = asking.whole(query["ifSeq"], "ifSeq", 1, MAX_SEQ) if "ifSeq" in query else None
    published = await parts.ingress.withdraw(
        principal,
        request.match_info["channel"],
        key,
        if_seq=if_seq,
        idempotency_key=idempotency_key(request),
    )
    return _receipt(parts, request, published)


def _scope_to_write(parts: Parts, request: web.Request) -> str:
    channel = parts.catalogue.get(request.match_info["channel"])
    return "publish" if channel is None else channel.publish_scope


def _receipt(parts: Parts, request: web.Request, published: Published) -> web.Response:
    receipt = published.receipt
    request[COMMITTED] = receipt.last_seq
    answer: dict[str, Any] = {
        "accepted": published.accepted,
        "firstSeq": receipt.first_seq or None,
        "lastSeq": receipt.last_seq,
        "position": str(Position(parts.journal.epoch, receipt.last_seq)),
        "subscribers": published.subscribers,
    }
    if receipt.duplicate:
        answer["duplicate"] = True
    return ok(answer, status=201)


def _payloads(request: web.Request, body: bytearray, most: int) -> Iterable[Any]:
    """The payloads in order; a line that is not JSON is a PeerFault in its place.

    What is large is parsed as it is asked for, a small piece at a time.
    """
    if request.content_type == "application/json":
        if len(body) > ESCAPED * most or (len(body) > PIECE and body.lstrip()[:1] == b"["):
            return _items(body, most)
        parsed = _parsed(body, "The body", most)
        return parsed if isinstance(parsed, list) else [parsed]
    if request.content_type in NDJSON:
        return _lines(body, most)
    raise PeerFault(
        Code.UNSUPPORTED_MEDIA_TYPE,
        f"{request.content_type[:64]!r} is not taken: say -H 'Content-Type: application/json', "
        "or application/x-ndjson.",
    )


def _items(body: bytearray, most: int) -> Iterator[Any]:
    for piece in pieces(body, ESCAPED * most, most):
        yield from parse_json(piece, "The body")


def _lines(body: bytes | bytearray, most: int) -> Iterator[Any]:
    """Raises PeerFault: before a line there may be PIECE bytes of white space."""
    at = 0
    while at < len(body):
        begin = _BLANK.match(body, at, at + PIECE).end()  # type: ignore[union-attr]
        if begin == len(body):
            return
        if begin == at + PIECE:
            raise PeerFault(Code.BAD_REQUEST, f"After byte {at} come {PIECE} of white space.")
        at = _LINE.match(body, begin, begin + ESCAPED * most + 1).end()  # type: ignore[union-attr]
        yield _line(body[begin:at], most)
        if at - begin > ESCAPED * most:
            at = body.find(b"\n", at)  # it is refused: what else it says is not looked at
            if at < 0:
                return


def _line(line: bytes | bytearray, most: int) -> Any:
    try:
        if len(line) > ESCAPED * most:
            raise PeerFault(Code.LIMIT_EXCEEDED, f"Its text has more than {ESCAPED * most} bytes.")
        return _parsed(line, "The line", most)
    except PeerFault as fault:
        return fault


def _parsed(text: bytes | bytearray, what: str, most: int) -> Any:
    if len(text) > PIECE and dense(text, most):
        raise PeerFault(
            Code.LIMIT_EXCEEDED, f"{what} has more than {most} brackets.", {"max_event_bytes": most}
        )
    return parse_json(text, what)


def idempotency_key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    try:
        key.encode()  # what is no UTF-8 in a header comes as lone surrogates: no journal keeps them
        text: str = _IDENTIFIER.deserialize(key)
    except (UnicodeEncodeError, ValidationError):
        raise PeerFault(
            Code.BAD_REQUEST,
            "An Idempotency-Key has 1 to 128 characters in UTF-8, none a control character.",
        ) from None
    return text


def _scope(request: web.Request) -> Scope | None:
    values = request.query.getall("replace", [])
    if not values:
        return None
    field, colon, value = values[0].partition(":")
    if len(values) > 1 or not (field and colon and value):
        raise PeerFault(Code.BAD_REQUEST, "`replace` names one scope, such as traderId:t1.")
    return Scope(field, value)
