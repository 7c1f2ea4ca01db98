"""Who is started, restarted and ended, without a process."""

from __future__ import annotations

import logging

import pytest

from telecast.supervision.crew import (
    GOOD_SECONDS,
    LOOKS,
    MOST_SECONDS,
    MOST_STARTS,
    START_SECONDS,
    TRACE_SECONDS,
    Crew,
    State,
)
from telecast.supervision.orders import Abort, End, Finish, Kill, Order, Say, Serving, Start


def up(crew: Crew, *numbers: int, now: float = 0.0) -> list[Order]:
    return [order for number in numbers for order in crew.up(number, now, 100 + number)]


def serving(count: int = 3) -> Crew:
    crew = Crew(count, silent=LOOKS * 1.0)
    crew.due(0.0)
    up(crew, *range(1, count + 1))
    return crew


def without_lines(orders: list[Order]) -> list[Order]:
    return [order for order in orders if not isinstance(order, Say)]


def said(orders: list[Order], level: int) -> list[str]:
    return [order.event for order in orders if isinstance(order, Say) and order.level == level]


def test_all_are_started_at_once_and_the_service_serves_when_the_last_is_up() -> None:
    crew = Crew(2)
    assert crew.due(0.0) == [Start(1), Start(2)]
    assert Serving() not in up(crew, 2)
    assert Serving() in up(crew, 1)
    assert crew.next_due() is None


def test_a_crashed_worker_waits_longer_each_time_and_the_others_are_left_alone() -> None:
    crew, now = serving(), 1.0
    pauses = []
    for _ in range(9):
        assert without_lines(crew.ended(2, -9, now)) == []
        due = crew.next_due()
        assert due is not None
        assert crew.due(due - 0.01) == []
        assert crew.due(due) == [Start(2)]
        pauses.append(due - now)
        now = due
        up(crew, 2, now=now)
    assert pauses[:4] == [0.5, 1, 2, 4]
    assert pauses[-1] == MOST_SECONDS
    assert {crew.state(1), crew.state(3)} == {State.UP}
    assert crew.restarts == 9
    crew.ended(2, -9, now + GOOD_SECONDS)
    assert crew.next_due() == now + GOOD_SECONDS + 0.5, "it was well for long enough"


def test_a_service_that_never_was_up_ends_with_the_first_error_and_only_that() -> None:
    crew = Crew(3)
    crew.due(0.0)
    crew.refused(2, ["Error: There is no keys file."])
    assert without_lines(crew.ended(2, 1, 0.1)) == [End(1, notice=False), End(3, notice=False)]
    crew.refused(1, ["Error: There is no keys file."])
    assert crew.ended(1, 1, 0.2) == []
    assert crew.ended(3, 0, 0.3) == [Finish(1, ("Error: There is no keys file.",))]


def test_one_that_crashes_at_each_start_without_a_word_is_tried_a_few_times() -> None:
    crew, now = Crew(2), 0.0
    crew.due(now)
    up(crew, 1)
    for _ in range(MOST_STARTS - 1):
        assert without_lines(crew.ended(2, -11, now)) == []
        now = crew.next_due() or 0.0
        assert crew.due(now) == [Start(2)]
    assert without_lines(crew.ended(2, -11, now)) == [End(1, notice=False)]
    (finish,) = crew.ended(1, 0, now)
    assert isinstance(finish, Finish)
    assert finish.status == 1
    assert "Worker 2 ended 3 times before it was ready (signal 11)" in finish.error[0]


def test_once_the_service_serves_one_worker_that_cannot_start_ends_nobody() -> None:
    crew, now = serving(2), 0.0
    for _ in range(10):
        crew.refused(2, ["Error: no server answered."])
        orders = crew.ended(2, 1, now)
        assert without_lines(orders) == []
        assert said(orders, logging.ERROR) == ["a worker has ended; it is restarted"]
        now = crew.next_due() or 0.0
        crew.due(now)
    assert crew.state(1) is State.UP


