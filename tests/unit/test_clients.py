"""Who is let in when there is no room: whose ghost makes some, and whose must not."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from telecast.clients import Client, ClientLimits, Clients
from telecast.errors import PeerFault, TelecastError
from telecast.fanout.subscriber import Subscriber
from telecast.model import Principal
from telecast.protocol.framing import WS
from telecast.tape.selection import Selection
from tests.support.fakes import FakeSink, VirtualLoop

BOT = Principal(key_id="0badcafe", name="a bot", scopes=frozenset({"read"}))
NUMBERS = count()


def clients(keys: Any = None, **limits: int) -> Clients:
    most: dict[str, Any] = {
        "max_connections": 9,
        "max_connections_per_key": 9,
        "max_connections_per_address": 9,
        "new_connections_per_second": 100.0,
        "new_connections_burst": 100.0,
    }
    return Clients(ClientLimits(**most | limits), keys, clock=lambda: 0.0)


def client(
    address: str, *, silent: int = 0, name: str | None = "bot", reads_only: bool = False
) -> Client:
    number = next(NUMBERS)
    one = Client(
        connection_id=f"c{number}",
        client_id=name,
        principal=BOT.reading() if reads_only else BOT,
        reads_only=reads_only,
        address=address,
        transport="ws",
        opened_at=number,
    )
    loop = VirtualLoop()
    loop.close()
    sink = FakeSink(loop)
    one.subscriber = Subscriber(
        connection_id=one.connection_id, transport=WS, sink=sink, selection=Selection()
    )
    one.subscriber.watch.silent_beats = silent
    return one


def evicted(*those: Client) -> list[Client]:
    """Filled with those that are ended."""
    ended: list[Client] = []

    def note(one: Client) -> Any:
        def evict(fault: TelecastError) -> None:
            ended.append(one)

        return evict

    for one in those:
        one.evict = note(one)
    return ended


def test_one_who_is_refused_all_the_same_has_ended_nobody() -> None:
    """A ghost elsewhere made room in all, and then the address was full."""
    own = clients(max_connections=2, max_connections_per_address=1)
    ghost, here = client("there", silent=1), client("here")
    own.admit(ghost)
    own.admit(here)
    ended = evicted(ghost, here)
    with pytest.raises(PeerFault):
        own.admit(client("here"))
    assert ended == []
    assert set(own) == {ghost, here}


def test_one_ghost_makes_room_under_every_limit_at_once() -> None:
    own = clients(max_connections=2, max_connections_per_key=2, max_connections_per_address=1)
    elsewhere, here = client("there", silent=1), client("here", silent=1)
    own.admit(elsewhere)
    own.admit(here)
    ended = evicted(elsewhere, here)
    own.admit(newcomer := client("here"))
    assert ended == [here]
    assert set(own) == {elsewhere, newcomer}


def test_a_namesake_is_one_of_the_same_key_name_and_transport() -> None:
    own = clients()
    older, other, nameless, sse = (client("here", name=name) for name in ("a", "b", None, "a"))
    stranger, newer = client("here", name="a"), client("here", name="a")
    sse.transport = "sse"
    stranger.principal = replace(BOT, key_id="feed0000")
    for one in (older, other, nameless, sse, stranger, newer):
        own.admit(one)
    ended = evicted(older, other, nameless, sse, stranger, newer)
    own.supersede(newer)
    own.supersede(nameless)
    assert ended == [older]
    assert set(own) == {other, nameless, sse, stranger, newer}
    for one in own:
        own.leave(one)
    assert not own._namesakes
    assert not own._by_key
    assert not own._by_address


class Keys:
    """One key, and how often its rights were asked for."""

    def __init__(self) -> None:
        self.holds: Principal | None = BOT

    def current(self, key_id: str) -> Principal | None:
        return self.holds


def test_a_key_that_changes_changes_all_its_clients_a_step_each() -> None:
    keys = Keys()
    own = clients(keys)
    lookers, others = (
        [client("here", name=None, reads_only=looks) for _ in range(3)] for looks in (True, False)
    )
    narrowed: list[Principal] = []
    for one in (*lookers, *others):
        one.narrow = narrowed.append
        own.admit(one)
    assert list(own._recheck()) == []
    wider = replace(BOT, scopes=frozenset({"read", "publish"}))
    keys.holds = wider
    steps = own._recheck()
    next(steps)
    assert narrowed == [wider]
    assert len(list(steps)) == 2
    assert narrowed == [wider] * 3, "browsers look on as before"
    ended = evicted(*lookers, *others)
    keys.holds = None
    assert len(list(own._recheck())) == 6
    assert ended == [*lookers, *others]


def test_neither_a_newcomer_nor_a_look_at_the_keys_looks_at_every_client_of_a_key() -> None:
    looks = 0

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal looks
            looks += 1
            return str.__eq__(self, other)

    class Rights:
        """As they are, whatever they are held against."""

        key_id = BOT.key_id
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            nonlocal looks
            looks += 1
            return True

    own = clients(Keys(), max_connections=99, max_connections_per_key=99)
    own._limits = replace(own._limits, max_connections_per_address=99)
    rights: Any = Rights()
    for number in range(80):
        one = client("here", name=Name(f"n{number}"), reads_only=number % 2 == 0)
        one.principal = rights
        own.admit(one)
    newcomer = client("here", name=Name("n40"))
    own.admit(newcomer)
    ended = evicted(*own)
    looks = 0
    own.supersede(newcomer)
    assert [one.client_id for one in ended] == ["n40"]
    assert looks <= 8
    looks = 0
    assert list(own._recheck()) == []
    assert looks == 2, "one of those that only read, and one of the others"


def test_of_one_that_has_ended_few_values_of_its_filters_are_kept() -> None:
    """Regression: a thousand that had ended kept 80 KB of filters each."""
    own, one = clients(), client("10.0.0.1")
    own.admit(one)
    values = frozenset(f"{number:03}" for number in range(240))
    one.filters = lambda: {"market-data": {"symbol": values, "exchange": frozenset({"X"})}}
    own.note_end(one, 1.0, None, head=0)
    own.leave(one)
    (ended,) = own.ended_before(None)
    assert ended.facts is not None
    kept = ended.facts.filters["market-data"]
    assert kept == {
        "symbol": frozenset(f"{number:03}" for number in range(16)),
        "exchange": frozenset({"X"}),
    }
