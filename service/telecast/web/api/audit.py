"""GET /api/v1/audit: who did what, newest first; and how the admin API adds to it."""

from __future__ import annotations

import logging
import re
from typing import Any

from aiohttp import web

from telecast.audit import AuditEntry
from telecast.errors import Code, JournalUnavailable, PeerFault
from telecast.model import Principal
from telecast.web.api import asking
from telecast.web.auth.credentials import require
from telecast.web.front.answers import ok
from telecast.web.front.peer import address_of
from telecast.web.parts import PRINCIPAL, parts_from

log = logging.getLogger("telecast.audit")

MOST = 1_000
"""Entries in one answer."""
_NAMED = ("principal", "action", "target")
_CURSOR = re.compile(r"[0-9]{20}", re.ASCII)


async def audit(request: web.Request) -> web.Response:
    """`cursor` goes on from an answer that said `more`. A key that is narrowed sees what it did
    itself, and the entries of rows that it may see."""
    principal = require(request, "admin")
    query = asking.parameters(request, ("limit", "cursor", *_NAMED))
    limit = asking.whole(query.get("limit", "100"), "limit", 1, MOST)
    cursor = query.get("cursor")
    if cursor is not None and not _CURSOR.fullmatch(cursor):
        raise PeerFault(Code.BAD_REQUEST, "`cursor` must be the one of an earlier answer.")
    wanted = {name: query[name] for name in _NAMED if name in query}
    parts = parts_from(request)
    rows = all(each.channel.reached_by(principal) for each in parts.alerts)
    turn, entries = parts.turns.of(principal.key_id), list[AuditEntry]()
    for entry in parts.audit.before(cursor):
        if turn.over():
            await turn.next()
        asked = all(getattr(entry, name) == value for name, value in wanted.items())
        if asked and _visible(principal, entry, rows):
            entries.append(entry)
            if len(entries) > limit:
                break
    more = len(entries) > limit
    entries = entries[:limit]
    answer: dict[str, Any] = {"entries": [entry.as_json() for entry in entries], "more": more}
    if more:
        answer["cursor"] = entries[-1].id
    return ok(answer)


async def record(request: web.Request, action: str, target: str, **details: Any) -> None:
    """Keep an action that was done, in the log and in the audit. `target` names what it was done
    to. Where the journal takes nothing, the log alone has it."""
    principal = request[PRINCIPAL]
    log.info(
        "admin action",
        extra={
            "action": action,
            "target": target,
            "by": principal.name,
            "key_id": principal.key_id,
            "remote": address_of(request),
            **details,
        },
    )
    await parts_from(request).system.report(
        f"admin:{action}", "UP", f"{principal.name}: {target}"[:256], kind="ADMINISTRATION"
    )
    try:
        await parts_from(request).audit.record(principal, action, target, **details)
    except JournalUnavailable as fault:
        log.error("not in the audit", extra={"action": action, "reason": fault.message})  # noqa: TRY400


def _visible(principal: Principal, entry: AuditEntry, rows: bool) -> bool:
    """`rows`: it may read the channels whose rows have entries."""
    if entry.key_id == principal.key_id or not asking.limited(principal):
        return True
    return bool(rows and entry.fields) and all(
        entry.fields.get(name) in values for name, values in principal.forced.items()
    )
