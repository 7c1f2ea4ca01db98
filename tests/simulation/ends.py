"""The server's end of a cable: descriptors, a socket of its own, and a loop's transport."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import sys
from typing import TYPE_CHECKING, Any

from tests.simulation.virtual import Loop

if TYPE_CHECKING:
    from tests.simulation.cable import Cable

READ, WRITE = "read", "write"
FALSE_ALARM = 0.03
"""How often a descriptor is said to be ready that is not: its bytes have just been taken."""
SHUTDOWN_SECONDS = 30.0
"""How long a loop waits for the peer to agree to the end of TLS."""
READ_BYTES = 256 * 1024


class Descriptor:
    """A number for a connection, and who is called when that is ready. Ready is a level, not an
    edge: it is said again in every turn in which it is so.

    A loop that is like uvloop says once that there is an error, and then looks at the descriptor
    no more until something else is asked for (libuv, `uv__poll_io`).
    """

    def __init__(self, loop: Loop, rng: random.Random, cable: Cable, *, lent: bool) -> None:
        """`lent`: a transport has it, and nobody else watches it, or closes it."""
        self.cable, self.lent = cable, lent
        self.open = True
        self.number = 1_000_000 + len(loop.files)
        self._loop, self._rng = loop, rng
        self._watched: dict[str, asyncio.Handle] = {}
        self._blind = False
        self._due = False
        self._false_alarm = False

    def watch(self, what: str, handle: asyncio.Handle | None) -> bool:
        """Have it called from now on, or nobody; whether somebody was."""
        self.cable.expect(self.open, f"{self.number} is watched, and closed")
        was = self._watched.pop(what, None)
        if was is not None:
            was.cancel()
        if handle is not None:
            self._watched[what] = handle
            self._false_alarm |= self._rng.random() < FALSE_ALARM
        self._blind = False
        self.look(0.0)
        return was is not None

    def look(self, delay: float) -> None:
        """Something may have become ready; say so in that time at the soonest."""
        if not self._due and self._ready():
            self._due = True
            self._loop.on_socket(delay, self._report)

    def _ready(self) -> list[str]:
        cable = self.cable
        if not self.open or self._blind:
            return []
        if self._false_alarm or cable.error is not None:
            return list(self._watched)
        is_ready = {READ: cable.readable, WRITE: cable.writable}
        return [what for what in self._watched if is_ready[what]()]

    def _report(self) -> None:
        self._due = False
        ready = self._ready()
        self._false_alarm = False
        self._blind = self.cable.error is not None and self.cable.lazy and not self.lent
        self._loop.counts["errors said once"] += self._blind
        for what in (READ, WRITE):
            handle = self._watched.get(what)
            if what in ready and handle is not None:
                handle._run()
        self.look(0.0)

    def close(self) -> None:
        self.cable.expect(self.open, f"{self.number} is closed twice")
        self.cable.expect(not self._watched, f"{self.number} is closed, and still watched")
        self.open = False
        self.cable.let_go()


class Lent:
    """What a transport says is its socket: to look at, and for its options."""

    family = socket.AF_INET
    type = socket.SOCK_STREAM
    proto = 0

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor.number if self._descriptor.open else -1

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self._check()
        if (level, option) == (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT):
            self._descriptor.cable.set_user_timeout(value)

    def getsockopt(self, level: int, option: int, size: int = 0) -> bytes | int:
        """SO_ERROR; TCP_INFO, of which Linux has `tcpi_bytes_acked` at 120."""
        self._check()
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            return self._descriptor.cable.take_error()
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        info = bytearray(size)
        info[120:128] = self._descriptor.cable.taken.to_bytes(8, sys.byteorder)
        return bytes(info)

    def _check(self) -> None:
        if not self._descriptor.open:
            raise OSError(errno.EBADF, "bad file descriptor")


class Socket(Lent):
    """A socket object of the service's own."""

    def __init__(self, descriptor: Descriptor) -> None:
        super().__init__(descriptor)
        self.cable = descriptor.cable
        self._blocks = True

    def setblocking(self, flag: bool) -> None:
        self._blocks = flag

    def send(self, data: bytes | memoryview) -> int:
        self._use()
        return self.cable.put(bytes(data))

    def recv(self, size: int) -> bytes:
        self._use()
        return self.cable.get(size)

    def shutdown(self, how: int) -> None:
        self._use()
        assert how == socket.SHUT_WR
        self.cable.finish()

    def close(self) -> None:
        self.cable.on_loss()
        self._descriptor.close()

    def _use(self) -> None:
        descriptor, transport = self._descriptor, self.cable.transport
        self.cable.expect(descriptor.open, f"{descriptor.number} is used, and closed")
        self.cable.expect(not self._blocks, "this would hold up the loop")
        self.cable.expect(transport is None or transport.is_closing(), "a transport uses it too")


