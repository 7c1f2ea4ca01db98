"""Whether it lives, whether it is ready."""

from __future__ import annotations

from aiohttp import web

from telecast.web.parts import parts_from


async def livez(request: web.Request) -> web.Response:
    """The event loop turns: that this is answered is the check."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """200 when new work is welcome, else 503. `?verbose` lists the checks."""
    checks = parts_from(request).checks()
    ready = all(reason is None for _, reason in checks)
    lines = ["ready" if ready else "not ready"]
    if "verbose" in request.query:
        lines += [
            f"[+] {name} ok" if reason is None else f"[-] {name}: {reason}"
            for name, reason in checks
        ]
    return web.Response(text="\n".join(lines) + "\n", status=200 if ready else 503)
