"""The REST envelope, wire contract section 10, and how a refusal looks over each transport."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from telecast.errors import Code, TelecastError
from telecast.model import rfc3339
from telecast.protocol import messages
from telecast.protocol.framing import SSE, sse_retry

SSE_TYPE = "text/event-stream; charset=utf-8"
"""The standard knows UTF-8 only; `requests` and others take Latin-1 where nothing is said."""
SSE_CACHING = "no-cache, no-transform"
"""What compresses on the way would hold events back until its buffer is full."""

REFUSED = web.ResponseKey("refused", str)
"""The error code of an answer, for the log."""
LAST_WORDS = (Code.MALFORMED_REQUEST, Code.TOO_SLOW, Code.TOO_MANY_WRONG_KEYS)
"""After these the connection is closed: nobody knows where the next request begins, or it may
begin with another guess."""


def ok(
    data: Any,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    now: float | None = None,
) -> web.Response:
    """`now` is the service's clock, in seconds since 1970, where others set theirs by it."""
    return ok_bytes(orjson.dumps(data), status=status, headers=headers, now=now)


def ok_bytes(
    data: bytes,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    now: float | None = None,
) -> web.Response:
    """The envelope around JSON that is made already."""
    at = orjson.dumps(rfc3339(time.time() if now is None else now))
    body = b'{"success":true,"data":%b,"timestamp":%b}' % (data, at)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def refusal(fault: TelecastError) -> web.Response:
    """The error body with its status."""
    error = {
        "code": fault.code,
        "message": fault.message,
        "details": fault.details,
        "advice": fault.rule.advice,
        "retryable": fault.retryable,
    }
    body = {"success": False, "error": error, "timestamp": rfc3339(time.time())}
    headers = {}
    if fault.retryable and fault.rule.http in (403, 429, 503):
        headers["Retry-After"] = str(math.ceil(retry_after(fault) * _jitter()))
    if fault.rule.http == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="telecast"'
    if fault.rule.http == 426:  # RFC 9110 §15.5.22, RFC 6455 §4.4
        headers |= {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    response = web.Response(
        body=orjson.dumps(body),
        status=fault.rule.http,
        content_type="application/json",
        headers=headers,
    )
    response[REFUSED] = str(fault.code)
    if fault.code in LAST_WORDS:
        response.force_close()
    return response


def stream_refusal(fault: TelecastError) -> web.Response:
    """What is worth retrying, for an EventSource: any status but 200 would stop it for good."""
    wait = int(retry_after(fault) * 1000 * _jitter())
    notice = messages.notice(int(time.time() * 1000), fault, wait)
    response = web.Response(
        body=sse_retry(wait) + SSE.message(notice),
        headers={
            "Content-Type": SSE_TYPE,
            "Cache-Control": SSE_CACHING,
            "X-Accel-Buffering": "no",
        },
    )
    response[REFUSED] = str(fault.code)
    return response


def _jitter() -> float:
    """Spreads clients that get the same pause: not all come back at once."""
    return random.uniform(1.0, 2.0)  # noqa: S311 - no secret


def retry_after(fault: TelecastError) -> float:
    """Seconds; what the fault says, else one."""
    return fault.retry_after or 1.0
