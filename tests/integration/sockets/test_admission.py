"""Who is let in when there are too many: sockets, streams, wrong keys, publishers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from telecast import app
from telecast.clients import Client, ClientLimits, Clients
from telecast.config import Settings
from telecast.errors import PeerFault, TelecastError
from telecast.keys import KeyStore, create_key
from telecast.keys.guesses import BURST
from telecast.net.admission import CROWDED, FULL, RESERVED_FILES
from telecast.web.front.answers import refusal
from tests.support.held_journal import HeldJournal
from tests.support.payloads import position, price
from tests.support.service.live import PATIENCE, Live, SseReader, principal, served
from tests.support.service.process import HOST, Service
from tests.support.service.rest import metric, publish
from tests.support.service.scrape import scraped
from tests.support.sockets.bare import Bare, bare, head

WRONG = "tc_00000000_" + "0" * 64
CATALOGUE = "/api/v1/channels"


# --- sockets


async def test_over_the_sockets_in_all_a_newcomer_is_closed_unheard_and_streams_go_on() -> None:
    async with served(max_sockets=3) as live, live.ws(channels="positions") as reader:
        await reader.opening()
        async with bare(live.url) as first, bare(live.url) as second:
            for line in (first, second):
                line.send(head("GET", "/livez"))
                assert (await line.answer()).status == 200
            for _ in range(20):
                async with bare(live.url) as turned_away:
                    turned_away.send(head("GET", "/livez"))
                    assert await turned_away.rest() == b""
            assert live.parts.admission.closed == {FULL: 20}
            first.send(head("POST", "/api/v1/tickets", live.secrets["desk"]))
            assert (await first.answer()).status == 201
        await live.until(lambda: len(live.parts.admission) == 1)
        await live.publish("positions", position())
        await reader.events()


async def test_one_address_can_not_take_all_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BESIDE_STREAMS", 1)
    async with (
        served(max_connections_per_address=1) as live,
        bare(live.url) as first,
        bare(live.url) as second,
    ):
        for line in (first, second):
            line.send(head("GET", "/livez"))
            assert (await line.answer()).status == 200
        async with bare(live.url) as third:
            assert await third.rest() == b""
        assert live.parts.admission.closed == {CROWDED: 1}
        async with bare(live.url, local_addr=("127.0.0.2", 0)) as other:
            other.send(head("GET", "/livez"))
            assert (await other.answer()).status == 200


async def test_behind_a_proxy_its_address_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """All connections come from it: its limit would be everybody's."""
    monkeypatch.setattr(app, "BESIDE_STREAMS", 0)
    async with (
        served(max_connections_per_address=1, behind_proxy=True) as live,
        bare(live.url) as first,
        bare(live.url) as second,
    ):
        for line in (first, second):
            line.send(head("GET", "/livez"))
            assert (await line.answer()).status == 200


async def test_what_is_closed_at_the_transport_is_counted_in_the_metrics() -> None:
    async with served() as live, bare(live.url) as bad:
        bad.send(b"nonsense\r\n\r\n")
        await bad.rest()
        await live.ask("GET", CATALOGUE, headers={"X-API-Key": WRONG}, who=None)
        reported = await scraped(live)
        whys = {where[1] for where in reported if where[0] == "telecast_sockets_closed_total"}
        assert whys == {"full", "crowded", "silent", "slow_head", "slow_body", "malformed"}
        assert reported["telecast_sockets_closed_total", "malformed"] == 1
        assert reported["telecast_sockets_closed_total", "full"] == 0
        assert reported["telecast_wrong_keys_total", "UNAUTHENTICATED"] == 1
        assert reported["telecast_sockets",] == len(live.parts.admission) > 0


# --- open files

FILES = 160
"""That the process may have open, about 25 of which it needs for itself."""


def knock(own: Service, times: int) -> list[socket.socket]:
    """Connections that say nothing."""
    found = []
    for _ in range(times):
        one = socket.create_connection((HOST, own.port))
        one.setblocking(False)
        found.append(one)
    return found


