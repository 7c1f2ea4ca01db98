"""Our own page and the JavaScript client: files that are read once, and found by name alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from telecast.web.parts import parts_from

FOLDERS: Mapping[str, Path] = {
    "page": Path(__file__).parent / "static",
    "client": Path(__file__).parent / "client",
}
INDEX = "page/index.html"
TYPES: Mapping[str, str] = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".ts": "text/plain",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "worker-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "manifest-src 'self'",
    "base-uri 'none'",
    "form-action 'self'",
)
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-cache",  # kept, and asked about each time: an upgrade shows at once
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def headers(frame_ancestors: Sequence[str]) -> dict[str, str]:
    """Of every file. `frame_ancestors` are origins whose pages may frame ours.

    X-Frame-Options (RFC 7034) can't name one, so it stands only where nobody may.
    """
    allowed = " ".join(frame_ancestors) or "'none'"
    policy = "; ".join((*POLICY, f"frame-ancestors {allowed}"))
    old = {} if frame_ancestors else {"X-Frame-Options": "DENY"}
    return {**HEADERS, "Content-Security-Policy": policy, **old}


@dataclass(frozen=True, slots=True)
class File:
    body: bytes
    content_type: str
    etag: str


PAGE: web.AppKey[Mapping[str, File]] = web.AppKey("page", Mapping[str, File])


def read_page(folders: Mapping[str, Path] = FOLDERS) -> Mapping[str, File]:
    """Every file by its folder and path. What is not in here can't be asked for."""
    found = {}
    for name, folder in folders.items():
        for path in sorted(folder.rglob("*")):
            content_type = TYPES.get(path.suffix)
            if content_type is not None and path.is_file():
                body = path.read_bytes()
                digest = hashlib.sha256(body).hexdigest()[:32]
                found[f"{name}/{path.relative_to(folder).as_posix()}"] = File(
                    body, content_type, digest
                )
    return found


async def page(request: web.Request) -> web.Response:
    return _serve(request, INDEX)


async def asset(request: web.Request) -> web.Response:
    return _serve(request, f"page/{request.match_info['name']}")


async def client(request: web.Request) -> web.Response:
    return _serve(request, f"client/{request.match_info['name']}")


def _serve(request: web.Request, name: str) -> web.Response:
    file = request.app[PAGE].get(name)
    if file is None:
        raise web.HTTPNotFound
    response = web.Response(headers=headers(parts_from(request).settings.frame_ancestors))
    response.etag = file.etag
    asked = request.if_none_match
    if asked is not None and any(each.value in (file.etag, "*") for each in asked):
        response.set_status(304)
        return response
    response.body = file.body
    response.content_type = file.content_type
    response.charset = "utf-8"
    return response
