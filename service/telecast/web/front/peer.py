"""Whose request it is before any key is looked at: the peer's address, and its page's origin."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from aiohttp import web

from telecast.logs import one_line
from telecast.web.parts import parts_from

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_WITH_PORT = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3})(?::\d{1,5})?|\[([0-9a-fA-F:.]+)\](?::\d{1,5})?")


def address_of(request: web.BaseRequest) -> str:
    """The peer's address; behind a proxy the one that the proxy reports, without a port.

    Some gateways append `address:port`: each connection would be another address then.
    """
    # What is no request at all, or was never routed, belongs to no application: `app` would raise.
    routed = getattr(request, "_match_info", None) is not None
    if routed and parts_from(request).settings.behind_proxy:  # type: ignore[arg-type]
        # The last entry, which may stand in a line of its own (RFC 9110 §5.3), is the proxy's;
        # those before it may be anybody's.
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
        last = forwarded.rsplit(",", 1)[-1].strip().strip('"')
        match = _WITH_PORT.fullmatch(last)
        if match is not None:
            last = match[1] or match[2]
        if last:
            # It may be anybody's: bytes that are no UTF-8 come as lone surrogates, of which no
            # JSON can be made, and a list of clients is made of JSON.
            return one_line(last[:64])
    return request.remote or "unknown"


def scheme_of(request: web.BaseRequest) -> str:
    """http or https, as the browser used it as far as we know: behind a proxy that says so."""
    if parts_from(request).settings.behind_proxy:  # type: ignore[arg-type]
        forwarded = request.headers.get("X-Forwarded-Proto", "").rsplit(",", 1)[-1].strip().lower()
        if forwarded in ("http", "https"):
            return forwarded
    return request.scheme


def host_of(origin: str) -> tuple[str, int | None] | None:
    """Host and port of an origin, without its scheme's default port; None where it has none."""
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
    except ValueError:  # such as http://[ or a port that is none
        return None
    if "@" in parts.netloc or parts.path or parts.query:
        return None  # an origin has none of these: a link may pretend to be another page's
    return None if not host else (host, None if port == DEFAULT_PORTS.get(parts.scheme) else port)


def same_host(origin: str, host: str) -> bool:
    """Whether a page of this origin was served by this Host. Its scheme is not looked at: behind
    a proxy we don't see what the browser used."""
    page = host_of(origin)
    scheme = origin.partition(":")[0].lower()
    return page is not None and page == host_of(f"{scheme}://{host}")
