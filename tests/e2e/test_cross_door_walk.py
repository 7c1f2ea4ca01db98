"""The walk: publishers that repeat, listeners that are cut and change doors, a service that is
killed while it commits. In the end there is one history, and everybody has it, byte for byte.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from history import Book, Change, Publish, listener_flaws, publisher_flaws
from payloads import Payload, alert, position, price, trader
from process import CHANNELS, Service, service
from raw import Line, Over, dial
from rest import history, publish

KILLS = 8
ANSWERS_A_ROUND = 60
"""Publishes that are answered between two kills at the least."""
TAPE_EVENTS = 400
"""So few that a listener who was away needs the journal for what the tape has lost."""
MOST_SECONDS = 90
END = "the end"
"""The key of the very last event."""
FILTERS = {
    "positions": ("traderId", "exchange", "symbol"),
    "risk-alerts": ("traderId", "severity"),
    "trader-status": ("id", "exchange", "symbol"),
}
EXPECTED = {"welcome", "ack", "resume", "event", "live", "heartbeat"}
"""All that a listener of everything, from the beginning, may ever be told."""

LOST = (aiohttp.ClientError, OSError, TimeoutError)


# --- what is published


class Desk:
    """Thinks up what one publisher says, and knows what its rows must become."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.name = name
        self._chance = chance
        self._book = Book(FILTERS)
        self._numbers = itertools.count(1)

    def market(self) -> tuple[str, list[Payload], list[Change]]:
        return self._many("market-data", self._chance.randint(50, 300), self._price)

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
            changes += self._book.enter(channel, key, payload, end=end)
        return channel, payloads, changes

    def _price(self, mark: str) -> tuple[str, Payload, bool]:
        symbol = f"S{self._chance.randrange(40)}"
        payload = price(symbol, self.name, id=mark, price=f"{self._chance.randrange(10**6)}.50")
        return f"{self.name}:{symbol}", payload, False

    def _position(self, mark: str) -> tuple[str, Payload, bool]:
        key = f"{self.name}-{self._chance.randrange(6)}"
        before = self._book.rows.get(("positions", key))
        payload = position(key, f"t{self._chance.randrange(3)}", reason=mark)
        if before is not None:
            # It moves, or it is closed, or it is told anew.
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
        before = self._book.rows.get(("risk-alerts", key))
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
    """What the publishers were answered, and how far they are."""

    def __init__(self) -> None:
        self.publishes: list[Publish] = []
        self.repeated = 0
        """Publishes that were unanswered at a kill and sent again."""
        self.known = 0
        """Those of them that had been committed all the same."""
        self.answered = asyncio.Semaphore(0)
        self.under_way = 0
        self.enough = False

    def note(
        self, name: str, changes: Sequence[Change], told: dict[str, Any], last: int, *, again: bool
    ) -> None:
        self.publishes.append(Publish(name, changes, last))
        self.repeated += again
        self.known += again and bool(told.get("duplicate"))
        assert again or not told.get("duplicate"), f"{name} had not sent it before"
        self.answered.release()


async def by_rest(own: Service, desk: Desk, ledger: Ledger, *, batches: bool) -> None:
    """One request after the other; NDJSON batches, or single payloads."""
    async with aiohttp.ClientSession(headers=own.headers) as session:
        for number in itertools.count():
            if ledger.enough:
                return
            if batches:
                channel, payloads, changes = desk.positions() if number % 3 else desk.market()
                body = b"\n".join(map(orjson.dumps, payloads))
            else:
                channel, payloads, changes = desk.one()
                body = orjson.dumps(payloads[0])
            headers = {
                "Content-Type": "application/x-ndjson" if batches else "application/json",
                "Idempotency-Key": f"{desk.name}-{number}",
            }
            ledger.under_way += 1
            tries = 0
            while True:
                await own.up.wait()
                tries += 1
                try:
                    async with session.post(
                        f"{own.url}/api/v1/channels/{channel}/events", data=body, headers=headers
                    ) as response:
                        answer = orjson.loads(await response.read())
                except LOST:
                    continue
                if response.status == 503:
                    continue
                assert response.status == 201, answer
                break
            ledger.under_way -= 1
            told = answer["data"]
            assert told["accepted"] == len(payloads), told
            assert told["lastSeq"] - told["firstSeq"] + 1 == len(changes), (told, changes)
            ledger.note(desk.name, changes, told, told["lastSeq"], again=tries > 1)


async def by_ws(own: Service, desk: Desk, ledger: Ledger) -> None:
    """Several at a time on one connection; what it leaves unanswered goes again, in order."""
    numbers = itertools.count()
    waiting: dict[str, tuple[str, Payload, Sequence[Change]]] = {}
    again: set[str] = set()
    while waiting or not ledger.enough:
        await own.up.wait()
        try:
            line = await dial("ws", own.port, own.key)
        except (Over, OSError):
            continue
        try:
            for name in waiting:
                again.add(name)
                await line.send(_publish(name, *waiting[name]))
            while True:
                while len(waiting) < 12 and not ledger.enough:
                    name = f"{desk.name}-{next(numbers)}"
                    channel, payloads, changes = desk.one()
                    waiting[name] = channel, payloads[0], changes
                    ledger.under_way += 1
                    await line.send(_publish(name, *waiting[name]))
                if not waiting:
                    break
                told = await line.read()
                if told.type != "ack":
                    assert told.type in ("welcome", "heartbeat"), told
                    continue
                name = told.body["reqId"]
                assert name == next(iter(waiting)), "answers come in the order of the publishes"
                _, _, changes = waiting.pop(name)
                ledger.under_way -= 1
                ledger.note(desk.name, changes, told.body, told.body["seq"], again=name in again)
        except Over:
            pass
        finally:
            line.cut()


