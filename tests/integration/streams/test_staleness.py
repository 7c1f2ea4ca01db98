"""A channel that goes quiet says so, over both transports, and who comes later is notified too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.payloads import position, price
from tests.support.service.live import Live, principal, served
from tests.support.service.scrape import scraped

START = 1_800_000_000.0


class Time:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _no_looks_but_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telecast.tasks.STALE_SECONDS", 3_600.0)


@asynccontextmanager
async def service(time: Time) -> AsyncIterator[Live]:
    holders = principal(), principal("reader", "read"), principal("few", "publish", channels=("x",))
    async with served(*holders, now=time) as live:
        yield live


async def test_both_transports_report_when_a_channel_goes_quiet_and_when_it_goes_on() -> None:
    time = Time()
    async with (
        service(time) as live,
        live.ws(channels="market-data") as ws,
        live.sse(channels="market-data,positions") as sse,
        live.ws(channels="risk-alerts") as other,
    ):
        for reader in (ws, sse, other):
            await reader.opening()
        await live.publish("market-data", price())
        for reader in (ws, sse):
            await reader.events()
        time.now += 29
        assert await live.parts.staleness.look() == ([], [])
        time.now += 1
        assert await live.parts.staleness.look() == (["market-data"], [])
        for reader in (ws, sse):
            said = (await reader.expect("stale")).body
            assert (said["channel"], said["since"]) == ("market-data", START * 1000)
        assert await live.parts.staleness.look() == ([], [])
        await live.publish("market-data", price(price="1"))
        for reader in (ws, sse):
            await reader.events()
        assert await live.parts.staleness.look() == ([], ["market-data"])
        for reader in (ws, sse):
            assert (await reader.expect("fresh")).body["channel"] == "market-data"
        assert [each.type for each in other.log if each.type in ("stale", "fresh")] == []


async def test_who_comes_while_a_channel_is_stale_is_notified_by_both_transports() -> None:
    time = Time()
    async with service(time) as live:
        time.now += 30  # nothing ever came: it counts from the start
        assert await live.parts.staleness.look() == (["market-data"], [])
        for transport in ("ws", "sse"):
            async with live.transport(transport, channels="market-data") as reader:
                reported = (await reader.until("stale"))[-1]
                assert (reported.type, reported.body["since"]) == ("stale", None), "never published"
        async with live.ws() as reader:
            await reader.expect("welcome")
            await reader.send("subscribe", channels=["market-data"])
            await reader.until("stale")


async def test_a_publisher_that_has_nothing_to_publish_keeps_its_channel_fresh() -> None:
    time = Time()
    async with service(time) as live:
        time.now += 25
        path = "/api/v1/channels/market-data/alive"
        status, body, _ = await live.ask("POST", path)
        assert (status, body["data"]["at"]) == (200, "2027-01-15T08:00:25.000Z")
        time.now += 25
        assert "market-data" not in (await live.parts.staleness.look())[0]
        time.now += 5
        assert "market-data" in (await live.parts.staleness.look())[0]


@pytest.mark.parametrize(
    ("who", "channel", "status"),
    [("reader", "market-data", 403), ("few", "market-data", 403), ("desk", "nope", 404)],
)
async def test_only_who_may_publish_says_that_a_channel_is_alive(
    who: str, channel: str, status: int
) -> None:
    async with service(Time()) as live:
        path = f"/api/v1/channels/{channel}/alive"
        assert (await live.ask("POST", path, who=who))[0] == status


async def test_metrics_and_stats_say_which_channel_is_stale_and_who_published_last() -> None:
    time = Time()
    async with service(time) as live:
        await live.publish("positions", position("p1"))
        time.now += 30
        await live.parts.staleness.look()
        reported = await scraped(live)
        assert reported["telecast_channel_stale", "market-data"] == 1
        assert reported["telecast_channel_stale", "positions"] == 0
        assert reported["telecast_channel_last_event_timestamp_seconds", "positions"] == START
        key_id = principal().key_id
        assert reported["telecast_publisher_last_publish_timestamp_seconds", key_id] == START
        channels = (await live.get("/api/v1/stats"))["channels"]
        assert (channels["market-data"]["stale"], channels["positions"]["stale"]) == (True, False)


async def test_a_clock_that_is_set_back_hides_no_dead_feed() -> None:
    clock, elapsed = [1_800_000_000.0], [0.0]
    async with served(now=lambda: clock[0]) as live:
        staleness = live.parts.staleness
        staleness._elapsed = lambda: elapsed[0]
        staleness._seen.clear()
        await live.publish("market-data", price())
        await staleness.look()
        clock[0] -= 3_600
        for each in (clock, elapsed):
            each[0] += 60
        await staleness.look()
        assert "market-data" in staleness.stale
        staleness.alive("market-data")
        await staleness.look()
        assert "market-data" not in staleness.stale
