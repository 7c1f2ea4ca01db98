"""Who asks when it is a browser: by a ticket in a stream's address, or by a cookie.

A browser only reads: another page can make it send its cookies, but never a key. The one exception
is an operator's session on our own page; `credentials.authenticate` says when it may act.
"""

from __future__ import annotations

from collections.abc import Sequence
from http.cookies import SimpleCookie

from aiohttp import web

from telecast.errors import Code, PeerFault
from telecast.keys.tokens import OPERATOR, SESSION, SIGN_IN, STREAM, TICKET, Kind, Token
from telecast.model import Principal
from telecast.web.auth.once import claim
from telecast.web.parts import Parts, parts_from

TRANSPORTS = ("/ws/telemetry", "/sse/telemetry")
SESSION_COOKIE = "telecast_session"
STREAM_COOKIE = "telecast_stream"
SESSIONS = (SESSION, OPERATOR)
RENEW_SECONDS = 3600.0
"""A cookie older than this is replaced when it is used."""

BROWSER = web.RequestKey("browser", bool)
"""Set where the request had no key: whoever asks only reads."""
OPERATES = web.RequestKey("operates", Principal)
"""Set beside BROWSER where the session is an operator's: its holder with the right to operate."""
SIGNED_IN = web.RequestKey("signed_in", Token)
"""The session by which the request came, if that is how."""
_TICKET = web.RequestKey("ticket", Token)
_COOKIES = web.RequestKey("cookies", list[str])


def holder(request: web.Request) -> Principal | None:
    """The holder of the ticket or the cookie, with the right to read; None without either.

    Raises PeerFault 401: foreign, used, expired, signed out, or the key is gone.
    """
    streams = request.path in TRANSPORTS
    if streams and "ticket" in request.query:
        principal = _by_ticket(request, request.query["ticket"])
    else:
        found = _by_cookies(request, streams)
        if found is None:
            return None
        principal = found
    request[BROWSER] = True
    return principal.reading()


def _by_ticket(request: web.Request, text: str) -> Principal:
    parts = parts_from(request)
    ticket = parts.tokens.read(TICKET, text)
    why_not = parts.tokens.why_not(ticket)
    if why_not is None:
        request[_TICKET] = ticket
        return _key_of(parts, ticket)
    # An EventSource comes back to the address that it was opened with: the cookie speaks for it.
    principal = _by_cookie(request, STREAM_COOKIE, STREAM)
    if principal is None or principal.key_id != ticket.key_id:
        raise PeerFault(Code.TICKET_SPENT, why_not)
    return principal


def _by_cookies(request: web.Request, streams: bool) -> Principal | None:
    """The session's, else on a stream the stream's: one that is over does not hide the other."""
    try:
        found = _by_cookie(request, SESSION_COOKIE, *SESSIONS)
    except PeerFault:
        if not streams or not request.cookies.get(STREAM_COOKIE):
            raise
        found = None
    if found is None and streams:
        found = _by_cookie(request, STREAM_COOKIE, STREAM)
    return found


def _by_cookie(request: web.Request, name: str, *kinds: Kind) -> Principal | None:
    text = request.cookies.get(name)
    if not text:
        return None
    parts = parts_from(request)
    token = _read(parts, text, kinds)
    if token is None:
        # Signed by another service on this host, whose cookies are ours too, or before a new start.
        raise PeerFault(Code.SESSION_OVER, "This session is not known here.")
    if parts.tokens.why_not(token) is not None:
        raise PeerFault(Code.SESSION_OVER, "This session is over.")
    principal = _key_of(parts, token)
    if token.kind in SESSIONS:
        request[SIGNED_IN] = token
    if parts.tokens.age(token) > RENEW_SECONDS:
        _renew(request, name, token)
    if token.kind is OPERATOR and principal.may("operate"):
        request[OPERATES] = principal.operating()
    return principal


def _read(parts: Parts, text: str, kinds: Sequence[Kind]) -> Token | None:
    """What it says, as the first of the kinds that signed it."""
    for kind in kinds:
        try:
            return parts.tokens.read(kind, text)
        except PeerFault:
            continue
    return None


