"""What machines read of the service, and the page `/docs`: as far as the key may see it."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence

import orjson
from aiohttp import web

from telecast.channels.catalogue import CHANNELS
from telecast.channels.channel import Channel
from telecast.contracts.asyncapi import asyncapi
from telecast.contracts.openapi import Call, openapi
from telecast.contracts.page import docs_page
from telecast.contracts.types import python_types, typescript
from telecast.web.auth.cookies import holder
from telecast.web.auth.credentials import authenticate, key_holder
from telecast.web.front.peer import scheme_of
from telecast.web.page.files import headers
from telecast.web.parts import parts_from

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)
MOST_KEPT = 64
"""Documents that are kept: one for each set of channels that some key sees."""

Calls = tuple[Call, ...]


class Documents:
    """Made when they are first asked for, in a thread: 200 channels take longer than a turn of
    the event loop may."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[str, ...], bytes] = OrderedDict()

    async def get(self, name: str, channels: Sequence[Channel], make: Callable[[], bytes]) -> bytes:
        which = (name, *(channel.name for channel in channels))
        found = self._made.get(which)
        if found is None:
            found = self._made[which] = await asyncio.to_thread(make)
            while len(self._made) > MOST_KEPT:
                self._made.popitem(last=False)
        return found


DOCUMENTS = web.AppKey("documents", Documents)
CALLS: web.AppKey[Calls] = web.AppKey("calls", Calls)


def calls_of(routes: Sequence[web.RouteDef]) -> Calls:
    """Each route with the first sentence of its handler's docstring."""
    return tuple(Call(route.method, route.path, _summary(route)) for route in routes)


def _summary(route: web.RouteDef) -> str:
    words = (route.handler.__doc__ or route.handler.__name__.replace("_", " ")).strip()
    return " ".join(words.partition("\n\n")[0].split())


async def openapi_document(request: web.Request) -> web.Response:
    """OpenAPI 3.1 of the REST calls, as far as the key may see them."""
    channels, calls = _visible(request), request.app[CALLS]
    return await _json(request, "openapi", channels, lambda: orjson.dumps(openapi(channels, calls)))


async def asyncapi_document(request: web.Request) -> web.Response:
    """AsyncAPI 3.1 of the streams, as far as the key may see them."""
    channels = _visible(request)
    return await _json(request, "asyncapi", channels, lambda: orjson.dumps(asyncapi(channels)))


async def typescript_types(request: web.Request) -> web.Response:
    """TypeScript declarations of the channels that the key may see."""
    channels = _visible(request)
    made = await request.app[DOCUMENTS].get("ts", channels, lambda: typescript(channels).encode())
    return _text(made, "text/plain")


async def python_module(request: web.Request) -> web.Response:
    """Python TypedDicts of the channels that the key may see."""
    channels = _visible(request)
    made = await request.app[DOCUMENTS].get("py", channels, lambda: python_types(channels).encode())
    return _text(made, "text/plain")


async def page(request: web.Request) -> web.Response:
    """The channels, calls, messages and codes as a page with lines to copy."""
    channels, calls = _visible(request), request.app[CALLS]
    base = _base(request)
    made = await asyncio.to_thread(docs_page, channels, calls, base)
    return _text(made.encode(), "text/html")


def _base(request: web.Request) -> str:
    """Where the reader finds the service: the Host that it names, if a line to copy into a shell
    can hold it. What is no such Host is anybody's text."""
    host = request.host if _HOST.fullmatch(request.host) else "127.0.0.1"
    return f"{scheme_of(request)}://{host}{parts_from(request).settings.path_prefix}"


def _visible(request: web.Request) -> tuple[Channel, ...]:
    """What the asker may use; without a key, or with one that is for metrics alone, the built-in
    channels that are open to all."""
    if key_holder(request) is not None or holder(request) is not None:
        principal = authenticate(request)
        if principal.scopes - {"metrics"}:
            return parts_from(request).catalogue.open_to(principal)
    return tuple(
        channel
        for name, channel in parts_from(request).catalogue.items()
        if name in CHANNELS and not channel.by_name_only
    )


async def _json(
    request: web.Request, name: str, channels: Sequence[Channel], make: Callable[[], bytes]
) -> web.Response:
    body = await request.app[DOCUMENTS].get(name, channels, make)
    return _text(body, "application/json")


def _text(body: bytes, content_type: str) -> web.Response:
    response = web.Response(body=body, headers=headers(()))
    response.content_type = content_type
    response.charset = "utf-8"
    response.headers["Vary"] = "X-API-Key, Authorization, Cookie"
    return response
