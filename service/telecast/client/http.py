"""One way to speak HTTP to the service: the address, the key, and what a refusal looks like."""

from __future__ import annotations

import asyncio
import os

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from yarl import URL

from telecast import __version__
from telecast.client.faults import refusal_of

CONNECT_SECONDS = 10.0
MAX_REFUSAL_BYTES = 64 * 1024
"""An error body is a few hundred bytes; nobody may make us read a film instead."""
LOST = (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError)
"""What a request or a stream fails with when the connection is not made, or dies."""


def base_of(url: str) -> URL:
    """The service's address. Raises ValueError with a sentence."""
    try:
        base = URL(url)
    except ValueError as fault:
        raise ValueError(f"{url!r} is no address: {fault}.") from None
    if base.scheme not in ("http", "https") or not base.host:
        raise ValueError(f"{url!r} is no address of a service: it reads http://127.0.0.1:8080.")
    return base.with_query(None).with_fragment(None)


def check_key(key: str) -> str:
    """The key itself. Raises ValueError, which does not repeat it, for what no header can hold."""
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("A key has printable ASCII characters only, and no spaces.")
    return key


def below(base: URL, path: str) -> URL:
    """`path` under the address, which may have a path of its own; already quoted."""
    return URL(f"{str(base).rstrip('/')}/{path}", encoded=True)


def words(fault: BaseException) -> str:
    """What went wrong, without the library's own notation."""
    if isinstance(fault, aiohttp.ClientConnectorError) and fault.errno:
        return os.strerror(fault.errno)
    if isinstance(fault, aiohttp.ClientPayloadError):
        return "the connection broke off"
    return str(fault) or type(fault).__name__


def open_session(key: str | None, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    """A session whose every answer but 1xx and 2xx raises Refused with the server's words.

    The key goes as `Authorization: Bearer`; no redirect is followed, so it goes nowhere else.
    """
    headers = {"User-Agent": f"telecast/{__version__}"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return aiohttp.ClientSession(
        headers=headers,
        timeout=timeout,
        middlewares=(_judge,),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def _judge(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    response = await handler(request)
    if response.status < 300:
        return response
    body = b""
    try:
        while len(body) < MAX_REFUSAL_BYTES and (chunk := await response.content.readany()):
            body += chunk
    except LOST:
        pass  # the status has said it; the words would only have said it better
    finally:
        response.close()
    raise refusal_of(response.status, response.headers, body[:MAX_REFUSAL_BYTES])
