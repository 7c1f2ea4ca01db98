"""A wall clock that jumps: streams, positions, retries. Only stamps may show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.payloads import position
from tests.support.service.live import served

HOUR, DAY = 3600.0, 86400.0


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize("transport", ["ws", "sse"])
@pytest.mark.parametrize("jump", [HOUR, -HOUR, 3 * DAY, -3 * DAY])
async def test_a_stream_goes_on_through_a_jump_and_so_does_its_position(
    tmp_path: Path, transport: str, jump: float
) -> None:
    clock = Clock()
    journal = f"sqlite:{tmp_path / 'journal.db'}"
    async with served(journal=journal, now=clock) as live:
        async with live.transport(transport, channels="positions", delivery="all") as stream:
            await stream.opening()
            await live.publish("positions", position("before"))
            (before,) = await stream.events()
            clock.seconds += jump
            await live.parts.journal.trim()
            await live.publish("positions", position("after"))
            (after,) = await stream.events()
            assert after.body["key"] == "after"
        assert [each.body["seq"] for each in (before, after)] == [1, 2]
        resumed = {"channels": "positions", "delivery": "all", "since": live.at(1)}
        async with live.transport(transport, **resumed) as stream:
            reported = [each for each in await stream.opening() if each.type == "event"]
            assert [each.body["key"] for each in reported] == ["after"]
        assert live.parts.ready


@pytest.mark.parametrize("jump", [HOUR, -HOUR, -3 * DAY])
async def test_a_retry_after_a_jump_is_the_same_publish(tmp_path: Path, jump: float) -> None:
    clock = Clock()
    retry = {"headers": {"Idempotency-Key": "one"}}
    async with served(journal=f"sqlite:{tmp_path / 'journal.db'}", now=clock) as live:
        first = await live.publish("positions", position(), **retry)
        clock.seconds += jump
        await live.parts.journal.trim()
        status, again, _ = await live.post("positions", [position()], **retry)
        assert (status, again["data"]["duplicate"]) == (201, True)
        assert again["data"]["position"] == first["position"]
