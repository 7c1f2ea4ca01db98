"""The one place that touches a transport: how bytes leave, and how it is seen that they don't."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import sys
import termios
from collections.abc import Callable

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol

from telecast.errors import TelecastError

log = logging.getLogger(__name__)

HIGH_WATER = 128 * 1024
"""Bytes in our buffer at which a sink is full: two chunks, so that one never stalls a reader."""
LOW_WATER = 32 * 1024
NOTSENT_LOWAT = 128 * 1024
"""Bytes that the kernel takes before the peer's window has room for them: without this bound it
hides a slow reader behind megabytes, and every price that it sees is stale."""
USER_TIMEOUT_MS = 60_000
"""The backstop for cut cables (RFC 5482). Shorter would end live clients that only read slowly."""

_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)
_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)


class Wire:
    """A Sink over one connection. `on_close` ends it the way its door does."""

    def __init__(self, on_close: Callable[[TelecastError], None]) -> None:
        self._on_close = on_close
        self._transport: asyncio.Transport | None = None
        self._writer: AbstractStreamWriter | None = None
        self._protocol: BaseProtocol | None = None
        self._drain: asyncio.Task[None] | None = None

    def open(self, request: web.Request, writer: AbstractStreamWriter) -> None:
        """Take over the connection once its headers are on their way."""
        transport = request.transport
        if transport is None:
            return
        self._transport, self._writer, self._protocol = transport, writer, request.protocol
        transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        sock = transport.get_extra_info("socket")
        if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        for option, value in (
            (_TCP_NOTSENT_LOWAT, NOTSENT_LOWAT),
            (_TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
        ):
            if option is not None:
                try:
                    sock.setsockopt(socket.IPPROTO_TCP, option, value)
                except OSError as fault:
                    log.debug("socket option", extra={"option": option, "reason": str(fault)})

    def write(self, data: bytes) -> bool:
        transport, protocol = self._transport, self._protocol
        if transport is None or protocol is None or transport.is_closing():
            # uvloop raises for a connection that is lost before its handler has heard of it.
            return True
        transport.write(data)
        return not protocol.writing_paused

    def when_drained(self, callback: Callable[[], None]) -> None:
        if self._writer is not None:
            self._drain = asyncio.create_task(self._wait(self._writer, callback))

    async def _wait(self, writer: AbstractStreamWriter, callback: Callable[[], None]) -> None:
        try:
            await writer.drain()
        except ConnectionError:
            return  # the door's handler is told as well, and leaves
        callback()

    async def drained(self) -> None:
        """Wait until more may be written, while nobody else does."""
        if self._drain is not None and not self._drain.done():
            await asyncio.wait([self._drain])
        elif self._writer is not None:
            await self._writer.drain()

    def buffered(self) -> int:
        transport = self._transport
        if transport is None or transport.is_closing():
            return 0
        return transport.get_write_buffer_size() + _unacknowledged(transport)

    def close(self, fault: TelecastError) -> None:
        self._on_close(fault)

    def abort(self) -> None:
        """Drop the connection and what it had not taken."""
        if self._transport is not None:
            self._transport.abort()

    def abort_if_stuck(self) -> None:
        """Drop the connection if the peer has not even taken our farewell."""
        if self._transport is not None and self._transport.get_write_buffer_size():
            self.abort()

    async def end(self) -> None:
        """Let go of the connection: nothing is written any more."""
        self._transport = None
        if self._drain is not None:
            self._drain.cancel()
            await asyncio.wait([self._drain])


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the kernel holds for the peer, where it says so: how a trickle is seen to move.

    It takes more from us in steps of half of NOTSENT_LOWAT, which a slow reader needs long for.
    """
    sock = transport.get_extra_info("socket")
    if sock is None:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0
