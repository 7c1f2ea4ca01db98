"""The stream client against servers that speak the contract and then misbehave on purpose."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from aiohttp import WSMsgType, web

from telecast.client import BadAnswer, Dropped, Reconnected, Refused, Stream, Unreachable, Watch
from telecast.client.connection.backoff import Backoff
from telecast.client.messages import Cursor, Garbled, ServerMessage
from telecast.errors import PositionMalformed
from telecast.protocol.framing import sse_block, sse_retry

EPOCH = "k3v9"
SNAPSHOT = {"type": "snapshot", "channels": ["positions"], "reason": "NEW", "timestamp": 1}
NEVER = 3600


def welcome(beat: float = NEVER, **more: Any) -> dict[str, Any]:
    return {
        "type": "welcome",
        "connectionId": "c-1",
        "protocol": 1,
        "head": f"{EPOCH}:900",
        "heartbeatSeconds": beat,
        "timestamp": 1,
        **more,
    }


def event(seq: int) -> dict[str, Any]:
    data = {"id": "p1"}
    return {
        "type": "event",
        "channel": "positions",
        "seq": seq,
        "op": "upsert",
        "key": "p1",
        "data": data,
        "timestamp": 1,
    }


def live(seq: int) -> dict[str, Any]:
    return {"type": "live", "position": f"{EPOCH}:{seq}", "count": 1, "timestamp": 1}


def heartbeat(seq: int) -> dict[str, Any]:
    return {"type": "heartbeat", "position": f"{EPOCH}:{seq}", "timestamp": 1}


def resume(seq: int) -> dict[str, Any]:
    return {"type": "resume", "from": f"{EPOCH}:{seq}", "channels": ["positions"], "timestamp": 1}


def notice(code: str, *, retryable: bool, wait: int | None = None) -> dict[str, Any]:
    reported = {"code": code, "message": f"It is {code}.", "retryAfterMs": wait}
    return {"type": "notice", "retryable": retryable, "timestamp": 1, **reported}


class Peer:
    """One connection as the server's script sees it, whichever transport it came through."""

    def __init__(self, request: web.Request) -> None:
        self.request = request
        self.transport = "ws" if request.path.startswith("/ws") else "sse"
        self.in_snapshot = False

    async def open(self, *first: dict[str, Any]) -> None:
        raise NotImplementedError

    async def tell(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            kind = message["type"]
            if kind in ("snapshot", "live", "resume"):
                self.in_snapshot = kind == "snapshot"
            await self._tell(message)

    async def _tell(self, message: dict[str, Any]) -> None:
        raise NotImplementedError

    async def close(self, code: int, text: str = "") -> None:
        raise NotImplementedError

    def cut(self) -> None:
        assert self.request.transport is not None
        self.request.transport.abort()

    def end(self) -> None:
        """A FIN without any goodbye."""
        assert self.request.transport is not None
        self.request.transport.close()

    async def stay(self) -> None:
        """Until the client goes."""
        await asyncio.Event().wait()


class WsPeer(Peer):
    socket: web.WebSocketResponse

    async def open(self, *first: dict[str, Any]) -> None:
        self.socket = web.WebSocketResponse(compress=False)
        await self.socket.prepare(self.request)
        await self.tell(*first)

    async def _tell(self, message: dict[str, Any]) -> None:
        await self.socket.send_str(orjson.dumps(message).decode())

    async def close(self, code: int, text: str = "") -> None:
        await self.socket.close(code=code, message=text.encode())

    async def stay(self) -> None:
        async for message in self.socket:
            assert message.type is WSMsgType.TEXT


class SsePeer(Peer):
    response: web.StreamResponse

    async def open(self, *first: dict[str, Any], retry: int | None = None) -> None:
        self.response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await self.response.prepare(self.request)
        if retry is not None:
            await self.response.write(sse_retry(retry))
        await self.tell(*first)

    async def _tell(self, message: dict[str, Any]) -> None:
        kind, at = message["type"], None
        if kind in ("live", "heartbeat"):
            at = message["position"]
        elif kind == "event" and not self.in_snapshot:
            at = f"{EPOCH}:{message['seq']}"
        name = message["channel"] if kind == "event" else kind
        await self.response.write(sse_block(name, orjson.dumps(message), at))

    async def close(self, code: int, text: str = "") -> None:
        await self.response.write_eof()


Script = Callable[[Any], Awaitable[Any]]


class Server:
    """Plays one script per connection; the last one again and again."""

    def __init__(self, scripts: tuple[Script, ...]) -> None:
        self.scripts = scripts
        self.asked: list[web.Request] = []
        self.gone = asyncio.Event()
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/ws/telemetry", self._serve)
        app.router.add_get("/sse/telemetry", self._serve)
        return app

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        script = self.scripts[min(len(self.asked), len(self.scripts) - 1)]
        self.asked.append(request)
        peer: Any = (WsPeer if request.path.startswith("/ws") else SsePeer)(request)
        try:
            answer = await script(peer)
        finally:
            self.gone.set()
        if isinstance(answer, web.Response):
            return answer
        return peer.socket if peer.transport == "ws" else peer.response

    def since(self, connection: int) -> str | None:
        """Where a connection asked to start, over either transport."""
        request = self.asked[connection]
        header = request.headers.get("Last-Event-ID")
        assert header is None or "since" not in request.query
        return header or request.query.get("since")


@pytest.fixture
def serve(aiohttp_server):
    async def start(*scripts: Script) -> Server:
        server = Server(scripts)
        running = await aiohttp_server(server.app())
        server.url = str(running.make_url("/"))
        return server

    return start


class Waits:
    """Stands where sleeping does: notes how long, and goes on at once."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


class Client:
    """A stream whose waits take no time, and what it reported."""

    def __init__(self, url: str, transport: Any, key: Any = "tc_key", **options: Any) -> None:
        self.reports: list[Dropped | Reconnected] = []
        self.waits = Waits()
        self.stream = Stream(
            url,
            key,
            ["positions"],
            transport=transport,
            report=self.reports.append,
            backoff=Backoff(first=0.001, spread=lambda: 0.0),
            pause=self.waits,
            **options,
        )

    async def until(self, kind: str, times: int = 1) -> list[ServerMessage]:
        """What is sent up to the n-th message of a type; then the stream is closed."""
        reported: list[ServerMessage] = []
        async with self.stream as stream:
            async for each in stream:
                reported.append(each)
                times -= each.type == kind
                if not times:
                    break
        return reported


def seqs(reported: list[ServerMessage]) -> list[int]:
    return [each.body["seq"] for each in reported if each.type == "event"]


both = pytest.mark.parametrize("transport", ["ws", "sse"])


@both
async def test_everything_sent_comes_out_as_received_with_its_position(serve, transport):
    async def script(peer):
        await peer.open(welcome(), SNAPSHOT, event(5), live(7), event(8), heartbeat(9))
        await peer.stay()

    server = await serve(script)
    reported = await Client(server.url, transport).until("heartbeat")
    assert [(each.type, each.position) for each in reported] == [
        ("welcome", None),
        ("snapshot", None),
        ("event", None),
        ("live", "k3v9:7"),
        ("event", "k3v9:8"),
        ("heartbeat", "k3v9:9"),
    ]
    assert reported[4].raw == orjson.dumps(event(8))
    assert [each.is_row for each in reported if each.type == "event"] == [True, False]


@both
async def test_what_is_asked_for_is_in_the_query_and_the_key_in_a_header(serve, transport):
    async def script(peer):
        await peer.open(welcome(), live(1))
        await peer.stay()

    server = await serve(script)
    client = Client(
        server.url,
        transport,
        since="earliest",
        delivery="all",
        max_rate=0.5,
        filters={"traderId": ["t1", "t2"]},
        heartbeat=20,
        client_id="desk",
    )
    await client.until("live")
    (request,) = server.asked
    assert sorted(request.query.items()) == [
        ("channels", "positions"),
        ("clientId", "desk"),
        ("delivery", "all"),
        ("heartbeat", "20"),
        ("maxRate", "0.5"),
        ("since", "earliest"),
        ("traderId", "t1"),
        ("traderId", "t2"),
    ]
    assert request.headers["Authorization"] == "Bearer tc_key"


@both
@pytest.mark.parametrize("end", ["cut", "end"])
async def test_after_a_drop_it_resumes_after_the_last_event(serve, transport, end):
    async def first(peer):
        await peer.open(welcome(), SNAPSHOT, event(5), live(7), event(8))
        await asyncio.wait_for(seen.wait(), 5)
        getattr(peer, end)()

    async def second(peer):
        await peer.open(welcome(), resume(8), event(9), live(9))
        await peer.stay()

    seen = asyncio.Event()
    server = await serve(first, second)
    client = Client(server.url, transport)
    reported = []
    async with client.stream as stream:
        async for each in stream:
            reported.append(each)
            if each.type == "event" and each.body["seq"] == 8:
                seen.set()
            if each.type == "live" and each.body["position"] == "k3v9:9":
                break
    assert seqs(reported) == [5, 8, 9]
    assert [server.since(n) for n in (0, 1)] == [None, "k3v9:8"]
    dropped, reconnected = client.reports
    assert isinstance(dropped, Dropped)
    assert (dropped.position, dropped.code) == ("k3v9:8", None)
    assert reconnected == Reconnected(transport, "k3v9:8", 1)


@both
async def test_cut_within_its_first_snapshot_it_starts_over(serve, transport):
    async def first(peer):
        await peer.open(welcome(), SNAPSHOT, event(5))
        await peer.close(1012)

    async def second(peer):
        await peer.open(welcome(), SNAPSHOT, event(5), live(7))
        await peer.stay()

    server = await serve(first, second)
    await Client(server.url, transport).until("live")
    assert [server.since(n) for n in (0, 1)] == [None, None]


@both
async def test_cut_within_a_later_snapshot_it_resumes_from_before_it(serve, transport):
    async def reset(peer):
        expired = {**SNAPSHOT, "reason": "POSITION_EXPIRED"}
        await peer.open(welcome(), expired, event(700))
        await peer.close(1012)

    async def last(peer):
        await peer.open(welcome(), live(901))
        await peer.stay()

    server = await serve(reset, last)
    await Client(server.url, transport, since="k3v9:3").until("live")
    assert [server.since(n) for n in (0, 1)] == ["k3v9:3", "k3v9:3"]


ALERTS = {"type": "snapshot", "channels": ["risk-alerts"], "reason": "NEW", "timestamp": 1}


async def test_what_is_added_leaves_no_place_to_resume_from_until_its_snapshot_is_whole(serve):
    async def first(peer):
        await peer.open(welcome(), live(7))
        asked = orjson.loads((await peer.socket.receive()).data)
        assert (asked["action"], asked["channels"]) == ("subscribe", ["risk-alerts"])
        await peer.tell(event(8), heartbeat(9))  # on their way before the service read it
        await peer.close(1012)

    async def second(peer):
        await peer.open(welcome(), SNAPSHOT, event(8), live(9))
        await peer.tell(event(10), ALERTS, live(11))
        await peer.stay()

    server = await serve(first, second)
    client = Client(server.url, "ws")
    reported = []
    async with client.stream as stream:
        async for each in stream:
            reported.append(each)
            if each.type == "live" and len(server.asked) == 1:
                await stream.add(["risk-alerts"])
            if each.body.get("position") == "k3v9:11":
                break
    assert [server.since(n) for n in (0, 1)] == [None, None]
    assert server.asked[1].query["channels"] == "positions,risk-alerts"
    assert [each.position for each in reported if each.type == "heartbeat"] == [None]
    assert client.stream.position == "k3v9:11"


async def test_what_is_refused_does_not_hold_up_the_place_of_the_others(serve):
    async def script(peer):
        await peer.open(welcome(), live(7))
        asked = orjson.loads((await peer.socket.receive()).data)
        error = {"type": "error", "reqId": asked["reqId"], "code": "FORBIDDEN", "message": "No."}
        await peer.tell(error, event(8), heartbeat(9))
        await peer.stay()

    server = await serve(script)
    client = Client(server.url, "ws")
    async with client.stream as stream:
        async for each in stream:
            if each.type == "live":
                await stream.add(["secrets"])
            if each.type == "heartbeat":
                break
    assert client.stream.position == "k3v9:9"


async def test_at_sse_a_channel_is_added_by_a_new_address_which_starts_over(serve):
    async def first(peer):
        await peer.open(welcome(), live(7))
        await asyncio.Event().wait()

    async def second(peer):
        await peer.open(welcome(), SNAPSHOT, event(8), live(9))
        await peer.stay()

    server = await serve(first, second)
    client = Client(server.url, "sse")
    async with client.stream as stream:
        assert (await anext(stream)).type == "welcome"
        assert (await anext(stream)).type == "live"
        await stream.add(["risk-alerts"])
        assert (await anext(stream)).type == "welcome"
    assert server.asked[1].query["channels"] == "positions,risk-alerts"
    assert server.since(1) is None
    assert client.reports == []


async def test_an_event_cut_in_its_middle_was_never_seen(serve):
    async def first(peer):
        await peer.open(welcome(), live(7))
        await peer.response.write(b'id: k3v9:8\nevent: positions\ndata: {"type":"event","seq":8}\n')
        await peer.response.write_eof()

    async def second(peer):
        await peer.open(welcome(), resume(7), event(8), live(8))
        await peer.stay()

    server = await serve(first, second)
    reported = await Client(server.url, "sse").until("live", 2)
    assert server.since(1) == "k3v9:7"
    assert seqs(reported) == [8]


async def test_a_position_is_good_at_the_other_transport(serve):
    async def first(peer):
        await peer.open(welcome(), live(7), event(8))
        await peer.close(1012)

    async def last(peer):
        await peer.open(welcome(), resume(8), live(8))
        await peer.stay()

    server = await serve(first, first, last)
    await Client(server.url, ("ws", "sse")).until("live", 3)
    assert [request.path[:3] for request in server.asked] == ["/ws", "/ss", "/ws"]
    assert server.since(2) == "k3v9:8"


async def test_a_function_may_choose_the_transport(serve):
    async def script(peer):
        await peer.open(welcome(), live(7))
        await peer.close(1012)

    server = await serve(script)
    await Client(server.url, lambda n: "sse" if n else "ws").until("live", 3)
    assert [request.path[:3] for request in server.asked] == ["/ws", "/ss", "/ss"]


def refusal(status: int, code: str, **headers: str) -> Script:
    async def script(peer):
        error = {"code": code, "message": f"It is {code}.", "details": {"why": 1}}
        body = {"success": False, "error": error, "timestamp": "2026-01-01T00:00:00Z"}
        return web.json_response(body, status=status, headers=headers)

    return script


async def settled(peer: Any) -> None:
    await peer.open(welcome(), live(7))
    await peer.stay()


@both
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "POSITION_MALFORMED"),
        (401, "UNAUTHENTICATED"),
        (403, "FORBIDDEN"),
        (404, "UNKNOWN_CHANNEL"),
        (409, "REPLACED"),
        (499, "SOMETHING_NEWER_THAN_US"),
    ],
)
async def test_a_final_refusal_carries_the_servers_words(serve, transport, status, code):
    server = await serve(refusal(status, code))
    client = Client(server.url, transport)
    with pytest.raises(Refused, match=f"It is {code}") as caught:
        await client.until("live")
    assert (caught.value.code, caught.value.status) == (code, status)
    assert caught.value.details == {"why": 1}
    assert caught.value.rule.http == status
    assert not caught.value.retryable
    assert (len(server.asked), client.waits.seconds) == (1, [])


@both
async def test_busy_is_waited_for_as_long_as_it_says(serve, transport):
    headers = {"Retry-After": "7"}
    server = await serve(
        refusal(503, "OVERLOADED", **headers), refusal(429, "TOO_MANY_CONNECTIONS"), settled
    )
    client = Client(server.url, transport, insist=False)
    await client.until("live")
    assert client.waits.seconds == [7.0, pytest.approx(0.001)]
    assert client.reports[0].reason == "OVERLOADED: It is OVERLOADED"
    assert client.reports[-1] == Reconnected(transport, None, 2)


async def test_at_sse_busy_is_a_stream_that_ends_at_once(serve):
    async def busy(peer):
        await peer.open(notice("OVERLOADED", retryable=True, wait=3000), retry=3000)
        await peer.close(0)

    server = await serve(busy, settled)
    client = Client(server.url, "sse", insist=False)
    await client.until("live")
    assert client.waits.seconds == [3.0]
    assert [type(report) for report in client.reports] == [Dropped, Reconnected]


async def test_a_redirect_is_not_followed_with_the_key(serve):
    async def away(peer):
        raise web.HTTPTemporaryRedirect("http://127.0.0.1:1/elsewhere")

    server = await serve(away)
    for transport in ("ws", "sse"):
        with pytest.raises(Refused, match="elsewhere"):
            await Client(server.url, transport).until("live")


@pytest.mark.parametrize("code", [4400, 4401, 4403, 4409, 1009])
async def test_some_close_codes_are_final_and_the_notice_says_why(serve, code):
    async def script(peer):
        await peer.open(welcome(), live(7), notice("KEY_EXPIRED", retryable=False))
        await peer.close(code)

    server = await serve(script)
    with pytest.raises(Refused, match="It is KEY_EXPIRED") as caught:
        await Client(server.url, "ws").until("never")
    assert caught.value.code == "KEY_EXPIRED"
    assert len(server.asked) == 1


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1012, 4401, 4409])
async def test_without_a_final_notice_no_close_code_keeps_it_away(serve, code):
    async def script(peer):
        await peer.open(welcome(), live(7))
        await peer.close(code)

    server = await serve(script, settled)
    client = Client(server.url, "ws")
    await client.until("live", 2)
    assert client.reports[0].code == code
    assert server.since(1) == "k3v9:7"


async def test_at_sse_a_notice_that_is_not_retryable_is_final(serve):
    async def script(peer):
        await peer.open(welcome(), live(7), notice("UNAUTHENTICATED", retryable=False))
        await peer.close(0)

    server = await serve(script)
    with pytest.raises(Refused) as caught:
        await Client(server.url, "sse").until("never")
    assert caught.value.rule.http == 401


@both
async def test_a_restart_is_waited_out_as_the_notice_says(serve, transport):
    async def restart(peer):
        await peer.open(welcome(), live(7), notice("SHUTTING_DOWN", retryable=True, wait=4000))
        await peer.close(1012)

    server = await serve(restart, settled)
    client = Client(server.url, transport)
    await client.until("live", 2)
    assert client.waits.seconds == [4.0]
    assert client.reports[0].reason == "SHUTTING_DOWN: It is SHUTTING_DOWN"
    assert client.reports[0].code == (1012 if transport == "ws" else None)


@pytest.mark.parametrize(("code", "least"), [(1013, 1.0), (4410, 5.0), (4429, 2.0), (4408, 0.0)])
async def test_some_close_codes_ask_to_stay_away_for_a_while(serve, code, least):
    async def script(peer):
        await peer.open(welcome(), live(7))
        await peer.close(code)

    server = await serve(script, settled)
    client = Client(server.url, "ws")
    await client.until("live", 2)
    assert client.waits.seconds[0] == pytest.approx(least, abs=0.01)


async def test_retry_is_the_least_wait_at_sse(serve):
    async def script(peer):
        await peer.open(welcome(), live(7), retry=2500)
        await peer.close(0)

    server = await serve(script, settled)
    client = Client(server.url, "sse")
    await client.until("live", 2)
    assert client.waits.seconds == [2.5]


@both
async def test_a_silent_line_is_dead_after_three_intervals(serve, transport):
    async def silent(peer):
        await peer.open(welcome(0.01), live(7))
        await asyncio.Event().wait()

    server = await serve(silent, settled)
    client = Client(server.url, transport)
    await client.until("live", 2)
    assert client.reports[0].reason == "silent for 0.03 s"
    assert server.since(1) == "k3v9:7"


@both
async def test_waits_grow_until_a_connection_gets_somewhere(serve, transport):
    async def nowhere(peer):
        await peer.open(welcome(), SNAPSHOT)
        await peer.close(1012)

    async def somewhere(peer):
        await peer.open(welcome(), live(7))
        await peer.close(1012)

    server = await serve(nowhere, nowhere, nowhere, somewhere, settled)
    client = Client(server.url, transport)
    await client.until("live", 2)
    assert client.waits.seconds == pytest.approx([0.0005, 0.001, 0.002, 0.0005])


@both
async def test_what_is_no_message_drops_the_connection(serve, transport):
    async def garbled(peer):
        await peer.open(welcome(), live(7))
        await (
            peer.socket.send_str("[]")
            if peer.transport == "ws"
            else peer.response.write(b"data: []\n\n")
        )

    server = await serve(garbled, settled)
    client = Client(server.url, transport)
    await client.until("live", 2)
    assert client.reports[0].reason.startswith("garbled")


async def test_nobody_there_is_reported_at_once_unless_one_insists(unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(Unreachable, match="Nobody answers"):
        await Client(url, "sse", insist=False).until("live")
    client = Client(url, "ws")

    async def enough(seconds: float) -> None:
        client.waits.seconds.append(seconds)
        if len(client.waits.seconds) == 3:
            raise asyncio.CancelledError

    client.stream._pause = enough
    with pytest.raises(asyncio.CancelledError):
        await client.until("live")
    assert len(client.reports) == 3


async def test_another_kind_of_server_is_distinguished_from_ours(serve):
    async def page(peer):
        return web.Response(text="<h1>It works!</h1>", content_type="text/html")

    server = await serve(page)
    for transport in ("ws", "sse"):
        with pytest.raises(BadAnswer, match="not"):
            await Client(server.url, transport).until("live")


async def test_a_newer_protocol_is_reported_and_not_guessed_at(serve):
    async def script(peer):
        await peer.open(welcome(protocol=2))
        await peer.stay()

    server = await serve(script)
    with pytest.raises(BadAnswer, match="protocol 2"):
        await Client(server.url, "ws").until("live")


@both
@pytest.mark.parametrize("how", ["leave", "cancel"])
async def test_leaving_and_cancelling_close_the_connection_and_leave_no_task(serve, transport, how):
    async def script(peer):
        await peer.open(welcome(), live(7))
        await peer.stay()

    server = await serve(script)
    client = Client(server.url, transport)
    if how == "leave":
        await client.until("live")
    else:
        at_rest = asyncio.Event()

        async def follow() -> None:
            async with client.stream as stream:
                async for each in stream:
                    if each.type == "live":
                        at_rest.set()

        task = asyncio.create_task(follow())
        await asyncio.wait_for(at_rest.wait(), 5)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    if transport == "ws":  # a handler at SSE hears of it only when it writes
        await asyncio.wait_for(server.gone.wait(), 5)
    assert client.stream.position == "k3v9:7"
    with pytest.raises(StopAsyncIteration):
        await anext(client.stream)
    mine = [t for t in asyncio.all_tasks() if "telecast" in repr(t.get_coro())]
    assert not mine


def test_what_could_never_work_is_refused_before_anything_is_sent():
    for url in ("127.0.0.1:8080", "ftp://x", "http://", "http://[::1"):
        with pytest.raises(ValueError, match="address"):
            Stream(url, None, ["positions"])
    with pytest.raises(ValueError, match="channel"):
        Stream("http://x", None, [])
    with pytest.raises(ValueError, match="printable"):
        Stream("http://x", "tc\r\nX-Evil: 1", ["positions"])
    with pytest.raises(PositionMalformed):
        Stream("http://x", None, ["positions"], since="yesterday")


class TestCursor:
    def take(self, cursor: Cursor, *messages: dict[str, Any]) -> list[str | None]:
        return [cursor.take(orjson.dumps(m), None, ids=False).position for m in messages]

    def test_within_a_snapshot_nothing_is_proven(self):
        cursor = Cursor(None)
        reported = self.take(cursor, welcome(), SNAPSHOT, event(3), heartbeat(3), live(9))
        assert reported == [None, None, None, None, "k3v9:9"]

    def test_a_resume_ends_the_snapshot_before_it(self):
        cursor = Cursor("k3v9:1")
        expired = {**SNAPSHOT, "reason": "POSITION_EXPIRED"}
        reported = self.take(cursor, welcome(), expired, event(3), resume(1), event(4))
        assert reported == [None, None, None, None, "k3v9:4"]

    def test_a_snapshot_that_is_cut_short_starts_over_since_its_rows_were_forgotten(self):
        cursor = Cursor("k3v9:2")
        self.take(cursor, welcome(), live(5), SNAPSHOT, event(3))
        cursor.connected()
        assert cursor.start is None
        assert self.take(cursor, welcome(), resume(5), event(6)) == [None, None, "k3v9:6"]

    def test_a_new_epoch_is_that_of_the_welcome(self):
        cursor = Cursor("aaaa:5")
        reported = self.take(cursor, welcome(), {**SNAPSHOT}, live(2), event(3))
        assert reported[-1] == "k3v9:3"

    @pytest.mark.parametrize(
        "raw", [b"{", b"[]", b"5", b'{"a":1}', b'{"type":"live","position":"x"}', b"\xff"]
    )
    def test_nonsense_is_garbled(self, raw):
        with pytest.raises(Garbled):
            Cursor(None).take(raw, None, ids=False)


class TestWatch:
    def see(self, *messages: dict[str, Any], **options: Any) -> list[str]:
        cursor, watch = Cursor(None), Watch(**options)
        reported = [cursor.take(orjson.dumps(m), None, ids=False) for m in (welcome(), *messages)]
        return [amiss for each in reported if (amiss := watch.see(each)) is not None]

    def test_a_stream_in_order_is_fine(self):
        assert not self.see(SNAPSHOT, event(1), event(3), live(3), event(4), event(9))

    def test_a_seq_that_falls_or_repeats_is_reported(self):
        (reported,) = self.see(live(1), event(4), event(4))
        assert reported == "seq: 4 came twice"
        (reported,) = self.see(live(1), event(4), event(2))
        assert reported == "seq: 2 came after 4"

    def test_rows_are_in_order_of_their_own_and_start_over_with_their_snapshot(self):
        assert not self.see(SNAPSHOT, event(8), SNAPSHOT, event(8), live(9))
        assert self.see(SNAPSHOT, event(8), event(7)) == ["seq: 7 came after 8"]

    def test_a_snapshot_that_nobody_asked_for_is_a_reset(self):
        (reported,) = self.see({**SNAPSHOT, "reason": "EPOCH_CHANGED"})
        assert "EPOCH_CHANGED" in reported
        assert len(self.see(SNAPSHOT, live(1), SNAPSHOT)) == 1
        assert len(self.see(SNAPSHOT, resumed=True)) == 1

    def test_a_gap_always_and_conflation_where_all_was_asked_for(self):
        gap = {"type": "gap", "channel": "positions", "fromSeq": 1, "toSeq": 4}
        assert self.see(gap) == ["gap: positions lost 1 to 4"]
        conflated = {"type": "conflated", "fromSeq": 1, "toSeq": 4}
        assert not self.see(conflated)
        assert len(self.see(conflated, delivery="all")) == 1


def test_waits_double_to_a_bound_and_keep_what_was_asked_for():
    backoff = Backoff(first=1, most=8, spread=lambda: 1.0)
    assert [backoff.next() for _ in range(5)] == [1, 2, 4, 8, 8]
    backoff.reset()
    assert backoff.next() == 1
    assert backoff.next(asked=10) == pytest.approx(11)
    low = Backoff(first=1, most=8, spread=lambda: 0.0)
    assert [low.next() for _ in range(3)] == [0.5, 1, 2]
