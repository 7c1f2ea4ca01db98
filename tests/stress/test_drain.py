"""A service that goes down under a crowd: all are notified, nobody loses, and not all come back
in the same moment."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests.support.payloads import price
from tests.support.service.process import Service, service
from tests.support.service.rest import history, publish
from tests.support.sockets.crowd import Crowd, Member, descriptors

CLIENTS = 2_000
STALLED = 50
"""More of them, who read nothing while it goes down."""
DRAIN_SECONDS = 3.0
SLOTS = 10
MOST_SECONDS = 110
ROOM = {
    "max_connections_per_key": 20_000,
    "max_connections_per_address": 20_000,
    "new_connections_per_second": 100_000,
}
QUERY = {"channels": "market-data", "delivery": "all"}
END = "THE-END"


async def prices_until_refused(own: Service, said: list[dict[str, Any]], name: str) -> None:
    """One after the other; `said` is what was acknowledged."""
    async with aiohttp.ClientSession(headers=own.headers) as session:
        for number in itertools.count():
            rows = [price(f"{name}{n}", price=f"{number}.5") for n in range(3)]
            async with session.post(
                f"{own.url}/api/v1/channels/market-data/events", json=rows
            ) as response:
                answer = await response.json()
                if response.status != 201:
                    assert answer["error"]["code"] == "SHUTTING_DOWN"
                    return
                said.append(answer["data"])


def began(member: Member) -> str:
    """The position from which on it heard everything."""
    live = next(json for json in member.messages() if b'"type":"live"' in json)
    found: str = orjson.loads(live)["position"]
    return found


def after(position: str, events: Sequence[bytes]) -> str:
    """Where one who was there and heard these comes back to."""
    if not events:
        return position
    return f"{position.partition(':')[0]}:{orjson.loads(events[-1])['seq']}"


async def test_a_crowd_is_notified_comes_back_spread_out_and_has_lost_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    clients = descriptors(CLIENTS)
    acknowledged: list[dict[str, Any]] = []
    async with (
        asyncio.timeout(MOST_SECONDS),
        service(tmp_path, drain_seconds=DRAIN_SECONDS, **ROOM) as own,
    ):
        with Crowd(own.port, own.key) as crowd:
            transports = itertools.cycle(("ws", "sse"))
            stalled = [
                crowd.come(next(transports), receive_buffer=4096, **QUERY) for _ in range(STALLED)
            ]
            readers = [crowd.come(next(transports), **QUERY) for _ in range(clients)]
            await asyncio.to_thread(crowd.until, crowd.all_live)
            crowd.stall(stalled)
            publishers = [
                asyncio.create_task(prices_until_refused(own, acknowledged, name)) for name in "AB"
            ]
            await asyncio.to_thread(crowd.until, lambda: b'"price":"9.5"' in readers[-1].data)
            os.kill(own.pid, signal.SIGTERM)
            await asyncio.to_thread(crowd.until, lambda: crowd.overs >= clients)
            crowd.go_on(stalled)
            await asyncio.to_thread(crowd.until, lambda: crowd.overs == len(crowd.members))
            for publisher in publishers:
                with contextlib.suppress(aiohttp.ClientError):
                    await publisher
            assert await own.gone() == 0
            for line in own.complaints():
                assert orjson.loads(line)["code"] == "SHUTTING_DOWN", line
            own.log.clear()
            notices = [everything_said(member) for member in readers]
            returns = sorted(said["timestamp"] + said["retryAfterMs"] for said in notices)
            record_property(
                "return moments, ms", [returns[0] - returns[0], returns[-1] - returns[0]]
            )
            spread(returns)
            # It is there again, on the same journal: everybody comes back to where it was.
            await own.start()
            back = Crowd(own.port, own.key)
            with back:
                reported = [(member, began(member), member.events()) for member in crowd.members]
                for member, position, heard in reported:
                    back.come(member.transport, since=after(position, heard), **QUERY)
                await asyncio.to_thread(back.until, back.all_live)
                await publish(own, "market-data", price(END))
                await asyncio.to_thread(
                    back.until, lambda: all(END.encode() in each.data for each in back.members)
                )
                truth = await history(own, "market-data")
                seqs = [orjson.loads(json)["seq"] for json in truth]
                assert {each["lastSeq"] for each in acknowledged} <= set(seqs)
                record_property("acknowledged", len(acknowledged))
                for (_, position, heard), again in zip(reported, back.members, strict=True):
                    start = int(position.partition(":")[2])
                    missed = [json for seq, json in zip(seqs, truth, strict=True) if seq > start]
                    assert heard + again.events() == missed, position


def everything_said(member: Member) -> dict[str, Any]:
    """The notice of one who read until the end, which was a good one."""
    notice = member.notice()
    assert notice is not None, member.data[-400:]
    assert notice["code"] == "SHUTTING_DOWN"
    assert notice["retryable"]
    assert member.ended_well(), member.data[-200:]
    if member.transport == "ws":
        assert member.close_code() == 1001
    else:
        assert b"retry: %d\n" % notice["retryAfterMs"] in member.data[-1_000:]
    return notice


def spread(moments: Sequence[int]) -> None:
    """That those who obey come back over as long as the drain took, and about evenly."""
    first, last = moments[0], moments[-1]
    assert last - first > 0.8 * 1000 * DRAIN_SECONDS, "all come back at once"
    slots = Counter(int(SLOTS * (moment - first) / (last - first + 1)) for moment in moments)
    assert len(slots) == SLOTS, slots
    assert max(slots.values()) < 3 * len(moments) / SLOTS, slots
