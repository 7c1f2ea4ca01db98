"""Follow channels through drops: what came, in order, and from where to go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from telecast.client.backoff import Backoff
from telecast.client.faults import (
    CLOSED_FOR_GOOD,
    MOST_TOLD_SECONDS,
    BadAnswer,
    Refused,
    Unreachable,
)
from telecast.client.http import base_of, check_key
from telecast.client.lines import Cut, Line, Transport, open_line
from telecast.client.messages import Cursor, Garbled, ServerMessage
from telecast.errors import CODES
from telecast.model import Position
from telecast.protocol.messages import PROTOCOL_VERSION

SILENT_BEATS = 3
"""Heartbeat intervals without a byte after which a line is dead (wire contract, section 8)."""
DEFAULT_HEARTBEAT = 15.0
ASKED_FOR = 1000
"""The close code of an end that was asked for (RFC 6455 §7.4.1)."""
WORDS = ("earliest", "acked")


@dataclass(frozen=True, slots=True)
class Dropped:
    """A connection was lost, or not made: the next try follows after `delay` seconds."""

    reason: str
    code: int | None
    delay: float
    position: str | None


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The service answers again; `position` is from where it was asked to resume, if any."""

    transport: Transport
    position: str | None
    tries: int


Report = Dropped | Reconnected
Transports = Transport | Sequence[Transport] | Callable[[int], Transport]
"""One transport, transports in turn, or a function from the number of the connection (from 0) to
its transport."""