async def kept(knocking: list[socket.socket]) -> int:
    """How many of them the service has not closed, once it has come to the last."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            await loop.sock_recv(knocking[-1], 1)
    return sum(map(_open, knocking[:-1]))


def _open(one: socket.socket) -> bool:
    try:
        return one.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


@pytest.mark.parametrize("at", ["our own limit", "the kernel's"])
async def test_a_service_out_of_files_keeps_its_streams_and_serves_again(
    at: str, tmp_path: Path
) -> None:
    """At the kernel's limit accepting fails: it must neither spin, nor fill the log, nor end."""
    ours = {"max_sockets": FILES - RESERVED_FILES, "max_connections": 10}
    own = Service(tmp_path, first_byte_timeout=600, **(ours if at == "our own limit" else {}))
    knocking: list[socket.socket] = []
    try:
        await own.start()
        resource.prlimit(own.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        async with (
            aiohttp.ClientSession(headers=own.headers) as session,
            session.get(f"{own.url}/sse/telemetry?channels=market-data") as response,
        ):
            reader = SseReader(response.content.readline)
            await reader.opening()
            body = [price(price="1")]
            path = f"{own.url}/api/v1/channels/market-data/events"
            async with session.post(path, json=body) as answer:
                assert answer.status == 201
            await reader.events()
            spent, lines = cpu_seconds(own.pid), len(own.log)
            knocking = knock(own, 400)
            inside = await kept(knocking)
            assert 0 < inside < (ours["max_sockets"] if at == "our own limit" else FILES)
            # Whoever was here before goes on: the stream, and the connection for requests.
            async with session.post(path, json=body) as answer:
                assert answer.status == 201
            await reader.events()
            if at == "our own limit":
                # What needs a file still gets one: another key is read, and holds.
                other = create_key(tmp_path / "keys.toml", "late", ["read"])
                await _said(own, b"keys read again")
                async with session.get(own.url + CATALOGUE, headers={"X-API-Key": other}) as answer:
                    assert answer.status == 200
            assert cpu_seconds(own.pid) - spent < 2, "it spins"
            assert len(own.log) - lines < 20, "a line for each"
            for one in knocking:
                one.close()
            await publish(own, "market-data", price(price="3"))
            await reader.events()
            if at == "our own limit":
                assert await metric(own, "telecast_sockets_closed_total", reason="full") >= 300
        await own.stop()
        assert own.complaints() == []
    finally:
        for one in knocking:
            one.close()
        await own.end()


async def _said(own: Service, word: bytes) -> None:
    async with asyncio.timeout(PATIENCE):
        while not any(word in line for line in own.log):  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.01)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- streams


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def registry(clock: Clock, **changed: int) -> Clients:
    """Admission as a service has it, with the settings' defaults but for these."""
    settings = Settings(**changed)
    keys, _ = KeyStore.of(principal(), now=lambda: 0.0)
    limits = ClientLimits(
        max_connections=settings.max_connections,
        max_connections_per_key=settings.max_connections_per_key,
        max_connections_per_address=settings.max_connections_per_address,
        new_connections_per_second=settings.new_connections_per_second,
        new_connections_burst=settings.new_connections_burst,
    )
    return Clients(limits, keys, clock=clock)


def newcomer(n: int) -> Client:
    return Client(
        connection_id=f"c-{n}",
        client_id=None,
        principal=principal(),
        address="192.0.2.1",
        transport="ws",
        opened_at=0.0,
    )


def test_a_storm_of_5_000_is_let_in_at_once_and_the_rest_is_given_a_time() -> None:
    clock = Clock()
    clients = registry(clock, max_connections_per_key=10_000, max_connections_per_address=10_000)
    for n in range(5_000):
        clients.admit(newcomer(n))
    with pytest.raises(TelecastError) as refused:
        clients.admit(newcomer(5_000))
    assert refused.value.code == "OVERLOADED"
    assert refused.value.details["retryAfterSeconds"] >= 1
    clock.now += 1
    for n in range(5_000, 7_000):
        clients.admit(newcomer(n))
    with pytest.raises(TelecastError):
        clients.admit(newcomer(7_000))
    assert len(clients) == 7_000


