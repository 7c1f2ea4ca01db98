"""The WebSocket door: GET /ws/telemetry."""

from __future__ import annotations

import asyncio
import logging
import time

from aiohttp import WSMsgType, web

from telecast.errors import OwnFault, PeerFault, TelecastError
from telecast.fanout.subscriber import Subscriber
from telecast.ingress import Published
from telecast.model import Position, Principal
from telecast.protocol import messages
from telecast.protocol.commands import (
    Command,
    CommandFault,
    Heartbeat,
    Publish,
    Subscribe,
    Unsubscribe,
)
from telecast.protocol.framing import WS, Message, ws_pong
from telecast.web.answers import retry_after
from telecast.web.stream import Stream, now_ms, selection_of
from telecast.web.wire import Wire

log = logging.getLogger(__name__)

SUBPROTOCOL = "telecast.v1"
FAREWELL_SECONDS = 2.0
MAX_REASON = 123
"""Bytes: a control frame has 125, of which the code takes two."""


async def telemetry(request: web.Request) -> web.StreamResponse:
    """Upgrade and serve one client until it goes."""
    if request.headers.get("Sec-WebSocket-Version", "13") != "13":
        raise PeerFault("UPGRADE_REQUIRED", "This is version 13 of the protocol alone.")
    stream = Stream(request, "ws")
    rejected: list[dict[str, str]] = []
    if stream.query.channels is not None:
        asked = stream.session.ask(stream.query.channels, stream.query.fields)
        rejected = [each.told() for each in asked.rejected]
    elif stream.query.fields:
        raise PeerFault("UNKNOWN_FILTER", "A filter in the query needs `channels` beside it.")
    response = web.WebSocketResponse(
        autoping=False,
        autoclose=True,
        compress=False,
        max_msg_size=stream.parts.settings.max_frame_bytes,
        protocols=(SUBPROTOCOL,),
        timeout=FAREWELL_SECONDS,
    )
    if not response.can_prepare(request):
        raise PeerFault("BAD_REQUEST", "This is a WebSocket: connect with an upgrade (RFC 6455).")
    with stream.admitted():
        await _Connection(request, stream, response).serve(rejected)
    return response


