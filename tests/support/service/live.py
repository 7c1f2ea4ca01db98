"""The service on a real socket, run as in production, and clients that see what a client sees."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp import WSMsgType, web

from telecast.app import create_app, parts_of
from telecast.channels.catalogue import CHANNELS, Catalogue
from telecast.config import Settings
from telecast.journal.ageing import monotonic
from telecast.journal.base import Journal
from telecast.keys import KeyStore
from telecast.model import SCOPES, Principal
from telecast.server import Server
from telecast.web.parts import Parts
from tests.support.sockets.reading import Reading

PATIENCE = 90.0
"""Seconds after which a test that waits for a message fails instead of hanging."""


def principal(name: str = "desk", *scopes: str, **rights: Any) -> Principal:
    """A key's holder; the key id is made from the name, the scopes are all unless said."""
    key_id = f"{sum(ord(letter) << index for index, letter in enumerate(name)):08x}"
    return Principal(key_id=key_id, name=name, scopes=frozenset(scopes or SCOPES), **rights)


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """A message as it came: `name` is the SSE event name or the WS type; `id` only at SSE."""

    name: str
    json: bytes
    id: str | None = None

    @property
    def body(self) -> dict[str, Any]:
        parsed: dict[str, Any] = orjson.loads(self.json)
        return parsed

    @property
    def type(self) -> str:
        kind: str = self.body["type"]
        return kind

    @property
    def row(self) -> dict[str, Any]:
        data: dict[str, Any] = self.body["data"]
        return data


@dataclass(frozen=True, slots=True)
class Ended(Exception):
    """The stream is over; `code` is the WebSocket's close code."""

    code: int | None = None


class Reader(Reading[ServerMessage]):
    """A stream's messages, one at a time. `log` keeps all that came."""

    def __init__(self) -> None:
        self.log: list[ServerMessage] = []

    async def _next(self) -> ServerMessage:
        raise NotImplementedError

    async def read(self) -> ServerMessage:
        """The next message. Raises Ended."""
        async with asyncio.timeout(PATIENCE):
            reported = await self._next()
        self.log.append(reported)
        return reported

    async def opening(self) -> list[ServerMessage]:
        """From `welcome` to `live`."""
        await self.expect("welcome")
        return await self.until("live")

    async def events(self, count: int = 1) -> list[ServerMessage]:
        """The next so many messages, all events."""
        return [await self.expect("event") for _ in range(count)]

    async def rest(self) -> tuple[list[ServerMessage], int | None]:
        """What still comes before the end, and the close code."""
        found = []
        while True:
            try:
                found.append(await self.read())
            except Ended as end:
                return found, end.code


class WsReader(Reader):
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        super().__init__()
        self.socket = socket

    async def _next(self) -> ServerMessage:
        while True:
            message = await self.socket.receive()
            if message.type is WSMsgType.TEXT:
                data = message.data.encode()
                return ServerMessage(orjson.loads(data)["type"], data)
            if message.type not in (WSMsgType.PING, WSMsgType.PONG):
                raise Ended(self.socket.close_code)

    async def send(self, action: str | None = None, **said: Any) -> None:
        body = said if action is None else {"action": action, **said}
        await self.socket.send_str(orjson.dumps(body).decode())

    async def ask(self, action: str, **said: Any) -> dict[str, Any]:
        """Send, and return the answer, which is the next message."""
        await self.send(action, **said)
        return (await self.read()).body


class SseReader(Reader):
    def __init__(self, lines: Callable[[], Any]) -> None:
        super().__init__()
        self.retry: list[int] = []
        self.raw = bytearray()
        self._lines = lines

    async def _next(self) -> ServerMessage:
        name, data, position = "message", [], None
        while True:
            line: bytes = await self._lines()
            self.raw += line
            if not line:
                raise Ended
            assert line.endswith(b"\n"), line
            assert b"\r" not in line, line
            head, _, value = line[:-1].partition(b": ")
            if line == b"\n" and data:
                return ServerMessage(name, b"\n".join(data), position)
            if head == b"event":
                name = value.decode()
            elif head == b"data":
                data.append(value)
            elif head == b"id":
                position = value.decode()
            elif line == b"id:\n":
                position = ""  # what was earned before is forgotten
            elif head == b"retry":
                self.retry.append(int(value))
            else:
                assert line in (b"\n", b":\n"), line


