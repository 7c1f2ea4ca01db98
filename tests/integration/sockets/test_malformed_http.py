"""What is no HTTP, or what two readers could read differently: refused, closed, and nothing done.

The shapes are those of RFC 9112 §11.2 (request smuggling) and of what knocks at an open port. Each
is followed by a publish in the same bytes: where a shape is read wrongly, that is what gets done.
"""

from __future__ import annotations

import logging

import orjson
import pytest

from telecast.net.admission import MALFORMED
from tests.support.payloads import position
from tests.support.service.live import Live, served
from tests.support.sockets.bare import bare, head

KEY = "@KEY@"
PUBLISH = "/api/v1/channels/positions/events"
CATALOGUE = "/api/v1/channels"
PAYLOAD = orjson.dumps([position()])
JSON = "Content-Type: application/json"
SMUGGLED = head("POST", PUBLISH, KEY, JSON, f"Content-Length: {len(PAYLOAD)}") + PAYLOAD
EMPTY = b"0\r\n\r\n"


def post(*lines: str, version: str = "1.1") -> bytes:
    return head("POST", PUBLISH, KEY, JSON, *lines).replace(b"HTTP/1.1", f"HTTP/{version}".encode())


def get(*lines: str) -> bytes:
    return head("GET", CATALOGUE, KEY, *lines)


def chunked(first: bytes) -> bytes:
    return post("Transfer-Encoding: chunked") + first + b"\r\n[]\r\n" + EMPTY


CHUNKED = "Transfer-Encoding: chunked"
SHAPES = {
    # how long is the body?
    "a length and chunks": post("Content-Length: 5", CHUNKED) + EMPTY,
    "chunks and a length": post(CHUNKED, "Content-Length: 5") + EMPTY,
    "two lengths that differ": post("Content-Length: 5", "Content-Length: 0") + EMPTY,
    "two lengths that agree": post("Content-Length: 5", "Content-Length: 5") + EMPTY,
    "a list of lengths": post("Content-Length: 5, 5") + EMPTY,
    "a length with a sign": post("Content-Length: +5") + EMPTY,
    "a length below zero": post("Content-Length: -1"),
    "a length as Python writes it": post("Content-Length: 1_0"),
    "a length in hexadecimal": post("Content-Length: 0x5") + EMPTY,
    "a length in other digits": post("Content-Length: \u0665") + EMPTY,
    "an empty length": post("Content-Length: "),
    "a length that overflows": post("Content-Length: 18446744073709551621") + EMPTY,
    "nearly chunked": post("Transfer-Encoding: xchunked") + EMPTY,
    "chunked, then not": post("Transfer-Encoding: chunked, identity") + EMPTY,
    "chunked twice": post(CHUNKED, CHUNKED) + EMPTY,
    "chunked twice in a line": post("Transfer-Encoding: chunked, chunked") + EMPTY,
    "zipped, then chunked": post("Transfer-Encoding: gzip, chunked") + EMPTY,
    "identity": post("Transfer-Encoding: identity"),
    "chunks in 1.0": post(CHUNKED, version="1.0") + EMPTY,
    "chunks in 1.0 that wants to be kept": post(CHUNKED, "Connection: keep-alive", version="1.0")
    + EMPTY,
    "a space before the colon": post("Transfer-Encoding : chunked") + EMPTY,
    "a tab before the value": post("Transfer-Encoding:\x0bchunked") + EMPTY,
    # where does a chunk end?
    "a chunk of a negative size": chunked(b"-2"),
    "a chunk with 0x": chunked(b"0x2"),
    "a chunk with a sign": chunked(b"+2"),
    "a chunk with a space": chunked(b" 2"),
    "a chunk that overflows": chunked(b"10000000000000002"),
    "a chunk's extension that ends in LF": post(CHUNKED) + b"2;x\n[]\r\n" + EMPTY,
    "a chunk that ends in LF": post(CHUNKED) + b"2\r\n[]\n" + EMPTY,
    "a chunk longer than it says": post(CHUNKED) + b"2\r\n[]XX" + EMPTY,
    # where does a line end?
    "lines that end in LF": get().replace(b"\r\n", b"\n"),
    "one line that ends in LF": get("X-A: b\nX-C: d"),
    "a line that goes on": get("X-A: b\r\n c"),
    "a first line that goes on": get().replace(b"Host", b" Host"),
    "a bare CR": get("X-A: b\rX-C: d"),
    "a NUL in a value": get("X-A: b\0c"),
    "a NUL in a name": get("X\0A: b"),
    "a NUL behind the key": get().replace(KEY.encode(), KEY.encode() + b"\0"),
    "no name": get(": b"),
    "no colon": get("X-A"),
    # too much
    "200 headers": get(*(f"X-{n}: a" for n in range(200))),
    "a header of 9 KB": get("X-A: " + "a" * 9_216),
    "a name of 9 KB": get("a" * 9_216 + ": b"),
    "an address of 100 KB": head("GET", "/" + "a" * 102_400, KEY),
    # whose is it?
    "no Host": get().replace(b"Host: localhost\r\n", b""),
    "two Hosts": get("Host: elsewhere"),
    "a Host that is none": get().replace(b"localhost", b"a b"),
    "a Host with a path": get().replace(b"localhost", b"a/b"),
    "a tunnel": head("CONNECT", "elsewhere:80", KEY),
    "a tunnel to a path": head("CONNECT", CATALOGUE, KEY),
    "an address that is none": head("GET", "http://[::1", KEY),
    "an address with a port that is none": head("GET", "http://a:99999/livez", KEY),
    "an address of raw bytes": head("GET", "/@", KEY).replace(b"/@", b"/\xff\xfe"),
    # is it HTTP/1.1?
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "HTTP/1.2": get().replace(b"HTTP/1.1", b"HTTP/1.2"),
    "HTTP/3.0": get().replace(b"HTTP/1.1", b"HTTP/3.0"),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS ClientHello": bytes.fromhex("16030102000100 01fc0303") + bytes(509),
    "a method in small letters": get().replace(b"GET", b"get"),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nonsense": b"\x00\x01\x02\r\n\r\n",
}


