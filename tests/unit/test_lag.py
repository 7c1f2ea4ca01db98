"""How late the loop is: every wake counted, and a long stall told, once in a while."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from telecast.watch.lag import BOUNDS, TELL_SECONDS, WAKE_SECONDS, WINDOW_SECONDS, Lag
from tests.support.clock import Clock


def begun() -> tuple[Clock, Lag]:
    clock = Clock()
    lag = Lag(clock)
    lag.begin()
    return clock, lag


def stall(clock: Clock, late: float) -> None:
    """Nothing runs from now until so long after the next wake is due."""
    due = min(at for at, *_ in clock.due)
    clock.stop_for(due + late - clock.now)
    clock.pass_by(0)


def reported(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [each.__dict__ for each in caplog.records]


def test_a_loop_that_is_never_late_is_seen_to_be_so() -> None:
    clock, lag = begun()
    clock.pass_by(10 * WAKE_SECONDS)
    assert {count for _, count in lag.histogram.buckets()} == {clock.turns}
    assert clock.turns >= 9
    assert lag.histogram.seconds == 0


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_stall_is_counted_by_how_long_it_was(bound: float) -> None:
    clock, lag = begun()
    stall(clock, bound * 0.99)
    stall(clock, bound * 1.01)
    counts = dict(lag.histogram.buckets())
    lower = [each for each in BOUNDS if each < bound]
    assert [counts[each] for each in lower] == [0] * len(lower)
    assert counts[bound] == 1
    assert {count for upper, count in counts.items() if upper > bound} == {2}
    assert lag.histogram.seconds == pytest.approx(2 * bound)


def test_no_stall_is_too_long_to_be_counted() -> None:
    clock, lag = begun()
    stall(clock, 3_600)
    assert lag.histogram.buckets()[-2:] == [(BOUNDS[-1], 0), (float("inf"), 1)]


def test_only_a_stall_that_others_notice_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    clock, _ = begun()
    with caplog.at_level(logging.WARNING, "telecast.watch.lag"):
        for _ in range(100):
            stall(clock, TELL_SECONDS * 0.99)
        assert not caplog.records
        stall(clock, TELL_SECONDS * 1.5)
    [line] = reported(caplog)
    assert (line["levelname"], line["seconds"]) == ("WARNING", TELL_SECONDS * 1.5)


def test_a_line_at_most_every_few_seconds_reports_the_longest_and_how_many(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, _ = begun()
    with caplog.at_level(logging.WARNING, "telecast.watch.lag"):
        for late in (1.0, 2.0, 3.0, 1.0):
            stall(clock, late)
        assert len(caplog.records) == 1
        clock.pass_by(WINDOW_SECONDS)
        stall(clock, 0.6)
        clock.pass_by(WINDOW_SECONDS)
        stall(clock, 0.7)
    assert [(each["seconds"], each["since_last_line"]) for each in reported(caplog)] == [
        (1.0, 1),
        (3.0, 4),
        (0.7, 1),
    ]


def test_at_the_end_nothing_is_counted_and_nobody_is_woken_any_more() -> None:
    clock, lag = begun()
    lag.end()
    clock.pass_by(10 * WAKE_SECONDS)
    assert lag.histogram.buckets()[-1][1] == 0
    assert not clock.due
