"""One open connection over either transport: messages come out of it until it is cut."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Literal, Protocol

import aiohttp
import orjson
from aiohttp import WSMsgType

from telecast.client.connection.http import (
    CONNECT_SECONDS,
    LOST,
    Access,
    below,
    open_session,
    words,
)
from telecast.client.connection.sse import Parser, TooLong
from telecast.client.faults import BadAnswer, Refused

Transport = Literal["ws", "sse"]
Query = Sequence[tuple[str, str]]

MAX_MESSAGE_BYTES = 4 << 20
FAREWELL_SECONDS = 1.0
"""How long a WebSocket's close may wait for the answer to its close frame."""
WAITS: Mapping[int, float] = {1013: 1.0, 4410: 5.0, 4429: 2.0}
"""Seconds to stay away at least after these close codes (wire contract, section 8)."""


def _now() -> float:
    return asyncio.get_running_loop().time()


class Cut(Exception):
    """The connection is over. `why` says how, in words for the operator.

    `code` is the WebSocket's close code, None where no close frame came; `wait` the least
    seconds before coming back; `heard` whether anybody had answered on this connection.
    """

    def __init__(
        self, why: str, *, code: int | None = None, wait: float = 0.0, heard: bool = True
    ) -> None:
        super().__init__(why)
        self.why = why
        self.code = code
        self.wait = wait
        self.heard = heard


class Line(Protocol):
    """An open connection. `ids`: this transport sends positions as ids.

    `heard_at` is when the last byte came, by the loop's clock, while somebody reads.
    """

    ids: bool
    heard_at: float

    async def read(self, patience: float) -> tuple[bytes, str | None]:
        """The next message's JSON and its id. Raises Cut; also when `patience` seconds are silent.

        A cancelled read leaves nothing to go on with: close the line.
        """
        ...

    async def send(self, action: Mapping[str, Any]) -> bool:
        """Send an action; False where this transport has none. Raises Cut."""
        ...

    async def probe(self, seconds: float) -> None:
        """Ask for a sign of life, for so long at most: `heard_at` moves on when there is one.
        Raises nothing."""
        ...

    async def close(self) -> None:
        """Let go of the connection, with a goodbye where it still works and the transport has
        one."""
        ...


async def open_line(
    transport: Transport,
    access: Access,
    query: Query,
    resume: str | None,
    silence: float,
) -> Line:
    """Connect. `resume` is a position that the server sent, None at first.

    `silence` is how many seconds without a byte are a dead line before the server has said its
    own interval. Raises Cut, Refused (final) or BadAnswer.
    """
    headers = await access.headers()
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
    session = open_session(access, timeout)
    try:
        return await _OPEN[transport](session, access, headers, query, resume)
    except BaseException as fault:
        await session.close()
        if isinstance(fault, Refused) and fault.retryable:
            why = f"{fault.code}: {fault.message}".rstrip(".")
            raise Cut(why, wait=fault.retry_after) from None
        if isinstance(fault, LOST):
            raise Cut(words(fault), heard=isinstance(fault, _HEARD)) from None
        raise


_HEARD = (aiohttp.ServerDisconnectedError, aiohttp.ClientResponseError)


async def _open_sse(
    session: aiohttp.ClientSession,
    access: Access,
    headers: Mapping[str, str],
    query: Query,
    resume: str | None,
) -> Line:
    base = access.base
    headers = {**headers, "Accept": "text/event-stream", "Cache-Control": "no-store"}
    if resume is not None:
        headers["Last-Event-ID"] = resume
        query = [pair for pair in query if pair[0] not in ("since", "replay")]
    response = await _ask(session, below(base, "sse/telemetry"), query, headers)
    if response.status != 200 or response.content_type != "text/event-stream":
        response.close()
        raise BadAnswer(
            f"{base} answers {response.status} with {response.content_type}, not an event stream."
        )
    return SseLine(session, response, access)


async def _open_ws(
    session: aiohttp.ClientSession,
    access: Access,
    headers: Mapping[str, str],
    query: Query,
    resume: str | None,
) -> Line:
    base = access.base
    if resume is not None:
        kept = (pair for pair in query if pair[0] not in ("since", "replay"))
        query = [*kept, ("since", resume)]
    try:
        socket = await session.ws_connect(
            below(base, "ws/telemetry"),
            params=query,
            headers=headers,
            autoping=False,
            timeout=aiohttp.ClientWSTimeout(ws_close=FAREWELL_SECONDS),
            max_msg_size=MAX_MESSAGE_BYTES,
            decode_text=False,
        )
    except aiohttp.WSServerHandshakeError as fault:
        raise BadAnswer(f"{base} does not speak WebSocket: {fault.message}.") from None
    return WsLine(session, socket)


LONGEST_QUERY = 4_000
"""Characters of an address's query: many proxies take 8 KiB of a whole request line, and what is
not ASCII takes nine for one."""

