"""Who asks, and from which page."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from aiohttp import web

from telecast.errors import PeerFault
from telecast.model import Principal
from telecast.web.parts import PRINCIPAL, parts

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def authenticate(request: web.Request) -> Principal:
    """The holder of the key in X-API-Key or Authorization: Bearer. Raises PeerFault 401."""
    secret = request.headers.get("X-API-Key")
    if secret is None:
        scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            secret = rest.strip()
    if not secret:
        raise PeerFault("UNAUTHENTICATED", "This needs a key.")
    principal = parts(request).keys.authenticate(secret)
    request[PRINCIPAL] = principal
    return principal


def require(request: web.Request, scope: str) -> Principal:
    """The asker, who must hold the scope. Raises PeerFault 401 or 403."""
    principal = authenticate(request)
    if not principal.may(scope):
        raise PeerFault("FORBIDDEN", f"This key lacks the scope {scope!r}.", {"scope": scope})
    return principal


def check_origin(request: web.Request) -> None:
    """Pages of other origins are refused unless listed: CORS does not cover WebSockets.

    No Origin means no browser. `null` (sandboxed frames, files) names nobody. Raises PeerFault.
    """
    origin = request.headers.get("Origin")
    if origin is None or origin in parts(request).settings.allowed_origins:
        return
    # Behind a proxy we don't see the scheme that the browser used: the host tells.
    if origin != "null" and urlsplit(origin).netloc.lower() == (request.host or "").lower():
        return
    raise PeerFault(
        "FORBIDDEN_ORIGIN",
        f"Pages of {_CONTROL.sub('', origin)[:128]!r} may not connect here.",
    )


def address_of(request: web.Request) -> str:
    """The peer's address; behind a proxy the one that the proxy has seen."""
    if parts(request).settings.behind_proxy:
        forwarded = request.headers.get("X-Forwarded-For", "")
        # The last entry is the proxy's own word, those before it are anybody's.
        last = forwarded.rsplit(",", 1)[-1].strip()
        if last:
            return last[:64]
    return request.remote or "unknown"
