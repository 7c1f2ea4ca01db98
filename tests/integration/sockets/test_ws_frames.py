"""What a WebSocket client may put on the wire, on bare sockets: RFC 6455, and floods."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from telecast.fanout.subscriber import State
from telecast.model import Position
from telecast.net.wire import HIGH_WATER
from telecast.protocol.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MAX_FRAGMENTS,
    PING,
    REASONS,
    TEXT,
    Frames,
    Reason,
)
from telecast.web.streams import websocket, ws
from telecast.web.streams.websocket import AT_ONCE, UNREAD, Reading
from tests.support.fakes import ws_frames
from tests.support.payloads import price
from tests.support.service.live import PATIENCE, Live, served
from tests.support.sockets.raw import Over, WsLine, dial, frame

READ = 256 * 1024
"""Bytes that uvloop reads at once at the most."""
HEARTBEAT = frame(TEXT, b'{"action":"heartbeat"}')


@asynccontextmanager
async def dialled(live: Live, **query: Any) -> AsyncIterator[WsLine]:
    """A connection that has been welcomed, and is cut in the end."""
    port = int(live.url.rpartition(":")[2])
    line = await dial("ws", port, live.secrets["desk"], **query)
    assert isinstance(line, WsLine)
    try:
        await line.expect("welcome")
        yield line
    finally:
        line.cut()


def connection(live: Live) -> ws._WsStream:
    """The server's end of the one connection there is."""
    (client,) = live.parts.clients
    end = client.narrow.__self__  # type: ignore[attr-defined]
    assert isinstance(end, ws._WsStream)
    return end


async def ended(line: WsLine) -> tuple[list[dict[str, Any]], int | None]:
    """What still comes, and the close code."""
    reported = []
    while True:
        try:
            reported.append((await line.read()).body)
        except Over as over:
            return reported, over.code


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs up soon after a fault."""
    monkeypatch.setattr(websocket, "ANSWER_SECONDS", 0.01)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that waits for a peer's farewell however busy the machine is."""
    monkeypatch.setattr(websocket, "FAREWELL_SECONDS", 60.0)


