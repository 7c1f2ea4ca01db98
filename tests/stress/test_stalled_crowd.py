"""A sixth of the crowd stops reading, in all ways in which that happens, on a service with the
settings that it ships with."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.support.checking.history import folded
from tests.support.payloads import position
from tests.support.service.process import Service, service
from tests.support.service.rest import metric, publish, rows
from tests.support.sockets.crowd import Crowd, Member
from tests.support.sockets.stalls import HEARD, after, burning, conflation_flaws, everything, pinned

HEALTHY = 500
STALLED = 100
SMALL = 4_096
"""The receive buffer of a client that stalls: it hides nothing."""
MOST_EACH = 400 * 1024
"""Bytes of the service's memory that a stalled client may cost: its full buffer, and two chunks
that were made for it alone."""
ROUNDS = 8
ROWS = 20_000
STALL_SECONDS = 45.0
TRICKLE = 1_024
"""Bytes a second."""
END = "the end"
MOST_SECONDS = 200

pytestmark = pytest.mark.timeout(2 * MOST_SECONDS)


def announced(member: Member) -> list[tuple[int, int, int]]:
    """(how many events it heard before, from, to) of each `conflated` that it was sent."""
    found, heard = [], 0
    for body in map(orjson.loads, live_part(member)):
        if body["type"] == "conflated":
            found.append((heard, body["fromSeq"], body["toSeq"]))
        heard += body["type"] == "event"
    return found


def live_part(member: Member) -> list[bytes]:
    """What came after its first `live`."""
    reported = member.messages()
    first = next(index for index, json in enumerate(reported) if b'"type":"live"' in json)
    return reported[first + 1 :]


def heard(member: Member) -> list[bytes]:
    return [json for json in live_part(member) if json.startswith(b'{"type":"event"')]


def began(member: Member) -> int:
    """The seq from which on it heard everything."""
    reported = next(json for json in member.messages() if b'"type":"live"' in json)
    return int(orjson.loads(reported)["position"].rpartition(":")[2])


def have_the_end(members: Iterable[Member]) -> bool:
    """All of the event that is the end, not just the name in it."""
    return all(member.over or _whole_end(member.data[-4_000:]) for member in members)


def _whole_end(tail: bytes | bytearray) -> bool:
    _, _, rest = bytes(tail).rpartition(END.encode())
    end = rb'"timestamp":\d+\}' + (rb"\n\n" if b"\ndata: " in tail else b"")
    return END.encode() in tail and re.search(end, rest) is not None


async def held(own: Service, *channels: str) -> dict[tuple[str, str], object]:
    return {where: row for name in channels for where, row in (await rows(own, name)).items()}


@pytest.mark.parametrize("tape_events", [2_000, 50_000])
async def test_a_hundred_of_six_hundred_stall_and_the_others_notice_nothing(
    tmp_path: Path, tape_events: int, record_property: Callable[[str, object], None]
) -> None:
    async with (
        asyncio.timeout(MOST_SECONDS),
        service(tmp_path, tape_events=tape_events) as own,
        burning(own) as fire,
    ):
        with Crowd(own.port, own.key) as crowd:
            transports = itertools.cycle(("ws", "sse"))
            asked = {"channels": ",".join(HEARD)}
            await fire.batches(10)
            healthy = [
                crowd.come(next(transports), delivery="all", **asked) for _ in range(HEALTHY)
            ]
            stalled = [
                crowd.come(next(transports), receive_buffer=SMALL, delivery=delivery, **asked)
                for _, delivery in zip(
                    range(STALLED), itertools.cycle(("conflated",) * 6 + ("all",) * 2), strict=False
                )
            ]
            await asyncio.to_thread(crowd.until, crowd.all_live)
            without = await metric(own, "process_resident_memory_bytes")
            crowd.stall(stalled)
            reading = asyncio.create_task(
                asyncio.to_thread(crowd.until, lambda: have_the_end(healthy))
            )
            await fire.batches(ROUNDS // 2)
            beside = await metric(own, "process_resident_memory_bytes")
            await fire.batches(ROUNDS // 2)
            later = await metric(own, "process_resident_memory_bytes")
            assert await metric(own, "telecast_connections") == HEALTHY + STALLED, "nobody was cut"
            assert await metric(own, "telecast_stalls_total") >= STALLED
            await publish(own, "positions", position(END))
            await reading
            each = (later - without) / STALLED
            record_property("KiB a stalled client", round(each / 1024, 1))
            weights = [size / 2**20 for size in (without, beside, later)]
            record_property("MiB without, beside, later", weights)
            print(f"{each / 1024:.1f} KiB a stalled client")
            assert each < MOST_EACH
            truth = await everything(own)
            for member in healthy:
                assert heard(member) == after(truth, began(member))
                assert announced(member) == []
            crowd.go_on(stalled)
            await asyncio.to_thread(crowd.until, lambda: have_the_end(stalled))
            must, state = pinned(truth), await held(own, *HEARD)
            left_out = 0
            for member in stalled:
                missed, reported = after(truth, began(member)), heard(member)
                if b"delivery=all" in member.asked:
                    assert reported == missed
                else:
                    assert conflation_flaws(missed, must, reported, announced(member)) == []
                    assert len(reported) < len(missed), "it was to be stalled"
                    left_out += len(missed) - len(reported)
                assert folded(member.events()) == state
            counted = await metric(own, "telecast_events_conflated_total")
            # What the tape itself has let go of is sent as a range, without a number.
            assert counted == left_out if tape_events > len(truth) else 0 < counted <= left_out
            assert await metric(own, "telecast_evictions_total") == 0
            assert crowd.overs == 0


async def test_with_the_settings_it_ships_with_a_stall_ends_and_a_trickle_does_not(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(MOST_SECONDS), service(tmp_path) as own, burning(own) as fire:
        with Crowd(own.port, own.key) as crowd:
            transports = itertools.cycle(("ws", "sse"))
            asked = {"channels": ",".join(HEARD), "delivery": "all"}
            members = [
                crowd.come(next(transports), receive_buffer=SMALL, **asked) for _ in range(8)
            ]
            await asyncio.to_thread(crowd.until, crowd.all_live)
            gone, slow = members[:4], members[4:]
            crowd.stall(members)
            await fire.batches(10)
            assert await metric(own, "telecast_stalls_total") >= len(members)
            # Until the dead are gone, and then for as long again: a kilobyte a second.
            trickled = 0
            while (
                await metric(own, "telecast_evictions_total") < len(gone)
                or trickled < 2 * STALL_SECONDS
            ):
                await asyncio.sleep(1.0)
                trickled += 1
                for member in slow:
                    crowd.sip(member, TRICKLE)
            evicted = await metric(own, "telecast_evictions_total", code="NO_PROGRESS")
            assert evicted == len(gone) == await metric(own, "telecast_evictions_total")
            await publish(own, "positions", position(END))
            crowd.go_on(members)
            await asyncio.to_thread(crowd.until, lambda: have_the_end(members))
            truth = await everything(own)
            for member in slow:
                assert heard(member) == after(truth, began(member))
            assert crowd.overs == len(gone)
            with Crowd(own.port, own.key) as again:
                epoch = await own_epoch(own)
                for member in gone:
                    assert member.close_code() in (None, 4430)
                    before = heard(member)
                    assert len(before) < len(after(truth, began(member)))
                    last = orjson.loads(before[-1])["seq"] if before else began(member)
                    again.come(next(transports), since=f"{epoch}:{last}", **asked)
                await asyncio.to_thread(again.until, again.all_live)
                for member, back in zip(gone, again.members, strict=True):
                    assert heard(member) + back.events() == after(truth, began(member))


async def own_epoch(own: Service) -> str:
    async with (
        aiohttp.ClientSession(headers=own.headers) as session,
        session.get(f"{own.url}/api/v1/channels/positions/snapshot") as response,
    ):
        position_: str = (await response.json())["data"]["position"]
        return position_.partition(":")[0]


@pytest.mark.parametrize("delivery", ["conflated", "all"])
async def test_stalled_in_the_middle_of_a_snapshot_they_end_up_with_the_rows_there_are(
    tmp_path: Path, delivery: str, record_property: Callable[[str, object], None]
) -> None:
    """While they stall half of the rows change, and a quarter goes."""
    async with asyncio.timeout(MOST_SECONDS), service(tmp_path, journal="memory:") as own:
        for start in range(0, ROWS, 4_000):
            await publish(
                own, "positions", *(position(f"p{n}") for n in range(start, start + 4_000))
            )
        with Crowd(own.port, own.key) as crowd:
            transports = itertools.cycle(("ws", "sse"))
            asked = {"channels": "positions", "delivery": delivery}
            members = [
                crowd.come(next(transports), receive_buffer=SMALL, **asked) for _ in range(STALLED)
            ]
            some_rows = lambda: all(m.data.count(b'"op":"upsert"') > 20 for m in members)  # noqa: E731
            await asyncio.to_thread(crowd.until, some_rows)
            crowd.stall(members)
            assert crowd.lives == 0
            before = await metric(own, "process_resident_memory_bytes")
            changed = [position(f"p{n}", currentPrice="1.5") for n in range(0, ROWS, 2)]
            closed = [position(f"p{n}", status="CLOSED", isActive=False) for n in range(1, ROWS, 4)]
            for many in (changed, closed):
                for start in range(0, len(many), 4_000):
                    await publish(own, "positions", *many[start : start + 4_000])
            await publish(own, "positions", position(END))
            after_ = await metric(own, "process_resident_memory_bytes")
            record_property("KiB a client in a snapshot", (after_ - before) / 1024 / STALLED)
            crowd.go_on(members)
            await asyncio.to_thread(crowd.until, crowd.all_live)
            state = await held(own, "positions")
            assert len(state) == ROWS * 3 // 4 + 1
            for member in members:
                assert folded(member.events()) == state
                opening = [orjson.loads(json) for json in member.messages()[:3]]
                assert [body["type"] for body in opening] == ["welcome", "ack", "snapshot"]
            assert await metric(own, "telecast_evictions_total") == 0
