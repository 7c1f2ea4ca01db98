"""GET /api/v1/keys/{id}: whether a key is in force here. For `telecast keys revoke --url`."""

from __future__ import annotations

from aiohttp import web

from telecast.errors import Code, PeerFault
from telecast.model import SCOPES, rfc3339
from telecast.web.auth.credentials import require
from telecast.web.front.answers import ok
from telecast.web.parts import parts_from


async def key(request: web.Request) -> web.Response:
    """Its rights as the service knows them at this moment, or 404 once it is revoked or over."""
    require(request, "admin")
    key_id = request.match_info["id"]
    holder = parts_from(request).keys.current(key_id)
    if holder is None:
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
