"""Who is connected, who has ended, and how an operator ends a connection, at every node."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from telecast.errors import Code, PeerFault
from telecast.model import rfc3339
from telecast.web.api import asking, audit
from telecast.web.auth.credentials import require
from telecast.web.front.answers import ok, ok_bytes
from telecast.web.nodes import everywhere, here
from telecast.web.parts import Parts, parts_from

PAGE = (1, 1_000, 100)
"""Least, most and default clients in one answer."""
NAMED = 1_000
"""Connection ids in the answer to a kick of many; the count is of all."""
FILTERS = ("transport", "principal", "clientId", "channel", "stale")
SELECTING = ("principal", "clientId", "stale")
"""One of these must say whom to kick: `transport` alone would be a half of all."""
KICK = ("reason", "ban")


async def listing(request: web.Request) -> web.Response:
    """Open connections in the order in which they came, or with `closed=true` those that ended
    last, newest first; where several nodes share a journal, those of all nodes."""
    admin = require(request, "admin")
    asked = asking.parameters(request, (*FILTERS, "closed", "limit", "cursor"))
    parts = parts_from(request)
    limit = asking.whole(asked.get("limit", str(PAGE[2])), "limit", *PAGE[:2])
    if parts.journal.shared:
        return ok(await everywhere.listing(parts, admin, asked, limit))
    cursor = asking.whole(asked["cursor"], "cursor", 0, 2**53) if "cursor" in asked else None
    items, more = await here.page_of(parts, admin, asked, limit, cursor, orjson.dumps)
    tail = b',"more":true,"cursor":"%d"}' % items[-1][0] if more else b',"more":false}'
    return ok_bytes(b'{"clients":[' + b",".join([item for _, item in items]) + b"]" + tail)


async def read(request: web.Request) -> web.Response:
    admin = require(request, "admin")
    asking.parameters(request, ())
    parts, connection_id = parts_from(request), request.match_info["connection_id"]
    client = here.visible(parts, admin, connection_id)
    if client is not None:
        return ok(here.described(parts, client))
    return ok(await everywhere.described(parts, admin, connection_id))


async def kick(request: web.Request) -> web.Response:
    """End one connection, at whichever node it is, and refuse it for a while where `ban` says
    so."""
    admin = require(request, "admin")
    asked = asking.parameters(request, KICK)
    parts, connection_id = parts_from(request), request.match_info["connection_id"]
    order = here.Order.of(asked)
    client = here.visible(parts, admin, connection_id)
    if client is None:
        await everywhere.described(parts, admin, connection_id)
    ended: list[str] = []
    missing: dict[str, str] = {}
    try:
        if client is not None:
            await here.end_all(parts, admin, [client], order, ended)
        else:
            question = {**asked, "connectionId": connection_id}
            await everywhere.kick(parts, admin, question, ended, missing)
    finally:
        await _record(request, order, {"connectionId": connection_id}, ended)
    return _answer(parts, order, ended, missing, banned=bool(ended))


async def kick_many(request: web.Request) -> web.Response:
    """End all connections that are asked for, at every node, and say how many those were."""
    admin = require(request, "admin")
    asked = asking.parameters(request, (*FILTERS, *KICK, "dryRun"))
    parts = parts_from(request)
    wanted = here.wanted_of(asked, parts)
    if not any(name in asked for name in SELECTING):
        raise PeerFault(
            Code.BAD_REQUEST, "Say whom to disconnect: `principal`, `clientId` or `stale`."
        )
    dry_run = asking.flag(asked.get("dryRun", "false"), "dryRun")
    order = here.Order.of(asked)
    those = [client async for client in here.matching(parts, admin, wanted, 0)]
    filters = {name: asked[name] for name in FILTERS if name in asked}
    missing: dict[str, str] = {}
    if dry_run:
        found = [client.connection_id for client in those]
        await everywhere.kick(parts, admin, asked, found, missing)
        return _answer(parts, order, found, missing, dry_run=True)
    ended: list[str] = []
    named = here.named(parts, admin, wanted)
    try:
        # Should the admin go meanwhile, what was done is on record.
        await here.end_all(parts, admin, those, order, ended, named)
        await everywhere.kick(parts, admin, asked, ended, missing)
    finally:
        await _record(request, order, filters, ended)
    return _answer(parts, order, ended, missing, banned=bool(ended or named))


async def _record(
    request: web.Request, order: here.Order, filters: dict[str, str], ended: list[str]
) -> None:
    await audit.record(
        request,
        "kick",
        ",".join(f"{name}={value}" for name, value in filters.items()),
        reason=order.reason,
        ban_seconds=order.ban,
        kicked=len(ended),
        connections=ended[:100],
    )


def _answer(
    parts: Parts,
    order: here.Order,
    ended: list[str],
    missing: dict[str, str],
    *,
    dry_run: bool = False,
    banned: bool = False,
) -> web.Response:
    answer: dict[str, Any] = {
        "kicked": len(ended),
        "connectionIds": ended[:NAMED],
        "dryRun": dry_run,
        "bannedUntil": rfc3339(parts.now() + order.ban) if banned and order.ban else None,
    }
    if parts.journal.shared:
        answer["missing"] = missing
    return ok(answer)
