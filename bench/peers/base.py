"""What the harness asks of a peer."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.machine import HOST, Cores
from bench.tools import Publication, Subscription

START_SECONDS = 40.0
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a server runs: its own folder, port and core, and the transport that is measured."""

    folder: Path
    port: int
    transport: str
    cores: Cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that listens; CPU and memory are those of `pid` and its descendants.

    `key` opens what a row asks of it besides, where it wants one.
    """

    pid: int
    place: Place
    subscription: Subscription
    publication: Publication
    key: str = ""


class Peer(Protocol):
    """One way to broadcast. `title` names it in tables, `transports` are what it has of ws and
    sse."""

    name: str
    title: str
    transports: tuple[str, ...]

    def missing(self) -> str | None:
        """Why it can't run here, as the end of a sentence; None where it can."""
        ...

    def start(self, place: Place) -> AbstractContextManager[Running]: ...


class ServerFailed(RuntimeError):
    """A peer's server did not come up; the message has the end of what it said."""


@contextmanager
def server(
    place: Place, command: Sequence[str | Path], *, env: dict[str, str] | None = None
) -> Iterator[int]:
    """Run it on the server's core until the end of the block; gives its process id."""
    log = place.folder / "server.log"
    with log.open("wb") as out, place.cores.only(place.cores.server):
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=place.folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for(process, place.port, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def listening(port: int, processes: int) -> None:
    """Wait until so many processes listen on a port that they share."""
    until = time.monotonic() + START_SECONDS
    ending = f":{port:04X}"
    while time.monotonic() < until:
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        # proc_net_tcp(5): the local address, then the state, of which 0A is LISTEN.
        if sum(each[1].endswith(ending) and each[3] == "0A" for each in sockets) >= processes:
            return
        time.sleep(0.02)
    raise ServerFailed(f"not all of {processes} processes came up")


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.02)
    said = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise ServerFailed("it did not come up: " + (" / ".join(said) or "it said nothing"))
