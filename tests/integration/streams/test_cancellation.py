"""A client may go at any moment: nothing of it stays behind, and nothing of its publish is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.fanout.fetcher import READERS
from telecast.journal.base import Batch, Receipt
from telecast.journal.memory import MemoryJournal
from telecast.model import Page
from tests.support.payloads import position, price, trader
from tests.support.service.live import PATIENCE, Live, served
from tests.support.sockets import raw
from tests.support.sockets.raw import Line, Over, dial

TRANSPORTS = pytest.mark.parametrize("transport", ["ws", "sse"])
SMALL = 4_096
"""A receive buffer so small that the service's own fills soon."""
MANY = 3_000


class Gated(MemoryJournal):
    """Holds appends and reads up for as long as a test wants."""

    def __init__(self) -> None:
        super().__init__({name: channel.retention for name, channel in CHANNELS.items()})
        self.may_append = asyncio.Event()
        self.may_read = asyncio.Event()
        self.may_append.set()
        self.may_read.set()
        self.appending = 0
        self.reading = 0
        self.reads = 0

    async def append(self, batch: Batch) -> Receipt:
        self.appending += 1
        try:
            await self.may_append.wait()
        finally:
            self.appending -= 1
        return await super().append(batch)

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page:
        self.reading += 1
        self.reads += 1
        try:
            await self.may_read.wait()
        finally:
            self.reading -= 1
        return await super().read(channels, after, limit)


class House:
    """A service, and what it holds while nobody is connected."""

    def __init__(self, live: Live, journal: Gated) -> None:
        self.live = live
        self.journal = journal
        self._before: set[asyncio.Task[Any]] = set()

    @property
    def key(self) -> str:
        return self.live.secrets["desk"]

    @property
    def port(self) -> int:
        return int(self.live.url.rpartition(":")[2])

    def note(self) -> None:
        """Remember the tasks there are now; later ones are somebody's."""
        self._before = asyncio.all_tasks()

    async def dial(self, transport: str, **options: Any) -> Line:
        return await dial(transport, self.port, self.key, **options)

    async def is_empty(self) -> None:
        """Wait until nothing is left of any client; fails with what is."""
        try:
            await self.live.until(lambda: not any(self._left().values()))
        except TimeoutError:
            pytest.fail(f"left behind: {self._left()}")
        body = await self.live.session.get(
            f"{self.live.url}/metrics", headers=self.live.headers("desk")
        )
        text = await body.text()
        assert 'telecast_connections{transport="ws"} 0' in text
        assert 'telecast_connections{transport="sse"} 0' in text

    def _left(self) -> dict[str, object]:
        parts = self.live.parts
        broadcaster = parts.broadcaster
        return {
            "clients": len(parts.clients),
            "gauge": sum(parts.clients.connections().values()),
            "by key or address": len(parts.clients._by_key) + len(parts.clients._by_address),
            "subscribers": len(broadcaster.subscribers),
            "cohorts": len(broadcaster._cohorts),
            "index": len(broadcaster._index),
            "ahead": len(broadcaster._ahead),
            "ready": len(broadcaster._ready),
            "fetches": len(broadcaster._fetcher),
            "tasks": asyncio.all_tasks() - self._before,
        }


@asynccontextmanager
async def house(**settings: Any) -> AsyncIterator[House]:
    journal = Gated()
    async with served(journal=journal, **settings) as live:
        own = House(live, journal)
        await live.publish("trader-status", trader())
        own.note()
        yield own
        await own.is_empty()
        # And it lives on.
        own.note()
        line = await own.dial("ws", channels="positions")
        await line.until("live")
        receipt = await live.publish("positions", position("after it all"))
        assert receipt["subscribers"] == 1
        assert (await line.expect("event")).body["key"] == "after it all"
        line.cut()
        await own.is_empty()


# --- cut at every stage


