"""Follow channels through drops: what came, in order, and from where to go on."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal

from telecast.client.connection.backoff import Backoff
from telecast.client.connection.http import Access, Key
from telecast.client.connection.lines import Cut, Line, Transport, open_line
from telecast.client.connection.reports import Dropped, Reconnected, Report, watch
from telecast.client.connection.turns import Transports, Turns
from telecast.client.faults import MOST_ASKED_SECONDS, BadAnswer, Refused, Unreachable, check_notice
from telecast.client.messages import Cursor, Garbled, ServerMessage
from telecast.client.wanted import Wanted, query_of
from telecast.model import Position
from telecast.protocol.instants import parse_instant
from telecast.protocol.messages import PROTOCOL_VERSION

SILENT_BEATS = 3
"""Heartbeat intervals without a byte after which a line is dead (wire contract, section 8)."""
DEFAULT_HEARTBEAT = 15.0
LEAST_HEARTBEAT = 2.0
WELCOME_SECONDS = 15.0
"""Longest wait for the first message: a proxy may let a handshake pass and nothing after it."""
WORDS = ("earliest", "acked", "now")


class _State(Enum):
    AWAY = "no connection is open"
    OPEN = "one is open"
    LEAVING = "one is open that we close ourselves: the next asks for more"


_MOVES: Mapping[_State, frozenset[_State]] = {
    _State.AWAY: frozenset({_State.OPEN}),
    _State.OPEN: frozenset({_State.LEAVING, _State.AWAY}),
    _State.LEAVING: frozenset({_State.AWAY}),
}


class Stream:
    """An async iterator of what the server sends, over as many connections as it takes.

    It ends by itself never: the service's end of a connection is no reason to stay away, unless
    its last `notice` says so. It raises Refused for what is of no use to try again, BadAnswer
    where no Telecast service answers, and Unreachable where `insist` is False and the first try
    found nobody. Messages come in the order received, each once; after a drop it resumes from
    `position`, or starts over as it first did where that is None still. `report` is called for
    drops and returns, between the messages they stand between.

    Use it as a context manager: leaving it closes the connection. Cancelling the task that
    iterates, or `aclose()`, ends the stream for good; go on with a new one from `position`.
    """

    def __init__(
        self,
        url: str | Access,
        key: Key,
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
        liveness: float | None = None,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        """`since` is a position, `earliest`, `now` or `acked`; None asks for a snapshot.

        `max_rate` is in batches a second, `heartbeat` in seconds. With `liveness`, a line on
        which nothing comes for so many seconds is asked for a sign of life and reported Silent.
        Raises ValueError or PositionMalformed for what could never work.
        """
        if not channels:
            raise ValueError("Name at least one channel.")
        if since is not None and since not in WORDS and parse_instant(since, "since") is None:
            Position.parse(since)
        self._access = url if isinstance(url, Access) else Access.to(url, key, tls=tls, proxy=proxy)
        self._turns = Turns(transport)
        query = query_of(since, delivery, max_rate, heartbeat, client_id)
        self._wanted = Wanted(channels, filters, query)
        self._silence = SILENT_BEATS * float(heartbeat or DEFAULT_HEARTBEAT)
        self._beat: list[tuple[str, str]] = []
        if liveness is not None and heartbeat is None:
            # A quiet event stream says something twice in a heartbeat: one that is short spares
            # us the questions for a sign of life, each of which is a request of its own.
            beat = min(max(liveness, LEAST_HEARTBEAT), DEFAULT_HEARTBEAT)
            self._beat = [("heartbeat", str(int(beat)))]
        self._liveness = liveness
        self._insist = insist
        """From the first answer on always: then somebody was there."""
        self._report = report or (lambda _: None)
        self._backoff = backoff or Backoff()
        self._pause = pause
        self._cursor = Cursor(None if since == "now" else since)
        self._notice: dict[str, Any] | None = None
        self._tries = 0
        self._line: Line | None = None
        """The connection, unless AWAY; `watching` asks it for signs of life."""
        self._watching: asyncio.Task[None] | None = None
        self._state = _State.AWAY
        self._renewed = False
        self._messages = self._run()

    @property
    def position(self) -> str | None:
        """Where it is safe to resume: None until the server has sent a first such place."""
        return self._cursor.proven

    @property
    def transport(self) -> Transport:
        """What it is connected by now, or tries to be."""
        return self._turns.now

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

    @property
    def connected(self) -> bool:
        """Whether a connection is open now."""
        return self._state is not _State.AWAY

    @property
    def refining(self) -> bool:
        """Whether a `refine` is under way: up to the `live` that ends the last one."""
        return self._cursor.refining

    async def add(self, channels: Sequence[str]) -> None:
        """Follow these as well, with the same filters: their snapshot comes.

        A WebSocket subscribes; an event stream, whose address says what it carries, is opened
        anew and starts over with the rows of all its channels.
        """
        if new := self._wanted.add(channels):
            self._cursor.expect(new)
            await self._catch_up()

    async def remove(self, channels: Sequence[str]) -> None:
        """Follow these no longer; what is on its way still comes. One channel must be left."""
        gone = self._wanted.remove(channels)
        self._cursor.refused(gone)
        if gone and self._line is not None:
            with contextlib.suppress(Cut):  # the next connection does not ask for them
                await self._line.send(self._wanted.unsubscribe(gone))

    async def refine(
        self,
        add: Mapping[str, Sequence[str]] | None = None,
        remove: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Take filter values in and let others go, on all channels that have the field.

        A WebSocket is sent `leave` for rows that leave, and the rows that come in; an event
        stream is opened anew and starts over. Raises ValueError where a field was not filtered by
        before, or would have no value left.
        """
        add, remove = add or {}, remove or {}
        self._wanted.refine(add, remove)
        line = self._line
        self._cursor.refine(asked=line is not None)
        if line is None:
            return
        with contextlib.suppress(Cut):  # the next connection asks for the new filter
            if not await line.send(self._wanted.filter(add, remove)):
                await self._reopen(line)

    async def _reopen(self, line: Line) -> None:
        """Leave a connection, if it is still the one, for another that asks for more."""
        if line is self._line and self._state is _State.OPEN:
            self._move(_State.LEAVING)
        await line.close()

    async def send(self, action: Mapping[str, Any]) -> bool:
        """Send an action on the open connection; False where there is none, or it has no such."""
        if self._line is None:
            return False
        try:
            return await self._line.send(action)
        except Cut:
            return False

    async def _catch_up(self) -> None:
        """Have the open connection carry what was added since it was asked for."""
        line = self._line
        missing = self._wanted.missing()
        if line is None or not missing:
            return
        self._cursor.expect(missing)
        with contextlib.suppress(Cut):  # the next connection asks for all of them
            if not await line.send(self._wanted.subscribe(missing)):
                await self._reopen(line)

    async def _run(self) -> AsyncGenerator[ServerMessage, None]:
        while True:
            transport = self._turns.next()
            ended: Cut | Refused | BadAnswer
            try:
                line = await self._connect(transport)
                patience = min(self._silence, WELCOME_SECONDS)
                while True:
                    raw, event_id = await line.read(patience)
                    message = self._cursor.take(raw, event_id, ids=line.ids)
                    if message.type == "welcome":
                        patience = self._welcomed(message, transport)
                    self._note(message)
                    refused = message.body.get("reqId") if message.type == "error" else None
                    if self._wanted.is_filter(refused):
                        await self._reopen(line)  # which says why, if it is no good there either
                    yield message
            except (Cut, Refused, BadAnswer) as fault:
                ended = fault
            except Garbled as fault:
                ended = Cut(f"garbled: {fault}")
            finally:
                left = await self._disconnect()
            if not left:
                await self._settle(ended)

    async def _connect(self, transport: Transport) -> Line:
        """Raises Cut, Refused, BadAnswer."""
        beat = self._beat if transport == "sse" else []
        while True:
            query, since = self._wanted.begin(beat), self._cursor.proven
            line = await open_line(transport, self._access, query, since, self._silence)
            if not self._wanted.outdated:
                break
            # The filter changed while it was being made: it would carry the rows of the old one.
            await line.close()
        self._insist = True
        self._move(_State.OPEN)
        self._line, self._notice = line, None
        self._cursor.connected()
        await self._catch_up()
        if self._liveness is not None:
            speaks = bool(beat) and self._liveness >= LEAST_HEARTBEAT
            asks_after = self._liveness * (0.55 if speaks else 0.4)
            watching = watch(line, self._liveness, asks_after, self._report)
            self._watching = asyncio.create_task(watching)
        return line

    async def _disconnect(self) -> bool:
        """Let go of the connection, if there is one; whether we left it for another."""
        line, self._line = self._line, None
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
        if line is None:
            return False
        left = self._state is _State.LEAVING
        self._move(_State.AWAY)
        await line.close()
        return left

    async def _settle(self, ended: Cut | Refused | BadAnswer) -> None:
        """Wait for the next try, or raise what makes one useless."""
        at_once = self._turns.failed()
        if isinstance(ended, Cut):
            self._insist = self._insist or ended.heard
            if not self._insist and not at_once:
                raise Unreachable(f"Nobody answers at {self._access.base}: {ended.why}.")
            await self._come_back(ended, at_once=at_once)
        elif not (at_once and self._turns.blocked_by(ended)) and not self._renews(ended):
            raise ended

    def _move(self, state: _State) -> None:
        """The only way the state changes."""
        if state not in _MOVES[self._state]:
            raise AssertionError(f"no way from {self._state.name} to {state.name}")
        self._state = state

    def _renews(self, fault: Refused | BadAnswer) -> bool:
        """Whether to ask for the key anew: once for each time that it was good."""
        again = (
            isinstance(fault, Refused)
            and fault.status == 401
            and self._access.renews
            and not self._renewed
        )
        self._renewed = self._renewed or again
        return again

    def _welcomed(self, message: ServerMessage, transport: Transport) -> float:
        """Judge the welcome; the seconds of silence after which this line is dead."""
        self._turns.worked()
        self._renewed = False
        version = message.body.get("protocol")
        if version != PROTOCOL_VERSION:
            raise BadAnswer(
                f"The service speaks protocol {version}, this client {PROTOCOL_VERSION}: "
                "one of them must be updated."
            )
        if self._tries:
            self._report(Reconnected(transport, self._cursor.proven, self._tries))
            self._tries = 0
        beat = message.body.get("heartbeatSeconds")
        if isinstance(beat, int | float) and beat > 0:
            silence = SILENT_BEATS * float(beat)
            # A beat that is short for the sake of liveness is no reason to give up sooner.
            return max(silence, self._silence) if self._beat and transport == "sse" else silence
        return self._silence

    def _note(self, message: ServerMessage) -> None:
        if message.type == "notice":
            self._notice = message.body
            check_notice(message.body)
        elif message.type == "error":
            self._cursor.refused(self._wanted.refused(message.body.get("reqId")))
        elif message.type == "ack":
            if message.body.get("action") == "filter":
                self._cursor.answered()
            rejected = message.body.get("rejected") or ()
            self._cursor.refused(str(each.get("channel")) for each in rejected)
        elif message.position is not None:
            # It got somewhere: a connection that only ever ends in its snapshot did not.
            self._backoff.reset()

    async def _come_back(self, cut: Cut, *, at_once: bool) -> None:
        """Wait for the next try."""
        notice, self._notice = self._notice or {}, None
        why, wait = cut.why, cut.wait
        if "code" in notice:
            why = f"{notice['code']}: {notice.get('message', '')}".rstrip(".")
        asked = notice.get("retryAfterMs")
        if isinstance(asked, int | float):
            wait = max(wait, asked / 1000)
        delay = 0.0 if at_once else self._backoff.next(min(wait, MOST_ASKED_SECONDS))
        self._tries += 1
        self._report(Dropped(why, cut.code, delay, self._cursor.proven))
        await self._pause(delay)
