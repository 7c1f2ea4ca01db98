"""Publishers that repeat what was not answered, and subscribers that are cut and come back.

All that they are answered and sent is recorded in a `History`; `judge` says whether it can be.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
import orjson

from tests.support.checking.history import Book, Change, Event, History, Kept, Publish, Session
from tests.support.payloads import Payload, alert, position, price, trader
from tests.support.service.rest import ask, history, publish
from tests.support.sockets.raw import Line, Over, dial

CHANNELS = ("trader-status", "positions", "risk-alerts", "market-data")
END = "the end"
"""The key of the very last event: an alert that is for all, so that it passes every filter."""
BUSY_SECONDS = 0.05
"""How long a publisher stays away that was answered 503."""
LOST = (aiohttp.ClientError, OSError, TimeoutError)

# What the wire contract says of the channels, in its section 2 and 9.
MOVES = {
    "positions": ("traderId", "exchange", "symbol"),
    "risk-alerts": ("traderId", "severity"),
    "trader-status": ("id", "exchange", "symbol"),
}
"""Channel to the fields whose change is sent as a delete and an upsert."""
PINS = {"trader-status": ("status",), "positions": (), "risk-alerts": ("status", "severity")}
"""Channel to the fields whose change is never conflated away."""
FILTERED_BY = {
    "trader-status": {"traderId": "id", "exchange": "exchange", "symbol": "symbol"},
    "positions": {"traderId": "traderId", "exchange": "exchange", "symbol": "symbol"},
    "risk-alerts": {"traderId": "traderId", "severity": "severity"},
    "market-data": {"symbol": "symbol", "exchange": "exchange"},
}


class Place(Protocol):
    """Where a service is: `process.Service`, or anything that says the same."""

    url: str
    port: int
    key: str
    up: asyncio.Event

    @property
    def headers(self) -> dict[str, str]: ...


# --- what is published


class Desk:
    """Thinks up what one publisher says, and knows what its rows must become."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.name = name
        self._chance = chance
        self.book = Book(MOVES)
        self._numbers = itertools.count(1)

    def market(self) -> tuple[str, list[Payload], list[Change]]:
        return self._many("market-data", self._chance.randint(50, 300), self._price)

    def prices(self, symbols: Sequence[str]) -> tuple[str, list[Payload], list[Change]]:
        payloads, changes = [], []
        for symbol in symbols:
            key, payload, _ = self._price(f"{self.name}/{next(self._numbers)}", symbol)
            payloads.append(payload)
            changes += self.book.enter("market-data", key, payload, end=False)
        return "market-data", payloads, changes

    def positions(self) -> tuple[str, list[Payload], list[Change]]:
        return self._many("positions", self._chance.randint(1, 40), self._position)

    def one(self) -> tuple[str, list[Payload], list[Change]]:
        kinds = {
            "positions": self._position,
            "risk-alerts": self._alert,
            "trader-status": self._trader,
            "market-data": self._price,
        }
        channel = self._chance.choice(list(kinds))
        return self._many(channel, 1, kinds[channel])

    def _many(
        self, channel: str, count: int, make: Callable[[str], tuple[str, Payload, bool]]
    ) -> tuple[str, list[Payload], list[Change]]:
        payloads, changes = [], []
        for _ in range(count):
            key, payload, end = make(f"{self.name}/{next(self._numbers)}")
            payloads.append(payload)
            changes += self.book.enter(channel, key, payload, end=end)
        return channel, payloads, changes

    def _price(self, mark: str, symbol: str = "") -> tuple[str, Payload, bool]:
        symbol = symbol or f"S{self._chance.randrange(40)}"
        payload = price(symbol, self.name, id=mark, price=f"{self._chance.randrange(10**6)}.50")
        return f"{self.name}:{symbol}", payload, False

    def _position(self, mark: str) -> tuple[str, Payload, bool]:
        key = f"{self.name}-{self._chance.randrange(6)}"
        before = self.book.rows.get(("positions", key))
        payload = position(key, f"t{self._chance.randrange(3)}", reason=mark)
        if before is not None:
            # It moves, or it is closed, or it is sent anew.
            match self._chance.randrange(4):
                case 0:
                    payload["symbol"] = f"S{self._chance.randrange(3)}"
                case 1:
                    payload = {**before, "reason": mark, "status": "CLOSED", "isActive": False}
                case _:
                    payload = {**before, "reason": mark, "status": "UPDATED"}
        return key, payload, payload["status"] == "CLOSED"

    def _alert(self, mark: str) -> tuple[str, Payload, bool]:
        key = f"{self.name}-{self._chance.randrange(4)}"
        before = self.book.rows.get(("risk-alerts", key))
        severity = self._chance.choice(["INFO", "WARNING", "CRITICAL"])
        payload = alert(key, None, severity=severity, message=f'{mark} €\u2028 "x"\n')
        if before is not None and self._chance.random() < 0.3:
            payload = {**before, "message": payload["message"], "status": "RESOLVED"}
        return key, payload, payload["status"] == "RESOLVED"

    def _trader(self, mark: str) -> tuple[str, Payload, bool]:
        key = f"{self.name}-{self._chance.randrange(2)}"
        status = self._chance.choice(["RUNNING", "PAUSED", "ERROR"])
        return key, trader(key, status=status, strategy=mark), False


