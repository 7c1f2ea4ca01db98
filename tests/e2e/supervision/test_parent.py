"""A parent under no supervisor, and workers that hang: processes that do nothing but be workers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from telecast.config import Settings, without_supervisor
from telecast.supervision.parent import Parent
from telecast.watch.notify import Notifier
from tests.support.service.live import PATIENCE

WORKER = """
import asyncio, faulthandler, sys, time
from telecast.supervision.line import Line
from telecast.supervision.worker import Worker

def stand_still():
    time.sleep(1000)

async def main(line, number, beat):
    worker = Worker(line, number, beat)
    stop = asyncio.Event()
    following = asyncio.create_task(worker.follow(lambda notice: stop.set()))
    import signal
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, stand_still)
    await worker.up("")
    await stop.wait()

faulthandler.enable(2)
line = Line.of_stdin()
orders = line.first()
asyncio.run(main(line, int(sys.argv[-1]), orders["beat"]))
"""


class Run:
    """A parent at work, and what its log says."""

    def __init__(self, parent: Parent, caplog: pytest.LogCaptureFixture) -> None:
        self.parent = parent
        self._caplog = caplog

    def said(self, event: str) -> list[Any]:
        return [each for each in self._caplog.records if each.getMessage() == event]

    async def until(self, event: str, times: int = 1) -> list[Any]:
        async with asyncio.timeout(PATIENCE):
            while len(found := self.said(event)) < times:  # noqa: ASYNC110 - a log knows no event
                await asyncio.sleep(0)
        return found

    def pid(self, number: int) -> int:
        return self.parent._lives[number].process.pid


@asynccontextmanager
async def parent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, silent: float
) -> AsyncIterator[Run]:
    program = tmp_path / "worker.py"
    program.write_text(WORKER)
    caplog.set_level("INFO")
    made = Parent(
        Settings(workers=2),
        [sys.executable, str(program)],
        reread=lambda settings, rolling: settings,
        notifier=Notifier(None, None),
        watchdog=None,
        silent=silent,
        environment=without_supervisor(),
    )
    up = asyncio.Event()
    running = asyncio.create_task(made.run(up.set))
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PATIENCE):
            await up.wait()
        yield Run(made, caplog)
    finally:
        made._asked_to_end()
        async with asyncio.timeout(PATIENCE):
            await running
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            loop.remove_signal_handler(number)


async def test_a_stopped_worker_is_killed_and_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with parent(tmp_path, caplog, 1.0) as run:
        before = {number: run.pid(number) for number in (1, 2)}
        os.kill(before[2], signal.SIGSTOP)
        (line,) = await run.until("a worker's loop stood still: it is killed")
        assert line.worker == 2
        (ended,) = await run.until("a worker has ended; it is restarted")
        assert (ended.worker, ended.status) == (2, -9)
        await run.until("a worker is up", times=3)
        assert run.pid(1) == before[1]
        assert run.pid(2) != before[2]
        assert run.parent._counts()["telecast_worker_hangs_total"] == 1


async def test_where_a_loop_stands_that_is_stuck_is_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with parent(tmp_path, caplog, 1.0) as run:
        os.kill(run.pid(1), signal.SIGUSR1)
        (line,) = await run.until("where the loop of a worker stood")
        assert line.worker == 1
        assert any("stand_still" in each for each in line.trace), line.trace
        (ended,) = await run.until("a worker has ended; it is restarted")
        assert ended.status == -signal.SIGABRT
