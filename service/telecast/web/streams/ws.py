"""The WebSocket transport: GET /ws/telemetry."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from aiohttp import web

from telecast.consumers import Consumer
from telecast.errors import Code, JournalUnavailable, OwnFault, PeerFault, TelecastError
from telecast.fanout.subscriber import Subscriber
from telecast.ingress import Published
from telecast.ingress.alerts import check_note
from telecast.model import Position, Principal
from telecast.net.wire import Wire
from telecast.protocol import messages
from telecast.protocol.commands import (
    Acknowledge,
    AcknowledgeAlert,
    ChangeFilter,
    Command,
    CommandFault,
    Heartbeat,
    Origin,
    Publish,
    Subscribe,
    Unsubscribe,
)
from telecast.protocol.frames import BINARY, PING, Frame, FrameFault
from telecast.protocol.framing import WS, WS_POSITIONED, Message, ws_pong
from telecast.protocol.limits import TokenBucket
from telecast.protocol.messages import ReqId
from telecast.web.front.answers import refusal, retry_after
from telecast.web.streams.stream import ServedStream, selection_of
from telecast.web.streams.websocket import WebSocket, check_version, has_body, upgrade

log = logging.getLogger(__name__)

SUBPROTOCOL = "telecast.v1"
HELD_SECONDS = 1.0
"""For so long after a publish that could not be taken its connection's publishes are refused: they
were sent before its client knew, and would stand before that one once it is repeated."""
NOT_TAKEN = "What this connection sent before was not taken; nor was this. Repeat both, in order."
CONTROLS_PER_SECOND = 20.0
CONTROLS_BURST = 200.0
"""Pings and pongs of a client. We ask for a pong every 5 s at the most, and libraries ping every
second at the most; the burst is for what arrives at once after a line was stuck."""


async def telemetry(request: web.Request) -> web.StreamResponse:
    """Upgrade and serve one client until it goes."""
    if has_body(request):
        response = refusal(PeerFault(Code.BAD_REQUEST, "A WebSocket request must not have a body."))
        response.force_close()  # what follows may be a body or a request: it is read as neither
        return response
    check_version(request)
    stream = ServedStream(request, "ws")
    rejected: list[dict[str, str]] = []
    if stream.query.channels is not None:
        asked = stream.session.ask(stream.query.channels, stream.query.fields)
        rejected = [each.as_json() for each in asked.rejected]
    elif stream.query.fields:
        raise PeerFault(
            Code.UNKNOWN_FILTER,
            "Over WebSocket a filter in the query needs `channels` too.",
        )
    answer = upgrade(request, SUBPROTOCOL)

    def serve(wire: Wire, behind: bytes) -> None:
        _WsStream(stream, wire).serve(behind, rejected)

    await stream.open(request, answer, serve)
    return answer


class _WsStream:
    """One WebSocket: acts on commands, and hands the subscriber to the broadcaster."""

    def __init__(self, stream: ServedStream, wire: Wire) -> None:
        self._stream = stream
        self._session = stream.session
        self._broadcaster = stream.parts.broadcaster
        self._wire = wire
        transport = WS_POSITIONED if stream.query.positioned else WS
        self._subscriber: Subscriber = stream.subscriber(transport, wire, expects_life=True)
        self._socket = WebSocket(wire, stream.parts.settings.max_frame_bytes, self)
        self._published = False
        self._newest: asyncio.Future[Published] | None = None
        """What was published last."""
        self._held_until = 0.0
        self._controls = TokenBucket(CONTROLS_PER_SECOND, CONTROLS_BURST, time.monotonic())

    def serve(self, behind: bytes, rejected: list[dict[str, str]]) -> None:
        stream, broadcaster, subscriber = self._stream, self._broadcaster, self._subscriber
        self._wire.on_close = self._close
        stream.client.evict = lambda fault: broadcaster.evict(subscriber, fault)
        stream.client.narrow = self._narrow
        stream.parts.shared_clients.supersede(stream.client)
        greeting = [stream.welcome()]
        if stream.query.channels is not None:
            greeting.append(stream.ack("subscribe", None, rejected))
        self._wire.write(WS.join([WS.message(message) for message in greeting]))
        broadcaster.attach(subscriber, stream.start(stream.query.start))
        stream.parts.staleness.greet(subscriber, subscriber.selection.channels)
        self._socket.open(behind)

    # --- what the client sends

    def receive(self, message: str | Frame) -> None:
        self._subscriber.watch.heard()
        self._stream.client.heard_at = self._stream.parts.clients.now()
        if isinstance(message, str):
            self._receive(message)
        else:
            self._answer(message)

    def refuse(self, fault: FrameFault) -> None:
        self._end(fault)

    def over(self) -> None:
        self._broadcaster.detach(self._subscriber)
        self._wire.end()
        self._stream.end()

    def _answer(self, frame: Frame) -> None:
        """Raises FrameFault."""
        if frame.opcode == BINARY:
            raise FrameFault("binary", "Messages are text.")
        if not self._controls.take(time.monotonic()):
            raise FrameFault(
                "control_rate", "This connection sent more pings and pongs than it may."
            )
        if frame.opcode == PING:
            self._wire.write(ws_pong(frame.payload))

    def _receive(self, text: str) -> None:
        try:
            self._obey(text)
        except Exception:
            # Else a 500 would be written where the client reads frames.
            log.exception("unhandled")
            self._end(OwnFault(Code.INTERNAL, "Internal error: the service's log has it."))

    def _obey(self, text: str) -> None:
        try:
            command = self._session.receive(text, time.monotonic())
        except CommandFault as fault:
            self._send(messages.error(self._stream.now_ms(), fault, fault.req_id))
            if fault.final:
                self._end(fault)
            return
        try:
            self._act(command)
        except TelecastError as fault:
            self._send(messages.error(self._stream.now_ms(), fault, command.req_id))

    def _act(self, command: Command) -> None:
        """Do it, and answer. Raises TelecastError."""
        match command:
            case Subscribe():
                self._subscribe(command)
            case Unsubscribe():
                gone = self._session.unsubscribe(command)
                self._broadcaster.change(self._subscriber, selection_of(self._session))
                rejected = [each.as_json() for each in gone]
                self._send(self._stream.ack("unsubscribe", command.req_id, rejected))
            case ChangeFilter():
                gone = self._session.change_filter(command)
                rejected = [each.as_json() for each in gone]
                self._send(self._stream.ack("filter", command.req_id, rejected))
                self._broadcaster.refine(self._subscriber, selection_of(self._session))
            case Acknowledge():
                self._keep(command)
            case Heartbeat():
                self._broadcaster.heartbeat(self._subscriber)
            case Publish():
                self._publish(command)
            case AcknowledgeAlert():
                self._acknowledge(command)

    def _keep(self, command: Acknowledge) -> None:
        """Note what the client has handled. It is answered where it has a reqId, after the
        commit."""
        future = self._stream.acknowledge(command.position)
        future.add_done_callback(lambda done: self._kept(command.req_id, done))

    def _kept(self, req_id: messages.ReqId, done: asyncio.Future[Consumer]) -> None:
        if done.cancelled():
            return
        fault = done.exception()
        if isinstance(fault, TelecastError):
            self._send(messages.error(self._stream.now_ms(), fault, req_id))
        elif fault is None and req_id is not None:
            extra: dict[str, object] = {"position": str(done.result().position)}
            self._send(self._stream.ack("ack", req_id, [], extra))

    def _subscribe(self, command: Subscribe) -> None:
        if command.start is not None and command.start.origin is Origin.ACKED:
            self._stream.consumer_name()
        stream, first = self._stream, not self._session.started
        granted, start = self._session.subscribe(command)
        rejected = [each.as_json() for each in granted.rejected]
        self._send(stream.ack("subscribe", command.req_id, rejected))
        if first:
            # `since` in the query counts for the first subscription.
            start = stream.start(start or stream.query.start)
        # A new subscribe begins these channels anew, even if their filter is the same.
        self._broadcaster.change(
            self._subscriber,
            selection_of(self._session),
            fresh=tuple(granted.asked),
            start=start,
        )
        stream.parts.staleness.greet(self._subscriber, granted.asked)

    def _publish(self, command: Publish) -> None:
        """Queued before the next message is read: this connection's order is the commits'."""
        if _untaken(self._newest):
            self._hold()  # its callback comes a turn of the loop later
            self._newest = None
        if time.monotonic() < self._held_until:
            raise JournalUnavailable(NOT_TAKEN)
        try:
            future = self._stream.parts.ingress.publish_one(
                self._session.principal,
                command.channel,
                command.data,
                command.idempotency_key,
                first=not self._published,
            )
        except OwnFault:
            self._hold()
            raise
        self._published, self._newest = True, future
        future.add_done_callback(lambda done: self._committed(command.req_id, "publish", done))

    def _hold(self) -> None:
        self._held_until = time.monotonic() + HELD_SECONDS

    def _acknowledge(self, command: AcknowledgeAlert) -> None:
        principal, note = self._session.principal, check_note(command.note)
        alerts = self._stream.parts.alerts
        if not alerts:
            raise PeerFault(Code.NOT_AVAILABLE, "This service has no channel of alerts.")
        holder = next((each for each in alerts if each.row(command.alert_id)), alerts[0])
        holder.acknowledge(
            principal, command.alert_id, note, command.idempotency_key
        ).add_done_callback(
            lambda done: self._committed(
                command.req_id,
                "acknowledge-alert",
                done,
                {"alertId": command.alert_id, "alert": holder.row(command.alert_id)},
            )
        )

    def _committed(
        self,
        req_id: ReqId,
        action: str,
        done: asyncio.Future[Published],
        said: Mapping[str, object] | None = None,
    ) -> None:
        """Answer what a command has brought about; `said` has the fields of its action alone."""
        if done.cancelled():
            return
        fault = done.exception()
        if isinstance(fault, OwnFault) and action == "publish":
            self._hold()
        if fault is None:
            receipt = done.result().receipt
            extra: dict[str, object] = {
                "position": str(Position(self._broadcaster.epoch, receipt.last_seq)),
                "seq": receipt.last_seq,
                "duplicate": receipt.duplicate,
                "subscribers": done.result().subscribers,
                **(said or {}),
            }
            self._send(self._stream.ack(action, req_id, [], extra))
        elif isinstance(fault, TelecastError):
            self._send(messages.error(self._stream.now_ms(), fault, req_id))
        else:
            log.error("%s failed", action, exc_info=fault)
            broken = OwnFault(Code.INTERNAL, "Internal error: the service's log has it.")
            self._send(messages.error(self._stream.now_ms(), broken, req_id))

    def _send(self, message: Message) -> None:
        self._broadcaster.send(self._subscriber, message)

    def _narrow(self, principal: Principal) -> None:
        if not self._stream.narrow(principal, self._subscriber):
            self._end(PeerFault(Code.FORBIDDEN, "This key may not read any channel any more."))

    # --- how it ends

    def _end(self, fault: TelecastError) -> None:
        """End it for something that the client did: earlier answers still go out."""
        self._broadcaster.evict(self._subscriber, fault)

    def _close(self, fault: TelecastError) -> None:
        """Notice, if it still fits, and close frame."""
        if self._socket.closing:
            return
        self._stream.ended_by = fault
        if not self._wire.full:
            wait = int(retry_after(fault) * 1000) if fault.retryable else None
            self._wire.write(WS.message(messages.notice(self._stream.now_ms(), fault, wait)))
        code = fault.rule.close or 1011
        if isinstance(fault, FrameFault):
            self._stream.parts.refuse_frame(fault.reason)
            code = fault.close
        self._socket.close(code, fault.message)


def _untaken(publish: asyncio.Future[Published] | None) -> bool:
    return (
        publish is not None
        and publish.done()
        and not publish.cancelled()
        and isinstance(publish.exception(), OwnFault)
    )
