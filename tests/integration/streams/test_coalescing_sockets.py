"""The two laws of coalescing where they must hold: on real sockets, under the loop of production.

The virtual clock shows them to the microsecond (`unit/fanout/test_coalescing.py`); here a recording
scheduler sits between the flusher and the real loop. Only what a busy machine can't break is
claimed: when a round is asked for, never how soon it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from telecast.fanout.flusher import PATIENCE, Flusher
from telecast.fanout.wheel import Scheduler
from tests.support.payloads import price
from tests.support.service.live import Live, principal, served

EPSILON = 1e-9


class Recording:
    """The flusher's scheduler; keeps when it asked for which wait, and when rounds went on."""

    def __init__(self, flusher: Flusher) -> None:
        self.waits: list[float] = []
        self.asked: list[float] = []
        """The earliest time at which each round may begin, as it was asked for."""
        self.rounds: list[tuple[float, float]] = []
        self._flusher = flusher
        self._real: Scheduler = flusher._scheduler
        flusher._scheduler = self

    def time(self) -> float:
        return self._real.time()

    def call_soon(self, callback: Callable[..., object], *args: Any) -> object:
        if callback.__name__ == "_begin":
            self._note(0.0)
        return self._real.call_soon(self._noted(callback), *args)

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> object:
        self._note(delay)
        return self._real.call_later(delay, self._noted(callback), *args)

    def _note(self, wait: float) -> None:
        self.waits.append(wait)
        self.asked.append(self.time() + wait)

    def _noted(self, callback: Callable[..., object]) -> Callable[..., object]:
        def run(*args: Any) -> object:
            done = callback(*args)
            if callback.__name__ == "_end":
                self.rounds.append((self._flusher._started, self._flusher._ended))
            return done

        return run


async def hear(live: Live, stack: AsyncExitStack, clients: int) -> list[Any]:
    transports = [live.ws, live.sse]
    readers = [
        await stack.enter_async_context(
            transports[number % 2](channels="market-data", delivery="all")
        )
        for number in range(clients)
    ]
    for reader in readers:
        await reader.opening()
    return readers


async def test_quiet_a_commit_goes_out_in_the_next_turn_of_the_loop_with_no_timer() -> None:
    async with served() as live, AsyncExitStack() as stack:
        readers = await hear(live, stack, 4)
        flusher = live.parts.broadcaster._flusher
        for number in range(5):
            flusher._ended = float("-inf")  # the last round was long ago
            recording = Recording(flusher)
            await live.publish("market-data", price(price=str(number)))
            for reader in readers:
                await reader.events()
            assert recording.waits == [0.0]
            flusher._scheduler = recording._real


async def test_busy_a_round_waits_as_long_as_the_last_one_took_and_never_too_long() -> None:
    async with served() as live, AsyncExitStack() as stack:
        readers = await hear(live, stack, 40)
        recording = Recording(live.parts.broadcaster._flusher)
        sent = 400
        for number in range(sent):
            # In process: over HTTP the next commit would come after the round.
            row = price(f"S{number % 7}", price=str(number))
            await live.parts.ingress.publish(principal(), "market-data", [row])
        for reader in readers:
            events = await reader.events(sent)
            assert [each.row["price"] for each in events] == [str(n) for n in range(sent)]
        assert recording.waits
        assert max(recording.waits) <= PATIENCE
        for (began, ended), asked in zip(recording.rounds, recording.asked[1:], strict=False):
            assert asked - ended >= min(ended - began, PATIENCE) - EPSILON


@pytest.mark.parametrize("took", [0.015, 1.0])
async def test_after_a_round_that_took_long_the_next_waits_as_long_but_never_too_long(
    took: float,
) -> None:
    async with served() as live, AsyncExitStack() as stack:
        readers = await hear(live, stack, 4)
        flusher = live.parts.broadcaster._flusher
        recording = Recording(flusher)
        flusher._took, flusher._ended = took, recording.time()
        ended = flusher._ended
        await live.publish("market-data", price())
        for reader in readers:
            await reader.events()
        assert recording.asked[0] >= ended + min(took, PATIENCE) - EPSILON
        assert recording.waits[0] <= PATIENCE
