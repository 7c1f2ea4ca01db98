"""From a request to a stream: its connection is taken from aiohttp, for good."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any, cast

from aiohttp import web

from telecast.errors import Code, OwnFault
from telecast.net.plain import PlainWire
from telecast.net.tls import TlsWire
from telecast.net.wire import Wire

MOST_BEHIND = 64 * 1024
"""Bytes behind an upgrade at which no more is read until the upgrade is answered."""


async def take_over(request: web.Request, response: web.StreamResponse) -> tuple[Wire, bytes]:
    """Answer with this head, and make the connection a wire's. aiohttp frees the rest when the
    handler returns: its protocol, tasks, parser and request take more memory than a stream does.

    Also returns what the peer sent behind an upgrade. Raises ConnectionError where the peer is
    gone, and OwnFault OVERLOADED where no more files can be opened; then nothing was answered.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("gone before it was answered")
    sock = duplicate_socket(transport)
    try:
        behind = await _answer(request, response, transport)
    except BaseException:
        if sock is not None:
            sock.close()
        raise
    loop = asyncio.get_running_loop()
    if sock is not None:
        # The descriptor is another one: what closes here is aiohttp's, and not the connection.
        transport.abort()
        return PlainWire(sock, loop), behind
    protocol = request.protocol
    wire = TlsWire(transport)
    # To aiohttp the connection is lost.
    protocol.transport = None
    loop.call_soon(protocol.connection_lost, None)
    return wire, behind


async def _answer(
    request: web.Request, response: web.StreamResponse, transport: asyncio.Transport
) -> bytes:
    """Until the head is with the kernel, and all that was answered before it."""
    transport.set_write_buffer_limits(0)
    writer = await response.prepare(request)
    assert writer is not None
    behind = _Behind(transport)
    if response.status == 101:
        # Typed for aiohttp's own reader; it is fed by `feed_data`, no more.
        request.protocol.set_parser(cast(Any, behind))
    await writer.drain()
    if transport.is_closing():
        raise ConnectionResetError("gone while it was answered")
    return bytes(behind.data)


class _Behind:
    """Stands in for the connection's parser until aiohttp hands nothing on any more."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.data = bytearray()
        self._transport = transport

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        if len(self.data) > MOST_BEHIND and self._transport.is_reading():
            # It does not read what it is answered, but goes on. The kernel holds the rest.
            self._transport.pause_reading()
        return False, b""

    def feed_eof(self) -> None:
        """aiohttp has lost the connection: we took it."""


def duplicate_socket(transport: asyncio.Transport) -> socket.socket | None:
    """A second descriptor for this connection, which nobody else uses; None where only the
    transport can serve it, as with TLS."""
    lent = transport.get_extra_info("socket")
    if lent is None or transport.get_extra_info("sslcontext") is not None:
        return None
    try:
        sock = socket.fromfd(lent.fileno(), lent.family, lent.type, lent.proto)
    except OSError as fault:
        if fault.errno in (errno.EMFILE, errno.ENFILE):
            raise OwnFault(
                Code.OVERLOADED,
                "No more files can be opened now.",
                retry_after=5,
            ) from None
        raise ConnectionResetError("gone before it was answered") from None
    sock.setblocking(False)
    return sock