class Ledger:
    """Keeps the record of what the publishers do, and how far they are."""

    def __init__(self, record: History) -> None:
        self.record = record
        self.repeated = 0
        """Publishes that were unanswered when the service went and were sent again."""
        self.known = 0
        """Those of them that had been committed all the same."""
        self.answered = asyncio.Semaphore(0)
        self.waiting: set[Publish] = set()
        """Sent, and not answered yet."""
        self.enough = False

    def sent(self, who: str, changes: Sequence[Change]) -> Publish:
        made = self.record.publish(who, changes)
        self.waiting.add(made)
        return made

    def reported(self, made: Publish, position: str, *, duplicate: bool, again: bool) -> None:
        epoch, _, last = position.rpartition(":")
        self.record.acknowledge(made, epoch, int(last))
        self.waiting.discard(made)
        self.repeated += again
        self.known += again and duplicate
        assert again or not duplicate, f"{made.publisher} had not sent it before"
        self.answered.release()

    async def answers(self, count: int) -> None:
        """Wait for so many more."""
        for _ in range(count):
            await self.answered.acquire()


async def by_rest(own: Place, desk: Desk, ledger: Ledger, *, batches: bool) -> None:
    """One request after the other; NDJSON batches, or single payloads."""
    async with aiohttp.ClientSession(headers=own.headers) as session:
        for count in itertools.count():
            if ledger.enough:
                return
            if batches:
                channel, payloads, changes = desk.positions() if count % 3 else desk.market()
                body = b"\n".join(map(orjson.dumps, payloads))
            else:
                channel, payloads, changes = desk.one()
                body = orjson.dumps(payloads[0])
            headers = {
                "Content-Type": "application/x-ndjson" if batches else "application/json",
                "Idempotency-Key": f"{desk.name}-{count}",
            }
            made = ledger.sent(desk.name, changes)
            reported, tries = None, 0
            while reported is None:
                await own.up.wait()
                reported, tries = await post(own, session, channel, body, headers), tries + 1
            assert reported["accepted"] == len(payloads), reported
            assert reported["lastSeq"] - reported["firstSeq"] + 1 == len(changes), (
                reported,
                changes,
            )
            again = tries > 1
            ledger.reported(
                made, reported["position"], duplicate=bool(reported.get("duplicate")), again=again
            )


async def post(
    own: Place,
    session: aiohttp.ClientSession,
    channel: str,
    body: bytes,
    headers: Mapping[str, str],
) -> dict[str, Any] | None:
    """The receipt; None where there was no answer, or one that leaves it open."""
    try:
        async with session.post(
            f"{own.url}/api/v1/channels/{channel}/events", data=body, headers=headers
        ) as response:
            answer = orjson.loads(await response.read())
    except LOST:
        return None
    if response.status == 503:
        await asyncio.sleep(BUSY_SECONDS)
        return None
    assert response.status == 201, answer
    receipt: dict[str, Any] = answer["data"]
    return receipt


