"""Streams over TLS, which the event loop writes and reads: all that holds without it holds here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from telecast.errors import PeerFault
from telecast.net.tls import TlsWire
from telecast.net.wire import HIGH_WATER
from telecast.tasks import drain
from tests.support.fakes import ws_frames
from tests.support.payloads import alert, position
from tests.support.service.certificate import OPENSSL, Certificate, certify
from tests.support.service.live import Live, Reader, served, types
from tests.support.sockets.bare import bare
from tests.support.sockets.raw import frame, request

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs openssl to make a certificate")
TRANSPORTS = pytest.mark.parametrize("transport", ["ws", "sse"])
TEXT, CLOSE = 1, 8


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certify(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def live(certificate: Certificate, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Live]:
    """The service with TLS; when all have gone, it has let go of all of them."""
    async with served(trusted=certificate.trusted(), **certificate.settings) as live:
        assert live.url.startswith("https:")
        yield live
        await live.everybody_gone()
        await live.session.close()
        await live.until(lambda: not len(live.parts.streams) and not len(live.parts.admission))
    assert not [each for each in caplog.records if each.levelname in ("WARNING", "ERROR")]


@asynccontextmanager
async def opened(
    live: Live, transport: str, **query: object
) -> AsyncIterator[tuple[Reader, TlsWire]]:
    """A stream that is live, and the server's end of it."""
    before = set(live.parts.streams._wires)
    async with live.transport(transport, **query) as reader:
        await reader.opening()
        (wire,) = live.parts.streams._wires - before
        assert isinstance(wire, TlsWire)
        yield reader, wire


@TRANSPORTS
async def test_a_snapshot_events_and_a_resume_at_the_other_transport(
    live: Live, transport: str
) -> None:
    await live.publish("positions", position("p1"), position("p2"))
    async with live.transport(transport, channels="positions") as reader:
        reported = await reader.opening()
        assert types(reported) == ["ack", "snapshot", "event", "event", "live"]
        await live.publish("positions", position("p3"))
        (event,) = await reader.events()
        assert event.body["key"] == "p3"
    await live.publish("positions", position("p4"))
    other = {"ws": "sse", "sse": "ws"}[transport]
    async with live.transport(other, channels="positions", since=live.at(3)) as reader:
        reported = await reader.opening()
        assert types(reported) == ["ack", "resume", "event", "live"]
        assert reported[2].body["seq"] == 4


async def test_what_is_published_at_one_transport_is_sent_at_both(live: Live) -> None:
    async with (
        opened(live, "sse", channels="positions") as (sse, _),
        opened(live, "ws", channels="positions") as (ws, _),
    ):
        await ws.send("publish", channel="positions", data=position("p1"), reqId="1")  # type: ignore[attr-defined]
        reported = {each.type: each.body for each in (await ws.read(), await ws.read())}
        assert reported["ack"]["seq"] == reported["event"]["seq"] == 1
        assert (await sse.events())[0].json == next(
            each.json for each in ws.log if each.type == "event"
        )


@TRANSPORTS
async def test_who_is_ended_reads_why(live: Live, transport: str) -> None:
    async with opened(live, transport, channels="positions") as (reader, _):
        (client,) = live.parts.clients
        client.evict(PeerFault("FORBIDDEN", "No more."))
        reported, code = await reader.rest()
        assert [each.body["code"] for each in reported] == ["FORBIDDEN"]
        assert code == (4403 if transport == "ws" else None)


@TRANSPORTS
async def test_who_goes_without_a_word_is_let_go(
    live: Live, certificate: Certificate, transport: str
) -> None:
    asked = request(transport, live.secrets["desk"], {"channels": "positions"})
    async with bare(live.url, ssl=certificate.trusted()) as line:
        line.send(asked)
        await live.until(lambda: live.parts.broadcaster.subscribers)
        assert len(live.parts.streams) == 1
    await live.everybody_gone()
    await live.until(lambda: not len(live.parts.streams))


async def test_frames_right_behind_the_request_are_received(
    live: Live, certificate: Certificate
) -> None:
    asked = request("ws", live.secrets["desk"], {})
    asked += frame(TEXT, b'{"action":"subscribe","channels":["positions"],"reqId":"7"}')
    asked += frame(CLOSE, b"\x03\xe8")
    async with bare(live.url, ssl=certificate.trusted()) as line:
        line.send(asked)
        head, _, data = (await line.rest()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    frames = [(opcode, payload) for opcode, payload, _ in ws_frames(data)]
    assert b'"reqId":"7"' in frames[1][1]
    assert frames[-1] == (CLOSE, b"\x03\xe8")


@TRANSPORTS
async def test_who_reads_slowly_fills_up_and_is_sent_all_of_it_in_order(
    live: Live, transport: str
) -> None:
    async with (
        opened(live, transport, channels="risk-alerts", delivery="all") as (slow, wire),
        opened(live, transport, channels="risk-alerts", delivery="all") as (other, _),
    ):
        last = 0
        while not wire.full:
            batch = [alert(f"a{last + n}", message="x" * 900) for n in range(50)]
            await live.publish("risk-alerts", *batch)
            assert [each.body["seq"] for each in await other.events(50)] == [
                *range(last + 1, last + 51)
            ]
            last += 50
        assert wire._held() > HIGH_WATER
        await live.publish("risk-alerts", alert("late"))
        seqs = [each.body["seq"] for each in await slow.events(last + 1)]
        assert seqs == [*range(1, last + 2)]
        assert not wire.full
        await live.until(lambda: wire.buffered() == 0)


async def test_going_down_ends_both_with_a_word_and_lets_go_of_them(live: Live) -> None:
    async with (
        opened(live, "ws", channels="positions") as (ws, _),
        opened(live, "sse", channels="positions") as (sse, _),
    ):
        await drain(live.parts)
        for reader, code in ((ws, 1001), (sse, None)):
            reported, ended = await reader.rest()
            assert [each.body["code"] for each in reported] == ["SHUTTING_DOWN"]
            assert ended == code
        await live.parts.streams.close()
        assert not len(live.parts.streams)


@TRANSPORTS
async def test_of_a_stream_aiohttp_keeps_nothing(live: Live, transport: str) -> None:
    server, tasks = live.server._runner.server, asyncio.all_tasks()
    assert server is not None
    async with opened(live, transport, channels="positions"):
        await live.until(lambda: not server.connections and asyncio.all_tasks() == tasks)