_OPEN = {"ws": _open_ws, "sse": _open_sse}


async def _ask(
    session: aiohttp.ClientSession, url: Any, query: Query, headers: Mapping[str, str]
) -> aiohttp.ClientResponse:
    """Open an event stream: in the address, or in a body where proxies might find that too long."""
    if sum(len(name) + len(value) + 2 for name, value in query) <= LONGEST_QUERY:
        return await session.get(url, params=query, headers=headers)
    body: dict[str, Any] = {"filter": {}}
    for name, value in query:
        match name:
            case "channels":
                body[name] = value.split(",")
            case "replay" | "position":
                body[name] = value == "true"
            case "heartbeat" | "maxRate":
                body[name] = float(value) if "." in value else int(value)
            case "since" | "delivery" | "clientId":
                body[name] = value
            case _:
                body["filter"].setdefault(name, []).append(value)
    return await session.post(url, json=body, headers=headers)


class SseLine:
    """GET /sse/telemetry."""

    ids = True

    def __init__(
        self, session: aiohttp.ClientSession, response: aiohttp.ClientResponse, access: Access
    ) -> None:
        self.heard_at = _now()
        self._session = session
        self._access = access
        self._response = response
        self._parser = Parser()
        self._ready: deque[tuple[bytes, str | None]] = deque()

    async def read(self, patience: float) -> tuple[bytes, str | None]:
        while not self._ready:
            try:
                async with asyncio.timeout(patience):
                    chunk = await self._response.content.readany()
                self.heard_at = _now()
                events = self._parser.feed(chunk)
            except TimeoutError:
                raise Cut(f"silent for {patience:g} s", wait=self._retry) from None
            except (TooLong, *LOST) as fault:
                raise Cut(words(fault), wait=self._retry) from None
            if not chunk:
                raise Cut("the stream ended", wait=self._retry)
            self._ready.extend((event.data, event.id) for event in events)
        return self._ready.popleft()

    async def send(self, action: Mapping[str, Any]) -> bool:
        return False

    async def probe(self, seconds: float) -> None:
        """An event stream goes one way: what is asked is whether the service answers at all."""
        try:
            timeout = aiohttp.ClientTimeout(total=seconds)
            url = below(self._access.base, "livez")
            async with self._session.get(url, timeout=timeout) as answer:
                await answer.read()
        except (Refused, *LOST):
            return
        self.heard_at = _now()

    @property
    def _retry(self) -> float:
        return (self._parser.retry or 0) / 1000

    async def close(self) -> None:
        self._response.close()
        await self._session.close()


class WsLine:
    """GET /ws/telemetry. Pings are answered while somebody reads: they are the sign of life."""

    ids = False

    def __init__(
        self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse[bool]
    ) -> None:
        self.heard_at = _now()
        self._session = session
        self._socket = socket

    async def read(self, patience: float) -> tuple[bytes, str | None]:
        while True:
            message = await self._receive(patience)
            self.heard_at = _now()
            match message.type:
                case WSMsgType.PING:
                    await self._quietly(self._socket.pong(message.data), FAREWELL_SECONDS)
                case WSMsgType.PONG:
                    pass
                case _:
                    return self._judge(message)

    async def _receive(self, patience: float) -> Any:
        try:
            async with asyncio.timeout(patience):
                return await self._socket.receive()
        except TimeoutError:
            raise Cut(f"silent for {patience:g} s") from None
        except LOST as fault:
            raise Cut(words(fault)) from None

    @staticmethod
    def _judge(message: Any) -> tuple[bytes, None]:
        """A message's bytes. Raises Cut for all that is no text."""
        match message.type:
            case WSMsgType.TEXT:
                return message.data, None
            case WSMsgType.CLOSE:
                code = int(message.data)
                text = f" ({message.extra})" if message.extra else ""
                # Whether to come back is for the stream to say, which has seen the notice.
                raise Cut(f"closed with {code}{text}", code=code, wait=WAITS.get(code, 0.0))
            case WSMsgType.ERROR:
                raise Cut(f"unreadable: {message.data}")
            case WSMsgType.BINARY:
                raise Cut("a binary message came: the contract has none")
            case _:
                raise Cut("the connection broke off")

    async def send(self, action: Mapping[str, Any]) -> bool:
        try:
            await self._socket.send_str(orjson.dumps(action).decode())
        except LOST as fault:
            raise Cut(words(fault)) from None
        return True

    async def probe(self, seconds: float) -> None:
        await self._quietly(self._socket.ping(), seconds)

    @staticmethod
    async def _quietly(sending: Coroutine[Any, Any, None], seconds: float) -> None:
        """Send a frame for which there may be no room, or no one any more: reading shows that."""
        try:
            async with asyncio.timeout(seconds):
                await sending
        except LOST:
            pass

    async def close(self) -> None:
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._socket.close()
        except LOST:
            pass  # it is over either way
        finally:
            await self._session.close()
