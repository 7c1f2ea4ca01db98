"""The compiled load as objects: subscribers and a publisher, processes that say JSON lines."""

from __future__ import annotations

import contextlib
import json
import selectors
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import build
from bench.machine import Cores

Report = dict[str, Any]


class LoadFailed(RuntimeError):
    """The load could not do its work; the message says what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """How a subscriber opens its stream, as this peer's own clients do.

    `request` is the head of a GET; `hello` are the messages, a line each, that it sends then.
    %KEY% and %CLIENT% in them become the subscriber's own.
    """

    request: str
    hello: str = ""
    dialect: str = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """How an event gets in: `kind` is ws (a message each), http (a POST), or lines.

    A payload stands between `before` and `after`. For http, `request` is a head without its
    Content-Length and empty line, and `batch` events make one body, a line each.
    """

    kind: str
    request: str
    hello: str = ""
    before: str = ""
    after: str = ""
    batch: int = 1
    socketio: bool = False


def get(path: str, *headers: str) -> str:
    """The head of a GET request."""
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""))


def upgrade(path: str, *headers: str) -> str:
    """The head of a WebSocket handshake; the key is the one of RFC 6455 section 1.3."""
    return get(
        path,
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *headers,
    )


def post(path: str, content_type: str, *headers: str) -> str:
    lines = (f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {content_type}")
    return "\r\n".join((*lines, *headers, ""))


class Tool:
    """A process that answers in JSON lines."""

    def __init__(self, name: str, options: dict[str, Any], cores: Cores) -> None:
        command = [str(build.program(name))]
        for option, value in options.items():
            for each in value if isinstance(value, list) else [value]:
                command += [f"--{option}", str(int(each) if isinstance(each, bool) else each)]
        with cores.only(cores.load):
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        self._name = name

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def hear(self, seconds: float) -> Report:
        """The next line. Raises LoadFailed where none comes in that time."""
        out, err = self._process.stdout, self._process.stderr
        assert out is not None
        assert err is not None
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            heard = selector.select(seconds)
        line = out.readline() if heard else b""
        if not line:
            if heard:
                raise LoadFailed(err.read().decode(errors="replace").strip() or "it ended")
            raise LoadFailed(f"the {self._name} said nothing for {seconds:.0f} s")
        report: Report = json.loads(line)
        return report

    def close(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


class Subscribers(Tool):
    def ready(self, seconds: float) -> Report:
        """All are live. Raises LoadFailed where some are not, with what the first was answered."""
        report = self.hear(seconds)
        if report["failed"]:
            raise LoadFailed(f"{report['failed']} subscribers got no stream: {report['fault']}")
        return report

    def mark(self, first: int) -> None:
        """What counts begins with this id."""
        self.say(f"mark {first}")
        self.hear(10)

    def end(self, end: int, seconds: float) -> Report:
        """The report, once every id below `end` is with everyone, or nothing comes any more."""
        self.say(f"end {end}")
        return self.hear(seconds)


class Publisher(Tool):
    def done(self, seconds: float) -> Report:
        report = self.hear(seconds)
        if report["refused"]:
            raise LoadFailed(f"{report['refused']} publishes were refused: {report['fault']}")
        return report


@contextmanager
def subscribers(
    cores: Cores, folder: Path, port: int, transport: str, spoken: Subscription, **options: Any
) -> Iterator[Subscribers]:
    """`options` are those of subscribers.c: clients, room and so on."""
    request, hello = folder / "subscribe.request", folder / "subscribe.hello"
    request.write_text(spoken.request)
    hello.write_text(spoken.hello)
    given = {
        "port": port,
        "transport": transport,
        "dialect": spoken.dialect,
        "request": request,
        "hello": hello,
        **options,
    }
    tool = Subscribers("subscribers", given, cores)
    try:
        yield tool
    finally:
        tool.close()


@contextmanager
def publishing(
    cores: Cores,
    folder: Path,
    port: int,
    spoken: Publication,
    templates: Sequence[str],
    **options: Any,
) -> Iterator[Report]:
    """Publish; the block runs when all is handed over and answered, its connections still open.

    `options` are those of publisher.c: rate, count, seconds and so on. Gives the report.
    """
    request, hello = folder / "publish.request", folder / "publish.hello"
    request.write_text(spoken.request)
    hello.write_text(spoken.hello)
    files = []
    for number, template in enumerate(templates):
        file = folder / f"template{number}"
        file.write_text(spoken.before + template + spoken.after)
        files.append(file)
    given = {
        "port": port,
        "kind": spoken.kind,
        "socketio": spoken.socketio,
        "batch": spoken.batch,
        "request": request,
        "hello": hello,
        "template": files,
        **options,
    }
    rate = options.get("rate")
    expected = options["count"] / rate if rate else options.get("seconds", 60)
    tool = Publisher("publisher", given, cores)
    try:
        yield tool.done(expected * 3 + 40)
    finally:
        tool.close()