def test_10_000_of_one_key_at_one_address_are_a_matter_of_settings() -> None:
    clock = Clock()
    clients = registry(clock, max_connections_per_key=10_000, max_connections_per_address=10_000)
    for n in range(10_000):
        clock.now += 0.001
        clients.admit(newcomer(n))
    clock.now += 10
    with pytest.raises(TelecastError) as refused:
        clients.admit(newcomer(10_000))
    assert (refused.value.code, len(clients)) == ("TOO_MANY_CONNECTIONS", 10_000)


def test_those_who_are_sent_away_together_do_not_come_back_together() -> None:
    fault = PeerFault("TOO_MANY_CONNECTIONS", "Full.", retry_after=30)
    reported = {int(refusal(fault).headers["Retry-After"]) for _ in range(200)}
    assert min(reported) >= 30
    assert max(reported) <= 60
    assert len(reported) > 10


async def test_a_flood_of_subscriptions_leaves_nothing_behind_and_disturbs_nobody() -> None:
    async with (
        served(actions_per_second=10_000.0, actions_burst=10_000) as live,
        live.ws(channels="positions") as bystander,
        live.ws() as restless,
    ):
        await bystander.opening()
        await restless.expect("welcome")
        for n in range(300):
            await restless.send("subscribe", channels=["positions"], filter={"traderId": [str(n)]})
            await restless.send("unsubscribe", channels=["positions"])
            if n % 100 == 0:
                await live.publish("positions", position(f"p-{n}"))
                assert (await bystander.events())[0].body["key"] == f"p-{n}"
        await restless.send("unsubscribe", reqId="last", channels=["positions"])
        while (await restless.read()).body.get("reqId") != "last":
            pass
        assert live.parts.broadcaster.subscriber_count("positions") == 1
        assert (await live.publish("positions", position()))["subscribers"] == 1
        await bystander.events()


# --- wrong keys


async def tries(live: Live, key: str, local: str = "127.0.0.1") -> tuple[int, dict[str, Any]]:
    async with bare(live.url, local_addr=(local, 0)) as line:
        line.send(head("GET", CATALOGUE, key))
        answer = await line.answer()
        body = json.loads(answer.body)
        if answer.status == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["connection"] == "close"
            assert await line.rest() == b""
    return answer.status, body


