"""An interrupt that comes while a call is handed to the client's thread, at its two sides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest

from telecast.client.blocking.loop import LoopThread


async def nothing() -> None:
    """Is there when the loop has no other work left."""


async def none_yet() -> AsyncGenerator[int, None]:
    try:
        await asyncio.Event().wait()
        yield 1
    finally:
        await asyncio.sleep(0)


async def first_of(things: AsyncGenerator[int, None]) -> int:
    return await anext(things)


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    own = LoopThread()
    yield own
    own.stop(nothing)


def interrupted(monkeypatch: pytest.MonkeyPatch, loop: LoopThread, *, after: bool) -> None:
    """The next hand-over is interrupted, before the loop has it or after."""
    inside, plain = loop._loop, loop._loop.call_soon_threadsafe

    def hand_over(act: Callable[..., Any], *rest: Any) -> None:
        monkeypatch.undo()
        if after:
            plain(act, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(inside, "call_soon_threadsafe", hand_over)


@pytest.mark.parametrize("after", [True, False], ids=["after it", "before it"])
def test_when_the_interrupt_is_raised_the_work_has_ended_and_the_next_call_is_answered(
    monkeypatch: pytest.MonkeyPatch, loop: LoopThread, after: bool
) -> None:
    things = none_yet()
    interrupted(monkeypatch, loop, after=after)
    with pytest.raises(KeyboardInterrupt):
        loop.call(first_of(things))
    loop.end(things.aclose())  # RuntimeError where the work still ran
    assert loop.do(lambda: "well") == "well"
