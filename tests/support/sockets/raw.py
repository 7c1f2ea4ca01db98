"""Clients of both transports on bare sockets: what is not asked for is not read, and a cut is a
cut."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson

from tests.support.sockets.reading import Reading

PATIENCE = 90.0
"""Seconds without a message after which a test fails instead of hanging."""


class Over(Exception):
    """The connection has ended; `code` is the WebSocket's close code, if one came."""

    def __init__(self, code: int | None = None) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """A message as it came. `position` is where it is safe to resume after it, if anywhere."""

    json: bytes
    body: dict[str, Any]
    position: str | None

    @property
    def type(self) -> str:
        kind: str = self.body["type"]
        return kind

    @property
    def seq(self) -> int:
        seq: int = self.body["seq"]
        return seq


class Line(Reading[ServerMessage]):
    """One connection at one transport. Use `dial`."""

    def __init__(self, sock: socket.socket, appetite: int) -> None:
        self.epoch = ""
        self._sock = sock
        self._appetite = appetite
        self._pending = bytearray()
        """Received, and not a whole message yet."""
        self._ready: deque[ServerMessage] = deque()
        self._over: Over | None = None

    async def read(self) -> ServerMessage:
        """The next message. Raises Over."""
        if not self._ready:
            async with asyncio.timeout(PATIENCE):
                await self._more()
        return self._ready.popleft()

    async def _more(self) -> None:
        while not self._ready:
            if self._over is not None:
                raise self._over
            await self._receive()

    async def rest(self) -> bytes:
        """What is left and still comes, unread, until the other side hangs up; no reset."""
        async with asyncio.timeout(PATIENCE):
            while data := await asyncio.get_running_loop().sock_recv(self._sock, self._appetite):
                self._pending += data
        return bytes(self._pending)

    def cut(self) -> bool:
        """Drop the connection as a cable does; whether that was in the middle of a message."""
        midway = bool(self._pending)
        self._pending.clear()
        self._ready.clear()
        # No farewell: what is on its way is answered by a reset.
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()
        return midway

    def widen(self, size: int) -> None:
        """Take more at once from now on."""
        self._appetite = size
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    async def send(self, body: Mapping[str, Any]) -> None:
        """A message in a masked text frame; for the WebSocket transport only."""
        await self._send(_masked(1, orjson.dumps(body)))

    async def _send(self, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)
        except ConnectionError:
            raise Over from None

    async def _receive(self) -> None:
        try:
            data = await asyncio.get_running_loop().sock_recv(self._sock, self._appetite)
        except ConnectionError:
            data = b""
        if not data:
            self._over = Over()
        self._pending += data
        await self._parse()

    async def _parse(self) -> None:
        raise NotImplementedError

    async def _head(self) -> bytes:
        """The answer's head; what follows it stays pending."""
        async with asyncio.timeout(PATIENCE):
            while b"\r\n\r\n" not in self._pending:
                data = await asyncio.get_running_loop().sock_recv(self._sock, self._appetite)
                if not data:
                    raise Over
                self._pending += data
        head, _, rest = bytes(self._pending).partition(b"\r\n\r\n")
        self._pending[:] = rest
        return head


class SseLine(Line):
    """Server-Sent Events in the chunks of HTTP/1.1."""

    def __init__(self, sock: socket.socket, appetite: int) -> None:
        super().__init__(sock, appetite)
        self._text = bytearray()
        self._left = 0
        """Bytes of the chunk that is being read, its line break included."""

    def cut(self) -> bool:
        text = bool(self._text)
        return super().cut() or text

    async def _parse(self) -> None:
        self._unchunk()
        while (end := self._text.find(b"\n\n")) >= 0:
            block = bytes(self._text[:end])
            del self._text[: end + 2]
            fields = dict(line.partition(b": ")[::2] for line in block.split(b"\n"))
            if b"data" in fields:
                position = fields.get(b"id")
                body = orjson.loads(fields[b"data"])
                self._ready.append(
                    ServerMessage(
                        fields[b"data"], body, None if position is None else position.decode()
                    )
                )

    def _unchunk(self) -> None:
        """Move what there is of the chunks' data to the text (RFC 9112 §7.1)."""
        pending = self._pending
        while pending:
            if not self._left:
                line = pending.find(b"\r\n")
                if line < 0:
                    break
                size = int(pending[:line], 16)
                if not size:
                    self._over = Over()
                    break
                del pending[: line + 2]
                self._left = size + 2
            # The last two are no data, but the line break that ends the chunk.
            data = min(len(pending), self._left - 2)
            if data > 0:
                self._text += pending[:data]
                del pending[:data]
                self._left -= data
            elif len(pending) >= 2:
                assert pending[:2] == b"\r\n", pending[:80]
                del pending[:2]
                self._left = 0
            else:
                break


