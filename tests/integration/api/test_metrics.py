"""What is seen from outside: counts that are true, whether it lives, whether it is ready."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from telecast.watch.lag import TELL_SECONDS, WAKE_SECONDS
from tests.support.payloads import position, price
from tests.support.service.live import Ended, principal, served
from tests.support.service.scrape import scraped


async def test_the_counts_are_what_has_happened() -> None:
    async with served(principal(), principal("few", "publish"), backlog_events=10) as live:
        await live.publish("positions", position("p1"), position("p2"))
        await live.publish("market-data", *(price(price=str(n)) for n in range(5)))
        once = {"Idempotency-Key": "k"}
        await live.publish("positions", position("p3"), headers=once)
        await live.publish("positions", position("p3"), headers=once)
        await live.refused("positions", position("p3", "t2"), headers=once)
        async with (
            live.ws(channels="positions") as ws,
            live.ws(channels="positions,market-data") as both,
            live.sse(channels="positions") as sse,
            live.ws(channels="market-data", since=live.at(2)) as resumed,
        ):
            for reader in (ws, both, sse, resumed):
                await reader.opening()
            for n in range(10):
                await live.publish("positions", position("p1", quantity=str(n)))
            for reader in (ws, both, sse):
                await reader.events(10)
            await live.publish("market-data", price())
            await both.events()
            await resumed.events()
            reported = await scraped(live)
            truth: dict[tuple[str, ...], float] = {
                ("telecast_connections", "ws"): 3,
                ("telecast_connections", "sse"): 1,
                ("telecast_connections_opened_total", "ws"): 3,
                ("telecast_connections_opened_total", "sse"): 1,
                ("telecast_subscriptions", "positions"): 3,
                ("telecast_subscriptions", "market-data"): 2,
                ("telecast_subscriptions", "risk-alerts"): 0,
                ("telecast_events_published_total", "positions"): 13,
                ("telecast_events_published_total", "market-data"): 6,
                ("telecast_publishes_duplicate_total",): 1,
                ("telecast_publishes_refused_total", "IDEMPOTENCY_CONFLICT"): 1,
                ("telecast_events_delivered_total", "positions", "ws"): 20,
                ("telecast_events_delivered_total", "positions", "sse"): 10,
                ("telecast_events_delivered_total", "market-data", "ws"): 2,
                # 3 rows; 3 rows and one price; 3 rows; the newest price of five.
                ("telecast_events_backfilled_total", "ws"): 3 + 4 + 1,
                ("telecast_events_backfilled_total", "sse"): 3,
                ("telecast_events_conflated_total", "ws"): 4,
                ("telecast_events_conflated_total", "sse"): 0,
                ("telecast_publish_backlog_events",): 0,
                ("telecast_head_seq",): 19,
                ("telecast_tape_events", "positions"): 13,
                ("telecast_ready",): 1,
                ("telecast_rows", "positions"): 3,
                ("telecast_stream_starts_total", "NEW"): 3,
                ("telecast_stream_starts_total", "RESUMED"): 1,
                ("telecast_stalls_total",): 0,
            }
            assert {where: reported.get(where) for where in truth} == truth
            rounds = reported["telecast_flush_seconds_count",]
            assert 0 < rounds <= 11
            assert reported["telecast_commit_write_seconds_count",] == rounds
            assert reported["telecast_publish_commit_seconds_count",] == 14
            assert reported["telecast_sent_bytes_total", "ws"] > 0
        await live.everybody_gone()
        reported = await scraped(live)
        assert (
            reported["telecast_connections", "ws"] == reported["telecast_connections", "sse"] == 0
        )
        assert reported["telecast_connections_opened_total", "ws"] == 3
        assert reported["telecast_connections_closed_total", "CLIENT", "ws"] == 3
        assert reported["telecast_connections_closed_total", "CLIENT", "sse"] == 1
        assert (
            sum(reported["telecast_subscriptions", name] for name in ("positions", "market-data"))
            == 0
        )


async def test_streams_that_are_refused_or_ended_are_counted_by_why() -> None:
    async with served(max_connections_per_key=2) as live, live.ws(clientId="bot") as first:
        await first.expect("welcome")
        async with live.ws(clientId="bot") as second:
            await second.expect(
                "welcome",
            )
            with pytest.raises(Ended):
                await first.until("nothing")
            async with live.sse() as third:
                await third.opening()
                status, _, _ = await live.ask("GET", "/sse/telemetry")
                assert status == 429
            reported = await scraped(live)
            assert reported["telecast_connections_refused_total", "TOO_MANY_CONNECTIONS"] == 1
            assert reported["telecast_evictions_total", "REPLACED"] == 1


async def test_a_step_that_holds_the_loop_is_seen_in_the_metrics_and_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as live:
        with caplog.at_level(logging.WARNING, "telecast.watch.lag"):
            held = TELL_SECONDS + 2 * WAKE_SECONDS
            asyncio.get_running_loop().call_soon(time.sleep, held)
            await live.until(lambda: live.parts.lag.histogram.seconds > TELL_SECONDS)
        reported = await scraped(live)
        name = "telecast_event_loop_lag_seconds"
        assert reported[f"{name}_sum",] > TELL_SECONDS
        assert reported[f"{name}_bucket", "0.5"] < reported[f"{name}_bucket", "+Inf"]
        assert reported[f"{name}_bucket", "+Inf"] == reported[f"{name}_count",]
        [line] = [each for each in caplog.records if each.name == "telecast.watch.lag"]
        assert line.__dict__["seconds"] > TELL_SECONDS


async def test_metrics_need_their_scope_alone() -> None:
    async with served(principal("sees", "metrics"), principal("reads", "read")) as live:
        assert await scraped(live, who="sees")
        for who, status in (("reads", 403), (None, 401)):
            assert (await live.ask("GET", "/metrics", who=who))[0] == status


async def test_life_and_readiness_are_shown_to_everybody() -> None:
    async with served() as live:
        for path, text in (
            ("/livez", "ok\n"),
            ("/readyz", "ready\n"),
            ("/readyz?verbose", "ready\n[+] accepting ok\n[+] journal ok\n"),
        ):
            async with live.session.get(live.url + path) as response:
                assert response.status == 200
                assert (await response.text()).startswith(text)


async def test_a_task_that_dies_takes_the_readiness_with_it() -> None:
    async with served() as live:

        def broken() -> None:
            raise ZeroDivisionError("planted")

        live.parts.clients.recheck = broken  # type: ignore[method-assign]
        await live.until(lambda: live.parts.broken is not None)
        async with live.session.get(f"{live.url}/readyz?verbose") as response:
            assert response.status == 503
            assert "[-] tasks: ZeroDivisionError: planted" in await response.text()
        assert (await scraped(live))["telecast_ready",] == 0
