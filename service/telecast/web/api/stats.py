"""The service at one glance: who is connected, what is kept, what has happened since the start."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aiohttp import web

from telecast import __version__
from telecast.fanout.subscriber import State
from telecast.model import Principal, rfc3339
from telecast.web.api import asking
from telecast.web.auth.credentials import require
from telecast.web.front.answers import ok
from telecast.web.parts import Parts, parts_from


async def read(request: web.Request) -> web.Response:
    """An admin whose key is narrowed gets counts of those it may see, and no totals."""
    admin = require(request, "admin")
    asking.parameters(request, ())
    parts = parts_from(request)
    connections, subscribers = await _connections(parts, admin)
    now = parts.now()
    stats: dict[str, Any] = {
        "version": __version__,
        "startedAt": rfc3339(parts.started_at),
        "uptimeSeconds": round(max(0.0, now - parts.started_at), 3),
        "epoch": parts.journal.epoch,
        "head": str(parts.broadcaster.head),
        "ready": parts.ready,
        "checks": dict(parts.checks()),
        "connections": connections,
        "channels": {
            channel.name: _channel(parts, channel.name, subscribers[channel.name], now)
            for channel in parts.catalogue.open_to(admin)
        },
    }
    if asking.limited(admin):
        for shown in stats["channels"].values():
            shown["rows"] = None  # they are others' too
    else:
        events, size = parts.ingress.backlog
        stats["publishing"] = {"backlogEvents": events, "backlogBytes": size}
        figures = parts.journal.figures()
        stats["journal"] = {"fileBytes": figures.file_bytes, "logBytes": figures.log_bytes}
        stats["totals"] = _totals(parts)
    return ok(stats)


async def _connections(parts: Parts, admin: Principal) -> tuple[dict[str, int], Counter[str]]:
    """Streams by transport and by what they are doing; and of each channel its subscribers."""
    counts, subscribers = Counter[str](), Counter[str]()
    turn = parts.turns.of(admin.key_id)
    for client in parts.clients:
        if turn.over():
            await turn.next()
        subscriber = client.subscriber
        if subscriber is None or not asking.may_see(admin, client.principal, parts.catalogue):
            continue
        counts["total"] += 1
        counts[client.transport] += 1
        phase = {State.LIVE: "live", State.FULL: "full"}.get(subscriber.state, "behind")
        counts[phase] += 1
        subscribers.update(subscriber.selection.channels)
    names = ("total", "ws", "sse", "live", "behind", "full")
    return {name: counts[name] for name in names}, subscribers


def _channel(parts: Parts, name: str, subscribers: int, now: float) -> dict[str, Any]:
    log = parts.tape.logs[name]
    last = log.last
    return {
        "rows": len(log.rows),
        "subscribers": subscribers,
        "lastEventAt": None if last is None else rfc3339(last.timestamp / 1000),
        "ageSeconds": None if last is None else round(max(0.0, now - last.timestamp / 1000), 3),
        "stale": name in parts.staleness.stale,
    }


def _totals(parts: Parts) -> dict[str, Any]:
    """Since the start."""
    clients, tally, published = parts.clients, parts.broadcaster.tally, parts.ingress.tally
    return {
        "opened": clients.opened.total(),
        "closed": clients.closed.total(),
        "refused": dict(clients.refused),
        "evicted": {str(code): count for code, count in tally.evicted.items()},
        "published": dict(published.published),
        "delivered": tally.delivered.total(),
        "conflated": tally.conflated.total(),
        "sentBytes": tally.bytes.total(),
    }