class Transport(asyncio.Transport):
    """What the event loop makes of a connection that it has accepted; with TLS, what comes of that.

    Lazy, it writes at the end of the turn as uvloop does, not at once as asyncio does.
    """

    def __init__(self, loop: Loop, cable: Cable, descriptor: Descriptor) -> None:
        extra = {"socket": Lent(descriptor), "peername": (cable.address, 40_000 + cable.number)}
        super().__init__(extra | ({"sslcontext": object()} if cable.tls else {}))
        self._loop, self._cable, self._descriptor = loop, cable, descriptor
        self._protocol: Any = None
        self._low = 16 * 1024
        cable.high = 64 * 1024
        self._paused = False
        """The protocol's writing."""
        self._reading, self._watching = True, False
        self._closing = self._over = False
        self._flushing = False
        self._patience: asyncio.TimerHandle | None = None

    def begin(self, protocol: Any) -> None:
        self._protocol = protocol
        protocol.connection_made(self)
        self._watch_reading()

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    # --- what it reads

    def pause_reading(self) -> None:
        self._reading = False
        self._watch_reading()

    def resume_reading(self) -> None:
        self._reading = True
        self._watch_reading()

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def _watch_reading(self) -> None:
        if not self._descriptor.open:
            return
        # TLS goes on reading while it flushes what was written before it was closed.
        on = self._reading and not self._over and (not self._closing or self._cable.tls)
        if on is not self._watching:
            self._watching = on
            self._descriptor.watch(READ, self._handle(self._read) if on else None)

    def _read(self) -> None:
        try:
            data = self._cable.get(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as fault:
            self._lose(fault)
            return
        if data:
            self._protocol.data_received(data)
            return
        self._reading = False
        self._watch_reading()
        if self._cable.tls and self._closing:
            self._lose(None)
        elif not self._protocol.eof_received():
            self.close()

    # --- what it writes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._cable.high, self._low = high, high // 4 if low is None else low
        self._pause_if_full()

    def get_write_buffer_size(self) -> int:
        return len(self._cable.waiting)

    def write(self, data: Any) -> None:
        cable = self._cable
        if self._closing and self._cable.lazy:
            raise RuntimeError("unable to perform operation on the transport; it is closed")
        if self._closing or not data:
            return
        data = bytes(data)
        if not cable.lazy and not cable.waiting:
            try:
                data = data[cable.put(data) :]
            except BlockingIOError:
                pass
            except OSError as fault:
                self._lose(fault)
                return
        if data:
            cable.hand(data)
            if not cable.lazy:
                self._descriptor.watch(WRITE, self._handle(self._flush))
            elif not self._flushing:
                self._flushing = True
                self._loop.call_soon(self._flush)
        self._pause_if_full()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def _pause_if_full(self) -> None:
        if not self._paused and len(self._cable.waiting) > self._cable.high:
            self._paused = True
            self._protocol.pause_writing()

    def _flush(self) -> None:
        self._flushing = False
        cable = self._cable
        if self._over:
            return
        try:
            while cable.waiting:
                cable.put(bytes(cable.waiting))
        except BlockingIOError:
            pass
        except OSError as fault:
            self._lose(fault)
            return
        self._descriptor.watch(WRITE, self._handle(self._flush) if cable.waiting else None)
        if self._paused and len(cable.waiting) <= self._low:
            self._paused = False
            self._protocol.resume_writing()
        self.stir()

    # --- how it ends

    def close(self) -> None:
        if self._closing:
            return
        self._cable.on_loss()
        self._closing = True
        if self._cable.tls:
            self._patience = self._loop.call_later(SHUTDOWN_SECONDS, self._lose, None)
        self.stir()

    def abort(self) -> None:
        whole = not self._cable.waiting or not self._others()
        self._cable.expect(whole, "the rest of what it was to write is lost")
        self._lose(None)

    def stir(self) -> None:
        """It may be time to go: what was written has left, or with TLS has arrived."""
        cable = self._cable
        left = not cable.waiting and not (cable.tls and cable.unacknowledged())
        if self._closing and not self._over and left:
            self._over = True
            self._loop.call_soon(self._say_lost, None)
        self._watch_reading()

    def _lose(self, fault: Exception | None) -> None:
        if self._over:
            return
        self._cable.on_loss()
        self._closing = self._over = True
        self._cable.dropped |= not self._others()
        self._watch_reading()
        self._descriptor.watch(WRITE, None)
        self._loop.call_soon(self._say_lost, fault)

    def _others(self) -> bool:
        """Whether it is not alone with the connection."""
        return any(each.open and not each.lent for each in self._cable.descriptors)

    def _say_lost(self, fault: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._protocol.connection_lost(fault)
        self._descriptor.close()

    def _handle(self, call: Any) -> asyncio.Handle:
        return asyncio.Handle(call, (), self._loop)
