"""One TCP connection without a network: the server's kernel, and the peer.

Bytes are only counted here; what they say is the business of whoever listens to `on_bytes` (the
service has handed them over) and `on_taken` (so many have reached the peer's program). How the
service gets at it is in `ends.py`.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable

from tests.simulation.ends import Descriptor, Transport
from tests.simulation.virtual import Loop

LATENCY = 0.004
"""Seconds that a packet takes at the most."""
OVER = 12_000
"""Bytes that may stand in a buffer above its mark: a chunk, a piece, and replies to commands."""
LESS = 0.05
"""How often the kernel takes fewer bytes than it has room for."""


class Cable:
    """The connection, with the peer's hands in it: `send`, `eat`, `cut`, `hang_up`, `vanish`.

    `room` is what the kernel takes for the peer. `lazy`: the server's loop is like uvloop, not
    like asyncio's own. With `tls` the service never gets the socket for itself.
    """

    def __init__(
        self,
        loop: Loop,
        rng: random.Random,
        *,
        number: int,
        address: str,
        room: int,
        lazy: bool,
        tls: bool,
    ) -> None:
        self.on_bytes: Callable[[bytes], None] = lambda data: None
        self.on_taken: Callable[[int], None] = lambda upto: None
        self.on_end: Callable[[bool], None] = lambda clean: None
        self.on_loss: Callable[[], None] = lambda: None
        """The server's end is about to close."""
        self.number, self.address, self.lazy, self.tls = number, address, lazy, tls
        self.waiting = bytearray()
        """Handed over by the service, and not accepted by its kernel yet."""
        self.in_kernel = self.taken = 0
        """Bytes ever: accepted by the server's kernel, read by the peer."""
        self.taken_at = self.sent_at = self.sent_before = self.handed_at = loop.time()
        """When the peer last read something, something from it last came in, and the server last
        wrote."""
        self.high = 0
        """Bytes that may wait by the service's own word."""
        self.appetite: int | None = None
        """Bytes that the peer reads at a time; None all there is, 0 nothing."""
        self.vanished = False
        self.hung_up = False
        """The peer sends nothing more."""
        self.ended = False
        """The peer has hung up, or knows that the server has."""
        self.dropped = False
        """The service has said that what waits is of no use any more."""
        self.descriptors: list[Descriptor] = []
        """Of the server's process; the connection is let go when all are closed."""
        self.transport: Transport | None = None
        self.error: OSError | None = None
        """Says once why it is dead."""
        self.dead = False
        """Reset, or timed out; the server's kernel knows."""
        self._loop, self._rng, self._room = loop, rng, room
        self._inbox = bytearray()
        self._eof = False
        """The end of what the peer sends has arrived."""
        self._finished = False
        """The server writes nothing more."""
        self._taking = False
        self._user_timeout: float | None = None
        self._watching = False

    def accept(self, receive: Callable[[], asyncio.BaseProtocol]) -> None:
        self._loop.on_socket(0.0, self._made, receive)

    def _made(self, receive: Callable[[], asyncio.BaseProtocol]) -> None:
        self.transport = Transport(self._loop, self, self.open(lent=True))
        self.transport.begin(receive())

    @property
    def handed(self) -> int:
        """Bytes that the service has ever handed over, and has not dropped."""
        return self.in_kernel + len(self.waiting)

    @property
    def lost(self) -> bool:
        """The server has let go of it."""
        return bool(self.descriptors) and not any(each.open for each in self.descriptors)

    # --- the server's kernel

    def open(self, *, lent: bool) -> Descriptor:
        descriptor = Descriptor(self._loop, self._rng, self, lent=lent)
        self.descriptors.append(descriptor)
        self._loop.files[descriptor.number] = descriptor
        return descriptor

    def let_go(self) -> None:
        """A descriptor was closed."""
        if not self.lost:
            return
        self.expect(not self.waiting or self.dropped or self.dead, "it was closed too early")
        self.waiting.clear()
        clean = not self._inbox and not self.dead
        if not clean:
            # What is on its way is lost with a reset, as what the peer sent was not read.
            self.in_kernel = self.taken
        if not self.ended:
            self._loop.on_socket(self._delay(), self._server_gone, clean)

    def put(self, data: bytes) -> int:
        """send(2), without a wait. Raises OSError."""
        self.expect(not self._finished, "nothing is sent behind the end")
        self._raise_if_dead()
        if self.dead:
            raise BrokenPipeError(errno.EPIPE, "broken pipe")
        room = self._free()
        if room <= 0:
            raise BlockingIOError(errno.EAGAIN, "full")
        size = min(room, len(data))
        if size > 1 and self._rng.random() < LESS:
            size = self._rng.randint(1, size)
        if not self.waiting:
            self.hand(data[:size])
        self.expect(self.waiting.startswith(data[:size]), "that was not next")
        del self.waiting[:size]
        self.in_kernel += size
        self._take_later()
        self._watch()
        return size

    def get(self, size: int) -> bytes:
        """recv(2), without a wait. Raises OSError."""
        if not self._inbox:
            self._raise_if_dead()
            if self.dead or self._eof:
                return b""
            raise BlockingIOError(errno.EAGAIN, "empty")
        size = min(size, len(self._inbox))
        if self._rng.random() < 0.2:
            size = self._rng.randint(1, size)
        data = bytes(self._inbox[:size])
        del self._inbox[:size]
        if self._loop.time() - self.sent_at > 0.05:
            self.sent_before = self.sent_at
        self.sent_at = self._loop.time()
        return data

    def readable(self) -> bool:
        return bool(self._inbox) or self._eof or self.dead

    def writable(self) -> bool:
        return self.dead or self._free() >= max(1, self._room // 3)

    def take_error(self) -> int:
        """SO_ERROR: why it is dead, once."""
        error, self.error = self.error, None
        return 0 if error is None or error.errno is None else error.errno

    def finish(self) -> None:
        """shutdown(2) of what the server sends. Raises OSError."""
        if self.dead:
            raise OSError(errno.ENOTCONN, "not connected")
        self.expect(not self.waiting, "the end is said before what waits")
        self._finished = True
        self._take_later()

    def set_user_timeout(self, milliseconds: int) -> None:
        self._user_timeout = milliseconds / 1000 or None  # 0 turns it off
        if self.unacknowledged():
            self._watch()  # it holds for what is on its way already

    def unacknowledged(self) -> int:
        return self.in_kernel - self.taken

    def _free(self) -> int:
        return self._room - self.unacknowledged()

    def _raise_if_dead(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error

    def _die(self, error: OSError) -> None:
        if not self.dead and not self.lost:
            self.error, self.dead = error, True
            self.in_kernel = self.taken
            self._stir()

    def _watch(self) -> None:
        """TCP_USER_TIMEOUT: nothing acknowledged for so long ends the connection (RFC 5482)."""
        if not self._watching and self._user_timeout is not None:
            self._watching = True
            self._loop.on_socket(self._user_timeout, self._look, self.taken)

    def _look(self, taken: int) -> None:
        self._watching = False
        if self.lost or not self.unacknowledged():
            return
        if self.vanished and self.taken == taken:
            self._die(TimeoutError(errno.ETIMEDOUT, "timed out"))
        else:
            self._watch()

    def _stir(self) -> None:
        """Something about it has changed."""
        delay = self._delay()
        for descriptor in self.descriptors:
            descriptor.look(delay)
        if self.transport is not None:
            self.transport.stir()

    # --- what the service has handed over

    def hand(self, data: bytes) -> None:
        """These bytes are sent from now on."""
        self.waiting += data
        self.handed_at = self._loop.time()
        try:
            self.on_bytes(data)
        except AssertionError as fault:
            self._loop.fail(fault)
        held = len(self.waiting) - self.high
        self.expect(held < OVER, f"{held} bytes more than a sink that is full")

    def expect(self, so: bool, otherwise: str) -> None:
        if not so:
            self._loop.fail(AssertionError(f"cable {self.number}: {otherwise}"))

    # --- the peer

    def _delay(self) -> float:
        return self._rng.random() * LATENCY

    def send(self, data: bytes) -> None:
        if not self.ended and not self.vanished:
            self._inbox += data
            self._stir()

    def eat(self, appetite: int | None) -> None:
        """Read so many bytes at a time from now on."""
        self.appetite = appetite
        self._take_later()

    def _take_later(self) -> None:
        if self._taking or self.ended or self.vanished or self.appetite == 0:
            return
        if self.unacknowledged() or self.lost or self._finished:
            self._taking = True
            pause = self._delay() if self.appetite is None else 0.2 + self._rng.random()
            self._loop.on_socket(pause, self._take)

    def _take(self) -> None:
        self._taking = False
        if self.ended or self.vanished or self.appetite == 0:
            return
        there = self.unacknowledged()
        size = there if self.appetite is None else min(there, self.appetite)
        if size:
            self.taken += size
            self.taken_at = self._loop.time()
            try:
                self.on_taken(self.taken)
            except AssertionError as fault:
                self._loop.fail(fault)
            self._stir()
        if self.lost:
            self._server_gone(True)
        elif self._finished and not self.unacknowledged():
            self.hang_up()
        else:
            self._take_later()

    def _server_gone(self, clean: bool) -> None:
        if not self.ended and not self.vanished and (not self.unacknowledged() or not clean):
            self.ended = True
            self.on_end(clean)

    def cut(self) -> None:
        """Reset: what is on its way to the peer is gone, and perhaps what comes from it."""
        if not self.ended:
            self.ended = True
            if self._rng.random() < 0.5:
                self._inbox.clear()
            fault = ConnectionResetError(errno.ECONNRESET, "reset")
            self._loop.on_socket(self._delay(), self._die, fault)

    def hang_up(self) -> None:
        """A clean end of what the peer sends; it reads on."""
        if not self.ended and not self.vanished and not self.hung_up:
            self.hung_up = True
            self._loop.on_socket(LATENCY, self._hear_eof)

    def _hear_eof(self) -> None:
        self._eof = True
        self._stir()

    def vanish(self) -> None:
        """Neither read nor say anything any more: the cable is cut, and nobody is notified."""
        self.vanished = True
        self._inbox.clear()
