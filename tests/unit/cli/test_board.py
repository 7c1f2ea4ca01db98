"""The table of `telecast top`: sorting, filtering, choosing, asking."""

from __future__ import annotations

from typing import Any

import pytest

from telecast.cli.admin.board import BACK, DOWN, ENTER, ESCAPE, HELP, UP, Board, Mode


def client(name: str, lag: int = 0, unsent: int = 0, stale: float = 0.0) -> dict[str, Any]:
    return {
        "connectionId": f"c-{name}",
        "principal": "desk",
        "clientId": name,
        "transport": "ws",
        "state": "live",
        "lagEvents": lag,
        "unsentBytes": unsent,
        "conflated": 0,
        "staleSeconds": stale,
    }


@pytest.fixture
def board() -> Board:
    board = Board()
    board.take([client("a", lag=1, unsent=9), client("b", lag=7, stale=3), client("c", stale=80)])
    return board


def ids(board: Board) -> list[str]:
    return [each["connectionId"] for each in board.shown]


@pytest.mark.parametrize(("key", "first"), [("l", "c-b"), ("b", "c-a"), ("s", "c-c"), ("c", "c-a")])
def test_a_letter_sorts_the_worst_to_the_top(board: Board, key: str, first: str) -> None:
    board.press(key)
    assert ids(board)[0] == board.chosen == first


def test_a_filter_is_typed_corrected_and_given_up(board: Board) -> None:
    for key in "/bx":
        board.press(key)
    assert ids(board) == []
    board.press(BACK)
    assert ids(board) == ["c-b"]
    board.press("q")  # a letter of the filter here, and no command
    board.press(BACK)
    board.press(ENTER)
    assert board.foot() == f"{HELP}  [b]"
    board.press("/")
    board.press(ESCAPE)
    assert len(ids(board)) == 3


def test_the_choice_moves_stops_at_the_ends_and_stays_with_its_connection(board: Board) -> None:
    board.press(UP)
    assert board.chosen == "c-b"
    for _ in range(5):
        board.press(DOWN)
    assert board.chosen == "c-c"
    board.take([client("c", lag=99), client("a")])
    assert board.chosen == "c-c"
    board.take([client("a")])
    assert board.chosen == "c-a"


def test_a_connection_is_ended_only_after_a_yes_and_the_one_that_was_asked_about(
    board: Board,
) -> None:
    assert board.press("k") is None
    assert board.foot().startswith("End c-b?")
    board.take([client("a", lag=50), client("b")])  # another has become the worst meanwhile
    assert board.press("n") is None
    assert board.mode is Mode.LOOKING
    board.press("k")
    board.take([client("z", lag=99), client("a", lag=1)])
    assert board.press("y") == "kick"
    assert board.asked == "c-a"


def test_with_nobody_connected_there_is_nothing_to_end() -> None:
    board = Board()
    assert board.press("k") is None
    assert board.mode is Mode.LOOKING
    assert board.press("q") == "quit"


def test_it_fits_into_80_columns_and_shows_the_chosen_one(board: Board) -> None:
    board.take([client(f"{n:013}", lag=1000 - n, unsent=2**30, stale=1e6) for n in range(100)])
    lines = board.lines(80, 10)
    assert len(lines) == 10
    assert all(len(text) <= 80 for text, _ in lines)
    assert lines[0][0].split() == [
        *("CONNECTION", "PRINCIPAL", "CLIENT", "BY", "STATE", "LAG", "UNSENT", "CONFL", "STALE")
    ]
    assert lines[1][0].endswith("12d")
    for _ in range(50):
        board.press(DOWN)
    assert [text.split()[0] for text, chosen in board.lines(80, 10) if chosen] == [board.chosen]
    assert len(HELP) <= 80
