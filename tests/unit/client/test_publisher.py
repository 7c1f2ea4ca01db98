"""The REST client: every try under one key, every answer waited for, every refusal in words."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.client_reqrep import ConnectionKey

from telecast.client import BadAnswer, Publisher, Refused, Unreachable
from telecast.client.connection.backoff import Backoff
from telecast.client.connection.http import base_of, words
from telecast.client.faults import MOST_ASKED_SECONDS, refusal_of, seconds_of

RECEIPT = {"accepted": 1, "firstSeq": 4, "lastSeq": 4, "position": "k3v9:4", "subscribers": 0}
ROW = {"id": "p1"}

Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


def ok(data: Any, status: int = 200) -> web.Response:
    return web.json_response({"success": True, "data": data, "timestamp": "t"}, status=status)


def no(status: int, code: str, **headers: str) -> web.Response:
    error = {"code": code, "message": f"It is {code}.", "details": {"n": 1}, "advice": "Do so."}
    body = {"success": False, "error": error, "timestamp": "t"}
    return web.json_response(body, status=status, headers=headers)


async def accept(request: web.Request) -> web.Response:
    return ok(RECEIPT, 201)


async def hang_up(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hang_up_within_the_answer(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"success":')
    assert request.transport is not None
    request.transport.close()
    return response


def refuse(status: int, code: str, **headers: str) -> Script:
    async def script(request: web.Request) -> web.Response:
        return no(status, code, **headers)

    return script


class Server:
    def __init__(self, scripts: tuple[Script, ...]) -> None:
        self.scripts = scripts
        self.asked: list[tuple[web.Request, bytes]] = []
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request, await request.read()))
        return await self.scripts[min(len(self.asked), len(self.scripts)) - 1](request)


@pytest.fixture
def serve(aiohttp_server):
    async def start(*scripts: Script) -> Server:
        server = Server(scripts)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.serve)
        server.url = str((await aiohttp_server(app)).make_url("/"))
        return server

    return start


class Patient:
    """A publisher in whose time only its own waits pass."""

    def __init__(self, url: str, **options: Any) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self.reports: list[str] = []
        self.publisher = Publisher(
            url,
            "tc_key",
            backoff=Backoff(first=1, most=8, spread=lambda: 0.0),
            pause=self._pause,
            clock=lambda: self.now,
            report=lambda fault, delay: self.reports.append(fault.code),
            **options,
        )

    async def _pause(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    async def publish(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        async with self.publisher as publisher:
            return await publisher.publish(*arguments, **options)


async def test_a_publish_is_ndjson_under_a_key_of_its_own(serve):
    server = await serve(accept)
    assert await Patient(server.url).publish("positions", [ROW, ROW]) == RECEIPT
    ((request, body),) = server.asked
    assert (request.method, request.path) == ("POST", "/api/v1/channels/positions/events")
    assert request.content_type == "application/x-ndjson"
    assert request.headers["Authorization"] == "Bearer tc_key"
    assert len(request.headers["Idempotency-Key"]) == 32
    assert body == b'{"id":"p1"}\n{"id":"p1"}'


async def test_one_payload_or_bytes_as_they_are_will_do(serve):
    server = await serve(accept)
    await Patient(server.url).publish("positions", ROW)
    await Patient(server.url).publish(
        "positions", b'{"id": "p1"}\n', idempotency_key="k1", replace="traderId:t1"
    )
    assert server.asked[0][1] == b'{"id":"p1"}'
    request, body = server.asked[1]
    assert body == b'{"id": "p1"}\n'
    assert request.headers["Idempotency-Key"] == "k1"
    assert request.query["replace"] == "traderId:t1"


@pytest.mark.parametrize("broken", [hang_up, hang_up_within_the_answer])
async def test_a_lost_answer_is_asked_for_again_under_the_same_key(serve, broken):
    server = await serve(broken, broken, accept)
    patient = Patient(server.url, insist=False)
    assert await patient.publish("positions", ROW) == RECEIPT
    keys = {request.headers["Idempotency-Key"] for request, _ in server.asked}
    bodies = {body for _, body in server.asked}
    assert (len(server.asked), len(keys), len(bodies)) == (3, 1, 1)
    assert patient.reports == ["UNREACHABLE", "UNREACHABLE"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_what_is_worth_retrying_is_retried_when_it_says(serve, status):
    server = await serve(refuse(status, "X", **{"Retry-After": "20"}), refuse(status, "X"), accept)
    patient = Patient(server.url)
    await patient.publish("positions", ROW)
    assert patient.waits == [20, 1]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
async def test_a_final_refusal_is_raised_at_once_in_the_servers_words(serve, status):
    server = await serve(refuse(status, "SOME_CODE"))
    with pytest.raises(Refused, match="It is SOME_CODE") as caught:
        await Patient(server.url).publish("positions", ROW)
    fault = caught.value
    assert (fault.code, fault.status, fault.details) == ("SOME_CODE", status, {"n": 1})
    assert (fault.rule.advice, fault.retryable) == ("Do so.", False)
    assert len(server.asked) == 1


async def test_it_gives_up_when_the_time_is_over_and_not_after(serve):
    server = await serve(refuse(503, "OVERLOADED", **{"Retry-After": "25"}))
    patient = Patient(server.url, patience=60)
    with pytest.raises(Refused, match="OVERLOADED"):
        await patient.publish("positions", ROW)
    assert patient.waits == [25, 25]


async def test_nobody_there_is_unreachable(unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    patient = Patient(url, patience=4)
    with pytest.raises(Unreachable, match="Nobody answers at"):
        await patient.publish("positions", ROW)
    assert patient.waits == [0.5, 1, 2]
    hasty = Patient(url, insist=False)
    with pytest.raises(Unreachable):
        await hasty.publish("positions", ROW)
    assert hasty.waits == []


async def test_a_service_that_dies_in_the_very_first_request_is_waited_for(unused_tcp_port):
    """It was taken for nobody: `replay` ended with 4 when the service was killed right then."""

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        server.close()
        writer.transport.abort()

    server = await asyncio.start_server(die, "127.0.0.1", unused_tcp_port)
    patient = Patient(f"http://127.0.0.1:{unused_tcp_port}", patience=4, insist=False)
    with pytest.raises(Unreachable):
        await patient.publish("positions", ROW)
    assert patient.waits == [0.5, 1, 2]


@pytest.mark.parametrize("body", [b"<h1>hello</h1>", b"[]", b'{"success":true}', b'{"data":1}'])
async def test_an_answer_that_is_not_ours_is_reported_as_such(serve, body):
    async def page(request: web.Request) -> web.Response:
        return web.Response(body=body)

    server = await serve(page)
    with pytest.raises(BadAnswer):
        await Patient(server.url).publish("positions", ROW)


async def test_a_channel_name_can_not_leave_its_place_in_the_path(serve):
    server = await serve(accept)
    await Patient(server.url).publish("../clients?x=", ROW)
    assert server.asked[0][0].raw_path == "/api/v1/channels/..%2Fclients%3Fx%3D/events"


async def test_an_address_may_have_a_path(serve):
    server = await serve(accept)
    await Patient(server.url + "behind/a/proxy/").publish("positions", ROW)
    assert server.asked[0][0].path == "/behind/a/proxy/api/v1/channels/positions/events"


async def test_no_redirect_is_followed(serve):
    async def away(request: web.Request) -> web.Response:
        raise web.HTTPPermanentRedirect("https://elsewhere.example/")

    server = await serve(away)
    with pytest.raises(Refused, match="leads on to https://elsewhere"):
        await Patient(server.url).publish("positions", ROW)
    assert len(server.asked) == 1


def row(key: str, seq: int) -> dict[str, Any]:
    return {"key": key, "seq": seq, "data": {"id": key}}


async def test_a_snapshot_is_read_page_by_page_and_a_row_stands_once(serve):
    pages = {
        None: {"rows": [row("a", 1), row("b", 2)], "position": "k3v9:5", "more": True, "cursor": 1},
        "c1": {"rows": [row("c", 3)], "position": "k3v9:6", "more": True, "cursor": "c2"},
        "c2": {"rows": [row("a", 6)], "position": "k3v9:6", "more": False},
    }
    pages[None]["cursor"] = "c1"

    async def page(request: web.Request) -> web.Response:
        assert request.query.getall("symbol") == ["A", "B"]
        return ok(pages[request.query.get("cursor")])

    server = await serve(page)
    async with Patient(server.url).publisher as publisher:
        found = await publisher.snapshot("positions", {"symbol": ["A", "B"]})
    assert [(each["key"], each["seq"]) for each in found.rows] == [("b", 2), ("c", 3), ("a", 6)]
    assert found.position == "k3v9:5"


async def test_pages_without_end_are_not_followed_for_ever(serve):
    async def page(request: web.Request) -> web.Response:
        return ok({"rows": [], "position": "k3v9:5", "more": True, "cursor": "same"})

    server = await serve(page)
    async with Patient(server.url).publisher as publisher:
        with pytest.raises(BadAnswer, match="end"):
            await publisher.snapshot("positions")


async def test_the_catalogue_is_a_list(serve):
    async def catalogue(request: web.Request) -> web.Response:
        return ok([{"name": "positions"}])

    server = await serve(catalogue)
    async with Patient(server.url).publisher as publisher:
        assert await publisher.channels() == [{"name": "positions"}]


def test_a_refusal_in_other_words_still_says_what_came():
    reported = refusal_of(502, {}, b"<h1>Bad Gateway</h1>")
    assert reported.message == "It answered 502: <h1>Bad Gateway</h1>"
    assert (reported.code, reported.retryable) == ("REFUSED", True)
    assert refusal_of(404, {}, b"").message == "It answered 404."
    assert refusal_of(404, {}, orjson.dumps({"error": "no"})).status == 404


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("7", 7),
        ("\u0667", 0),
        ("-1", 0),
        ("soon", 0),
        ("99999999999999999999", MOST_ASKED_SECONDS),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(header, seconds):
    assert seconds_of(header, now=10.0) == seconds


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "no TLS connection"),
        (ConnectionRefusedError(111, "Connect call failed"), "Connection refused"),
    ],
)
def test_a_fault_of_names_or_tls_is_not_read_from_the_table_of_errno(cause, said):
    key = ConnectionKey("desk.example", 443, True, True, None, None, None, None)
    assert said in words(aiohttp.ClientConnectorError(key, cause))


def test_a_certificate_that_is_not_accepted_is_named_by_its_reason():
    refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
    refused.verify_message = "self-signed certificate"
    key = ConnectionKey("desk.example", 443, True, True, None, None, None, None)
    fault = aiohttp.ClientConnectorCertificateError(key, refused)
    assert words(fault) == "certificate verify failed: self-signed certificate"


@pytest.mark.parametrize("url", ["http://a..b", f"http://{'a' * 64}.x", "ftp://desk", "desk:80"])
def test_what_can_be_no_address_is_said_before_anything_is_asked(url):
    with pytest.raises(ValueError, match="is no address"):
        base_of(url)
