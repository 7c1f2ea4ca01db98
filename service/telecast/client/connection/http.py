"""One way to speak HTTP to the service: the address, the key, and what a refusal looks like."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.request import getproxies, proxy_bypass

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

Key = str | Callable[[], str | Awaitable[str]] | None
"""A key, or what gives the one that is good now: called before each connection and request."""


def base_of(url: str) -> URL:
    """The service's address. Raises ValueError with a sentence."""
    try:
        base = URL(url)
    except ValueError as fault:
        raise ValueError(f"{url!r} is no address: {fault}.") from None
    try:
        (base.host or "").encode("idna")  # as the connection will ask the name service for it
    except UnicodeError:
        raise ValueError(f"{url!r} is no address: {base.host!r} is no host's name.") from None
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
    cause: BaseException = fault
    if isinstance(fault, aiohttp.ClientConnectorCertificateError):
        cause = fault.certificate_error
    elif isinstance(fault, aiohttp.ClientConnectorError):
        cause = fault.os_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"no TLS connection: {cause.strerror}"
    if isinstance(cause, socket.gaierror):  # its numbers are those of getaddrinfo, not of errno
        return str(cause.strerror)
    if isinstance(fault, aiohttp.ClientConnectorError) and fault.errno:
        return os.strerror(fault.errno)
    if isinstance(fault, aiohttp.ClientPayloadError):
        return "the connection broke off"
    return str(fault) or type(fault).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to get to one service: its address, who asks, and what lies in between."""

    base: URL
    key: Key = None
    tls: ssl.SSLContext | None = None
    proxy: URL | None = None
    beside: Callable[[], Mapping[str, str]] = dict
    """Headers that go with each request and handshake, such as those of a trace."""

    @classmethod
    def to(
        cls,
        url: str,
        key: Key = None,
        *,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
        beside: Callable[[], Mapping[str, str]] = dict,
    ) -> Access:
        """`tls` None: the system's certificates. `proxy` None: as HTTP_PROXY, HTTPS_PROXY and
        NO_PROXY say, which are not asked for addresses of this machine.

        Raises ValueError for an address or a key that can never work.
        """
        base = base_of(url)
        if isinstance(key, str):
            check_key(key)
        chosen = _proxy_for(base) if proxy is None else URL(proxy)
        return cls(base=base, key=key, tls=tls, proxy=chosen, beside=beside)

    @property
    def renews(self) -> bool:
        """Whether the key may be another one at the next call."""
        return callable(self.key)

    async def headers(self) -> dict[str, str]:
        """The key goes as `Authorization: Bearer`. Raises ValueError for what is no key."""
        key = self.key
        if callable(key):
            given = key()
            key = given if isinstance(given, str) else await given
            check_key(key)
        return {**self.beside(), **({"Authorization": f"Bearer {key}"} if key else {})}


def _proxy_for(base: URL) -> URL | None:
    host = base.host or ""
    try:
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    found = getproxies().get(base.scheme)
    return None if here or not found or proxy_bypass(host) else URL(found)


def open_session(access: Access, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    """A session whose every answer but 1xx and 2xx raises Refused with the server's words.

    No redirect is followed, so that the key goes nowhere else.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=True if access.tls is None else access.tls),
        headers={"User-Agent": f"telecast/{__version__}"},
        timeout=timeout,
        middlewares=(_judge,),
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=access.proxy,
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
