"""Retention that overtakes one who comes back late, or reads slowly, at the real service."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.checking import watched
from tests.support.checking.history import History
from tests.support.checking.judge import check
from tests.support.checking.traffic import PINS, Desk, Ledger, Listener, kept, say_end, working
from tests.support.payloads import position, price
from tests.support.service.process import PATIENCE, Service
from tests.support.service.rest import ask, publish
from tests.support.sockets.raw import ServerMessage, dial

PRICES = 3 * watched.KEEP["market-data"]
BATCH = 1_500
ENDED = 1_200
"""Positions that open and close: more than the tape keeps of what is pinned."""


@asynccontextmanager
async def forgetful(folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    patch.setenv("WATCHED", str(folder / "byte"))
    own = Service(folder, program=[watched.__file__], tape_events=50)
    try:
        await own.start()
        yield own
        await own.stop()
        assert not own.complaints()
    finally:
        await own.end()


async def say_prices(own: Service, count: int = PRICES) -> int:
    """So many of three instruments; the last one's seq."""
    last = 0
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        reported = await publish(
            own, "market-data", *(price(f"S{n % 3}", price=f"{n}.5") for n in numbers)
        )
        last = reported["lastSeq"]
    return last


async def trimmed(own: Service, channel: str, position: str, upto: int) -> None:
    """Until this is gone."""
    async with asyncio.timeout(PATIENCE):
        while True:
            path = f"/api/v1/channels/{channel}/events"
            gap = orjson.loads(await ask(own, path, after=position, limit=1))["data"]["gap"]
            if gap and gap["toSeq"] >= upto:
                return


async def before_and_after_a_restart(own: Service) -> AsyncIterator[str]:
    """Both transports, twice."""
    for transport in ("ws", "sse"):
        yield transport
    await own.stop()
    await own.start()
    for transport in ("ws", "sse"):
        yield transport


async def opening(own: Service, transport: str, **query: Any) -> list[ServerMessage]:
    line = await dial(transport, own.port, own.key, **query)
    try:
        await line.expect("welcome", "ack")
        return await line.until("live")
    finally:
        line.cut()


async def test_a_late_resume_of_everything_is_sent_exactly_what_exists_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with forgetful(tmp_path, monkeypatch) as own:
        start = (await publish(own, "market-data", *(price("S0") for _ in range(5))))["position"]
        last = await say_prices(own)
        gone = last - watched.KEEP["market-data"]
        await trimmed(own, "market-data", start, gone)
        async for transport in before_and_after_a_restart(own):
            asked = {"channels": "market-data", "since": start}
            resume, gap, *events, live = await opening(own, transport, delivery="all", **asked)
            assert (resume.type, resume.body["from"]) == ("resume", start)
            reported = {name: gap.body[name] for name in ("type", "channel", "fromSeq", "toSeq")}
            assert reported == {
                "type": "gap",
                "channel": "market-data",
                "fromSeq": 6,
                "toSeq": gone,
            }
            assert [event.seq for event in events] == list(range(gone + 1, last + 1))
            assert live.body["count"] == watched.KEEP["market-data"]
            # Only prices went, which newer ones cover: who wants the rows is sent no more.
            resume, conflated, *events, live = await opening(own, transport, **asked)
            assert (resume.type, resume.body["from"]) == ("resume", start)
            assert (conflated.type, conflated.body["fromSeq"]) == ("conflated", 6)
            assert [event.seq for event in events][-3:] == [last - 2, last - 1, last]


async def test_where_ends_of_rows_were_trimmed_a_late_resume_starts_over_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with forgetful(tmp_path, monkeypatch) as own:
        start = (await publish(own, "positions", position("ghost")))["position"]
        lives = [
            position(f"p{number}", status=status, isActive=status == "OPEN")
            for number in range(ENDED)
            for status in ("OPEN", "CLOSED")
        ]
        closed = position("ghost", status="CLOSED", isActive=False)
        await publish(own, "positions", closed, *lives[:ENDED])
        receipt = await publish(own, "positions", *lives[ENDED:], position("new"))
        gone = receipt["lastSeq"] - watched.KEEP["positions"]
        await trimmed(own, "positions", start, gone)
        await publish(own, "market-data", price("S0"))
        async for transport in before_and_after_a_restart(own):
            for delivery in ("conflated", "all"):
                reported = await opening(
                    *(own, transport),
                    channels="positions,market-data",
                    since=start,
                    delivery=delivery,
                )
                types = [each.type for each in reported]
                assert types == ["snapshot", "event", "resume", "event", "live"]
                snapshot, row, resume, event, _ = (each.body for each in reported)
                reset = snapshot["channels"], snapshot["reason"]
                assert reset == (["positions"], "POSITION_EXPIRED")
                assert row["key"] == "new", "the ghost is gone"
                assert resume["channels"] == ["market-data"] == [event["channel"]]


async def test_one_that_retention_overtakes_while_it_reads_is_sent_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops in the middle of its resume; what it was not told yet is trimmed meanwhile."""
    record = History(seed=random.randrange(2**32), pins=PINS)
    chance = random.Random(record.seed)
    ledger = Ledger(record)
    desk = Desk("desk", chance)
    async with forgetful(tmp_path, monkeypatch) as own:

        async def say(count: int) -> str:
            symbols = [f"S{number % 3}" for number in range(count)]
            channel, payloads, changes = desk.prices(symbols)
            made = ledger.sent("desk", changes)
            reported = await publish(own, channel, *payloads)
            ledger.reported(made, reported["position"], duplicate=False, again=False)
            position: str = reported["position"]
            return position

        def listener(name: str, transport: str, delivery: str, **how: Any) -> Listener:
            how = {"delivery": delivery, "cuts": (10**6,), "appetites": (4_096,), **how}
            return Listener(own, record, name, chance, transports=[transport], **how)

        slow = [
            listener(f"{delivery} {transport}", transport, delivery, receive_buffer=4_096)
            for delivery in ("all", "conflated")
            for transport in ("ws", "sse")
        ]
        witness = listener("witness", "ws", "all", first="earliest")
        first = await say(1)
        async with working(*(each.listen() for each in (witness, *slow))):
            for each in (witness, *slow):
                await each.live.wait()
            for each in slow:
                each.reads.clear()
            for _ in range(6):
                last = await say(BATCH)
            gone = int(last.partition(":")[2]) - watched.KEEP["market-data"]
            await trimmed(own, "market-data", first, gone)
            for each in slow:
                each.reads.set()
            await say_end(own, ledger)
        epoch, record.kept[epoch] = await kept(own)
        check(record)
        reported = {
            each.name: {kind: each.types[kind] for kind in ("gap", "conflated")} for each in slow
        }
        for transport in ("ws", "sse"):
            assert reported[f"all {transport}"] == {"gap": 1, "conflated": 0}, reported
            assert reported[f"conflated {transport}"]["gap"] == 0, reported
            assert reported[f"conflated {transport}"]["conflated"] > 0, reported