class Stream:
    """An async iterator of what the server tells, over as many connections as it takes.

    It ends by itself only when the service closes with 1000. It raises Refused for what is of
    no use to try again, BadAnswer where no Telecast service answers, and Unreachable where
    `insist` is False and the first try found nobody. Messages come in the order received, each
    once; after a drop it resumes from `position`, or starts over as it first did where that is
    None still. `report` hears of drops and returns, between the messages they stand between.

    Use it as a context manager: leaving it closes the connection. Cancelling the task that
    iterates, or `aclose()`, ends the stream for good; go on with a new one from `position`.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        channels: Sequence[str],
        *,
        transport: Transports = "ws",
        since: str | None = None,
        delivery: Literal["conflated", "all"] = "conflated",
        max_rate: float | None = None,
        filters: Mapping[str, Sequence[str]] | None = None,
        heartbeat: int | None = None,
        client_id: str | None = None,
        insist: bool = True,
        report: Callable[[Report], None] | None = None,
        backoff: Backoff | None = None,
        pause: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        """`since` is a position, `earliest` or `acked`; None asks for a snapshot.

        `max_rate` is in batches a second, `heartbeat` in seconds. Raises ValueError or
        PositionMalformed for what could never work.
        """
        if not channels:
            raise ValueError("Name at least one channel.")
        if since is not None and since not in WORDS:
            Position.parse(since)
        self._base = base_of(url)
        self._key = None if key is None else check_key(key)
        self._transports = transport
        self._query = _query(
            channels, filters or {}, since, delivery, max_rate, heartbeat, client_id
        )
        self._silence = SILENT_BEATS * float(heartbeat or DEFAULT_HEARTBEAT)
        self._insist = insist
        self._report = report or (lambda _: None)
        self._backoff = backoff or Backoff()
        self._pause = pause
        self._cursor = Cursor(since)
        self._notice: dict[str, Any] | None = None
        self._tries = 0
        self._messages = self._run()

    @property
    def position(self) -> str | None:
        """Where it is safe to resume: None until the server has told a first such place."""
        return self._cursor.proven

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> ServerMessage:
        return await anext(self._messages)

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End it, saying goodbye where a connection is open. Not while another task iterates."""
        await self._messages.aclose()

    async def _run(self) -> AsyncGenerator[ServerMessage, None]:
        connections, answered = 0, False
        while True:
            transport = self._transport(connections)
            connections += 1
            line: Line | None = None
            try:
                line = await open_line(
                    transport,
                    self._base,
                    self._key,
                    self._query,
                    self._cursor.proven,
                    self._silence,
                )
                answered = True
                self._begin()
                patience = self._silence
                while True:
                    told = self._cursor.take(*await line.read(patience), ids=line.ids)
                    if told.type == "welcome":
                        patience = self._welcomed(told, transport)
                    self._note(told)
                    yield told
            except Cut as cut:
                answered = answered or cut.heard
                if not answered and not self._insist:
                    raise Unreachable(f"Nobody answers at {self._base}: {cut.why}.") from None
                ended = cut
            except Garbled as fault:
                ended = Cut(f"garbled: {fault}")
            finally:
                if line is not None:
                    await line.close()
            if ended.code == ASKED_FOR:
                return
            await self._come_back(ended)

    def _transport(self, connection: int) -> Transport:
        transports = self._transports
        if callable(transports):
            return transports(connection)
        if transports == "ws" or transports == "sse":
            return transports
        return transports[connection % len(transports)]

    def _begin(self) -> None:
        self._cursor.connected()
        self._notice = None

    def _welcomed(self, told: ServerMessage, transport: Transport) -> float:
        """Judge the welcome; the seconds of silence after which this line is dead."""
        version = told.body.get("protocol")
        if version != PROTOCOL_VERSION:
            raise BadAnswer(
                f"The service speaks protocol {version}, this client {PROTOCOL_VERSION}: "
                "one of them must be updated."
            )
        if self._tries:
            self._report(Reconnected(transport, self._cursor.proven, self._tries))
            self._tries = 0
        beat = told.body.get("heartbeatSeconds")
        if isinstance(beat, int | float) and beat > 0:
            return SILENT_BEATS * float(beat)
        return self._silence

    def _note(self, told: ServerMessage) -> None:
        if told.type == "notice":
            self._notice = told.body
        elif told.position is not None:
            # It got somewhere: a connection that only ever ends in its snapshot did not.
            self._backoff.reset()

    async def _come_back(self, cut: Cut) -> None:
        """Wait for the next try. Raises Refused where there is none."""
        notice, self._notice = self._notice or {}, None
        self._give_up(cut, notice)
        why, wait = cut.why, cut.wait
        if "code" in notice:
            why = f"{notice['code']}: {notice.get('message', '')}".rstrip(".")
        told = notice.get("retryAfterMs")
        if isinstance(told, int | float):
            wait = max(wait, told / 1000)
        delay = self._backoff.next(min(wait, MOST_TOLD_SECONDS))
        self._tries += 1
        self._report(Dropped(why, cut.code, delay, self._cursor.proven))
        await self._pause(delay)

    @staticmethod
    def _give_up(cut: Cut, notice: Mapping[str, Any]) -> None:
        if cut.code is not None and cut.code in CLOSED_FOR_GOOD:
            code, status = CLOSED_FOR_GOOD[cut.code]
            code = str(notice.get("code", code))
            raise Refused(code, str(notice.get("message", cut.why)), status=status)
        if cut.code is None and notice.get("retryable") is False:
            # SSE has no close codes: there the notice alone says that coming back is of no use.
            code = str(notice.get("code", "REFUSED"))
            message = str(notice.get("message", cut.why))
            raise Refused(code, message, status=_status(code))


def _status(code: str) -> int:
    return CODES[code].http if code in CODES else 400


def _query(
    channels: Sequence[str],
    filters: Mapping[str, Sequence[str]],
    since: str | None,
    delivery: str,
    max_rate: float | None,
    heartbeat: int | None,
    client_id: str | None,
) -> list[tuple[str, str]]:
    query = [("channels", ",".join(channels)), ("delivery", delivery)]
    query += [(field, value) for field, values in filters.items() for value in values]
    for name, value in (
        ("since", since),
        ("maxRate", None if max_rate is None else f"{max_rate:g}"),
        ("heartbeat", None if heartbeat is None else str(heartbeat)),
        ("clientId", client_id),
    ):
        if value is not None:
            query.append((name, value))
    return query