async def still_serves(live: Live) -> None:
    status, _, _ = await live.ask("GET", "/api/v1/channels")
    assert status == 200


def said(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The lines about this request; none is worse than INFO or has a traceback."""
    for record in caplog.records:
        assert record.levelno <= logging.INFO, record
        assert not record.exc_info, record
    return [
        each
        for each in caplog.records
        if each.getMessage() == "malformed request"
        or (each.getMessage() == "request" and each.__dict__["status"] == 400)
    ]


MALFORMED_ANSWER = (400, "MALFORMED_REQUEST")
REFUSED = {"an address of 100 KB": (414, "ADDRESS_TOO_LONG")}
"""What has an answer of its own."""


@pytest.mark.parametrize("shape", SHAPES)
async def test_it_is_refused_and_closed_and_what_follows_it_is_not_done(
    shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with served() as live:
        secret = live.secrets["desk"]
        async with bare(live.url) as line:
            line.send((SHAPES[shape] + SMUGGLED).replace(KEY.encode(), secret.encode()))
            answer = await line.answer()
            assert (answer.status, answer.error["code"]) == REFUSED.get(shape, MALFORMED_ANSWER)
            assert answer.headers["x-correlation-id"]
            assert await line.rest() == b"", "one answer, and the connection is closed"
        assert live.parts.journal.head == 0, "nothing was smuggled in"
        assert live.parts.admission.closed == {MALFORMED: 1}
        assert len(said(caplog)) == 1
        logged = "".join(str(vars(record)) for record in caplog.records)
        assert secret not in logged + answer.body.decode()
        await still_serves(live)


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_how_it_is_cut_into_packets_makes_no_difference(size: int) -> None:
    """What ends a request well or badly may stand in another packet than what began it."""
    async with served() as live:
        for shape in ("a length and chunks", "a chunk longer than it says", "a bare CR"):
            sent = (SHAPES[shape] + SMUGGLED).replace(KEY.encode(), live.secrets["desk"].encode())
            async with bare(live.url) as line:
                for start in range(0, len(sent), size):
                    line.send(sent[start : start + size])
                answer = await line.answer()
                assert (answer.status, answer.error["code"]) == (400, "MALFORMED_REQUEST")
                assert await line.rest() == b""
        assert live.parts.journal.head == 0


async def test_http_0_9_is_refused_without_anything_behind_it() -> None:
    async with served() as live, bare(live.url) as line:
        line.send(b"GET /livez\r\n\r\n")
        answer = await line.answer()
        assert (answer.status, answer.error["code"]) == (400, "MALFORMED_REQUEST")
        assert await line.rest() == b""


async def test_behind_a_good_request_a_bad_one_ends_the_connection_too() -> None:
    async with served() as live:
        async with bare(live.url) as line:
            line.send(head("GET", "/livez"))
            assert (await line.answer()).status == 200
            line.send(SHAPES["a length and chunks"] + SMUGGLED)
            assert (await line.answer()).status == 400
            assert await line.rest() == b""
        assert live.parts.journal.head == 0
        await still_serves(live)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        # RFC 9112 §3.2.2: a server must take this form, whoever the address names.
        ("GET", "http://elsewhere.example/livez", 200),
        ("OPTIONS", "*", 404),
        ("TRACE", "/livez", 405),
        ("GET", "/%zz%00", 404),
        ("GET", "//livez", 404),
        ("GET", " /livez", 200),  # §3: words may be further apart
    ],
)
async def test_odd_but_allowed_is_answered_as_what_it_is(
    method: str, path: str, status: int
) -> None:
    async with served() as live:
        async with bare(live.url) as line:
            for _ in range(2):
                line.send(head(method, path))
                answer = await line.answer()
                assert answer.status == status
        assert not live.parts.admission.closed


@pytest.mark.parametrize(
    "host", ["localhost:80", "[::1]:8080", "a_b.example", "", "desk.example:", "192.0.2.1"]
)
async def test_a_host_that_is_one_is_taken(host: str) -> None:
    async with served() as live, bare(live.url) as line:
        line.send(head("GET", "/livez").replace(b"localhost", host.encode()))
        assert (await line.answer()).status == 200


async def test_an_expectation_that_is_unknown_is_passed_over() -> None:
    async with served() as live, bare(live.url) as line:
        line.send(head("GET", "/livez", None, "Expect: miracles"))
        assert (await line.answer()).status == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "GZIP", "identity, gzip", "x"])
async def test_a_compressed_body_is_not_unpacked(coding: str) -> None:
    """A kilobyte of it may become a gigabyte."""
    async with served() as live, bare(live.url) as line:
        body = b"\x1f\x8b\x08\x00"
        line.send(
            head(
                "POST",
                PUBLISH,
                live.secrets["desk"],
                JSON,
                f"Content-Encoding: {coding}",
                f"Content-Length: {len(body)}",
            )
            + body
        )
        answer = await line.answer()
        assert (answer.status, answer.error["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
        line.send(head("GET", "/livez"))
        assert (await line.answer()).status == 200, "the body was passed over"
        assert live.parts.journal.head == 0
