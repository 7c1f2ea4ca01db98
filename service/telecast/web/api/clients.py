"""Who is connected, who has ended, and how an operator ends a connection.

Lists are made a few connections at a time, so that 10,000 of them hold nobody up. An admin whose
key is narrowed sees, and ends, the streams of those alone who may read no more than that.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from telecast.clients import Client, Ended, Facts
from telecast.clients.bans import MOST_BAN_SECONDS
from telecast.errors import Code, PeerFault
from telecast.model import Position, Principal, rfc3339
from telecast.web.api import asking, audit
from telecast.web.auth.credentials import require
from telecast.web.front.answers import ok, ok_bytes
from telecast.web.parts import PRINCIPAL, Parts, parts_from

PAGE = (1, 1_000, 100)
"""Least, most and default clients in one answer."""
NAMED = 1_000
"""Connection ids in the answer to a kick of many; the count is of all."""
PAUSE_SECONDS = (2.0, 7.0)
"""A client that was kicked and not banned is asked to stay away for a time between these."""
FILTERS = ("transport", "principal", "clientId", "channel", "stale")
SELECTING = ("principal", "clientId", "stale")
"""One of these must say whom to kick: `transport` alone would be a half of all."""
KICK = ("reason", "ban")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which clients are asked for. None does not narrow; `stale` is in seconds."""

    transport: str | None
    principal: str | None
    client_id: str | None
    channel: str | None
    stale: int | None

    def takes(self, client: Client) -> bool:
        """All but `channel` and `stale`, which ask its stream."""
        principal = client.principal
        return (
            (self.transport is None or client.transport == self.transport)
            and (self.client_id is None or client.client_id == self.client_id)
            and (self.principal is None or self.principal in (principal.name, principal.key_id))
        )


async def listing(request: web.Request) -> web.Response:
    """Open connections in the order in which they came, or with `closed=true` those that ended
    last, newest first."""
    admin = require(request, "admin")
    asked = asking.parameters(request, (*FILTERS, "closed", "limit", "cursor"))
    wanted = _wanted(asked, parts_from(request))
    limit = asking.whole(asked.get("limit", str(PAGE[2])), "limit", *PAGE[:2])
    cursor = asking.whole(asked["cursor"], "cursor", 0, 2**53) if "cursor" in asked else None
    parts = parts_from(request)
    if asking.flag(asked.get("closed", "false"), "closed"):
        if wanted.stale is not None:
            raise PeerFault(Code.BAD_REQUEST, "`stale` asks for open connections: not with closed.")
        found = _closed(parts, admin, wanted, cursor)
    else:
        found = _open(parts, admin, wanted, cursor or 0)
    items: list[bytes] = []
    last: int | None = None
    more = False
    async for number, item in found:
        if len(items) == limit:
            more = True
            break
        items.append(item())
        last = number
    tail = b',"more":true,"cursor":"%d"}' % last if more and last is not None else b',"more":false}'
    return ok_bytes(b'{"clients":[' + b",".join(items) + b"]" + tail)


async def read(request: web.Request) -> web.Response:
    admin = require(request, "admin")
    asking.parameters(request, ())
    parts = parts_from(request)
    client = _visible(parts, admin, request.match_info["connection_id"])
    return ok(described(parts, client))


async def kick(request: web.Request) -> web.Response:
    """End one connection, and refuse it for a while where `ban` says so."""
    admin = require(request, "admin")
    asked = asking.parameters(request, KICK)
    parts = parts_from(request)
    client = _visible(parts, admin, request.match_info["connection_id"])
    return await _kick(request, parts, [client], asked, {"connectionId": client.connection_id})


