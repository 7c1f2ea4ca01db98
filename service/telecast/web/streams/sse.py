"""The Server-Sent Events transport: GET /sse/telemetry, or POST and QUERY with a body."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_request import BaseRequest
from aiohttp_sse import EventSourceResponse

from telecast.errors import Code, PeerFault, TelecastError
from telecast.model import Principal
from telecast.net.wire import Wire
from telecast.protocol import messages
from telecast.protocol.commands import Most, parse_json
from telecast.protocol.framing import (
    SSE,
    SSE_HTTP10,
    SSE_HTTP10_POSITIONED,
    SSE_POSITIONED,
    SseTransport,
    sse_retry,
)
from telecast.protocol.query import CACHE_BUSTERS, StreamQuery, parse_selection
from telecast.protocol.subscription import ALL
from telecast.web.auth.credentials import check_stream_origin, require
from telecast.web.front.answers import SSE_CACHING, SSE_TYPE, retry_after, stream_refusal
from telecast.web.front.body import read_body
from telecast.web.parts import parts_from
from telecast.web.streams.stream import ServedStream

RETRY_MS = (1_000, 3_000)
"""An EventSource waits between these before it reconnects: spread, so that not all come at once."""
FAREWELL_SECONDS = 2.0
UNREAD_BYTES = 64 * 1024
"""Bytes that a client may send behind its request: another request or two of a confused proxy."""

_FRAMINGS = {
    (True, False): SSE,
    (True, True): SSE_POSITIONED,
    (False, False): SSE_HTTP10,
    (False, True): SSE_HTTP10_POSITIONED,
}
"""By whether the body is chunked, and whether each event has its position as a member."""


async def telemetry(request: web.Request) -> web.StreamResponse:
    """Everything the key may read, or what the query asks for, until the client goes."""
    return await _stream(request, ServedStream(request, "sse"))


async def selected(request: web.Request) -> web.StreamResponse:
    """What a JSON body asks for: a selection for which an address has no room."""
    # Who may not read must not have us read a body either.
    check_stream_origin(request)
    require(request, "read")
    for name in request.query:
        if name != "ticket" and name not in CACHE_BUSTERS:
            raise PeerFault(
                Code.BAD_REQUEST, f"With a body {name[:64]!r} stands there, not in the address."
            )
    if request.content_type != "application/json":
        raise PeerFault(
            Code.UNSUPPORTED_MEDIA_TYPE, "Say what you want as Content-Type: application/json."
        )
    most = parts_from(request).settings.max_frame_bytes
    body = parse_json(await read_body(request, most, "max_frame_bytes"), "The body")

    def asked(request: web.Request, filters: Collection[str], most: Most) -> StreamQuery:
        return parse_selection(body, request.headers.get("Last-Event-ID"), filters, most)

    return await _stream(request, ServedStream(request, "sse", asked))


async def _stream(request: web.Request, stream: ServedStream) -> web.StreamResponse:
    asked = stream.session.ask(stream.query.channels or ALL, stream.query.fields)
    head = _Head(sep="\n", send_timeout=None, allow_all_methods=True)
    head.headers["Content-Type"] = SSE_TYPE
    head.headers["Cache-Control"] = SSE_CACHING
    # Or a client would send its next request into a connection that ends with the stream.
    head.headers["Connection"] = "close"
    chunked, positioned = request.version >= HttpVersion11, stream.query.positioned
    transport = _FRAMINGS[chunked, positioned]
    rejected = [each.as_json() for each in asked.rejected]

    def serve(wire: Wire, _: bytes) -> None:
        _SseStream(stream, wire, transport).serve(rejected)

    try:
        await stream.open(request, head, serve)
    except TelecastError as fault:
        # Here alone: to a publisher the same header and status would say that it is committed.
        if "text/event-stream" in request.headers.get("Accept", "") and fault.retryable:
            return stream_refusal(fault)
        raise
    return head


class _Head(EventSourceResponse):
    """Without aiohttp-sse's pings: our heartbeats carry a position."""

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        if self.prepared:
            return None  # the connection is the wire's by now
        writer = await super().prepare(request)
        self.stop_streaming()
        await self.wait()  # else a task that was cancelled keeps the request for the collector
        return writer


class _SseStream:
    """One event stream: hands the subscriber to the broadcaster, and waits for the end."""

    def __init__(self, stream: ServedStream, wire: Wire, transport: SseTransport) -> None:
        self._stream = stream
        self._wire = wire
        self._transport = transport
        self._broadcaster = stream.parts.broadcaster
        self._subscriber = stream.subscriber(transport, wire, expects_life=False)
        self._unread = UNREAD_BYTES
        self._ended = False

    def serve(self, rejected: list[dict[str, str]]) -> None:
        stream, broadcaster, subscriber = self._stream, self._broadcaster, self._subscriber
        self._wire.on_close = self._close
        stream.client.evict = lambda fault: broadcaster.evict(subscriber, fault)
        stream.client.narrow = self._narrow
        greeting = (stream.welcome(), stream.ack("subscribe", None, rejected))
        retry = sse_retry(random.randint(*RETRY_MS))  # noqa: S311 - jitter
        blocks = [*map(self._transport.message, greeting)]
        self._wire.write(self._transport.join([retry + blocks[0], *blocks[1:]]))
        broadcaster.attach(subscriber, stream.start(stream.query.start))
        stream.parts.staleness.greet(subscriber, subscriber.selection.channels)
        self._wire.listen(self._discard, self._over)

    def _discard(self, data: bytes) -> None:
        self._unread -= len(data)
        if self._unread < 0:
            self._wire.abort()

    def _narrow(self, principal: Principal) -> None:
        if not self._stream.narrow(principal, self._subscriber):
            fault = PeerFault(Code.FORBIDDEN, "This key may no longer read any of these channels.")
            self._broadcaster.evict(self._subscriber, fault)

    def _close(self, fault: TelecastError) -> None:
        """The reason and a clean end, if they still fit."""
        self._stream.ended_by = fault
        wire = self._wire
        if fault.code == Code.NO_PROGRESS:
            wire.abort()
            return
        wire.write(self._transport.join(self._last_words(fault)) + self._transport.end)
        if wire.full:
            later = asyncio.get_running_loop().call_later
            later(FAREWELL_SECONDS, lambda: wire.abort() if wire.full else None)
        self._over()

    def _last_words(self, fault: TelecastError) -> list[bytes]:
        """The reason, and when to come back in the only form that an EventSource obeys."""
        message, now = self._transport.message, self._stream.now_ms()
        if not fault.retryable:
            return [message(messages.notice(now, fault))]
        wait = int(retry_after(fault) * 1000)
        return [sse_retry(wait) + message(messages.notice(now, fault, wait))]

    def _over(self) -> None:
        if not self._ended:
            self._ended = True
            self._broadcaster.detach(self._subscriber)
            self._wire.end()
            self._stream.end()
