"""Behind the proxies that the guide shows: nothing is held back, and all that is said arrives.

Each test runs behind every proxy that is installed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.support.payloads import price
from tests.support.service import certificate, proxy
from tests.support.service.live import Ended, Reader, SseReader, WsReader, types
from tests.support.service.process import HOST, Service, service
from tests.support.service.rest import metric, publish

FORMS = [
    pytest.param(
        form, marks=pytest.mark.skipif(not there, reason=f"{name} or openssl is not installed")
    )
    for name, form, there in (
        ("nginx", proxy.nginx, proxy.NGINX and certificate.OPENSSL),
        ("caddy", proxy.caddy, proxy.CADDY and certificate.OPENSSL),
        ("haproxy", proxy.haproxy, proxy.HAPROXY and certificate.OPENSSL),
        ("apache2", proxy.apache, proxy.APACHE and certificate.OPENSSL),
    )
]
CURL = shutil.which("curl")
TRANSPORTS = ("ws", "sse")
HEARTBEAT = 60
PATIENCE = 90.0
"""Seconds: less than a heartbeat."""
PRICES = {"channels": "market-data", "delivery": "all"}


class _Here(AbstractResolver):
    """Every name is this machine's."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        where = {"family": socket.AF_INET, "proto": 0, "flags": socket.AI_NUMERICHOST}
        return [ResolveResult(hostname=host, host=HOST, port=port, **where)]

    async def close(self) -> None: ...


class Behind:
    """A service, the proxy before it, and clients of the proxy."""

    def __init__(
        self,
        own: Service,
        before: proxy.Proxy,
        session: aiohttp.ClientSession,
        *,
        notices: bool,
        answers: bool,
    ) -> None:
        """`notices`: it closes its side as soon as a client goes, not with the next heartbeat.
        `answers`: it answers a stream itself while the service is away."""
        self.own = own
        self.answers = answers
        self.notices = notices
        self.heartbeat = HEARTBEAT if notices else 5
        self.url = f"https://{before.host}"
        self.session = session

    @asynccontextmanager
    async def stream(
        self, transport: str, headers: dict[str, str] | None = None, **query: Any
    ) -> AsyncIterator[Reader]:
        url, headers = f"{self.url}/{transport}/telemetry", self.own.headers | (headers or {})
        if transport == "ws":
            async with self.session.ws_connect(url, headers=headers, params=query) as socket_:
                yield WsReader(socket_)
        else:
            async with self.session.get(url, headers=headers, params=query) as response:
                assert response.status == 200, await response.text()
                yield SseReader(response.content.readline)
                # No farewell: a process that is ended says none.
                if response.connection is not None and response.connection.transport is not None:
                    response.connection.transport.abort()


@pytest.fixture(params=FORMS)
async def behind(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Behind]:
    async with (
        service(tmp_path, behind_proxy="true", max_connections_per_address=3) as own,
        request.param(tmp_path, own.port) as before,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=before.context, resolver=_Here(), limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as session,
    ):
        notices = request.param in (proxy.nginx, proxy.caddy)
        yield Behind(own, before, session, notices=notices, answers=request.param != proxy.apache)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_each_event_comes_through_while_the_stream_is_open(
    behind: Behind, transport: str
) -> None:
    async with behind.stream(transport, **PRICES) as reader:
        await reader.opening()
        for number in range(3):
            # One at a time: what a proxy holds back would be waited for in vain.
            await publish(behind.own, "market-data", price(price=f"{number}.5"))
            assert (await reader.expect("event")).row["price"] == f"{number}.5"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_resume_through_the_proxy_is_exact(behind: Behind, transport: str) -> None:
    first = await publish(behind.own, "market-data", price(price="1"))
    await publish(behind.own, "market-data", *(price(price=f"{n}.5") for n in range(500)))
    last_seen = {"Last-Event-ID": first["position"]} if transport == "sse" else {}
    since = {} if last_seen else {"since": first["position"]}
    async with behind.stream(transport, last_seen, **PRICES, **since) as reader:
        reported = await reader.opening()
        assert types(reported) == ["ack", "resume", *["event"] * 500, "live"]
        assert [each.row["price"] for each in reported[2:-1]] == [f"{n}.5" for n in range(500)]


async def test_how_a_stream_ends_comes_through(behind: Behind) -> None:
    async with behind.stream("ws", **PRICES) as ws, behind.stream("sse", **PRICES) as sse:
        for reader in (ws, sse):
            await reader.opening()
        os.kill(behind.own.pid, signal.SIGTERM)
        assert (await ws.expect("notice")).body["code"] == "SHUTTING_DOWN"
        with pytest.raises(Ended) as end:
            await ws.read()
        assert end.value.code == 1001
        notice = (await sse.expect("notice")).body
        assert isinstance(sse, SseReader)
        assert sse.retry[1:] == [notice["retryAfterMs"]]
        with pytest.raises(Ended):
            await sse.read()
    assert await behind.own.gone() == 0
    await behind.own.start()


