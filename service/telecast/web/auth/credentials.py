"""Who asks: the key in a header, else what a browser sends; and which pages may ask."""

from __future__ import annotations

import logging
import re

from aiohttp import web

from telecast.config.kinds import canonical
from telecast.errors import Code, PeerFault
from telecast.model import Principal
from telecast.web.auth.cookies import OPERATES, holder
from telecast.web.front.peer import address_of, same_host
from telecast.web.parts import PRINCIPAL, parts_from

log = logging.getLogger(__name__)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def key_holder(request: web.Request) -> Principal | None:
    """The holder of the key in X-API-Key or Authorization: Bearer; None without one.

    Raises PeerFault 401, or 429 when this address has sent too many wrong keys.
    """
    secret = _secret(request)
    return known(request, secret) if secret else None


def _secret(request: web.Request) -> str:
    """The key that the request carries; empty without one. An empty X-API-Key is none."""
    secret = request.headers.get("X-API-Key", "").strip()
    if not secret:
        scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            secret = rest.strip()
    return secret


def known(request: web.Request, secret: str) -> Principal:
    """The holder of this key. Raises PeerFault as `key_holder` does."""
    parts = parts_from(request)
    try:
        return parts.keys.authenticate(secret)
    except PeerFault as fault:
        if fault.code != Code.UNAUTHENTICATED:
            raise  # it was a key once
        raise parts.guesses.wrong(address_of(request), fault) from None


def authenticate(request: web.Request, *, acknowledges: bool = False) -> Principal:
    """The holder of the key, else of the ticket or session that a browser sends.

    `acknowledges`: an operator's session may do what is asked. All else needs a key, also where
    the scope `operate` is enough for it, such as to publish on `system`. Raises PeerFault 401 or
    429, or 403 where another page makes a browser ask.
    """
    principal = key_holder(request)
    if principal is None:
        principal = holder(request)
        if principal is None:
            raise PeerFault(Code.UNAUTHENTICATED, "Send a key: X-API-Key or Authorization: Bearer.")
        check_origin(request)
        check_site(request)
        if acknowledges and OPERATES in request and _acts(request):
            principal = request[OPERATES]
    request[PRINCIPAL] = principal
    return principal


def _acts(request: web.Request) -> bool:
    """Whether our own page, and no other, asks to change something with an operator's session.

    SameSite=Strict keeps the cookie from other sites, but not from another port or subdomain: so
    the browser must name our own origin, even where other origins are allowed to read, and the
    body must be JSON, which no form can send.
    """
    origin = request.headers.get("Origin")
    return (
        request.method == "POST"
        and request.content_type == "application/json"
        and origin is not None
        and same_host(origin, request.host or "")
    )


def require(request: web.Request, scope: str, *, acknowledges: bool = False) -> Principal:
    """The asker, who must hold the scope. Raises PeerFault 401 or 403."""
    principal = authenticate(request, acknowledges=acknowledges)
    if not principal.may(scope):
        raise PeerFault(Code.FORBIDDEN, f"This key lacks the scope {scope!r}.", {"scope": scope})
    return principal


def check_origin(request: web.Request) -> None:
    """Pages of other origins are refused unless listed: CORS does not cover WebSockets.

    No Origin means no browser. `null` (sandboxed frames, files) names nobody. Raises PeerFault.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return
    if canonical(origin) in parts_from(request).settings.allowed_origins:
        return
    if same_host(origin, request.host or ""):
        return
    shown = _CONTROL.sub("", origin)[:128]
    log.info("foreign origin", extra={"origin": shown, "remote": address_of(request)})
    raise PeerFault(Code.FORBIDDEN_ORIGIN, f"Pages of {shown!r} may not connect here.")


def check_stream_origin(request: web.Request) -> None:
    """The same for a stream; but with a key in a header the key alone decides. A page can't add
    one without asking by CORS first, and libraries that are no browsers send an Origin too, which
    a proxy that writes a Host of its own makes a foreign one. Raises PeerFault."""
    if not _secret(request):
        check_origin(request)


def check_site(request: web.Request) -> None:
    """A request without Origin, as an image of another page makes it, carries cookies too.

    Raises PeerFault where the browser says so (Fetch Metadata §2.4).
    """
    site = request.headers.get("Sec-Fetch-Site", "none")
    if "Origin" not in request.headers and site not in ("none", "same-origin"):
        raise PeerFault(Code.FORBIDDEN_ORIGIN, "Another page asks with this browser's session.")
