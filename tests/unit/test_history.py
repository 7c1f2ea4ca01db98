"""The tests' own judge: each fault that is planted must be found, and named for what it is."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest

from tests.support.checking.history import (
    Book,
    Change,
    History,
    Kept,
    Publish,
    folded,
    listener_flaws,
)
from tests.support.checking.judge import check, flaws


def event(seq: int, key: str = "k", op: str = "upsert", number: int | None = None) -> bytes:
    data = {"number": seq if number is None else number, "note": None}
    reported = {"channel": "c", "seq": seq, "op": op, "key": key, "data": data}
    return orjson.dumps({"type": "event", **reported})


TRUTH = [event(seq) for seq in (1, 2, 5, 6, 9)]


def kinds(flaws: Sequence[object]) -> list[tuple[str, int]]:
    return [(flaw.kind, flaw.seq) for flaw in flaws]  # type: ignore[attr-defined]


def test_a_listener_who_was_sent_everything_has_no_flaws() -> None:
    assert listener_flaws(TRUTH, list(TRUTH)) == []
    assert listener_flaws([], []) == []


@pytest.mark.parametrize(
    ("reported", "found"),
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
def test_what_a_listener_was_sent_wrongly_is_found(
    reported: list[bytes], found: list[tuple[str, int]]
) -> None:
    assert kinds(listener_flaws(TRUTH, reported)) == found


# --- what publishers were answered


def change(number: int, key: str = "k", op: str = "upsert") -> Change:
    return Change("c", op, key, {"number": number})


def kept(events: Sequence[bytes] = TRUTH, head: int = 9, **floors: int) -> Kept:
    return Kept(events, head, floors)


def published(events: Sequence[bytes] = TRUTH, **floors: int) -> History:
    """Two publishers in turn, each answered before the next publishes."""
    history = History(seed=7, kept={"e": kept(events, **floors)})
    for who, changes, last in (
        ("a", [change(1), change(2)], 2),
        ("b", [change(5)], 5),
        ("a", [change(6)], 6),
        ("b", [change(9)], 9),
    ):
        history.acknowledge(history.publish(who, changes), "e", last)
    return history


def test_a_history_that_holds_what_was_acknowledged_has_no_flaws() -> None:
    check(published())


@pytest.mark.parametrize(
    ("events", "found"),
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
    events: list[bytes], found: list[tuple[str, int]]
) -> None:
    assert kinds(flaws(published(events))) == found


def test_the_seed_and_the_first_flaw_are_named() -> None:
    with pytest.raises(AssertionError, match=r"seed 7: 2 flaws\n2 lost, .*seq=1.*who='a'"):
        check(published(TRUTH[2:]))


def test_what_was_acknowledged_and_trimmed_since_is_not_lost() -> None:
    check(published(TRUTH[2:], c=2))
    assert kinds(flaws(published(TRUTH[2:], c=1))) == [("lost", 2)]


def test_a_publisher_whose_order_was_not_kept_is_found() -> None:
    history = History(kept={"e": kept([event(1, number=2), event(2, number=1)], 2)})
    first, second = history.publish("a", [change(1)]), history.publish("a", [change(2)])
    history.acknowledge(first, "e", 2)
    history.acknowledge(second, "e", 1)
    assert kinds(flaws(history)) == [("reordered", 1)]


def test_a_commit_that_comes_before_one_that_was_answered_earlier_is_found() -> None:
    history = History(kept={"e": kept([event(1, number=2), event(2, number=1)], 2)})
    history.acknowledge(history.publish("a", [change(1)]), "e", 2)
    history.acknowledge(history.publish("b", [change(2)]), "e", 1)
    assert kinds(flaws(history)) == [("reordered", 1)]


def test_one_commit_that_is_answered_to_two_publishes_is_found() -> None:
    same, other = published(), published()
    # Sent before the first was answered: so that their order says nothing.
    same.acknowledge(Publish("c", [change(9)], invoked=0), "e", 9)
    for history, key in ((same, "k"), (other, "other")):
        publish = Publish("c", [change(9, key)], invoked=1)
        history.publishes.append(publish)
        history.acknowledge(publish, "e", 9)
    assert kinds(flaws(same)) == [("lost", 9)]
    assert kinds(flaws(other)) == [("lost", 9), ("reused", 9)]


def test_one_publish_that_was_committed_twice_is_found() -> None:
    history = published([*TRUTH, event(10, number=9)])
    history.kept["e"].head = 10
    history.acknowledge(history.publishes[-1], "e", 10)
    assert kinds(flaws(history)) == [("repeated", 9)]
    again = published()
    again.acknowledge(again.publishes[-1], "e", 9)
    check(again)


def test_an_unanswered_publish_is_there_whole_or_not_at_all() -> None:
    for more, found in (
        ([], []),
        ([event(10), event(11)], []),
        ([event(10)], [("lost", 11)]),
        ([event(11)], [("phantom", 11)]),
        ([event(10), event(11), event(12, number=10)], [("repeated", 12)]),
    ):
        history = published([*TRUTH, *more])
        history.publish("a", [change(10), change(11)])
        assert kinds(flaws(history)) == (found if more != [event(11)] else [("repeated", 11)])


def test_what_was_refused_must_not_be_there() -> None:
    history = published([*TRUTH, event(10)])
    history.publish("a", [change(10)]).refused = True
    assert kinds(flaws(history)) == [("phantom", 10)]


# --- what subscribers were sent


def of_row(seq: int, key: str, op: str = "upsert", status: str = "on", at: int = 0) -> bytes:
    data = {"number": seq, "status": status}
    reported = {"channel": "c", "seq": seq, "op": op, "key": key, "data": data, "timestamp": at}
    return orjson.dumps({"type": "event", **reported})


LIFE = [
    of_row(1, "a"),
    of_row(2, "b"),
    of_row(3, "a"),
    of_row(4, "b"),
    of_row(5, "a"),
    of_row(6, "b", "delete"),
    of_row(7, "a"),
]


def reported(kind: str, **said: object) -> tuple[bytes, str | None]:
    json = orjson.dumps({"type": kind, **said})
    return json, str(said["position"]) if "position" in said else None


WELCOME = reported("welcome", head="e:0")


def moved(seq: int) -> tuple[bytes, str | None]:
    """An event as it comes outside of a snapshot."""
    return LIFE[seq - 1], f"e:{seq}"


def rows(*seqs: int) -> list[tuple[bytes, str | None]]:
    return [
        reported("snapshot", channels=["c"], reason="NEW"),
        *((LIFE[seq - 1], None) for seq in seqs),
    ]


def live(seq: int) -> tuple[bytes, str | None]:
    return reported("live", position=f"e:{seq}", count=0)


def beat(seq: int) -> tuple[bytes, str | None]:
    return reported("heartbeat", position=f"e:{seq}")


def resume(seq: int) -> tuple[bytes, str | None]:
    return reported("resume", **{"from": f"e:{seq}"}, channels=["c"])


def gap(first: int, last: int) -> tuple[bytes, str | None]:
    return reported("gap", channel="c", fromSeq=first, toSeq=last)


def conflated(first: int, last: int, count: int | None) -> tuple[bytes, str | None]:
    return reported("conflated", fromSeq=first, toSeq=last, count=count)


def moves(*seqs: int) -> list[tuple[bytes, str | None]]:
    return [moved(seq) for seq in seqs]


def told_to(
    heard: Sequence[tuple[bytes, str | None]],
    *,
    missing: Sequence[int] = (),
    **said: object,
) -> History:
    """One subscriber of LIFE, of which the journal has all but what is missing."""
    floor = max(missing, default=0)
    events = [json for seq, json in enumerate(LIFE, 1) if seq not in missing]
    history = History(
        kept={"e": Kept(events, 7, {"c": floor})},
        pins={"c": ("status",)},
        publishes=[_published(json) for json in LIFE],
    )
    witness = history.session("witness", start="earliest", delivery="all")
    witness.heard = [WELCOME, resume(0), *moves(*range(1, 8)), live(7)]
    session = history.session("s", **{"settled": True, **said})  # type: ignore[arg-type]
    session.heard = [WELCOME, *heard]
    return history


def _published(json: bytes) -> Publish:
    body = orjson.loads(json)
    made = Publish("p", [Change("c", body["op"], body["key"], body["data"])], body["seq"], 99)
    made.answers.append(("e", body["seq"]))
    return made


ALL = {"start": "e:2", "delivery": "all"}
SOME = {"start": "e:2", "delivery": "conflated"}
NEW = {"start": "snapshot", "delivery": "conflated"}


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (ALL, [resume(2), *moves(3, 4, 5, 6, 7), live(7), beat(7)]),
        (SOME, [resume(2), conflated(3, 7, 3), *moves(6, 7), live(7)]),
        (SOME, [resume(2), conflated(3, 5, None), *moves(5, 6, 7), live(7)]),
        (NEW, [*rows(1, 2), live(2), *moves(3, 4, 5, 6, 7)]),
        (NEW, [*rows(1, 2), (LIFE[2], None), live(3), conflated(4, 7, 2), *moves(6, 7)]),
        (NEW, [*rows(7), live(7)]),
        (ALL, [reported("snapshot", channels=["c"], reason="POSITION_EXPIRED"), moved(7), live(7)]),
        ({"start": "live", "delivery": "all"}, [live(5), *moves(6, 7)]),
        ({"start": "e:2", "delivery": "all", "settled": False}, [resume(2), *moves(3, 4)]),
    ],
)
def test_what_may_be_sent_has_no_flaws(
    said: dict[str, object], heard: list[tuple[bytes, str | None]]
) -> None:
    check(told_to(heard, **said))


@pytest.mark.parametrize(
    ("said", "heard", "found"),
    [
        # something is not sent, and nothing is said of it
        (ALL, [resume(2), *moves(3, 5, 6, 7), live(7)], [("lost", 4)]),
        (ALL, [resume(2), *moves(3, 4, 5, 6)], [("lost", 7)]),
        (SOME, [resume(2), *moves(5, 6, 7), live(7)], [("silent", 3), ("silent", 4)]),
        # conflation takes what it must not
        (
            SOME,
            [resume(2), conflated(3, 7, 3), *moves(3, 4), live(7)],
            [("lost", 6), ("lost", 7)],
        ),
        (SOME, [resume(2), conflated(3, 7, 4), moved(7), live(7)], [("lost", 6)]),
        # sent again, out of order, or never published
        (ALL, [resume(2), *moves(3, 4, 4, 5, 6, 7)], [("repeated", 4)]),
        (ALL, [resume(2), *moves(2, 3, 4, 5, 6, 7)], [("reordered", 2)]),
        (
            ALL,
            [resume(2), *moves(3, 4, 5, 6, 7), (of_row(8, "a"), "e:8")],
            [("phantom", 8), ("ahead", 8)],
        ),
        # one number, two events; one event, two payloads
        (ALL, [resume(2), (of_row(3, "a", at=1), "e:3"), *moves(4, 5, 6, 7)], [("reused", 3)]),
        (
            ALL,
            [resume(2), (of_row(3, "a", status="off"), "e:3"), *moves(4, 5, 6, 7)],
            [("changed", 3)],
        ),
        # gaps and conflations that are none
        (ALL, [resume(2), gap(3, 4), *moves(3, 4, 5, 6, 7)], [("untrue", 3)]),
        (
            ALL,
            [resume(2), gap(3, 4), *moves(5, 6, 7)],
            [
                ("lost", 3),
                ("lost", 4),
            ],
        ),
        (
            ALL,
            [resume(2), conflated(3, 4, 2), *moves(5, 6, 7)],
            [("lost", 3), ("lost", 4), ("untrue", 3)],
        ),
        (SOME, [resume(2), conflated(3, 7, 2), *moves(6, 7)], [("untrue", 3)]),
        (SOME, [resume(2), conflated(3, 7, 1), *moves(3, 4, 5, 6, 7)], [("untrue", 3)]),
        (SOME, [resume(2), gap(3, 4), *moves(3, 4, 5, 6, 7)], [("untrue", 3)]),
        # a start that was not asked for
        (ALL, [resume(3), *moves(4, 5, 6, 7)], [("untrue", 3)]),
        (
            ALL,
            [reported("snapshot", channels=["c"], reason="EPOCH_CHANGED"), moved(7), live(7)],
            [("untrue", 0)],
        ),
        # positions that prove too much
        (ALL, [resume(2), beat(5), *moves(3, 4, 5, 6, 7)], [("ahead", s) for s in (3, 4, 5)]),
        (ALL, [resume(2), *moves(3, 4, 5, 6, 7), beat(8)], [("ahead", 8)]),
        (
            ALL,
            [resume(2), *moves(3, 4, 5, 6, 7), reported("heartbeat", position="f:7")],
            [("ahead", 7)],
        ),
        # rows that are not those that there are
        (NEW, [*rows(1), live(2), *moves(3, 4, 5, 6, 7)], [("stale", 2)]),
        (NEW, [*rows(1, 2), live(4), *moves(5, 6, 7)], [("stale", 3), ("stale", 4)]),
        (NEW, [*rows(5, 4), live(7)], [("stale", 7)]),
        (NEW, [*rows(4, 7), live(7)], [("stale", 7)]),
    ],
)
def test_what_was_sent_wrongly_is_found(
    said: dict[str, object],
    heard: list[tuple[bytes, str | None]],
    found: list[tuple[str, int]],
) -> None:
    assert list(dict.fromkeys(kinds(flaws(told_to(heard, **said))))) == found


def test_what_exists_no_more_must_be_sent_as_a_gap_and_nothing_else() -> None:
    right = [resume(2), gap(3, 4), *moves(5, 6, 7)]
    check(told_to(right, missing=(3, 4), **ALL))  # type: ignore[arg-type]
    for heard, found in (
        ([resume(2), *moves(5, 6, 7)], [("lost", 3), ("lost", 4)]),
        ([resume(2), gap(3, 3), *moves(5, 6, 7)], [("lost", 4)]),
        ([resume(2), gap(3, 5), *moves(6, 7)], [("lost", 5)]),
    ):
        assert kinds(flaws(told_to(heard, missing=(3, 4), **ALL))) == found  # type: ignore[arg-type]


def test_what_was_not_asked_for_is_a_phantom() -> None:
    heard = [resume(2), *moves(3, 4, 5, 6, 7)]
    history = told_to(heard, **ALL, wants=lambda event: event["key"] == "a")  # type: ignore[arg-type]
    assert kinds(flaws(history)) == [("phantom", 4), ("phantom", 6)]


def test_a_newcomer_who_is_offered_less_than_was_acknowledged_is_stale() -> None:
    history = told_to([resume(2), *moves(3, 4, 5, 6, 7)], **ALL)  # type: ignore[arg-type]
    session = history.sessions[-1]
    session.began = 100
    assert kinds(flaws(history)) == [("stale", 0)]
    session.heard[0] = reported("welcome", head="e:7")
    check(history)


def test_what_is_held_lives_on_from_connection_to_connection() -> None:
    history = told_to([*rows(1, 2), live(2), *moves(3, 4)], **NEW, settled=False)  # type: ignore[arg-type]
    later = history.session("s", start="e:4", settled=True)
    later.heard = [WELCOME, resume(4), *moves(5, 6, 7)]
    check(history)
    later.heard = [WELCOME, resume(4), *moves(5, 7)]
    assert kinds(flaws(history)) == [("stale", 7), ("lost", 6)]


# --- what rows become


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
