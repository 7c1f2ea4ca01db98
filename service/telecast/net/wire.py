"""A stream's connection: how bytes leave and arrive, and how the service sees that they don't.
aiohttp has let go of it by then (`takeover.py`); nothing else touches the socket of a stream.

There are two kinds: a `PlainWire` calls the kernel itself, a `TlsWire` leaves that to the event
loop, which encrypts.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import sys
import termios
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, cast

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


class TcpSocket(Protocol):
    """A real socket, or what a transport lends in its place."""

    @property
    def family(self) -> int: ...

    def fileno(self) -> int: ...

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...

    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


def _ignore(_: object) -> None:
    """No handler is set yet, or any more."""


def forget(data: bytes) -> int:
    """In the place of `send` when nothing is sent any more."""
    return len(data)


class Wire(ABC):
    """A Sink over one connection, and what its peer sends. `on_close` ends the stream in the way
    of its protocol."""

    __slots__ = (
        "_lent",
        "_on_data",
        "_on_end",
        "_when_drained",
        "full",
        "on_close",
        "on_gone",
        "send",
    )

    send: Callable[[bytes], int]
    """For the fan-out: how many of these bytes were taken. Raises OSError; `keep` the others."""

    def __init__(self, lent: TcpSocket | None) -> None:
        """`lent`: the socket, to look at and for its options."""
        self.full = False
        """Whether more waits than should: HIGH_WATER was passed, and LOW_WATER not reached yet."""
        self.on_close: Callable[[TelecastError], None] = _ignore
        self.on_gone: Callable[[Wire], None] = _ignore
        """Called once, when the connection is closed and nothing waits any more."""
        self._on_data: Callable[[bytes], None] = _ignore
        self._on_end: Callable[[], None] | None = None
        self._when_drained: list[Callable[[], None]] | None = None
        self._lent = lent
        self._set_option(_TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
        # Off while it streams: it ends live clients that read slowly, since a window that opens
        # late counts as silence. A line that is cut is found by `acknowledged`.
        self._set_option(_TCP_USER_TIMEOUT, 0)

    # --- a Sink

    def write(self, data: bytes) -> bool:
        try:
            taken = self.send(data)
        except OSError as fault:
            return self.failed(data, fault)
        return taken == len(data) or self.keep(data, taken)

    def failed(self, data: bytes, fault: OSError) -> bool:
        """`send` has raised this: `write`'s answer."""
        if isinstance(fault, BlockingIOError):
            return self.keep(data, 0)
        self.abort()
        return True

    @abstractmethod
    def keep(self, data: bytes, taken: int) -> bool:
        """Hold what `send` did not take until it can go; False when full."""

    def when_drained(self, callback: Callable[[], None]) -> None:
        if not self.full:
            asyncio.get_running_loop().call_soon(callback)
        elif self._when_drained is None:
            self._when_drained = [callback]
        else:
            self._when_drained.append(callback)

    def buffered(self) -> int:
        return self._held() + self._unacknowledged()

    def acknowledged(self) -> int | None:
        if self._lent is None or _TCP_INFO is None:
            return None
        try:
            info = self._lent.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _BYTES_ACKED.stop)
        except _CLOSED:
            return None
        if len(info) < _BYTES_ACKED.stop:
            return None
        return int.from_bytes(info[_BYTES_ACKED], sys.byteorder)

    def close(self, fault: TelecastError) -> None:
        self.on_close(fault)

    # --- what the peer sends

    def listen(self, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        """Hand on what arrives, and once that nothing will arrive any more: the peer has ended its
        side or is gone, or `abort` was called. Never from within a call of a method here."""
        self._on_data, self._on_end = on_data, on_end
        self.resume()

    @abstractmethod
    def pause(self) -> None:
        """Read nothing until `resume`."""

    @abstractmethod
    def resume(self) -> None: ...

    # --- the end

    @abstractmethod
    def finish(self) -> None:
        """Let the peer read the end of the stream behind what was written; write no more."""

    @abstractmethod
    def abort(self) -> None:
        """Drop the connection and what it had not taken."""

    def abort_if_stuck(self) -> None:
        """Drop the connection if the peer has not even taken our farewell."""
        if self._held():
            self.abort()

    def end(self) -> None:
        """Let go of the connection: it closes when the peer has taken what waits, or has had
        USER_TIMEOUT_MS for it. Nothing is written or read any more."""
        self._on_data, self._on_end, self.on_close = _ignore, None, _ignore
        self._when_drained = None
        self._set_option(_TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        self._let_go()

    # --- for the two kinds

    @abstractmethod
    def _held(self) -> int:
        """Bytes that wait on our side."""

    @abstractmethod
    def _let_go(self) -> None:
        """Write and read nothing more, and close once nothing waits."""

    def _has_room(self) -> None:
        """LOW_WATER was reached."""
        self.full = False
        callbacks, self._when_drained = self._when_drained, None
        for callback in callbacks or ():
            callback()

    def _report_end(self) -> None:
        """To whoever listens, once."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def _report_gone(self) -> None:
        on_gone, self.on_gone = self.on_gone, _ignore
        on_gone(self)

    def _set_option(self, option: int | None, value: int) -> None:
        """Where the system has it, and the socket is one of TCP."""
        sock = self._lent
        if option is None or sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        try:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        except _CLOSED as fault:
            log.debug("socket option", extra={"option": option, "reason": str(fault)})

    def _unacknowledged(self) -> int:
        """Bytes that the kernel holds for the peer, where it says so. A trickle is seen to move by
        this: from us the kernel takes steps of half of NOTSENT_LOWAT, for each of which a slow
        reader needs long."""
        if self._lent is None:
            return 0
        try:
            queued = fcntl.ioctl(self._lent.fileno(), termios.TIOCOUTQ, bytes(4))
        except _CLOSED:
            return 0
        return int.from_bytes(queued, sys.byteorder)


class Wires:
    """A group of Wires. What nearly all of them need for a write is one call."""

    def __init__(self) -> None:
        self._wires: list[Wire] = []

    def add(self, sink: Sink) -> None:
        assert isinstance(sink, Wire)
        self._wires.append(sink)

    def drop(self, place: int) -> None:
        self._wires[place] = _NOBODY

    def clear(self) -> None:
        self._wires.clear()

    def write(self, data: bytes, start: int, stop: int) -> list[int]:
        full, size = [], len(data)
        for place, wire in enumerate(self._wires[start:stop], start):
            send = wire.send  # apart: as a method, CPython 3.11 would look it up each time
            try:
                taken = send(data)
            except OSError as fault:
                if not wire.failed(data, fault):
                    full.append(place)
            else:
                if taken != size and not wire.keep(data, taken):
                    full.append(place)
        return full


class _Nobody:
    """In the place of a wire that has left."""

    send = staticmethod(forget)


_NOBODY = cast(Wire, _Nobody())
