"""What the servers deliver, with messages that get lost on the way: nothing is passed over. The
bugs that are planted are found."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from telecast.errors import JournalUnavailable
from telecast.journal import NodeOptions, journal_from_url
from telecast.journal.base import Batch, Journal
from telecast.journal.jetstream import consumer as consumer_module
from telecast.journal.jetstream import copy as copy_module
from telecast.journal.jetstream import peers as peers_module
from telecast.journal.jetstream.consumer import Consumer
from telecast.journal.jetstream.log import Logged
from telecast.model import Entry, Record, Retention
from tests.support.service.nats import needs_nats, shared
from tests.support.service.nodes import stream_name

pytestmark = needs_nats

A = "trader-status"
KEEP = {A: Retention(1_000_000, 1e9)}


@asynccontextmanager
async def journals(folder: Path, count: int) -> AsyncIterator[list[Journal]]:
    url = f"{shared().url}/{stream_name()}"
    async with AsyncExitStack() as stack:
        found = []
        for number in range(count):
            node = NodeOptions(copy=folder / f"{number}.db")
            journal = journal_from_url(url, KEEP, node=node)
            await journal.open()
            stack.push_async_callback(journal.close)
            found.append(journal)
        yield found


async def history(journal: Journal) -> list[Entry]:
    return list((await journal.read([A], 0, 10_000)).entries)


def lose(monkeypatch: pytest.MonkeyPatch, chance: random.Random, share: float) -> None:
    """That share of the deliveries never arrives at our code."""
    take: Callable[[Consumer, Msg], Any] = Consumer._take

    async def sometimes(self: Consumer, message: Msg) -> None:
        if chance.random() >= share:
            await take(self, message)

    monkeypatch.setattr(Consumer, "_take", sometimes)


async def a_day(folder: Path) -> str | None:
    """What went wrong when two nodes published at the same time, or None."""
    async with journals(folder, 2) as (first, second):
        try:
            async with asyncio.timeout(15):
                for number in range(60):
                    for journal, name in ((first, "a"), (second, "b")):
                        record = Record(A, f"{name}{number}", "upsert", False, b"{}")
                        await journal.append(Batch(records=(record,)))
                await reached(first, second)
        except JournalUnavailable as fault:
            return fault.message
        except TimeoutError:
            return "somebody waits for ever"
        if await history(first) != await history(second):
            return "the nodes differ"
        keys = [entry.key for entry in await history(first)]
        want = {f"{name}{number}" for name in "ab" for number in range(60)}
        return None if len(keys) == len(want) and set(keys) == want else "an event is missing"


async def reached(*those: Journal) -> None:
    """All have the same head."""
    while len({journal.head for journal in those}) > 1:
        for journal in those:
            if (why := journal.failure()) is not None:
                raise JournalUnavailable(why)
        await asyncio.sleep(0)


async def test_what_is_lost_on_the_way_from_the_servers_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(monkeypatch, random.Random(1), 0.03)
    assert await a_day(tmp_path) is None


async def test_a_gap_that_is_not_noticed_by_the_consumer_stops_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: what the consumer's own numbers say is ignored."""
    honest: Callable[[Consumer, Msg], Logged | None] = Consumer._logged

    def blind(self: Consumer, message: Msg) -> Logged | None:
        self._number = int(message.reply.split(".")[6]) - 1
        return honest(self, message)

    monkeypatch.setattr(Consumer, "_logged", blind)
    lose(monkeypatch, random.Random(1), 0.03)
    said = await a_day(tmp_path)
    assert said is not None
    assert "has lost message" in said


async def test_a_follower_that_begins_at_the_last_message_again_stops_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: from last, and not from last + 1."""
    begin: Callable[[Consumer, int], Any] = Consumer.begin

    async def again(self: Consumer, first: int) -> None:
        await begin(self, max(1, first - 1))

    monkeypatch.setattr(Consumer, "begin", again)
    lose(monkeypatch, random.Random(1), 0.03)
    said = await a_day(tmp_path)
    assert said is not None
    assert "has lost message" in said


async def test_nodes_that_judge_by_their_own_clocks_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: the time is the node's, and not the log's."""
    apply: Callable[[Any, Logged], Any] = copy_module.Copy._apply

    def applied(self: Any, logged: Logged) -> Any:
        own = Logged(logged.sequence, time.time_ns() // 1000, logged.data)
        return apply(self, own)

    monkeypatch.setattr(copy_module.Copy, "_apply", applied)
    assert await a_day(tmp_path) is not None


async def test_how_far_a_node_is_behind_shows_before_anything_new_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the death of the server that its consumer was on."""
    take: Callable[[Consumer, Msg], Any] = Consumer._take
    silent = asyncio.Event()

    async def take_unless_silent(self: Consumer, message: Msg) -> None:
        if not silent.is_set():
            await take(self, message)

    monkeypatch.setattr(Consumer, "_take", take_unless_silent)
    monkeypatch.setattr(consumer_module, "SILENCE_SECONDS", 60.0)
    monkeypatch.setattr(peers_module, "HERE_SECONDS", 0.05)
    async with journals(tmp_path, 2) as (first, second), asyncio.timeout(50):
        await first.append(Batch(records=(Record(A, "a", "upsert", False, b"{}"),)))
        await reached(first, second)
        for journal in (first, second):
            await journal.peers.begin(partial(facts, journal))
        silent.set()
        record = Record(A, "b", "upsert", False, b"{}")
        waits = [asyncio.create_task(first.append(Batch(records=(record,))))]
        for journal in (first, second):  # the one that published, and the other
            while facts(journal)["logBehind"] == 0:  # noqa: ASYNC110
                await asyncio.sleep(0)
        silent.clear()
        waits.append(asyncio.create_task(first.append(Batch(records=(record,)))))
        await asyncio.gather(*waits)


def facts(journal: Journal) -> dict[str, Any]:
    place = journal.place()
    assert place is not None
    return {"logSequence": place.sequence, "logBehind": place.behind}
