"""Who is connected, who has ended, and how an operator ends a connection or many."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from telecast import turns
from telecast.clients import Client
from telecast.clients.bans import MOST_BANS
from telecast.clients.registry import KEPT_ENDED
from telecast.journal.ageing import WAIT
from tests.support.payloads import position, price
from tests.support.service.live import Ended, Live, Reader, principal, served, types

API = "/api/v1/clients"
DESK = principal("desk", "read", "publish")
BOT = principal("bot", "read")
OPS = principal("ops", "admin")
T1_OPS = principal("t1 ops", "admin", forced={"traderId": frozenset({"t1"})})
T1 = principal("t1 bot", "read", forced={"traderId": frozenset({"t1"})})
NARROW = principal("narrow", "read", channels=("positions",))
HOLDERS = (DESK, BOT, OPS, T1_OPS, T1, NARROW)


@asynccontextmanager
async def service(**settings: Any) -> AsyncIterator[Live]:
    async with served(*HOLDERS, **settings) as live:
        yield live


async def clients(live: Live, *, who: str = "ops", **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await live.get(API, who=who, query=query))["clients"]
    return found


async def kick(
    live: Live, path: str = "", *, who: str = "ops", **query: Any
) -> tuple[int, dict[str, Any]]:
    status, body, _ = await live.ask("DELETE", API + path, who=who, query=query)
    return status, body["data"] if status == 200 else body["error"]


async def ended(live: Live, count: int) -> list[dict[str, Any]]:
    await live.until(lambda: live.parts.clients._ended_count >= count)
    return await clients(live, closed="true")


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_a_client_is_shown_with_all_that_says_how_it_does(transport: str) -> None:
    async with service() as live:
        await live.publish("positions", position("p-1"))
        async with live.transport(
            transport,
            who="bot",
            headers={"User-Agent": "a bot/1.0\twith a tab"},
            channels="positions",
            traderId=["t1", "t2"],
            clientId="bot-1",
            heartbeat=60,
        ) as reader:
            await reader.opening()
            (shown,) = await clients(live)
            assert (await live.get(f"{API}/{shown['connectionId']}", who="ops")).keys() == (
                shown.keys()
            )
        assert shown["seconds"] >= 0
        assert shown["staleSeconds"] < 30
        assert shown.pop("lastHeardAt") is None or transport == "ws"
        for name in ("connectedAt", "seconds", "staleSeconds", "unsentBytes", "connectionId"):
            shown.pop(name)
        assert shown == {
            "clientId": "bot-1",
            "principal": "bot",
            "keyId": BOT.key_id,
            "address": "127.0.0.1",
            "userAgent": "a bot/1.0\\twith a tab",
            "transport": transport,
            "channels": {"positions": {"traderId": ["t1", "t2"]}},
            "delivery": "conflated",
            "maxRate": None,
            "heartbeatSeconds": 60,
            "state": "live",
            "position": live.at(1),
            "lagEvents": 0,
            "lagMs": 0,
            "conflated": 0,
            "gaps": 0,
            "acknowledged": None,
        }


async def test_lists_are_narrowed_paged_and_in_the_order_in_which_clients_came() -> None:
    async with service() as live, AsyncExitStack() as stack:

        async def come(transport: str, who: str, **query: Any) -> None:
            reader = await stack.enter_async_context(live.transport(transport, who=who, **query))
            await reader.opening()

        await come("ws", "desk", channels="positions", clientId="a")
        await come("sse", "desk", channels="market-data", clientId="a")
        await come("ws", "bot", channels="positions,market-data", clientId="b")

        async def named(**query: Any) -> list[tuple[str, str]]:
            return [(c["principal"], c["transport"]) for c in await clients(live, **query)]

        desk_ws, desk_sse, bot_ws = ("desk", "ws"), ("desk", "sse"), ("bot", "ws")
        assert await named() == [desk_ws, desk_sse, bot_ws]
        assert await named(transport="sse") == [desk_sse]
        assert await named(principal="desk") == [desk_ws, desk_sse]
        assert await named(principal=BOT.key_id) == [bot_ws]
        assert await named(clientId="a") == [desk_ws, desk_sse]
        assert await named(channel="market-data") == [desk_sse, bot_ws]
        assert await named(channel="positions", principal="desk") == [desk_ws]
        assert await named(stale="1h") == []
        first = await live.get(API, who="ops", query={"limit": 2})
        assert (first["more"], len(first["clients"])) == (True, 2)
        rest = await live.get(API, who="ops", query={"limit": 2, "cursor": first["cursor"]})
        assert [c["principal"] for c in rest["clients"]] == ["bot"]
        assert rest["more"] is False
        assert "cursor" not in rest


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_a_client_that_is_kicked_is_given_the_reason_and_is_gone(
    transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with service() as live:
        async with live.transport(transport, who="bot", channels="positions") as reader:
            await reader.opening()
            (shown,) = await clients(live)
            where = f"/{shown['connectionId']}"
            with caplog.at_level(logging.INFO, "telecast.audit"):
                status, done = await kick(live, where, reason="frozen since nine")
            assert status == 200
            assert done == {
                "kicked": 1,
                "connectionIds": [shown["connectionId"]],
                "dryRun": False,
                "bannedUntil": None,
            }
            status, error = await kick(live, where)
            assert (status, error["code"]) == (404, "CLIENT_NOT_FOUND")
            status, body, _ = await live.ask("GET", API + where, who="ops")
            assert (status, body["error"]["code"]) == (404, "CLIENT_NOT_FOUND")
            reported, code = await reader.rest()
            notice = reported[-1].body
            assert types(reported)[-1] == "notice"
            assert notice["code"] == "KICKED"
            assert notice["retryable"] is True
            assert "frozen since nine" in notice["message"]
            assert 2_000 <= notice["retryAfterMs"] <= 7_000
            assert code == (4410 if transport == "ws" else None)
        (line,) = caplog.records
        said: Any = line
        assert (said.action, said.by, said.kicked) == ("kick", "ops", 1)
        assert (said.reason, said.connections) == ("frozen since nine", [shown["connectionId"]])
        async with live.transport(transport, who="bot", channels="positions") as reader:
            await reader.opening()
        kicked = [c for c in await ended(live, 2) if c["code"] == "KICKED"]
        assert [c["connectionId"] for c in kicked] == [shown["connectionId"]]
        assert "frozen since nine" in kicked[0]["reason"]
        assert kicked[0]["state"] == "closed"
        assert kicked[0]["channels"] == {"positions": {}}


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_a_ban_refuses_that_key_and_client_id_alone_until_it_is_over(transport: str) -> None:
    async with service() as live:
        live.stop_the_clocks()
        now = live.parts.clients.now()
        wanted = {"who": "bot", "channels": "positions", "clientId": "b"}
        async with live.transport(transport, **wanted) as reader:
            await reader.opening()
            status, done = await kick(live, clientId="b", ban="10m")
            assert (status, done["kicked"]) == (200, 1)
            assert done["bannedUntil"] is not None
            reported, _ = await reader.rest()
            assert reported[-1].body["retryAfterMs"] >= 600_000
        status, body, response = await live.ask(
            "GET",
            f"/{transport}/telemetry",
            who="bot",
            query={"clientId": "b"},
            headers={} if transport == "sse" else UPGRADE,
        )
        assert (status, body["error"]["code"]) == (403, "BANNED")
        assert body["error"]["retryable"] is True
        assert body["error"]["details"]["retryAfterSeconds"] == 600
        assert int(response.headers["Retry-After"]) >= 600
        for other in ({"who": "bot", "clientId": "c"}, {"who": "desk", "clientId": "b"}):
            async with live.transport(transport, channels="positions", **other) as reader:
                await reader.opening()
        live.parts.clients._clock = lambda: now + 600
        async with live.transport(transport, **wanted) as reader:
            await reader.opening()


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


async def test_an_event_source_that_is_banned_is_asked_to_come_back_later() -> None:
    """Any status but 200 would end it for good."""
    async with service() as live:
        async with live.sse(who="bot", clientId="b") as reader:
            await reader.opening()
            await kick(live, principal="bot", ban="1m")
        async with live.sse(
            who="bot", clientId="b", headers={"Accept": "text/event-stream"}
        ) as reader:
            notice = (await reader.read()).body
            assert (notice["code"], notice["retryable"]) == ("BANNED", True)
            assert reader.retry[-1] >= 59_000
            with pytest.raises(Ended):
                await reader.read()


async def test_many_are_kicked_by_a_filter_and_a_dry_run_only_counts() -> None:
    async with service() as live, AsyncExitStack() as stack:
        readers: list[Reader] = []
        for who in ("desk", "bot", "bot", "bot"):
            readers.append(await stack.enter_async_context(live.ws(who=who, channels="positions")))
            await readers[-1].opening()
        status, done = await kick(live, principal="bot", dryRun="true")
        assert (status, done["kicked"], done["dryRun"]) == (200, 3, True)
        assert len(await clients(live)) == 4
        status, done = await kick(live, principal="bot")
        assert (status, done["kicked"], len(done["connectionIds"])) == (200, 3, 3)
        assert [c["principal"] for c in await clients(live)] == ["desk"]
        for reader in readers[1:]:
            assert (await reader.rest())[1] == 4410
        assert await kick(live, principal="nobody") == (
            200,
            {"kicked": 0, "connectionIds": [], "dryRun": False, "bannedUntil": None},
        )
        assert (await live.publish("positions", position("p-1")))["subscribers"] == 1


async def test_a_websocket_is_stale_when_it_sent_no_frame_for_so_long() -> None:
    async with service() as live:
        live.stop_the_clocks()
        now = live.parts.clients.now()
        async with live.ws(who="bot", channels="positions") as quiet:
            await quiet.opening()
            async with live.ws(who="desk", channels="positions") as lively:
                await lively.opening()
                live.parts.clients._clock = lambda: now + 60
                await lively.send("heartbeat")
                await lively.expect("heartbeat")
                assert [c["principal"] for c in await clients(live, stale="60")] == ["bot"]
                assert await clients(live, stale="61s") == []
                assert (await kick(live, stale="1m"))[1]["kicked"] == 1
                assert (await quiet.rest())[1] == 4410
                assert len(await clients(live)) == 1


async def test_an_event_stream_is_stale_only_while_bytes_wait_and_none_is_taken() -> None:
    async with service() as live:
        live.stop_the_clocks()
        now = live.parts.clients.now()
        async with live.sse(who="bot", channels="market-data", heartbeat=60) as reader:
            await reader.opening()
            (client,) = live.parts.clients
            assert client.subscriber is not None
            sink = client.subscriber.sink
            await live.until(lambda: not sink.buffered())
            live.parts.clients._clock = lambda: now + 3_600
            await live.parts.clients.look()
            assert await clients(live, stale="1s") == [], "an hour without an event is no stall"
            big = price(source="x" * 100)
            while not sink.full:  # type: ignore[attr-defined]
                await live.publish("market-data", *[big] * 500, who="desk")
            await live.parts.clients.look()
            live.parts.clients._clock = lambda: now + 3_630
            assert [c["staleSeconds"] for c in await clients(live, stale="30s")] == [30.0]
            shown = (await clients(live))[0]
            assert shown["state"] == "full"
            assert shown["unsentBytes"] > 0
            assert shown["lagEvents"] > 0
            assert await clients(live, stale="31s") == []
            while await clients(live, stale="1s"):
                await reader.read()
            assert (await clients(live))[0]["staleSeconds"] == 0


async def test_an_admin_with_a_forced_filter_sees_and_ends_only_what_that_allows() -> None:
    async with service() as live:
        async with (
            live.ws(who="t1 bot", channels="positions") as mine,
            live.ws(who="desk", channels="positions", traderId="t1") as wider,
        ):
            await mine.opening()
            await wider.opening()
            assert [c["principal"] for c in await clients(live)] == ["t1 bot", "desk"]
            assert [c["principal"] for c in await clients(live, who="t1 ops")] == ["t1 bot"]
            async with live.ws(who="narrow", channels="positions") as unfiltered:
                await unfiltered.opening()
                assert len(await clients(live)) == 3
                assert len(await clients(live, who="t1 ops")) == 1
            other = (await clients(live, principal="desk"))[0]["connectionId"]
            status, error = await kick(live, f"/{other}", who="t1 ops")
            assert (status, error["code"]) == (404, "CLIENT_NOT_FOUND")
            assert (await kick(live, principal="desk", who="t1 ops"))[1]["kicked"] == 0
            stats = await live.get("/api/v1/stats", who="t1 ops")
            assert stats["connections"]["total"] == 1
            assert "totals" not in stats
            assert stats["channels"]["positions"]["rows"] is None
            assert (await kick(live, stale="1s", transport="ws", who="t1 ops"))[0] == 200
            assert (await kick(live, principal="t1 bot", who="t1 ops"))[1]["kicked"] == 1
            assert (await mine.rest())[1] == 4410
        await ended(live, 3)
        assert {c["principal"] for c in await clients(live, closed="true", who="t1 ops")} == (
            {"t1 bot"}
        )


async def test_those_that_ended_are_kept_newest_first_with_why_and_bounded() -> None:
    async with service() as live:
        for who in ("desk", "bot"):
            async with live.ws(who=who, channels="positions", clientId=who) as reader:
                await reader.opening()
            await live.everybody_gone()
        listed = await ended(live, 2)
        assert [(c["principal"], c["code"], c["reason"]) for c in listed] == [
            ("bot", None, None),
            ("desk", None, None),
        ]
        assert all(c["endedAt"] >= c["connectedAt"] for c in listed)
        assert [c["principal"] for c in await clients(live, closed="true", clientId="desk")] == (
            ["desk"]
        )
        page = await live.get(API, who="ops", query={"closed": "true", "limit": 1})
        rest = await clients(live, closed="true", limit=1, cursor=page["cursor"])
        assert [c["principal"] for c in rest] == ["desk"]
    assert live.parts.clients._ended.maxlen == KEPT_ENDED


@pytest.mark.parametrize(
    ("method", "path", "query", "status", "says"),
    [
        ("GET", "", {"stale": "soon"}, 400, "`stale` must be a span"),
        ("GET", "", {"stale": "0"}, 400, "`stale` must be a span"),
        ("GET", "", {"stale": "-1s"}, 400, "`stale` must be a span"),
        ("GET", "", {"stale": "9" * 400}, 400, "`stale` must be a span"),
        ("GET", "", {"stale": "1m", "closed": "true"}, 400, "not with closed"),
        ("GET", "", {"transport": "tcp"}, 400, "`transport` must be ws or sse"),
        ("GET", "", {"channel": "postions"}, 404, "Did you mean 'positions'?"),
        ("GET", "", {"limit": "0"}, 400, "`limit` must be a whole number"),
        ("GET", "", {"limit": "1001"}, 400, "`limit` must be a whole number"),
        ("GET", "", {"limit": "\u0661"}, 400, "`limit` must be a whole number"),
        ("GET", "", {"cursor": "x"}, 400, "`cursor` must be a whole number"),
        ("GET", "", {"principle": "x"}, 400, "Did you mean 'principal'?"),
        ("GET", "/c-0", {}, 404, "No connection 'c-0' is open"),
        ("GET", "/c-0", {"reason": "x"}, 400, "There is no parameter 'reason'"),
        ("DELETE", "", {}, 400, "Say whom to disconnect"),
        ("DELETE", "", {"transport": "ws"}, 400, "Say whom to disconnect"),
        ("DELETE", "", {"principal": ""}, 400, "Say whom to disconnect"),
        ("DELETE", "", {"stale": "1m", "dryRun": "yes"}, 400, "`dryRun` must be true or false"),
        ("DELETE", "", {"stale": "1m", "reason": "a\nb"}, 400, "`reason`"),
        ("DELETE", "", {"stale": "1m", "reason": "x" * 10_240}, 400, "`reason`"),
        ("DELETE", "", {"stale": "1m", "ban": "25h"}, 400, "`ban` must be a span"),
        ("DELETE", "", {"stale": "1m", "ban": "forever"}, 400, "`ban` must be a span"),
        ("DELETE", "/c-0", {"ban": "1m"}, 404, "No connection 'c-0' is open"),
    ],
)
async def test_what_can_not_be_done_is_refused_and_says_what_would_be_right(
    method: str, path: str, query: dict[str, str], status: int, says: str
) -> None:
    async with service() as live, live.ws(who="bot", channels="positions") as reader:
        await reader.opening()
        answered, body, _ = await live.ask(method, API + path, who="ops", query=query)
        if len(str(query)) > 8_000:
            assert answered == 400
        else:
            assert (answered, says in body["error"]["message"]) == (status, True), body
        assert len(await clients(live)) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", API),
        ("DELETE", f"{API}?stale=1"),
        ("GET", f"{API}/c-0"),
        ("DELETE", f"{API}/c-0"),
        ("GET", "/api/v1/stats"),
    ],
)
async def test_only_the_scope_admin_may(method: str, path: str) -> None:
    async with service() as live:
        status, body, _ = await live.ask(method, path, who="desk")
        assert (status, body["error"]["code"]) == (403, "FORBIDDEN")
        assert body["error"]["details"] == {"scope": "admin"}
        status, _, _ = await live.ask(method, path, who=None)
        assert status == 401


async def test_the_stats_count_what_there_is() -> None:
    async with service() as live:
        await live.publish("positions", position("p-1"), position("p-2"))
        async with live.ws(who="bot", channels="positions") as ws, live.sse(who="desk") as sse:
            await ws.opening()
            await sse.opening()
            stats = await live.get("/api/v1/stats", who="ops")
        assert stats["connections"] == {
            "total": 2,
            "ws": 1,
            "sse": 1,
            "live": 2,
            "behind": 0,
            "full": 0,
        }
        channel = stats["channels"]["positions"]
        assert (channel["rows"], channel["subscribers"]) == (2, 2)
        assert 0 <= channel["ageSeconds"] < 60
        assert channel["lastEventAt"] is not None
        assert stats["channels"]["market-data"]["lastEventAt"] is None
        assert (stats["ready"], stats["checks"]["journal"]) == (True, None)
        assert (stats["head"], stats["epoch"]) == (live.at(2), live.epoch)
        assert stats["publishing"] == {"backlogEvents": 0, "backlogBytes": 0}
        assert stats["totals"]["published"]["positions"] == 2
        assert stats["uptimeSeconds"] >= 0


@pytest.mark.parametrize("name", ["principal", "clientId"])
@pytest.mark.parametrize("said", ["\x1b" * 8_000, "x" * 129, "a\nforged"])
async def test_what_is_no_name_gets_into_no_log_and_no_audit(name: str, said: str) -> None:
    async with service() as live:
        status, error = await kick(live, **{name: said})
        assert (status, error["code"]) == (400, "BAD_REQUEST")
        assert len(live.parts.audit) == 0


async def test_an_address_that_a_proxy_passes_on_as_it_came_breaks_no_list() -> None:
    async with service(behind_proxy=True) as live:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(live.url).port)
        head = (
            "GET /sse/telemetry?channels=positions HTTP/1.1\r\nHost: here\r\n"
            f"X-API-Key: {live.secrets['bot']}\r\nX-Forwarded-For: "
        )
        writer.write(head.encode() + b"\xff\xe2\x80\xae<b>\r\n\r\n")
        await reader.readuntil(b"event: live")
        (shown,) = await clients(live)
        assert shown["address"] == r"\udcff\u202e<b>"
        writer.close()
        await writer.wait_closed()
        (gone,) = await ended(live, 1)
        assert gone["address"] == shown["address"]


async def test_a_ban_that_meets_nobody_is_not_said_to_hold() -> None:
    async with service() as live:
        status, done = await kick(live, clientId="gone", ban="10m")
        assert (status, done["kicked"], done["bannedUntil"]) == (200, 0, None)


@pytest.mark.parametrize("principal", ["bot", "key id"])
async def test_a_ban_of_a_key_with_a_client_id_holds_though_nobody_is_connected(
    principal: str,
) -> None:
    async with service() as live:
        if principal == "key id":
            (principal,) = [p.key_id for p in live.parts.keys.principals() if p.name == "bot"]
        status, done = await kick(live, principal=principal, clientId="b", ban="10m", dryRun="true")
        assert (status, done["bannedUntil"]) == (200, None)
        status, done = await kick(live, principal=principal, clientId="b", stale="1m", ban="10m")
        assert (status, done["bannedUntil"]) == (200, None), "of who is stale and not found"
        async with live.ws(who="bot", clientId="b") as reader:
            await reader.expect("welcome")
        status, done = await kick(live, principal=principal, clientId="b", ban="10m")
        assert (status, done["kicked"], done["bannedUntil"] is None) == (200, 0, False)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with live.ws(who="bot", clientId="b"):
                pass
        assert refused.value.status == 403
        for other in ({"who": "bot", "clientId": "c"}, {"who": "desk", "clientId": "b"}):
            async with live.ws(**other) as reader:
                await reader.expect("welcome")


async def test_bans_are_bounded_and_then_nobody_is_kicked() -> None:
    async with service() as live:
        bans = live.parts.clients._bans
        now = live.parts.clients.now()
        bans.add({("feed0000", f"c{n}") for n in range(MOST_BANS)}, now, 3_600)
        async with live.ws(who="bot", channels="positions") as reader:
            await reader.opening()
            status, error = await kick(live, principal="bot", ban="10m")
            assert (status, error["code"]) == (400, "LIMIT_EXCEEDED")
            assert len(await clients(live)) == 1
            live.parts.clients._clock = lambda: now + 3_601
            status, _ = await kick(live, principal="bot", ban="10m")
            assert status == 200
            assert len(bans) == 1


@pytest.mark.parametrize("days", [1, -1])
async def test_a_start_with_a_wrong_clock_lets_nobody_in_and_bans_nobody_for_longer(
    days: int, tmp_path: Path
) -> None:
    """Regression: a day's step of the clock over a restart ended every ban."""
    clock, elapsed = [1_800_000_000.0], [0.0]
    settings = {
        "journal": f"sqlite:{tmp_path}/telecast.db",
        "now": lambda: clock[0],
        "elapsed": lambda: elapsed[0],
    }

    async def refused(live: Live) -> None:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            async with live.ws(who="bot"):
                pass

    async with service(**settings) as live, live.ws(who="bot"):
        assert (await kick(live, principal="bot", ban="10m"))[0] == 200
    clock[0] += days * 86_400
    async with service(**settings) as live:
        await refused(live)
        bans = live.parts.clients._bans
        assert bans._until[BOT.key_id, None] <= live.parts.clients.now() + 600
        clock[0] -= days * 86_400  # it is right again
        live.parts.shared_clients.look()
        await refused(live)


