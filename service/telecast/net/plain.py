"""A Wire over a socket that nobody else has: what the kernel takes at once, which is nearly all,
costs one system call and nothing else."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Mapping
from enum import Enum

from telecast.net import wire

log = logging.getLogger(__name__)

READ_BYTES = 16 * 1024


class Flow(Enum):
    """How bytes leave. Each state but SENDING and HALF_CLOSED has one exit that needs no peer:
    CLOSED."""

    SENDING = "bytes go to the kernel at once"
    HOLDING = "the kernel is full: bytes wait here, in order"
    FINISHING = "no more is written; our side ends when what waits has gone"
    HALF_CLOSED = "our side has ended; the peer may still send"
    LEAVING = "nothing is written or read; the socket closes when what waits has gone"
    CLOSED = "the socket is closed"


MOVES: Mapping[Flow, frozenset[Flow]] = {
    Flow.SENDING: frozenset({Flow.HOLDING, Flow.HALF_CLOSED, Flow.CLOSED}),
    Flow.HOLDING: frozenset({Flow.SENDING, Flow.FINISHING, Flow.LEAVING, Flow.CLOSED}),
    Flow.FINISHING: frozenset({Flow.HALF_CLOSED, Flow.LEAVING, Flow.CLOSED}),
    Flow.HALF_CLOSED: frozenset({Flow.CLOSED}),
    Flow.LEAVING: frozenset({Flow.CLOSED}),
    Flow.CLOSED: frozenset(),
}
WITH_BYTES = frozenset({Flow.HOLDING, Flow.FINISHING, Flow.LEAVING})
"""The states in which bytes wait on our side, and the loop says when the kernel has room."""


def _take_none(data: bytes) -> int:
    """In the place of `send` while earlier bytes wait: all of these must wait behind them."""
    return 0


class PlainWire(wire.Wire):
    """A connection whose socket only this object uses."""

    __slots__ = ("_flow", "_loop", "_reading", "_size", "_sock", "_waiting")

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        """`sock` does not block, and is closed here."""
        super().__init__(sock)
        self._loop = loop
        self._sock = sock
        self._flow = Flow.SENDING
        self.send = sock.send
        self._waiting: deque[bytes | memoryview] | None = None
        """What the kernel did not take yet; a buffer written to many wires is shared by them.
        Made in WITH_BYTES only: an empty deque is a tenth of an idle connection's memory."""
        self._size = 0
        self._reading = False

    def move(self, flow: Flow) -> None:
        """The only way in which the flow changes, and with it what `send` does."""
        if flow not in MOVES[self._flow]:
            raise AssertionError(f"no way from {self._flow.name} to {flow.name}")
        watched, watch = self._flow in WITH_BYTES, flow in WITH_BYTES
        self._flow = flow
        if not watch:
            self._waiting, self._size = None, 0
        elif not watched:
            self._waiting = deque()
        if flow is Flow.SENDING:
            self.send = self._sock.send
        else:
            self.send = _take_none if flow is Flow.HOLDING else wire.forget
        if watch and not watched:
            self._loop.add_writer(self._sock.fileno(), self._go_on)
        elif watched and not watch:
            self._loop.remove_writer(self._sock.fileno())

    # --- bytes to the peer

    def keep(self, data: bytes, taken: int) -> bool:
        if self._flow is Flow.SENDING:
            self.move(Flow.HOLDING)
        assert self._waiting is not None
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
            self._all_gone()
        if self.full and self._size <= wire.LOW_WATER:
            self._has_room()

    def _all_gone(self) -> None:
        """The kernel has all that waited."""
        if self._flow is Flow.LEAVING:
            self._shut()
        elif self._flow is Flow.FINISHING:
            self._half_close()
        else:
            self.move(Flow.SENDING)

    def _held(self) -> int:
        return self._size

    # --- bytes from the peer

    def resume(self) -> None:
        if not self._reading and self._on_end is not None and self._flow is not Flow.CLOSED:
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
            self._on_data(data)
        else:
            self.pause()
            self._report_end()
        if failed:
            self.abort()

    # --- the end

    def finish(self) -> None:
        if self._flow is Flow.HOLDING:
            self.move(Flow.FINISHING)
        elif self._flow is Flow.SENDING:
            self._half_close()

    def _half_close(self) -> None:
        self.move(Flow.HALF_CLOSED)
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            log.debug("the peer was faster")

    def abort(self) -> None:
        if self._flow is not Flow.CLOSED:
            self._shut()
            self._loop.call_soon(self._report_end)

    def _let_go(self) -> None:
        if self._flow in (Flow.HOLDING, Flow.FINISHING):
            self.pause()
            self.move(Flow.LEAVING)
        elif self._flow not in (Flow.LEAVING, Flow.CLOSED):
            self._shut()

    def _shut(self) -> None:
        self.pause()
        self.move(Flow.CLOSED)
        self._sock.close()
        self.full, self._when_drained = False, None
        self._report_gone()
