"""Processes that are frozen and go on: the service, and a client. Nobody is cut, nothing is lost.

`TELECAST_FREEZE` says for how many seconds: 30 is more than all that a client may be silent for.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from tests.support.checking.history import History, folded
from tests.support.checking.judge import check
from tests.support.checking.traffic import (
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
from tests.support.payloads import price
from tests.support.service.process import Command, Service, service
from tests.support.service.rest import metric, publish, rows
from tests.support.sockets import raw

FREEZE = float(os.environ.get("TELECAST_FREEZE", "6"))
HEARTBEAT = 5
"""Seconds, the shortest there is."""
CLIENTS = 10
"""At each transport."""
STALL = FREEZE - 1
"""Seconds: by the clock alone, who was full before the freeze is long gone after it."""
ANSWERS = 40
FILLING = 3
"""Batches of BATCH prices, some 1 MB: more than fits into a socket that nobody reads."""
BATCHES, BATCH = 12, 1_000
"""Some 4 MB: more than all sockets between the service and a client that is frozen hold."""


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(120 + 2 * FREEZE)
async def test_a_service_that_was_frozen_cuts_nobody_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats went unanswered and sockets took nothing, but that was its own doing."""
    monkeypatch.setattr(raw, "PATIENCE", 30.0 + FREEZE)
    record = History(seed=random.randrange(2**32), pins=PINS)
    chance = random.Random(record.seed)
    ledger = Ledger(record)
    async with service(tmp_path, stall_seconds=STALL, tape_events=400) as own:
        deliveries = ("all", "conflated")
        listeners = [
            Listener(
                *(own, record, f"{transport} {number}", random.Random(chance.random())),
                transports=[transport],
                delivery=deliveries[number % 2],
                cuts=(10**6,),
                appetites=(2**16,),
                heartbeat=HEARTBEAT,
            )
            for transport in ("ws", "sse")
            for number in range(CLIENTS)
        ]
        full = [
            Listener(
                own,
                record,
                f"full {transport}",
                chance,
                transports=[transport],
                cuts=(10**6,),
                appetites=(2**16,),
                receive_buffer=4_096,
                heartbeat=HEARTBEAT,
            )
            for transport in ("ws", "sse")
        ]
        listeners += full
        filler = Desk("filler", chance)
        publishers = [
            by_rest(own, Desk("batch", chance), ledger, batches=True),
            by_rest(own, Desk("bulk", chance), ledger, batches=True),
            by_ws(own, Desk("socket", chance), ledger),
        ]
        async with working(*(each.listen() for each in listeners)):
            for each in listeners:
                await each.live.wait()
            async with working(*publishers):
                await ledger.answers(ANSWERS)
                for each in full:
                    each.reads.clear()
                for _ in range(FILLING):
                    await fill(own, filler, ledger)
                with frozen(own.pid):
                    await asyncio.sleep(FREEZE)
                # They read on only once the service has had the time to look at them.
                await ledger.answers(10)
                for each in full:
                    each.reads.set()
                await ledger.answers(ANSWERS)
                ledger.enough = True
            await say_end(own, ledger)
        epoch, record.kept[epoch] = await kept(own)
        assert await metric(own, "telecast_evictions_total") == 0
    check(record)
    assert len(record.sessions) == len(listeners), "nobody had to come back"
    assert ledger.repeated == 0
    for each in listeners:
        assert each.types["notice"] == 0


@pytest.mark.parametrize("transport", ["--ws", "--sse"])
@pytest.mark.parametrize("patience", ["kept", "cut"])
async def test_a_client_that_was_frozen_catches_up_in_order(
    transport: str, patience: str, tmp_path: Path
) -> None:
    """`cut`: it was frozen for longer than the service waits, and has to come back."""
    stall = 45.0 if patience == "kept" else 1.0
    async with service(tmp_path, stall_seconds=stall, tape_events=500) as own:
        total = BATCHES * BATCH
        strict = ("--strict", "--delivery", "all", "--count", str(total + 1))
        everything = await Command.run(("tail", "market-data", transport, "--json", *strict), own)
        newest = await Command.run(("tail", "market-data", transport, "--json"), own)
        tails = everything, newest
        try:
            for each in tails:
                await each.says("# live at")
            async with asyncio.TaskGroup() as reading:
                said = reading.create_task(everything.result())
                heard = reading.create_task(heard_until(newest, "END"))
                with frozen(everything.pid), frozen(newest.pid):
                    for first in range(0, total, BATCH):
                        numbers = range(first, first + BATCH)
                        prices = (price(f"S{n % 50}", price=f"{n}.5") for n in numbers)
                        await publish(own, "market-data", *prices)
                    if patience == "cut":
                        await until(own, "telecast_evictions_total", len(tails))
                await publish(own, "market-data", price("END"))
            status, lines, reported = said.result()
            assert status == 0, reported
            assert [orjson.loads(line)["seq"] for line in lines] == list(range(1, total + 2))
            seqs = [orjson.loads(line)["seq"] for line in heard.result()]
            assert seqs == sorted(set(seqs))
            assert folded(heard.result()) == await rows(own, "market-data")
        finally:
            for each in tails:
                await each.end()
        own.log[:] = [line for line in own.log if b"NO_PROGRESS" not in line]


async def fill(own: Service, desk: Desk, ledger: Ledger) -> None:
    channel, payloads, changes = desk.prices([f"F{number % 20}" for number in range(BATCH)])
    made = ledger.sent(desk.name, changes)
    reported = await publish(own, channel, *payloads)
    ledger.reported(made, reported["position"], duplicate=False, again=False)


async def until(own: Service, name: str, count: float) -> None:
    """Until this has happened so many times."""
    async with asyncio.timeout(30):
        while await metric(own, name) < count:
            pass


async def heard_until(tail: Command, key: str) -> list[bytes]:
    lines = [await tail.line()]
    while not orjson.loads(lines[-1])["key"].endswith(key):
        lines.append(await tail.line())
    return lines
