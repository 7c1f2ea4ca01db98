"""POST /api/v1/{channel}/{id}/acknowledge and /unacknowledge: what an operator does to an alert."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from telecast.errors import Code, PeerFault
from telecast.ingress import Alerts, Published
from telecast.ingress.alerts import check_note
from telecast.model import Position, Principal
from telecast.protocol.commands import parse_json
from telecast.web.api.publish import idempotency_key
from telecast.web.auth.credentials import require
from telecast.web.front.answers import ok
from telecast.web.front.body import read_body
from telecast.web.parts import COMMITTED, parts_from

MAX_BODY = 8_192

Act = Callable[[Principal, str, str | None, str | None], asyncio.Future[Published]]


async def acknowledge(request: web.Request) -> web.Response:
    """The caller takes care of the alert. Nobody else can acknowledge it then."""
    require(request, "operate", acknowledges=True)
    alerts = _alerts(request)
    return await _act(request, alerts, alerts.acknowledge)


async def unacknowledge(request: web.Request) -> web.Response:
    """The alert is active again, as if nobody had acknowledged it."""
    require(request, "operate", acknowledges=True)
    alerts = _alerts(request)
    return await _act(request, alerts, alerts.unacknowledge)


def _alerts(request: web.Request) -> Alerts:
    name = request.match_info["channel"]
    for each in parts_from(request).alerts:
        if each.channel.name == name:
            return each
    raise PeerFault(Code.NOT_FOUND, f"{name[:64]!r} is no channel of alerts.")


async def _act(request: web.Request, alerts: Alerts, act: Act) -> web.Response:
    principal, alert_id = require(request, "operate", acknowledges=True), request.match_info["id"]
    note = await _note(request)
    done = await act(principal, alert_id, note, idempotency_key(request))
    receipt = done.receipt
    request[COMMITTED] = receipt.last_seq
    answer: dict[str, Any] = {
        "alert": alerts.row(alert_id),
        "changed": receipt.count > 0 and not receipt.duplicate,
        "position": str(Position(parts_from(request).journal.epoch, receipt.last_seq)),
    }
    if receipt.duplicate:
        answer["duplicate"] = True
    return ok(answer)


async def _note(request: web.Request) -> str | None:
    """From `{"note": ...}`, or an empty body."""
    body = await read_body(request, MAX_BODY, "max_acknowledge_bytes")
    if not body.strip():
        return None
    if request.content_type != "application/json":
        raise PeerFault(
            Code.UNSUPPORTED_MEDIA_TYPE,
            "Send {\"note\": ...} with -H 'Content-Type: application/json', or no body.",
        )
    match parse_json(body, "The body"):
        case {"note": note, **others} if not others:
            return check_note(note)
        case dict() as empty if not empty:
            return None
    raise PeerFault(Code.BAD_REQUEST, 'The body is {"note": "..."}, or empty.')
