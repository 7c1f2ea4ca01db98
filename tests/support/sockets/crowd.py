"""Thousands of clients on bare sockets in one thread: bytes are kept as they come and looked into
only when all is over, so that the crowd costs less than the service that it measures.

Blocking: from a coroutine, run it in a thread.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import resource
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import orjson

from tests.support.sockets.raw import request

PATIENCE = 120.0
"""Seconds in which nothing has changed for any member, after which a test fails."""
APPETITE = 256 * 1024
PING, PONG = b"\x89\x00", b"\x8a\x80\x00\x00\x00\x00"
LIVE = b'"type":"live"'
SPARE = 200
"""Descriptors that are no clients: the test's own, the service's files."""


def descriptors(most: int) -> int:
    """How many connections a process may hold here, at most `most`; raises the soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(most, hard - SPARE)


class Member:
    """One connection: what it asked, what came, and how it stands."""

    __slots__ = ("asked", "data", "keeps", "live", "over", "sent", "sock", "transport")

    def __init__(self, transport: str, asked: bytes, *, keeps: bool) -> None:
        self.transport = transport
        self.asked = asked
        self.keeps = keeps
        """Whether all that comes is kept; else only its end, to see where it stands."""
        self.data = bytearray()
        """The answer's head and body as they came."""
        self.sent = False
        """Whether its request is on its way."""
        self.live = False
        self.over = False
        """The connection has ended, or never came to be."""
        self.sock: socket.socket | None = None

    @property
    def status(self) -> int | None:
        """Of the answer, None while its head is not there."""
        found = re.match(rb"HTTP/1\.1 (\d{3})[^\r]*\r\n", self.data)
        return int(found[1]) if found and b"\r\n\r\n" in self.data else None

    @property
    def refused(self) -> bool:
        """Answered, and by no stream: a status, or at SSE an answer that has its end."""
        return self.status not in (None, 101 if self.transport == "ws" else 200) or (
            self.transport == "sse" and b"Content-Length:" in self.data[:2_000]
        )

    def messages(self) -> list[bytes]:
        """The JSON of all whole messages."""
        body = bytes(self.data).partition(b"\r\n\r\n")[2]
        if self.transport == "ws":
            return [payload for opcode, payload in frames(body) if opcode == 1]
        lines = unchunked(body).split(b"\n\n")[:-1]
        return [each.partition(b"data: ")[2] for each in lines if b"data: " in each]

    def events(self) -> list[bytes]:
        return [json for json in self.messages() if json.startswith(b'{"type":"event"')]

    def position(self) -> str:
        """The last that was proven to it: where it comes back to. It must have been live."""
        epoch, newest = "", 0
        for body in map(orjson.loads, self.messages()):
            if body["type"] in ("live", "heartbeat"):
                epoch, newest = body["position"].split(":")
            elif body["type"] == "event" and epoch:
                newest = body["seq"]
        return f"{epoch}:{newest}"

    def close_code(self) -> int | None:
        """Of a WebSocket's close frame, if one came."""
        body = bytes(self.data).partition(b"\r\n\r\n")[2] if self.transport == "ws" else b""
        for opcode, payload in frames(body):
            if opcode == 8:
                return int.from_bytes(payload[:2], "big")
        return None

    def ended_well(self) -> bool:
        """By a close frame, or the last chunk: nothing that was on its way was cut off."""
        if self.transport == "ws":
            return self.close_code() is not None
        return self.data.endswith(b"\r\n0\r\n\r\n")

    def notice(self) -> dict[str, Any] | None:
        """The last words of the service, if there were any."""
        for json in reversed(self.messages()):
            body: dict[str, Any] = orjson.loads(json)
            if body["type"] == "notice":
                return body
        return None


