"""Whether it lives, whether it is ready."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from telecast.web.parts import Parts, parts_from


async def livez(request: web.Request) -> web.Response:
    """The event loop turns: that this is answered is the check."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """200 when new work is welcome, else 503. `?verbose` lists the checks."""
    parts = parts_from(request)
    checks = parts.checks()
    ready = all(reason is None for _, reason in checks)
    lines = ["ready" if ready else "not ready"]
    if "verbose" in request.query:
        lines += [
            f"[+] {name} ok" if reason is None else f"[-] {name}: {reason}"
            for name, reason in checks
        ]
        lines += [f"    {line}" for line in _node(parts)]
    return web.Response(text="\n".join(lines) + "\n", status=200 if ready else 503)


def _node(parts: Parts) -> Iterator[str]:
    """Which node this is, and how far it is with the log that it shares."""
    place, peers = parts.journal.place(), parts.journal.peers
    if place is not None:
        others = ", ".join(each.node for each in peers.others()) or "none"
        yield f"node {peers.node}; others: {others}"
        yield f"log sequence {place.sequence}, {place.behind} behind"
