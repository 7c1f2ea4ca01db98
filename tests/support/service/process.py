"""The real command as a process of its own, for tests that kill it, stop it or weigh it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from telecast.keys import create_key

HOST = "127.0.0.1"
PATIENCE = 120.0
"""Seconds after which a process that does not say what is waited for fails the test."""
CHANNELS = ("trader-status", "positions", "risk-alerts", "market-data")


def free_port() -> int:
    """A port below the ephemeral ones, which a client's own end could take while nobody listens."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port


class Service:
    """`telecast serve`, which can be started again on the same journal and port."""

    def __init__(
        self,
        folder: Path,
        *,
        journal: str | None = None,
        program: Sequence[str] = ("-m", "telecast"),
        **settings: Any,
    ) -> None:
        """`settings` are as in the configuration's table; `program` stands in for the command."""
        self.database = folder / "journal.db"
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.up = asyncio.Event()
        self.log: list[bytes] = []
        keys = folder / "keys.toml"
        self.key = create_key(keys, "desk", ["read", "publish", "metrics"])
        self._settings = {
            "port": self.port,
            "journal": journal or f"sqlite:{self.database}",
            "keys": keys,
            "secret_file": folder / "secret",
            "log_format": "json",
            "drain_seconds": 0,
            **settings,
        }
        self._program = program
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None

    def change(self, **settings: Any) -> None:
        """From its next start on it has these settings, too."""
        self._settings |= settings

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.key}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Return once it serves."""
        said = {f"TELECAST_{name.upper()}": str(value) for name, value in self._settings.items()}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, *self._program, "serve"),
            env={**_environment(), **said},
            stderr=asyncio.subprocess.PIPE,
        )
        self._listening = asyncio.create_task(self._listen(self._process))
        serving = asyncio.create_task(self.up.wait())
        await asyncio.wait(
            [self._listening, serving], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
        serving.cancel()
        assert self.up.is_set(), b"".join(self.log).decode()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self.log.append(line)
            if b'"event":"serving"' in line:
                self.up.set()

    def kill(self) -> None:
        """End it at once, in whatever it does."""
        os.kill(self.pid, signal.SIGKILL)

    async def gone(self) -> int:
        """Wait for the end of the process; its status, negative where a signal ended it."""
        assert self._process is not None
        assert self._listening is not None
        async with asyncio.timeout(PATIENCE):
            status = await self._process.wait()
            await self._listening
        self.up.clear()
        return status

    async def stop(self) -> None:
        """Let it go down as an operator would; it must do that well."""
        os.kill(self.pid, signal.SIGTERM)
        assert await self.gone() == 0, b"".join(self.log).decode()

    async def end(self) -> None:
        """Be sure that it is gone, whatever has happened."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self.gone()

    def complaints(self) -> list[str]:
        """What it logged that an operator would look into."""
        found = []
        for line in self.log:
            try:
                said = orjson.loads(line)
                # How busy the machine is that tests run on, and what they don't publish, is no
                # complaint of the service's.
                watched = said["logger"].startswith("telecast.watch.")
                bad = said["level"] not in ("DEBUG", "INFO") and not watched
            except orjson.JSONDecodeError:
                bad = True
            if bad:
                found.append(line.decode())
        return found


@asynccontextmanager
async def service(folder: Path, **settings: Any) -> AsyncIterator[Service]:
    """A running service; at the end it is stopped, and must not have complained."""
    own = Service(folder, **settings)
    try:
        await own.start()
        yield own
        await own.stop()
        complaints = own.complaints()
        assert not complaints, "\n".join(complaints)
    finally:
        await own.end()


class Command:
    """Another command of ours beside the service: `telecast WORDS`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lines: list[bytes] = []
        self.errors: list[str] = []

    @classmethod
    async def run(cls, words: Sequence[str], own: Service) -> Command:
        at = {"TELECAST_URL": own.url, "TELECAST_KEY": own.key}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "telecast", *words),
            env={**_environment(), **at},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def says(self, word: str) -> str:
        """The next line on stderr that has this word."""
        assert self._process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while line := (await self._process.stderr.readline()).decode():
                self.errors.append(line)
                if word in line:
                    return line
        raise AssertionError(f"it never said {word!r}: {self.errors}")

    async def line(self) -> bytes:
        """The next line on stdout."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            self._lines.append((await self._process.stdout.readline()).rstrip())
        return self._lines[-1]

    async def result(self) -> tuple[int, list[bytes], str]:
        """Exit status, lines on stdout, all of stderr."""
        async with asyncio.timeout(PATIENCE):
            out, err = await self._process.communicate()
        self.errors.append(err.decode())
        assert self._process.returncode is not None
        return self._process.returncode, [*self._lines, *out.splitlines()], "".join(self.errors)

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TELECAST_")}