class Crowd:
    """Members and the one thread that serves them. Use as `with`."""

    def __init__(
        self,
        port: int,
        key: str,
        host: str = "127.0.0.1",
        socket_: Callable[[], socket.socket] = socket.socket,
    ) -> None:
        """`socket_` makes sockets, perhaps somewhere else."""
        self._address = host, port
        self._socket = socket_
        self._key = key
        self._selector = selectors.EpollSelector()
        self.members: list[Member] = []
        self.opened = 0
        """Connections that were established."""
        self.lives = 0
        """Members that have been sent `live` so far."""
        self.overs = 0
        self.tails: set[Member] = set()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            self.drop(member)
        self._selector.close()

    def come(
        self,
        transport: str,
        *,
        keeps: bool = True,
        receive_buffer: int | None = None,
        host: str | None = None,
        **query: Any,
    ) -> Member:
        """Begin to connect a member; `turn` does the rest. `host` is its own address."""
        member = Member(transport, request(transport, self._key, query), keeps=keeps)
        self.members.append(member)
        self.dial(member, receive_buffer=receive_buffer, host=host)
        return member

    def dial(
        self, member: Member, *, receive_buffer: int | None = None, host: str | None = None
    ) -> None:
        """Connect a member, or one whose connection is over once more."""
        member.sock = sock = self._socket()
        member.over = member.live = member.sent = False
        member.data = bytearray()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if host is not None:
            sock.bind((host, 0))
        sock.connect_ex(self._address)
        self._selector.register(sock, selectors.EVENT_WRITE, member)

    def drop(self, member: Member, *, rudely: bool = False) -> None:
        """Close a member's connection, with a reset if `rudely`."""
        if member.sock is not None:
            self._forget(member)
            if rudely:
                member.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            member.sock.close()
            member.sock = None

    def stall(self, members: Iterable[Member]) -> None:
        """Read from them no more."""
        for member in members:
            self._forget(member)

    def go_on(self, members: Iterable[Member]) -> None:
        """Read from those that stalled."""
        for member in members:
            assert member.sock is not None
            self._selector.register(member.sock, selectors.EVENT_READ, member)

    def sip(self, member: Member, most: int) -> None:
        """Read so many bytes from one that stalls, if there are any."""
        assert member.sock is not None, "it was cut"
        with contextlib.suppress(BlockingIOError):
            self._take(member, member.sock.recv(most))

    def _forget(self, member: Member) -> None:
        assert member.sock is not None
        if member.sock.fileno() in self._selector.get_map():
            self._selector.unregister(member.sock)

    def until(self, done: Callable[[], object], patience: float = PATIENCE) -> None:
        """Serve them until it is so."""
        deadline = time.monotonic() + patience
        while not done():
            if self.turn(0.05):
                deadline = time.monotonic() + patience
            assert time.monotonic() < deadline, (
                f"{self.opened} opened, {self.lives} live, {self.overs} over"
            )

    def flaws(self, truth: Sequence[bytes]) -> list[str]:
        """Whose events are not just these, byte for byte, and where they begin to differ."""
        found = []
        for number, member in enumerate(self.members):
            heard = member.events()
            if heard != truth:
                pairs = enumerate(itertools.zip_longest(truth, heard))
                found.append(
                    f"{member.transport} {number}: {next(p for p in pairs if p[1][0] != p[1][1])}"
                )
        return found

    def all_live(self) -> bool:
        return self.lives >= len(self.members)

    def turn(self, wait: float = 0.0) -> int:
        """Serve those that are ready; how many there were."""
        ready = self._selector.select(wait)
        for key, mask in ready:
            member: Member = key.data
            if mask & selectors.EVENT_WRITE:
                self._connected(member)
            else:
                self._receive(member)
        return len(ready)

    def _connected(self, member: Member) -> None:
        assert member.sock is not None
        if member.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._end(member)
            return
        self.opened += 1
        member.sock.send(member.asked)
        member.sent = True
        self._selector.modify(member.sock, selectors.EVENT_READ, member)

    def _receive(self, member: Member) -> None:
        assert member.sock is not None
        try:
            data = member.sock.recv(APPETITE)
        except ConnectionError:
            data = b""
        self._take(member, data)

    def _take(self, member: Member, data: bytes) -> None:
        if not data or member.sock is None:
            self._end(member)
            return
        if member.transport == "ws" and PING in data:
            # One more than was asked for harms nobody (RFC 6455 §5.5.3).
            with contextlib.suppress(OSError):
                member.sock.send(PONG)
        have = member.data
        start = max(0, len(have) - len(LIVE))
        have += data
        if not member.live and have.find(LIVE, start) >= 0:
            member.live = True
            self.lives += 1
        if not member.keeps and member.live:
            del have[: -len(LIVE)]

    def _end(self, member: Member) -> None:
        assert member.sock is not None
        member.over = True
        self.overs += 1
        self._forget(member)
        member.sock.close()
        member.sock = None


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(opcode, payload) of each whole server frame (RFC 6455 §5.2)."""
    at, end = 0, len(data)
    while at + 2 <= end:
        opcode, size, start = data[at] & 15, data[at + 1], at + 2
        assert size < 128, "servers don't mask"
        if size == 126:
            size = int.from_bytes(data[start : start + 2], "big")
            start += 2
        elif size == 127:
            size = int.from_bytes(data[start : start + 8], "big")
            start += 8
        at = start + size
        if at > end:
            return
        yield opcode, data[start:at]


def unchunked(data: bytes) -> bytes:
    """What there is of a chunked body (RFC 9112 §7.1)."""
    found, at = [], 0
    while (line := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:line], 16)
        if not size:
            break
        found.append(data[line + 2 : line + 2 + size])
        at = line + 2 + size + 2
    return b"".join(found)
