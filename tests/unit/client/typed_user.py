"""What a user's program looks like to mypy --strict. Checked by `tox -e typing`; never run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, assert_type

from telecast.client import (
    Change,
    Client,
    Op,
    PositionFile,
    PositionRow,
    Refused,
    State,
    TelecastError,
    Update,
    View,
    blocking,
)


class Shelf:
    """A store of the user's own."""

    def load(self) -> str | None:
        return None

    def save(self, position: str | None) -> None:
        print(position)


async def key() -> str:
    return "tc_"


async def use() -> None:
    async with Client("https://telecast.example", key=key, transport="sse") as telecast:
        positions = await telecast.view("positions", traderId="t1", symbol=["A", "B"])
        assert_type(positions, View[PositionRow])
        assert_type(positions["p1"]["quantity"], str)
        assert_type(positions["p1"]["realizedPnL"], str | None)
        assert_type(positions.state, State)
        other = await telecast.view("orders")
        assert_type(other, View[Mapping[str, Any]])
        async for update in positions.changed:
            assert_type(update, Update)
            assert_type(update.keys, frozenset[str])
        async with aclosing(telecast.follow("positions", keep=PositionFile("place"))) as changes:
            async for change in changes:
                assert_type(change, Change)
                assert_type(change.op, Op)
                assert_type(change.position, str | None)
        async for change in telecast.follow("positions", keep=Shelf(), when_full="conflate"):
            assert_type(change.row, Mapping[str, Any])
        try:
            receipt = await telecast.publish("positions", {"id": "p1"})
            assert_type(receipt, dict[str, Any])
        except Refused as refused:
            assert_type(refused.status, int)
            raise TelecastError("X", refused.message) from refused


def use_without_asyncio() -> None:
    with blocking.Client("https://telecast.example", key="tc_") as telecast:
        positions = telecast.view("positions", traderId="t1")
        assert_type(positions, blocking.View[PositionRow])
        assert_type(positions["p1"]["quantity"], str)
        assert_type(positions.rows(), dict[str, PositionRow])
        assert_type(positions.wait(1.5), Update | None)
        assert_type(telecast.view("orders"), blocking.View[Mapping[str, Any]])
        for change in telecast.follow("positions", keep=Shelf()):
            assert_type(change, Change)
        assert_type(telecast.publish("positions", {"id": "p1"}), dict[str, Any])
