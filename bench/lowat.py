"""How much the kernel should take for a client ahead of the network: TCP_NOTSENT_LOWAT.

    python -m bench.lowat [--congestion cubic] [--starved 4] [--rate 10] [--wide 80] [--rtt 100]

For each value, over a line of a length and a width that is made here (Linux, root):

- a client whose line is narrower than the feed, conflated: how old are the events that it reads?
- one that reads 100 KB/s behind a line that is wide enough: the same;
- one that comes back for 20 MB: how fast does it get them?

Ages are by one clock: both ends are on this machine.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

ROOT = Path(__file__).parents[1]
# The cable and the transport's request are the tests'.
sys.path.insert(0, str(ROOT / "tests"))

from telecast.keys import create_key  # noqa: E402
from tests.support.payloads import price  # noqa: E402
from tests.support.sockets.cable import NEAR, Cable, socket_in, unable, within  # noqa: E402
from tests.support.sockets.crowd import frames  # noqa: E402
from tests.support.sockets.raw import request  # noqa: E402

OFF = 2**31 - 1
VALUES = (16, 64, 128, 256, None)
"""KiB; None: the kernel's own, which is no bound."""
SERVE = """
import socket, sys
import telecast.net.wire as wire
congestion = sys.argv.pop().encode()
wire.NOTSENT_LOWAT = int(sys.argv.pop())
before = wire.Wire.open
def open(self, request, writer):
    sock = request.transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion)
    before(self, request, writer)
wire.Wire.open = open
from telecast.cli import main
main(["serve"])
"""
PORT = 8_080
SECONDS = 8.0
SETTLE = 3.0
"""Seconds until buffers are as full as they get."""
BATCH, BATCHES_A_SECOND = 200, 50
EVENT_BYTES = 330
"""About; 26 Mbit/s of them."""
SYMBOLS = 2_000
CATCH_UP = 50_000
"""Events: 20 MB."""
SIPS, SIP = 20, 5_000
"""A slow program: so many reads a second, of so many bytes."""


