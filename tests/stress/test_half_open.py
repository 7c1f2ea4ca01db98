"""Lines that are cut without a word: the service finds out by itself, and says why in its metrics.

The cut is real: packets are lost between two network namespaces, and both ends go on as if not.
"""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from tests.support.payloads import price
from tests.support.service.process import Service
from tests.support.service.rest import history, metric, publish
from tests.support.sockets import cable as cables
from tests.support.sockets.crowd import Crowd, Member

HEARTBEAT = 5
CUT_OFF = 10
WS_BEATS, SSE_BEATS = 5, 15
"""Heartbeats that a healthy client hears until those who are cut off must be gone: four, and the
45 s of no progress from a heartbeat on, with one and more to spare."""
MOST_SECONDS = 150
ASKED = {"channels": "market-data", "delivery": "all", "heartbeat": HEARTBEAT}

_UNABLE = cables.unable()
pytestmark = [
    pytest.mark.skipif(_UNABLE is not None, reason=str(_UNABLE)),
    pytest.mark.timeout(2 * MOST_SECONDS),
]


class Pulse:
    """One who is not cut off, and counts the heartbeats."""

    def __init__(self, member: Member) -> None:
        self._member = member

    @property
    def beats(self) -> int:
        return self._member.data.count(b'"type":"heartbeat"')


async def test_a_line_that_is_cut_without_a_word_is_noticed_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    with cables.Cable(here=True) as cable:
        own = Service(tmp_path, host=cables.NEAR, behind_proxy="true")
        own.url = f"http://{cables.NEAR}:{own.port}"
        try:
            async with asyncio.timeout(MOST_SECONDS):
                await own.start()
                await _cut_and_come_back(own, cable)
                await own.stop()
                assert own.complaints() == []
        finally:
            await own.end()


async def _cut_and_come_back(own: Service, cable: cables.Cable) -> None:
    where = own.port, own.key, cables.NEAR
    stop = False
    with (
        Crowd(*where) as here,
        Crowd(*where, lambda: cables.socket_in(cable.far)) as there,
    ):
        transports = itertools.cycle(("ws", "sse"))
        healthy = [here.come(next(transports), **ASKED) for _ in range(2)]
        far = [there.come(next(transports), **ASKED) for _ in range(CUT_OFF)]
        await asyncio.to_thread(here.until, here.all_live)
        await asyncio.to_thread(there.until, there.all_live)
        start = far[0].position()
        await publish(own, "market-data", price(price="1.5"))
        await asyncio.to_thread(there.until, lambda: all(m.events() for m in far))
        reading = asyncio.create_task(asyncio.to_thread(here.until, lambda: stop))
        cable.cut()
        pulse = Pulse(healthy[0])
        before = pulse.beats
        while await metric(own, "telecast_connections", transport="ws") > 1:
            assert pulse.beats - before <= WS_BEATS, "the WebSockets are still there"
        silent = await metric(own, "telecast_evictions_total", code="NO_SIGN_OF_LIFE")
        assert silent == CUT_OFF / 2
        while await metric(own, "telecast_connections", transport="sse") > 1:
            assert pulse.beats - before <= SSE_BEATS, "the event streams are still there"
        assert await metric(own, "telecast_connections") == len(healthy)
        await publish(own, "market-data", *(price(price=f"{n}.5") for n in range(2, 100)))
        cable.mend()
        # The cut off find out at their next word, or never; they come back over either transport.
        with Crowd(*where, lambda: cables.socket_in(cable.far)) as back:
            for member in far:
                other = {"ws": "sse", "sse": "ws"}[member.transport]
                back.come(other, **ASKED, since=member.position())
            await asyncio.to_thread(back.until, back.all_live)
            truth = await history(own, "market-data", after=start)
            assert len(truth) == 99
            for member, again in zip(far, back.members, strict=True):
                assert member.events() + again.events() == truth
        stop = True
        await reading
        for member in healthy:
            assert member.events() == truth
