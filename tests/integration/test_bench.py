"""The benchmarks find out servers that lie; `telecast bench` measures a real one."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
from yarl import URL

from bench import build
from bench.fanout import Work, measure, serving
from bench.machine import Cores
from bench.payload import KEY, STAMP, price
from bench.peers.brokers import Centrifugo, Mercure
from bench.peers.floor import Floor
from bench.peers.nchan import Nchan
from bench.peers.telecast import Telecast
from bench.tools import LoadFailed, Publication, Subscription, get, publishing, subscribers, upgrade
from telecast.channels.catalogue import CHANNELS
from telecast.cli.run.bench_run import OPEN_SECONDS, PREFIX, Bench, BenchRows, Run
from telecast.client import Publisher, Refused
from telecast.protocol.framing import http_chunk, ws_text
from telecast.web.api.channels import describe
from tests.support.service.live import principal, served

try:
    build.compiler()
except build.NoCompiler as fault:
    pytest.skip(str(fault), allow_module_level=True)

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PATIENCE = 120.0
PATIENT = {"grace": PATIENCE, "deadline": PATIENCE}
"""Where everything comes, it is waited for; who gets it all waits no longer."""


def event(number: int) -> bytes:
    """An event as the load's own publisher stamps it, published at the clock's beginning."""
    return b'{"data":{"source":"@@%010d@%019d"}}' % (number, number)


Write = Callable[[bytes], None]
Tells = Callable[[Mapping[str, int], Write], None]
"""Gets who is sent to, by the `client` and `key` of its request, and what writes to it."""


class Hangup(Exception):
    """What a teller raises to end the connection after what it has told."""


class ServerMessage:
    """A server in threads that answers each handshake, and tells what it likes when it goes."""

    def __init__(self, answer: bytes, tell: Tells) -> None:
        self.heard = b""
        """What clients said after their handshakes; complete when the block is left."""
        self._answer, self._tell = answer, tell
        self._go, self._told = threading.Event(), threading.Semaphore(0)
        reported = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                reported._serve(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> ServerMessage:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go()
        self._server.shutdown()
        self._thread.join(PATIENCE)
        self._server.server_close()  # joins what serves the clients, who have gone by now

    def go(self, clients: int = 0) -> None:
        """Everybody is sent all now; waits until so many clients have got everything."""
        self._go.set()
        for _ in range(clients):
            assert self._told.acquire(timeout=PATIENCE)

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        head, _, self.heard = head.partition(b"\r\n\r\n")
        client.sendall(self._answer)
        assert self._go.wait(PATIENCE)
        asked = re.findall(rb"(client|key)=([0-9]+)", head)
        with contextlib.suppress(ConnectionError, Hangup):
            try:
                self._tell({name.decode(): int(value) for name, value in asked}, client.sendall)
            finally:
                self._told.release()
            while data := client.recv(4096):
                self.heard += data


def heard(
    folder: Path, tell: Tells, *, transport: str = "ws", mark: int = 0, **options: Any
) -> dict[str, Any]:
    """What three subscribers, who expect events 0 to 99, report of a server that tells this."""
    ws = transport == "ws"
    path = "/?client=%CLIENT%&key=%KEY%"
    spoken = Subscription(request=upgrade(path) if ws else get(path))
    # All is in the sockets before the end is asked for: a second of silence is no slowness.
    given = {"clients": 3, "room": 100, "grace": 1.0, "deadline": PATIENCE} | options
    with (
        ServerMessage(SWITCHING if ws else STREAM, tell) as server,
        subscribers(Cores(), folder, server.port, transport, spoken, **given) as crowd,
    ):
        crowd.ready(PATIENCE)
        crowd.mark(mark)
        server.go(3)
        return crowd.end(100, PATIENCE)


def counts(report: dict[str, Any]) -> dict[str, int]:
    names = ("expected", "received", "lost", "overdue", "duplicates", "out_of_order", "unknown")
    return {name: report[name] for name in names if report[name]}


def all_of(numbers: range) -> bytes:
    return b"".join(ws_text(event(number)) for number in numbers)


def test_an_honest_server_is_found_to_be_one(tmp_path):
    report = heard(tmp_path, lambda _, write: write(all_of(range(100))))
    assert counts(report) == {"expected": 300, "received": 300}
    assert report["latency"]["count"] == 300


def test_events_that_one_subscriber_never_gets_are_lost(tmp_path):
    def tell(who: Mapping[str, int], write: Write) -> None:
        write(all_of(range(40)) + all_of(range(45 if who["client"] == 1 else 40, 100)))

    report = heard(tmp_path, tell)
    assert counts(report) == {"expected": 300, "received": 295, "lost": 5}
    assert report["worst"] == 5


def test_events_sent_twice_or_late_or_that_nobody_published_are_found(tmp_path):
    def tell(who: Mapping[str, int], write: Write) -> None:
        if who["client"] == 0:
            write(all_of(range(100)) + ws_text(event(7)))
        elif who["client"] == 1:
            write(all_of(range(50)) + all_of(range(51, 100)) + ws_text(event(50)))
        else:
            write(ws_text(event(100)) + all_of(range(100)))

    report = heard(tmp_path, tell)
    found = {"duplicates": 1, "out_of_order": 1, "unknown": 1}
    assert counts(report) == {"expected": 300, "received": 300} | found


def test_an_event_is_counted_though_its_repeat_hides_the_loss_of_another(tmp_path):
    report = heard(tmp_path, lambda _, write: write(all_of(range(99)) + ws_text(event(3))))
    assert counts(report) == {"expected": 300, "received": 297, "lost": 3, "duplicates": 3}


def test_what_was_published_before_the_mark_does_not_count_but_its_loss_does(tmp_path):
    def tell(who: Mapping[str, int], write: Write) -> None:
        write(all_of(range(1 if who["client"] == 2 else 0, 100)))

    report = heard(tmp_path, tell, mark=40)
    assert counts(report) == {"expected": 180, "received": 180, "lost": 1}
    assert report["latency"]["count"] == 180


def test_a_stream_that_the_server_ends_is_reported(tmp_path):
    def tell(who: Mapping[str, int], write: Write) -> None:
        write(all_of(range(100)) if who["client"] else b"\x88\x02\x03\xf3")

    report = heard(tmp_path, tell)
    assert (report["closed"], report["lost"]) == (1, 100)
    assert "closed by the server" in report["fault"]


@pytest.mark.parametrize("transport", ["ws", "sse"])
def test_a_connection_that_ends_right_behind_its_last_event_is_reported(tmp_path, transport):
    def tell(_: Mapping[str, int], write: Write) -> None:
        sse = b"".join(http_chunk(b"data: %b\n\n" % event(number)) for number in range(99))
        write(all_of(range(99)) if transport == "ws" else sse)
        raise Hangup

    report = heard(tmp_path, tell, transport=transport)
    assert (report["closed"], report["received"], report["lost"]) == (3, 297, 3)
    assert report["fault"] == "ended by the server"


def test_of_a_filtered_subscriber_only_the_events_of_its_key_are_expected(tmp_path):
    def tell(who: Mapping[str, int], write: Write) -> None:
        write(all_of(range(who["key"], 100, 10)))
        if who["client"] == 0:
            write(ws_text(event((who["key"] + 1) % 10)))

    report = heard(tmp_path, tell, keys=10, filtered=True)
    assert counts(report) == {"expected": 30, "received": 30, "unknown": 1}


def test_subscribers_that_stall_are_not_expected_to_get_anything(tmp_path):
    report = heard(tmp_path, lambda _, write: write(all_of(range(100))), stalled=1)
    assert counts(report) == {"expected": 200, "received": 200}


def test_a_server_feels_a_client_that_stalls_and_is_seen_to_cut_it_off(tmp_path):
    spoken = Subscription(request=upgrade("/"))
    listener = socket.create_server(("127.0.0.1", 0))
    options = {"clients": 2, "stalled": 2, "room": 1}
    with (
        listener,
        subscribers(Cores(), tmp_path, listener.getsockname()[1], "ws", spoken, **options) as crowd,
        contextlib.ExitStack() as stack,
    ):
        kept, cut_off = (stack.enter_context(listener.accept()[0]) for _ in range(2))
        for server in (kept, cut_off):
            assert server.recv(4096)
            server.sendall(SWITCHING)
        crowd.ready(PATIENCE)
        for server in (kept, cut_off):
            server.setblocking(False)
            taken = 0
            with contextlib.suppress(BlockingIOError):
                while taken < 1 << 20:
                    taken += server.send(bytes(300))
            assert taken < 100_000  # over loopback as it is, some 2.8 MB
        cut_off.close()
        assert crowd.end(1, PATIENCE)["cut_off"] == 1


def test_an_event_stream_is_read_however_its_bytes_are_cut(tmp_path):
    def tell(_: Mapping[str, int], write: Write) -> None:
        text = b": hello\n\n" + b"".join(
            b"id: %d\nevent: x\ndata: %b\n\n" % (number, event(number)) for number in range(100)
        )
        write(b"".join(http_chunk(text[at : at + 7]) for at in range(0, len(text), 7)))

    report = heard(tmp_path, tell, transport="sse")
    assert counts(report) == {"expected": 300, "received": 300}


@pytest.mark.parametrize("transport", ["ws", "sse"])
def test_messages_that_come_in_pieces_are_put_together(tmp_path, transport):
    padding = b"x" * 50_021  # a read takes 1 MiB at most, which is no multiple of it

    def tell(_: Mapping[str, int], write: Write) -> None:
        for number in range(100):
            data = padding + event(number)
            write(ws_text(data) if transport == "ws" else http_chunk(b"data: %b\n\n" % data))

    report = heard(tmp_path, tell, transport=transport)
    assert counts(report) == {"expected": 300, "received": 300}


def test_pings_are_answered_with_their_payload_and_masked(tmp_path):
    spoken = Subscription(request=upgrade("/"), hello='{"key":"%KEY%"}')
    with ServerMessage(
        SWITCHING, lambda _, write: write(b"\x89\x03abc" + all_of(range(1)))
    ) as server:
        options = {"clients": 1, "room": 1, "keys": 5}
        with subscribers(Cores(), tmp_path, server.port, "ws", spoken, **options) as crowd:
            crowd.ready(PATIENCE)
            crowd.mark(0)
            server.go(1)
            assert crowd.end(1, PATIENCE)["received"] == 1
    hello, pong = server.heard[:22], server.heard[22:]
    assert unmasked(hello) == (0x81, b'{"key":"000000"}')
    assert unmasked(pong) == (0x8A, b"abc")


def unmasked(frame: bytes) -> tuple[int, bytes]:
    """First byte and payload of a short masked frame (RFC 6455 section 5.3)."""
    assert frame[1] == 0x80 | len(frame) - 6
    return frame[0], bytes(byte ^ frame[2 + n % 4] for n, byte in enumerate(frame[6:]))


@pytest.mark.parametrize(
    ("dialect", "greeting", "ping", "around", "says"),
    [
        (
            "socketio",
            [b'0{"sid":"a"}', b'40{"sid":"b"}'],
            b"2",
            b'42["event",%b]',
            [b"40", b"hello", b"3"],
        ),
        (
            "centrifugo",
            [b'{"id":1,"connect":{"ping":25,"pong":true}}\n{"id":2,"subscribe":{}}'],
            b"{}",
            # A ping among what else waited, as a loaded server puts it: each has its answer.
            b'{"push":{"channel":"bench","pub":{"data":%b}}}\n{}',
            [b"hello", b"{}", *[b"{}"] * 9],
        ),
    ],
)
def test_a_client_speaks_the_tongue_of_its_server(tmp_path, dialect, greeting, ping, around, says):
    def tell(_: Mapping[str, int], write: Write) -> None:
        write(ws_text(ping) + b"".join(ws_text(around % event(number)) for number in range(9)))

    answer = SWITCHING + b"".join(map(ws_text, greeting))
    spoken = Subscription(request=upgrade("/"), hello="hello", dialect=dialect)
    with ServerMessage(answer, tell) as server:
        options = {"clients": 1, "room": 9}
        with subscribers(Cores(), tmp_path, server.port, "ws", spoken, **options) as crowd:
            crowd.ready(PATIENCE)
            crowd.mark(0)
            server.go(1)
            assert counts(crowd.end(9, PATIENCE)) == {"expected": 9, "received": 9}
    said, frames = server.heard, []
    while said:
        whole = 6 + (said[1] & 0x7F)
        frames.append(unmasked(said[:whole])[1])
        said = said[whole:]
    assert frames == says


CENTRIFUGO_SSE = [
    (b'{"connect":{"client":"a","subs":{"bench":{}},"ping":25}}', None),
    (b'{"connect":{"client":"a","ping":25}}', r"refused: .* connect .* ping :25"),
    (b'{"disconnect":{"code":3501,"reason":"bad request"}}', r"refused: .* bad request"),
]


@pytest.mark.parametrize(
    ("said", "refused"), CENTRIFUGO_SSE, ids=["subscribed", "not subscribed", "cut off"]
)
def test_a_one_way_stream_of_centrifugo_is_live_when_it_names_its_subscription(
    tmp_path, said, refused
):
    def tell(_: Mapping[str, int], write: Write) -> None:
        pushes = (b'{"channel":"bench","pub":{"data":%b}}' % event(number) for number in range(9))
        write(b"".join(http_chunk(b"data: %b\n\n" % push) for push in (*pushes, b"{}")))

    answer = STREAM + http_chunk(b"\r\n") + http_chunk(b"data: %b\n\n" % said)
    spoken = Subscription(request=get("/"), dialect="centrifugo")
    options = {"clients": 1, "room": 9}
    with (
        ServerMessage(answer, tell) as server,
        subscribers(Cores(), tmp_path, server.port, "sse", spoken, **options) as crowd,
    ):
        if refused:
            with pytest.raises(LoadFailed, match=refused):
                crowd.ready(PATIENCE)
            return
        crowd.ready(PATIENCE)
        crowd.mark(0)
        server.go(1)
        assert counts(crowd.end(9, PATIENCE)) == {"expected": 9, "received": 9}


def test_a_subscription_that_centrifugo_refuses_is_named_with_its_words(tmp_path):
    reported = b'{"id":1,"connect":{}}\n{"id":2,"error":{"code":103,"message":"permission denied"}}'
    spoken = Subscription(request=upgrade("/"), hello="hello", dialect="centrifugo")
    with (
        ServerMessage(SWITCHING + ws_text(reported), lambda *_: None) as server,
        subscribers(Cores(), tmp_path, server.port, "ws", spoken, clients=2, room=1) as crowd,
        pytest.raises(LoadFailed, match=r"2 subscribers got no stream: .* permission denied"),
    ):
        crowd.ready(PATIENCE)


def test_a_server_that_refuses_is_named_with_its_words(tmp_path):
    spoken = Subscription(request=upgrade("/"))
    refusal = b"HTTP/1.1 429 Too Many\r\n\r\nnot now"
    with (
        ServerMessage(refusal, lambda *_: None) as server,
        subscribers(Cores(), tmp_path, server.port, "ws", spoken, clients=2, room=1) as crowd,
        pytest.raises(LoadFailed, match=r"2 subscribers got no stream: refused: .* 429"),
    ):
        crowd.ready(PATIENCE)


def test_a_publisher_reports_refused_publishes(tmp_path):
    spoken = Publication(kind="http", request="POST / HTTP/1.1\r\nHost: x\r\n")
    with ServerMessage(
        b"HTTP/1.1 422 No\r\nContent-Length: 2\r\n\r\n{}", lambda *_: None
    ) as server:
        handing = (Cores(), tmp_path, server.port, spoken, ('{"a":"%STAMP%"}',))
        with (
            pytest.raises(LoadFailed, match=r"1 publishes were refused: .* 422 No"),
            publishing(*handing, rate=100, count=1),
        ):
            pass


@pytest.mark.parametrize("transport", ["ws", "sse"])
def test_a_run_against_the_floor_gets_everything_and_says_what_it_cost(transport):
    work = Work(clients=5, rate=200, seconds=0.5, warm=0.1, **PATIENT)
    with serving(Floor(), transport, Cores()) as running:
        figures = measure(running, work)
        again = measure(running, work)  # a server that is used twice starts from zero
    for each in (figures, again):
        assert each["published"] == 100
        assert counts(each) == {"expected": 500, "received": 500}
        assert 0 < each["cpu_us"] < 1_000
        assert each["bytes_a_delivery"] == pytest.approx({"ws": 204, "sse": 214}[transport], abs=1)
        assert each["rss"]["after"] > 0


@pytest.mark.parametrize("transport", ["ws", "sse"])
def test_the_floor_waits_for_no_client_that_stalls(transport):
    # Some 200 KB for each client: more than is buffered for the two who do not read.
    work = Work(clients=6, stalled=2, rate=2_000, seconds=0.5, warm=0.01, **PATIENT)
    with serving(Floor(), transport, Cores()) as running:
        figures = measure(running, work)
    assert counts(figures) == {"expected": 4_000, "received": 4_000}
    assert figures["stalled_cut_off"] == 0


BROKERS = [
    (peer, transport)
    for peer in (Nchan(), Centrifugo(), Mercure())
    for transport in peer.transports
]


@pytest.mark.parametrize(
    ("broker", "transport"),
    BROKERS,
    ids=[f"{peer.name} {transport}" for peer, transport in BROKERS],
)
def test_a_broker_that_is_installed_gives_everybody_everything(broker, transport):
    if missing := broker.missing():
        pytest.skip(missing)
    work = Work(clients=5, rate=200, seconds=0.5, warm=0.1, **PATIENT)
    with serving(broker, transport, Cores()) as running:
        figures = measure(running, work)
    assert counts(figures) == {"expected": 500, "received": 500}
    assert (figures["published"], figures["closed"], figures["fault"]) == (100, 0, "")


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_the_load_counts_every_event_of_telecast_and_no_row_of_its_snapshot(
    tmp_path, transport
):
    async with served(publishes_per_second=1_000_000.0) as live:
        await live.publish("market-data", orjson.loads(filled(7)))
        port, key = URL(live.url).port, live.secrets["desk"]
        asking = Telecast(query=())

        def work() -> dict[str, Any]:
            spoken, options = (
                asking.subscription(transport, key),
                {"clients": 3, "room": 100, **PATIENT},
            )
            with subscribers(Cores(), tmp_path, port, transport, spoken, **options) as crowd:
                crowd.ready(PATIENCE)
                crowd.mark(0)
                with handing_over(tmp_path, port, asking.publication(key), count=100):
                    return crowd.end(100, PATIENCE)

        report = await asyncio.to_thread(work)
        assert counts(report) == {"expected": 300, "received": 300}
        assert report["latency"]["p50"] > 0


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_the_load_counts_what_a_resume_brings(tmp_path, transport):
    async with served() as live:
        start = (await live.publish("market-data", orjson.loads(filled(0))))["position"]
        port, key = URL(live.url).port, live.secrets["desk"]
        asking = Telecast(query=(("since", start), ("delivery", "all")), publish="ndjson")

        def work() -> dict[str, Any]:
            with handing_over(tmp_path, port, asking.publication(key), first=1, count=100):
                pass
            options = {"clients": 3, "first": 1, "room": 100, "replay": True, **PATIENT}
            spoken = asking.subscription(transport, key)
            with subscribers(Cores(), tmp_path, port, transport, spoken, **options) as crowd:
                crowd.ready(PATIENCE)
                return crowd.end(101, PATIENCE)

        assert counts(await asyncio.to_thread(work)) == {"expected": 300, "received": 300}


def filled(number: int) -> str:
    """A price as the load publishes it, in another life of the load."""
    return price().replace(STAMP, f"@@{number:010}@{1:019}").replace(KEY, "000001")


def handing_over(folder: Path, port: int, spoken: Publication, **options: Any) -> Any:
    return publishing(Cores(), folder, port, spoken, (price(),), rate=2_000, keys=5, **options)


@pytest.mark.parametrize("channel", ["market-data", "trader-status", "positions", "risk-alerts"])
async def test_bench_gets_every_event_at_both_transports_and_leaves_no_row_behind(channel):
    async with served(actions_per_second=1_000) as live:
        rows = BenchRows(describe(CHANNELS[channel]), f"{PREFIX}1")
        asked = Run(live.url, live.secrets["desk"], rows, clients=4, rate=200, seconds=0.5)
        reported = await Bench(asked).run()
        assert reported["published"] == 100
        for transport in ("ws", "sse"):
            here = reported["transports"][transport]
            assert (here["clients"], here["received"], here["lost"]) == (2, 200, 0)
            assert (here["repeated"], here["drops"], here["told_gaps"]) == (0, 0, 0)
            assert 0 < here["latency_ms"]["p50"] <= here["latency_ms"]["max"]
        left = await live.get(f"/api/v1/channels/{channel}/snapshot")
        assert left["rows"] == []


async def test_bench_touches_no_row_but_its_own_and_counts_no_event_but_its_own():
    async with served() as live:
        rows = BenchRows(describe(CHANNELS["risk-alerts"]), f"{PREFIX}2")
        other = rows.payload(1, "2026-01-02T03:04:05Z") | {"id": "mine", "traderId": None}
        await live.publish("risk-alerts", other)
        asked = Run(live.url, live.secrets["desk"], rows, clients=2, rate=100, seconds=0.2)
        reported = await Bench(asked).run()
        assert [reported["transports"][transport]["received"] for transport in ("ws", "sse")] == [
            20,
            20,
        ]
        left = await live.get("/api/v1/channels/risk-alerts/snapshot")
        assert [row["key"] for row in left["rows"]] == ["mine"]


async def test_bench_with_a_key_that_may_not_publish_opens_no_stream(monkeypatch):
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a stream was opened")

    monkeypatch.setattr("telecast.cli.run.bench_run.Stream", opened)
    async with served(principal("reader", "read")) as live:
        rows = BenchRows(describe(CHANNELS["market-data"]), f"{PREFIX}3")
        with pytest.raises(Refused) as refused:
            await Bench(Run(live.url, live.secrets["reader"], rows, 4, 100, 1)).run()
        assert refused.value.code == "FORBIDDEN"


async def test_bench_over_the_limit_of_connections_says_which_and_withdraws_its_rows(monkeypatch):
    async with served(max_connections_per_key=3) as live:
        rows = BenchRows(describe(CHANNELS["market-data"]), f"{PREFIX}4")
        bench = Bench(Run(live.url, live.secrets["desk"], rows, 6, 100, 1))
        wait = asyncio.wait

        async def until_all_were_answered(those: Any, **how: Any) -> Any:
            if how.get("timeout") == OPEN_SECONDS:
                await live.until(
                    lambda: all(each.live.is_set() or each.last for each in bench.listeners)
                )
                how["timeout"] = 0
            return await wait(those, **how)

        monkeypatch.setattr(asyncio, "wait", until_all_were_answered)
        with pytest.raises(click.ClickException, match="max_connections_per_key") as failed:
            await bench.run()
        assert failed.value.message.startswith("Only 3 of 6 clients got a stream")
        left = await live.get("/api/v1/channels/market-data/snapshot")
        assert left["rows"] == []


async def test_a_client_withdraws_a_row_whose_key_has_what_means_something_in_an_address():
    async with served() as live, Publisher(live.url, live.secrets["desk"]) as publisher:
        row = BenchRows(describe(CHANNELS["market-data"]), "a/b").payload(1, "2026-01-02T03:04:05Z")
        row |= {"symbol": "x?y=z%2F#", "exchange": "a/b"}
        await publisher.publish("market-data", row)
        await publisher.withdraw("market-data", "a/b:x?y=z%2F#")
        left = await live.get("/api/v1/channels/market-data/snapshot")
        assert left["rows"] == []
        with pytest.raises(Refused) as refused:
            await publisher.withdraw("market-data", "a/b:x?y=z%2F#")
        assert refused.value.code == "ROW_NOT_FOUND"