async def once_only(own: Place, desk: Desk, ledger: Ledger) -> None:
    """Prices that nobody asks about again: whether an unanswered one is there is never known."""
    async with aiohttp.ClientSession(headers=own.headers) as session:
        while not ledger.enough:
            await own.up.wait()
            channel, payloads, changes = desk.market()
            made = ledger.sent(desk.name, changes)
            body = orjson.dumps(payloads)
            reported = await post(own, session, channel, body, {"Content-Type": "application/json"})
            if reported is not None:
                ledger.reported(
                    made,
                    reported["position"],
                    duplicate=bool(reported.get("duplicate")),
                    again=False,
                )
            ledger.waiting.discard(made)


async def by_ws(own: Place, desk: Desk, ledger: Ledger) -> None:
    """Several at a time on one connection; what it leaves unanswered goes again, in order."""
    numbers = itertools.count()
    waiting: dict[str, tuple[Publish, dict[str, Any]]] = {}
    again: set[str] = set()
    while waiting or not ledger.enough:
        await own.up.wait()
        try:
            line = await dial("ws", own.port, own.key)
        except (Over, OSError):
            continue
        try:
            for name, (_, command) in waiting.items():
                again.add(name)
                await line.send(command)
            while True:
                while len(waiting) < 12 and not ledger.enough:
                    name = f"{desk.name}-{next(numbers)}"
                    channel, (payload,), changes = desk.one()
                    said = {"channel": channel, "data": payload, "idempotencyKey": name}
                    command = {"action": "publish", "reqId": name, **said}
                    waiting[name] = ledger.sent(desk.name, changes), command
                    await line.send(command)
                if not waiting:
                    break
                reported = await line.read()
                if reported.type == "error" and reported.body["retryable"]:
                    break  # the journal can't go on: it is as if nobody had answered
                if reported.type != "ack":
                    assert reported.type in ("welcome", "heartbeat"), reported
                    continue
                name = reported.body["reqId"]
                assert name == next(iter(waiting)), "answers come in the order of the publishes"
                made, _ = waiting.pop(name)
                body = reported.body
                ledger.reported(
                    made, body["position"], duplicate=body["duplicate"], again=name in again
                )
        except Over:
            pass
        finally:
            line.cut()


async def say_end(own: Any, ledger: Ledger) -> None:
    payload = alert(END, None)
    made = ledger.sent("end", [Change("risk-alerts", "upsert", END, payload)])
    reported = await publish(own, "risk-alerts", payload)
    ledger.reported(
        made, reported["position"], duplicate=bool(reported.get("duplicate")), again=False
    )


# --- who listens


