"""What named clients have acknowledged: they say so, and an operator sees how far each is."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from telecast.consumers import Consumer, Name
from telecast.consumers.consumers import KEPT_SECONDS
from telecast.errors import Code, PeerFault
from telecast.model import Principal, rfc3339
from telecast.protocol.commands import parse_client_id, parse_json, parse_position
from telecast.web.api import asking, audit
from telecast.web.auth.credentials import check_origin, require
from telecast.web.front.answers import ok
from telecast.web.front.body import read_body
from telecast.web.nodes import everywhere, here
from telecast.web.parts import Parts, parts_from

MAX_BODY = 4_096
PAGE = (1, 1_000, 100)
"""Least, most and default consumers in one answer."""


async def acknowledge(request: web.Request) -> web.Response:
    """`{"clientId": ..., "position": ...}`, for clients whose stream carries nothing back. It is
    answered once it is durable."""
    check_origin(request)
    principal, parts = require(request, "read"), parts_from(request)
    body = parse_json(await read_body(request, MAX_BODY, "max_acknowledge_bytes"), "The body")
    if not isinstance(body, dict) or body.keys() != {"clientId", "position"}:
        raise PeerFault(
            Code.BAD_REQUEST, 'Send {"clientId": "...", "position": "..."}, and nothing else.'
        )
    name = Name(principal.key_id, parse_client_id(body["clientId"]))
    open_ones = parts.clients.named(*name)
    delivered, channels = here.delivered(parts, *name)
    if delivered is None and parts.journal.shared:
        # Behind a balancer this request may come to another node than the stream.
        delivered, channels = await everywhere.delivered(parts, *name)
    consumer = await parts.consumers.acknowledge(
        name,
        parse_position(body["position"]),
        delivered=delivered,
        channels=sorted(channels),
    )
    for client in open_ones:
        client.acknowledged = consumer.position
    return ok({"clientId": name.client_id, "position": str(consumer.position)})


async def listing(request: web.Request) -> web.Response:
    """In the order of key id and clientId; with `cursor` on from an earlier answer."""
    admin, parts = require(request, "admin"), parts_from(request)
    asked = asking.parameters(request, ("principal", "clientId", "limit", "cursor"))
    limit = asking.whole(asked.get("limit", str(PAGE[2])), "limit", *PAGE[:2])
    after = Name.parse(asked["cursor"]) if "cursor" in asked else None
    turn = parts.turns.of(admin.key_id)
    found: list[Consumer] = []
    for consumer in parts.consumers.after(after):
        if turn.over():
            await turn.next()
        if _wanted(parts, admin, asked, consumer.name):
            found.append(consumer)
            if len(found) > limit:
                break
    consumers = []
    for consumer in found[:limit]:
        if turn.over():
            await turn.next()
        consumers.append(_described(parts, consumer))
    answer: dict[str, Any] = {"consumers": consumers, "more": len(found) > limit}
    if answer["more"]:
        answer["cursor"] = str(found[limit - 1].name)
    return ok(answer)


async def forget(request: web.Request) -> web.Response:
    """Forget one: with `since=acked` it begins with a snapshot then."""
    admin, parts = require(request, "admin"), parts_from(request)
    asked = asking.parameters(request, ("keyId", "clientId"))
    if asked.keys() != {"keyId", "clientId"}:
        raise PeerFault(Code.BAD_REQUEST, "Say which: `keyId` and `clientId`.")
    name = Name(asked["keyId"], asked["clientId"])
    if not _visible(parts, admin, name) or not await parts.consumers.forget(name):
        raise PeerFault(
            Code.CONSUMER_NOT_FOUND, f"There is no consumer {name.client_id[:64]!r} of this key."
        )
    for client in parts.clients.named(*name):
        client.acknowledged = None
    await audit.record(request, "forget-consumer", str(name))
    return ok({"keyId": name.key_id, "clientId": name.client_id, "forgotten": True})


def _wanted(parts: Parts, admin: Principal, asked: dict[str, str], name: Name) -> bool:
    holder = parts.keys.current(name.key_id)
    principal = asked.get("principal")
    return (
        asked.get("clientId") in (None, name.client_id)
        and principal in (None, name.key_id, None if holder is None else holder.name)
        and _visible(parts, admin, name)
    )


def _visible(parts: Parts, admin: Principal, name: Name) -> bool:
    """Those of a key that is gone are for an admin who sees all."""
    holder = parts.keys.current(name.key_id)
    if holder is None:
        return not asking.limited(admin)
    return asking.may_see(admin, holder, parts.catalogue)


def _described(parts: Parts, consumer: Consumer) -> dict[str, Any]:
    name = consumer.name
    holder = parts.keys.current(name.key_id)
    online = parts.clients.named(*name)
    here = consumer.position.epoch == parts.journal.epoch
    return {
        "principal": None if holder is None else holder.name,
        "keyId": name.key_id,
        "clientId": name.client_id,
        "online": bool(online),
        "connectionIds": [client.connection_id for client in online],
        "channels": list(consumer.channels),
        "position": str(consumer.position),
        "acknowledgedAt": rfc3339(consumer.at / 1000),
        "expiresAt": rfc3339(consumer.at / 1000 + KEPT_SECONDS),
        "lagEvents": max(0, parts.tape.head - consumer.position.seq) if here else None,
        "lagMs": _lag_ms(parts, consumer) if here else None,
        "standing": str(parts.consumers.standing(name)),
    }


def _lag_ms(parts: Parts, consumer: Consumer) -> int:
    """How old the oldest event of its channels is that it has not acknowledged."""
    logs = [parts.tape.logs[name] for name in consumer.channels if name in parts.tape.logs]
    firsts = (next(log.since(consumer.position.seq), None) for log in logs)
    oldest = min((event.timestamp for event in firsts if event is not None), default=None)
    return 0 if oldest is None else max(0, int(parts.now() * 1000) - oldest)