@pytest.fixture
def curt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that waits for hardly any."""
    monkeypatch.setattr(websocket, "FAREWELL_SECONDS", 0.01)


# --- frames that end the connection


def close(code: int) -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big"))


BROKEN: Mapping[str, tuple[bytes, int, Reason]] = {
    "no mask": (frame(TEXT, b'{"action":"heartbeat"}', mask=None), 1002, "unmasked"),
    "no mask on a ping": (frame(PING, mask=None), 1002, "unmasked"),
    "compressed, though nothing was agreed on": (
        frame(TEXT, b"\xaa\x56\x4a\x04\x00", reserved=0x40),
        1002,
        "reserved",
    ),
    "a reserved bit": (frame(TEXT, b"{}", reserved=0x10), 1002, "reserved"),
    "a reserved opcode": (frame(3), 1002, "reserved"),
    "a reserved control opcode": (frame(11), 1002, "reserved"),
    "a ping of 126 bytes": (frame(PING, bytes(126)), 1002, "control"),
    "a ping in fragments": (frame(PING, final=False), 1002, "control"),
    "a continuation of nothing": (frame(CONTINUATION, b"{}"), 1002, "sequence"),
    "a text within a text": (frame(TEXT, final=False) + frame(TEXT), 1002, "sequence"),
    "close code 999": (close(999), 1002, "close"),
    "close code 1005": (close(1005), 1002, "close"),
    "close code 1006": (close(1006), 1002, "close"),
    "close code 1015": (close(1015), 1002, "close"),
    "close code 5000": (close(5000), 1002, "close"),
    "half a close code": (frame(CLOSE, b"\x03"), 1002, "close"),
    "no UTF-8": (frame(TEXT, b'{"action":"\xff"}'), 1007, "utf8"),
    "a close reason that is no UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007, "utf8"),
    "binary": (frame(BINARY, b"{}"), 1003, "binary"),
    "binary in fragments": (
        frame(BINARY, b"{", final=False) + frame(CONTINUATION, b"}"),
        1003,
        "binary",
    ),
    "2^62 bytes announced": (frame(TEXT, announced=2**62), 1009, "size"),
    "2^64 - 1 bytes announced": (frame(TEXT, announced=2**64 - 1), 1009, "size"),
    "200,000 fragments": (
        frame(TEXT, b"{", final=False) + frame(CONTINUATION, b" ", final=False) * 200_000,
        1009,
        "fragments",
    ),
}


@pytest.mark.parametrize("behind", [b"", HEARTBEAT * 5, b"\0" * 300_000], ids=["", "more", "much"])
@pytest.mark.parametrize(("data", "code", "reason"), BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.usefixtures("patient")
async def test_a_frame_that_may_not_be_is_answered_with_why_and_its_close_code(
    data: bytes, code: int, reason: Reason, behind: bytes
) -> None:
    """Also when more is on its way: a reset would take our close frame from the client."""
    async with served() as live, dialled(live, channels="market-data") as line:
        await line.until("live")
        sending = asyncio.create_task(line.put(data + behind))
        reported, closed = await ended(line)
        assert closed == code
        assert [each["type"] for each in reported] == ["notice"], "nothing is done that follows"
        assert reported[0]["code"] == REASONS[reason][0]
        assert live.parts.frames_refused == {reason: 1}
        assert sum(live.parts.broadcaster.tally.evicted.values()) == 1
        await live.publish("market-data", price())
        assert (await line.rest()) == b"", "nothing follows a close frame (RFC 6455 §5.5.1)"
        await sending
    assert len(live.parts.clients) == 0


async def test_who_was_ended_for_a_frame_is_counted_by_why() -> None:
    async with served() as live:
        for data in (frame(3), frame(3), frame(TEXT, b"\xff")):
            async with dialled(live) as line:
                await line.put(data)
                await ended(line)
        async with live.session.get(f"{live.url}/metrics", headers=live.headers("desk")) as answer:
            reported = await answer.text()
        assert 'telecast_frames_refused_total{reason="reserved"} 2\n' in reported
        assert 'telecast_frames_refused_total{reason="utf8"} 1\n' in reported


async def test_what_came_before_a_broken_frame_is_done() -> None:
    async with served() as live, dialled(live) as line:
        publish = {"action": "publish", "channel": "market-data", "data": price()}
        await line.put(HEARTBEAT + frame(TEXT, orjson.dumps(publish)) + frame(3))
        reported, code = await ended(line)
        assert ([each["type"] for each in reported], code) == (["heartbeat", "notice"], 1002)
        await live.until(lambda: live.parts.journal.head == 1)


@pytest.mark.parametrize("early", [HEARTBEAT, frame(PING, mask=None)], ids=["good", "broken"])
async def test_frames_that_come_with_the_handshake_are_judged_like_all_others(early: bytes) -> None:
    async with served() as live:
        answer = await asked(live, early=early + frame(CLOSE))
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        opcodes = [(opcode, payload) for opcode, payload, _ in ws_frames(rest)]
        reported = [orjson.loads(data)["type"] for opcode, data in opcodes if opcode == TEXT]
        if early == HEARTBEAT:
            assert (reported, opcodes[-1]) == (["welcome", "heartbeat"], (CLOSE, b""))
        else:
            assert reported == ["welcome", "notice"]
            assert opcodes[-1][1][:2] == (1002).to_bytes(2, "big")


# --- how a connection is closed


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999])
async def test_a_close_is_answered_with_the_code_it_has(code: int) -> None:
    async with served() as live, dialled(live, channels="market-data") as line:
        await line.until("live")
        await line.put(close(code) + HEARTBEAT)
        assert await ended(line) == ([], code)
        await live.everybody_gone()
        assert await line.rest() == b""
        assert live.parts.frames_refused == {}


async def test_nothing_follows_our_answer_to_a_close_that_came_while_events_waited() -> None:
    """Once the peer read on, what had waited for room went out behind our close frame."""
    async with (
        served() as live,
        dialled(live, channels="market-data", delivery="all", receive_buffer=4_096) as line,
    ):
        subscriber = connection(live)._subscriber
        while subscriber.state is not State.FULL:
            await live.publish("market-data", *(price(price=str(n)) for n in range(500)))
        await line.put(close(1000))
        await live.until(lambda: subscriber.state is State.CLOSED)
        await live.publish("market-data", price())
        line.widen(1 << 20)
        assert (await ended(line))[1] == 1000
        assert await line.rest() == b""


@pytest.mark.usefixtures("curt")
async def test_a_peer_that_never_closes_is_hung_up_on() -> None:
    async with (
        served() as live,
        dialled(live, clientId="bot") as old,
        dialled(live, clientId="bot"),
    ):
        reported, code = await ended(old)
        assert ([each["code"] for each in reported], code) == (["REPLACED"], 4409)
        assert await old.rest() == b""
        await live.until(lambda: len(live.parts.clients) == 1)


@pytest.mark.usefixtures("curt")
async def test_a_peer_that_takes_nothing_is_dropped_with_what_it_did_not_take() -> None:
    full = {"channels": "market-data", "delivery": "all", "receive_buffer": 4_096}
    async with served() as live, dialled(live, clientId="bot", **full):
        held = connection(live)
        while held._subscriber.state is not State.FULL:
            await live.publish("market-data", *(price(price=str(n)) for n in range(500)))
        async with dialled(live, clientId="bot"):
            await live.until(lambda: len(live.parts.streams) == 1)


@pytest.mark.usefixtures("curt")
async def test_a_peer_that_goes_on_after_a_fault_is_hung_up_on() -> None:
    async with served() as live, dialled(live) as line:
        await line.put(frame(3))
        assert (await ended(line))[1] == 1002
        await live.everybody_gone()
        with pytest.raises(Over):  # noqa: PT012 - a socket takes bytes until it hears of the end
            while True:
                await line.put(HEARTBEAT * 1_000)


async def test_what_comes_behind_our_close_frame_is_not_done() -> None:
    async with served() as live, dialled(live, clientId="bot") as old:
        publish = {"action": "publish", "channel": "market-data", "data": price()}
        async with dialled(live, clientId="bot") as new:
            assert (await ended(old))[1] == 4409
            await old.put(frame(TEXT, orjson.dumps(publish)) * 50 + close(4409))
            assert await old.rest() == b""
            await new.put(HEARTBEAT)
            await new.expect("heartbeat")
        assert live.parts.journal.head == 0


# --- what is taken


async def test_a_message_in_a_segment_for_each_byte_is_a_message() -> None:
    async with served() as live, dialled(live) as line:
        publish = {"action": "publish", "channel": "market-data", "data": price()}
        data = frame(TEXT, orjson.dumps(publish), mask=b"mask") + frame(PING, b"still there?")
        for at in range(len(data)):
            await line.put(data[at : at + 1])
            await asyncio.sleep(0)  # the server reads before the next one is on its way
        assert (await line.expect("ack")).body["position"] == str(Position(live.epoch, 1))
        await live.until(lambda: live.parts.journal.head == 1)
        await line.put(HEARTBEAT)
        await line.expect("heartbeat")
        assert line.pongs == [b"still there?"]


async def test_a_message_in_fragments_with_pings_between_them_is_a_message() -> None:
    async with served() as live, dialled(live) as line:
        text = b'{"action":"heartbeat"}'.ljust(MAX_FRAGMENTS)
        data = bytearray(frame(TEXT, text[:1], final=False))
        for at in range(1, MAX_FRAGMENTS):
            if at % 50 == 0:
                data += frame(PING, str(at).encode())
            last = at == MAX_FRAGMENTS - 1
            data += frame(CONTINUATION, text[at : at + 1], final=last)
        await line.put(bytes(data))
        await line.expect("heartbeat")
        assert line.pongs == [b"50", b"100", b"150", b"200", b"250"]


async def test_a_message_of_just_the_limit_is_taken() -> None:
    async with served(max_frame_bytes=32_768, max_event_bytes=32_768) as live:
        for size, code in ((32_768, None), (32_769, 1009)):
            async with dialled(live) as line:
                await line.put(frame(TEXT, b'{"action":"heartbeat"}'.ljust(size)) + close(1000))
                reported, closed = await ended(line)
                assert reported[0]["type"] == ("notice" if code else "heartbeat")
                assert closed == (code or 1000)


# --- floods of control frames


async def stuffed(line: WsLine, data: bytes, stopped: Callable[[], bool]) -> tuple[int, bytes]:
    """Send the same frame until the server reads no more: (bytes sent, rest of the last frame).

    `stopped` says that it does not read; the kernel takes some more after that.
    """
    rest, sent, still = b"", 0, 0
    async with asyncio.timeout(PATIENCE):
        while still < 2_000 or not stopped():
            assert sent < 64 * 1024 * 1024, "nobody stopped it"
            rest = rest or data * 100
            try:
                taken = line._sock.send(rest)
                rest, sent, still = rest[taken:], sent + taken, 0
            except BlockingIOError:
                still += 1
                await asyncio.sleep(0)
    return sent, rest


@pytest.mark.usefixtures("patient")
async def test_a_flood_of_pings_is_answered_up_to_the_burst_and_ends_with_4429() -> None:
    async with served() as live, dialled(live, channels="market-data") as line:
        await line.until("live")
        sending = asyncio.create_task(line.put(frame(PING, b"x") * 50_000))
        reported, code = await ended(line)
        assert code == 4429
        assert (reported[-1]["code"], reported[-1]["retryable"]) == ("TOO_MANY_ACTIONS", True)
        assert ws.CONTROLS_BURST <= len(line.pongs) < 5_000
        assert live.parts.frames_refused == {"control_rate": 1}
        await sending


async def test_pongs_that_nobody_asked_for_are_a_flood_too() -> None:
    async with served() as live, dialled(live) as line:
        await line.put(frame(10, b"x") * 5_000)
        assert (await ended(line))[1] == 4429
        assert live.parts.frames_refused == {"control_rate": 1}


async def test_a_burst_of_pings_and_pongs_is_no_flood() -> None:
    async with served() as live, dialled(live) as line:
        half = int(ws.CONTROLS_BURST) // 2
        await line.put(frame(PING, b"x") * half + frame(10) * half + HEARTBEAT)
        await line.expect("heartbeat")
        assert line.pongs == [b"x"] * half


async def test_who_pings_and_never_reads_is_not_read_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pongs wait where all bytes wait, and while they don't fit no ping is taken."""
    monkeypatch.setattr(ws, "CONTROLS_PER_SECOND", 1e9)
    monkeypatch.setattr(ws, "CONTROLS_BURST", 1e9)
    ping = frame(PING, bytes(125))
    async with served() as live, dialled(live, receive_buffer=4_096) as line:
        wire = connection(live)._wire
        sent, rest = await stuffed(line, ping, lambda: wire.full)
        assert wire.full
        assert wire._held() <= HIGH_WATER + len(ping)
        # Reading again, it gets a pong for each ping.
        line.widen(1 << 20)
        sending = asyncio.create_task(line.put(rest + HEARTBEAT))
        pings = (sent + len(rest)) // len(ping)
        await line.expect("heartbeat")
        while len(line.pongs) < pings:  # that was one that came by itself, not the answer
            await line.expect("heartbeat")
        await sending
        assert len(line.pongs) == pings


