"""Bytes for each transport. Framing is the only thing in which the transports differ.

A transport turns one event or one message into a block, and blocks that go out together into
what is written: blocks join by concatenation, so a flush costs one write for any number of events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from telecast.model import Event, Position

WS_PING = b"\x89\x00"
"""An empty ping frame (RFC 6455 §5.5.2)."""


@dataclass(frozen=True, slots=True)
class Message:
    """A server message that is no event: its type, its JSON and the position it confirms."""

    type: str
    json: bytes
    position: Position | None = None


class Transport(Protocol):
    """How blocks are made. `name` is the metrics' label; `ping` asks for a sign of life.

    `comment` says nothing and is written as it is, between blocks, so that nobody takes a quiet
    line for a dead one; empty where the transport has none.
    """

    name: str
    ping: bytes
    comment: bytes

    def event(self, event: Event, epoch: str) -> bytes:
        """One event, with its position where the transport can carry one."""
        ...

    def row(self, event: Event) -> bytes:
        """One event inside a snapshot: its position proves nothing and is not sent."""
        ...

    def message(self, message: Message) -> bytes: ...

    def join(self, blocks: Sequence[bytes]) -> bytes:
        """What is written for these blocks: at least one."""
        ...


def ws_text(payload: bytes) -> bytes:
    """One unmasked, unfragmented text frame (RFC 6455 §5.2); servers don't mask (§5.1)."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


def ws_pong(payload: bytes) -> bytes:
    """A pong with the ping's payload of at most 125 bytes (RFC 6455 §5.5.3)."""
    return b"\x8a%c%b" % (len(payload), payload)


def ws_close(payload: bytes) -> bytes:
    """A close frame; the payload, of at most 125 bytes, begins with the code (RFC 6455 §5.5.1)."""
    return b"\x88%c%b" % (len(payload), payload)


def sse_block(event: str, data: bytes, event_id: Position | None = None) -> bytes:
    """One event of an event stream (WHATWG HTML §9.2.6).

    `data` is JSON made by orjson: it has no raw line break, so one `data:` line carries it.
    """
    if event_id is None:
        return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (str(event_id).encode(), event.encode(), data)


def sse_retry(milliseconds: int) -> bytes:
    """The first line of a block. As a block of its own, without data, common clients hand on an
    empty event (fetch-event-source, httpx-sse, r3labs/sse, Ktor)."""
    return b"retry: %d\n" % milliseconds


def http_chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def with_position(event: Event, epoch: str) -> bytes:
    """An event's JSON with its position as a member, before the time, which is its last."""
    body, _, time = event.json.rpartition(b',"timestamp":')
    return b'%b,"position":"%b:%d","timestamp":%b' % (body, epoch.encode(), event.seq, time)


class WebSocketTransport:
    name = "ws"
    ping = WS_PING
    comment = b""

    def event(self, event: Event, epoch: str) -> bytes:
        return ws_text(event.json)

    def row(self, event: Event) -> bytes:
        return ws_text(event.json)

    def message(self, message: Message) -> bytes:
        return ws_text(message.json)

    def join(self, blocks: Sequence[bytes]) -> bytes:
        return b"".join(blocks)


class PositionedWebSocket(WebSocketTransport):
    """For those who ask for a position in each event."""

    def event(self, event: Event, epoch: str) -> bytes:
        return ws_text(with_position(event, epoch))


class SseTransport:
    """Server-Sent Events; `chunked` for HTTP/1.1, where the body has no length."""

    name = "sse"
    ping = b""

    def __init__(self, *, chunked: bool) -> None:
        self._chunked = chunked
        # Without a blank line: common parsers (httpx-sse, fetch-event-source) dispatch an empty
        # event for it, though the standard dispatches none.
        self.comment = self.join([b":\n"])
        self.end = b"0\r\n\r\n" if chunked else b""
        """What shows the peer that the stream has ended as it should (RFC 9112 §7.1)."""

    def event(self, event: Event, epoch: str) -> bytes:
        return b"id: %b:%d\nevent: %b\ndata: %b\n\n" % (
            epoch.encode(),
            event.seq,
            event.channel.encode(),
            event.json,
        )

    def row(self, event: Event) -> bytes:
        return sse_block(event.channel, event.json)

    def message(self, message: Message) -> bytes:
        # EventSource dispatches its own `error` events: ours need another name.
        name = "fault" if message.type == "error" else message.type
        block = sse_block(name, message.json, message.position)
        # The rows before it are forgotten: cut short now, an EventSource must not come back with
        # a position that was earned with them. An empty id makes it forget that (§9.2.6).
        return b"id:\n" + block if message.type == "snapshot" else block

    def join(self, blocks: Sequence[bytes]) -> bytes:
        data = b"".join(blocks)
        return http_chunk(data) if self._chunked else data


class PositionedSse(SseTransport):
    """For those who ask for a position in each event, beside the one in its `id`."""

    def event(self, event: Event, epoch: str) -> bytes:
        position = Position(epoch, event.seq)
        return sse_block(event.channel, with_position(event, epoch), position)


WS = WebSocketTransport()
WS_POSITIONED = PositionedWebSocket()
SSE = SseTransport(chunked=True)
SSE_HTTP10 = SseTransport(chunked=False)
SSE_POSITIONED = PositionedSse(chunked=True)
SSE_HTTP10_POSITIONED = PositionedSse(chunked=False)
TRANSPORTS: tuple[Transport, ...] = (
    *(WS, SSE, SSE_HTTP10),
    *(WS_POSITIONED, SSE_POSITIONED, SSE_HTTP10_POSITIONED),
)