async def kick_many(request: web.Request) -> web.Response:
    """End all connections that are asked for, and say how many those were."""
    admin = require(request, "admin")
    asked = asking.parameters(request, (*FILTERS, *KICK, "dryRun"))
    parts = parts_from(request)
    wanted = _wanted(asked, parts)
    if not any(name in asked for name in SELECTING):
        raise PeerFault(
            Code.BAD_REQUEST, "Say whom to disconnect: `principal`, `clientId` or `stale`."
        )
    dry_run = asking.flag(asked.get("dryRun", "false"), "dryRun")
    those = [client async for client in _matching(parts, admin, wanted, 0)]
    filters = {name: asked[name] for name in FILTERS if name in asked}
    if dry_run:
        asking.reason(asked.get("reason"))
        return ok(_kicked(those, dry_run=True, banned_until=None))
    return await _kick(request, parts, those, asked, filters)


async def _kick(
    request: web.Request,
    parts: Parts,
    those: list[Client],
    asked: dict[str, str],
    filters: dict[str, str],
) -> web.Response:
    """End them a few at a time. Should the admin go meanwhile, what was done is on record."""
    reason = asking.reason(asked.get("reason"))
    ban = asking.seconds(asked["ban"], "ban", MOST_BAN_SECONDS) if "ban" in asked else None
    if ban is not None:
        parts.clients.ban(those, ban)
    message = "An operator ended this connection" + (f": {reason}" if reason else ".")
    kicked: list[Client] = []
    turn = parts.turns.of(request[PRINCIPAL].key_id)
    try:
        for client in those:
            if turn.over():
                await turn.next()
            if parts.clients.get(client.connection_id) is not client:
                continue  # it went by itself
            pause = random.uniform(*PAUSE_SECONDS)  # noqa: S311 - spreads those who come back
            client.evict(PeerFault(Code.KICKED, message, retry_after=round((ban or 0) + pause, 1)))
            parts.clients.leave(client)
            kicked.append(client)
    finally:
        await audit.record(
            request,
            "kick",
            ",".join(f"{name}={value}" for name, value in filters.items()),
            reason=reason,
            ban_seconds=ban,
            kicked=len(kicked),
            connections=[client.connection_id for client in kicked[:100]],
        )
    until = None if ban is None or not those else rfc3339(parts.now() + ban)
    return ok(_kicked(kicked, dry_run=False, banned_until=until))


def _kicked(those: list[Client], *, dry_run: bool, banned_until: str | None) -> dict[str, Any]:
    return {
        "kicked": len(those),
        "connectionIds": [client.connection_id for client in those[:NAMED]],
        "dryRun": dry_run,
        "bannedUntil": banned_until,
    }


def _wanted(asked: dict[str, str], parts: Parts) -> Wanted:
    """Raises PeerFault BAD_REQUEST or UNKNOWN_CHANNEL."""
    transport = asked.get("transport")
    if transport not in (None, "ws", "sse"):
        raise PeerFault(Code.BAD_REQUEST, "`transport` must be ws or sse.")
    channel = asked.get("channel")
    if channel is not None:
        parts.catalogue.named(channel)
    return Wanted(
        transport=transport,
        principal=asking.name(asked.get("principal"), "principal"),
        client_id=asking.name(asked.get("clientId"), "clientId"),
        channel=channel,
        stale=asking.seconds(asked["stale"], "stale") if "stale" in asked else None,
    )


def _visible(parts: Parts, admin: Principal, connection_id: str) -> Client:
    """Raises PeerFault CLIENT_NOT_FOUND, alike for one that is not there and one not to be seen."""
    client = parts.clients.get(connection_id)
    if client is None or not asking.may_see(admin, client.principal, parts.catalogue):
        raise PeerFault(Code.CLIENT_NOT_FOUND, f"No connection {connection_id[:64]!r} is open.")
    return client


Item = tuple[int, Callable[[], bytes]]
"""A number to go on from, and what makes the JSON."""


async def _matching(
    parts: Parts, admin: Principal, wanted: Wanted, after: int
) -> AsyncIterator[Client]:
    turn, now = parts.turns.of(admin.key_id), parts.clients.now()
    for client in parts.clients.after(after):
        if turn.over():
            await turn.next()
            now = parts.clients.now()
        if parts.clients.get(client.connection_id) is not client:
            continue  # it has gone meanwhile
        if (
            wanted.takes(client)
            and (wanted.channel is None or wanted.channel in client.filters())
            and (wanted.stale is None or client.stale_seconds(now) >= wanted.stale)
            and asking.may_see(admin, client.principal, parts.catalogue)
        ):
            yield client