async def test_who_is_not_read_any_more_can_not_fill_our_memory_either() -> None:
    """No more is taken from a socket while what came from it waits."""
    limits = {"actions_per_second": 1e6, "actions_burst": 1_000_000}
    async with served(**limits) as live, dialled(live, receive_buffer=4_096) as line:
        socket = connection(live)._socket
        await stuffed(line, HEARTBEAT, lambda: socket._reading is Reading.PAUSED)
        frames = socket._frames
        assert frames is not None
        assert len(frames) <= UNREAD + READ


# --- others


@pytest.mark.parametrize("closing", [False, True], ids=["acted upon", "behind our close frame"])
async def test_who_sends_thousands_of_messages_at_once_does_not_hold_up_the_others(
    closing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were handed out in one go: 0.4 s without a turn for anybody else."""
    turns = 0
    taken: Counter[int] = Counter()
    take = Frames.take

    def counted(frames: Frames) -> Any:
        taken[turns] += 1
        return take(frames)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with served() as live, dialled(live, clientId="bot") as line:
        monkeypatch.setattr(Frames, "take", counted)
        turning = asyncio.create_task(others())
        publish = {"action": "publish", "channel": "market-data", "data": price()}
        burst = frame(TEXT, orjson.dumps(publish)) * 2_000
        if closing:
            async with dialled(live, clientId="bot"):
                assert (await ended(line))[1] == 4409
                await line.put(burst + close(4409))
                assert await line.rest() == b""
        else:
            await line.put(burst)
            for _ in range(2_000):
                await line.expect("ack")
        turning.cancel()
        assert taken.total() >= 2_000
        assert max(taken.values()) <= 2 * AT_ONCE, "a turn's end and the next one's begin"


# --- the handshake


async def asked(
    live: Live,
    *,
    method: str = "GET",
    version: str = "HTTP/1.1",
    early: bytes = b"",
    **headers: str | list[str] | None,
) -> bytes:
    """All that is answered to a handshake, until the server hangs up.

    `headers` with `_` for `-` replace the usual; None leaves one out.
    """
    host, port = live.url.removeprefix("http://").split(":")
    usual: dict[str, str | list[str] | None] = {
        "Host": f"{host}:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "X-API-Key": live.secrets["desk"],
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} /ws/telemetry {version}"]
    for name, value in usual.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        lines += [f"{name}: {each}" for each in values]
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + early)
        async with asyncio.timeout(PATIENCE):
            return await reader.read(-1)
    finally:
        writer.close()
        await writer.wait_closed()


def refused(answer: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
    """(status, headers, error) of the one answer there is."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert len(body) == int(headers["content-length"]), "one answer and no more"
    reported = orjson.loads(body)
    assert reported["success"] is False
    return int(first.split(" ")[1]), headers, reported["error"]


async def test_the_handshake_of_the_rfc_is_answered_as_it_says() -> None:
    """RFC 6455 §1.3. No extension is agreed on, whatever is offered."""
    async with served() as live:
        answer = await asked(
            live,
            Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits",
            Connection="keep-alive, Upgrade",
            Upgrade="WebSocket",
            early=frame(CLOSE),
        )
        head = answer.partition(b"\r\n\r\n")[0].lower()
        assert head.startswith(b"http/1.1 101 switching protocols\r\n")
        assert b"\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".lower() in head
        assert b"\r\nupgrade: websocket\r\n" in head
        assert b"\r\nconnection: upgrade\r\n" in head
        for absent in (b"sec-websocket-extensions", b"content-length", b"transfer-encoding"):
            assert absent not in head


@pytest.mark.parametrize("version", ["8", "7", "0", "14", "013", "13, 8", "", ["13", "13"]])
async def test_another_version_is_426_with_ours_and_the_body_of_every_error(
    version: str | list[str],
) -> None:
    async with served() as live:
        status, headers, error = refused(
            await asked(live, Sec_WebSocket_Version=version, Connection="Upgrade, close")
        )
        assert (status, headers["sec-websocket-version"]) == (426, "13")
        assert (error["code"], error["retryable"]) == ("UPGRADE_REQUIRED", False)
        assert live.parts.clients.opened["ws"] == 0


NONCE = base64.b64encode(bytes(16)).decode()


@pytest.mark.parametrize(
    "wrong",
    [
        {"Sec_WebSocket_Key": None},
        {"Sec_WebSocket_Key": ""},
        {"Sec_WebSocket_Key": base64.b64encode(bytes(15)).decode()},
        {"Sec_WebSocket_Key": base64.b64encode(bytes(17)).decode()},
        {"Sec_WebSocket_Key": "!" + NONCE},
        {"Sec_WebSocket_Key": NONCE[:-2]},
        {"Sec_WebSocket_Key": "\u00e9" * 24},
        {"Sec_WebSocket_Key": [NONCE, NONCE]},
        {"Sec_WebSocket_Version": None},
        {"Upgrade": None},
        {"Upgrade": "h2c"},
        {"Connection": "close"},
        {"version": "HTTP/1.0"},
    ],
    ids=str,
)
async def test_what_is_no_handshake_is_400_and_no_connection(wrong: dict[str, Any]) -> None:
    async with served() as live:
        status, _, error = refused(await asked(live, **{"Connection": "Upgrade, close", **wrong}))
        assert (status, error["code"]) == (400, "BAD_REQUEST")
        assert live.parts.clients.opened["ws"] == 0


HIDDEN = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "early"),
    [
        ({"Content_Length": "5"}, b"hello"),
        ({"Content_Length": "5"}, b"hello" + HIDDEN),
        ({"Content_Length": str(len(HIDDEN))}, HIDDEN),
        ({"Transfer_Encoding": "chunked"}, b"5\r\nhello\r\n0\r\n\r\n"),
        ({"Transfer_Encoding": "chunked"}, b"0\r\n\r\n" + HIDDEN),
    ],
)
async def test_an_upgrade_with_a_body_is_refused_and_nothing_behind_it_is_read(
    headers: dict[str, str], early: bytes
) -> None:
    async with served() as live:
        status, answer, error = refused(await asked(live, early=early, **headers))
        assert (status, error["code"]) == (400, "BAD_REQUEST")
        assert "body" in error["message"]
        assert answer["connection"] == "close"
        assert live.parts.clients.opened["ws"] == 0


async def test_an_upgrade_that_says_it_has_no_body_has_none() -> None:
    async with served() as live:
        answer = await asked(live, Content_Length="0", early=frame(CLOSE))
        assert answer.startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT"])
async def test_an_upgrade_by_another_method_is_none(method: str) -> None:
    async with served() as live:
        answer = await asked(live, method=method, Connection="Upgrade, close")
        assert answer.startswith((b"HTTP/1.1 405", b"HTTP/1.1 400"))
        assert live.parts.clients.opened["ws"] == 0
