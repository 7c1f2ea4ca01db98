"""What must be right about a request's head before anybody acts on it.

aiohttp's parser refuses nearly all of what two readers of one request could read differently. This
is the rest.
"""

from __future__ import annotations

import re
from typing import Any

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from telecast.errors import Code, PeerFault

_HOST = re.compile(
    r"(?:\[[0-9a-f:.]+(?:%25[a-z0-9._~-]+)?\]|[a-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?",
    re.ASCII | re.IGNORECASE,
)


def check_head(request: web.BaseRequest) -> None:
    """Raises PeerFault MALFORMED_REQUEST, which also closes the connection."""
    if request.version < HttpVersion10:
        raise _malformed("This service speaks HTTP/1.1 and HTTP/1.0.")
    if request.method == hdrs.METH_CONNECT:
        # What follows would be for somebody else (RFC 9110 §9.3.6).
        raise _malformed("This service is not a proxy: it takes no CONNECT.")
    # RFC 9112 §6.1; the parser accepts other codings before it, which would be left undone, and
    # chunks in HTTP/1.0, whose readers know none.
    coding = request.headers.get(hdrs.TRANSFER_ENCODING)
    if coding is not None and (
        coding.strip().lower() != "chunked" or request.version < HttpVersion11
    ):
        raise _malformed("The only Transfer-Encoding taken is chunked, in HTTP/1.1.")
    # RFC 9112 §3.2; the parser sees to it that there is one.
    if not _HOST.fullmatch(request.headers.get(hdrs.HOST, "")):
        raise _malformed("The Host header is not a valid host name or address.")


def without_expectation(message: Any) -> Any:
    """A parsed head without an Expect that is not 100-continue: who serves may pass it over (RFC
    9110 §10.1.1). aiohttp answers it before any handler of ours, and breaks if it is no UTF-8.
    """
    if message.headers.get(hdrs.EXPECT, "100-continue").lower() == "100-continue":
        return message
    headers = message.headers.copy()
    headers.popall(hdrs.EXPECT)
    return message._replace(headers=type(message.headers)(headers))


def _malformed(message: str) -> PeerFault:
    return PeerFault(Code.MALFORMED_REQUEST, message)
