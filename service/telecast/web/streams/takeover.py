"""From a request to a stream: its connection is taken from aiohttp, for good."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any, cast

from aiohttp import web

from telecast.errors import Code, OwnFault
from telecast.net.plain import SocketWire
from telecast.net.tls import TransportWire
from telecast.net.wire import Wire

MOST_BEHIND = 64 * 1024
"""Bytes behind an upgrade at which no more is read until the upgrade is answered."""


async def take_over(request: web.Request, response: web.StreamResponse) -> tuple[Wire, bytes]:
    """Answer with this head. The connection is the wire's then, and aiohttp lets go of the rest as
    soon as the handler returns: protocol, tasks, parser and request are more than all that a
    stream needs.

    Also gives what the peer sent behind an upgrade. Raises ConnectionError, the peer is gone;
    OwnFault OVERLOADED, no more files can be opened, and then nothing was answered.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("gone before it was answered")
    sock = own_socket(transport)
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
        return SocketWire(sock, loop), behind
    protocol = request.protocol
    wire = TransportWire(transport)
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
    """The connection's parser, to aiohttp, until nothing comes through it any more."""

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
        """It is lost to aiohttp, and that was us."""


def own_socket(transport: asyncio.Transport) -> socket.socket | None:
    """A socket of our own for this connection; None where only the transport can serve it."""
    lent = transport.get_extra_info("socket")
    if lent is None or transport.get_extra_info("sslcontext") is not None:
        return None
    try:
        sock = socket.fromfd(lent.fileno(), lent.family, lent.type, lent.proto)
    except OSError as fault:
        if fault.errno in (errno.EMFILE, errno.ENFILE):
            raise OwnFault(
                Code.OVERLOADED, "No more connections can be had.", retry_after=5
            ) from None
        raise ConnectionResetError("gone before it was answered") from None
    sock.setblocking(False)
    return sock