class WsLine(Line):
    """A WebSocket's frames; its positions follow from section 3 and 4 of the wire contract."""

    def __init__(self, sock: socket.socket, appetite: int) -> None:
        super().__init__(sock, appetite)
        self.pongs: list[bytes] = []
        self._in_snapshot = False

    async def put(self, data: bytes) -> None:
        """Send bytes as they are. Raises Over."""
        await self._send(data)

    async def _parse(self) -> None:
        while (frame := self._frame()) is not None:
            opcode, payload = frame
            if opcode == 1:
                self._take(payload)
            elif opcode == 9:
                await self._send(_masked(10, payload))
            elif opcode == 10:
                self.pongs.append(payload)
            elif opcode == 8:
                self._over = Over(int.from_bytes(payload[:2], "big"))
            else:
                raise AssertionError(f"a frame of opcode {opcode}")

    def _frame(self) -> tuple[int, bytes] | None:
        """The next whole frame (RFC 6455 §5.2)."""
        data = self._pending
        if len(data) < 2:
            return None
        assert data[0] & 0xF0 == 0x80, "whole messages in single frames"
        assert not data[1] & 0x80, "servers don't mask"
        first, size = 2, data[1]
        if size >= 126:
            first = 4 if size == 126 else 10
            size = int.from_bytes(data[2:first], "big")
        if len(data) < first + size or len(data) < first:
            return None
        frame = data[0] & 15, bytes(data[first : first + size])
        del data[: first + size]
        return frame

    def _take(self, payload: bytes) -> None:
        body = orjson.loads(payload)
        position: str | None = None
        match body["type"]:
            case "welcome":
                self.epoch = body["head"].partition(":")[0]
            case "snapshot":
                self._in_snapshot = True
            case "resume":
                self._in_snapshot = False
            case "live":
                self._in_snapshot = False
                position = body["position"]
            case "heartbeat" if not self._in_snapshot:
                position = body["position"]
            case "event" if not self._in_snapshot:
                position = f"{self.epoch}:{body['seq']}"
        self._ready.append(ServerMessage(payload, body, position))


async def dial(
    transport: str,
    port: int,
    key: str,
    *,
    appetite: int = 65_536,
    receive_buffer: int | None = None,
    last_event_id: str | None = None,
    **query: Any,
) -> Line:
    """Connect and shake hands. Raises OSError, or Over where it breaks off before an answer.

    Each read takes `appetite` bytes at the most; `receive_buffer` is what the kernel takes ahead.
    """
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    try:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, request(transport, key, query, last_event_id))
        line: Line = (WsLine if transport == "ws" else SseLine)(sock, appetite)
        head = await line._head()
        status = b"101" if transport == "ws" else b"200"
        assert head.startswith(b"HTTP/1.1 " + status), head
        await line._parse()
    except ConnectionError:
        sock.close()
        raise Over from None
    except BaseException:
        sock.close()
        raise
    return line


def request(
    transport: str, key: str, query: Mapping[str, Any], last_event_id: str | None = None
) -> bytes:
    """The request that opens a stream at a transport."""
    head = [
        f"GET /{transport}/telemetry?{urlencode(query, doseq=True)} HTTP/1.1",
        "Host: 127.0.0.1",
        f"X-API-Key: {key}",
    ]
    if transport == "ws":
        head += [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        ]
    else:
        head.append("Accept: text/event-stream")
    if last_event_id is not None:
        head.append(f"Last-Event-ID: {last_event_id}")
    return "\r\n".join([*head, "", ""]).encode()


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    reserved: int = 0,
    mask: bytes | None = bytes(4),
    announced: int | None = None,
) -> bytes:
    """A client's frame (RFC 6455 §5.2), or what some client takes for one.

    A mask of zeros is a mask; None is none. `announced` is the size that its head says.
    """
    size = len(payload) if announced is None else announced
    head, masked = bytes([(0x80 if final else 0) | reserved | opcode]), 0 if mask is None else 0x80
    if size < 126:
        head += bytes([masked | size])
    elif size < 65_536:
        head += bytes([masked | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([masked | 127]) + size.to_bytes(8, "big")
    if mask is None:
        return head + payload
    if any(mask):
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return head + mask + payload


def _masked(opcode: int, payload: bytes) -> bytes:
    return frame(opcode, payload)