@dataclass(slots=True)
class Live:
    """A running service, and how to talk to it. `who` names a principal, or is None: no key."""

    url: str
    app: web.Application
    server: Server
    secrets: Mapping[str, str]
    session: aiohttp.ClientSession
    published: int = field(default=0)

    @property
    def parts(self) -> Parts:
        return parts_of(self.app)

    @property
    def epoch(self) -> str:
        return self.parts.journal.epoch

    def at(self, seq: int) -> str:
        return f"{self.epoch}:{seq}"

    def headers(self, who: str | None, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return ({} if who is None else {"X-API-Key": self.secrets[who]}) | dict(more or {})

    async def ask(
        self,
        method: str,
        path: str,
        *,
        who: str | None = "desk",
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        **body: Any,
    ) -> tuple[int, dict[str, Any], aiohttp.ClientResponse]:
        """(status, parsed body, response)."""
        async with self.session.request(
            method, self.url + path, headers=self.headers(who, headers), params=query, **body
        ) as response:
            return response.status, orjson.loads(await response.read()), response

    async def get(self, path: str, **options: Any) -> dict[str, Any]:
        """The data of an answer that is 200."""
        status, body, _ = await self.ask("GET", path, **options)
        assert status == 200, body
        data: dict[str, Any] = body["data"]
        return data

    async def post(
        self, channel: str, payload: Any, **options: Any
    ) -> tuple[int, dict[str, Any], aiohttp.ClientResponse]:
        """Publish: JSON, or bytes as they are."""
        data = payload if isinstance(payload, bytes) else orjson.dumps(payload)
        headers = {"Content-Type": "application/json", **(options.pop("headers", None) or {})}
        path = f"/api/v1/channels/{channel}/events"
        return await self.ask("POST", path, data=data, headers=headers, **options)

    async def publish(self, channel: str, *payloads: Any, **options: Any) -> dict[str, Any]:
        """Publish what is accepted; returns the receipt."""
        status, body, _ = await self.post(channel, list(payloads), **options)
        assert status == 201, body
        self.published += len(payloads)
        receipt: dict[str, Any] = body["data"]
        return receipt

    async def refused(self, channel: str, payload: Any, **options: Any) -> dict[str, Any]:
        """The error, with its status, of a publish that is not accepted."""
        status, body, _ = await self.post(channel, payload, **options)
        assert body["success"] is False
        error: dict[str, Any] = body["error"]
        return error | {"status": status}

    @asynccontextmanager
    async def ws(
        self,
        *,
        who: str | None = "desk",
        headers: Mapping[str, str] | None = None,
        autoping: bool = True,
        **query: Any,
    ) -> AsyncIterator[WsReader]:
        """Raises aiohttp.WSServerHandshakeError where the handshake is refused."""
        async with self.session.ws_connect(
            self.url + "/ws/telemetry",
            headers=self.headers(who, headers),
            params=_query(query),
            autoping=autoping,
            max_msg_size=0,
        ) as socket:
            yield WsReader(socket)

    @asynccontextmanager
    async def sse(
        self, *, who: str | None = "desk", headers: Mapping[str, str] | None = None, **query: Any
    ) -> AsyncIterator[SseReader]:
        async with self.session.get(
            self.url + "/sse/telemetry",
            headers=self.headers(who, headers),
            params=_query(query),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            yield SseReader(response.content.readline)

    async def until(self, done: Callable[[], object]) -> None:
        """Let the loop turn until it is so."""
        async with asyncio.timeout(PATIENCE):
            while not done():  # noqa: ASYNC110 - what is waited for knows no event
                await asyncio.sleep(0)

    def stop_the_clocks(self) -> None:
        """No rate of newcomers or wrong keys gives anything back, however long a test takes."""
        now = time.monotonic()
        self.parts.clients._clock = self.parts.guesses._clock = lambda: now

    async def everybody_gone(self) -> None:
        await self.until(
            lambda: not len(self.parts.clients) and not self.parts.broadcaster.subscribers
        )

    def transport(self, name: str, **options: Any) -> Any:
        """The same stream at the transport of this name."""
        return {"ws": self.ws, "sse": self.sse}[name](**options)


def _query(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, str(each).lower() if isinstance(each, bool) else str(each))
        for name, value in said.items()
        for each in (value if isinstance(value, list | tuple) else [value])
    ]


@asynccontextmanager
async def served(
    *holders: Principal,
    keys: KeyStore | None = None,
    secrets: Mapping[str, str] | None = None,
    journal: Journal | str = "memory:",
    secret: bytes | None = None,
    catalogue: Catalogue = CHANNELS,
    now: Callable[[], float] = time.time,
    elapsed: Callable[[], float] = monotonic,
    trusted: ssl.SSLContext | None = None,
    accept_changes: Collection[str] = (),
    **settings: Any,
) -> AsyncIterator[Live]:
    """The service with these holders of keys ("desk", who may everything, unless said).

    `keys` with `secrets` (name to key) replaces them. `journal` is one, or a setting's text.
    `trusted` is for a service with TLS.
    """
    if keys is None:
        holders = holders or (principal(),)
        keys, issued = KeyStore.of(*holders, now=now)
        secrets = {holder.name: issued[holder.key_id] for holder in holders}
    url, own = (journal, None) if isinstance(journal, str) else ("memory:", journal)
    chosen = Settings(**{"port": 0, "journal": url, "drain_seconds": 0.0} | settings)
    app = create_app(
        chosen,
        keys=keys,
        catalogue=catalogue,
        journal=own,
        secret=secret,
        accept_changes=accept_changes,
        now=now,
        elapsed=elapsed,
    )
    async with (
        Server(app, chosen) as server,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=True if trusted is None else trusted),
            timeout=aiohttp.ClientTimeout(total=PATIENCE),
        ) as session,
    ):
        yield Live(server.url, app, server, secrets or {}, session)


def types(reported: Sequence[ServerMessage]) -> list[str]:
    return [each.type for each in reported]


def rows(reported: Sequence[ServerMessage]) -> dict[tuple[str, str], dict[str, Any]]:
    """What a client holds after these events."""
    held: dict[tuple[str, str], dict[str, Any]] = {}
    for body in (each.body for each in reported if each.type == "event"):
        where = body["channel"], body["key"]
        held.pop(where, None)
        if body["op"] == "upsert":
            held[where] = body["data"]
    return held
