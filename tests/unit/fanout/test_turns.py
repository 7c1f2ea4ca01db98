"""One budget for what clients ask for: the loop turns in time, and keys are served in rotation."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from telecast import turns
from telecast.turns import SLICE, Turns, in_turns


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Work:
    """Steps that take a fifth of a slice each, and how many a turn of the loop has."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.turns = Turns(self.clock)
        self.in_this_turn = 0
        self.most_in_a_turn = 0
        self.done: Counter[str] = Counter()
        self.order: list[str] = []

    async def run(self, key: str, steps: int) -> None:
        def one() -> None:
            if not self.in_this_turn:
                asyncio.get_running_loop().call_soon(self._turned)
            self.in_this_turn += 1
            self.most_in_a_turn = max(self.most_in_a_turn, self.in_this_turn)
            self.clock.now += SLICE / 5
            self.done[key] += 1
            self.order.append(key)

        turn = self.turns.of(key)
        for _ in range(steps):
            if turn.over():
                await turn.next()
            one()

    def _turned(self) -> None:
        self.in_this_turn = 0


async def test_a_hundred_requests_do_not_work_a_hundred_slices_in_one_turn_of_the_loop() -> None:
    """Regression: 32 history requests of one key took a publish from 3 to 600 ms."""
    work = Work()
    await asyncio.gather(*(work.run("one", 40) for _ in range(100)))
    assert work.done["one"] == 4_000
    assert work.most_in_a_turn <= 10, "the newcomers' slice and that of who is next"


async def test_a_key_with_many_requests_gets_no_more_than_one_with_a_single_request() -> None:
    work = Work()
    many = [asyncio.ensure_future(work.run("many", 100)) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    before = work.done["many"]
    await work.run("one", 50)
    assert work.done["many"] - before <= 2 * 50
    for task in many:
        task.cancel()
    await asyncio.gather(*many, return_exceptions=True)


async def test_one_that_is_cancelled_while_it_waits_holds_nobody_up() -> None:
    work = Work()
    tasks = [asyncio.ensure_future(work.run(f"k{n}", 20)) for n in range(20)]
    for _ in range(3):
        await asyncio.sleep(0)
    for task in tasks[:-1]:
        task.cancel()
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert work.done["k19"] == 20
    assert not work.turns._waiting


async def test_work_that_is_short_waits_for_nothing() -> None:
    work = Work()
    task = asyncio.ensure_future(work.run("a", 3))
    await asyncio.sleep(0)
    assert task.done()


async def test_the_owner_of_a_turn_of_its_own_lets_the_loop_turn_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, turned = Clock(), 0

    def tick() -> None:
        nonlocal turned
        turned += 1

    def steps() -> Iterator[None]:
        for _ in range(3):
            clock.now += SLICE
            yield

    monkeypatch.setattr(turns, "time", SimpleNamespace(monotonic=clock))
    asyncio.get_running_loop().call_soon(tick)
    await in_turns(steps())
    assert turned == 1
