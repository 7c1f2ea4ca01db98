"""A connection's state machines: only the moves of the table, and an end from everywhere."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from telecast.client import table
from telecast.client.connection import turns
from telecast.client.connection.turns import Stage, Turns
from telecast.fanout import catchup, flusher
from telecast.net import plain
from telecast.net.plain import Flow, PlainWire
from telecast.web.front import connection
from telecast.web.streams import websocket
from telecast.web.streams.websocket import Reading


@pytest.mark.parametrize(
    ("moves", "end"), [(plain.MOVES, Flow.CLOSED), (websocket.MOVES, Reading.OVER)]
)
def test_every_state_has_a_row_and_reaches_the_end_in_one_move(moves: Any, end: Any) -> None:
    assert set(moves) == set(type(end))
    assert moves[end] == frozenset()
    assert all(end in moves[state] for state in moves if state is not end)


@pytest.mark.parametrize(
    "moves", [connection.MOVES, turns.MOVES, table._MOVES, catchup.MOVES, flusher.MOVES]
)
def test_what_has_no_end_can_leave_every_state_and_come_to_every_state(moves: Any) -> None:
    [states] = {type(state) for state in moves}
    assert set(moves) == set(states)
    for state in states:
        reached, new = set(), {state}
        while new:
            reached |= new
            new = {to for each in new for to in moves[each]} - reached
        assert reached == set(states), state


def test_the_other_transport_is_tried_at_once_only_where_neither_has_just_worked() -> None:
    own = Turns("auto")
    assert (own.next(), own.failed(), own.next(), own.failed()) == ("ws", True, "sse", False)
    assert own.next() == "ws"
    own.worked()
    assert (own.failed(), own.next()) == (False, "ws")
    assert own.failed()
    with pytest.raises(AssertionError, match="no way from SECOND to SECOND"):
        own.move(Stage.SECOND)


async def test_a_closed_wire_can_not_be_moved_and_takes_what_is_written_for_nothing() -> None:
    ours, peer = socket.socketpair()
    with peer:
        ours.setblocking(False)
        wire = PlainWire(ours, asyncio.get_running_loop())
        wire.abort()
        with pytest.raises(AssertionError, match="no way from CLOSED to SENDING"):
            wire.move(Flow.SENDING)
        assert wire.write(b"more")
        wire.finish()
        wire.end()
        assert peer.recv(10) == b""