async def test_a_client_that_is_closed_is_sent_the_reason(behind: Behind) -> None:
    async with behind.stream("ws") as reader:
        await reader.expect("welcome")
        assert isinstance(reader, WsReader)
        for _ in range(25):
            await reader.socket.send_str("not JSON")
        reported, code = await reader.rest()
    assert reported[-1].body["code"] == "TOO_MANY_BAD_MESSAGES"
    assert code == 4400


async def test_a_page_of_the_proxys_own_host_may_connect_and_no_other(behind: Behind) -> None:
    """By a ticket, as a page does: with a key in a header the Origin decides nothing."""

    async def connected(origin: str) -> None:
        url = f"{behind.url}/api/v1/tickets"
        async with behind.session.post(url, headers=behind.own.headers) as answer:
            ticket = (await answer.json())["data"]["ticket"]
        async with behind.session.ws_connect(
            f"{behind.url}/ws/telemetry", headers={"Origin": origin}, params={"ticket": ticket}
        ) as line:
            await WsReader(line).expect("welcome")

    await connected(behind.url)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await connected("https://elsewhere.example")
    assert refused.value.status == 403


async def test_the_limit_of_an_address_counts_the_clients_and_not_the_proxy(
    behind: Behind,
) -> None:
    def from_(address: str) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            ssl=behind.session.connector._ssl,  # type: ignore[union-attr]
            resolver=_Here(),
            local_addr=(address, 0),
        )
        return aiohttp.ClientSession(connector=connector, headers=behind.own.headers)

    url = f"{behind.url}/ws/telemetry"
    # What a client says of itself must not count, though the proxy passes it on.
    claim = {"X-Forwarded-For": "192.0.2.7"}
    async with from_("127.0.0.2") as one, from_("127.0.0.3") as another:
        held = [await one.ws_connect(url, headers=claim) for _ in range(3)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await one.ws_connect(url, headers=claim)
        assert refused.value.status == 429
        async with another.ws_connect(url):
            pass
        for each in held:
            await each.close()


async def test_who_goes_away_is_gone_at_the_service(behind: Behind) -> None:
    """A proxy that keeps its side open would fill the service with the dead."""
    for transport in TRANSPORTS:
        async with behind.stream(transport, **PRICES, heartbeat=behind.heartbeat) as reader:
            await reader.opening()
            assert await metric(behind.own, "telecast_connections", transport=transport) == 1
        async with asyncio.timeout(PATIENCE):
            # Nothing is sent to it meanwhile where the proxy notices: a heartbeat is further away.
            while await metric(behind.own, "telecast_connections", transport=transport):
                pass


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
async def test_over_http2_as_browsers_speak_it_nothing_is_held_back_either(
    behind: Behind, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(str(CURL), "--silent", "--no-buffer", "--http2", "--write-out", "HTTP/%{http_version}"),
        *("--cacert", str(tmp_path / "telecast.pem")),
        *("--resolve", f"{behind.url.removeprefix('https://')}:{HOST}"),
        *("--header", f"X-API-Key: {behind.own.key}"),
        f"{behind.url}/sse/telemetry?channels=market-data",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        reader = SseReader(process.stdout.readline)
        await reader.opening()
        for number in range(3):
            await publish(behind.own, "market-data", price(price=f"{number}.5"))
            assert (await reader.expect("event")).row["price"] == f"{number}.5"
        os.kill(behind.own.pid, signal.SIGTERM)
        await reader.expect("notice")
        assert await process.stdout.read() == b"HTTP/2"
        assert await process.wait() == 0, "the answer has its end"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert await behind.own.gone() == 0
    await behind.own.start()


async def test_an_event_source_is_asked_to_come_back_while_the_service_is_away(
    behind: Behind,
) -> None:
    """502 ended it for good."""
    if not behind.answers:
        pytest.skip("this form documents no answer of its own")
    async with behind.stream("sse", **PRICES) as sse:
        await sse.opening()
        os.kill(behind.own.pid, signal.SIGTERM)
        with contextlib.suppress(aiohttp.ClientError):
            await sse.rest()
    assert await behind.own.gone() == 0
    async with behind.stream("sse", **PRICES) as sse:
        notice = (await sse.expect("notice")).body
        assert (notice["code"], notice["retryable"]) == ("SHUTTING_DOWN", True)
        assert isinstance(sse, SseReader)
        assert sse.retry == [notice["retryAfterMs"]]
    await behind.own.start()
