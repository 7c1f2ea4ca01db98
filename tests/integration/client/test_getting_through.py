"""How the client gets to the service: fall-back, proxies, TLS, keys that are replaced."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from telecast.client import Client, Refused, State, Stream
from telecast.client.connection.http import Access
from telecast.errors import PeerFault
from telecast.testing.relay import relay
from tests.support.payloads import position
from tests.support.service.certificate import certify
from tests.support.service.live import served

PATIENCE = 90.0


@pytest.mark.parametrize("status", [400, 403, 426, 502])
async def test_where_a_proxy_refuses_websockets_it_takes_an_event_stream(status):
    async with served() as live, relay(live.url) as line:
        line.no_websocket = status
        await live.publish("positions", position("p1"))
        async with Client(line.url, key=live.secrets["desk"], patience=PATIENCE) as telecast:
            positions = await telecast.view("positions")
            assert positions.state is State.LIVE
            async with aclosing(telecast.follow("positions", since="earliest")) as changes:
                assert (await anext(changes)).transport == "sse"
        streams = [path for path in line.paths if path.endswith("/telemetry")]
        assert streams[:2] == ["/ws/telemetry", "/sse/telemetry"]


async def test_a_wrong_key_is_no_reason_to_try_the_other_transport():
    async with served() as live, relay(live.url) as line:
        stream = Stream(line.url, "tc_00000000_wrong", ["positions"], transport="auto")
        async with stream:
            with pytest.raises(Refused):
                await anext(stream)
        assert line.paths == ["/ws/telemetry"]


async def test_what_works_is_kept_after_a_cut():
    async with served() as live, relay(live.url) as line:
        line.no_websocket = 403
        client = Client(line.url, key=live.secrets["desk"])
        client._pause = lambda _: asyncio.sleep(0)
        async with client, aclosing(client.follow("positions", since="earliest")) as changes:
            await live.publish("positions", position("p1"))
            await anext(changes)
            line.cut()
            await live.publish("positions", position("p2"))
            await anext(changes)
        assert line.paths == ["/ws/telemetry", "/sse/telemetry", "/sse/telemetry"]


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_a_key_that_is_replaced_while_connected_is_asked_for_anew(transport):
    async with served() as live:
        asked = []

        def key() -> str:
            asked.append(live.secrets["desk"])
            return asked[-1]

        async with (
            Client(live.url, key=key, transport=transport) as telecast,
            aclosing(telecast.follow("positions", since=live.at(0))) as changes,
        ):
            await live.publish("positions", position("p1"))
            await anext(changes)
            for each in list(live.parts.broadcaster.subscribers.values()):
                live.parts.broadcaster.evict(each, PeerFault("UNAUTHENTICATED", "Revoked."))
            await live.publish("positions", position("p2"))
            assert (await anext(changes)).key == "p2"
        assert len(asked) == 2


async def test_a_certificate_of_ones_own_is_trusted_by_a_context(tmp_path: Path):
    made = certify(tmp_path, "localhost")
    async with served(trusted=made.trusted(), **made.settings) as live:
        url = live.url.replace("127.0.0.1", "localhost")
        async with Client(url, key=live.secrets["desk"], tls=made.trusted()) as telecast:
            assert (await telecast.view("positions")).state is State.LIVE


async def test_an_http_proxy_is_asked_for_the_whole_address():
    """The name is one that there is not: only the proxy can have made it work."""
    async with served() as live, relay(live.url) as line:
        async with Client(
            "http://telecast.invalid", key=live.secrets["desk"], proxy=line.url
        ) as telecast:
            assert (await telecast.view("positions")).state is State.LIVE
        assert line.paths[0].startswith("http://telecast.invalid/")


def test_the_environment_names_a_proxy_but_not_for_this_machine(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert str(Access.to("http://telecast.example").proxy) == "http://proxy.example:3128"
    for near in ("http://127.0.0.1:8080", "http://localhost", "http://[::1]:1"):
        assert Access.to(near).proxy is None
    assert Access.to("http://inside.example").proxy is None
    assert str(Access.to("http://localhost", proxy="http://p:1").proxy) == "http://p:1"
