"""The committer, between publishers and a journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from telecast import turns as turns_module
from telecast.channels.catalogue import CHANNELS
from telecast.ingress import Ingress, IngressLimits
from telecast.journal.memory import MemoryJournal
from telecast.tape.tape import Tape
from tests.support.payloads import position
from tests.support.service.live import principal

DESK = principal()


async def nobody(events: object) -> int:
    return 0


async def at_once(seq: int) -> None:
    """The tape has it already."""


@pytest.fixture
async def ingress() -> AsyncIterator[Ingress]:
    """Over a journal in memory, which never makes it wait."""
    retention = {name: channel.retention for name, channel in CHANNELS.items()}
    made = Ingress(
        MemoryJournal(retention),
        Tape(CHANNELS),
        CHANNELS,
        reached=at_once,
        audience=nobody,
        limits=IngressLimits(),
    )
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_publish_that_comes_alone_is_committed_without_a_task(ingress: Ingress) -> None:
    await ingress.publish_one(DESK, "positions", position("first"), None)
    loop, made = asyncio.get_running_loop(), []

    def note(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any]) -> Any:
        made.append(work)
        return asyncio.Task(work, loop=loop)

    loop.set_task_factory(note)
    try:
        await ingress.publish_one(DESK, "positions", position("second"), None)
        assert not made
        await asyncio.gather(
            *(ingress.publish_one(DESK, "positions", position(key), None) for key in ("a", "b"))
        )
        assert len(made) == 2, "together they are put in line before any is waited for"
    finally:
        loop.set_task_factory(None)


async def test_publishes_that_the_journal_answers_at_once_let_others_have_their_turn(
    ingress: Ingress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a group of its own, since they touch one row, and a journal in memory knows at once
    that it was done: nothing on the way waits."""
    started, looks = time.monotonic(), count()
    clock = SimpleNamespace(monotonic=lambda: started + next(looks) * turns_module.SLICE / 4)
    monkeypatch.setattr(turns_module, "time", clock)
    done = [ingress.publish_one(DESK, "positions", position(), "a-key") for _ in range(400)]
    turns = 0
    while not done[-1].done():
        turns += 1
        await asyncio.sleep(0)
    assert all(future.result().receipt.last_seq == 1 for future in done)
    assert ingress.tally.duplicates == 399
    assert turns > 100
