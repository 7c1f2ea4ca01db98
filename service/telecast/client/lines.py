"""One open connection over either transport: messages come out of it until it is cut."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import aiohttp
from aiohttp import WSMsgType
from yarl import URL

from telecast.client.faults import BadAnswer, Refused
from telecast.client.http import CONNECT_SECONDS, LOST, below, open_session, words
from telecast.client.sse import Parser, TooLong

Transport = Literal["ws", "sse"]
Query = Sequence[tuple[str, str]]

MAX_MESSAGE_BYTES = 4 << 20
FAREWELL_SECONDS = 1.0
"""How long a WebSocket's close may wait for the answer to its close frame."""
WAITS: Mapping[int, float] = {1013: 1.0, 4410: 5.0, 4429: 2.0}
"""Seconds to stay away at least after these close codes (wire contract, section 8)."""


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
    """An open connection. `ids`: this transport tells positions as ids."""

    ids: bool

    async def read(self, patience: float) -> tuple[bytes, str | None]:
        """The next message's JSON and its id. Raises Cut; also when `patience` seconds are silent.

        A cancelled read leaves nothing to go on with: close the line.
        """
        ...

    async def close(self) -> None:
        """Let go of the connection, with a goodbye where it still works and the transport has
        one."""
        ...


async def open_line(
    transport: Transport,
    base: URL,
    key: str | None,
    query: Query,
    resume: str | None,
    silence: float,
) -> Line:
    """Connect. `resume` is a position that the server told, None at first.

    `silence` is how many seconds without a byte are a dead line before the server has said its
    own interval. Raises Cut, Refused (final) or BadAnswer.
    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
    session = open_session(key, timeout)
    try:
        return await _OPEN[transport](session, base, query, resume)
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
    session: aiohttp.ClientSession, base: URL, query: Query, resume: str | None
) -> Line:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if resume is not None:
        headers["Last-Event-ID"] = resume
        query = [pair for pair in query if pair[0] != "since"]
    response = await session.get(below(base, "sse/telemetry"), params=query, headers=headers)
    if response.status != 200 or response.content_type != "text/event-stream":
        response.close()
        raise BadAnswer(
            f"{base} answers {response.status} with {response.content_type}, not an event stream."
        )
    return SseLine(session, response)


async def _open_ws(
    session: aiohttp.ClientSession, base: URL, query: Query, resume: str | None
) -> Line:
    if resume is not None:
        query = [*(pair for pair in query if pair[0] != "since"), ("since", resume)]
    try:
        socket = await session.ws_connect(
            below(base, "ws/telemetry"),
            params=query,
            timeout=aiohttp.ClientWSTimeout(ws_close=FAREWELL_SECONDS),
            max_msg_size=MAX_MESSAGE_BYTES,
            decode_text=False,
        )
    except aiohttp.WSServerHandshakeError as fault:
        raise BadAnswer(f"{base} does not speak WebSocket: {fault.message}.") from None
    return WsLine(session, socket)


_OPEN = {"ws": _open_ws, "sse": _open_sse}


class SseLine:
    """GET /sse/telemetry."""

    ids = True

    def __init__(self, session: aiohttp.ClientSession, response: aiohttp.ClientResponse) -> None:
        self._session = session
        self._response = response
        self._parser = Parser()
        self._ready: deque[tuple[bytes, str | None]] = deque()

    async def read(self, patience: float) -> tuple[bytes, str | None]:
        while not self._ready:
            try:
                async with asyncio.timeout(patience):
                    chunk = await self._response.content.readany()
                events = self._parser.feed(chunk)
            except TimeoutError:
                raise Cut(f"silent for {patience:g} s", wait=self._retry) from None
            except (TooLong, *LOST) as fault:
                raise Cut(words(fault), wait=self._retry) from None
            if not chunk:
                raise Cut("the stream ended", wait=self._retry)
            self._ready.extend((event.data, event.id) for event in events)
        return self._ready.popleft()

    @property
    def _retry(self) -> float:
        return (self._parser.retry or 0) / 1000

    async def close(self) -> None:
        self._response.close()
        await self._session.close()


class WsLine:
    """GET /ws/telemetry. Pings are answered by the library: they are the sign of life."""

    ids = False

    def __init__(
        self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse[bool]
    ) -> None:
        self._session = session
        self._socket = socket

    async def read(self, patience: float) -> tuple[bytes, str | None]:
        try:
            async with asyncio.timeout(patience):
                message = await self._socket.receive()
        except TimeoutError:
            raise Cut(f"silent for {patience:g} s") from None
        except LOST as fault:
            raise Cut(words(fault)) from None
        match message.type:
            case WSMsgType.TEXT:
                return message.data, None
            case WSMsgType.CLOSE:
                code = int(message.data)
                text = f" ({message.extra})" if message.extra else ""
                # A code that says "not again" is judged by the stream, which has heard the notice.
                raise Cut(f"closed with {code}{text}", code=code, wait=WAITS.get(code, 0.0))
            case WSMsgType.ERROR:
                raise Cut(f"unreadable: {message.data}")
            case WSMsgType.BINARY:
                raise Cut("a binary message came: the contract has none")
            case _:
                raise Cut("the connection broke off")

    async def close(self) -> None:
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._socket.close()
        except LOST:
            pass  # it is over either way
        finally:
            await self._session.close()
