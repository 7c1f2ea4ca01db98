"""A connection's state machines: only the moves of the table, and an end from everywhere."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from telecast.net import plain
from telecast.net.plain import Flow, PlainWire
from telecast.web.streams import websocket
from telecast.web.streams.websocket import Reading


@pytest.mark.parametrize(
    ("moves", "end"), [(plain.MOVES, Flow.CLOSED), (websocket.MOVES, Reading.OVER)]
)
def test_every_state_has_a_row_and_reaches_the_end_in_one_move(moves: Any, end: Any) -> None:
    assert set(moves) == set(type(end))
    assert moves[end] == frozenset()
    assert all(end in moves[state] for state in moves if state is not end)


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