@TRANSPORTS
async def test_in_the_middle_of_the_handshake(transport: str) -> None:
    async with house() as own:
        asked = raw.request(transport, own.key, {"channels": "positions"})
        for size in (0, 1, len(asked) // 2, len(asked) - 1):
            _, writer = await asyncio.open_connection("127.0.0.1", own.port)
            writer.write(asked[:size])
            await writer.drain()
            writer.transport.abort()


@TRANSPORTS
@pytest.mark.parametrize("turns", range(8))
async def test_right_after_the_request_without_reading_a_byte(transport: str, turns: int) -> None:
    async with house() as own:
        asked = raw.request(transport, own.key, {"channels": "positions,market-data"})
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", own.port)
            writer.write(asked)
            for _ in range(turns):
                await asyncio.sleep(0)
            writer.transport.abort()
            await own.live.publish("positions", position())


async def welcomed(own: House, transport: str) -> Line:
    line = await own.dial(transport, channels="positions")
    await line.expect("welcome")
    return line


async def lively(own: House, transport: str) -> Line:
    line = await own.dial(transport, channels="positions")
    await line.until("live")
    return line


async def in_its_snapshot(own: House, transport: str) -> Line:
    await own.live.publish("positions", *(position(f"p{n}") for n in range(MANY)))
    line = await own.dial(transport, channels="positions", receive_buffer=SMALL, appetite=SMALL)
    await line.expect("welcome", "ack", "snapshot", "event", "event")
    (subscriber,) = own.live.parts.broadcaster.subscribers.values()
    await own.live.until(lambda: subscriber.state.name == "FULL")
    assert subscriber.catchup is not None
    assert subscriber.catchup.unfinished
    return line


async def stalled(own: House, transport: str) -> Line:
    line = await own.dial(transport, channels="market-data", receive_buffer=SMALL, appetite=SMALL)
    await line.until("live")
    (subscriber,) = own.live.parts.broadcaster.subscribers.values()
    while subscriber.state.name != "FULL":
        await own.live.publish("market-data", *(price(f"S{n}") for n in range(500)))
    return line


async def waiting_for_the_journal(own: House, transport: str) -> Line:
    # Of few instruments, so that the tape does not keep them all as the newest of theirs.
    await own.live.publish("market-data", *(price(f"S{n % 7}") for n in range(MANY)))
    own.journal.may_read.clear()
    line = await own.dial(
        transport, channels="market-data", delivery="all", since=f"{own.live.epoch}:1"
    )
    await line.expect("welcome", "ack")
    await own.live.until(lambda: own.journal.reading > 0)
    return line


async def waiting_for_a_position_ahead(own: House, transport: str) -> Line:
    line = await own.dial(transport, channels="market-data", since=f"{own.live.epoch}:99999")
    await line.expect("welcome", "ack")
    await own.live.until(lambda: len(own.live.parts.broadcaster._ahead) == 1)
    return line


async def with_a_batch_pending(own: House, transport: str) -> Line:
    line = await own.dial(transport, channels="market-data", maxRate=0.2)
    await line.until("live")
    await own.live.publish("market-data", price())
    await line.expect("event")
    await own.live.publish("market-data", price(), price())
    (cohort,) = own.live.parts.broadcaster._cohorts.values()
    assert cohort.is_pending
    return line


async def changing_what_it_hears(own: House, transport: str) -> Line:
    await own.live.publish("positions", *(position(f"p{n}") for n in range(MANY)))
    line = await own.dial(transport, channels="market-data", receive_buffer=SMALL, appetite=SMALL)
    await line.until("live")
    await line.send({"action": "subscribe", "channels": ["positions"]})
    await line.expect("ack", "snapshot", "event")
    await line.send({"action": "unsubscribe", "channels": ["positions"]})
    await line.send({"action": "subscribe", "channels": ["positions", "risk-alerts"]})
    return line


STAGES: list[Callable[[House, str], Awaitable[Line]]] = [
    welcomed,
    lively,
    in_its_snapshot,
    stalled,
    waiting_for_the_journal,
    waiting_for_a_position_ahead,
    with_a_batch_pending,
]


@pytest.mark.parametrize(
    ("transport", "stage"),
    [(transport, stage) for stage in STAGES for transport in ("ws", "sse")]
    + [("ws", changing_what_it_hears)],
)
async def test_a_client_that_is_cut_leaves_nothing_behind(
    transport: str, stage: Callable[[House, str], Awaitable[Line]]
) -> None:
    async with house(tape_events=MANY // 3) as own:
        line = await stage(own, transport)
        line.cut()
        if stage is waiting_for_the_journal:
            await own.live.until(lambda: not own.live.parts.broadcaster.subscribers)
            own.journal.may_read.set()


@TRANSPORTS
async def test_many_that_are_cut_under_fire_leave_nothing_behind(transport: str) -> None:
    async with house(tape_events=MANY // 3) as own:

        async def comes_and_goes(most: int) -> None:
            for _ in range(6):
                line = await own.dial(
                    transport,
                    channels="market-data,positions",
                    delivery="all",
                    appetite=1 + most * 97,
                )
                try:
                    for _ in range(most):
                        await line.read()
                finally:
                    line.cut()

        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(comes_and_goes(most)) for most in range(1, 30)]
            while not all(client.done() for client in clients):
                await own.live.publish("market-data", *(price(f"S{n}") for n in range(50)))
                await own.live.publish("positions", position(), position("p2"))


@TRANSPORTS
async def test_a_write_to_a_connection_that_is_just_lost_is_forgotten(transport: str) -> None:
    """uvloop's transports raise then: it escaped a flush, and nobody was sent anything any more."""
    async with house() as own:
        line = await lively(own, transport)
        subscribers = own.live.parts.broadcaster.subscribers
        (subscriber,) = subscribers.values()
        line.cut()
        while subscribers:
            assert subscriber.write(b"")
            await asyncio.sleep(0)


# --- publishing


async def test_a_socket_that_is_cut_while_its_publish_commits_loses_nothing() -> None:
    async with house() as own:
        listener = await lively(own, "sse")
        own.journal.may_append.clear()
        line = await own.dial("ws")
        await line.expect("welcome")
        said = {"action": "publish", "channel": "positions", "data": position("p1")}
        await line.send({**said, "reqId": "1", "idempotencyKey": "once"})
        await own.live.until(lambda: own.journal.appending == 1)
        # These wait for the next group.
        await line.send({**said, "data": position("p1", status="UPDATED")})
        await own.live.until(lambda: own.live.parts.ingress.backlog[0] == 1)
        line.cut()
        await own.live.until(lambda: own.live.parts.clients.connections()["ws"] == 0)
        own.journal.may_append.set()
        first, second = await listener.expect("event"), await listener.expect("event")
        assert [first.body["data"]["status"], second.body["data"]["status"]] == ["OPEN", "UPDATED"]
        line = await own.dial("ws")
        await line.expect("welcome")
        await line.send({**said, "reqId": "1", "idempotencyKey": "once"})
        ack = await line.expect("ack")
        assert (ack.body["duplicate"], ack.body["seq"]) == (True, first.seq)
        line.cut()
        listener.cut()


async def test_a_request_that_is_cut_while_it_commits_loses_nothing() -> None:
    async with house() as own:
        listener = await lively(own, "ws")
        own.journal.may_append.clear()
        body = orjson.dumps(position("p1"))
        head = (
            "POST /api/v1/channels/positions/events HTTP/1.1\r\nHost: x\r\n"
            f"X-API-Key: {own.key}\r\nIdempotency-Key: once\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        tasks = len(asyncio.all_tasks())
        _, writer = await asyncio.open_connection("127.0.0.1", own.port)
        writer.write(head.encode() + body)
        await own.live.until(lambda: own.journal.appending == 1)
        at_work = len(asyncio.all_tasks())
        assert at_work > tasks
        writer.transport.abort()
        await own.live.until(lambda: len(asyncio.all_tasks()) < at_work)  # its handler is cancelled
        own.journal.may_append.set()
        reported = await listener.expect("event")
        status, answer, _ = await own.live.post(
            "positions", position("p1"), headers={"Idempotency-Key": "once"}
        )
        assert (status, answer["data"]["duplicate"]) == (201, True)
        assert answer["data"]["lastSeq"] == reported.seq
        listener.cut()


async def test_half_a_body_is_no_publish() -> None:
    async with house() as own:
        listener = await lively(own, "ws")
        head = (
            "POST /api/v1/channels/positions/events HTTP/1.1\r\nHost: x\r\n"
            f"X-API-Key: {own.key}\r\nContent-Type: application/x-ndjson\r\n"
        )
        line = orjson.dumps(position("half")) + b"\n"
        for length in (f"Content-Length: {2 * len(line)}", "Transfer-Encoding: chunked"):
            _, writer = await asyncio.open_connection("127.0.0.1", own.port)
            chunk = line if "Content" in length else b"%x\r\n%b\r\n" % (len(line), line)
            writer.write(f"{head}{length}\r\n\r\n".encode() + chunk)
            await writer.drain()
            writer.transport.abort()
        receipt = await own.live.publish("positions", position("whole"))
        reported = await listener.expect("event")
        assert (reported.body["key"], reported.seq) == ("whole", receipt["lastSeq"])
        listener.cut()


async def test_who_goes_before_its_turn_at_the_journal_is_not_read_for() -> None:
    async with house(tape_events=100) as own:
        before = own.journal.reads
        lines = [await waiting_for_the_journal(own, "ws") for _ in range(READERS)]
        fetcher = own.live.parts.broadcaster._fetcher
        lines.append(await waiting_for_the_journal(own, "sse"))
        await own.live.until(lambda: len(fetcher) == READERS + 1)
        for line in lines:
            line.cut()
        await own.live.until(lambda: not own.live.parts.broadcaster.subscribers)
        own.journal.may_read.set()
        await own.live.until(lambda: not len(fetcher))
        assert own.journal.reads - before == READERS


# --- ends that are not cuts


async def test_a_stream_that_is_shut_in_one_direction_ends() -> None:
    async with house() as own:
        for transport in ("ws", "sse"):
            reader, writer = await asyncio.open_connection("127.0.0.1", own.port)
            writer.write(raw.request(transport, own.key, {"channels": "positions"}))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1")
            writer.write_eof()
            async with asyncio.timeout(PATIENCE):
                await reader.read()
            writer.close()


async def test_a_close_frame_is_answered_and_all_is_forgotten() -> None:
    async with house() as own:
        line = await lively(own, "ws")
        await line._send(b"\x88\x82\0\0\0\0\x03\xe8")
        with pytest.raises(Over) as over:
            await line.read()
        assert over.value.code == 1000
        line.cut()
