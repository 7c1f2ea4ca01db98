"""Wrong keys: counted by address, slowed down, never a lock-out, never a leak."""

from __future__ import annotations

import logging

import pytest

from telecast.errors import PeerFault
from telecast.keys.guesses import BURST, MOST_ADDRESSES, PER_SECOND, WINDOW_SECONDS, Guesses

WRONG = PeerFault("UNAUTHENTICATED", "This key is not known here.")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_are_answered_plainly_then_it_is_too_many_until_time_has_passed() -> None:
    clock = Clock()
    guesses = Guesses(clock=clock)
    assert [guesses.wrong("a", WRONG).code for _ in range(BURST)] == ["UNAUTHENTICATED"] * BURST
    fault = guesses.wrong("a", WRONG)
    assert fault.code == "TOO_MANY_WRONG_KEYS"
    assert fault.rule.http == 429
    assert fault.details["retryAfterSeconds"] == 1 + 1 / PER_SECOND
    assert guesses.wrong("b", WRONG) is WRONG, "another address is another matter"
    clock.now += fault.details["retryAfterSeconds"]
    assert guesses.wrong("a", WRONG) is WRONG
    assert guesses.wrong("a", WRONG).code == "TOO_MANY_WRONG_KEYS"
    assert guesses.answered == {"UNAUTHENTICATED": BURST + 2, "TOO_MANY_WRONG_KEYS": 2}


def test_one_line_a_window_is_logged_however_many_come(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    guesses = Guesses(clock=clock)
    with caplog.at_level(logging.INFO):
        for n in range(200):
            for _ in range(BURST + 5):
                guesses.wrong(f"192.0.2.{n}", WRONG)
        assert len(caplog.records) == 1
        clock.now += WINDOW_SECONDS
        guesses.wrong("192.0.2.7", WRONG)  # a token has come back
        for _ in range(BURST):
            guesses.wrong("192.0.2.7", WRONG)
    assert [record.__dict__["since_last_line"] for record in caplog.records] == [1, 1000]


def test_addresses_without_end_are_not_all_remembered() -> None:
    guesses = Guesses(clock=Clock())
    for _ in range(BURST + 1):
        guesses.wrong("first", WRONG)
    for others in ("a", "b"):
        for n in range(MOST_ADDRESSES - 1):
            guesses.wrong(f"{others}{n}", WRONG)
        assert guesses.wrong("first", WRONG).code == "TOO_MANY_WRONG_KEYS", "the latest are kept"
    for n in range(3 * MOST_ADDRESSES):
        guesses.wrong(f"c{n}", WRONG)
        assert len(guesses._addresses) <= MOST_ADDRESSES
