"""The committer, between publishers and a journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from telecast import turns as turns_module
from telecast.channels.catalogue import CHANNELS
from telecast.errors import Conflict, JournalFull, JournalUnavailable
from telecast.ingress import Ingress, IngressLimits
from telecast.journal.base import Batch, Journal, Receipt
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
    async with running(MemoryJournal(CHANNELS.retention)) as made:
        yield made


@asynccontextmanager
async def running(
    journal: Journal, audience: Callable[[Any], Awaitable[int]] = nobody
) -> AsyncIterator[Ingress]:
    made = Ingress(
        journal,
        Tape(CHANNELS),
        CHANNELS,
        reached=at_once,
        audience=audience,
        limits=IngressLimits(),
    )
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


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


class Shared(MemoryJournal):
    """As if other nodes committed to it; it does not take the next batch if it has a `fault`."""

    shared = True

    def __init__(self) -> None:
        super().__init__(CHANNELS.retention)
        self.fault: JournalUnavailable | None = None
        self.groups: list[int] = []
        self._together = 0

    async def append(self, batch: Batch) -> Receipt:
        self._together += 1
        await asyncio.sleep(0)
        if self._together:
            self.groups.append(self._together)
            self._together = 0
        if (fault := self.fault) is not None:
            self.fault = None
            raise fault
        return await super().append(batch)


@pytest.mark.parametrize(
    "fault",
    [JournalUnavailable("Nobody knows.", outcome_unknown=True), JournalFull("No space.")],
    ids=["unknown", "full"],
)
async def test_what_was_sent_behind_a_publish_that_was_not_taken_is_not_taken_either(
    fault: JournalUnavailable,
) -> None:
    """It would stand before that publish, once that is sent again."""
    journal = Shared()
    async with running(journal) as ingress:
        journal.fault = fault
        first = ingress.publish_one(DESK, "positions", position("row"), "1")
        behind = ingress.publish_one(DESK, "positions", position("row"), "2")
        found = await asyncio.gather(first, behind, return_exceptions=True)
        unknown = [getattr(each, "outcome_unknown", None) for each in found]
        assert unknown == [fault.outcome_unknown, False]
        assert journal.head == 0
        assert (await ingress.publish_one(DESK, "positions", position("row"), "1")).receipt.count


async def test_what_comes_while_another_is_answered_stands_not_before_what_was_refused() -> None:
    """One of a group was taken, the next was not: the refusal waits for nobody's answer."""

    class Full(Shared):
        async def append(self, batch: Batch) -> Receipt:
            await asyncio.sleep(0)
            if any(record.key == "refused" for record in batch.records):
                raise JournalFull("No space.")
            return await MemoryJournal.append(self, batch)

    async def audience(events: object) -> int:
        for _ in range(5):
            await asyncio.sleep(0)
        return 0

    journal = Full()
    async with running(journal, audience) as ingress:
        taken = ingress.publish_one(DESK, "positions", position("taken"), None)
        refused = ingress.publish_one(DESK, "positions", position("refused"), None)
        await asyncio.sleep(0)
        while not refused.done():
            behind = ingress.publish_one(DESK, "positions", position("behind"), None)
            await asyncio.sleep(0)
        found = await asyncio.gather(taken, refused, behind, return_exceptions=True)
        assert [type(each) for each in found[1:]] == [JournalFull, JournalUnavailable]
        assert journal.head == 1


async def test_what_another_node_got_ahead_of_is_not_tried_again_behind_what_was_refused() -> None:
    """Regression: it was derived anew and committed, and stood before the refused one."""

    class Contested(Shared):
        async def append(self, batch: Batch) -> Receipt:
            (record,) = batch.records
            if record.key == "refused":
                raise JournalFull("No space.")
            if record.key not in contested:
                contested.append(record.key)
                raise Conflict([(record.channel, record.key)])
            return await MemoryJournal.append(self, batch)

    contested: list[str] = []
    journal = Contested()
    async with running(journal) as ingress:
        found = await asyncio.gather(
            ingress.publish_one(DESK, "positions", position("refused"), None),
            ingress.publish_one(DESK, "positions", position("behind"), None),
            return_exceptions=True,
        )
        assert [type(each) for each in found] == [JournalFull, Conflict]
        assert (contested, journal.head) == (["behind"], 0)


async def test_the_first_of_a_connection_is_committed_before_what_its_key_sends_next() -> None:
    """Only then does this node know what the connection's publisher did at another node."""
    journal = Shared()
    async with running(journal) as ingress:
        futures = [
            ingress.publish_one(DESK, "positions", position(key), None, first=key == "a")
            for key in "abc"
        ]
        await asyncio.gather(*futures)
        assert journal.groups == [1, 2]
