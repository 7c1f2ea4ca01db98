"""The log's time between two messages."""

from __future__ import annotations

import random

from telecast.journal.jetstream.clock import WINDOW_SECONDS, LogClock


def test_before_anything_was_seen_it_is_not_known() -> None:
    assert LogClock().at(5.0) is None


def test_it_goes_on_between_messages_and_a_late_one_does_not_set_it_back() -> None:
    clock = LogClock()
    clock.seen(1_000.0, 10.0)
    assert clock.at(15.0) == 1_005.0
    clock.seen(1_002.0, 16.0)  # it was four seconds under way
    assert clock.at(16.0) == 1_006.0
    clock.seen(1_008.0, 17.0)
    assert clock.at(17.0) == 1_008.0


def test_it_is_never_ahead_of_the_logs_clock_and_as_near_as_the_quickest_message() -> None:
    rng, clock = random.Random(5), LogClock()
    for _ in range(500):
        sent = rng.uniform(0, WINDOW_SECONDS / 2)
        delay = rng.choice([0.002, 0.05, 3.0])
        clock.seen(sent + 1e9, sent + delay)
    found = clock.at(WINDOW_SECONDS / 2)
    assert found is not None
    assert 0 <= 1e9 + WINDOW_SECONDS / 2 - found <= 0.002 + 1e-6


def test_a_log_whose_clock_was_set_back_is_followed_after_a_while() -> None:
    clock, elapsed = LogClock(), 0.0
    clock.seen(5_000.0, elapsed)
    for _ in range(3):
        elapsed += WINDOW_SECONDS
        clock.seen(1_000.0 + elapsed, elapsed)
    assert clock.at(elapsed) == 1_000.0 + elapsed


def test_after_a_long_quiet_the_last_that_was_seen_still_counts() -> None:
    clock = LogClock()
    clock.seen(1_000.0, 0.0)
    assert clock.at(10 * WINDOW_SECONDS) == 1_000.0 + 10 * WINDOW_SECONDS
    clock.seen(900.0 + 10 * WINDOW_SECONDS, 10 * WINDOW_SECONDS)
    assert clock.at(10 * WINDOW_SECONDS) == 1_000.0 + 10 * WINDOW_SECONDS
