"""One connection that keeps the tables of many views, for all of which the same filters hold."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from telecast.client.connection.reports import Alive, Dropped, Reconnected, Report, Silent
from telecast.client.faults import Closed, Refused
from telecast.client.messages import ServerMessage
from telecast.client.stream import Stream
from telecast.client.table import Table
from telecast.client.wanted import Values
from telecast.errors import TelecastError

log = logging.getLogger("telecast.client")


def utc_now() -> datetime:
    return datetime.now(UTC)


class Link:
    """Owns its stream, the task that reads it, and the tables that it writes."""

    def __init__(
        self,
        open_stream: Callable[[list[str], Callable[[Report], None]], Stream],
        on_end: Callable[[Link], None],
    ) -> None:
        """`on_end` is called once, when it failed for good or its last table has left."""
        self._open_stream = open_stream
        self._on_end = on_end
        self._tables: dict[str, Table] = {}
        self._users: dict[str, int] = {}
        self._stream: Stream | None = None
        self._task: asyncio.Task[None] | None = None
        self._chores: set[asyncio.Task[None]] = set()
        self.over = False

    @property
    def users(self) -> int:
        """How many views it has."""
        return sum(self._users.values())

    async def refine(self, channel: str, add: Values, remove: Values) -> Table:
        """Other values of its filter from now on, for all its tables; one of them."""
        assert self._stream is not None
        for table in self._tables.values():
            table.refine()
        await self._stream.refine(add, remove)
        return self._tables[channel]

    async def join(self, channel: str) -> Table:
        """The channel's table; `leave` it once for each time that it was joined."""
        self._users[channel] = self._users.get(channel, 0) + 1
        table = self._tables.get(channel)
        if table is not None:
            return table
        table = self._tables[channel] = Table(channel, utc_now)
        if self._stream is None:
            self._stream = self._open_stream([channel], self._report)
            self._task = asyncio.create_task(self._run(self._stream), name="telecast views")
        else:
            if self._stream.connected:
                table.connected()
            await self._stream.add([channel])
        return table

    def leave(self, channel: str) -> None:
        self._users[channel] -= 1
        if self._users[channel]:
            return
        del self._users[channel]
        self._tables.pop(channel).let_go()
        if not self._tables:
            self._end()
        elif self._stream is not None:
            chore = asyncio.create_task(self._stream.remove([channel]))
            self._chores.add(chore)
            chore.add_done_callback(self._chores.discard)

    def when_closed(self, call: Callable[[Link], None]) -> None:
        """Have `call` called once the connection is closed too."""
        if self._task is not None:
            self._task.add_done_callback(lambda _: call(self))

    async def close(self) -> None:
        """End the connection and wait until it is closed."""
        task = self._task
        self._end()
        if task is not None:
            await asyncio.wait([task, *self._chores])

    def _end(self) -> None:
        if not self.over:
            self.over = True
            self._on_end(self)
        if self._task is not None:
            self._task.cancel()

    async def _run(self, stream: Stream) -> None:
        fault: TelecastError = Closed()
        try:
            async with stream:
                async for message in stream:
                    self._take(message)
        except TelecastError as final:
            fault = final
            log.warning("views of %s ended: %s", ", ".join(self._tables), final.message)
        except Exception as bug:
            # A view that stops without a word would look current for ever.
            log.exception("views of %s ended", ", ".join(self._tables))
            fault = Refused("INTERNAL", f"The client failed: {bug!r}.", status=500)
        finally:
            if not self.over:
                self.over = True
                self._on_end(self)
            for table in self._tables.values():
                table.fail(fault)

    def _take(self, message: ServerMessage) -> None:
        body = message.body
        match message.type:
            case "event":
                table = self._tables.get(body["channel"])
                if table is not None:
                    table.apply(body["op"], body["key"], body["data"])
                    table.reached(message.position)
            case "leave":
                table = self._tables.get(body["channel"])
                if table is not None:
                    for key in body["keys"]:
                        table.apply("delete", key, {})
            case "welcome":
                for table in self._tables.values():
                    table.connected()
            case "snapshot":
                for table in self._named(body):
                    table.begin()
            case "resume":
                for table in self._tables.values():
                    table.rows_end()
                for table in self._named(body):
                    table.resume()
                    if self._refining:
                        table.refine()
            case "live" if not self._refining:
                for table in self._tables.values():
                    table.live(message.position)
            case "heartbeat":
                for table in self._tables.values():
                    table.reached(message.position)
            case "ack":
                for each in body.get("rejected") or ():
                    self._reject(str(each.get("channel")), each)
            case "stale" | "fresh":
                table = self._tables.get(str(body.get("channel")))
                if table is not None:
                    table.overdue(overdue=message.type == "stale")
            case _:
                pass

    @property
    def _refining(self) -> bool:
        """Whether what comes is not yet all that the new filter takes."""
        return self._stream is not None and self._stream.refining

    def _named(self, body: Mapping[str, Any]) -> list[Table]:
        return [self._tables[name] for name in body["channels"] if name in self._tables]

    def _reject(self, channel: str, why: Mapping[str, Any]) -> None:
        table = self._tables.get(channel)
        if table is not None:
            code, message = str(why.get("code", "REFUSED")), str(why.get("message", ""))
            table.fail(Refused(code, message, status=403, retryable=False))

    def _report(self, report: Report) -> None:
        match report:
            case Dropped(reason=reason, delay=delay):
                log.info("connection lost: %s; next try in %.1f s", reason, delay)
                for table in self._tables.values():
                    table.dropped()
            case Reconnected(transport=transport):
                log.info("connected again by %s", transport)
            case Silent():
                for table in self._tables.values():
                    table.silent(silent=True)
            case Alive():
                for table in self._tables.values():
                    table.silent(silent=False)
