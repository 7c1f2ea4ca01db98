"""A storm of refusals does not fill the log, and none of it goes uncounted."""

from __future__ import annotations

import logging

import pytest

from telecast.web.front.refusals import EACH_SECOND, Refusals
from tests.support.clock import Clock


def test_of_a_storm_a_few_have_a_line_and_the_rest_is_counted_once_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    refusals = Refusals(clock.call_later)
    with caplog.at_level(logging.WARNING):
        worth = [refusals.worth_a_line("NOT_FOUND") for _ in range(1_000)]
        assert refusals.worth_a_line("FORBIDDEN")
        assert worth == [True] * EACH_SECOND + [False] * (1_000 - EACH_SECOND)
        clock.pass_by(1.0)
    (line,) = caplog.records
    assert line.getMessage() == "refusals without a line"
    assert (line.__dict__["code"], line.__dict__["count"]) == ("NOT_FOUND", 1_000 - EACH_SECOND)


def test_after_a_second_refusals_have_their_line_again_and_nothing_is_said_when_it_is_quiet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    refusals = Refusals(clock.call_later)
    for _ in range(3):
        assert all(refusals.worth_a_line("NOT_FOUND") for _ in range(EACH_SECOND))
        clock.pass_by(1.0)
    assert not caplog.records
    assert not clock.due
