"""How long a connection may take to ask: real sockets, and a clock that the test turns."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from telecast.net.admission import SILENT, SLOW_BODY, SLOW_HEAD
from telecast.web.front import connection
from tests.support.clock import Clock
from tests.support.payloads import position
from tests.support.service.certificate import OPENSSL, Certificate, certify
from tests.support.service.live import Live, served
from tests.support.sockets.bare import bare, head

PUBLISH = "/api/v1/channels/positions/events"
JSON = "Content-Type: application/json"


@asynccontextmanager
async def timed(**settings: Any) -> AsyncIterator[tuple[Live, Clock]]:
    """The service, whose sockets are timed by the test's clock."""
    async with served(**settings) as live:
        clock = Clock()
        live.parts.admission._scheduler = clock
        yield live, clock


async def begun(live: Live, count: int = 1) -> None:
    """So many heads have begun to come in."""
    await live.until(lambda: len(live.parts.admission._asking) == count)


async def connected(live: Live, count: int = 1) -> None:
    await live.until(lambda: len(live.parts.admission._silent) == count)


async def test_who_says_nothing_is_closed_after_five_seconds_without_a_word() -> None:
    async with timed() as (live, clock), bare(live.url) as line, bare(live.url) as asks:
        await connected(live, 2)
        clock.pass_by(4.9)
        asks.send(head("GET", "/livez"))
        assert (await asks.answer()).status == 200
        clock.pass_by(1.2)
        assert await line.rest() == b""
        assert live.parts.admission.closed == {SILENT: 1}
        asks.send(head("GET", "/livez"))
        assert (await asks.answer()).status == 200


async def test_half_a_head_is_answered_408_after_ten_seconds() -> None:
    async with timed() as (live, clock), bare(live.url) as line:
        line.send(head("GET", "/livez", "x")[:-2])
        await begun(live)
        clock.pass_by(9.9)
        assert len(live.parts.admission) == 1
        clock.pass_by(1.2)
        answer = await line.answer()
        assert (answer.status, answer.error["code"]) == (408, "TOO_SLOW")
        assert answer.headers["connection"] == "close"
        assert await line.rest() == b""
        assert live.parts.admission.closed == {SLOW_HEAD: 1}
        assert len(live.parts.admission) == 0


async def test_a_head_that_drips_is_cut_off_all_the_same() -> None:
    """Slowloris: a byte a second keeps a connection busy without end where each byte buys time."""
    async with timed() as (live, clock), bare(live.url) as line:
        request = head("GET", "/livez", "x", *(f"X-{n}: a" for n in range(20)))
        line.send(request[:1])
        await begun(live)
        for byte in request[1:12]:
            clock.pass_by(1)
            line.send(bytes([byte]))
        assert (await line.answer()).status == 408
        assert await line.rest() == b""


async def test_a_thousand_of_them_are_cut_off_together_and_others_are_served() -> None:
    async with timed() as (live, clock):
        lines = [await asyncio.open_connection(*at(live)) for _ in range(1000)]
        try:
            for _, writer in lines:
                writer.write(b"GET / HTTP/1.1\r\nX-A: ")
            await begun(live, 1000)
            assert (await live.get("/api/v1/channels"))[0]
            clock.pass_by(11.1)
            for reader, _ in lines:
                assert (await reader.read()).startswith(b"HTTP/1.1 408")
            await live.until(lambda: len(live.parts.admission) == 1)
        finally:
            for _, writer in lines:
                writer.transport.abort()


def at(live: Live) -> tuple[str, int]:
    host, _, port = live.url.removeprefix("http://").partition(":")
    return host, int(port)


async def test_the_next_request_on_a_kept_connection_has_its_own_ten_seconds() -> None:
    async with timed() as (live, clock), bare(live.url) as line:
        for _ in range(3):
            line.send(head("GET", "/livez"))
            assert (await line.answer()).status == 200
            clock.pass_by(60)
        line.send(b"GET /livez HT")
        await begun(live)
        clock.pass_by(9.9)
        line.send(b"TP/1.1\r\nHost: x\r\n\r\n")
        assert (await line.answer()).status == 200
        line.send(b"GET /livez HT")
        await begun(live)
        clock.pass_by(11.1)
        assert (await line.answer()).status == 408


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_a_stream_is_no_request_that_takes_too_long(transport: str) -> None:
    async with timed() as (live, clock), live.transport(transport, channels="positions") as reader:
        await reader.opening()
        if transport == "ws":
            await reader.send("heartbeat")
            await reader.expect("heartbeat")
        clock.pass_by(3600)
        await live.publish("positions", position())
        await reader.events()
        assert not live.parts.admission.closed
        assert not live.parts.admission._asking


async def test_what_is_left_of_a_refused_body_is_not_taken_for_a_slow_head() -> None:
    async with timed() as (live, clock), bare(live.url) as line:
        line.send(head("POST", PUBLISH, "no key", JSON, "Content-Length: 100"))
        assert (await line.answer()).status == 401
        line.send(b" " * 99)
        (its,) = live.server._runner.server.connections
        await live.until(lambda: its._body.total_bytes == 99)
        clock.pass_by(12)
        line.send(b" ")
        line.send(head("GET", "/livez"))
        assert (await line.answer()).status == 200
        clock.pass_by(60)
        line.send(head("GET", "/livez"))
        assert (await line.answer()).status == 200
        assert not live.parts.admission.closed


