"""A Wire over a socket that nobody else has: what the kernel takes at once, which is nearly all,
costs one system call and nothing else."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque

from telecast.net import wire

log = logging.getLogger(__name__)

READ_BYTES = 16 * 1024


def _hold(data: bytes) -> int:
    """In the place of `send` while what was written before still waits."""
    return 0


class SocketWire(wire.Wire):
    """A connection of which we have the socket, alone."""

    __slots__ = ("_ending", "_finishing", "_loop", "_reading", "_size", "_sock", "_waiting")

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        """`sock` does not block, and is closed here."""
        super().__init__(sock)
        self._loop = loop
        self._sock = sock
        self.send = sock.send
        self._waiting: deque[bytes | memoryview] | None = None
        """What the kernel did not take yet; what many were written at once is shared by them."""
        self._size = 0
        self._reading = self._finishing = self._ending = False

    def keep(self, data: bytes, taken: int) -> bool:
        if self._waiting is None:
            self._waiting = deque()
            self.send = _hold
            self._loop.add_writer(self._sock.fileno(), self._go_on)
        self._waiting.append(memoryview(data)[taken:] if taken else data)
        self._size += len(data) - taken
        self.full = self.full or self._size > wire.HIGH_WATER
        return not self.full

    def _go_on(self) -> None:
        """The kernel has room again."""
        waiting = self._waiting
        assert waiting is not None
        try:
            while waiting:
                head = waiting[0]
                taken = self._sock.send(head)
                self._size -= taken
                if taken < len(head):
                    waiting[0] = memoryview(head)[taken:]
                    break
                waiting.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self.abort()
            return
        if not waiting:
            self._nothing_waits()
        if self.full and self._size <= wire.LOW_WATER:
            self._has_room()

    def _nothing_waits(self) -> None:
        self._waiting = None
        self._loop.remove_writer(self._sock.fileno())
        if self._ending:
            self._shut()
        elif self._finishing:
            self._half_close()
        else:
            self.send = self._sock.send

    def _held(self) -> int:
        return self._size

    def resume(self) -> None:
        if not self._reading and self._hear_end is not None and self._sock.fileno() >= 0:
            self._reading = True
            self._loop.add_reader(self._sock.fileno(), self._readable)

    def pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())

    def _readable(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
            # uvloop says once that a socket has failed, and there may be bytes before that.
            failed = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        if data:
            self._hear(data)
        else:
            self.pause()
            self._say_end()
        if failed:
            self.abort()

    def finish(self) -> None:
        self._finishing = True
        self.send = wire.forget
        if self._waiting is None:
            self._half_close()

    def _half_close(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            log.debug("the peer was faster")

    def abort(self) -> None:
        if self._sock.fileno() >= 0:
            self._shut()
            self._loop.call_soon(self._say_end)

    def _let_go(self) -> None:
        if self._sock.fileno() < 0:
            return
        self.pause()
        self._ending = True
        if self._waiting is None:
            self._shut()

    def _shut(self) -> None:
        self.pause()
        if self._waiting is not None:
            self._waiting, self._size = None, 0
            self._loop.remove_writer(self._sock.fileno())
        self.send = wire.forget
        self._sock.close()
        self.full, self._when_drained = False, None
        self._say_gone()
