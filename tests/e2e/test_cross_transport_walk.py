"""The walk: publishers that repeat, listeners that are cut and change transports, a service that is
killed while it commits. In the end there is one history, and everybody has it, byte for byte.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
import pytest

from tests.support.checking.history import History
from tests.support.checking.judge import check
from tests.support.checking.killing import kill_in_commit, torn
from tests.support.checking.traffic import (
    CHANNELS,
    PINS,
    Desk,
    Ledger,
    Listener,
    by_rest,
    by_ws,
    kept,
    say_end,
    working,
)
from tests.support.service.process import Service, service
from tests.support.service.rest import history
from tests.support.sockets.raw import dial

KILLS = int(os.environ.get("TELECAST_KILLS", "4"))
ANSWERS_A_ROUND = 60
"""Publishes that are answered between two kills at the least."""
TAPE_EVENTS = 400
"""So few that a listener who was away needs the journal for what the tape has lost."""
MOST_SECONDS = 60 + 30 * KILLS
"""Several times what it takes: a machine may be busy with other things."""
EXPECTED = {"welcome", "ack", "resume", "event", "live", "heartbeat", "stale", "fresh"}
"""All that a listener of everything, from the beginning, may ever be sent."""


@pytest.mark.timeout(2 * MOST_SECONDS)
async def test_through_cuts_changes_of_transports_and_kills_there_is_one_history(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record = History(seed=random.randrange(2**32), pins=PINS)
    try:
        async with asyncio.timeout(MOST_SECONDS), service(tmp_path, tape_events=TAPE_EVENTS) as own:
            for name, figure in (await walk(own, record)).items():
                record_property(name, figure)
    except BaseException:
        print(f"The walk's seed is {record.seed}.")
        raise


async def walk(own: Service, record: History) -> dict[str, object]:
    chance = random.Random(record.seed)
    ledger = Ledger(record)

    def apart() -> random.Random:
        return random.Random(chance.random())

    def desk(name: str) -> Desk:
        return Desk(name, apart())

    transports = {
        "one": ["sse", "ws"],
        "two": ["ws", "sse", "sse", "ws", "sse"],
        "always ws": ["ws"],
    }
    listeners = [
        Listener(own, record, name, apart(), transports=each) for name, each in transports.items()
    ]
    conflating = [
        Listener(
            own,
            record,
            "rows",
            apart(),
            transports=["ws", "sse"],
            first="snapshot",
            delivery="conflated",
        ),
        Listener(
            own,
            record,
            "of t1",
            apart(),
            transports=["sse", "ws"],
            first="snapshot",
            delivery="conflated",
            traderId="t1",
        ),
        Listener(
            own,
            record,
            "rated",
            apart(),
            transports=["sse", "ws"],
            delivery="conflated",
            maxRate=20,
        ),
    ]
    publishers = [
        by_rest(own, desk("single"), ledger, batches=False),
        by_rest(own, desk("batch"), ledger, batches=True),
        by_rest(own, desk("bulk"), ledger, batches=True),
        by_ws(own, desk("socket"), ledger),
    ]
    told_before: list[list[str]] = []
    torn_pages, in_flight = [], []
    async with working(*(each.listen() for each in (*listeners, *conflating))):
        async with working(*publishers):
            for _ in range(KILLS):
                await ledger.answers(ANSWERS_A_ROUND + chance.randrange(ANSWERS_A_ROUND))
                log = own.database.with_name(f"{own.database.name}-wal")
                await asyncio.to_thread(kill_in_commit, own.pid, log, chance.randrange(4))
                in_flight.append(len(ledger.waiting))
                assert await own.gone() == -signal.SIGKILL
                torn_pages.append(torn(log))
                told_before.append([p for each in listeners for p in each.positions])
                await own.start()
            await ledger.answers(ANSWERS_A_ROUND)
            ledger.enough = True
        await say_end(own, ledger)

    epoch, record.kept[epoch] = await kept(own)
    check(record)
    truth = record.kept[epoch].events
    for listener in listeners:
        assert listener.heard == truth, listener.name
        assert listener.types.keys() <= EXPECTED, listener.types
    for positions in told_before:
        for reported in chance.sample(positions, 3):
            await resumes_right(own, reported, truth)
    assert min(in_flight) > 0, "every kill came while publishes were under way"
    cuts = sum((listener.cuts for listener in listeners), Counter())
    assert cuts["ws in a message"], cuts
    assert cuts["sse in a message"], cuts
    return {
        "events": len(truth),
        "publishes": len(record.publishes),
        "unanswered at a kill": ledger.repeated,
        "of these committed": ledger.known,
        "under way at each kill": in_flight,
        "torn pages at each kill": torn_pages,
        "connections": len(record.sessions),
        "cuts": dict(cuts),
    }


async def resumes_right(own: Service, position: str, truth: Sequence[bytes]) -> None:
    """From a position that was sent some kills ago, both transports and REST tell the same
    rest."""
    after = int(position.rpartition(":")[2])
    rest = [json for json in truth if orjson.loads(json)["seq"] > after]
    for transport in ("ws", "sse"):
        line = await dial(
            *(transport, own.port, own.key),
            since=position,
            channels=",".join(CHANNELS),
            delivery="all",
        )
        try:
            await line.expect("welcome", "ack")
            # After all those deaths a channel may have been quiet for long: that is said, too.
            reported = [
                each for each in await line.until("live") if each.type not in ("stale", "fresh")
            ]
            assert reported[0].type == "resume"
            assert reported[0].body["from"] == position
            assert [each.json for each in reported[1:-1]] == rest
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
