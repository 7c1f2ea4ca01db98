"""What time it is as far as anything may be deleted for its age."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telecast.journal.ageing import TOLERANCE, WAIT, Ageing, Times

DAY = 86400.0
START = 1_700_000_000.0


def test_a_clock_that_goes_along_with_monotonic_time_is_believed() -> None:
    ageing = Ageing()
    ageing.start(START, 0.0, START - 5)
    for elapsed in (1.0, 3600.0, 30 * DAY):
        now = START + elapsed
        assert ageing.at(now, elapsed) == Times(now, now, now)
    assert ageing.jumps == 0


def test_small_steps_and_a_clock_that_drifts_are_believed() -> None:
    ageing, now = Ageing(), START
    for hour in range(1000):
        now += 3600 + (TOLERANCE - 1) * (-1) ** hour
        assert ageing.at(now, hour * 3600.0).before == now
    assert ageing.jumps == 0


def test_a_step_that_is_taken_back_changes_nothing_and_is_counted() -> None:
    ageing = Ageing()
    ageing.at(START, 0.0)
    for far in (31 * DAY, -31 * DAY):
        right, wrong = START + 5, START + 5 + far
        assert ageing.at(wrong, 5.0) == Times(wrong, min(right, wrong), max(right, wrong))
        assert ageing.at(START + 11, 11.0) == Times(START + 11, START + 11, START + 11)
        ageing.at(START, 0.0)
    assert ageing.jumps == 2


def test_a_clock_that_stays_where_it_went_is_believed_in_the_end() -> None:
    ageing = Ageing()
    ageing.at(START, 0.0)
    for elapsed in (1.0, WAIT / 2, WAIT):
        assert ageing.at(START + DAY + elapsed, elapsed).before == START + elapsed
    late = START + DAY + WAIT + 1
    assert ageing.at(late, WAIT + 1) == Times(late, late, late)
    assert ageing.at(late + 1, WAIT + 2) == Times(late + 1, late + 1, late + 1)
    assert ageing.jumps == 1


def test_a_clock_that_jumps_about_has_to_prove_itself_each_time() -> None:
    ageing = Ageing()
    ageing.at(START, 0.0)
    for n in range(1, 50):
        elapsed = n * WAIT * 0.9
        assert ageing.at(START + n * DAY + elapsed, elapsed).before == START + elapsed
    assert ageing.jumps == 49


def test_after_a_start_the_newest_commit_counts_until_the_clock_has_proved_steady() -> None:
    ageing = Ageing()
    ageing.start(START + 31 * DAY, 0.0, START)
    assert ageing.at(START + 31 * DAY + 1, 1.0).before == START + 1
    steady = START + 31 * DAY + WAIT
    assert ageing.at(steady, WAIT).before == steady
    assert ageing.jumps == 0


@given(
    st.lists(st.tuples(st.floats(0, 600), st.floats(-400 * DAY, 400 * DAY)), max_size=30),
)
def test_no_steps_within_the_wait_let_anything_age(steps: list[tuple[float, float]]) -> None:
    """However the clock behaves, `before` is at most what has really passed."""
    ageing, elapsed = Ageing(), 0.0
    ageing.at(START, 0.0)
    for wait, wrong in steps:
        if elapsed + wait >= WAIT:
            break
        elapsed += wait
        times = ageing.at(START + elapsed + wrong, elapsed)
        slack = TOLERANCE * (len(steps) + 1)  # small steps are believed at once
        assert times.before <= START + elapsed + slack
        assert times.before <= times.clock <= times.after
