"""As a unit of systemd with Type=notify: ready when it serves, alive, and going down."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from telecast.config import supervisor
from telecast.keys import create_key
from telecast.watch.notify import Notifier

PATIENCE = 120.0


async def test_a_supervisor_is_notified_of_start_life_and_end(tmp_path: Path) -> None:
    create_key(tmp_path / "keys.toml", "desk", ["read"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.setblocking(False)
        line.bind(str(tmp_path / "notify"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "telecast", "serve", "--port", "0", "--drain-seconds", "0"),
            cwd=tmp_path,
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(tmp_path / "notify"),
                "WATCHDOG_USEC": "200000",
            },
            stderr=asyncio.subprocess.DEVNULL,
        )
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE):
                assert await loop.sock_recv(line, 100) == b"READY=1"
                assert await loop.sock_recv(line, 100) == b"WATCHDOG=1"
                assert await loop.sock_recv(line, 100) == b"WATCHDOG=1"
                process.send_signal(signal.SIGTERM)
                while (said := await loop.sock_recv(line, 100)) == b"WATCHDOG=1":
                    pass
                assert said == b"STOPPING=1"
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, (None, None)),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "30000000"}, ("@x", 30.0)),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"}, ("/x", None)),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}, ("/x", None)),
    ],
)
def test_what_systemd_asks_for_is_read_from_its_variables(
    environ: dict[str, str], found: tuple[str | None, float | None]
) -> None:
    assert supervisor(environ) == found


def test_a_supervisor_that_is_not_there_harms_nobody(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "nobody"), 1.0).say("READY=1")
    Notifier(None, None).say("READY=1")


def test_an_abstract_address_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(f"\0telecast-test-{os.getpid()}")
        line.settimeout(PATIENCE)
        Notifier(f"@telecast-test-{os.getpid()}", None).say("READY=1")
        assert line.recv(100) == b"READY=1"