def test_with_nobody_up_it_gives_up() -> None:
    crew = serving(2)
    crew.ended(1, -9, 0.0)
    crew.ended(2, -9, 1000.0)
    for attempt in range(1, MOST_STARTS + 1):
        crew.due(100.0 * attempt)
        crew.refused(1, ["Error: gone."])
        orders = without_lines(crew.ended(1, 1, 100.0 * attempt))
        assert orders == ([Finish(1, ("Error: gone.",))] if attempt == MOST_STARTS else [])


@pytest.mark.parametrize(("statuses", "status"), [((0, 0), 0), ((0, -15), 0), ((0, -9), 1)])
def test_all_are_ended_together_and_with_notice(statuses: tuple[int, int], status: int) -> None:
    crew = serving(2)
    assert crew.stop(1.0) == [End(1, notice=True), End(2, notice=True)]
    assert crew.stop(1.1) == []
    assert crew.ended(1, statuses[0], 2.0) == []
    assert crew.ended(2, statuses[1], 2.0) == [Finish(status)]
    assert crew.due(99.0) == []


def test_one_that_waits_for_its_restart_is_not_waited_for_at_the_end() -> None:
    crew = serving(2)
    crew.ended(1, -9, 1.0)
    assert crew.stop(1.1) == [End(2, notice=True)]
    assert crew.ended(2, 0, 1.2) == [Finish(0)]


def test_a_rolling_restart_takes_one_after_the_other_and_never_two() -> None:
    crew = serving()
    order = crew.roll(1.0)
    for number in (1, 2, 3):
        assert without_lines(order) == [End(number, notice=False)]
        assert crew.ended(number, 0, 2.0) == [Start(number)]
        assert said(crew.roll(2.0), logging.WARNING), "one is under way"
        order = up(crew, number, now=3.0)
    assert said(order, logging.INFO)[-1] == "rolling restart done"
    assert crew.restarts == 0
    assert without_lines(crew.roll(4.0)) == [End(1, notice=False)]


def test_a_rolling_restart_stops_at_a_worker_that_does_not_come_back() -> None:
    crew = serving()
    crew.roll(1.0)
    crew.ended(1, 0, 1.1)
    crew.refused(1, ["Error: the new version does not like it."])
    orders = crew.ended(1, 1, 1.2)
    assert "rolling restart given up: the others stay as they are" in said(orders, logging.ERROR)
    assert without_lines(orders) == []
    assert {crew.state(2), crew.state(3)} == {State.UP}
    crew.due(9.0)
    assert without_lines(up(crew, 1, now=9.0)) == [], "nobody else is restarted then"


def test_a_rolling_restart_passes_over_one_that_starts_anew_anyway() -> None:
    crew = serving()
    crew.ended(2, -9, 0.9)
    crew.roll(1.0)
    crew.ended(1, 0, 1.1)
    assert without_lines(up(crew, 1, now=1.2)) == [End(3, notice=False)]


def test_a_rolling_restart_leaves_the_last_that_serves_until_another_is_up() -> None:
    crew = serving(2)
    crew.ended(2, -9, 0.9)
    orders = crew.roll(1.0)
    assert without_lines(orders) == []
    assert said(orders, logging.WARNING) == ["the rolling restart waits: no other worker is up"]
    crew.due(1.5)
    assert without_lines(up(crew, 2, now=2.0)) == [End(1, notice=False)]
    crew.ended(1, 0, 2.1)
    assert without_lines(up(crew, 1, now=3.0)) == [End(2, notice=False)]


def test_a_stop_during_a_rolling_restart_ends_it() -> None:
    crew = serving(2)
    crew.roll(1.0)
    assert crew.stop(1.1) == [End(2, notice=True)]
    assert crew.ended(1, 0, 1.2) == []
    assert crew.ended(2, 0, 1.3) == [Finish(0)]


def test_before_it_serves_there_is_nothing_to_roll() -> None:
    crew = Crew(2)
    crew.due(0.0)
    assert said(crew.roll(0.1), logging.WARNING) == ["no rolling restart: the service is not up"]


