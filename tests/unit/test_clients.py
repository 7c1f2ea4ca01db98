"""Who is let in when there is no room: whose ghost makes some, and whose must not."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from fakes import FakeSink, VirtualLoop
from telecast.clients import Client, ClientLimits, Clients
from telecast.errors import PeerFault, TelecastError
from telecast.fanout.selection import Selection
from telecast.fanout.subscriber import Subscriber
from telecast.model import Principal
from telecast.protocol.framing import WS

BOT = Principal(key_id="0badcafe", name="a bot", scopes=frozenset({"read"}))
NUMBERS = count()


def clients(**limits: int) -> Clients:
    most: dict[str, Any] = {
        "max_connections": 9,
        "max_connections_per_key": 9,
        "max_connections_per_address": 9,
        "new_connections_per_second": 100.0,
        "new_connections_burst": 100.0,
    }
    keys: Any = None  # asked for nothing here
    return Clients(ClientLimits(**most | limits), keys, clock=lambda: 0.0)


def client(address: str, *, silent: int = 0) -> Client:
    number = next(NUMBERS)
    one = Client(
        connection_id=f"c{number}",
        client_id="bot",
        principal=BOT,
        address=address,
        door="ws",
        opened_at=number,
    )
    loop = VirtualLoop()
    loop.close()
    sink = FakeSink(loop)
    one.subscriber = Subscriber(
        connection_id=one.connection_id, door=WS, sink=sink, selection=Selection()
    )
    one.subscriber.silent_beats = silent
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
