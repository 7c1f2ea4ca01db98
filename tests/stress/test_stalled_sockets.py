"""Sockets that really stall, beside healthy ones, in front of the service as it runs in production.

No times are judged here, only what is sent, to whom, and what the waiting costs.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest

from tests.support.checking.history import folded, listener_flaws
from tests.support.payloads import position
from tests.support.service.process import Service, service
from tests.support.service.rest import metric, publish, rows
from tests.support.sockets.raw import Line, Over, dial
from tests.support.sockets.stalls import (
    BATCHES,
    HEARD,
    after,
    burning,
    conflation_flaws,
    everything,
    pinned,
)

STALLED = 40
HEALTHY = 4
MIB = 2**20
SMALL = 4_096
"""The receive buffer of a client that stalls."""
ROOMY = 256 * 1024
TAPE_EVENTS = 2_000
"""Less than is published in a stall: what the stalled missed is compacted, or in the journal."""
SLOW_TURNS = 120
"""Rounds of events, each some 20 ms: of which a slow reader takes one, for several stall times."""
END = "the end"
MOST_SECONDS = 100


class Client:
    """One stream from its snapshot on."""

    def __init__(self, line: Line, transport: str, delivery: str) -> None:
        self.line = line
        self.transport = transport
        self.delivery = delivery
        self.rows: list[bytes] = []
        self.heard: list[bytes] = []
        self.announced: list[tuple[int, int, int]] = []
        """(how many events were heard before, from, to) of each `conflated`."""
        self.position = ""

    @classmethod
    async def open(cls, own: Service, transport: str, delivery: str, *, stalls: bool) -> Client:
        line = await dial(
            *(transport, own.port, own.key),
            channels=",".join(HEARD),
            delivery=delivery,
            receive_buffer=SMALL if stalls else None,
            appetite=SMALL if stalls else ROOMY,
        )
        client = cls(line, transport, delivery)
        opening = await line.until("live")
        client.rows = [reported.json for reported in opening if reported.type == "event"]
        client.position = opening[-1].body["position"]
        return client

    @property
    def since(self) -> int:
        """The seq at which its snapshot was taken."""
        return int(self.position.rpartition(":")[2])

    async def hear(self) -> bool:
        """Take in one message; False once it was the end."""
        reported = await self.line.read()
        match reported.type:
            case "event":
                self.heard.append(reported.json)
                return bool(reported.body["key"] != END)
            case "conflated":
                where = reported.body["fromSeq"], reported.body["toSeq"]
                self.announced.append((len(self.heard), *where))
            case _:
                assert reported.type == "heartbeat", reported
        return True

    async def hear_all(self) -> None:
        while await self.hear():
            pass


async def test_stalled_sockets_cost_little_lose_nothing_and_disturb_nobody(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with (
        asyncio.timeout(MOST_SECONDS),
        service(tmp_path, tape_events=TAPE_EVENTS) as own,
        burning(own) as fire,
        AsyncExitStack() as lines,
    ):

        async def client(transport: str, delivery: str, *, stalls: bool) -> Client:
            opened = await Client.open(own, transport, delivery, stalls=stalls)
            lines.callback(opened.line.cut)
            return opened

        async with asyncio.TaskGroup() as healthy_ones:
            transports = itertools.cycle(("ws", "sse"))
            healthy = [await client(next(transports), "all", stalls=False) for _ in range(HEALTHY)]
            for each in healthy:
                healthy_ones.create_task(each.hear_all())
            await fire.batches(2 * BATCHES)
            without = await metric(own, "process_resident_memory_bytes")
            kinds = itertools.cycle(itertools.product(("ws", "sse"), ("conflated", "all")))
            stalled = [await client(*next(kinds), stalls=True) for _ in range(STALLED)]
            await fire.batches()
            beside = await metric(own, "process_resident_memory_bytes")
            each_costs = (beside - without) / STALLED
            record_property("KiB a stalled client", round(each_costs / 1024, 1))
            record_property("MiB without and with them", (without / MIB, beside / MIB))
            assert without > 0
            assert each_costs < MIB
            assert await metric(own, "telecast_connections") == STALLED + HEALTHY, "nobody was cut"
            assert await metric(own, "telecast_stalls_total") >= STALLED
            await publish(own, "positions", position(END))
        truth = await everything(own)
        for each in healthy:
            assert listener_flaws(after(truth, each.since), each.heard) == []
            assert each.announced == []
        # Now they read again, and hear what they missed.
        for each in stalled:
            each.line.widen(ROOMY)
        await asyncio.gather(*(each.hear_all() for each in stalled))
        must = pinned(truth)
        state = {where: row for name in HEARD for where, row in (await rows(own, name)).items()}
        for each in stalled:
            missed = after(truth, each.since)
            if each.delivery == "all":
                assert listener_flaws(missed, each.heard) == []
                assert each.announced == []
            else:
                assert conflation_flaws(missed, must, each.heard, each.announced) == []
                assert len(each.heard) < len(missed), "it was to be stalled"
            assert folded([*each.rows, *each.heard]) == state
        assert await metric(own, "telecast_evictions_total") == 0
        record_property("events during the stall", len(after(truth, stalled[0].since)))
        record_property("pinned among them", len({s for s in must if s > stalled[0].since}))
        record_property("heard by a conflated one", len(stalled[0].heard))


async def test_who_takes_no_byte_for_the_stall_time_is_gone_and_resumes_whole(
    tmp_path: Path,
) -> None:
    async with (
        asyncio.timeout(MOST_SECONDS),
        service(tmp_path, tape_events=TAPE_EVENTS, stall_seconds=1) as own,
        burning(own) as fire,
        AsyncExitStack() as lines,
    ):
        gone = [
            await Client.open(own, transport, "all", stalls=True) for transport in ("ws", "sse")
        ]
        slow = [
            await Client.open(own, transport, "all", stalls=True) for transport in ("ws", "sse")
        ]
        for each in (*gone, *slow):
            lines.callback(each.line.cut)
        await fire.batches(10)
        turns = 0
        while await metric(own, "telecast_evictions_total") < len(gone) or turns < SLOW_TURNS:
            # Slow but moving: an event now and then, and always more to come.
            await fire.batch()
            for each in slow:
                await each.hear()
            turns += 1
        evicted = await metric(own, "telecast_evictions_total", code="NO_PROGRESS")
        assert evicted == len(gone), "who moves is not cut"
        async with asyncio.TaskGroup() as others:
            for each in slow:
                each.line.widen(ROOMY)
                others.create_task(each.hear_all())
            await publish(own, "positions", position(END))
        truth = await everything(own)
        for each in slow:
            assert listener_flaws(after(truth, each.since), each.heard) == []
        for each in gone:
            each.line.widen(ROOMY)
            with pytest.raises(Over) as over:
                await each.hear_all()
            assert over.value.code in (None, 4430)
            assert len(each.heard) < len(after(truth, each.since))
            last = orjson.loads(each.heard[-1])["seq"]
            epoch = each.position.partition(":")[0]
            each.line = await dial(
                *({"ws": "sse", "sse": "ws"}[each.transport], own.port, own.key),
                channels=",".join(HEARD),
                delivery="all",
                since=f"{epoch}:{last}",
            )
            lines.callback(each.line.cut)
            await each.line.expect("welcome", "ack", "resume")
            await each.hear_all()
            assert listener_flaws(after(truth, each.since), each.heard) == []


# --- this page's own judge


def test_a_conflated_history_that_is_wrong_is_found() -> None:
    def event(seq: int, key: str, op: str = "upsert", channel: str = "positions") -> bytes:
        return orjson.dumps({"channel": channel, "seq": seq, "op": op, "key": key, "data": {}})

    truth = [event(1, "a"), event(2, "a"), event(3, "a"), event(4, "b"), event(5, "a")]
    truth += [event(6, "a", "delete"), event(7, "x", channel="market-data")]
    truth += [event(8, "x", channel="market-data")]
    must = pinned(truth)
    assert must == {1, 4, 6}
    right = [truth[index] for index in (0, 3, 5, 7)]
    assert conflation_flaws(truth, must, right, [(0, 1, 8)]) == []
    assert conflation_flaws(truth, must, truth, []) == []
    assert len(conflation_flaws(truth, must, right, [])) == 4
    assert len(conflation_flaws(truth, must, right, [(0, 1, 5)])) == 1
    assert len(conflation_flaws(truth, must, right, [(3, 1, 8)])) == 3, "it was said too late"
    assert len(conflation_flaws(truth, must, [*right[:1], *right[2:]], [(0, 1, 8)])) == 2
    assert len(conflation_flaws(truth, must, right[:3], [(0, 1, 8)])) == 1
    assert len(conflation_flaws(truth, must, [*right, right[0]], [(0, 1, 8)])) == 1
