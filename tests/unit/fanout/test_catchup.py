"""A catch-up's phases: what is sent next, and the only ways from one to another."""

from __future__ import annotations

import pytest

from telecast.fanout.catchup import MOVES, CatchUp, FetchedPage, Phase
from telecast.model import Position

HERE = Position("abcd", 7)


def test_snapshots_are_sent_before_the_word_that_the_resume_is_exact() -> None:
    catchup = CatchUp(0)
    catchup.resume_from(HERE)
    catchup.start_over(("positions",), "RIGHTS_CHANGED")
    assert catchup.phase is Phase.SNAPSHOT
    catchup.start_rows()
    catchup.rows_end()
    assert catchup.phase is Phase.RESUME


def test_a_snapshot_that_becomes_due_amid_another_waits_for_its_rows() -> None:
    catchup = CatchUp(0)
    catchup.start_over(("positions",), "NEW")
    assert catchup.start_rows() == (("positions",), "NEW")
    catchup.start_over(("market-data",), "POSITION_EXPIRED")
    assert catchup.phase is Phase.ROWS
    assert catchup.unfinished == ("positions", "market-data")
    catchup.rows_end()
    assert catchup.phase is Phase.SNAPSHOT
    assert catchup.unfinished == ("market-data",)


def test_a_page_that_is_dropped_is_not_kept() -> None:
    catchup = CatchUp(0)
    catchup.drop_page()  # of one that has none
    catchup.keep_page(FetchedPage([], 3, []))
    catchup.drop_page()
    assert catchup.page is None
    assert catchup.phase is Phase.EVENTS


def test_a_page_is_kept_only_where_nothing_else_is_to_be_sent_first() -> None:
    catchup = CatchUp(0)
    catchup.resume_from(HERE)
    with pytest.raises(AssertionError, match="no way from RESUME to PAGE"):
        catchup.keep_page(FetchedPage([], 3, []))


def test_every_phase_leads_on_and_can_be_reached() -> None:
    assert set(MOVES) == set(Phase)
    assert all(MOVES.values())
    assert frozenset().union(*MOVES.values()) == set(Phase)
