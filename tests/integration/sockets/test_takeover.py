"""Between a stream's admission and its first byte: the peer has not read what it asked before."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import itertools
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from telecast.clients import Client
from telecast.tasks import drain
from telecast.web.streams.takeover import MOST_BEHIND, _Behind
from tests.support.fakes import messages_in, ws_frames
from tests.support.payloads import alert, position, price
from tests.support.service.live import PATIENCE, Live, served
from tests.support.sockets.bare import bare, head
from tests.support.sockets.raw import dial, frame, request

TRANSPORTS = pytest.mark.parametrize("transport", ["ws", "sse"])
PING, PONG = 9, 10
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing is a reset."""
FILES = Path("/proc/self/fd")


@pytest.fixture
async def live(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Live]:
    """The service; when all have gone, it has let go of all of them."""
    caplog.set_level(logging.INFO, "telecast")
    async with served() as live:
        await live.publish("risk-alerts", *(alert(f"a{n}", message="x" * 900) for n in range(40)))
        await live.publish("positions", position("p1"))
        await live.publish("market-data", price())
        yield live
        await live.everybody_gone()
        await live.session.close()
        await live.until(lambda: not len(live.parts.streams) and not len(live.parts.admission))
        assert live.parts.clients.opened == live.parts.clients.closed
    assert not [each for each in caplog.records if each.levelname in ("WARNING", "ERROR")]


@dataclass
class Held:
    """A connection that asked for a stream, which waits to be answered behind another answer."""

    sock: socket.socket
    client: Client
    server: asyncio.Transport
    """The server's end, as long as it is aiohttp's."""

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read(self, *last: bytes) -> tuple[bytes, bytes]:
        """The stream's head, and what came up to any of `last`, or to the end."""
        loop, data = asyncio.get_running_loop(), b""
        async with asyncio.timeout(PATIENCE):
            while more := await loop.sock_recv(self.sock, 65_536):
                data += more
                if any(data.endswith(each) or each in data[-4_000:] for each in last):
                    break
        before, _, data = data.partition(b"\r\n\r\n")
        (size,) = [
            int(line.partition(b":")[2])
            for line in before.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        first, _, rest = data[size:].partition(b"\r\n\r\n")
        return first, rest


@asynccontextmanager
async def held(
    live: Live, transport: str, behind: bytes = b"", **query: Any
) -> AsyncIterator[Held]:
    """With room in the kernel for less than the answer before; `behind` comes in one packet with
    the request."""
    loop, sock = asyncio.get_running_loop(), socket.socket()
    others: set[Any] = set(live.parts.admission._addresses)
    known = set(live.parts.clients)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    try:
        await loop.sock_connect(sock, ("127.0.0.1", int(live.url.rpartition(":")[2])))
        await live.until(lambda: live.parts.admission._addresses.keys() - others)
        (protocol,) = live.parts.admission._addresses.keys() - others
        server: Any = protocol.transport  # type: ignore[attr-defined]
        server.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2_048)
        key = live.secrets["desk"]
        asked = head("GET", "/api/v1/channels/risk-alerts/snapshot", key)
        await loop.sock_sendall(sock, asked + request(transport, key, query) + behind)
        await live.until(lambda: set(live.parts.clients) - known)
        (client,) = set(live.parts.clients) - known
        for _ in range(10):
            await asyncio.sleep(0)
        assert server.get_write_buffer_size() > 0, "the answer before has to fill it"
        assert client.subscriber is None, "it is not served yet"
        yield Held(sock, client, server)
    finally:
        sock.close()


def ended(caplog: pytest.LogCaptureFixture) -> list[str | None]:
    """The codes of the streams that ended, in that order."""
    return [each.code for each in caplog.records if each.getMessage() == "stream ended"]  # type: ignore[attr-defined]


