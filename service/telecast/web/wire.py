"""The one place that touches a transport: how bytes leave, and how it is seen that they don't."""

from __future__ import annotations

import asyncio
import contextlib
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
from telecast.fanout.sink import Sink

log = logging.getLogger(__name__)

HIGH_WATER = 128 * 1024
"""Bytes in our buffer at which a sink is full: two chunks, so that one never stalls a reader."""
LOW_WATER = 32 * 1024
NOTSENT_LOWAT = 64 * 1024
"""Bytes that the kernel takes before the peer's window has room for them: without this bound it
hides a slow reader behind megabytes, and every price that it sees is stale. Twice as much makes
that a tenth older, and a distant client no faster (bench/lowat.py)."""
USER_TIMEOUT_MS = 60_000
"""How long a peer may take nothing of an answer, or of the end of a stream (RFC 5482)."""

_CLOSED = (OSError, ValueError)
"""What a socket raises that is closed: of uvloop's the descriptor is negative then."""

_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)
_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)
_TCP_INFO = getattr(socket, "TCP_INFO", None)
_BYTES_ACKED = slice(120, 128)
"""Where Linux has `tcpi_bytes_acked` in its `struct tcp_info` (linux/tcp.h, since 4.1)."""


def _ignore(_: TelecastError) -> None:
    """It has ended already."""


class Wire:
    """A Sink over one connection. `on_close` ends it the way its door does."""

    __slots__ = ("_drain", "_on_close", "_protocol", "_writer", "transport")

    def __init__(self, on_close: Callable[[TelecastError], None]) -> None:
        self._on_close = on_close
        self.transport: asyncio.Transport | None = None
        """None before it is opened and after it has ended."""
        self._writer: AbstractStreamWriter | None = None
        self._protocol: BaseProtocol | None = None
        self._drain: asyncio.Task[None] | None = None

    def open(self, request: web.Request, writer: AbstractStreamWriter) -> None:
        """Take over the connection once its headers are on their way."""
        transport = request.transport
        if transport is None:
            return
        self.transport, self._writer, self._protocol = transport, writer, request.protocol
        transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        _set_option(transport, _TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
        # Off while it streams: it ends live clients that read slowly, since a window that opens
        # late counts as silence. A line that is cut is found by `acknowledged`.
        _set_option(transport, _TCP_USER_TIMEOUT, 0)

    def write(self, data: bytes) -> bool:
        transport = self.transport
        if transport is None or transport.is_closing():
            # uvloop raises for a connection that is lost before its handler has heard of it.
            return True
        transport.write(data)
        return self._protocol is None or not self._protocol.writing_paused

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
        transport = self.transport
        if transport is None or transport.is_closing():
            return 0
        return transport.get_write_buffer_size() + _unacknowledged(transport)

    def acknowledged(self) -> int | None:
        transport = self.transport
        if transport is None or transport.is_closing() or _TCP_INFO is None:
            return None
        sock = transport.get_extra_info("socket")
        if sock is None:
            return None
        try:
            info: bytes = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _BYTES_ACKED.stop)
        except _CLOSED:
            return None
        if len(info) < _BYTES_ACKED.stop:
            return None
        return int.from_bytes(info[_BYTES_ACKED], sys.byteorder)

    def close(self, fault: TelecastError) -> None:
        self._on_close(fault)

    def finish(self) -> None:
        """Let the peer read the end of the stream behind what was written; write no more."""
        transport = self.transport
        if transport is not None and not transport.is_closing() and transport.can_write_eof():
            with contextlib.suppress(OSError):  # the peer was faster
                transport.write_eof()

    def abort(self) -> None:
        """Drop the connection and what it had not taken."""
        if self.transport is not None:
            self.transport.abort()

    def abort_if_stuck(self) -> None:
        """Drop the connection if the peer has not even taken our farewell."""
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.abort()

    async def end(self) -> None:
        """Let go of the connection: nothing is written any more."""
        transport = self.transport
        if transport is not None and (
            not transport.is_closing() or transport.get_write_buffer_size()
        ):
            # A transport that is closing waits for what it still holds to be taken.
            _set_option(transport, _TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        self.transport = self._writer = self._protocol = None
        self._on_close = _ignore
        if self._drain is not None:
            self._drain.cancel()
            await asyncio.wait([self._drain])


class _Nowhere:
    """In the place of a transport that is not written to: all that passes is left to the Wire."""

    def get_write_buffer_size(self) -> int:
        return 1

    def write(self, data: bytes) -> None:
        raise NotImplementedError


_NOWHERE = _Nowhere()


class Wires:
    """A group of Wires. What nearly all of them need for a write costs one call of two methods of
    the transport: no Python frame, and nothing of Wire or subscriber is touched."""

    def __init__(self) -> None:
        self._transports: list[asyncio.Transport | _Nowhere] = []
        self._wires: list[Wire | None] = []

    def add(self, sink: Sink) -> None:
        assert isinstance(sink, Wire)
        self._transports.append(sink.transport or _NOWHERE)
        self._wires.append(sink)

    def drop(self, place: int) -> None:
        self._transports[place], self._wires[place] = _NOWHERE, None

    def clear(self) -> None:
        self._transports.clear()
        self._wires.clear()

    def write(self, data: bytes, start: int, stop: int) -> list[int]:
        full = []
        for place, transport in enumerate(self._transports[start:stop], start):
            try:
                # One piece into an empty buffer leaves it below HIGH_WATER, whatever the kernel
                # takes. Where something waits already, the Wire says whether there is room.
                if not transport.get_write_buffer_size():
                    transport.write(data)
                    continue
            except RuntimeError:
                continue  # uvloop: lost, and its handler has not heard of it yet
            wire = self._wires[place]
            if wire is not None and not wire.write(data):
                full.append(place)
        return full


def _set_option(transport: asyncio.Transport, option: int | None, value: int) -> None:
    """Where the system has it, and the socket is one of TCP."""
    sock = transport.get_extra_info("socket")
    if option is None or sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    except _CLOSED as fault:
        log.debug("socket option", extra={"option": option, "reason": str(fault)})


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the kernel holds for the peer, where it says so: how a trickle is seen to move.

    It takes more from us in steps of half of NOTSENT_LOWAT, which a slow reader needs long for.
    """
    sock = transport.get_extra_info("socket")
    if sock is None:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except _CLOSED:
        return 0