def test_a_worker_that_does_not_go_is_killed_and_holds_up_nobody() -> None:
    crew = Crew(2, patience=10.0)
    crew.due(0.0)
    up(crew, 1, 2)
    assert without_lines(crew.roll(1.0)) == [End(1, notice=False)]
    assert crew.next_due() == 11.0
    assert crew.due(10.9) == []
    orders = crew.due(11.0)
    assert (without_lines(orders), said(orders, logging.ERROR)) == (
        [Kill(1)],
        ["a worker does not go: it is killed"],
    )
    assert (crew.due(12.0), crew.next_due()) == ([], None), "once"
    assert without_lines(crew.ended(1, -9, 12.0)) == [Start(1)]
    up(crew, 1, now=13.0)
    crew.ended(2, 0, 14.0)
    up(crew, 2, now=15.0)
    crew.stop(20.0)
    assert crew.ended(1, 0, 21.0) == []
    assert without_lines(crew.due(30.0)) == [Kill(2)]
    assert crew.ended(2, -9, 30.5) == [Finish(1)]


def test_a_worker_that_hangs_is_made_to_say_where_then_killed_and_started_again() -> None:
    crew = serving(2)
    for look in range(1, LOOKS + 1):
        crew.sign(2, float(look))
        assert crew.look(float(look)) == []
    orders = crew.look(LOOKS + 1.0)
    assert (without_lines(orders), said(orders, logging.CRITICAL)) == (
        [Abort(1)],
        ["a worker's loop stood still: it is killed"],
    )
    assert (crew.hangs, crew.state(1), crew.state(2)) == (1, State.HUNG, State.UP)
    assert crew.next_due() == LOOKS + 1.0 + TRACE_SECONDS
    assert without_lines(crew.due(LOOKS + 1.0 + TRACE_SECONDS)) == [Kill(1)]
    assert without_lines(crew.ended(1, -9, 20.0)) == []
    assert crew.due(20.5) == [Start(1)]
    up(crew, 1, now=21.0)
    assert crew.look(22.0) == [], "what it was before its end does not count"


def test_a_sign_of_life_at_any_time_begins_the_count_anew() -> None:
    crew = serving(1)
    for look in range(4 * LOOKS):
        if look % LOOKS == 0:
            crew.sign(1, float(look))
        assert crew.look(float(look)) == []


def test_looks_that_come_late_themselves_end_nobody() -> None:
    """As after a sleep of the machine, or on one that has too much to do."""
    crew, now = serving(1), 0.0
    for _ in range(4 * LOOKS):
        now += 100.0
        assert crew.look(now) == []
    for _ in range(LOOKS):
        now += 1.0
        assert crew.look(now) == []
    assert without_lines(crew.look(now + 1.0)) == [Abort(1)]


def test_one_that_starts_or_goes_is_given_its_time() -> None:
    crew = Crew(2, silent=LOOKS * 1.0)
    crew.due(0.0)
    up(crew, 1)
    crew.sign(1, 0.0)
    for look in range(3 * LOOKS):
        crew.sign(1, float(look))
        assert without_lines(crew.look(float(look))) == []
    now = 3.0 * LOOKS
    crew.stop(now)
    assert all(crew.look(now + look) == [] for look in range(3 * LOOKS))


def test_a_start_that_never_ends_is_reported_and_then_taken_for_hung() -> None:
    """Regression: it was never noticed, and a rolling restart waited for it for ever."""
    crew = serving(2)
    assert without_lines(crew.roll(0.0)) == [End(1, notice=False)]
    assert crew.ended(1, 0, 0.0) == [Start(1)]
    lines, now = 0, 0.0
    while crew.state(1) is State.STARTING:
        now += 1.0
        crew.sign(2, now)
        orders = crew.look(now)
        lines += said(orders, logging.WARNING) == ["a worker is still starting"]
    assert (without_lines(orders), now, lines) == ([Abort(1)], START_SECONDS + 1, 100)
    orders = crew.ended(1, -6, now)
    assert (
        said(orders, logging.ERROR)[-1] == "rolling restart given up: the others stay as they are"
    )
    assert crew.due(now + 30) == [Start(1)]


def test_one_that_hangs_does_not_hold_up_the_end() -> None:
    crew = serving(1)
    for look in range(LOOKS + 1):
        crew.look(float(look))
    assert crew.stop(50.0) == []
    assert crew.due(50.0) == [Kill(1)]
    assert crew.ended(1, -9, 50.1) == [Finish(1)]
