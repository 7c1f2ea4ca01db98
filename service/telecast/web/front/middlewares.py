"""Around every request: a correlation id, one log line, and errors in their envelope."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from telecast.errors import Code, OwnFault, PeerFault, TelecastError
from telecast.logs import correlation_id
from telecast.net.admission import MALFORMED
from telecast.web.front.answers import REFUSED, refusal
from telecast.web.front.heads import check_head
from telecast.web.front.peer import address_of
from telecast.web.front.refusals import Refusals
from telecast.web.parts import COMMITTED, CONNECTION, CORRELATION, PRINCIPAL, parts_from

log = logging.getLogger(__name__)

_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_TRACED = re.compile(
    r"(?!ff|00.{53}-)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
"""A `traceparent` and the id of its trace (W3C Trace Context, section 3.2). No id is all zeros;
more may follow in versions to come alone."""
_HTTP_CODES = {
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.BODY_TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
}
REFUSALS = web.AppKey("refusals", Refusals)
BEGUN = web.RequestKey("begun", bool)
"""Whether the head of an answer has left."""
QUIET = ("/livez", "/readyz", "/metrics")
"""Asked every few seconds by machines: not worth a line."""


HELD_SECONDS = 0.25
"""How long the refusal of one who has too much under way is held back. Some ask again at once, on
each of their connections: answered at once too, they would fill each turn of the loop."""


async def hold_back() -> None:
    await asyncio.sleep(HELD_SECONDS)


def _correlation(headers: Mapping[str, str]) -> str:
    asked = headers.get("X-Correlation-ID", "")
    if _SANE.fullmatch(asked):
        return asked
    traced = _TRACED.fullmatch(headers.get("traceparent", ""))
    return traced[1] if traced else secrets.token_hex(8)


@web.middleware
async def correlate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id: the caller's if it is sane, else that of its trace, else our own."""
    request[CORRELATION] = chosen = _correlation(request.headers)
    token = correlation_id.set(chosen)
    started = time.monotonic()
    status: int | None = None  # stays so when the peer goes first
    code: str | None = None
    try:
        response = await handler(request)
        status, code = response.status, response.get(REFUSED)
        return response
    finally:
        if request.path not in QUIET and (code is None or request.app[REFUSALS].worth_a_line(code)):
            principal = request.get(PRINCIPAL)
            log.info(
                "request",
                extra={
                    "method": request.method,
                    "path": request.path,
                    "status": status,
                    "code": code,
                    "seq": request.get(COMMITTED),
                    "seconds": round(time.monotonic() - started, 4),
                    "key_id": None if principal is None else principal.key_id,
                    "remote": address_of(request),
                    "connection_id": request.get(CONNECTION),
                },
            )
        correlation_id.reset(token)


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every refusal into its envelope."""
    try:
        check_head(request)
        return await handler(request)
    except TelecastError as fault:
        if fault.code == Code.MALFORMED_REQUEST:
            parts_from(request).admission.count(MALFORMED)
        if fault.code == Code.TOO_MUCH_AT_ONCE:
            await hold_back()
        if fault.rule.http >= 500:
            log.warning("refused", extra={"code": fault.code, "reason": fault.message})
        response = refusal(fault)
        if "Sec-WebSocket-Key" in request.headers:
            # Qt answers a challenge that it does not know with an error of its own, in place of
            # the refusal; nobody else looks at one in a handshake.
            response.headers.pop("WWW-Authenticate", None)
        return response
    except web.HTTPException as status:
        found = _HTTP_CODES.get(status.status)
        if found is None and status.status < 400:
            raise
        response = refusal(PeerFault(found or Code.BAD_REQUEST, status.reason))
        if "Allow" in status.headers:
            response.headers["Allow"] = status.headers["Allow"]
        return response
    except web.RequestPayloadError:
        return refusal(PeerFault(Code.BAD_REQUEST, "The body does not match what its headers say."))
    except ConnectionResetError:
        # The peer went before its answer began: nothing failed, and nobody reads an answer.
        return web.Response(status=400)
    except Exception:
        log.exception("unhandled")
        if request.get(BEGUN) and request.transport is not None:
            # A 500 now would stand in the middle of a stream: its end without one says as much.
            request.transport.abort()
        return refusal(OwnFault(Code.INTERNAL, "Internal error: the service's log has it."))


async def add_correlation(request: web.Request, response: web.StreamResponse) -> None:
    """On every response, those of the streams included: their headers leave early."""
    request[BEGUN] = True
    chosen = request.get(CORRELATION)
    if chosen is not None:
        response.headers["X-Correlation-ID"] = chosen