@pytest.mark.parametrize(
    "request_",
    [
        ("POST", PUBLISH, "Content-Length: 100"),
        ("POST", PUBLISH, "Transfer-Encoding: chunked"),
        ("POST", "/api/v1/session", "Content-Length: 100"),
    ],
)
async def test_a_body_that_does_not_come_is_given_up(request_: tuple[str, str, str]) -> None:
    method, path, length = request_
    async with timed(body_timeout=0.2) as (live, clock), bare(live.url) as line:
        key = live.secrets["desk"] if path == PUBLISH else None
        line.send(head(method, path, key, JSON, length) + b"5")
        await live.until(lambda: live.parts.admission.closed[SLOW_BODY] == 1)
        answer = await line.answer()
        assert (answer.status, answer.error["code"]) == (408, "TOO_SLOW")
        assert answer.headers["connection"] == "close"
        assert live.parts.journal.head == 0
        clock.pass_by(60)
        assert live.parts.admission.closed == {SLOW_BODY: 1}, "it is no slow head as well"


async def test_a_body_that_is_too_large_by_its_own_word_is_not_waited_for() -> None:
    async with timed(max_body_bytes=1024) as (live, _), bare(live.url) as line:
        line.send(head("POST", PUBLISH, live.secrets["desk"], JSON, "Content-Length: 1025"))
        answer = await line.answer()
        assert (answer.status, answer.error["code"]) == (413, "BODY_TOO_LARGE")
        assert answer.error["details"] == {"max_body_bytes": 1024}


async def test_a_sign_in_in_chunks_has_the_same_bound() -> None:
    async with timed() as (live, _), bare(live.url) as line:
        chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
        line.send(
            head("POST", "/api/v1/session", None, JSON, "Transfer-Encoding: chunked")
            + (chunk + chunk + b"0\r\n\r\n")
        )
        answer = await line.answer()
        assert (answer.status, answer.error["code"]) == (413, "BODY_TOO_LARGE")


async def test_a_body_that_takes_its_time_but_comes_is_taken() -> None:
    async with timed() as (live, clock), bare(live.url) as line:
        body = orjson.dumps(position())
        line.send(head("POST", PUBLISH, live.secrets["desk"], JSON, f"Content-Length: {len(body)}"))
        sockets = live.parts.admission
        await live.until(lambda: len(sockets) and not (sockets._silent or sockets._asking))
        for start in range(0, len(body), 16):
            clock.pass_by(20)
            line.send(body[start : start + 16])
        assert (await line.answer()).status == 201


# --- who asks, and does not take the answer


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="needs TCP_USER_TIMEOUT")
async def test_who_takes_nothing_of_the_answers_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answers and its connection were kept for as long as it liked: no key was needed."""
    monkeypatch.setattr(connection, "USER_TIMEOUT_MS", 500)
    async with timed() as (live, _), bare(live.url) as reads:
        loop = asyncio.get_running_loop()
        with socket.socket() as greedy:
            greedy.setblocking(False)
            greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(greedy, at(live))
            asked = head("GET", "/page/main.js") * 500
            asking = asyncio.create_task(loop.sock_sendall(greedy, asked))
            await live.until(lambda: len(live.parts.admission) == 2)
            await live.until(lambda: len(live.parts.admission) == 1)
            asking.cancel()
            await asyncio.wait([asking])
        reads.send(head("GET", "/livez"))
        assert (await reads.answer()).status == 200


# --- with TLS, a handshake comes first


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    if OPENSSL is None:
        pytest.skip("needs openssl to make a certificate")
    return certify(tmp_path)


async def test_behind_tls_the_same_holds(
    certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        timed(**certificate.settings) as (live, clock),
        bare(live.url, ssl=certificate.trusted()) as silent,
        bare(live.url, ssl=certificate.trusted()) as slow,
    ):
        slow.send(head("GET", "/livez"))
        assert (await slow.answer()).status == 200
        slow.send(head("GET", "/livez")[:-4])
        await begun(live)
        clock.pass_by(12)
        assert await silent.rest() == b""
        assert (await slow.answer()).status == 408
        await live.until(lambda: len(live.parts.admission) == 0)
        assert live.parts.admission.closed == {SILENT: 1, SLOW_HEAD: 1}
    assert not caplog.records


async def test_a_tls_handshake_that_stops_or_is_none_is_ended_and_its_place_is_free_again(
    certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        timed(first_byte_timeout=0.3, max_sockets=2, **certificate.settings) as (live, clock),
        bare(live.url) as stops,
        bare(live.url) as plain,
    ):
        stops.send(bytes.fromhex("160301"))
        plain.send(head("GET", "/livez"))
        await live.until(lambda: len(live.parts.admission) == 2)
        await stops.rest()
        assert not (await plain.rest()).startswith(b"HTTP/1.1 2")
        assert live.parts.admission.full()
        clock.pass_by(2)
        assert len(live.parts.admission) == 0
        async with bare(live.url):  # it need not shake hands: a busy machine is not as quick
            await live.until(lambda: len(live.parts.admission) == 1)
    assert not [each for each in caplog.records if each.exc_info], "no traceback for a bad guest"
