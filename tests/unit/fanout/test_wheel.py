"""The timer wheel: nothing early, nothing lost, one timer for all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecast.fanout.wheel import TICK, TURN, Wheel
from tests.support.fakes import VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


@given(
    st.lists(
        st.tuples(
            st.floats(0, 3, allow_subnormal=False),
            st.sampled_from((0.0, 0.004, 0.0049, 0.013, 1.0)),
        ),
        max_size=20,
    )
)
def test_nothing_runs_before_its_time_and_nothing_is_lost(
    timers: list[tuple[float, float]],
) -> None:
    """Regression: a turn that came late took along what was due up to half a tick later."""
    loop = VirtualLoop()
    try:
        wheel, ran = Wheel(loop), list[int]()

        def run(number: int, due: float) -> None:
            assert loop.time() >= due, "early"
            ran.append(number)

        for number, (seconds, frozen) in enumerate(timers):
            due = loop.time() + seconds
            wheel.after(seconds, lambda number=number, due=due: run(number, due))
            loop.spend(frozen)
        loop.run_for(4)
        assert sorted(ran) == list(range(len(timers)))
        assert not wheel._slots
    finally:
        loop.close()


def test_what_is_due_runs_within_two_ticks(loop: VirtualLoop) -> None:
    wheel, late = Wheel(loop), list[float]()
    for number in range(500):
        due = number * 0.00371
        wheel.after(due, lambda due=due: late.append(loop.time() - due))
    loop.run_for(3)
    assert len(late) == 500
    assert min(late) >= 0
    assert max(late) <= 2 * TICK


def test_what_is_overdue_after_a_stall_runs_once_and_in_order(loop: VirtualLoop) -> None:
    wheel, ran = Wheel(loop), list[float]()

    def beat() -> None:
        ran.append(loop.time())
        wheel.after(5, beat)

    wheel.after(5, beat)
    wheel.after(7, lambda: ran.append(-1.0))
    loop.run_for(1)
    loop.spend(60)
    loop.run_for(4.9)
    assert ran == [61.0, -1.0]
    loop.run_for(0.2)
    assert len(ran) == 3


def test_all_that_comes_due_in_a_stall_lets_others_in_between(loop: VirtualLoop) -> None:
    """Regression: all heartbeats of 15 s came due in one turn, and so ever after."""
    wheel, ran, at_once = Wheel(loop), list[float](), list[int]()

    def beat() -> None:
        loop.spend(0.0001)
        ran.append(loop.time())
        wheel.after(15, beat)

    def other(before: int) -> None:
        at_once.append(len(ran) - before)
        loop.call_later(0.001, other, len(ran))

    loop.call_later(0.001, other, 0)
    for number in range(1_000):
        wheel.after(number * 0.015, beat)
    loop.spend(20)
    for beats in (1_000, 2_000):
        loop.run_for(14)
        assert len(ran) == beats
        assert ran[-1] - ran[-1_000] < 0.5, "they have come together, and stay so"
    assert max(at_once) <= 2 * (TURN / 0.0001 + 1), "of 1,000"


def test_any_number_of_callbacks_costs_one_timer(loop: VirtualLoop) -> None:
    wheel = Wheel(loop)
    armed: list[float] = []
    later = loop.call_later
    loop.call_later = lambda delay, *rest: (armed.append(delay), later(delay, *rest))[1]  # type: ignore[assignment, method-assign, func-returns-value]
    for _ in range(1_000):
        wheel.after(15, lambda: None)
    assert len(armed) == 1


def test_an_earlier_callback_takes_the_turn_of_a_later_one(loop: VirtualLoop) -> None:
    wheel, ran = Wheel(loop), list[str]()
    wheel.after(2, lambda: ran.append("late"))
    wheel.after(1, lambda: ran.append("early"))
    wheel.after(0, lambda: wheel.after(0.5, lambda: ran.append("within")))
    loop.run_for(1.1)
    assert ran == ["within", "early"]
    loop.run_for(1)
    assert ran == ["within", "early", "late"]
