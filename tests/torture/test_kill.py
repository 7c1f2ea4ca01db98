"""kill -9, again and again, in the middle of group commits and of trims, under load over both
transports.

Afterwards every acknowledged event was there exactly once, no number ever stood for two events,
and every position that was sent is good. `TELECAST_ROUNDS` says how often.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from tests.support.checking import watched
from tests.support.checking.history import History
from tests.support.checking.judge import check
from tests.support.checking.killing import kill_while, torn
from tests.support.checking.traffic import (
    PINS,
    Desk,
    Ledger,
    Listener,
    by_rest,
    by_ws,
    kept,
    once_only,
    say_end,
    working,
)
from tests.support.service.process import Service

ROUNDS = int(os.environ.get("TELECAST_ROUNDS", "20"))
ANSWERS_A_ROUND = 30
TAPE_EVENTS = 400
SECONDS_A_ROUND = 30


@pytest.mark.timeout(60 + ROUNDS * SECONDS_A_ROUND)
async def test_killed_in_commits_and_in_trims_nothing_acknowledged_is_lost_or_doubled(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    record = History(seed=random.randrange(2**32), pins=PINS)
    monkeypatch.setenv("WATCHED", str(tmp_path / "byte"))
    own = Service(tmp_path, program=[watched.__file__], tape_events=TAPE_EVENTS)
    try:
        await own.start()
        figures = await torment(own, record, tmp_path / "byte")
        await own.stop()
    finally:
        await own.end()
        print(f"seed {record.seed}")
    for name, figure in figures.items():
        record_property(name, figure)
        print(f"{name}: {figure}")
    assert not own.complaints()


async def torment(own: Service, record: History, byte: Path) -> dict[str, object]:
    chance = random.Random(record.seed)
    ledger, shown = Ledger(record), watched.byte(byte)

    def apart() -> random.Random:
        return random.Random(chance.random())

    def desk(name: str) -> Desk:
        return Desk(name, apart())

    both = ["sse", "ws"]
    listeners = [
        Listener(own, record, "all", apart(), transports=both),
        Listener(own, record, "all by ws", apart(), cuts=(10**6,), appetites=(2**16,)),
        Listener(own, record, "all by sse", apart(), transports=["sse"], appetites=(2**16,)),
        Listener(
            own, record, "rows", apart(), transports=both, first="snapshot", delivery="conflated"
        ),
        Listener(
            own, record, "rows of t1", apart(), transports=both, delivery="conflated", traderId="t1"
        ),
        Listener(own, record, "rated", apart(), transports=both, delivery="conflated", maxRate=20),
    ]
    publishers = [
        by_rest(own, desk("single"), ledger, batches=False),
        by_rest(own, desk("batch"), ledger, batches=True),
        by_ws(own, desk("socket"), ledger),
        by_ws(own, desk("other socket"), ledger),
        once_only(own, desk("once"), ledger),
    ]
    log = own.database.with_name(f"{own.database.name}-wal")
    inside: Counter[str] = Counter()
    under_way = 0
    async with working(*(each.listen() for each in listeners)):
        async with working(*publishers):
            for round_ in range(ROUNDS):
                await ledger.answers(ANSWERS_A_ROUND)
                doing = (watched.COMMITS, watched.TRIMS)[round_ % 2]
                # By turns while the log is being written, and at any moment.
                mid, times = round_ % 4 < 2, chance.randrange(1, 6)
                spins = chance.randrange(20 if mid else 2_000)
                await asyncio.to_thread(
                    *(kill_while, own.pid, shown, doing, log if mid else None),
                    times=times,
                    spins=spins,
                )
                assert await own.gone() == -signal.SIGKILL
                under_way += len(ledger.waiting)
                inside[{b"C": "a commit", b"T": "a trim"}.get(shown[:1], "neither")] += 1
                inside["with pages whose commit is missing"] += torn(log) > 0
                shown[:1] = watched.RESTS
                await own.start()
            await ledger.answers(ANSWERS_A_ROUND)
            ledger.enough = True
        await say_end(own, ledger)
    epoch, record.kept[epoch] = await kept(own)
    check(record)
    assert inside["a commit"] >= ROUNDS // 4, inside
    assert inside["a trim"] >= ROUNDS // 4, inside
    unanswered = [each for each in record.publishes if not each.answers]
    reported = {
        orjson.loads(json)["seq"]
        for session in record.sessions
        for json, _ in session.heard
        if b'"type":"event"' in json
    }
    return {
        "rounds": ROUNDS,
        "kills inside": dict(inside),
        "events": record.kept[epoch].head,
        "of these trimmed since": record.kept[epoch].head - len(record.kept[epoch].events),
        "of these heard by somebody": len(reported),
        "publishes": len(record.publishes),
        "under way at a kill": under_way,
        "repeated": ledger.repeated,
        "of these committed": ledger.known,
        "never repeated": len(unanswered),
        "connections": len(record.sessions),
        "gaps sent": sum(each.types["gap"] for each in listeners),
        "resets sent": sum(each.types["snapshot"] for each in listeners),
    }