def _publish(name: str, channel: str, payload: Payload, _: object) -> dict[str, Any]:
    return {
        "action": "publish",
        "reqId": name,
        "channel": channel,
        "data": payload,
        "idempotencyKey": name,
    }


async def say_end(own: Service, ledger: Ledger) -> None:
    told = await publish(own, "trader-status", trader(END))
    change = Change("trader-status", "upsert", END, trader(END))
    ledger.note("end", [change], told, told["lastSeq"], again=False)


# --- who listens


class Listener:
    """Hears everything from the beginning over many short connections, by turns at its doors."""

    def __init__(
        self, own: Service, name: str, doors: Sequence[str], chance: random.Random
    ) -> None:
        self.name = name
        self.heard: list[bytes] = []
        self.positions = ["earliest"]
        self.epochs: set[str] = set()
        self.cuts: Counter[str] = Counter()
        self._own = own
        self._doors: Iterator[str] = itertools.cycle(doors)
        self._chance = chance
        self._done = False

    @property
    def latest(self) -> int:
        """The seq of the last position that it was told."""
        return int(self.positions[-1].rpartition(":")[2]) if len(self.positions) > 1 else 0

    async def listen(self) -> None:
        """Until it has heard of the end."""
        while not self._done:
            await self._own.up.wait()
            door = next(self._doors)
            try:
                line = await self._dial(door)
            except (Over, OSError):
                continue
            ended = False
            try:
                await self._hear(line, self._chance.choice([3, 40, 300, 2_000]))
            except Over:
                ended = True
            finally:
                midway = line.cut()
            how = "with the service" if ended else "in a message" if midway else "between two"
            self.cuts[f"{door} {how}"] += 1

    async def _dial(self, door: str) -> Line:
        appetite = self._chance.choice([61, 211, 1_009, 65_536])
        since = self.positions[-1]
        everything = {"channels": ",".join(CHANNELS), "delivery": "all"}
        own = self._own
        if door == "sse" and since != "earliest" and self._chance.random() < 0.5:
            # As an EventSource does: the address is the first one's, the header goes before it.
            return await dial(
                *(door, own.port, own.key),
                appetite=appetite,
                last_event_id=since,
                since="earliest",
                **everything,
            )
        if door == "ws" and self._chance.random() < 0.5:
            line = await dial(door, own.port, own.key, appetite=appetite, delivery="all")
            try:
                await line.send({"action": "subscribe", "channels": list(CHANNELS), "since": since})
            except Over:
                line.cut()
                raise
            return line
        return await dial(door, own.port, own.key, appetite=appetite, since=since, **everything)

    async def _hear(self, line: Line, most: int) -> None:
        count: int | None = None
        for _ in range(most):
            told = await line.read()
            assert told.type in EXPECTED, (self.name, told, self.positions[-3:])
            match told.type:
                case "welcome":
                    self.epochs.add(told.body["head"].partition(":")[0])
                case "resume":
                    came_from = "earliest" if len(self.positions) == 1 else self.positions[-1]
                    asked = told.body["from"]
                    assert asked == came_from or asked.endswith(":0"), (asked, came_from)
                    count = 0
                case "event":
                    self.heard.append(told.json)
                    count = None if count is None else count + 1
                case "live":
                    assert told.body["count"] == count, (self.name, told, count)
                    count = None
            if told.position is not None:
                seq = int(told.position.rpartition(":")[2])
                assert seq >= self.latest, (self.name, told, self.positions[-3:])
                self.positions.append(told.position)
            if told.type == "event" and told.body["key"] == END:
                self._done = True
                return


# --- how it is killed


def kill_in_commit(pid: int, log: Path, looks: int) -> None:
    """Wait, in a thread, until the journal's log is being written; kill then.

    `looks` are changes of the log that are let pass first.
    """
    before = _state(log)
    while True:
        now = _state(log)
        if now != before:
            if not looks:
                break
            before, looks = now, looks - 1
    os.kill(pid, signal.SIGKILL)


def _state(log: Path) -> tuple[int, int] | None:
    try:
        found = log.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def torn(log: Path) -> int:
    """Pages at the log's end whose commit was not written any more (SQLite's format of it)."""
    data = log.read_bytes() if log.exists() else b""
    size, salts = int.from_bytes(data[8:12], "big"), data[16:24]
    loose = 0
    for start in range(32, len(data) - 24, 24 + size) if size else ():
        frame = data[start : start + 24]
        if frame[8:16] != salts:
            break
        loose = 0 if any(frame[4:8]) else loose + 1
    return loose