async def test_who_tries_key_after_key_has_to_wait_and_nobody_else_has(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served(principal(), principal("other")) as live:
        live.stop_the_clocks()
        right, other = live.secrets["desk"], live.secrets["other"]
        nearly = right[:-1] + ("0" if right[-1] != "0" else "1")
        for n in range(BURST):
            status, body = await tries(live, (WRONG, nearly, "x")[n % 3])
            assert (status, body["error"]["code"]) == (401, "UNAUTHENTICATED")
        for wrong in (WRONG, nearly, "x") * 3:
            status, body = await tries(live, wrong)
            assert (status, body["error"]["code"]) == (429, "TOO_MANY_WRONG_KEYS")
            assert body["error"]["retryable"] is True
        # The right ones come in at any time, that which was guessed at and from the same address.
        for key in (right, other):
            assert (await tries(live, key))[0] == 200
        assert (await tries(live, WRONG, "127.0.0.2"))[0] == 401
        assert (await tries(live, right, "127.0.0.2"))[0] == 200
        warned = [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert [each.getMessage() for each in warned] == ["many wrong keys"]
        assert live.parts.guesses.answered == {
            "UNAUTHENTICATED": BURST + 1,
            "TOO_MANY_WRONG_KEYS": 9,
        }


async def test_every_way_to_show_a_key_counts_and_showing_none_does_not() -> None:
    async with served() as live:
        live.stop_the_clocks()
        for _ in range(BURST + 5):
            assert (await live.ask("GET", CATALOGUE, who=None))[0] == 401
        assert not live.parts.guesses.answered
        for n in range(BURST):
            shown = ({"X-API-Key": WRONG}, {"Authorization": f"Bearer {WRONG}"})[n % 2]
            assert (await live.ask("GET", CATALOGUE, who=None, headers=shown))[0] == 401
        status, body, _ = await live.ask("POST", "/api/v1/session", who=None, json={"key": WRONG})
        assert (status, body["error"]["code"]) == (429, "TOO_MANY_WRONG_KEYS")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with live.ws(who=None, headers={"X-API-Key": WRONG}):
                pass
        assert refused.value.status == 429
        async with live.ws() as reader:
            await reader.expect("welcome")


async def test_behind_a_proxy_it_is_the_address_that_the_proxy_names_that_counts() -> None:
    async with served(behind_proxy=True) as live:
        live.stop_the_clocks()
        here = {"X-API-Key": WRONG, "X-Forwarded-For": "192.0.2.1"}
        for _ in range(BURST):
            await live.ask("GET", CATALOGUE, who=None, headers=here)
        assert (await live.ask("GET", CATALOGUE, who=None, headers=here))[0] == 429
        there = here | {"X-Forwarded-For": "192.0.2.1, 192.0.2.2"}
        assert (await live.ask("GET", CATALOGUE, who=None, headers=there))[0] == 401


async def test_without_a_proxy_an_address_can_not_be_made_up() -> None:
    async with served() as live:
        live.stop_the_clocks()
        for n in range(BURST + 1):
            made_up = {"X-API-Key": WRONG, "X-Forwarded-For": f"192.0.2.{n}"}
            status, _, _ = await live.ask("GET", CATALOGUE, who=None, headers=made_up)
        assert status == 429


# --- publishers


async def test_what_waits_for_the_journal_is_bounded_in_bytes_too_and_recovers() -> None:
    journal = HeldJournal()
    row = position(reason="x" * 1_000)
    async with served(journal=journal, backlog_bytes=16_000, backlog_events=1_000) as live:
        journal.let.clear()
        first = asyncio.ensure_future(live.publish("positions", position("first")))
        await journal.asked.wait()
        waiting, refused = [], 0
        for n in range(40):
            asked = asyncio.ensure_future(live.post("positions", row | {"id": f"p-{n}"}))
            before = live.parts.ingress.backlog
            await live.until(
                lambda asked=asked, before=before: (
                    asked.done() or live.parts.ingress.backlog != before
                )
            )
            if asked.done():
                status, body, response = asked.result()
                assert (status, body["error"]["code"]) == (503, "OVERLOADED")
                assert int(response.headers["Retry-After"]) >= 1
                refused += 1
            else:
                waiting.append(asked)
            assert live.parts.ingress.backlog[1] <= 16_000
        assert 8 <= len(waiting) <= 16
        assert refused == 40 - len(waiting)
        journal.let.set()
        await first
        assert all(status == 201 for status, _, _ in await asyncio.gather(*waiting))
        assert live.parts.ingress.backlog == (0, 0)
        await live.publish("positions", row)
        assert live.parts.journal.head == 2 + len(waiting), "who was refused is not in it"


# --- the way down


@asynccontextmanager
async def no_more(over: asyncio.Semaphore) -> AsyncIterator[None]:
    """When the block ends, or fails, nothing is held any more."""
    try:
        yield
    finally:
        for _ in range(100):
            over.release()


async def test_a_balancer_sees_that_it_goes_down_before_the_port_is_closed_and_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """First there is a pause in which all is served, then one between the ends of its streams."""
    sleep, over = asyncio.sleep, asyncio.Semaphore(0)

    async def pause(seconds: float, *rest: Any) -> None:
        await (over.acquire() if seconds > 100 else sleep(seconds, *rest))

    async def ready(line: Bare) -> bool:
        line.send(head("GET", "/readyz"))
        return (await line.answer()).status == 200

    monkeypatch.setattr(asyncio, "sleep", pause)
    async with (
        served(drain_notice=300.0, drain_seconds=300.0) as live,
        no_more(over),
        live.ws(channels="positions") as first,
        live.ws(channels="positions") as last,
        bare(live.url) as known,
    ):
        for reader in (first, last):
            await reader.opening()
        assert await ready(known)
        going = asyncio.create_task(live.server.__aexit__())
        await live.until(lambda: live.parts.draining)
        async with bare(live.url) as newcomer:
            assert not await ready(newcomer)
        await live.publish("positions", position())
        for reader in (first, last):
            await reader.events()
        over.release()
        assert (await first.expect("notice")).body["code"] == "SHUTTING_DOWN"
        with pytest.raises(ConnectionRefusedError):
            async with bare(live.url):
                pass
        assert not await ready(known), "it is asked to the end"
        over.release()
        assert (await last.expect("notice")).body["code"] == "SHUTTING_DOWN"
        await going
