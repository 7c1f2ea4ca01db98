"""What both transports do before and after the first byte."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from contextvars import Context, copy_context
from dataclasses import replace

from aiohttp import web

from telecast.clients import Client
from telecast.consumers import Consumer, Name
from telecast.errors import Code, PeerFault, TelecastError
from telecast.fanout.subscriber import Subscriber
from telecast.journal.lookup import seq_before
from telecast.logs import connection_id, one_line
from telecast.model import Position, Principal
from telecast.net.wire import Wire
from telecast.protocol import messages
from telecast.protocol.commands import Most, Origin, Start
from telecast.protocol.framing import Message, Transport
from telecast.protocol.messages import ReqId
from telecast.protocol.query import StreamQuery, parse_query
from telecast.protocol.session import Session, SessionLimits
from telecast.tape.selection import Selection, filter_of
from telecast.web.auth.cookies import BROWSER, SIGNED_IN, redeem_ticket
from telecast.web.auth.credentials import check_stream_origin, require
from telecast.web.front.peer import address_of
from telecast.web.parts import CONNECTION, PRINCIPAL, Parts, parts_from
from telecast.web.streams.takeover import take_over

log = logging.getLogger(__name__)

MOST_AGENT = 256
"""Characters of a User-Agent that are kept: it is for people to read."""

Serve = Callable[[Wire, bytes], None]
"""Begins to serve a connection, given what its peer has sent already. Calls `ServedStream.end`
when the stream is over."""


Asked = Callable[[web.Request, Collection[str], Most], StreamQuery]
"""Reads what a request asks for, given the filters that there are. Raises PeerFault."""


def _query(request: web.Request, filters: Collection[str], most: Most) -> StreamQuery:
    pairs = [pair for pair in request.query.items() if pair[0] != "ticket"]

    def declared() -> Mapping[str, Collection[str]]:
        open_to = parts_from(request).catalogue.open_to(request[PRINCIPAL])
        return {channel.name: channel.filters for channel in open_to}

    last = request.headers.get("Last-Event-ID")
    return parse_query(pairs, last, filters, most, declared=declared)


class ServedStream:
    """One connection over either transport: who asks for what, and its subscriber."""

    def __init__(self, request: web.Request, transport: str, asked: Asked | None = None) -> None:
        """Judge the request; `asked` reads what it asks for, by default its query. Raises
        TelecastError before anything is answered."""
        self.parts: Parts = parts_from(request)
        self.ended_by: TelecastError | None = None
        """The fault for which we end it; None while it lasts, or if the client went."""
        self._context = Context()
        check_stream_origin(request)
        principal = require(request, "read")
        settings = self.parts.settings
        self.query: StreamQuery = (asked or _query)(
            request,
            self.parts.catalogue.filters,
            Most(settings.max_channels, settings.max_filter_values),
        )
        self.session = Session(
            principal,
            self.parts.catalogue,
            SessionLimits(
                max_channels=settings.max_channels,
                max_filter_values=settings.max_filter_values,
                actions_per_second=settings.actions_per_second,
                actions_burst=settings.actions_burst,
                publishes_per_second=settings.publishes_per_second,
            ),
            time.monotonic(),
        )
        signed_in = request.get(SIGNED_IN)
        self.client = Client(
            connection_id="c-" + secrets.token_hex(6),
            client_id=self.query.client_id,
            principal=principal,
            address=address_of(request),
            transport=transport,
            opened_at=self.parts.now(),
            user_agent=_user_agent(request),
            reads_only=request.get(BROWSER, False),
            session_id=None if signed_in is None else signed_in.id,
        )
        self._session_ends = None if signed_in is None else signed_in.ends_at
        self._expiry: asyncio.TimerHandle | None = None
        if self.query.start.origin is Origin.ACKED:
            known = self.parts.consumers.get(self.consumer_name())
            self.client.acknowledged = None if known is None else known.position

    async def open(self, request: web.Request, head: web.StreamResponse, serve: Serve) -> None:
        """Count it among the clients, answer, and have it served: from callbacks, not from a task.
        Raises TelecastError, ConnectionError."""
        self.parts.clients.admit(self.client)
        request[CONNECTION] = self.client.connection_id
        token = connection_id.set(self.client.connection_id)
        # Until it is served nothing can send the client a reason: it is just ended.
        ended: list[TelecastError] = []
        self.client.evict = ended.append
        try:
            await self._find_start()
            await redeem_ticket(request)
            wire, behind = await take_over(request, head)
        except BaseException:
            self._leave()
            raise
        else:
            self.parts.streams.add(wire, request.protocol)
            self._context = copy_context()
            if ended:
                self.ended_by = ended[0]
                wire.end()
                self.end()
            else:
                self._serve(serve, wire, behind)
        finally:
            connection_id.reset(token)

    async def _find_start(self) -> None:
        """Turn a start in time into a position."""
        instant = self.query.start.instant
        if instant is None:
            return
        parts = self.parts
        moment = instant.at(self.now_ms())
        seq = await seq_before(parts.journal, tuple(parts.catalogue), moment)
        start = Start(Origin.POSITION, Position(parts.journal.epoch, seq), instant=instant)
        self.query = replace(self.query, start=start)

    def _serve(self, serve: Serve, wire: Wire, behind: bytes) -> None:
        try:
            serve(wire, behind)
            self._expire()
            if self.client.principal is not self.session.principal:
                # Its key changed meanwhile.
                self.client.narrow(self.client.principal)
        except Exception:
            log.exception("unhandled")
            if self.client.subscriber is not None:
                self.parts.broadcaster.detach(self.client.subscriber)
            wire.end()
            wire.abort()
            self.end()

    def _expire(self) -> None:
        """End it when its session is too old to be renewed."""
        if self._session_ends is not None:
            fault = PeerFault(Code.SESSION_OVER, "The session has reached its greatest age.")
            self._expiry = asyncio.get_running_loop().call_later(
                max(0.0, self._session_ends - self.parts.now()), lambda: self.client.evict(fault)
            )

    def end(self) -> None:
        """It is over. Called once; the log line says whose stream it was."""
        client, now = self.client, self.parts.now()
        if client.client_id is not None and client.subscriber is not None:
            self.parts.consumers.ended(
                self.consumer_name(), self.parts.broadcaster.delivered(client.subscriber)
            )
        self.parts.clients.note_end(client, now, self.ended_by, head=self.parts.tape.head)
        self._leave()
        self._context.run(
            log.info,
            "stream ended",
            extra={
                "transport": client.transport,
                "code": None if self.ended_by is None else self.ended_by.code,
                "seconds": round(now - client.opened_at, 4),
                "key_id": client.principal.key_id,
                "remote": client.address,
            },
        )

    def _leave(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self.parts.clients.leave(self.client)
        self.client.let_go()

    def subscriber(self, transport: Transport, wire: Wire, *, expects_life: bool) -> Subscriber:
        """The subscriber of this stream, for the client registry too; not attached yet."""
        self.client.subscriber = subscriber = Subscriber(
            connection_id=self.client.connection_id,
            transport=transport,
            sink=wire,
            selection=selection_of(self.session),
            delivery=self.query.delivery,
            max_rate=self.query.max_rate,
            heartbeat=self.query.heartbeat,
            expects_life=expects_life,
        )
        self.client.filters = lambda: self.session.holds
        return subscriber

    def consumer_name(self) -> Name:
        """Raises PeerFault CLIENT_UNNAMED."""
        if self.client.client_id is None:
            raise PeerFault(
                Code.CLIENT_UNNAMED, "This connection has no `clientId` to keep positions by."
            )
        return Name(self.client.principal.key_id, self.client.client_id)

    def acknowledge(self, position: Position) -> asyncio.Future[Consumer]:
        """It has handled everything up to here; the future ends once that is durable. Raises
        PeerFault."""
        client, subscriber = self.client, self.client.subscriber
        future = self.parts.consumers.acknowledge(
            self.consumer_name(),
            position,
            delivered=0 if subscriber is None else self.parts.broadcaster.delivered(subscriber),
            channels=self.session.holds,
        )
        future.add_done_callback(lambda done: _note_acknowledged(client, done))
        return future

    def start(self, start: Start) -> Start:
        """Where to start what is held now: not from a position that was earned under other
        rights."""
        if start.instant is not None:
            return start  # it asks for what happened, and claims to hold nothing
        if start.origin is Origin.ACKED:
            consumer = self.parts.consumers.get(self.consumer_name())
            if consumer is None:
                return Start(Origin.SNAPSHOT)
            start = Start(Origin.POSITION, consumer.position)
        if start.origin is not Origin.POSITION or start.position is None:
            return start
        return replace(
            start,
            anew=self.parts.rights.changed_since(
                self.session.principal, self.session.holds, start.position
            ),
        )

    def now_ms(self) -> int:
        """The service's clock, as messages carry it."""
        return int(self.parts.now() * 1000)

    def welcome(self) -> Message:
        return messages.welcome(
            self.now_ms(),
            client_id=self.client.client_id,
            connection_id=self.client.connection_id,
            head=self.parts.broadcaster.head,
            heartbeat_seconds=self.query.heartbeat,
            limits=self.session.limits_sent(),
            node=self.parts.journal.peers.node,
        )

    def ack(
        self,
        action: str,
        req_id: ReqId,
        rejected: list[dict[str, str]],
        extra: dict[str, object] | None = None,
    ) -> Message:
        """The selection that holds now."""
        return messages.ack(
            self.now_ms(),
            action=action,
            req_id=req_id,
            channels=list(self.session.holds),
            rejected=rejected,
            delivery=self.query.delivery,
            max_rate=self.query.max_rate,
            extra=extra,
        )

    def narrow(self, principal: Principal, subscriber: Subscriber) -> bool:
        """Apply changed rights and send what holds now; False when nothing is left to read."""
        rejected = self.session.narrow(principal)
        selection = selection_of(self.session)
        if selection == subscriber.selection == subscriber.wanted:
            return True
        if not selection and (self.client.transport == "sse" or not principal.may("read")):
            return False
        lost = [each.as_json() for each in rejected]
        self.parts.broadcaster.send(subscriber, self.ack("subscribe", None, lost))
        self.parts.broadcaster.change(subscriber, selection)
        return True


def _user_agent(request: web.Request) -> str | None:
    text = request.headers.get("User-Agent")
    return None if text is None else one_line(text[:MOST_AGENT]).encode(errors="replace").decode()


def _note_acknowledged(client: Client, done: asyncio.Future[Consumer]) -> None:
    if not done.cancelled() and done.exception() is None:
        client.acknowledged = done.result().position


def selection_of(session: Session) -> Selection:
    return Selection({name: filter_of(fields) for name, fields in session.holds.items()})
