"""This node's connections: which are asked for, what is shown of them, and how they are ended.

Lists are made a few connections at a time, so that 10,000 of them hold nobody up. An admin whose
key is narrowed sees, and ends, the streams of those alone who may read no more than that.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, TypeVar

from telecast.clients import Client, Ended, Facts
from telecast.clients.bans import MOST_BAN_SECONDS, Banned
from telecast.clients.registry import banned_as
from telecast.errors import Code, PeerFault
from telecast.model import Position, Principal, rfc3339
from telecast.web.api import asking
from telecast.web.parts import Parts

Json = dict[str, Any]
Written = TypeVar("Written")

PAUSE_SECONDS = (2.0, 7.0)
"""A client that was kicked and not banned is asked to stay away for a time between these."""


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


async def page_of(
    parts: Parts,
    admin: Principal,
    asked: Mapping[str, str],
    limit: int,
    cursor: int | None,
    write: Callable[[Json], Written],
) -> tuple[list[tuple[int, Written]], bool]:
    """A number to go on from and each of this node's as `write` makes it, and whether there are
    more. Raises PeerFault."""
    wanted = wanted_of(asked, parts)
    if asking.flag(asked.get("closed", "false"), "closed"):
        if wanted.stale is not None:
            raise PeerFault(Code.BAD_REQUEST, "`stale` asks for open connections: not with closed.")
        found = _closed(parts, admin, wanted, cursor)
    else:
        found = _open(parts, admin, wanted, cursor or 0)
    items: list[tuple[int, Written]] = []
    async for number, item in found:
        if len(items) == limit:
            return items, True
        items.append((number, write(item())))
    return items, False


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How connections are to be ended; `ban` is in seconds."""

    reason: str | None
    ban: int | None

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Order:
        """Raises PeerFault BAD_REQUEST."""
        return cls(
            reason=asking.reason(asked.get("reason")),
            ban=asking.seconds(asked["ban"], "ban", MOST_BAN_SECONDS) if "ban" in asked else None,
        )


async def end_all(
    parts: Parts,
    admin: Principal,
    those: list[Client],
    order: Order,
    ended: list[str],
    named: Set[Banned] = frozenset(),
) -> None:
    """End them a few at a time; `ended` gets the id of each. A ban is of them, and of who is
    `named` beside them. Raises PeerFault, and ends nobody."""
    if order.ban is not None:
        await parts.shared_clients.ban({*map(banned_as, those), *named}, order.ban)
    message = "An operator ended this connection" + (f": {order.reason}" if order.reason else ".")
    turn = parts.turns.of(admin.key_id)
    for client in those:
        if turn.over():
            await turn.next()
        if parts.clients.get(client.connection_id) is not client:
            continue  # it went by itself
        pause = random.uniform(*PAUSE_SECONDS)  # noqa: S311 - spreads those who come back
        wait = round((order.ban or 0) + pause, 1)
        client.evict(PeerFault(Code.KICKED, message, retry_after=wait))
        parts.clients.leave(client)
        ended.append(client.connection_id)


def wanted_of(asked: Mapping[str, str], parts: Parts) -> Wanted:
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


def named(parts: Parts, admin: Principal, wanted: Wanted) -> set[Banned]:
    """Keys with the clientId that is asked for, connected or not: a ban of them depends on no
    other node. Nobody where the question narrows by what a connection alone has."""
    if wanted.client_id is None or wanted.principal is None:
        return set()
    if (wanted.transport, wanted.channel, wanted.stale) != (None, None, None):
        return set()
    return {
        (each.key_id, wanted.client_id)
        for each in parts.keys.principals()
        if wanted.principal in (each.name, each.key_id)
        and asking.may_see(admin, each, parts.catalogue)
    }


def visible(parts: Parts, admin: Principal, connection_id: str) -> Client | None:
    """None for one that is not there and one that is not to be seen alike."""
    client = parts.clients.get(connection_id)
    if client is None or not asking.may_see(admin, client.principal, parts.catalogue):
        return None
    return client


def not_found(connection_id: str) -> PeerFault:
    return PeerFault(Code.CLIENT_NOT_FOUND, f"No connection {connection_id[:64]!r} is open.")


Item = tuple[int, Callable[[], Json]]
"""A number to go on from, and what describes it."""


async def matching(
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
    async for client in matching(parts, admin, wanted, after):
        yield client.number, lambda: described(parts, client)  # noqa: B023


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
            yield ended.number, lambda: _ended(parts, ended)  # noqa: B023


def described(parts: Parts, client: Client) -> Json:
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


def _ended(parts: Parts, ended: Ended) -> Json:
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


def _who(client: Client) -> Json:
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


def _doing(parts: Parts, client: Client, facts: Facts | None) -> Json:
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


def delivered(parts: Parts, key_id: str, client_id: str) -> tuple[int | None, set[str]]:
    """The most that the streams of this name have been sent, and what they are subscribed to."""
    those = parts.clients.named(key_id, client_id)
    seqs = [
        parts.broadcaster.delivered(client.subscriber)
        for client in those
        if client.subscriber is not None
    ]
    return max(seqs, default=None), {channel for client in those for channel in client.filters()}