async def test_a_ban_that_ended_while_the_service_was_down_ends_once_the_clock_has_proved_steady(
    tmp_path: Path,
) -> None:
    clock, elapsed = [1_800_000_000.0], [0.0]
    settings = {
        "journal": f"sqlite:{tmp_path}/telecast.db",
        "now": lambda: clock[0],
        "elapsed": lambda: elapsed[0],
    }
    async with service(**settings) as live, live.ws(who="bot"):
        assert (await kick(live, principal="bot", ban="2h"))[0] == 200
    clock[0] += 86_400
    async with service(**settings) as live:
        for seconds in (0.0, WAIT - 1, 2.0):
            clock[0] += seconds
            elapsed[0] += seconds
            live.parts.shared_clients.look()
            assert len(live.parts.clients._bans) == (elapsed[0] < WAIT)
        async with live.ws(who="bot") as reader:
            await reader.expect("welcome")


async def test_a_ban_that_was_over_before_a_restart_does_not_begin_again(tmp_path: Path) -> None:
    """Its note stays until the next ban, which may be months later."""
    clock, elapsed = [1_800_000_000.0], [0.0]
    settings = {
        "journal": f"sqlite:{tmp_path}/telecast.db",
        "now": lambda: clock[0],
        "elapsed": lambda: elapsed[0],
    }
    async with service(**settings) as live:
        assert (await kick(live, clientId="b", principal="bot", ban="10m"))[0] == 200
        clock[0] += 86_400
        elapsed[0] += 86_400
        await live.publish("positions", position("p-1"))
    async with service(**settings) as live, live.ws(who="bot", clientId="b") as reader:
        await reader.expect("welcome")


