"""Changes one by one, in order: what `Client.follow` yields, and the buffer in between."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any, Literal

from telecast.client.connection.lines import Transport
from telecast.client.faults import Behind
from telecast.client.messages import ServerMessage
from telecast.client.publish import Publisher
from telecast.client.store import Store
from telecast.client.stream import Stream
from telecast.client.telemetry import Telemetry
from telecast.client.wanted import Filter, lists_of
from telecast.errors import TelecastError

log = logging.getLogger("telecast.client")

SAVE_SECONDS = 1.0
"""While changes come without a pause, how often the place is saved at least."""

WhenFull = Literal["wait", "conflate", "fail"]


class Op(StrEnum):
    """What a Change is.

    - `UPSERT` ("upsert"): `row` is the whole row as it is now.
    - `DELETE` ("delete"): the row is gone; `row` is its last state.
    - `APPEND` ("append"): an entry of a channel that is a log; it replaces nothing.
    - `RESET` ("reset"): forget all rows of this channel; the current ones follow as upserts.
      `reason` says why: `NEW`, `POSITION_EXPIRED`, `EPOCH_CHANGED` and others of the contract.
    - `GAP` ("gap"): changes of this channel exist no more; `reason` says which.
    - `LEAVE` ("leave"): a filter that you changed does not take this row any more. It has not
      ended; `row` is empty.
    """

    UPSERT = "upsert"
    DELETE = "delete"
    APPEND = "append"
    RESET = "reset"
    GAP = "gap"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Change:
    """One change, in the order of its commit.

    `position` is where to go on once this change is handled, None within a snapshot, from which
    there is no going on. `seq` rises with each commit over all channels; its jumps mean nothing,
    and a LEAVE, which is no commit, has 0.
    `timestamp` is the commit in ms since 1970 by the service's clock. `row` is empty for RESET and
    GAP, which have no `key` either, and for LEAVE.
    """

    channel: str
    op: Op
    key: str
    row: Mapping[str, Any]
    position: str | None
    seq: int
    timestamp: int
    transport: Transport
    reason: str | None = field(default=None)


def changes_of(message: ServerMessage, transport: Transport) -> list[Change]:
    """What a message means for who follows; nothing for most."""
    body = message.body
    match message.type:
        case "event":
            try:
                op = Op(body["op"])
            except ValueError:
                return []  # of a later version of the protocol
            said = body["channel"], op, body["key"], body["data"]
            return [Change(*said, message.position, body["seq"], body["timestamp"], transport)]
        case "snapshot":
            seq, at = 0, body["timestamp"]
            return [
                Change(name, Op.RESET, "", {}, None, seq, at, transport, body["reason"])
                for name in body["channels"]
            ]
        case "gap":
            why = f"{body['fromSeq']} to {body['toSeq']}"
            said = body["channel"], Op.GAP, "", {}
            return [Change(*said, None, body["toSeq"], body["timestamp"], transport, why)]
        case "leave":
            seq, at = 0, body["timestamp"]
            return [
                Change(body["channel"], Op.LEAVE, key, {}, None, seq, at, transport)
                for key in body["keys"]
            ]
        case _:
            return []


class Buffer:
    """Changes that wait for the caller, at most `size`, and the place behind them."""

    def __init__(self, size: int, when_full: WhenFull) -> None:
        if size < 1:
            raise ValueError("`buffer` is a number of changes, 1 or more.")
        if when_full not in ("wait", "conflate", "fail"):
            raise ValueError("`when_full` is wait, conflate or fail.")
        self._size = size
        self._when_full = when_full
        self._waiting: deque[Change] = deque()
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()
        self._end: BaseException | None = None
        self._life = 0
        """How often what waits became unproven."""
        self.behind: str | None = None
        """A position past all that waits, of a heartbeat: good once nothing waits any more."""

    def __len__(self) -> int:
        return len(self._waiting)

    async def put(self, change: Change) -> None:
        """Raises Behind where that is the policy."""
        life = self._life
        if len(self._waiting) >= self._size:
            if self._when_full == "fail":
                raise Behind(self._size)
            if self._when_full == "conflate":
                self._conflate()
            while len(self._waiting) >= self._size:
                self._taken.clear()
                await self._taken.wait()
        self._waiting.append(change if life == self._life else replace(change, position=None))
        self._filled.set()

    def _conflate(self) -> None:
        """Of each row only the newest change stays, and nothing that stands before a reset of its
        channel: it is of a table that is to be forgotten. Entries of a log all stay."""
        newest: OrderedDict[object, Change] = OrderedDict()
        for place, change in enumerate(self._waiting):
            keyed = change.op in (Op.UPSERT, Op.DELETE, Op.LEAVE)
            where: object = (change.channel, change.key) if keyed else place
            if change.op is Op.RESET:
                for other in [w for w, c in newest.items() if c.channel == change.channel]:
                    del newest[other]
            newest.pop(where, None)
            newest[where] = change
        self._waiting = deque(newest.values())

    def unproven(self) -> None:
        """What waits is of a filter that was: its positions count no more."""
        self._life += 1
        self._waiting = deque(replace(change, position=None) for change in self._waiting)
        self.behind = None

    def end(self, why: BaseException | None) -> None:
        self._end = why or StopAsyncIteration()
        self._filled.set()

    async def take(self) -> Change | None:
        """The next change, None after the end. Raises what ended it, after all that came before."""
        while not self._waiting:
            if isinstance(self._end, StopAsyncIteration):
                return None
            if self._end is not None:
                raise self._end
            self._filled.clear()
            await self._filled.wait()
        change = self._waiting.popleft()
        self._taken.set()
        return change


class Following(AsyncIterator[Change]):
    """What `Client.follow` returns: an async iterator of changes, whose filter may change."""

    def __init__(
        self,
        stream: Stream,
        buffer: Buffer,
        keep: Store | None,
        acknowledge: Callable[[str], Awaitable[None]] | None,
        readers: set[asyncio.Task[None]],
        telemetry: Telemetry | None = None,
    ) -> None:
        """Made by `Client.follow`. While it goes on, its reader is in `readers`."""
        self._stream = stream
        self._buffer = buffer
        self._place = _Place(keep, acknowledge)
        reading = partial(_read, stream, buffer, telemetry)
        self._changes = _follow(reading, buffer, self._place, readers)

    async def refine(
        self,
        *,
        add: Mapping[str, Filter] | None = None,
        remove: Mapping[str, Filter] | None = None,
    ) -> None:
        """Take filter values in and let others go: `add={"traderId": "t2"}`.

        Over a WebSocket come a LEAVE for each row that leaves and an UPSERT for each that comes
        in; an event stream begins anew with a RESET. Up to then no change has a position, and
        what `keep` had is forgotten: of another filter it would prove nothing.

        Raises ValueError for a field that it is not filtered by, or that would have no value left.
        What the service refuses is raised where you iterate.
        """
        await self._stream.refine(lists_of(add or {}), lists_of(remove or {}))
        self._buffer.unproven()
        self._place.forget()

    async def __anext__(self) -> Change:
        return await anext(self._changes)

    async def aclose(self) -> None:
        """End it at once, and wait until its connection is closed."""
        await self._changes.aclose()


async def _follow(
    read: Callable[[], Coroutine[Any, Any, None]],
    buffer: Buffer,
    place: _Place,
    readers: set[asyncio.Task[None]],
) -> AsyncGenerator[Change, None]:
    """Read in one task, yield in another; keep the place of what the caller came back from."""
    reader = asyncio.create_task(read(), name="telecast follow")
    readers.add(reader)
    reader.add_done_callback(readers.discard)
    try:
        while True:
            if not len(buffer):
                place.reach(buffer.behind)
                await place.save()
            change = await buffer.take()
            if change is None:
                return
            if change.op is Op.RESET:
                place.forget()
            before = place.life
            yield change
            # It came back for the next: this one is handled.
            if place.life == before:
                place.reach(change.position)
            await place.save_now_and_then()
    finally:
        try:
            await place.save()
        finally:
            reader.cancel()
            await asyncio.wait([reader])


async def _read(stream: Stream, buffer: Buffer, telemetry: Telemetry | None) -> None:
    try:
        async with stream:
            async for message in stream:
                if message.type == "error":
                    log.warning("%s: %s", message.body.get("code"), message.body.get("message"))
                if message.position is not None and message.type in ("heartbeat", "live"):
                    buffer.behind = message.position
                if telemetry is not None and message.type == "event" and message.position:
                    telemetry.received(message.body["channel"], message.body["timestamp"])
                for change in changes_of(message, stream.transport):
                    buffer.behind = None
                    await buffer.put(change)
    except Exception as fault:
        buffer.end(fault)
    else:
        buffer.end(None)


class _Place:
    """The last position that was handled, and how far of it is saved and acknowledged."""

    def __init__(
        self, keep: Store | None, acknowledge: Callable[[str], Awaitable[None]] | None
    ) -> None:
        self._keep = keep
        self._acknowledge = acknowledge
        self._position: str | None = None
        self._saved: str | None = None
        self._saved_at = 0.0
        self.life = 0
        """How often it was forgotten."""

    def reach(self, position: str | None) -> None:
        self._position = position or self._position

    def forget(self) -> None:
        self.life += 1
        self._position = self._saved = None
        if self._keep is not None:
            self._keep.save(None)

    async def save_now_and_then(self) -> None:
        if asyncio.get_running_loop().time() - self._saved_at >= SAVE_SECONDS:
            await self.save()

    async def save(self) -> None:
        position = self._position
        if position is None or position == self._saved:
            return
        self._saved, self._saved_at = position, asyncio.get_running_loop().time()
        if self._keep is not None:
            self._keep.save(position)
        if self._acknowledge is not None:
            await self._acknowledge(position)


def acknowledger(
    stream: Stream, rest: Publisher, client_id: str, over: Callable[[], bool]
) -> Callable[[str], Awaitable[None]]:
    """Reports positions over the stream's WebSocket, or beside an event stream by REST; nothing
    when the client is `over`."""

    async def acknowledge(position: str) -> None:
        if over() or await stream.send({"action": "ack", "position": position}):
            return
        try:
            await rest.report(client_id, position)
        except TelecastError as fault:
            # The next one says all that this one would have said.
            log.warning("position %s was not acknowledged: %s", position, fault.message)

    return acknowledge
