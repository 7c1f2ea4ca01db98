"""How many may connect, and what those are answered that may not."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from tests.support.payloads import position
from tests.support.service.live import Ended, Live, principal, served

STREAM = {"Accept": "text/event-stream"}


async def turned_away(live: Live, status: int, **query: Any) -> dict[str, Any]:
    """The refusal over both transports: HTTP with Retry-After, and an end that an EventSource
    survives."""
    headers = query.pop("headers", {})
    who = query.pop("who", "desk")
    for transport in ("ws", "sse"):
        if transport == "ws":
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with live.ws(who=who, headers=headers, **query):
                    pass
            assert refused.value.status == status
            reported = refused.value.headers
            assert reported is not None
        else:
            got, body, response = await live.ask(
                "GET", "/sse/telemetry", who=who, headers=headers, query=query
            )
            assert (got, reported := response.headers) == (status, response.headers)
        assert int(reported["Retry-After"]) >= 1
    async with live.sse(who=who, headers=headers | STREAM, **query) as reader:
        messages, _ = await reader.rest()
        assert [each.name for each in messages] == ["notice"]
        notice = messages[0].body
        assert notice["code"] == body["error"]["code"]
        assert notice["retryable"] is True
        assert notice["retryAfterMs"] == reader.retry[0] >= 1000
        assert len(reader.retry) == 1
    error: dict[str, Any] = body["error"]
    return error


@pytest.mark.parametrize("scope", ["max_connections", "max_connections_per_key"])
async def test_over_a_limit_of_connections_the_next_is_asked_to_come_back(scope: str) -> None:
    async with served(principal(), principal("other"), **{scope: 2}) as live:
        async with live.ws(channels="positions") as first, live.sse(channels="positions") as second:
            await first.opening()
            await second.opening()
            error = await turned_away(live, 429, channels="positions")
            assert (error["code"], error["details"][scope]) == ("TOO_MANY_CONNECTIONS", 2)
            if scope == "max_connections_per_key":
                async with live.ws(who="other", channels="positions") as other:
                    await other.opening()
            else:
                await turned_away(live, 429, who="other", channels="positions")
            assert (await live.publish("positions", position()))["subscribers"] == 2
        await live.everybody_gone()
        async with live.ws(channels="positions") as again:
            await again.opening()


async def test_over_a_limit_by_address_the_proxys_word_counts_and_nobody_elses() -> None:
    async with served(max_connections_per_address=1, behind_proxy=True) as live:

        def from_(*addresses: str) -> dict[str, str]:
            return {"X-Forwarded-For": ", ".join(addresses)}

        async with live.ws(headers=from_("1.1.1.1", "2.2.2.2"), channels="positions") as reader:
            await reader.opening()
            for headers in (from_("2.2.2.2"), from_("9.9.9.9", "2.2.2.2")):
                error = await turned_away(live, 429, headers=headers, channels="positions")
                assert error["details"]["max_connections_per_address"] == 1
            async with live.sse(headers=from_("2.2.2.2", "1.1.1.1"), channels="positions") as it:
                await it.opening()
            # A proxy that adds a line of its own: what stands above it is anybody's.
            both = [("X-Forwarded-For", "8.8.8.8"), ("X-Forwarded-For", "2.2.2.2")]
            async with live.session.get(
                f"{live.url}/sse/telemetry",
                headers=[("X-API-Key", live.secrets["desk"]), *both],
            ) as response:
                assert response.status == 429


async def test_without_a_proxy_nobodys_word_about_the_address_counts() -> None:
    async with served(max_connections_per_address=1) as live, live.ws() as reader:
        await reader.expect("welcome")
        for n in range(3):
            await turned_away(live, 429, headers={"X-Forwarded-For": f"1.1.1.{n}"})


async def test_too_many_newcomers_at_once_are_spread() -> None:
    one = {"new_connections_per_second": 1, "new_connections_burst": 1}
    async with served(**one) as live:
        live.stop_the_clocks()
        async with live.ws() as reader:
            await reader.expect("welcome")
            error = await turned_away(live, 503)
        assert error["code"] == "OVERLOADED"
        assert live.parts.clients.refused["OVERLOADED"] == 3


async def test_refusals_leave_nothing_behind() -> None:
    """An address that was turned away kept an entry for good: memory for whoever knocks."""
    async with served(max_connections_per_key=1, behind_proxy=True) as live, live.ws() as reader:
        await reader.expect("welcome")
        before = len(live.parts.clients._by_address)
        for n in range(20):
            headers = {"X-Forwarded-For": f"10.0.0.{n}"}
            await live.ask("GET", "/sse/telemetry", headers=headers)
        assert len(live.parts.clients._by_address) == before


def silence(live: Live, client_id: str) -> None:
    """As a heartbeat finds it that nobody has answered since the last."""
    for client in live.parts.clients:
        if client.client_id == client_id and client.subscriber is not None:
            client.subscriber.watch.silent_beats += 1


async def test_a_newcomer_over_its_limit_takes_the_place_of_its_own_oldest_ghost() -> None:
    async with (
        served(max_connections_per_key=2) as live,
        live.ws(clientId="bot") as ghost,
        live.ws(clientId="other") as other,
    ):
        await ghost.expect("welcome")
        await other.expect("welcome")
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with live.ws(clientId="bot"):
                pass
        silence(live, "bot")
        silence(live, "other")
        async with live.ws(clientId="bot", channels="positions") as newcomer:
            await newcomer.opening()
            assert (await ghost.expect("notice")).body["code"] == "REPLACED"
            with pytest.raises(Ended) as end:
                await ghost.read()
            assert end.value.code == 4409
            assert len(live.parts.clients) == 2
            with pytest.raises(aiohttp.WSServerHandshakeError):
                async with live.ws(clientId="third"):
                    pass
            await other.send("heartbeat")
            await other.expect("heartbeat")


async def test_nobody_elses_ghost_makes_room() -> None:
    async with (
        served(principal(), principal("other"), max_connections=1) as live,
        live.ws(clientId="bot") as ghost,
    ):
        await ghost.expect("welcome")
        silence(live, "bot")
        await turned_away(live, 429, who="other", clientId="bot")
        await ghost.send("heartbeat")
        await ghost.expect("heartbeat")


async def test_a_ghost_elsewhere_makes_no_room_at_an_address_that_is_full() -> None:
    """It was ended, and the newcomer was let in over the limit of its address."""
    async with served(max_connections_per_address=1, behind_proxy=True) as live:
        here, there = {"X-Forwarded-For": "1.1.1.1"}, {"X-Forwarded-For": "2.2.2.2"}
        async with live.ws(clientId="bot", headers=there) as ghost, live.ws(headers=here) as mine:
            await ghost.expect("welcome")
            await mine.expect("welcome")
            silence(live, "bot")
            await turned_away(live, 429, headers=here, clientId="bot")
            await ghost.send("heartbeat")
            await ghost.expect("heartbeat")


async def test_who_is_no_stream_gets_a_status_whatever_it_accepts() -> None:
    """A publisher with this header got 200 for what was refused."""
    async with served(max_connections_per_key=1) as live, live.ws() as reader:
        await reader.expect("welcome")
        status, body, response = await live.ask("GET", "/ws/telemetry", headers=STREAM)
        assert (status, body["success"]) == (400, False)
        assert response.content_type == "application/json"
