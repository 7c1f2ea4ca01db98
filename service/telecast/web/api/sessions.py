"""Browsers in: tickets for pages elsewhere, sessions for our own."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from telecast.errors import Code, PeerFault
from telecast.keys.tokens import TICKET
from telecast.model import SCOPES, Principal, rfc3339
from telecast.protocol.commands import parse_json
from telecast.web.auth.cookies import (
    BROWSER,
    OPERATES,
    TRANSPORTS,
    sign_in,
    sign_in_by_link,
    sign_out,
)
from telecast.web.auth.credentials import authenticate, check_origin, key_holder, known, require
from telecast.web.front.answers import ok
from telecast.web.front.body import read_body
from telecast.web.parts import PRINCIPAL, parts_from

MAX_BODY = 4096
"""Bytes: a key or a ticket in JSON, with room."""
NO_STORE = {"Cache-Control": "no-store"}


async def ticket(request: web.Request) -> web.Response:
    """One use within 30 seconds over either transport, as `?ticket=`."""
    check_origin(request)
    principal = require(request, "read")
    if request.get(BROWSER):
        raise PeerFault(Code.FORBIDDEN, "A ticket is given for a key, not for a session.")
    parts = parts_from(request)
    text = parts.tokens.issue(
        TICKET, principal.key_id, parts.keys.fingerprint(principal.key_id) or ""
    )
    answer = {
        "ticket": text,
        "expiresAt": rfc3339(parts.now() + TICKET.seconds),
        "paths": list(TRANSPORTS),
    }
    return ok(answer, status=201, headers=NO_STORE)


async def open_session(request: web.Request) -> web.Response:
    """A key, or a sign-in link's ticket, becomes a cookie."""
    check_origin(request)
    principal, operate = await _asker(request)
    request[PRINCIPAL] = principal
    if not principal.may("read"):
        raise PeerFault(Code.FORBIDDEN, "This key lacks the scope 'read'.", {"scope": "read"})
    operate = operate and principal.may("operate")
    token = sign_in(request, principal.key_id, operate=operate)
    holder = principal.operating() if operate else principal.reading()
    return ok(_described(holder, token.expires_at), status=201, headers=NO_STORE)


async def read_session(request: web.Request) -> web.Response:
    """Who asks, and what time it is here: pages compare their clock with it. Nobody is an answer
    too: a page asks this before it knows."""
    now = parts_from(request).now()
    try:
        principal = authenticate(request)
    except PeerFault as fault:
        if fault.rule.http != 401:
            raise
        why = {"code": fault.code, "message": fault.message}
        return ok({"signedIn": False, "why": why}, headers=NO_STORE, now=now)
    return ok(_described(request.get(OPERATES, principal), None), headers=NO_STORE, now=now)


async def close_session(request: web.Request) -> web.Response:
    check_origin(request)
    await sign_out(request)
    why = {"code": Code.SESSION_OVER, "message": "Signed out."}
    return ok({"signedIn": False, "why": why}, headers=NO_STORE)


async def _asker(request: web.Request) -> tuple[Principal, bool]:
    """Who signs in, and whether to acknowledge alerts too."""
    principal = key_holder(request)
    if principal is not None:
        return principal, False
    # A form of another site can't send this type without asking us first (Fetch §2.2.2).
    if request.content_type != "application/json":
        raise PeerFault(Code.UNAUTHENTICATED, "Send a key in X-API-Key, or {'key': ...} as JSON.")
    match parse_json(await read_body(request, MAX_BODY, "max_sign_in_bytes"), "The body"):
        case {"key": str(key), **rest}:
            return known(request, key), rest.get("operate") is True
        case {"ticket": str(text), **rest}:
            return await sign_in_by_link(request, text), rest.get("operate") is True
    raise PeerFault(Code.BAD_REQUEST, "A sign-in is a JSON object with a `key`.")


def _described(principal: Principal, expires_at: float | None) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "signedIn": True,
        "keyId": principal.key_id,
        "name": principal.name,
        "scopes": [scope for scope in SCOPES if scope in principal.scopes],
        "channels": list(principal.channels),
    }
    if expires_at is not None:
        answer["expiresAt"] = rfc3339(expires_at)
    return answer