async def test_who_is_refused_for_a_ban_is_counted() -> None:
    async with service() as live:
        async with live.ws(who="bot") as reader:
            await reader.expect("welcome")
            await kick(live, principal="bot", ban="10m")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with live.ws(who="bot"):
                pass
        assert refused.value.status == 403
        assert live.parts.clients.refused == {"BANNED": 1}


@pytest.mark.parametrize("call", ["list", "closed", "stats", "kick", "dry run", "looks"])
async def test_many_are_looked_at_in_slices(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 connections must hold nobody up: the loop turns after each SLICE of the work."""
    taken = 0

    async def next_turn(turn: Any) -> None:
        nonlocal taken
        taken += 1

    for each in (turns.Turn, turns.Turns):
        monkeypatch.setattr(each, "over", lambda turn: True)
    for each in (turns.Turn, turns.SharedTurn):
        monkeypatch.setattr(each, "next", next_turn)
    async with service() as live:
        live.stop_the_clocks()
        many = 60
        for number in range(many):
            client = Client(
                connection_id=f"c-{number}",
                client_id=None,
                principal=BOT,
                address="192.0.2.1",
                transport="sse",
                opened_at=0.0,
            )
            live.parts.clients.admit(client)
            live.parts.clients.note_end(client, 0.0, None, head=0)
        taken = 0
        match call:
            case "list":
                assert len(await clients(live, limit=1_000)) == many
            case "closed":
                assert len(await clients(live, limit=1_000, closed="true")) == many
            case "stats":
                await live.get("/api/v1/stats", who="ops")
            case "looks":
                await live.parts.clients.look()
            case _:
                _, done = await kick(live, principal="bot", dryRun=str(call != "kick").lower())
                assert done["kicked"] == many
        assert taken >= many
