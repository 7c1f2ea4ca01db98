"""GET /api/v1/keys/{id}: whether a key is in force here. For `telecast keys revoke --url`."""

from __future__ import annotations

from aiohttp import web

from telecast.errors import Code, PeerFault
from telecast.model import SCOPES, rfc3339
from telecast.web.api import asking
from telecast.web.auth.credentials import require
from telecast.web.front.answers import ok
from telecast.web.parts import parts_from


async def key(request: web.Request) -> web.Response:
    """Its rights as the service knows them at this moment, or 404 once it is revoked or over. An
    admin whose key is narrowed sees those keys alone that may read no more than it may."""
    admin, parts = require(request, "admin"), parts_from(request)
    key_id = request.match_info["id"]
    holder = parts.keys.current(key_id)
    if holder is None or not asking.may_see(admin, holder, parts.catalogue):
        raise PeerFault(Code.NOT_FOUND, f"No key with the id {key_id[:64]!r} is in force here.")
    return ok(
        {
            "id": holder.key_id,
            "name": holder.name,
            "scopes": [scope for scope in SCOPES if scope in holder.scopes],
            "channels": list(holder.channels),
            "filter": {field: sorted(values) for field, values in sorted(holder.forced.items())},
            "expires": None if holder.expires_at is None else rfc3339(holder.expires_at),
        }
    )