class Listener:
    """Hears until the end over many connections, each begun where the last one proved to be."""

    def __init__(
        self,
        own: Place,
        record: History,
        name: str,
        chance: random.Random,
        *,
        transports: Sequence[str] = ("ws",),
        channels: Sequence[str] = CHANNELS,
        first: str = "earliest",
        receive_buffer: int | None = None,
        cuts: Sequence[int] = (3, 40, 300, 2_000),
        appetites: Sequence[int] = (61, 211, 1_009, 65_536),
        **query: Any,
    ) -> None:
        """`cuts` are messages after which it may cut a connection, `appetites` bytes that it
        may take at once; `query` is for both transports."""
        self.name = name
        self.heard: list[bytes] = []
        self.positions: list[str] = []
        """All that it was sent."""
        self.types: Counter[str] = Counter()
        self.cuts: Counter[str] = Counter()
        self._own = own
        self._record = record
        self._transports: Iterator[str] = itertools.cycle(transports)
        self._chance = chance
        self._channels = list(channels)
        self._first = first
        self._most = cuts
        self._appetites = appetites
        self._receive_buffer = receive_buffer
        self._query = {"delivery": "all", **query}
        self.reads = asyncio.Event()
        """While this is not set, it takes nothing."""
        self.reads.set()
        self.stays = asyncio.Event()
        """While this is not set, it is away: it goes after its next message."""
        self.stays.set()
        self.away = asyncio.Event()
        self.live = asyncio.Event()
        self._proven: str | None = None
        self._done = False

    @property
    def start(self) -> str:
        return self._proven or self._first

    def wants(self, event: Event) -> bool:
        if event["channel"] not in self._channels:
            return False
        for name, field in FILTERED_BY[event["channel"]].items():
            value = event["data"].get(field)
            if name in self._query and value is not None and value != self._query[name]:
                return False
        return True

    async def listen(self) -> None:
        """Until it has heard of the end."""
        while not self._done:
            if not self.stays.is_set():
                self.away.set()
            await self.stays.wait()
            await self._own.up.wait()
            self.away.clear()
            transport = next(self._transports)
            session = self._record.session(
                self.name, wants=self.wants, delivery=self._query["delivery"], start=self.start
            )
            try:
                line = await self.dial(transport)
            except (Over, OSError):
                continue
            ended = False
            try:
                await self.hear(line, session, self._chance.choice(self._most))
            except Over:
                ended = True
            finally:
                self.live.clear()
                midway = line.cut()
            how = "with the service" if ended else "in a message" if midway else "between two"
            self.cuts[f"{transport} {how}"] += 1

    async def dial(self, transport: str) -> Line:
        """Connect, in one of the ways that a client may say where it was."""
        own, start = self._own, self.start
        how = {
            "receive_buffer": self._receive_buffer,
            "appetite": self._chance.choice(self._appetites),
        }
        since = {} if start == "snapshot" else {"since": start}
        query = {"channels": ",".join(self._channels), **self._query}
        if transport == "sse" and self._proven is not None and self._chance.random() < 0.5:
            # As an EventSource does: the address is the first one's, the header goes before it.
            return await dial(
                *(transport, own.port, own.key),
                **how,
                last_event_id=start,
                since="earliest",
                **query,
            )
        fields = self._query.keys() & FILTERED_BY["positions"].keys()
        if transport == "ws" and not fields and self._chance.random() < 0.5:
            line = await dial(transport, own.port, own.key, **how, **self._query)
            try:
                await line.send({"action": "subscribe", "channels": self._channels, **since})
            except Over:
                line.cut()
                raise
            return line
        return await dial(transport, own.port, own.key, **how, **since, **query)

    async def hear(self, line: Line, session: Session, most: int) -> None:
        """So many messages, or up to the end."""
        count: int | None = None
        for _ in range(most):
            await self.reads.wait()
            reported = await line.read()
            session.heard.append((reported.json, reported.position))
            self.types[reported.type] += 1
            match reported.type:
                case "snapshot":
                    # What it held is forgotten; if this breaks off, it must start over.
                    self._proven = None
                    count = count or 0
                case "resume":
                    count = count or 0
                case "event":
                    self.heard.append(reported.json)
                    count = None if count is None else count + 1
                case "live":
                    assert reported.body["count"] == (count or 0), (self.name, reported, count)
                    count = None
                    self.live.set()
            if reported.position:
                self._proven = reported.position
                self.positions.append(reported.position)
            if reported.type == "event" and reported.body["key"] == END:
                session.settled = self._done = True
                return
            if not self.stays.is_set():
                return


async def kept(own: Any) -> tuple[str, Kept]:
    """The epoch, and all that the journal has now: for when nothing is published any more."""
    found: list[bytes] = []
    for name in CHANNELS:
        found += await history(own, name)
    found.sort(key=lambda json: orjson.loads(json)["seq"])
    floors: dict[str, int] = {}
    head, epoch = 0, ""
    for name in CHANNELS:
        path = f"/api/v1/channels/{name}/events"
        page = orjson.loads(await ask(own, path, limit=5000))["data"]
        epoch = page["position"].partition(":")[0]
        # Asked for after the events were read: what has gone since is below it.
        page = orjson.loads(await ask(own, path, limit=1, after=f"{epoch}:0"))["data"]
        floors[name] = page["gap"]["toSeq"] if page["gap"] else 0
    head = max((orjson.loads(json)["seq"] for json in found), default=0)
    return epoch, Kept(found, head, floors)


@asynccontextmanager
async def working(*tasks: Any) -> AsyncIterator[None]:
    """Runs these beside the block, and ends the block if one of them fails; all end with it."""
    async with asyncio.TaskGroup() as group:
        for each in tasks:
            group.create_task(each)
        yield
