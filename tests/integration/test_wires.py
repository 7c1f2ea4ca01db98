"""A group of Wires is written transport by transport: order and fullness are those of each Wire."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol

from telecast.fanout.cohort import PIECE_BYTES
from telecast.web.wire import HIGH_WATER, Wire, Wires


@dataclass
class Line:
    """One accepted connection: our end, and the peer's plain socket."""

    wire: Wire
    transport: asyncio.Transport
    peer: socket.socket

    async def read(self, size: int) -> bytes:
        loop, data = asyncio.get_running_loop(), b""
        while len(data) < size:
            more = await loop.sock_recv(self.peer, size - len(data))
            assert more, f"ended after {len(data)} of {size} bytes"
            data += more
        return data


@dataclass
class Exchange:
    """Accepts connections as the server does, each with a Wire in one group."""

    port: int
    accepted: asyncio.Queue[BaseProtocol]
    group: Wires = field(default_factory=Wires)

    async def line(self, *, grouped: bool = True) -> Line:
        peer = socket.socket()
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(peer, ("127.0.0.1", self.port))
        protocol = await self.accepted.get()
        transport = protocol.transport
        assert transport is not None
        wire = Wire(lambda fault: None)
        request: Any = SimpleNamespace(transport=transport, protocol=protocol)
        writer: Any = SimpleNamespace()
        wire.open(request, writer)
        if grouped:
            self.group.add(wire)
        return Line(wire, transport, peer)


@asynccontextmanager
async def exchange() -> AsyncIterator[Exchange]:
    loop = asyncio.get_running_loop()
    accepted: asyncio.Queue[BaseProtocol] = asyncio.Queue()

    class Accepted(BaseProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            accepted.put_nowait(self)

        def data_received(self, data: bytes) -> None: ...

    server = await loop.create_server(lambda: Accepted(loop), "127.0.0.1", 0)
    try:
        yield Exchange(server.sockets[0].getsockname()[1], accepted)
    finally:
        server.close()


async def test_what_a_group_is_told_is_with_the_peers_when_write_returns() -> None:
    async with exchange() as own:
        lines = [await own.line() for _ in range(3)]
        assert own.group.write(b"told", 0, 3) == []
        for line in lines:
            assert line.peer.recv(100) == b"told"
            line.peer.close()


async def test_what_a_wire_and_its_group_write_arrives_in_that_order() -> None:
    async with exchange() as own:
        line = await own.line()
        line.wire.write(b"first ")
        own.group.write(b"second ", 0, 1)
        line.wire.write(b"third")
        assert await line.read(18) == b"first second third"
        line.peer.close()


async def test_a_peer_that_does_not_read_is_full_in_time_and_gets_all_of_it_in_order() -> None:
    async with exchange() as own:
        stuck, other = await own.line(), await own.line()
        sent, number, full = b"", 0, list[int]()
        while not full:
            piece = b"%07d." % number * (PIECE_BYTES // 8)
            full = own.group.write(piece, 0, 2)
            assert await other.read(len(piece)) == piece
            sent += piece
            number += 1
        assert full == [0]
        assert HIGH_WATER < stuck.transport.get_write_buffer_size() <= HIGH_WATER + PIECE_BYTES
        assert await stuck.read(len(sent)) == sent
        stuck.peer.close()
        other.peer.close()


async def test_a_connection_that_is_gone_takes_nothing_and_holds_up_nobody() -> None:
    async with exchange() as own:
        aborted, stays = await own.line(), await own.line()
        aborted.transport.abort()
        for turn in range(4):
            assert own.group.write(b"%d" % turn, 0, 2) == []
            await asyncio.sleep(0)
        assert await stays.read(4) == b"0123"
        assert aborted.peer.recv(100) == b""
        for line in (aborted, stays):
            line.peer.close()


async def test_a_peer_that_reset_its_connection_holds_up_nobody() -> None:
    async with exchange() as own:
        reset, stays = await own.line(), await own.line()
        reset.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        reset.peer.close()
        for turn in range(4):
            assert own.group.write(b"%d" % turn, 0, 2) == []
            await asyncio.sleep(0)
        assert await stays.read(4) == b"0123"
        stays.peer.close()


async def test_a_place_that_was_dropped_gets_nothing_and_the_others_keep_theirs() -> None:
    async with exchange() as own:
        lines = [await own.line() for _ in range(3)]
        own.group.drop(1)
        own.group.write(b"a", 0, 2)
        own.group.write(b"b", 2, 3)
        assert lines[0].peer.recv(100) == b"a"
        assert lines[2].peer.recv(100) == b"b"
        with pytest.raises(BlockingIOError):
            lines[1].peer.recv(100)
        for line in lines:
            line.peer.close()


async def test_a_wire_that_has_ended_is_not_written_to() -> None:
    async with exchange() as own:
        line = await own.line(grouped=False)
        await line.wire.end()
        own.group.add(line.wire)
        assert own.group.write(b"late", 0, 1) == []
        with pytest.raises(BlockingIOError):
            line.peer.recv(100)
        line.peer.close()


async def test_a_wire_over_a_connection_that_is_closed_ends_without_a_word() -> None:
    """uvloop's socket has a negative descriptor then, which raised from the end of the stream."""
    async with exchange() as own:
        line = await own.line(grouped=False)
        line.transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert line.wire.acknowledged() is None
        assert line.wire.buffered() == 0
        await line.wire.end()
        line.peer.close()
