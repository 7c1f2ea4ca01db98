"""One TCP connection without a network: the server's transport, its kernel's buffer, and the peer.

Bytes are only counted here; what they say is the business of whoever listens to `on_bytes` (the
server has handed them over) and `on_taken` (so many have reached the peer's program).
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import sys
from collections.abc import Callable
from typing import Any

from virtual import Loop

LATENCY = 0.004
"""Seconds that a packet takes at the most."""
OVER = 12_000
"""Bytes that may stand in a buffer above its mark: a chunk, a piece, and replies to commands."""


class Cable(asyncio.Transport):
    """The server's end, with the peer's hands in it: `send`, `take`, `cut`, `hang_up`, `vanish`.

    `room` is what the kernel takes for the peer, `lazy` writes at the end of the turn as uvloop
    does, not at once as asyncio does. It is its own socket, too.
    """

    family = socket.AF_INET
    type = socket.SOCK_STREAM
    proto = 0

    def __init__(
        self, loop: Loop, rng: random.Random, *, number: int, address: str, room: int, lazy: bool
    ) -> None:
        super().__init__({"socket": self, "peername": (address, 40_000 + number)})
        self.on_bytes: Callable[[bytes], None] = lambda data: None
        self.on_taken: Callable[[int], None] = lambda upto: None
        self.on_end: Callable[[bool], None] = lambda clean: None
        self.on_loss: Callable[[], None] = lambda: None
        """The server's end is about to close."""
        self.number = number
        self.handed = self.in_kernel = self.taken = 0
        """Bytes ever: given by the server, accepted by its kernel, read by the peer."""
        self.taken_at = self.sent_at = self.sent_before = self.handed_at = loop.time()
        """When the peer last read something, something from it last came in, and the server last
        wrote."""
        self.appetite: int | None = None
        """Bytes that the peer reads at a time; None all there is, 0 nothing."""
        self.vanished = False
        self.ended = False
        """The peer has hung up, or knows that the server has."""
        self.lost = False
        """The server's protocol was told that the connection is gone."""
        self._loop, self._rng, self._room, self._lazy = loop, rng, room, lazy
        self._protocol: Any = None
        self._high, self._low = 64 * 1024, 16 * 1024
        self._paused = False
        self._closing = False
        self._reset = False
        self._reading = True
        self._inbox = bytearray()
        self._coming = False
        self._taking = False
        self._flushing = False
        self._user_timeout: float | None = None
        self._watching = False
        self.hung_up = False
        """The peer sends nothing more."""
        self._made = self._finished = False

    def accept(self, receive: Callable[[], asyncio.BaseProtocol]) -> None:
        self._loop.on_socket(0.0, self._make, receive)

    def _make(self, receive: Callable[[], asyncio.BaseProtocol]) -> None:
        self._made = True
        self._protocol = receive()
        self._protocol.connection_made(self)
        self._expect()

    # --- the server's end

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return 0 if self.lost else self.handed - self.in_kernel

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        assert low is not None
        self._high, self._low = high, low

    def write(self, data: Any) -> None:
        if self._closing and self._lazy:
            raise RuntimeError("unable to perform operation on the transport; it is closed")
        if self._closing or not data:
            return
        if self._reset:
            self._lose(ConnectionResetError(errno.ECONNRESET, "reset"))
            return
        self._hand(bytes(data))
        if not self._lazy:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        if not self._paused and self.get_write_buffer_size() > self._high:
            self._paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """The peer reads its end behind what was written, and hangs up too."""
        self._finished = True
        self._take_later()

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._expect()

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def close(self) -> None:
        if self._closing:
            return
        self.on_loss()
        self._closing = True
        if not self.get_write_buffer_size():
            self._loop.call_soon(self._say_lost, None)

    def abort(self) -> None:
        if self.lost:
            return
        self._lose(None)

    # --- the server's socket

    def fileno(self) -> int:
        return 1_000_000 + self.number

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if (level, option) == (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT):
            self._user_timeout = value / 1000 or None  # 0 turns it off
            if self.in_kernel > self.taken:
                self._watch()  # it holds for what is on its way already

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """TCP_INFO, of which Linux has `tcpi_bytes_acked` at 120."""
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        info = bytearray(size)
        info[120:128] = self.taken.to_bytes(8, sys.byteorder)
        return bytes(info)

    def push(self, data: bytes) -> int:
        """write(2) on the descriptor."""
        assert not self._closing, "a descriptor is not written to once its transport closes it"
        assert not self.get_write_buffer_size(), "this overtakes what the transport holds"
        if self._reset:
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        free = self._room - (self.in_kernel - self.taken)
        if free <= 0:
            raise BlockingIOError(errno.EAGAIN, "full")
        some = data[:free]
        self._hand(some)
        self._to_kernel(len(some))
        return len(some)

    def unacknowledged(self) -> int:
        return self.in_kernel - self.taken

    def _hand(self, data: bytes) -> None:
        self.handed += len(data)
        self.handed_at = self._loop.time()
        try:
            self.on_bytes(data)
            held = self.get_write_buffer_size() - self._high
            assert held < OVER, f"{held} bytes more than a sink that is full"
        except AssertionError as fault:
            self._loop.fail(fault)

    def _flush(self) -> None:
        self._flushing = False
        if self.lost:
            return
        size = min(self.handed - self.in_kernel, self._room - (self.in_kernel - self.taken))
        if size > 0:
            self._to_kernel(size)
        if self._paused and self.get_write_buffer_size() <= self._low:
            self._paused = False
            self._protocol.resume_writing()
        if self._closing and not self.get_write_buffer_size():
            self._loop.call_soon(self._say_lost, None)

    def _to_kernel(self, size: int) -> None:
        self.in_kernel += size
        self._take_later()
        self._watch()

    def _lose(self, fault: Exception | None) -> None:
        self.on_loss()
        self._closing = True
        self._loop.call_soon(self._say_lost, fault)

    def _say_lost(self, fault: Exception | None) -> None:
        if self.lost:
            return
        clean = fault is None and not self.get_write_buffer_size()
        self.handed = self.in_kernel
        self.lost = self._closing = True
        self._protocol.connection_lost(fault)
        if not clean:
            self.in_kernel = self.taken
        if not self.ended:
            self._loop.on_socket(self._delay(), self._server_gone, clean)

    def _server_gone(self, clean: bool) -> None:
        if not self.ended and not self.vanished and (self.taken >= self.in_kernel or not clean):
            self.ended = True
            self.on_end(clean)

    # --- the peer

    def _delay(self) -> float:
        return self._rng.random() * LATENCY

    def send(self, data: bytes) -> None:
        if not self.ended and not self.vanished:
            self._inbox += data
            self._expect()

    def _expect(self) -> None:
        if not self._coming and self._inbox and self._made:
            self._coming = True
            self._loop.on_socket(self._delay(), self._come)

    def _come(self) -> None:
        self._coming = False
        if self._closing or not self._reading or not self._inbox:
            return
        size = len(self._inbox)
        if self._rng.random() < 0.2:
            size = self._rng.randint(1, size)
        data = bytes(self._inbox[:size])
        del self._inbox[:size]
        if self._loop.time() - self.sent_at > 0.05:
            self.sent_before = self.sent_at
        self.sent_at = self._loop.time()
        self._protocol.data_received(data)
        self._expect()

    def eat(self, appetite: int | None) -> None:
        """Read so many bytes at a time from now on."""
        self.appetite = appetite
        self._take_later()

    def _take_later(self) -> None:
        if self._taking or self.ended or self.vanished or self.appetite == 0:
            return
        if self.in_kernel > self.taken or self.lost or self._finished:
            self._taking = True
            pause = self._delay() if self.appetite is None else 0.2 + self._rng.random()
            self._loop.on_socket(pause, self._take)

    def _take(self) -> None:
        self._taking = False
        if self.ended or self.vanished or self.appetite == 0:
            return
        there = self.in_kernel - self.taken
        size = there if self.appetite is None else min(there, self.appetite)
        if size:
            self.taken += size
            self.taken_at = self._loop.time()
            try:
                self.on_taken(self.taken)
            except AssertionError as fault:
                self._loop.fail(fault)
            if self.get_write_buffer_size():
                self._loop.on_socket(self._delay(), self._flush)
        if self.lost:
            self._server_gone(True)
        elif self._finished and self.taken >= self.handed:
            self.hang_up()
        else:
            self._take_later()

    def cut(self) -> None:
        """Reset: what is on its way in either direction is gone."""
        if not self.ended:
            self.ended = self._reset = True
            self._inbox.clear()
            self._loop.on_socket(self._delay(), self._hear_end, ConnectionResetError("cut"))

    def hang_up(self) -> None:
        """A clean end of what the peer sends; it reads on."""
        if not self.ended and not self.vanished and not self.hung_up:
            self.hung_up = True
            self._loop.on_socket(LATENCY, self._hear_eof)

    def _hear_eof(self) -> None:
        if not self._made or (self._inbox and not self._closing):
            self._loop.on_socket(LATENCY, self._hear_eof)
        elif not self._closing and not self._protocol.eof_received():
            self.close()

    def vanish(self) -> None:
        """Neither read nor say anything any more: the cable is cut, and nobody is told."""
        self.vanished = True
        self._inbox.clear()

    def _hear_end(self, fault: Exception) -> None:
        if not self._made:
            self._loop.on_socket(LATENCY, self._hear_end, fault)
        elif not self.lost:
            self._lose(fault)

    def _watch(self) -> None:
        """TCP_USER_TIMEOUT: nothing acknowledged for so long ends the connection (RFC 5482)."""
        if not self._watching and self._user_timeout is not None:
            self._watching = True
            self._loop.on_socket(self._user_timeout, self._look, self.taken)

    def _look(self, taken: int) -> None:
        self._watching = False
        if self.lost or self.in_kernel == self.taken:
            return
        if self.vanished and self.taken == taken:
            self._hear_end(TimeoutError(errno.ETIMEDOUT, "timed out"))
        else:
            self._watch()
