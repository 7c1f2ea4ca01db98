"""The Server-Sent Events door: GET /sse/telemetry."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine

from aiohttp import HttpVersion11, web
from aiohttp_sse import EventSourceResponse

from telecast.errors import PeerFault, TelecastError
from telecast.model import Principal
from telecast.protocol import messages
from telecast.protocol.framing import SSE, SSE_HTTP10, SseDoor, sse_retry
from telecast.protocol.subscription import readable
from telecast.web.answers import retry_after, stream_refusal
from telecast.web.stream import Stream, now_ms
from telecast.web.wire import Wire

RETRY_MS = (1_000, 3_000)
"""Between these an EventSource waits before it comes back: spread, so that not all come at once."""
FAREWELL_SECONDS = 2.0
UNHEARD_BYTES = 64 * 1024
"""Bytes that a client may send behind its request: another request or two of a confused proxy."""


async def telemetry(request: web.Request) -> web.StreamResponse:
    """Everything the key may read, or what the query asks for, until the client goes."""
    stream = Stream(request, "sse")
    names = stream.query.channels
    if names is None:
        names = readable(stream.session.principal)
    asked = stream.session.ask(names, stream.query.fields)
    head = EventSourceResponse(sep="\n", send_timeout=None)
    # Or a client would send its next request into a connection that ends with the stream.
    head.headers["Connection"] = "close"
    door = SSE if request.version >= HttpVersion11 else SSE_HTTP10
    rejected = [each.told() for each in asked.rejected]

    def serve(wire: Wire, _: bytes) -> Coroutine[None, None, None]:
        return _serve(stream, door, wire, rejected)

    try:
        await stream.open(request, head, serve)
    except TelecastError as fault:
        # Here alone: to a publisher the same header and status would say that it is committed.
        if "text/event-stream" in request.headers.get("Accept", "") and fault.retryable:
            return stream_refusal(fault)
        raise
    # Heartbeats are ours, with a position in them: the class's own pings have nothing to do.
    head.stop_streaming()
    return head


async def _serve(stream: Stream, door: SseDoor, wire: Wire, rejected: list[dict[str, str]]) -> None:
    broadcaster = stream.parts.broadcaster
    subscriber = stream.subscriber(door, wire, expects_life=False)
    ended: asyncio.Future[TelecastError | None] = asyncio.get_running_loop().create_future()

    def end(fault: TelecastError | None) -> None:
        if not ended.done():
            ended.set_result(fault)

    def narrow(principal: Principal) -> None:
        if not stream.narrow(principal, subscriber):
            fault = PeerFault("FORBIDDEN", "This key may not read any of these channels any more.")
            broadcaster.evict(subscriber, fault)

    wire.on_close = end
    wire.listen(_Unheard(wire), lambda: end(None))
    stream.client.evict = lambda fault: broadcaster.evict(subscriber, fault)
    stream.client.narrow = narrow
    try:
        _greet(stream, door, wire, rejected)
        broadcaster.attach(subscriber, stream.query.start)
        fault = await ended
        if fault is None or fault.code == "NO_PROGRESS":
            wire.abort()
        else:
            await _farewell(wire, door.join(_last_words(fault, door)) + door.end)
    finally:
        broadcaster.detach(subscriber)
        wire.end()


class _Unheard:
    """What a client sends behind its request: nothing, or it is no client of ours."""

    __slots__ = ("_left", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._left = UNHEARD_BYTES

    def __call__(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._wire.abort()


def _greet(stream: Stream, door: SseDoor, wire: Wire, rejected: list[dict[str, str]]) -> None:
    # Apart from `_serve`, whose frame would keep the messages for as long as the stream lasts.
    told = (stream.welcome(), stream.ack("subscribe", None, rejected))
    retry = sse_retry(random.randint(*RETRY_MS))  # noqa: S311 - jitter
    wire.write(door.join([retry, *map(door.message, told)]))


def _last_words(fault: TelecastError, door: SseDoor) -> list[bytes]:
    """The reason; and when to come back, in the one form that an EventSource heeds."""
    if not fault.retryable:
        return [door.message(messages.notice(now_ms(), fault))]
    wait = int(retry_after(fault) * 1000)
    return [sse_retry(wait), door.message(messages.notice(now_ms(), fault, wait))]


async def _farewell(wire: Wire, words: bytes) -> None:
    """The reason and a clean end, if they still fit."""
    wire.write(words)
    try:
        async with asyncio.timeout(FAREWELL_SECONDS):
            await wire.drained()
    except TimeoutError:
        wire.abort()
