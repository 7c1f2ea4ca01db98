"""A stream's own connection: order and fullness, alone and in a group, and each way it can end."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from telecast.errors import OwnFault
from telecast.fanout.cohort import PIECE_BYTES
from telecast.net.plain import PlainWire
from telecast.net.tls import TlsWire
from telecast.net.wire import HIGH_WATER, LOW_WATER, USER_TIMEOUT_MS, Wire, Wires
from telecast.web.streams.takeover import duplicate_socket

RESET = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER of no time: closing is a reset."""
PATIENCE = 90.0
"""Seconds after which what does not become so fails the test."""


@dataclass
class Line:
    """One accepted connection: our end, and the peer's plain socket."""

    wire: Wire
    peer: socket.socket
    heard: bytearray = field(default_factory=bytearray)
    ends: int = 0
    gone: int = 0
    called: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever the wire has called one of the three below."""

    def take(self, data: bytes) -> None:
        self.heard.extend(data)
        self.called.set()

    def end(self) -> None:
        self.ends += 1
        self.called.set()

    def let_go(self, which: Wire) -> None:
        assert which is self.wire
        self.gone += 1
        self.called.set()

    async def until(self, fact: Callable[[], object]) -> None:
        """Wait for what shows in one of the wire's calls."""
        async with asyncio.timeout(PATIENCE):
            while not fact():
                self.called.clear()
                await self.called.wait()

    async def read(self, size: int) -> bytes:
        loop, data = asyncio.get_running_loop(), b""
        while len(data) < size:
            more = await loop.sock_recv(self.peer, size - len(data))
            assert more, f"ended after {len(data)} of {size} bytes"
            data += more
        return data

    def has(self) -> bytes:
        """What came to it; the loop has no turn meanwhile, the kernel may need a moment."""
        assert select.select([self.peer], [], [], PATIENCE)[0]
        return self.peer.recv(100)

    async def rest(self) -> bytes:
        loop, data = asyncio.get_running_loop(), b""
        while more := await loop.sock_recv(self.peer, 65_536):
            data += more
        return data

    def fill(self) -> bytes:
        """Write until it is full; all that was written."""
        sent = b""
        while not self.wire.full:
            piece = b"%07d." % len(sent) * (PIECE_BYTES // 8)
            sent += piece
            assert self.wire.write(piece) is not self.wire.full
        return sent

    def narrow(self) -> None:
        """Let the kernel take little at once."""
        assert self.wire._lent is not None
        self.wire._lent.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2_048)

    def learns(self) -> None:
        """Once the kernel at our end knows what the peer has done; the loop has no turn."""
        assert self.wire._lent is not None
        assert select.select([self.wire._lent.fileno()], [], [], PATIENCE)[0]

    def reset(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.peer.close()


@dataclass
class Exchange:
    """Accepts connections as the server does, each with a Wire in one group."""

    kind: str
    port: int
    accepted: asyncio.Queue[asyncio.Transport]
    group: Wires = field(default_factory=Wires)
    lines: list[Line] = field(default_factory=list)

    async def line(self, *, grouped: bool = True, listening: bool = True) -> Line:
        peer = socket.socket()
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", self.port))
        transport = await self.accepted.get()
        wire: Wire
        if self.kind == "socket":
            own = duplicate_socket(transport)
            assert own is not None
            transport.abort()
            wire = PlainWire(own, asyncio.get_running_loop())
        else:
            wire = TlsWire(transport)
        line = Line(wire, peer)
        wire.on_gone = line.let_go
        if listening:
            wire.listen(line.take, line.end)
        if grouped:
            self.group.add(wire)
        self.lines.append(line)
        return line


@asynccontextmanager
async def opened(kind: str) -> AsyncIterator[Exchange]:
    accepted: asyncio.Queue[asyncio.Transport] = asyncio.Queue()

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.put_nowait(transport)  # type: ignore[arg-type]

    server = await asyncio.get_running_loop().create_server(Accepted, "127.0.0.1", 0)
    own = Exchange(kind, server.sockets[0].getsockname()[1], accepted)
    try:
        yield own
    finally:
        server.close()
        for line in own.lines:
            line.peer.close()
            line.wire.abort()
            await line.until(lambda: line.gone == 1)  # noqa: B023


@pytest.fixture(params=["socket", "transport"])
async def exchange(request: pytest.FixtureRequest) -> AsyncIterator[Exchange]:
    async with opened(request.param) as own:
        yield own


# --- what is written


async def test_what_is_written_to_a_group_is_with_the_peers_when_write_returns(
    exchange: Exchange,
) -> None:
    lines = [await exchange.line() for _ in range(3)]
    assert exchange.group.write(b"told", 0, 3) == []
    for line in lines:
        assert line.has() == b"told"


async def test_what_a_wire_and_its_group_write_arrives_in_that_order(exchange: Exchange) -> None:
    line = await exchange.line()
    line.wire.write(b"first ")
    exchange.group.write(b"second ", 0, 1)
    line.wire.write(b"third")
    assert await line.read(18) == b"first second third"


async def test_a_peer_that_does_not_read_is_full_in_time_and_gets_all_of_it_in_order(
    exchange: Exchange,
) -> None:
    stuck, other = await exchange.line(), await exchange.line()
    sent, number, full = b"", 0, list[int]()
    while not full:
        piece = b"%07d." % number * (PIECE_BYTES // 8)
        full = exchange.group.write(piece, 0, 2)
        assert await other.read(len(piece)) == piece
        sent += piece
        number += 1
    assert full == [0]
    assert stuck.wire.full
    assert HIGH_WATER < stuck.wire._held() <= HIGH_WATER + PIECE_BYTES
    assert exchange.group.write(b"more", 0, 2) == [0]
    assert stuck.wire.write(b" and more") is False
    assert await stuck.read(len(sent) + 13) == sent + b"more and more"
    assert stuck.wire.write(b"!")
    assert await stuck.read(1) == b"!"


async def test_a_piece_that_the_kernel_takes_in_many_parts_arrives_whole(
    exchange: Exchange,
) -> None:
    line = await exchange.line()
    line.narrow()
    sent = b"".join(b"%07d." % n for n in range(60_000))
    line.wire.write(sent)
    assert 0 < line.wire._held() < len(sent), "a part of it was taken"
    exchange.group.write(sent[::-1], 0, 1)
    assert await line.read(2 * len(sent)) == sent + sent[::-1]


async def test_nothing_overtakes_what_waits_though_the_kernel_has_room_again(
    exchange: Exchange,
) -> None:
    line = await exchange.line()
    line.narrow()
    sent, got = line.fill(), b""
    with contextlib.suppress(BlockingIOError):
        while True:  # without a turn of the loop: nobody has heard of the room yet
            got += line.peer.recv(65_536)
    assert got
    line.wire.write(b"late ")
    exchange.group.write(b"and later", 0, 1)
    assert got + await line.read(len(sent) + 14 - len(got)) == sent + b"late and later"


async def test_who_waits_for_room_is_called_once_below_the_low_water(exchange: Exchange) -> None:
    line = await exchange.line()
    sent, calls = line.fill(), list[int]()
    line.wire.when_drained(lambda: calls.append(line.wire._held()))
    line.wire.when_drained(lambda: calls.append(-1))
    got = 0
    while line.wire.full:
        assert not calls
        got += len(await line.read(1_000))
    assert 0 <= calls[0] <= LOW_WATER
    assert calls[1:] == [-1]
    await line.read(len(sent) - got)
    assert len(calls) == 2
    called = asyncio.Event()
    line.wire.when_drained(called.set)
    assert not called.is_set(), "later, not at once"
    await asyncio.wait_for(called.wait(), PATIENCE)


async def test_bytes_that_wait_are_counted_until_the_peer_has_them(exchange: Exchange) -> None:
    line = await exchange.line()
    sent = line.fill()
    before = line.wire.buffered()
    assert before > line.wire._held() > HIGH_WATER
    acknowledged = line.wire.acknowledged()
    await line.read(len(sent))
    line.peer.send(b"with it comes word of all that the peer has")
    await line.until(lambda: line.heard)
    assert line.wire.buffered() == 0
    if acknowledged is not None:
        now = line.wire.acknowledged()
        assert now is not None
        assert now > acknowledged


async def test_a_place_that_was_dropped_gets_nothing_and_the_others_keep_theirs(
    exchange: Exchange,
) -> None:
    lines = [await exchange.line() for _ in range(3)]
    exchange.group.drop(1)
    exchange.group.write(b"a", 0, 2)
    exchange.group.write(b"b", 2, 3)
    assert lines[0].has() == b"a"
    assert lines[2].has() == b"b"
    with pytest.raises(BlockingIOError):
        lines[1].peer.recv(100)


# --- what is heard


async def test_what_the_peer_sends_is_received_and_then_its_end_once(exchange: Exchange) -> None:
    line = await exchange.line()
    said = b"much" * 20_000
    await asyncio.get_running_loop().sock_sendall(line.peer, said)
    line.peer.shutdown(socket.SHUT_WR)
    await line.until(lambda: line.ends)
    assert bytes(line.heard) == said
    await asyncio.sleep(0)
    assert line.ends == 1


async def test_what_came_before_somebody_listens_is_received_too(exchange: Exchange) -> None:
    line = await exchange.line(listening=False)
    line.peer.send(b"early")
    line.wire.pause()
    line.wire.listen(line.take, lambda: None)
    await line.until(lambda: line.heard == b"early")


async def test_a_paused_wire_receives_nothing_until_it_is_resumed(exchange: Exchange) -> None:
    line, other = await exchange.line(), await exchange.line()
    line.wire.pause()
    line.wire.pause()
    line.peer.send(b"wait")
    other.peer.send(b"heard")
    await other.until(lambda: other.heard == b"heard")
    assert line.heard == b""
    line.wire.resume()
    line.wire.resume()
    await line.until(lambda: line.heard == b"wait")


async def test_the_end_is_noticed_though_bytes_came_just_before_a_reset(exchange: Exchange) -> None:
    """uvloop stops to look at a socket once it was notified of an error on it."""
    line = await exchange.line(listening=False)
    line.peer.send(b"last words")
    line.reset()
    line.wire.listen(line.take, line.end)
    await line.until(lambda: line.ends)


# --- how it ends


async def test_a_connection_that_is_gone_takes_nothing_and_holds_up_nobody(
    exchange: Exchange,
) -> None:
    aborted, stays = await exchange.line(), await exchange.line()
    aborted.wire.abort()
    for turn in range(4):
        assert exchange.group.write(b"%d" % turn, 0, 2) == []
        assert aborted.wire.write(b"nothing")
        await asyncio.sleep(0)
    assert await stays.read(4) == b"0123"
    assert aborted.has() == b""
    await aborted.until(lambda: aborted.gone)
    assert aborted.ends == 1
    assert aborted.wire.acknowledged() is None
    assert aborted.wire.buffered() == 0


async def test_a_peer_that_reset_its_connection_holds_up_nobody_and_its_end_is_noticed(
    exchange: Exchange,
) -> None:
    reset, stays = await exchange.line(), await exchange.line()
    reset.reset()
    for turn in range(4):
        assert exchange.group.write(b"%d" % turn, 0, 2) == []
        await asyncio.sleep(0)
    assert await stays.read(4) == b"0123"
    await reset.until(lambda: reset.ends)
    assert reset.ends == 1


async def test_a_peer_that_is_gone_is_found_by_a_write_while_it_is_not_read(
    exchange: Exchange,
) -> None:
    line = await exchange.line()
    line.wire.pause()
    line.reset()
    line.learns()
    line.wire.write(b"anybody?")
    await line.until(lambda: line.ends)
    assert line.ends == 1


async def test_who_waits_for_room_is_not_called_when_the_peer_is_gone(
    exchange: Exchange,
) -> None:
    line = await exchange.line()
    line.fill()
    calls = []
    line.wire.when_drained(lambda: calls.append(1))
    line.reset()
    await line.until(lambda: line.ends)
    await asyncio.sleep(0)
    assert calls == [], "nothing more can be written to it"
    assert not line.wire.full


async def test_the_peer_reads_all_and_the_end_behind_what_waited(exchange: Exchange) -> None:
    line = await exchange.line()
    sent = line.fill()
    line.wire.end()
    assert line.gone == 0, "it has not taken everything yet"
    assert line.wire.write(b"late")
    assert exchange.group.write(b"late", 0, 1) == []
    assert await line.rest() == sent
    await line.until(lambda: line.gone)
    assert line.ends == 0, "who lets go hears nothing any more"


async def test_a_wire_that_has_ended_with_nothing_waiting_is_closed(exchange: Exchange) -> None:
    line = await exchange.line()
    line.wire.write(b"bye")
    line.wire.end()
    line.wire.end()
    assert await line.rest() == b"bye"
    await line.until(lambda: line.gone)


async def test_a_peer_that_resets_while_the_rest_waits_is_let_go(exchange: Exchange) -> None:
    line = await exchange.line()
    line.fill()
    line.wire.end()
    line.reset()
    await line.until(lambda: line.gone)


async def test_finished_the_peer_reads_the_end_and_may_still_send(exchange: Exchange) -> None:
    line = await exchange.line()
    sent = line.fill()
    line.wire.finish()
    assert line.wire.write(b"late")
    assert await line.rest() == sent
    line.peer.send(b"understood")
    await line.until(lambda: line.heard == b"understood")
    line.peer.close()
    await line.until(lambda: line.ends)


async def test_only_a_peer_that_has_not_taken_all_is_stuck(exchange: Exchange) -> None:
    stuck, fine = await exchange.line(), await exchange.line()
    stuck.fill()
    fine.wire.write(b"x")
    for line in (stuck, fine):
        line.wire.abort_if_stuck()
    await stuck.until(lambda: stuck.gone)
    assert fine.gone == 0
    assert await fine.read(1) == b"x"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="needs it of the system")
async def test_only_a_wire_that_has_ended_is_dropped_by_the_kernel_if_nothing_is_taken(
    exchange: Exchange,
) -> None:
    line = await exchange.line()

    def patience() -> int:
        assert line.wire._lent is not None
        reported = line.wire._lent.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 4)
        return int.from_bytes(reported, sys.byteorder)

    line.fill()
    assert patience() == 0
    line.wire.end()
    assert patience() == USER_TIMEOUT_MS


# --- a socket of our own


async def test_the_stalled_share_what_they_were_written_at_once() -> None:
    async with opened("socket") as exchange:
        lines = [await exchange.line() for _ in range(3)]
        for line in lines:
            line.fill()
        piece = bytes(1_000)
        exchange.group.write(piece, 0, 3)
        for line in lines:
            assert isinstance(line.wire, PlainWire)
            assert line.wire._waiting is not None
            assert line.wire._waiting[-1] is piece


async def test_without_a_free_descriptor_it_is_refused_with_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened("socket") as exchange:
        line = await exchange.line()

        def none_left(*_: Any) -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(socket, "fromfd", none_left)
        transport: Any = type(
            "T", (), {"get_extra_info": lambda _, name: line.peer if name == "socket" else None}
        )()
        with pytest.raises(OwnFault) as refused:
            duplicate_socket(transport)
        assert refused.value.code == "OVERLOADED"
        assert refused.value.retryable
