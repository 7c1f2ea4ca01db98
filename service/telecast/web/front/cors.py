"""Pages of other origins: which of them may read our answers (Fetch §3.2)."""

from __future__ import annotations

from collections.abc import Iterable

import aiohttp_cors
from aiohttp import web

TAKEN = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID")
TAKEN_OURS = ("X-API-Key", "X-Correlation-ID", "Cache-Control")
TOLD = ("X-Correlation-ID", "Retry-After")
PREFLIGHT_SECONDS = 600


def allow_origins(
    app: web.Application, routes: Iterable[web.AbstractRoute], origins: Iterable[str]
) -> None:
    """Let pages of these origins, each named and none by a star, use REST and the SSE transport.

    Credentials are allowed since a stream that a ticket opened comes back with a cookie. A
    WebSocket knows no CORS: its handler looks at the Origin itself.
    """
    options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
        allow_credentials=True,
        allow_headers=(*TAKEN, *TAKEN_OURS),
        expose_headers=TOLD,
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