@asynccontextmanager
async def working(*tasks: Any) -> AsyncIterator[None]:
    """Runs these beside the block, and ends the block if one of them fails; all end with it."""
    async with asyncio.TaskGroup() as group:
        for each in tasks:
            group.create_task(each)
        yield


# --- the walk


async def test_through_cuts_changes_of_doors_and_kills_there_is_one_history(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = random.randrange(2**32)
    try:
        async with asyncio.timeout(MOST_SECONDS), service(tmp_path, tape_events=TAPE_EVENTS) as own:
            for name, figure in (await walk(own, random.Random(seed))).items():
                record_property(name, figure)
    except BaseException:
        print(f"The walk's seed is {seed}.")
        raise


async def walk(own: Service, chance: random.Random) -> dict[str, object]:
    ledger = Ledger()

    def apart() -> random.Random:
        return random.Random(chance.random())

    def desk(name: str) -> Desk:
        return Desk(name, apart())

    listeners = [
        Listener(own, "one", ["sse", "ws"], apart()),
        Listener(own, "two", ["ws", "sse", "sse", "ws", "sse"], apart()),
        Listener(own, "always ws", ["ws"], apart()),
    ]
    publishers = [
        by_rest(own, desk("single"), ledger, batches=False),
        by_rest(own, desk("batch"), ledger, batches=True),
        by_rest(own, desk("bulk"), ledger, batches=True),
        by_ws(own, desk("socket"), ledger),
    ]
    told_before: list[list[str]] = []
    torn_pages, in_flight = [], []
    async with working(*(listener.listen() for listener in listeners)):
        async with working(*publishers):
            for _ in range(KILLS):
                for _ in range(ANSWERS_A_ROUND + chance.randrange(ANSWERS_A_ROUND)):
                    await ledger.answered.acquire()
                log = own.database.with_name(f"{own.database.name}-wal")
                await asyncio.to_thread(kill_in_commit, own.pid, log, chance.randrange(4))
                in_flight.append(ledger.under_way)
                assert await own.gone() == -signal.SIGKILL
                torn_pages.append(torn(log))
                told_before.append([p for each in listeners for p in each.positions[1:]])
                await own.start()
            for _ in range(ANSWERS_A_ROUND):
                await ledger.answered.acquire()
            ledger.enough = True
        await say_end(own, ledger)

    truth = sorted(
        [json for name in CHANNELS for json in await history(own, name)],
        key=lambda json: orjson.loads(json)["seq"],
    )
    assert publisher_flaws(truth, ledger.publishes) == []
    for listener in listeners:
        assert listener_flaws(truth, listener.heard) == [], listener.name
        assert listener.heard == truth
    (epoch,) = set().union(*(listener.epochs for listener in listeners))
    for positions in told_before:
        for told in chance.sample(positions, 3):
            assert told.startswith(f"{epoch}:")
            await resumes_right(own, told, truth)
    assert min(in_flight) > 0, "every kill came while publishes were under way"
    cuts = sum((listener.cuts for listener in listeners), Counter())
    assert cuts["ws in a message"], cuts
    assert cuts["sse in a message"], cuts
    return {
        "events": len(truth),
        "publishes": len(ledger.publishes),
        "unanswered at a kill": ledger.repeated,
        "of these committed": ledger.known,
        "under way at each kill": in_flight,
        "torn pages at each kill": torn_pages,
        "connections": sum(cuts.values()),
        "cuts": dict(cuts),
    }


async def resumes_right(own: Service, position: str, truth: Sequence[bytes]) -> None:
    """From a position that was told some deaths ago, both doors and REST tell the same rest."""
    after = int(position.rpartition(":")[2])
    rest = [json for json in truth if orjson.loads(json)["seq"] > after]
    for door in ("ws", "sse"):
        line = await dial(
            *(door, own.port, own.key), since=position, channels=",".join(CHANNELS), delivery="all"
        )
        try:
            await line.expect("welcome", "ack")
            assert (await line.expect("resume")).body["from"] == position
            told = await line.until("live")
            assert [each.json for each in told[:-1]] == rest
        finally:
            line.cut()
    for name in CHANNELS:
        asked = [json for json in rest if orjson.loads(json)["channel"] == name]
        assert await history(own, name, after=position) == asked


# --- the walk's own tools


@pytest.mark.parametrize("commits", [0, 1, 2])
def test_pages_without_their_commit_are_counted(tmp_path: Path, commits: int) -> None:
    size, salts = 512, b"saltsalt"
    head = bytes(8) + size.to_bytes(4, "big") + bytes(4) + salts + bytes(8)

    def frame(commit: int, salt: bytes = salts) -> bytes:
        return bytes(4) + commit.to_bytes(4, "big") + salt + bytes(8) + bytes(size)

    whole = (frame(0) + frame(9)) * commits
    log = tmp_path / "log"
    log.write_bytes(head + whole + frame(0) * 3 + frame(9, b"stalesal"))
    assert torn(log) == 3
    log.write_bytes(head + whole)
    assert torn(log) == 0
