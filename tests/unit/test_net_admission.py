"""How many sockets there are, and how long one may be silent: pure, with a clock of its own."""

from __future__ import annotations

from typing import Any

import pytest

from telecast.net import admission as under_test
from telecast.net.admission import (
    CROWDED,
    FULL,
    RESERVED_FILES,
    SILENT,
    SLOW_HEAD,
    Admission,
    SocketLimits,
    raise_open_files,
    sockets_allowed,
)
from tests.support.clock import Clock


class One:
    def __init__(self) -> None:
        self.reported: list[str] = []

    def late(self, why: str) -> None:
        self.reported.append(why)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def room(clock: Clock, **limits: Any) -> Admission:
    standard = {
        "max_sockets": 100,
        "max_per_address": None,
        "first_byte_seconds": 5.0,
        "head_seconds": 10.0,
    }
    return Admission(SocketLimits(**(standard | limits)), clock)


def connect(sockets: Admission, address: str = "192.0.2.1") -> One:
    one = One()
    sockets.arrive(one)
    assert sockets.enter(one, address)
    return one


def test_who_says_nothing_is_ended_at_its_deadline_and_not_before(clock: Clock) -> None:
    sockets = room(clock)
    one = connect(sockets)
    clock.pass_by(4.9)
    assert (one.reported, len(sockets)) == ([], 1)
    clock.pass_by(1.1)
    assert (one.reported, len(sockets)) == ([SILENT], 0)
    assert sockets.closed == {SILENT: 1}


def test_a_drip_does_not_buy_time(clock: Clock) -> None:
    sockets = room(clock)
    one = connect(sockets)
    for _ in range(10):
        sockets.begin(one)
        clock.pass_by(0.99)
    assert one.reported == []
    sockets.begin(one)
    clock.pass_by(1.2)
    assert one.reported == [SLOW_HEAD]
    assert sockets.closed == {SLOW_HEAD: 1}


def test_each_request_has_its_own_time(clock: Clock) -> None:
    sockets = room(clock)
    one = connect(sockets)
    for _ in range(5):
        sockets.begin(one)
        clock.pass_by(9)
        sockets.asked(one)
        clock.pass_by(60)
    assert one.reported == []
    sockets.begin(one)
    clock.pass_by(11.1)
    assert one.reported == [SLOW_HEAD]


def test_a_handshake_that_is_never_over_gives_its_place_back(clock: Clock) -> None:
    sockets = room(clock, max_sockets=1)
    sockets.arrive(One())
    assert sockets.full()
    clock.pass_by(6)
    assert not sockets.full()


def test_the_time_to_speak_begins_after_the_handshake(clock: Clock) -> None:
    sockets = room(clock)
    one = One()
    sockets.arrive(one)
    clock.pass_by(4.5)
    sockets.enter(one, "192.0.2.1")
    clock.pass_by(4.4)
    assert one.reported == []
    clock.pass_by(1.6)
    assert one.reported == [SILENT]


def test_a_stall_of_our_own_is_nobodys_silence(clock: Clock) -> None:
    """A process that was stopped for half a minute would end all who had asked meanwhile."""
    sockets = room(clock)
    asks, silent = connect(sockets), connect(sockets)
    sockets.begin(asks)
    clock.stop_for(30)
    clock.pass_by(0.5)
    assert (asks.reported, silent.reported) == ([], [])
    sockets.asked(asks)  # what it had sent is read now
    clock.pass_by(1)
    assert (asks.reported, silent.reported) == ([], [SILENT])


def test_nothing_runs_while_nobody_is_waited_for(clock: Clock) -> None:
    """However many connections are open: 10,000 that asked once and are kept cost no wake-up."""
    sockets = room(clock, max_sockets=10_000)
    kept = [connect(sockets) for _ in range(10_000)]
    assert len(clock.due) == 1, "one timer for all"
    for one in kept:
        sockets.asked(one)
    clock.pass_by(1)
    assert clock.due == []
    clock.pass_by(3600)
    assert clock.turns == 1
    assert len(sockets) == 10_000


def test_a_look_meets_those_only_who_are_late(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    own = under_test.itertools.takewhile

    def counted(is_late: Any, items: Any) -> Any:
        return own(lambda item: looked.append(item) or is_late(item), items)

    monkeypatch.setattr(under_test.itertools, "takewhile", counted)
    sockets = room(clock, max_sockets=10_000)
    first = connect(sockets)
    clock.pass_by(3.5)
    for _ in range(9_000):
        connect(sockets)
    looked.clear()
    clock.pass_by(2)
    assert first.reported == [SILENT]
    assert len(looked) <= 4


def test_over_the_limit_in_all_a_newcomer_is_turned_away_and_counted(clock: Clock) -> None:
    sockets = room(clock, max_sockets=2)
    first, _ = connect(sockets), connect(sockets)
    assert sockets.full()
    assert sockets.full()
    assert sockets.closed == {FULL: 2}
    sockets.leave(first)
    sockets.leave(first)
    assert not sockets.full()
    assert len(sockets) == 1


def test_over_the_limit_of_an_address_others_come_in(clock: Clock) -> None:
    sockets = room(clock, max_per_address=2)
    first, _ = connect(sockets), connect(sockets)
    turned_away = One()
    sockets.arrive(turned_away)
    assert not sockets.enter(turned_away, "192.0.2.1")
    sockets.leave(turned_away)
    assert sockets.closed == {CROWDED: 1}
    connect(sockets, "192.0.2.2")
    sockets.leave(first)
    connect(sockets)
    assert len(sockets) == 3


def test_an_address_that_is_gone_is_forgotten(clock: Clock) -> None:
    sockets = room(clock, max_per_address=1)
    for n in range(50):
        one = connect(sockets, f"192.0.2.{n}")
        refused = One()
        sockets.arrive(refused)
        assert not sockets.enter(refused, f"192.0.2.{n}")
        sockets.leave(refused)
        sockets.leave(one)
    for waiting in (sockets._by_address, sockets._addresses, sockets._silent, sockets._asking):
        assert not waiting


@pytest.mark.parametrize(
    ("wanted", "files", "allowed"),
    [
        (0, 1024, 1024 - RESERVED_FILES),
        (500, 1024, 500),
        (100_000, 1024, 1024 - RESERVED_FILES),
        (0, RESERVED_FILES, 1),
    ],
)
def test_files_are_kept_for_the_journal_whatever_is_wanted(
    wanted: int, files: int, allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test.resource, "getrlimit", lambda _: (files, files))
    assert sockets_allowed(wanted) == allowed


@pytest.mark.parametrize(
    ("files", "most", "raised"),
    [
        (1024, 1_000_000, 20_000 + RESERVED_FILES),
        (1024, 4096, 4096),
        (50_000, 1_000_000, None),
        (4096, 4096, None),
    ],
)
def test_more_files_are_asked_for_where_the_system_lets_us_and_never_fewer(
    files: int, most: int, raised: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(under_test.resource, "getrlimit", lambda _: (files, most))
    monkeypatch.setattr(under_test.resource, "setrlimit", lambda _, limits: asked.append(limits))
    raise_open_files(20_000)
    assert asked == ([] if raised is None else [(raised, most)])
