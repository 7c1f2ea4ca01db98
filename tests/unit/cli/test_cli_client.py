"""The verbs that talk to a service: what goes where, and how they end."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from telecast.channels.catalogue import CHANNELS
from telecast.cli import COMMANDS, main
from telecast.cli.admin.config import _quoted, _shown
from telecast.cli.data.pub import payloads_of
from telecast.cli.exits import Exit
from telecast.cli.moments import read_moment
from telecast.cli.output import plain
from telecast.cli.readable import event_line
from telecast.errors import CODES, PeerFault
from telecast.protocol.framing import sse_block

EPOCH = "k3v9"
PATIENCE = 120.0
"""Seconds after which a thread or process that does not come or end fails the test."""
RECEIPT = {"accepted": 2, "firstSeq": 4, "lastSeq": 5, "position": "k3v9:5", "subscribers": 3}
TICK = '{"t":0,"exchange":"OKX","symbol":"BTCUSDT","price":"7.5"}\n'
KEY = "tc_00000000_secret"


def event(seq: int, op: str = "upsert") -> dict[str, Any]:
    data = {"id": "p1", "symbol": "BTCUSDT"}
    return {
        "type": "event",
        "channel": "positions",
        "seq": seq,
        "op": op,
        "key": "p1",
        "data": data,
        "timestamp": 1_795_380_667_123,
    }


def live(seq: int) -> dict[str, Any]:
    return {"type": "live", "position": f"{EPOCH}:{seq}", "count": 1, "timestamp": 1}


WELCOME = {
    "type": "welcome",
    "connectionId": "c-1",
    "protocol": 1,
    "head": f"{EPOCH}:7",
    "heartbeatSeconds": 60,
    "timestamp": 1,
}
SNAPSHOT = {"type": "snapshot", "channels": ["positions"], "reason": "NEW", "timestamp": 1}
FIRST = [WELCOME, SNAPSHOT, event(5), live(7)]
END = {"type": "notice", "code": "BAD_REQUEST", "message": "It ends.", "retryable": False}
"""A stream ends for good by this alone: after any close a client comes back."""


class Service:
    """A small service on loopback, in a thread of its own: the commands bring their own loop."""

    def __init__(self) -> None:
        self.stream: list[dict[str, Any]] = []
        self.refuse: tuple[int, dict[str, Any]] | None = None
        self.data: Any = RECEIPT
        self.hold = False
        self.asked: list[tuple[web.Request, bytes]] = []
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> Service:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        self._loop.close()

    async def _run(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request, await request.read()))
        if self.refuse is not None:
            status, error = self.refuse
            return web.json_response({"success": False, "error": error}, status=status)
        if request.path == "/ws/telemetry":
            socket = web.WebSocketResponse(compress=False)
            await socket.prepare(request)
            for message in [*self.stream, *([] if self.hold else [END])]:
                await socket.send_str(orjson.dumps(message).decode())
            if self.hold:
                await socket.receive()
            await socket.close(code=1000)
            return socket
        if request.path == "/sse/telemetry":
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for message in self.stream:
                at = f"{EPOCH}:{message['seq']}" if message is self.stream[-1] else None
                await response.write(sse_block("x", orjson.dumps(message), at))
            return response
        return web.json_response({"success": True, "data": self.data}, status=201)


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


def run(*arguments: object, env: dict[str, str] | None = None, **options: Any) -> Result:
    environment = {"TELECAST_KEY": KEY, "TELECAST_URL": "", **(env or {})}
    return CliRunner(env=environment).invoke(main, [str(each) for each in arguments], **options)


def test_a_publish_waits_for_a_service_that_is_not_there_yet_where_it_is_asked_to(monkeypatch):
    monkeypatch.setattr("telecast.cli.data.pub.PATIENCE_SECONDS", 0.9)
    nobody = ("pub", "positions", "{}", "--url", "http://127.0.0.1:9")
    assert "Trying again" not in run(*nobody).stderr
    assert "Trying again" in run(*nobody, "--wait").stderr


def test_tail_prints_a_line_per_event_and_its_status_elsewhere(service):
    service.stream = [*FIRST, event(8, "delete")]
    result = run("tail", "positions", "--url", service.url)
    assert result.exit_code == Exit.ERROR
    assert result.stdout.splitlines() == [
        '20:51:07.123 positions 5 upsert p1 {"id":"p1","symbol":"BTCUSDT"}',
        '20:51:07.123 positions 8 delete p1 {"id":"p1","symbol":"BTCUSDT"}',
    ]
    assert result.stderr.splitlines()[:4] == [
        f"# connected to {service.url} as c-1, k3v9:7",
        "# snapshot of positions (NEW)",
        "# live at k3v9:7, after 1 events",
        "Error: It ends.",
    ]


def test_tail_json_is_the_event_as_received(service):
    service.stream = [*FIRST, event(8)]
    result = run("tail", "positions", "--url", service.url, "--json")
    row = orjson.dumps(event(5))[:-1] + b',"snapshot":true}'
    assert result.stdout_bytes == row + b"\n" + orjson.dumps(event(8)) + b"\n"


@pytest.mark.parametrize("transport", ["--ws", "--sse"])
def test_count_ends_it_and_leaves_out_rows(service, transport):
    service.stream = (
        [*FIRST[:3], event(8)] if transport == "--sse" else [*FIRST, event(8), event(9)]
    )
    result = run("tail", "positions", "--url", service.url, transport, "--count", 1)
    assert result.exit_code == Exit.OK
    assert [line.split()[2] for line in result.stdout.splitlines()] == ["5", "8"]


def test_tail_that_ends_by_its_count_prints_a_command_that_a_shell_takes(service):
    service.stream = [*FIRST, event(9)]
    words = ("positions", "risk-alerts", "--filter", "symbol=BTC USD;")
    result = run("tail", *words, "--url", service.url, "--count", 1)
    (line,) = [each for each in result.stderr.splitlines() if "what comes next" in each]
    assert shlex.split(line.partition(": ")[2]) == ["telecast", "tail", *words, "--since", "k3v9:9"]


def test_tail_asks_for_what_its_options_say(service):
    run(
        *("tail", "positions", "risk-alerts", "--url", service.url, "--key", "tc_other"),
        *("--since", "k3v9:4", "--delivery", "all", "--filter", "traderId=t1"),
        *("--filter", "traderId=t2", "--filter", "symbol=A=B"),
    )
    ((request, _),) = service.asked
    assert request.headers["Authorization"] == "Bearer tc_other"
    assert sorted(request.query.items()) == [
        ("channels", "positions,risk-alerts"),
        ("delivery", "all"),
        ("since", "k3v9:4"),
        ("symbol", "A=B"),
        ("traderId", "t1"),
        ("traderId", "t2"),
    ]


@pytest.mark.parametrize("how", ["ctrl-c", "broken pipe"])
def test_tail_ends_quietly_with_ctrl_c_and_with_its_reader(service, how):
    service.hold = how == "ctrl-c"
    service.stream = [*FIRST, *(event(seq) for seq in range(8, 4_000))]
    # A shell's background jobs ignore Ctrl-C, and so do their children unless they say otherwise.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from telecast.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "tail", "positions", "--url", service.url]
    path = os.pathsep.join(each for each in sys.path if each)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TELECAST_KEY": KEY, "PYTHONPATH": path},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if how == "ctrl-c":
            while b" 3999 " not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
        else:
            process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read().decode()
        assert process.wait(PATIENCE) == Exit.OK
    assert all(line.startswith("# ") for line in said.splitlines())


def test_pub_says_how_to_repeat_what_may_have_arrived(service, monkeypatch):
    monkeypatch.setattr("telecast.cli.data.pub.PATIENCE_SECONDS", 0.0)
    service.refuse = (503, {"code": "OVERLOADED", "message": "Too much."})
    result = run("pub", "positions", "{}", "--url", service.url, "--idempotency-key", "k7")
    assert result.exit_code == Exit.ERROR
    assert result.stderr.splitlines() == [
        "To repeat it without doing it twice, add --idempotency-key k7",
        "Error: Too much.",
        "Come back after the time that Retry-After says.",
    ]


GAP = {"type": "gap", "channel": "positions", "fromSeq": 1, "toSeq": 4, "timestamp": 1}
CONFLATED = {"type": "conflated", "fromSeq": 8, "toSeq": 9, "count": 3, "timestamp": 1}


@pytest.mark.parametrize(
    ("stream", "options", "said"),
    [
        ([WELCOME, GAP], (), "gap: positions lost 1 to 4"),
        ([*FIRST, SNAPSHOT], (), "reset: a snapshot came"),
        ([WELCOME, SNAPSHOT], ("--since", "earliest"), "reset: a snapshot came"),
        ([WELCOME, {**SNAPSHOT, "reason": "EPOCH_CHANGED"}], (), "EPOCH_CHANGED"),
        ([*FIRST, event(8), event(8)], (), "8 came twice"),
        ([*FIRST, event(9), event(8)], (), "8 came after 9"),
        ([*FIRST, CONFLATED], ("--delivery", "all"), "conflated: 8 to 9"),
    ],
)
def test_strict_ends_with_five_and_says_why(service, stream, options, said):
    service.stream = stream
    result = run("tail", "positions", "--url", service.url, "--strict", *options)
    assert result.exit_code == Exit.STRICT
    assert said in result.stderr
    assert run("tail", "positions", "--url", service.url, *options).exit_code == Exit.ERROR


def test_strict_is_content_with_a_stream_in_order(service):
    service.stream = [*FIRST, CONFLATED, event(9)]
    result = run("tail", "positions", "--url", service.url, "--strict", "--count", 1)
    assert result.exit_code == Exit.OK
    assert "# conflated: left out within 8 to 9, 3 events" in result.stderr


@pytest.mark.parametrize(
    "verb",
    [
        ("tail", "positions"),
        ("tail", "positions", "--sse"),
        ("pub", "positions", "{}"),
        ("channels",),
        ("snapshot", "positions"),
    ],
)
class TestEnds:
    @pytest.mark.parametrize(("status", "code"), [(401, "UNAUTHENTICATED"), (403, "FORBIDDEN")])
    def test_a_refused_key_is_three_and_says_what_to_do(self, service, verb, status, code):
        service.refuse = (status, {"code": code, "message": "Not you.", "advice": "Ask for one."})
        result = run(*verb, "--url", service.url)
        assert result.exit_code == Exit.AUTH
        assert result.stderr.splitlines() == ["Error: Not you.", "Ask for one."]
        assert result.stdout == ""

    def test_a_command_without_a_key_says_where_a_command_takes_it_from(self, service, verb):
        service.refuse = (401, {"code": "UNAUTHENTICATED", "message": "Send a key."})
        result = run(*verb, "--url", service.url)
        assert "Give a valid key: in TELECAST_KEY, or with --key." in result.stderr.splitlines()

    def test_another_refusal_is_one(self, service, verb):
        service.refuse = (404, {"code": "UNKNOWN_CHANNEL", "message": "There is no channel."})
        result = run(*verb, "--url", service.url)
        assert result.exit_code == Exit.ERROR
        assert "Error: There is no channel." in result.stderr

    def test_nobody_there_is_four_and_says_where(self, unused_tcp_port, verb):
        url = f"http://127.0.0.1:{unused_tcp_port}"
        result = run(*verb, env={"TELECAST_URL": url})
        assert result.exit_code == Exit.UNREACHABLE
        assert url in result.stderr
        assert "telecast serve" in result.stderr
        assert "--idempotency-key" not in result.stderr

    def test_an_impossible_address_or_key_is_two(self, verb):
        assert run(*verb, "--url", "localhost:8080").exit_code == Exit.USAGE
        result = run(*verb, "--key", "tc secret")
        assert result.exit_code == Exit.USAGE
        assert "secret" not in result.stderr


def test_pub_prints_its_receipt_and_sends_what_it_was_given(service):
    result = run(
        *("pub", "positions", '[{"id":"a"},{"id":"b"}]', "--url", service.url),
        *("--idempotency-key", "k1", "--replace", "traderId=t1"),
    )
    assert result.exit_code == Exit.OK
    assert result.stdout == "published 2 to positions, position k3v9:5, live subscribers here: 3\n"
    ((request, body),) = service.asked
    assert body == b'{"id":"a"}\n{"id":"b"}'
    assert request.headers["Idempotency-Key"] == "k1"
    assert request.query["replace"] == "traderId:t1"


def test_an_empty_pipe_is_named_as_one(service):
    result = run("pub", "positions", "--url", service.url, input="\n")
    assert result.exit_code == Exit.USAGE
    assert "Standard input was empty." in result.stderr


def test_pub_takes_stdin_and_files_and_reports_a_duplicate(service, tmp_path):
    service.data = {**RECEIPT, "duplicate": True}
    result = run("pub", "positions", "--url", service.url, input='{"id":"a"}\n\n{"id":"b"}\n')
    assert "a repeat, nothing was added" in result.stdout
    path = tmp_path / "one.json"
    path.write_text('{\n  "id": "c"\n}')
    result = run("pub", "positions", f"@{path}", "--url", service.url, "--json")
    assert orjson.loads(result.stdout) == service.data
    assert [body for _, body in service.asked] == [b'{"id":"a"}\n{"id":"b"}', b'{"id":"c"}']
    missing = run("pub", "positions", f"@{tmp_path / 'none'}", "--url", service.url)
    assert missing.exit_code == Exit.USAGE


def test_pub_reports_every_bad_field(service):
    problems = [
        {"item": 0, "field": "price", "message": "Must be a decimal."},
        {"item": 1, "field": "", "message": "Must be a JSON object."},
    ]
    details = {"problems": problems, "total": 5}
    error = {"code": "VALIDATION_FAILED", "message": "item 0 ...", "details": details}
    service.refuse = (422, error)
    result = run("pub", "positions", "{}", "--url", service.url)
    assert result.exit_code == Exit.ERROR
    assert result.stderr.splitlines()[:3] == [
        "Error: item 0, price: Must be a decimal.",
        "Error: item 1: Must be a JSON object.",
        "and 3 more",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not JSON"),
        (b"{nope}", "not JSON"),
        (b"5", "Item 0"),
        (b'[{"id":1},2]', "Item 1"),
        (b'{"id":1}\n{nope\n', "Line 2 is not JSON"),
        (b'{"id":1}\n\n[2]\n', "Line 3 is no JSON object"),
    ],
)
def test_what_is_no_payload_is_reported_with_its_place(text, said):
    with pytest.raises(PeerFault, match=said):
        payloads_of(text)


def test_channels_is_a_table_or_json(service):
    service.data = [
        {"name": "positions", "filters": ["symbol", "traderId"], "description": "Rows."}
    ]
    result = run("channels", "--url", service.url)
    assert result.stdout.splitlines() == [
        "CHANNEL    FILTERS          WHAT",
        "positions  symbol,traderId  Rows.",
    ]
    assert orjson.loads(run("channels", "--url", service.url, "--json").stdout) == service.data


def test_snapshot_prints_rows_and_where_to_go_on(service):
    row = {"key": "p1", "seq": 5, "data": {"id": "p1"}}
    service.data = {"rows": [row], "position": "k3v9:7", "more": False}
    result = run("snapshot", "positions", "--url", service.url, "--filter", "symbol=A")
    assert result.stdout == '5 p1 {"id":"p1"}\n'
    assert "telecast tail positions --since k3v9:7" in result.stderr
    assert service.asked[0][0].query["symbol"] == "A"
    result = run("snapshot", "positions", "--url", service.url, "--json")
    assert orjson.loads(result.stdout) == row


def test_replay_sends_the_file_in_order_under_keys(service, tmp_path):
    path = tmp_path / "ticks.ndjson"
    path.write_text(TICK * 3)
    result = run("replay", path, "--url", service.url, "--speed", 0)
    assert result.exit_code == Exit.OK
    assert result.stderr.startswith("3 events in ")
    assert result.stderr.endswith("1 batches, up to k3v9:5\n")
    ((request, body),) = service.asked
    assert request.path == "/api/v1/channels/market-data/events"
    assert request.headers["Idempotency-Key"].startswith("replay-")
    assert [orjson.loads(line)["source"] for line in body.split(b"\n")] == ["replay"] * 3


def test_replay_sends_nothing_of_a_file_with_a_bad_line(service, tmp_path):
    path = tmp_path / "ticks.ndjson"
    path.write_text(TICK + "{\n" + TICK.replace("7.5", "much"))
    result = run("replay", path, "--url", service.url)
    assert result.exit_code == Exit.ERROR
    lines = result.stderr.splitlines()
    assert lines[0].startswith("Error: Line 2: not JSON")
    assert lines[1].startswith("Error: Line 3: price: ")
    assert not service.asked


def test_replay_to_nobody_is_four(tmp_path, unused_tcp_port):
    path = tmp_path / "ticks.ndjson"
    path.write_text(TICK)
    result = run("replay", path, "--url", f"http://127.0.0.1:{unused_tcp_port}")
    assert result.exit_code == Exit.UNREACHABLE
    assert "0 events" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("tail",),
        ("tail", ","),
        ("tail", "positions", "--since", "yesterday"),
        ("tail", "positions", "--filter", "symbol"),
        ("tail", "positions", "--count", "0"),
        ("pub", "positions", "{}", "--replace", "t1"),
        ("replay", "no such file"),
    ],
)
def test_wrong_usage_is_two(arguments):
    assert run(*arguments).exit_code == Exit.USAGE


def test_every_verb_explains_itself_and_shows_no_key():
    for verb in ("tail", "pub", "replay", "channels", "snapshot"):
        assert verb in COMMANDS
        result = run(verb, "--help")
        assert result.exit_code == Exit.OK
        assert "TELECAST_KEY" in result.stdout
        assert KEY not in result.stdout


def test_a_payload_can_not_command_the_terminal():
    body = {**event(1), "key": "a\x1b[2J\nb", "data": {"m": "\x9b2J\u202etxt\u2028"}}
    line = event_line(body)
    assert line.isprintable()
    assert "\\u001b[2J\\u000ab" in line
    assert "\\u009b2J\\u202etxt\\u2028" in line
    assert plain("Größe 価格") == "Größe 価格"


def test_record_writes_what_replay_takes(service, tmp_path):
    def whole(seq: int, op: str = "upsert") -> dict[str, Any]:
        return {**event(seq, op), "data": dict(CHANNELS["positions"].example)}

    service.stream = [WELCOME, SNAPSHOT, whole(5), live(7), whole(8), whole(9, "delete")]
    file = tmp_path / "day.ndjson"
    result = run("record", file, "positions", "--url", service.url, "--count", "2")
    assert result.exit_code == Exit.OK, result.output
    assert f"3 lines in {file}, of them 2 live events\n" in result.stderr, result.stderr
    service.data = RECEIPT
    done = run("replay", file, "--url", service.url, "--speed", "0")
    assert done.exit_code == Exit.OK, done.output
    assert service.asked[-1][0].method == "DELETE"
    assert service.asked[-1][0].path.endswith("/positions/rows")
    again = run("record", file, "positions", "--url", service.url)
    assert again.exit_code == Exit.USAGE
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("kick",), "Name a CONNECTION"),
        (("kick", "c-1", "--stale", "60"), "not both"),
        (("kick", "--transport", "ws"), "Name a CONNECTION"),
        (("tail", "positions", "--last", "3", "--since", "1m"), "give one"),
        (("history", "positions", "--from", "25:00"), "is no time"),
        (("errors", "NO_PROGRES"), "Did you mean 'NO_PROGRESS'?"),
        (("config", "doc", "prot"), "There is no setting"),
        (("top",), "needs a terminal"),
    ],
)
def test_wrong_usage_of_an_operators_command_says_what_is_right(words, said):
    result = run(*words)
    assert result.exit_code == Exit.USAGE
    assert said in result.stderr


def test_errors_are_explained_by_code_status_and_close_code():
    assert "Try again" not in run("errors", "NOT_FOUND").stdout
    assert run("errors", "not-found").stdout == run("errors", "NOT_FOUND").stdout
    assert "KICKED" in run("errors", "4410").stdout
    assert {"ROW_NOT_FOUND", "NOT_FOUND"} <= {
        orjson.loads(line)["code"] for line in run("errors", "404", "--json").stdout.splitlines()
    }
    assert len(run("errors").stdout.splitlines()) == len(CODES) + 1


def test_config_shows_sources_masks_passwords_and_prints_an_environment(tmp_path):
    file = tmp_path / "telecast.toml"
    file.write_text("port = 8081\n")
    env = {"TELECAST_HOST": "::1"}
    result = run("config", "show", "--changed", "--config", file, "--json", env=env)
    rows = {row["name"]: (row["value"], row["source"]) for row in orjson.loads(result.stdout)}
    assert rows["port"] == ("8081", f"{file}:port")
    assert rows["host"] == ("::1", "TELECAST_HOST")
    lines = run("config", "env", "--config", file, env=env).stdout.splitlines()
    assert lines == ["TELECAST_HOST=::1", "TELECAST_PORT=8081"]
    assert run("config", "check", "--config", file, env=env).exit_code == Exit.OK
    wrong = run("config", "check", "--config", file, env={"TELECAST_HOTS": "x"})
    assert wrong.exit_code == Exit.ERROR
    assert "Did you mean TELECAST_HOST?" in wrong.stderr
    assert "--port" in run("config", "doc", "TELECAST_PORT").stdout
    assert _shown("nats://user:secret@host/x") == "nats://...@host/x"
    assert _quoted("it's") == "'it'\\''s'"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10m", "-10m"),
        ("-90s", "-90s"),
        ("09:55", "2026-11-22T08:55:00.000Z"),
        ("23:10:05", "2026-11-21T22:10:05.000Z"),  # that is yesterday's: it has not come yet
        ("2026-11-22T09:55:00+01:00", "2026-11-22T08:55:00.000Z"),
        ("yesterday", None),
        ("25:00", None),
        ("2026-11-22", None),
    ],
)
def test_a_time_is_read_as_a_person_writes_it(text, found):
    now = datetime(2026, 11, 22, 12, 0, tzinfo=timezone(timedelta(hours=1)))
    if found is None:
        with pytest.raises(ValueError):
            read_moment(text, now)
    else:
        assert read_moment(text, now) == found
