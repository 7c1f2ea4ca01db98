"""GET /api/v1/nodes, and how an operator has one forgotten that does not come back."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from telecast.errors import Code, PeerFault
from telecast.journal.peers import SILENT_SECONDS
from telecast.model import rfc3339
from telecast.web.api import asking, audit
from telecast.web.auth.credentials import require
from telecast.web.front.answers import ok
from telecast.web.nodes import presence
from telecast.web.nodes.members import Member
from telecast.web.parts import Parts, parts_from

Json = dict[str, Any]

ALONE = "this node"
"""What a node is called that has no others."""
UNKNOWN: Json = dict.fromkeys(("startedAt", "head", "logSequence", "logBehind", "connections"))
"""What a node says of itself and nobody says of one that is gone."""


async def nodes(request: web.Request) -> web.Response:
    """Every node of the journal: version, place in the log, connections, and whether it is ready.
    One that has gone without a goodbye stays in the list for a day, or until it is forgotten."""
    admin = require(request, "admin")
    asking.parameters(request, ())
    parts = parts_from(request)
    shown = _shown(parts)
    keys = {each["keys"] for each in shown if "keys" in each}
    if asking.limited(admin):
        shown = [{**each, "connections": None} for each in shown]  # they count others' too
    return ok(
        {
            "asked": parts.journal.peers.node or ALONE,
            "shared": parts.journal.shared,
            "sameKeys": len(keys) == 1,
            "nodes": sorted(shown, key=lambda each: str(each["node"])),
        }
    )


async def forget(request: web.Request) -> web.Response:
    """Expect a node no more that has gone without a goodbye, at all nodes."""
    require(request, "admin")
    asking.parameters(request, ())
    parts, node = parts_from(request), request.match_info["node"]
    if not await parts.members.forget(node):
        there = any(each["node"] == node for each in _shown(parts))
        if there:
            raise PeerFault(
                Code.BAD_REQUEST,
                f"{node[:64]} is there: only a node that has gone without a goodbye is forgotten.",
            )
        raise PeerFault(Code.NODE_NOT_FOUND, f"No node {node[:64]!r} has gone without a goodbye.")
    await audit.record(request, "forget-node", node)
    return ok({"node": node})


def _shown(parts: Parts) -> list[Json]:
    """This node, those that are there, and those that should be."""
    now = parts.journal.now()
    me = {"node": parts.journal.peers.node or ALONE, **_silence(now, 0.0)}
    shown: list[Json] = [{**me, **presence.describe(parts)}]
    shown += [
        {"node": peer.node, **_silence(now, peer.silent), **peer.facts}
        for peer in parts.journal.peers.others()
        if peer.silent < SILENT_SECONDS or parts.members.misses(peer)
    ]
    listed = {each["node"] for each in shown}
    return [*shown, *(_gone(m, now) for m in parts.members.gone() if m.node not in listed)]


def _gone(member: Member, now: float) -> Json:
    return {
        "node": member.node,
        **_silence(now, max(0.0, now - member.at)),
        **UNKNOWN,
        "version": member.version,
        "ready": False,
        "why": ["it does not say that it is there"],
        "place": member.place,
    }


def _silence(now: float, seconds: float) -> Json:
    return {"silentSeconds": round(seconds, 1), "lastSeenAt": rfc3339(now - seconds)}
