"""Pages of other origins: which of them may read our answers (Fetch §3.2)."""

from __future__ import annotations

from collections.abc import Iterable

import aiohttp_cors
from aiohttp import web

ACCEPTED = ("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID")
ACCEPTED_OURS = ("X-API-Key", "X-Correlation-ID", "Cache-Control")
EXPOSED = ("X-Correlation-ID", "Retry-After", "ETag")
PREFLIGHT_SECONDS = 600


def allow_origins(
    app: web.Application, routes: Iterable[web.AbstractRoute], origins: Iterable[str]
) -> None:
    """Let pages of these origins use REST and the SSE transport. Each is named; there is no star.

    Credentials are allowed since a stream that a ticket opened comes back with a cookie. CORS does
    not cover WebSockets: their handler checks the Origin itself.
    """
    options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
        allow_credentials=True,
        allow_headers=(*ACCEPTED, *ACCEPTED_OURS),
        expose_headers=EXPOSED,
        max_age=PREFLIGHT_SECONDS,
    )
    defaults = dict.fromkeys(origins, options)
    if not defaults:
        return
    cors = aiohttp_cors.setup(app, defaults=defaults)
    for route in routes:
        path = route.resource.canonical if route.resource is not None else ""
        if path.startswith(("/api/", "/sse/")) and route.method not in ("*", "HEAD"):
            cors.add(route)
    app.on_response_prepare.append(_vary)


async def _vary(request: web.Request, response: web.StreamResponse) -> None:
    """What is answered to one origin must not be kept for another (Fetch §3.2.5)."""
    response.headers.add("Vary", "Origin")
