"""One connection: HTTP by aiohttp, with deadlines, and our error bodies for what it can't parse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Mapping
from enum import Enum
from typing import Any, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError, LineTooLong

from telecast.errors import Code, OwnFault, PeerFault, TelecastError
from telecast.net.admission import MALFORMED, SLOW_HEAD, Admission
from telecast.net.wire import USER_TIMEOUT_MS
from telecast.web.front.answers import refusal
from telecast.web.front.body import HELD, holder_of
from telecast.web.front.budget import Budget
from telecast.web.front.peer import address_of

log = logging.getLogger(__name__)

MAX_ADDRESS = 32 * 1024
"""Bytes of a request line: 256 filter values of 100 characters have room. Proxies take 8 KiB."""

COUNTED_BYTES = 64 * 1024
"""An answer that is smaller is not counted among those that are not read."""

_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)


class Phase(Enum):
    """What the bytes that come next belong to."""

    HEAD = "the head of the next request"
    SERVED = "a request that is served: its body, or what was sent behind it"
    BODY = "the rest of a body whose request was answered already"

    __hash__ = object.__hash__  # Enum's is a call of Python for each look into the table of moves


MOVES: Mapping[Phase, frozenset[Phase]] = {
    Phase.HEAD: frozenset({Phase.SERVED}),
    Phase.SERVED: frozenset({Phase.HEAD, Phase.BODY}),
    Phase.BODY: frozenset({Phase.HEAD, Phase.SERVED}),
}


class Connection(web.RequestHandler):
    """Reports to `admission` how far a request has come. aiohttp has no deadline for a head."""

    __slots__ = ("_admission", "_answers", "_body", "_phase")

    def __init__(
        self, server: web.Server, admission: Admission, answers: Budget, **options: Any
    ) -> None:
        """`options` are aiohttp's."""
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._admission = admission
        self._answers = answers
        self._phase = Phase.HEAD
        self._body: StreamReader | None = None
        """Of the request that is served, or was answered last."""

    def move(self, phase: Phase) -> None:
        """The only way the phase changes."""
        if phase not in MOVES[self._phase]:
            raise AssertionError(f"no way from {self._phase.name} to {phase.name}")
        self._phase = phase

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else "unknown"
        if self._admission.enter(self, address):
            _bound_patience(transport)
            super().connection_made(transport)
        else:
            _drop(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._admission.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.BODY and self._body_is_whole():
            self.move(Phase.HEAD)
        # What comes while a request is served, or belongs to its body, has its own deadlines.
        if data and self._phase is Phase.HEAD:
            self._admission.begin(self)
        super().data_received(data)

    def asked(self, body: StreamReader) -> None:
        """A request's head is complete, and is served now."""
        self._body = body
        self.move(Phase.SERVED)
        self._admission.asked(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        try:
            return await self._finish(request, resp, start_time)
        finally:
            self.move(Phase.HEAD if self._body_is_whole() else Phase.BODY)

    def _body_is_whole(self) -> bool:
        return self._body is None or self._body.is_eof()

    async def _finish(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Answer; a large answer is held in memory until the peer has read it."""
        body = resp.body if isinstance(resp, web.Response) else None
        size = len(body) if isinstance(body, bytes | bytearray) else 0
        holder, held = holder_of(request), request.get(HELD, 0)
        more = max(0, size - max(held, COUNTED_BYTES))
        try:
            self._answers.take(holder, more)
        except PeerFault as fault:
            log.info("refused", extra={"code": fault.code, "remote": address_of(request)})
            resp, more = refusal(fault), 0
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._answers.give_back(holder, held + more)

    def late(self, why: str) -> None:
        if self.transport is None:
            return
        # uvloop's transport may be closed already without having said so: to write would raise.
        if why == SLOW_HEAD and not self.transport.is_closing():
            fault = PeerFault(Code.TOO_SLOW, "The request's head was not complete in time.")
            self.transport.write(_bare(fault))
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what could not be parsed, or to what broke outside of every handler."""
        correlation = secrets.token_hex(8)
        fault: TelecastError
        if isinstance(exc, HttpProcessingError):
            reason = _reason(exc)
            self._admission.count(MALFORMED)
            log.info(
                "malformed request",
                extra={
                    "reason": reason,
                    "remote": request.remote,
                    "correlation_id": correlation,
                },
            )
            if isinstance(exc, LineTooLong) and str(MAX_ADDRESS) in exc.message:
                fault = PeerFault(
                    Code.ADDRESS_TOO_LONG,
                    f"The address is over {MAX_ADDRESS} bytes: select so much over a WebSocket.",
                    {"max_address_bytes": MAX_ADDRESS},
                )
            else:
                fault = PeerFault(Code.MALFORMED_REQUEST, f"This is not valid HTTP/1.1: {reason}.")
        else:
            log.error("unhandled", exc_info=exc, extra={"correlation_id": correlation})
            fault = OwnFault(Code.INTERNAL, "Internal error: the service's log has it.")
        if request.writer.output_size:
            raise ConnectionError("An answer has begun: no other can be sent.")
        response = refusal(fault)
        response.headers["X-Correlation-ID"] = correlation
        response.force_close()
        return response


class TurnedAway(asyncio.Protocol):
    """There is no room: closed before it costs anything."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        _drop(transport)


def _bound_patience(transport: asyncio.BaseTransport) -> None:
    """An answer of which the peer takes nothing must not stay for good, nor its connection."""
    sock = transport.get_extra_info("socket")
    if sock is not None and _TCP_USER_TIMEOUT is not None:
        with contextlib.suppress(OSError):  # gone already, or no TCP
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, USER_TIMEOUT_MS)


def _drop(transport: asyncio.BaseTransport) -> None:
    cast(asyncio.Transport, transport).abort()  # uvloop's are none by inheritance


def _reason(fault: HttpProcessingError) -> str:
    """Why it is no HTTP, without what was sent: that may be a secret."""
    if isinstance(fault, InvalidURLError):
        return "the request target is not a valid address"
    return fault.message.partition("\n")[0].partition(": b")[0].rstrip(":")[:128]


def _bare(fault: TelecastError) -> bytes:
    """A refusal where aiohttp has no request to answer."""
    answer = refusal(fault)
    body = answer.body
    assert isinstance(body, bytes)
    head = [
        f"HTTP/1.1 {answer.status} {answer.reason}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        f"X-Correlation-ID: {secrets.token_hex(8)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
