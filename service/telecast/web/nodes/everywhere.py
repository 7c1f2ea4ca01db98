"""What all nodes know together: their connections, what was delivered, who is alive."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import merge
from typing import Any

from telecast.errors import Code, OwnFault, PeerFault
from telecast.journal.peers import Answer
from telecast.model import Principal
from telecast.web.api import asking
from telecast.web.nodes import here
from telecast.web.parts import Parts

Json = dict[str, Any]

AGAIN_SECONDS = 2.0
"""After which it is worth asking a node again that has not answered."""


# --- what this node asks


async def listing(parts: Parts, admin: Principal, asked: Mapping[str, str], limit: int) -> Json:
    """One page of the connections of all nodes. Raises PeerFault."""
    cursors = _cursors(asked.get("cursor"))
    question = {name: value for name, value in asked.items() if name not in ("limit", "cursor")}
    body = {"by": admin.key_id, "asked": question, "limit": limit, "cursors": cursors}
    mine = await _page(parts, admin, body)
    answers = await parts.journal.peers.ask("clients", body)
    pages = [(str(parts.journal.peers.node), mine), *_bodies(answers)]
    closed = asked.get("closed") == "true"
    when = "endedAt" if closed else "connectedAt"
    lists = [
        [(each[1][when], node, each[0], each[1]) for each in page["clients"]]
        for node, page in pages
    ]
    found = list(merge(*lists, key=lambda item: item[0], reverse=closed))
    for _, node, number, _ in found[:limit]:
        cursors[node] = number
    more = len(found) > limit or any(page["more"] for _, page in pages)
    answer: Json = {
        "clients": [{**client, "node": node} for _, node, _, client in found[:limit]],
        "more": more,
        "missing": _missing(answers),
    }
    if more:
        answer["cursor"] = ",".join(f"{node}:{number}" for node, number in sorted(cursors.items()))
    return answer


async def described(parts: Parts, admin: Principal, connection_id: str) -> Json:
    """A connection of another node. Raises PeerFault CLIENT_NOT_FOUND where all have answered, and
    OwnFault NODE_SILENT where it may be at one that has not."""
    body = {"by": admin.key_id, "connectionId": connection_id}
    answers = await parts.journal.peers.ask("client", body)
    for node, found in _bodies(answers):
        if found is not None:
            client: Json = {**found, "node": node}
            return client
    if missing := _missing(answers):
        silent = ", ".join(f"{node} ({why})" for node, why in sorted(missing.items()))
        raise OwnFault(
            Code.NODE_SILENT,
            f"No node that answered has a connection {connection_id[:64]!r}; not all did: "
            f"{silent} Ask again, or ask that node itself.",
            {"missing": missing},
            retry_after=AGAIN_SECONDS,
        )
    raise here.not_found(connection_id)


async def kick(
    parts: Parts,
    admin: Principal,
    asked: Mapping[str, str],
    ended: list[str],
    missing: dict[str, str],
) -> None:
    """Have the others end theirs: ids go to `ended`, reasons of nodes that did not to `missing`."""
    answers = await parts.journal.peers.ask("kick", {"by": admin.key_id, "asked": dict(asked)})
    for _, ids in _bodies(answers):
        ended.extend(ids)
    missing.update(_missing(answers))


async def delivered(parts: Parts, key_id: str, client_id: str) -> tuple[int | None, set[str]]:
    """The most that the streams of this name at other nodes have been sent, and their channels."""
    most, channels = None, set[str]()
    answers = await parts.journal.peers.ask("delivered", [key_id, client_id])
    for _, (seq, names) in _bodies(answers):
        channels.update(names)
        if seq is not None:
            most = max(seq, most or 0)
    return most, channels


def _bodies(answers: tuple[Answer, ...]) -> list[tuple[str, Any]]:
    return [(each.node, each.body) for each in answers if each.why is None]


def _missing(answers: tuple[Answer, ...]) -> dict[str, str]:
    return {each.node: each.why for each in answers if each.why is not None}


def _cursors(text: str | None) -> dict[str, int]:
    cursors = {}
    for each in (text or "").split(","):
        node, colon, number = each.rpartition(":")
        if each and not colon:
            raise PeerFault(Code.BAD_REQUEST, "`cursor` must be the one of an earlier answer.")
        if each:
            cursors[node] = asking.whole(number, "cursor", 0, 2**53)
    return cursors


# --- what others ask


def answer_others(parts: Parts) -> None:
    """Answer from now on, each as far as the asker's key, as it is known here, lets it see."""

    def admin_of(body: Json) -> Principal:
        admin = parts.keys.current(body["by"])
        if admin is None or not admin.may("admin"):
            raise PeerFault(Code.FORBIDDEN, "This key is not known there, or is no admin's.")
        return admin

    async def clients(body: Json) -> Json:
        return await _page(parts, admin_of(body), body)

    async def client(body: Json) -> Json | None:
        found = here.visible(parts, admin_of(body), body["connectionId"])
        return None if found is None else here.described(parts, found)

    async def kicked(body: Json) -> list[str]:
        admin, asked = admin_of(body), body["asked"]
        if "connectionId" in asked:
            found = here.visible(parts, admin, asked["connectionId"])
            those = [] if found is None else [found]
        else:
            wanted = here.wanted_of(asked, parts)
            those = [each async for each in here.matching(parts, admin, wanted, 0)]
        if asked.get("dryRun") == "true":
            return [each.connection_id for each in those]
        ended: list[str] = []
        await here.end_all(parts, admin, those, here.Order.of(asked), ended)
        return ended

    async def sent(body: list[str]) -> list[Any]:
        seq, channels = here.delivered(parts, *body)
        return [seq, sorted(channels)]

    async def alive(body: str) -> None:
        if body in parts.catalogue:
            parts.staleness.alive(body)

    peers = parts.journal.peers
    peers.on("clients", clients)
    peers.on("client", client)
    peers.on("kick", kicked)
    peers.on("delivered", sent)
    peers.on("alive", alive)


async def _page(parts: Parts, admin: Principal, body: Json) -> Json:
    cursor = body["cursors"].get(parts.journal.peers.node)
    items, more = await here.page_of(parts, admin, body["asked"], body["limit"], cursor, dict)
    return {"clients": items, "more": more}
