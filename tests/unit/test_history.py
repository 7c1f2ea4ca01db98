"""The tests' own judge: each fault that is planted must be found, and named for what it is."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest

from history import Book, Change, Publish, folded, listener_flaws, publisher_flaws


def event(seq: int, key: str = "k", op: str = "upsert", number: int | None = None) -> bytes:
    data = {"number": seq if number is None else number, "note": None}
    told = {"channel": "c", "seq": seq, "op": op, "key": key, "data": data}
    return orjson.dumps(told)


TRUTH = [event(seq) for seq in (1, 2, 5, 6, 9)]


def kinds(flaws: Sequence[object]) -> list[tuple[str, int]]:
    return [(flaw.kind, flaw.seq) for flaw in flaws]  # type: ignore[attr-defined]


def test_a_listener_who_was_told_everything_has_no_flaws() -> None:
    assert listener_flaws(TRUTH, list(TRUTH)) == []
    assert listener_flaws([], []) == []


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (TRUTH[:2] + TRUTH[3:], [("lost", 5)]),
        (TRUTH[1:], [("lost", 1)]),
        (TRUTH[:-1], [("lost", 9)]),
        ([], [("lost", seq) for seq in (1, 2, 5, 6, 9)]),
        (TRUTH[:3] + TRUTH[2:], [("repeated", 5)]),
        (TRUTH + TRUTH[:1], [("repeated", 1)]),
        ([TRUTH[1], TRUTH[0], *TRUTH[2:]], [("reordered", 1)]),
        ([*TRUTH[:2], event(3), *TRUTH[2:]], [("phantom", 3)]),
        ([*TRUTH, event(10)], [("phantom", 10)]),
        ([*TRUTH[:4], event(9, number=8)], [("changed", 9)]),
        ([*TRUTH[:4], TRUTH[4].replace(b":null", b": null")], [("changed", 9)]),
    ],
)
def test_what_a_listener_was_told_wrongly_is_found(
    told: list[bytes], found: list[tuple[str, int]]
) -> None:
    assert kinds(listener_flaws(TRUTH, told)) == found


def change(number: int, key: str = "k", op: str = "upsert") -> Change:
    return Change("c", op, key, {"number": number})


def published() -> list[Publish]:
    return [
        Publish("a", [change(1), change(2)], 2),
        Publish("b", [change(5)], 5),
        Publish("a", [change(6)], 6),
        Publish("b", [change(9)], 9),
    ]


def test_a_history_that_holds_what_was_acknowledged_has_no_flaws() -> None:
    assert publisher_flaws(TRUTH, published()) == []


@pytest.mark.parametrize(
    ("truth", "found"),
    [
        (TRUTH[:-1], [("lost", 9)]),
        (TRUTH[1:], [("lost", 1)]),
        ([*TRUTH[:4], event(9, key="other")], [("lost", 9)]),
        ([*TRUTH[:4], event(9, op="delete")], [("lost", 9)]),
        ([*TRUTH[:4], event(9, number=0)], [("changed", 9)]),
        ([*TRUTH, event(10, number=9)], [("repeated", 10)]),
        ([*TRUTH, event(10)], [("phantom", 10)]),
        ([*TRUTH, event(10, number=9, key="other")], [("phantom", 10)]),
    ],
)
def test_what_a_history_holds_wrongly_is_found(
    truth: list[bytes], found: list[tuple[str, int]]
) -> None:
    assert kinds(publisher_flaws(truth, published())) == found


def test_a_publisher_whose_order_was_not_kept_is_found() -> None:
    swapped = published()
    swapped[0], swapped[2] = swapped[2], swapped[0]
    assert kinds(publisher_flaws(TRUTH, swapped)) == [("reordered", 2)]


def test_one_commit_that_is_answered_to_two_publishes_is_found() -> None:
    assert ("reordered", 9) in kinds(
        publisher_flaws(TRUTH, [*published(), Publish("b", [change(9)], 9)])
    )
    assert ("lost", 9) in kinds(
        publisher_flaws(TRUTH, [*published(), Publish("c", [change(9, key="other")], 9)])
    )


def test_a_row_that_moves_between_filters_is_deleted_first() -> None:
    book = Book({"c": ["place"]})
    assert book.enter("c", "k", {"place": 1, "n": 1}, end=False) == [
        Change("c", "upsert", "k", {"place": 1, "n": 1})
    ]
    assert book.enter("c", "k", {"place": 2, "n": 2}, end=False) == [
        Change("c", "delete", "k", {"place": 1, "n": 1}),
        Change("c", "upsert", "k", {"place": 2, "n": 2}),
    ]
    assert book.enter("c", "k", {"place": 2, "n": 3}, end=True) == [
        Change("c", "delete", "k", {"place": 2, "n": 3})
    ]
    assert book.rows == {}


def test_what_is_held_is_the_newest_of_each_key_that_lives() -> None:
    history = [event(1, "a"), event(2, "b"), event(3, "a"), event(4, "b", "delete")]
    assert folded(history) == {("c", "a"): {"number": 3, "note": None}}
