"""The history checker over the client: nothing lost, nothing twice, whatever happens to the line.

A service of its own process is cut from its clients, drained and killed while they publish, follow
and view. TELECAST_CUTS says how often; each follower is cut on its own line.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from telecast.client import Change, Client, Op, State
from telecast.testing.relay import Relay, relay
from tests.support.checking.history import folded, listener_flaws
from tests.support.checking.traffic import kept
from tests.support.payloads import position, price
from tests.support.service.process import Service

CUTS = int(os.environ.get("TELECAST_CUTS", "20"))
LAST = "the last"
CHANNELS = ("positions", "market-data")
TRANSPORTS: tuple[Any, ...] = ("ws", "sse", "auto", ("ws", "sse"))


async def soon(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.02))


def as_sent(change: Change) -> bytes:
    """The event's JSON as it came: the fields stand in the order of the wire contract."""
    return orjson.dumps(
        {
            "type": "event",
            "channel": change.channel,
            "seq": change.seq,
            "op": change.op,
            "key": change.key,
            "data": change.row,
            "timestamp": change.timestamp,
        }
    )


@asynccontextmanager
async def line_to(own: Service, transport: Any) -> AsyncIterator[tuple[Relay, Client]]:
    async with relay(own.url) as line:
        client = Client(line.url, key=own.key, transport=transport, patience=60.0)
        client._pause = client._rest._pause = soon
        async with client:
            yield line, client


async def follow(client: Client, lines: list[Relay], chance: random.Random) -> list[bytes]:
    """All changes from the oldest on, to the last; its line is cut now and then."""
    line = lines[-1]
    reported: list[bytes] = []
    left = CUTS
    async for change in client.follow(*CHANNELS, since="earliest"):
        assert change.op is not Op.GAP
        if change.op is Op.RESET:
            continue
        reported.append(as_sent(change))
        if change.key == LAST:
            return reported
        if left and chance.random() < 0.3:
            left -= 1
            line.cut()
    raise AssertionError("it ended by itself")


@pytest.mark.timeout(60 + 3 * CUTS)
async def test_over_cuts_a_drain_and_a_kill_nothing_is_lost_and_nothing_comes_twice(
    tmp_path: Path,
) -> None:
    chance = random.Random(seed := random.randrange(2**32))
    print(f"seed {seed}")
    own = Service(tmp_path)
    sent = 0
    enough = asyncio.Event()

    async def publish(client: Client, name: str) -> None:
        nonlocal sent
        number = 0
        while not enough.is_set():
            number += 1
            await client.publish("positions", position(f"{name}-{number % 7}", quantity="1"))
            await client.publish("market-data", [price(name, price=str(number)), price("X")])
            sent += 3

    try:
        await own.start()
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            lines: list[Relay] = []
            publishers = []
            for name in ("a", "b"):
                line, client = await stack.enter_async_context(line_to(own, "auto"))
                lines.append(line)
                publishers.append(group.create_task(publish(client, name)))
            following = []
            views = []
            for transport in TRANSPORTS:
                line, client = await stack.enter_async_context(line_to(own, transport))
                lines.append(line)
                views.append(await client.view("positions"))
                mine = random.Random(chance.random())
                following.append(group.create_task(follow(client, list(lines), mine)))
            for number in range(2 + CUTS):
                await asyncio.sleep(0.05)
                if number == CUTS // 3:
                    await own.stop()
                    await own.start()
                elif number == 2 * CUTS // 3:
                    own.kill()
                    await own.gone()
                    await own.start()
                else:
                    chance.choice(lines).cut()
            enough.set()
            for each in publishers:
                await each
            _, client = await stack.enter_async_context(line_to(own, "ws"))
            await client.publish("positions", position(LAST))
            sent += 1
            reported = [await each for each in following]
            for view in views:
                changed = view.changed
                while LAST not in view or view.state is not State.LIVE:
                    await anext(changed)
            held = [dict(view) for view in views]
        epoch, truth = await kept(own)
        await own.stop()
    finally:
        await own.end()
    assert len(truth.events) == sent, "each publish is there, once"
    for transport, each in zip(TRANSPORTS, reported, strict=True):
        assert listener_flaws(truth.events, each) == [], transport
    rows = {key: row for (name, key), row in folded(truth.events).items() if name == "positions"}
    assert held == [rows] * len(TRANSPORTS)
    assert sum(line.count for line in lines) > CUTS, epoch