async def _open(parts: Parts, admin: Principal, wanted: Wanted, after: int) -> AsyncIterator[Item]:
    async for client in _matching(parts, admin, wanted, after):
        yield client.number, lambda: orjson.dumps(described(parts, client))  # noqa: B023


async def _closed(
    parts: Parts, admin: Principal, wanted: Wanted, before: int | None
) -> AsyncIterator[Item]:
    turn = parts.turns.of(admin.key_id)
    for ended in parts.clients.ended_before(before):
        if turn.over():
            await turn.next()
        channels: Iterable[str] = () if ended.facts is None else ended.facts.filters
        if (
            wanted.takes(ended.client)
            and (wanted.channel is None or wanted.channel in channels)
            and asking.may_see(admin, ended.client.principal, parts.catalogue)
        ):
            yield ended.number, lambda: orjson.dumps(_ended(parts, ended))  # noqa: B023


def described(parts: Parts, client: Client) -> dict[str, Any]:
    """A connection as it is now."""
    clients, subscriber = parts.clients, client.subscriber
    seq = 0 if subscriber is None else parts.broadcaster.position(subscriber).seq
    facts, now = client.facts(seq, parts.tape.head), clients.now()
    stale = client.stale_seconds(now)
    heard = None
    if client.transport == "ws":
        heard = rfc3339(parts.now() - max(0.0, now - client.heard_at))
    return {
        **_who(client),
        **_doing(parts, client, facts),
        "lagMs": 0 if facts is None else _lag_ms(parts, facts),
        "seconds": round(max(0.0, parts.now() - client.opened_at), 3),
        "lastHeardAt": heard,
        "staleSeconds": round(stale, 3),
    }


def _ended(parts: Parts, ended: Ended) -> dict[str, Any]:
    client = ended.client
    return {
        **_who(client),
        **_doing(parts, client, ended.facts),
        "state": "closed",
        "seconds": round(max(0.0, ended.at - client.opened_at), 3),
        "endedAt": rfc3339(ended.at),
        "code": ended.code,
        "reason": ended.reason,
    }


def _who(client: Client) -> dict[str, Any]:
    return {
        "connectionId": client.connection_id,
        "clientId": client.client_id,
        "principal": client.principal.name,
        "keyId": client.principal.key_id,
        "address": client.address,
        "userAgent": client.user_agent,
        "transport": client.transport,
        "connectedAt": rfc3339(client.opened_at),
    }


def _doing(parts: Parts, client: Client, facts: Facts | None) -> dict[str, Any]:
    """`facts` None: it is, or was, still being answered."""
    if facts is None:
        return {"channels": {}, "state": "behind", "position": None, "acknowledged": None}
    acknowledged = client.acknowledged
    head = facts.seq + facts.lag
    acked = acknowledged and {
        "position": str(acknowledged),
        "lagEvents": max(0, head - acknowledged.seq),
    }
    return {
        "channels": {
            name: {field: sorted(values) for field, values in fields.items()}
            for name, fields in facts.filters.items()
        },
        "delivery": facts.delivery,
        "maxRate": facts.max_rate,
        "heartbeatSeconds": facts.heartbeat,
        "state": facts.phase,
        "position": str(Position(parts.journal.epoch, facts.seq)),
        "lagEvents": facts.lag,
        "unsentBytes": facts.unsent,
        "conflated": facts.conflated,
        "gaps": facts.gaps,
        "acknowledged": acked,
    }


def _lag_ms(parts: Parts, facts: Facts) -> int:
    """How old the oldest event of its channels is that was not handed over yet."""
    if not facts.lag:
        return 0
    logs = [parts.tape.logs[name] for name in facts.filters if name in parts.tape.logs]
    firsts = (next(log.since(facts.seq), None) for log in logs)
    oldest = min((event.timestamp for event in firsts if event is not None), default=None)
    return 0 if oldest is None else max(0, int(parts.now() * 1000) - oldest)