async def test_one_that_is_replaced_before_it_is_answered_is_ended_and_counted_nowhere(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        held(live, "ws", clientId="one", channels="positions") as older,
        live.ws(clientId="one", channels="positions") as newer,
    ):
        await newer.opening()
        assert older.client not in set(live.parts.clients)
        assert live.parts.clients.connections() == {"ws": 1}
        first, rest = await older.read()
        assert first.startswith(b"HTTP/1.1 101")
        assert rest == b""
        assert ended(caplog) == ["REPLACED"]
        assert len(live.parts.broadcaster.subscribers) == len(live.parts.clients) == 1
        await live.until(lambda: len(live.parts.streams) == 1)
        await live.publish("positions", position("p2"))
        await newer.events()


@TRANSPORTS
async def test_one_whose_key_is_revoked_before_it_is_answered_is_ended(
    live: Live, transport: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with held(live, transport, channels="positions") as line:
        monkeypatch.setattr(live.parts.keys, "current", lambda _: None)
        await live.parts.clients.recheck()
        first, rest = await line.read()
        assert first.startswith(b"HTTP/1.1 101" if transport == "ws" else b"HTTP/1.1 200")
        assert rest == b""
        assert ended(caplog) == ["UNAUTHENTICATED"]
        assert not len(live.parts.clients)


@TRANSPORTS
async def test_one_whose_key_is_narrowed_before_it_is_answered_reads_only_what_it_still_may(
    live: Live, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with held(live, transport, channels="positions,market-data") as line:
        narrowed = replace(line.client.principal, channels=("market-*",))
        monkeypatch.setattr(live.parts.keys, "current", lambda _: narrowed)
        await live.parts.clients.recheck()
        _, rest = await line.read(b'"type":"live"')
        reported = [each.body for each in messages_in(transport, rest)]
        assert reported[-1]["type"] == "live"
        acks = [body["channels"] for body in reported if body["type"] == "ack"]
        assert acks[-1] == ["market-data"]
        assert {body["channel"] for body in reported if body["type"] == "event"} == {"market-data"}


@TRANSPORTS
@pytest.mark.parametrize("way", ["reset", "end"])
async def test_nothing_is_left_of_one_that_goes_before_it_is_answered(
    live: Live, transport: str, way: str
) -> None:
    tasks = asyncio.all_tasks()
    async with held(live, transport, channels="positions") as line:
        assert asyncio.all_tasks() > tasks
        if way == "reset":
            line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            line.sock.close()
        else:
            line.sock.shutdown(socket.SHUT_WR)
            await line.read()
        await live.everybody_gone()
        await live.until(lambda: asyncio.all_tasks() == tasks)
    assert not len(live.parts.streams)


@TRANSPORTS
async def test_one_that_the_service_leaves_before_it_is_answered_is_ended(
    live: Live, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with held(live, transport, channels="positions") as line:
        await drain(live.parts)
        assert live.parts.streams._wires == set()
        first, rest = await line.read()
        assert first.startswith(b"HTTP/1.1 101" if transport == "ws" else b"HTTP/1.1 200")
        assert rest == b""
        assert ended(caplog) == ["SHUTTING_DOWN"]


async def test_what_comes_behind_the_request_in_whatever_pieces_is_received_once_and_in_order(
    live: Live,
) -> None:
    pings = [frame(PING, b"%03d" % n) for n in range(60)]
    said = b"".join(pings)
    cuts = [0, 100, 103, 250, 404, len(said)]
    pieces = [said[a:b] for a, b in itertools.pairwise(cuts)]
    assert all(cut % len(pings[0]) for cut in cuts[1:-1]), "within frames"
    async with held(live, "ws", behind=pieces[0]) as line:
        for piece in pieces[1:3]:
            await line.send(piece)
            for _ in range(10):
                await asyncio.sleep(0)

        async def go_on() -> None:
            # While it is answered, and taken over, and after that.
            await line.send(pieces[3])
            await live.until(lambda: line.client.subscriber is not None)
            await line.send(pieces[4])

        later = asyncio.create_task(go_on())
        _, rest = await line.read(b"059")
        await later
        pongs = [payload for opcode, payload, _ in ws_frames(rest) if opcode == PONG]
        assert pongs == [b"%03d" % n for n in range(60)]


@TRANSPORTS
async def test_of_a_stream_aiohttp_keeps_nothing(live: Live, transport: str) -> None:
    await live.session.close()
    await live.until(lambda: not len(live.parts.admission))
    server, tasks = live.server._runner.server, asyncio.all_tasks()
    assert server is not None
    port = int(live.url.rpartition(":")[2])
    line = await dial(transport, port, live.secrets["desk"], channels="positions")
    await line.until("live")
    await live.until(lambda: not server.connections and asyncio.all_tasks() == tasks)
    line.cut()


# --- descriptors


def files() -> int:
    gc.collect()
    return len(os.listdir(FILES))


@pytest.mark.skipif(not FILES.exists(), reason="needs a list of open files")
@TRANSPORTS
async def test_no_file_is_left_open_when_streams_have_come_and_gone(
    live: Live, transport: str
) -> None:
    await live.session.close()
    await live.until(lambda: not len(live.parts.admission))
    before, port = files(), int(live.url.rpartition(":")[2])
    for at in range(50):
        line = await dial(transport, port, live.secrets["desk"], channels="positions")
        if at % 2:
            await line.until("live")
        line.cut()
    await live.everybody_gone()
    for _ in range(3):
        async with held(live, transport, channels="positions"):
            pass
    await live.everybody_gone()
    await live.until(lambda: not len(live.parts.streams) and not len(live.parts.admission))
    await live.until(lambda: files() == before)


def none_left(*_: Any) -> socket.socket:
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.skipif(not FILES.exists(), reason="needs a list of open files")
@TRANSPORTS
async def test_without_a_free_file_it_is_refused_in_words_and_nothing_is_left(
    live: Live, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(transport, live.secrets["desk"], {"channels": "positions"})
    asked = asked.replace(b"Accept: text/event-stream\r\n", b"")
    await live.session.close()
    await live.until(lambda: not len(live.parts.admission))
    before = files()
    with monkeypatch.context() as patched:
        patched.setattr(socket, "fromfd", none_left)
        for _ in range(10):
            async with bare(live.url) as line:
                line.send(asked)
                answer = await line.answer()
                assert (answer.status, answer.error["code"]) == (503, "OVERLOADED")
                assert answer.headers["retry-after"]
                assert not len(live.parts.clients), "it is counted no more when it is answered"
    await live.until(lambda: not len(live.parts.admission))
    await live.until(lambda: files() == before)


async def test_without_a_free_file_an_event_source_is_sent_when_to_come_back(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any status but 200 would stop it for good."""
    with monkeypatch.context() as patched:
        patched.setattr(socket, "fromfd", none_left)
        async with bare(live.url) as line:
            line.send(request("sse", live.secrets["desk"], {}))
            answer = await line.answer()
    assert answer.status == 200
    assert b"retry: " in answer.body
    assert b'"OVERLOADED"' in answer.body


async def test_who_reads_nothing_and_goes_on_before_it_is_answered_is_not_read_without_end(
    live: Live,
) -> None:
    async with held(live, "ws", channels="positions") as line:
        pings, sent = frame(PING, bytes(100)) * 600, 0
        async with asyncio.timeout(PATIENCE):
            while line.server.is_reading():
                with contextlib.suppress(BlockingIOError):
                    sent += line.sock.send(pings)
                await asyncio.sleep(0.001)
        (behind,) = [each for each in gc.get_objects() if isinstance(each, _Behind)]
        assert MOST_BEHIND < len(behind.data) <= sent
        with pytest.raises(BlockingIOError):  # noqa: PT012 - the kernel's buffers are of some size
            while True:
                for _ in range(100):
                    line.sock.send(pings)
                await asyncio.sleep(0)
        assert len(behind.data) < 2 * MOST_BEHIND + 2**18, "one more read of the loop"
