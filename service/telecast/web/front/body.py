"""A request's body: in time, not too large, not compressed."""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web

from telecast.errors import Code, PeerFault
from telecast.net.admission import SLOW_BODY
from telecast.web.parts import parts_from


async def read_body(request: web.Request, most: int, bound: str) -> bytearray:
    """The whole of it, at most `most` bytes: as it was gathered, for to copy 8 MiB takes 3 ms.

    `bound` names that limit.

    Raises PeerFault: UNSUPPORTED_MEDIA_TYPE; BODY_TOO_LARGE, at once where Content-Length says so;
    TOO_SLOW when it is not complete within `body_timeout`.
    """
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise PeerFault(
            Code.UNSUPPORTED_MEDIA_TYPE,
            "Send the body uncompressed: this service takes no Content-Encoding.",
        )
    too_large = PeerFault(Code.BODY_TOO_LARGE, f"The body is over {bound} ({most}).", {bound: most})
    if (request.content_length or 0) > most:
        raise too_large
    parts = parts_from(request)
    body = bytearray()
    try:
        async with asyncio.timeout(parts.settings.body_timeout):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        parts.admission.closed[SLOW_BODY] += 1
        raise PeerFault(
            Code.TOO_SLOW, f"The body was not complete within {parts.settings.body_timeout:g} s."
        ) from None
    return body
