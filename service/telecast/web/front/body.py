"""A request's body: in time, not too large, not compressed; and who holds what memory meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import hdrs, web

from telecast.errors import Code, PeerFault
from telecast.net.admission import SLOW_BODY
from telecast.web.front.peer import address_of
from telecast.web.parts import PRINCIPAL, parts_from

HELD = web.RequestKey("held", int)
"""Bytes of the answers' budget that a request has taken."""


async def read_body(request: web.Request, most: int, bound: str) -> bytearray:
    """The whole of it, at most `most` bytes: as it was gathered, for to copy 8 MiB takes 3 ms.

    `bound` names that limit.

    Raises PeerFault: UNSUPPORTED_MEDIA_TYPE; BODY_TOO_LARGE, at once where Content-Length says so;
    TOO_SLOW when it is not complete within `body_timeout`; TOO_MUCH_AT_ONCE.
    """
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise PeerFault(
            Code.UNSUPPORTED_MEDIA_TYPE,
            "Send the body uncompressed: this service takes no Content-Encoding.",
        )
    if (request.content_length or 0) > most:
        raise _too_large(most, bound)
    parts = parts_from(request)
    body = bytearray()
    holder = holder_of(request)
    try:
        async with asyncio.timeout(parts.settings.body_timeout):
            async for piece in request.content.iter_any():
                parts.bodies.take(holder, len(piece))
                body += piece
                if len(body) > most:
                    raise _too_large(most, bound)
    except TimeoutError:
        parts.admission.count(SLOW_BODY)
        raise PeerFault(
            Code.TOO_SLOW, f"The body was not complete within {parts.settings.body_timeout:g} s."
        ) from None
    finally:
        # Complete, it is bounded by what waits for the journal.
        parts.bodies.give_back(holder, len(body))
    return body


def _too_large(most: int, bound: str) -> PeerFault:
    return PeerFault(Code.BODY_TOO_LARGE, f"The body is over {bound} ({most}).", {bound: most})


@asynccontextmanager
async def holding(request: web.Request, size: int) -> AsyncIterator[None]:
    """Make an answer of about so many bytes: they count from now until it has been read.

    Raises PeerFault TOO_MUCH_AT_ONCE, before any of it is gathered.
    """
    answers, holder = parts_from(request).answers, holder_of(request)
    answers.take(holder, size)
    request[HELD] = size
    try:
        yield
    except BaseException:
        # Else the connection gives it back, when the answer has left.
        request[HELD] = 0
        answers.give_back(holder, size)
        raise


def holder_of(request: web.BaseRequest) -> str:
    """Whose bytes they are: the key's, or the address's before one is known."""
    principal = request.get(PRINCIPAL)
    return address_of(request) if principal is None else principal.key_id