class _Connection:
    """One WebSocket: reads commands, and hands the subscriber to the broadcaster."""

    def __init__(
        self, request: web.Request, stream: Stream, response: web.WebSocketResponse
    ) -> None:
        self._request = request
        self._stream = stream
        self._session = stream.session
        self._response = response
        self._broadcaster = stream.parts.broadcaster
        self._wire = Wire(self._close)
        self._subscriber: Subscriber = stream.subscriber(WS, self._wire, expects_life=True)
        self._closing: asyncio.Task[None] | None = None

    async def serve(self, rejected: list[dict[str, str]]) -> None:
        stream, broadcaster, subscriber = self._stream, self._broadcaster, self._subscriber
        writer = await self._response.prepare(self._request)
        self._wire.open(self._request, writer)
        stream.client.evict = lambda fault: broadcaster.evict(subscriber, fault)
        stream.client.narrow = self._narrow
        stream.parts.clients.supersede(stream.client)
        try:
            self._greet(rejected)
            broadcaster.attach(subscriber, stream.query.start)
            await self._read()
        finally:
            broadcaster.detach(subscriber)
            if self._closing is not None:
                await asyncio.wait([self._closing])
            await self._wire.end()

    def _greet(self, rejected: list[dict[str, str]]) -> None:
        # Apart from `serve`, whose frame would keep the messages for as long as the stream lasts.
        greeting = [self._stream.welcome()]
        if self._stream.query.channels is not None:
            greeting.append(self._stream.ack("subscribe", None, rejected))
        self._wire.write(WS.join([WS.message(message) for message in greeting]))

    # --- what comes in

    async def _read(self) -> None:
        """Until the connection ends. One message at a time, and none while replies don't fit."""
        async for message in self._response:
            if self._closing is not None:
                return  # what came behind the last straw is not acted upon
            self._subscriber.alive()
            match message.type:
                case WSMsgType.TEXT:
                    self._receive(message.data)
                case WSMsgType.PING:
                    self._wire.write(ws_pong(bytes(message.data)))
                case WSMsgType.BINARY:
                    self._end(PeerFault("BAD_REQUEST", "Messages are text."), code=1003)
                case _:
                    pass
            await self._wire.drained()

    def _receive(self, text: str) -> None:
        try:
            command = self._session.receive(text, time.monotonic())
        except CommandFault as fault:
            self._tell(messages.error(now_ms(), fault, fault.req_id))
            final = isinstance(fault.details, dict) and fault.details.get("final")
            if fault.code == "TOO_MANY_BAD_MESSAGES" or final:
                self._end(fault)
            return
        try:
            self._act(command)
        except TelecastError as fault:
            self._tell(messages.error(now_ms(), fault, command.req_id))

    def _act(self, command: Command) -> None:
        """Do it, and answer. Raises TelecastError."""
        match command:
            case Subscribe():
                self._subscribe(command)
            case Unsubscribe():
                gone = self._session.unsubscribe(command)
                self._broadcaster.change(self._subscriber, selection_of(self._session))
                told = [each.told() for each in gone]
                self._tell(self._stream.ack("unsubscribe", command.req_id, told))
            case Heartbeat():
                self._broadcaster.heartbeat(self._subscriber)
            case Publish():
                self._publish(command)
            case _:
                raise PeerFault("NOT_AVAILABLE", f"{command.action!r} is not offered yet.")

    def _subscribe(self, command: Subscribe) -> None:
        stream, first = self._stream, not self._session.started
        granted, start = self._session.subscribe(command)
        rejected = [each.told() for each in granted.rejected]
        self._tell(stream.ack("subscribe", command.req_id, rejected))
        if first:
            # `since` in the query is for whatever is subscribed first.
            start = start or stream.query.start
        # A new subscribe begins these channels anew, even if their filter is the same.
        self._broadcaster.change(
            self._subscriber,
            selection_of(self._session),
            fresh=tuple(granted.asked),
            start=start,
        )

    def _publish(self, command: Publish) -> None:
        """Queued before the next message is read: this connection's order is the commits'."""
        future = self._stream.parts.ingress.publish_one(
            self._session.principal, command.channel, command.data, command.idempotency_key
        )
        future.add_done_callback(lambda done: self._published(command.req_id, done))

    def _published(self, req_id: str | None, done: asyncio.Future[Published]) -> None:
        if done.cancelled():
            return
        fault = done.exception()
        if fault is None:
            receipt = done.result().receipt
            extra: dict[str, object] = {
                "position": str(Position(self._broadcaster.epoch, receipt.last_seq)),
                "seq": receipt.last_seq,
                "duplicate": receipt.duplicate,
                "subscribers": done.result().subscribers,
            }
            self._tell(self._stream.ack("publish", req_id, [], extra))
        elif isinstance(fault, TelecastError):
            self._tell(messages.error(now_ms(), fault, req_id))
        else:
            log.error("publish failed", exc_info=fault)
            broken = OwnFault("INTERNAL", "Something broke; the log has it.")
            self._tell(messages.error(now_ms(), broken, req_id))

    def _tell(self, message: Message) -> None:
        self._broadcaster.tell(self._subscriber, message)

    def _narrow(self, principal: Principal) -> None:
        if not self._stream.narrow(principal, self._subscriber):
            self._end(PeerFault("FORBIDDEN", "This key may not read any channel any more."))

    # --- how it ends

    def _end(self, fault: TelecastError, code: int | None = None) -> None:
        """End it for the client's own reason: what was said before still goes out."""
        if code is None:
            self._broadcaster.evict(self._subscriber, fault)
        elif self._closing is None:
            self._broadcaster.detach(self._subscriber)
            self._closing = asyncio.create_task(self._say_goodbye(fault, code))

    def _close(self, fault: TelecastError) -> None:
        if self._closing is None:
            code = fault.rule.close or 1011
            self._closing = asyncio.create_task(self._say_goodbye(fault, code))

    async def _say_goodbye(self, fault: TelecastError, code: int) -> None:
        """Notice and close frame, if they still fit; then the connection is dropped."""
        if not self._request.protocol.writing_paused:
            wait = int(retry_after(fault) * 1000) if fault.retryable else None
            self._wire.write(WS.message(messages.notice(now_ms(), fault, wait)))
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._response.close(code=code, message=_reason(fault.message), drain=False)
                await self._wire.drained()
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self._wire.abort_if_stuck()


def _reason(text: str) -> bytes:
    """What of a text fits into a close frame, whose reason is UTF-8 too (RFC 6455 §5.5.1)."""
    return text.encode()[:MAX_REASON].decode(errors="ignore").encode()
