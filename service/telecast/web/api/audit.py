"""Who did what to whom: each action of an operator, in one place."""

from __future__ import annotations

import logging

from aiohttp import web

from telecast.web.auth.credentials import address_of
from telecast.web.parts import PRINCIPAL

log = logging.getLogger("telecast.audit")


def record(request: web.Request, action: str, target: str, **fields: object) -> None:
    """Note an action that was done. `target` names what it was done to."""
    principal = request[PRINCIPAL]
    log.info(
        "admin action",
        extra={
            "action": action,
            "target": target,
            "by": principal.name,
            "key_id": principal.key_id,
            "remote": address_of(request),
            **fields,
        },
    )