class Near:
    """The service at one end, and a publisher beside it."""

    def __init__(self, cable: Cable, lowat: int, congestion: str, folder: Path) -> None:
        self.cable = cable
        self.key = create_key(folder / "keys.toml", "bench", ["read", "publish"])
        settings = {
            "host": NEAR,
            "port": PORT,
            "behind_proxy": "true",
            "journal": "memory:",
            "keys": folder / "keys.toml",
            "secret_file": folder / "secret",
            "log_format": "json",
            "drain_seconds": 0,
            "tape_events": 2 * CATCH_UP,
        }
        self._process = subprocess.Popen(
            [
                *("ip", "netns", "exec", str(cable.near)),
                *(sys.executable, "-c", SERVE, str(lowat), congestion),
            ],
            env=os.environ | {f"TELECAST_{name.upper()}": str(v) for name, v in settings.items()},
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if b'"serving"' in line:
                break
        else:
            raise SystemExit("the service did not start")
        threading.Thread(target=self._process.stderr.read, daemon=True).start()
        self._http = http.client.HTTPConnection(NEAR, PORT)
        self._http.sock = within(cable.near, lambda: socket.create_connection((NEAR, PORT)))

    def publish(self, start: int, count: int) -> str:
        rows = (price(f"S{n % SYMBOLS}", price=f"{n}.25") for n in range(start, start + count))
        self._http.request(
            "POST",
            "/api/v1/channels/market-data/events",
            b"\n".join(map(orjson.dumps, rows)),
            {"X-API-Key": self.key, "Content-Type": "application/x-ndjson"},
        )
        answer = self._http.getresponse()
        body = orjson.loads(answer.read())
        if answer.status != 201:
            raise SystemExit(f"publish: {body}")
        position: str = body["data"]["position"]
        return position

    def end(self) -> None:
        self._http.close()
        self._process.terminate()
        self._process.wait()

    def reader(self, buffer: int | None = None, **query: object) -> socket.socket:
        """A WebSocket at the other end, shaken hands with."""
        line = socket_in(self.cable.far)
        if buffer is not None:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        line.connect((NEAR, PORT))
        line.sendall(request("ws", self.key, {"channels": "market-data", **query}))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += line.recv(1)
        return line


@contextmanager
def near(lowat: int | None, rate: float, rtt: float, congestion: str) -> Iterator[Near]:
    with (
        tempfile.TemporaryDirectory(prefix="telecast-bench-") as folder,
        Cable(delay=rtt / 2000, rate=rate * 1e6) as cable,
    ):
        own = Near(cable, OFF if lowat is None else lowat * 1024, congestion, Path(folder))
        try:
            yield own
        finally:
            own.end()


def ages(own: Near, rate: float, buffer: int | None, sips: bool) -> list[float]:
    """Milliseconds from an event's commit until it was read, once buffers are full."""
    line = own.reader(buffer, replay="false")
    over = threading.Event()
    sent = 0

    def feed() -> None:
        nonlocal sent
        due = time.monotonic()
        while not over.is_set():
            own.publish(sent, BATCH)
            sent += BATCH
            due += 1 / BATCHES_A_SECOND
            time.sleep(max(0.0, due - time.monotonic()))

    feeding = threading.Thread(target=feed)
    feeding.start()
    found: list[float] = []
    pending = b""
    started = time.monotonic()
    while (now := time.monotonic()) < started + SETTLE + SECONDS:
        data = line.recv(SIP if sips else 65_536)
        if sips:
            time.sleep(1 / SIPS)
        pending += data
        read_at = time.time() * 1000
        newest = None
        for opcode, payload in frames(pending):
            size = len(payload)
            pending = pending[size + (2 if size < 126 else 4 if size < 65_536 else 10) :]
            if opcode == 1 and payload.startswith(b'{"type":"event"'):
                newest = orjson.loads(payload)["timestamp"]
        if newest is not None and now > started + SETTLE:
            found.append(read_at - newest)
    over.set()
    feeding.join()
    line.close()
    spent = time.monotonic() - started
    if sent * EVENT_BYTES * 8 / spent < 1.5e6 * rate:
        raise SystemExit(f"the publisher was slower than the line: {sent / spent:,.0f} events/s")
    return found


def megabits(own: Near) -> float:
    """A second, while all that was missed is sent."""
    start = own.publish(0, 1)
    for first in range(0, CATCH_UP, 4_000):
        own.publish(first, min(4_000, CATCH_UP - first))
    line = own.reader(since=start, delivery="all")
    size, tail, started = 0, b"", time.monotonic()
    while b'"type":"live"' not in tail:
        data = line.recv(1 << 20)
        size += len(data)
        tail = (tail + data)[-400:]
    seconds = time.monotonic() - started
    line.close()
    return size * 8 / seconds / 1e6


def main() -> None:
    said = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    said.add_argument("--congestion", default="cubic")
    said.add_argument("--starved", type=float, default=4, help="Mbit/s of a line below the feed")
    said.add_argument("--rate", type=float, default=10, help="Mbit/s of the narrow line")
    said.add_argument("--wide", type=float, default=80, help="Mbit/s of the wide one")
    said.add_argument("--rtt", type=float, default=100, help="ms")
    chosen = said.parse_args()
    why = unable()
    if why is not None:
        raise SystemExit(f"There can't be a cable here: {why}.")
    line = (chosen.rtt, chosen.congestion)
    widths = f"{chosen.starved:g}, {chosen.rate:g} and {chosen.wide:g} Mbit/s"
    print(f"{widths}, {chosen.rtt:g} ms, {chosen.congestion}")
    print("| KiB | starved line: age, ms p50 / p99 | 100 KB/s program: age, ms p50 / p99 "
          "| 20 MB, narrow: Mbit/s | wide: Mbit/s |")  # fmt: skip
    print("|---|---|---|---|---|")
    for lowat in VALUES:
        cells = []
        for rate, taken, buffer, sips in (
            (chosen.starved, chosen.starved, None, False),
            (chosen.wide, SIPS * SIP * 8e-6, 65_536, True),
        ):
            with near(lowat, rate, *line) as own:
                found = ages(own, taken, buffer, sips)
                late = statistics.quantiles(found, n=100)[98]
                cells.append(f"{statistics.median(found):,.0f} / {late:,.0f}")
        for rate in (chosen.rate, chosen.wide):
            with near(lowat, rate, *line) as own:
                cells.append(f"{megabits(own):.1f}")
        print(f"| {lowat or 'off'} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