def _key_of(parts: Parts, token: Token) -> Principal:
    principal = parts.keys.current(token.key_id)
    if principal is None or parts.keys.fingerprint(token.key_id) != token.fingerprint:
        raise PeerFault(Code.UNAUTHENTICATED, "The key behind it was revoked or has expired.")
    return principal


async def redeem_ticket(request: web.Request) -> None:
    """The stream opens: its ticket, if that is how it came, is used up and leaves a cookie.

    Raises TelecastError, and then it must not open.
    """
    ticket = request.get(_TICKET)
    if ticket is None:
        return
    tokens = parts_from(request).tokens
    why_not = tokens.why_not(ticket)
    if why_not is not None:
        raise PeerFault(Code.TICKET_SPENT, why_not)
    tokens.use_up(ticket)
    await claim(parts_from(request).journal, ticket)
    text = tokens.issue(STREAM, ticket.key_id, ticket.fingerprint)
    _set(request, STREAM_COOKIE, text, _path(request, STREAM), STREAM.seconds)


def sign_in(request: web.Request, key_id: str, *, operate: bool = False) -> Token:
    """Give the browser a session of this key; `operate`: one that may acknowledge alerts."""
    parts = parts_from(request)
    kind = OPERATOR if operate else SESSION
    text = parts.tokens.issue(kind, key_id, parts.keys.fingerprint(key_id) or "")
    token = parts.tokens.read(kind, text)
    _set(request, SESSION_COOKIE, text, _path(request, kind), kind.seconds)
    return token


async def sign_in_by_link(request: web.Request, text: str) -> Principal:
    """Whose sign-in link this is; it is used up. Raises TelecastError."""
    parts = parts_from(request)
    link = parts.tokens.read(SIGN_IN, text)
    why_not = parts.tokens.why_not(link)
    if why_not is not None:
        raise PeerFault(Code.TICKET_SPENT, why_not)
    principal = _key_of(parts, link)
    parts.tokens.use_up(link)
    await claim(parts.journal, link)
    return principal


async def sign_out(request: web.Request) -> None:
    """End the session here with all its streams, for good, and take its cookie away.

    Raises JournalUnavailable where that can't be kept: a restart would bring the session back.
    """
    parts = parts_from(request)
    token = _read(parts, request.cookies.get(SESSION_COOKIE, ""), SESSIONS)
    if token is not None and parts.keys.fingerprint(token.key_id) == token.fingerprint:
        parts.signed_out.end_streams(token.id)
        await parts.signed_out.end(token)
    _set(request, SESSION_COOKIE, "", _path(request, SESSION), 0)


def sign_in_link(parts: Parts, key_id: str) -> str:
    """The end of an address that signs in once: a fragment, which browsers never send."""
    ticket = parts.tokens.issue(SIGN_IN, key_id, parts.keys.fingerprint(key_id) or "")
    return f"/#ticket={ticket}"


def _renew(request: web.Request, name: str, token: Token) -> None:
    text = parts_from(request).tokens.renew(token)
    _set(request, name, text, _path(request, token.kind), token.kind.seconds)


def _path(request: web.Request, kind: Kind) -> str | None:
    """Where a cookie holds. A stream's has no Path: then a browser takes the folder of the address
    as it knows it (RFC 6265 §5.1.4), which is right behind a proxy that adds a prefix, too."""
    return f"{parts_from(request).settings.path_prefix}/" if kind in SESSIONS else None


def _set(request: web.Request, name: str, value: str, path: str | None, seconds: int) -> None:
    cookie: SimpleCookie = SimpleCookie()
    cookie[name] = value
    morsel = cookie[name]
    if path is not None:
        morsel["path"] = path
    morsel["max-age"] = str(seconds)
    morsel["httponly"] = True
    morsel["samesite"] = "Strict"
    if request.secure or parts_from(request).settings.behind_proxy:
        morsel["secure"] = True
    request.setdefault(_COOKIES, []).append(morsel.OutputString())


async def add_cookies(request: web.Request, response: web.StreamResponse) -> None:
    """On every response that leaves, a stream's included; a refusal gives none."""
    if response.status < 400:
        for cookie in request.get(_COOKIES, ()):
            response.headers.add("Set-Cookie", cookie)
