"""The sample clients as they stand in `samples/`: what each needs, and what it is put through.

All run at once against one service, each on a line of its own that can be cut.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from telecast.client import Client
from telecast.testing.relay import Relay, relay
from telecast.web.page.files import FOLDERS
from tests.support.payloads import price
from tests.support.service.process import Service

SAMPLES = Path(__file__).parents[3] / "samples"
PATIENCE = 120.0
STEPS = (
    *("connect", "live", "cut", "silent line"),
    *("drain and restart", "kill and restart", "wrong key"),
)


@dataclass(frozen=True)
class Sample:
    """`command` is run in an empty folder; `{folder}` in it is the sample's own."""

    name: str
    folder: str
    command: Sequence[str]
    tools: Sequence[str]
    """Commands that must be there."""
    prepare: Sequence[str] | None = None
    """What installs or builds it; its working folder is a copy of the sample's."""
    version: Sequence[str] = ()
    """What says which version it was tried with."""


_VERSIONS = "import aiohttp as a, platform as p; print(p.python_version(), a.__version__)"
_PYTHON = (sys.executable, "-c", _VERSIONS)
EVERYWHERE = (
    Sample(
        "Python, telecast.client, `follow`", "python", (sys.executable, "{folder}/follow.py"), (),
        version=_PYTHON,
    ),
    Sample(
        "Python, telecast.client, `view`", "python", (sys.executable, "{folder}/table.py"), (),
        version=_PYTHON,
    ),
    Sample(
        "curl and bash", "curl", ("bash", "{folder}/follow.sh"), ("curl", "bash"),
        version=("sh", "-c", "curl --version | head -n 1 | cut -d ' ' -f 1-2"),
    ),
)  # fmt: skip
"""Those that need no more than the tests do."""
_CLIENT = Path(FOLDERS["client"]) / "telecast.js"
# The flag gives Node 20 a WebSocket; where it is not known there is none.
_WITH_CLIENT = ("sh", "-c", f"node --experimental-websocket -e 0 && cp '{_CLIENT}' .")
_NPM = tuple(
    Sample(
        name,
        "node",
        ("node", f"{{folder}}/{file}"),
        ("node", "npm"),
        ("npm", "install", "--no-audit", "--no-fund", "--loglevel", "error"),
        ("npm", "ls", "--depth", "0"),
    )
    for name, file in (
        ("Node, `ws`", "follow-ws.mjs"),
        ("Node, `eventsource`", "follow-sse.mjs"),
    )
)
NODE = _NPM + tuple(
    Sample(
        f"Node, telecast.js, {name}", "javascript",
        ("node", "--no-warnings", "--experimental-websocket", "{folder}/follow.mjs", transport),
        ("node",), _WITH_CLIENT, ("node", "--version"),
    )
    for name, transport in (("SSE", "sse"), ("WebSocket", "websocket"))
)  # fmt: skip
OTHERS = (
    Sample(
        "Java 17, java.net.http", "java", ("java", "-cp", "{folder}", "Follow"), ("javac",),
        ("javac", "Follow.java"), ("javac", "--version"),
    ),
    Sample(
        "Kotlin, java.net.http WebSocket", "kotlin",
        ("java", "-cp", "{folder}/target/classes:{folder}/target/dependency/*", "FollowKt"),
        ("mvn", "java"), ("mvn", "-q", "-B", "-ntp", "package"),
        ("grep", "-m1", "kotlin.version", "pom.xml"),
    ),
    Sample(
        "Kotlin, Ktor client (CIO)", "ktor",
        ("java", "-cp", "{folder}/target/classes:{folder}/target/dependency/*", "FollowKt"),
        ("mvn", "java"), ("mvn", "-q", "-B", "-ntp", "package"),
        ("sed", "-nE", "s/ *<(kotlin|ktor).version>(.*)<.*/\\1 \\2/p", "pom.xml"),
    ),
    Sample(
        "PySide6, QtWebSockets", "qt", (sys.executable, "{folder}/feed.py"), (),
        (sys.executable, "-W", "ignore", "-c", "import PySide6.QtWebSockets"),
        (sys.executable, "-W", "ignore", "-c", "import PySide6; print(PySide6.__version__)"),
    ),
    Sample(
        "Go, coder/websocket", "go", ("{folder}/follow",), ("go",),
        ("go", "build", "-o", "follow", "."), ("go", "version"),
    ),
    Sample(
        "Rust, tokio-tungstenite", "rust", ("{folder}/target/debug/follow",), ("cargo",),
        ("cargo", "build", "--quiet", "--locked"),
        ("sh", "-c", "rustc --version | cut -c-12; cargo tree --depth 1 | grep -o 'tokio-t.*'"),
    ),
)  # fmt: skip
"""Those whose toolchain is large: `tox -e clients`."""


def missing(sample: Sample) -> list[str]:
    return [tool for tool in sample.tools if shutil.which(tool) is None]


class Unprepared(Exception):
    """What a sample needs can't be installed here."""


@dataclass
class Trial:
    """One sample that runs, and what it has shown."""

    sample: Sample
    line: Relay
    folder: Path
    lines: list[str] = field(default_factory=list)
    shown: set[str] = field(default_factory=set)
    """The steps that it has passed."""
    here: Path = SAMPLES
    """Where its program lies."""
    version: str = ""
    _process: asyncio.subprocess.Process | None = None

    async def prepare(self, beside: Path) -> None:
        """Copy it, and install or build it where that is needed: once for a folder of samples."""
        self.here = beside / self.sample.folder
        if not self.here.exists():
            await asyncio.to_thread(
                shutil.copytree,
                SAMPLES / self.sample.folder,
                self.here,
                ignore=shutil.ignore_patterns("node_modules", "target", "__pycache__"),
            )
            if self.sample.prepare is not None:
                status, said = await run(self.sample.prepare, self.here)
                if status:
                    shutil.rmtree(self.here)
                    raise Unprepared(f"{self.sample.name}: {said}")
        if self.sample.version:
            self.version = (await run(self.sample.version, self.here))[1]

    async def start(self, key: str) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command(),
            cwd=self.folder,
            env=environment(self.line.url, key),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def see(self, word: str) -> None:
        """Read on until a line has this word."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while True:
                line = (await self._process.stdout.readline()).decode()
                assert line, f"{self.sample.name} ended:\n" + "".join(self.lines)
                self.lines.append(line)
                if word in line:
                    return

    def count(self, word: str) -> int:
        return sum(word in line for line in self.lines)

    async def refused(self, key: str) -> None:
        """With a wrong key it ends by itself, soon, and says why."""
        status, said = await run(self._command(), self.folder, environment(self.line.url, key))
        assert status not in (0, None), f"{self.sample.name}: {said}"
        assert re.search("401|UNAUTHENTICATED", said), f"{self.sample.name}: {said}"

    async def end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()

    def _command(self) -> list[str]:
        return [word.replace("{folder}", str(self.here)) for word in self.sample.command]


def environment(url: str, key: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TELECAST_", "COV_"))}
    return {**kept, "TELECAST_URL": url, "TELECAST_KEY": key, "PYTHONWARNINGS": "error"}


async def run(
    command: Sequence[str], folder: Path, env: dict[str, str] | None = None
) -> tuple[int | None, str]:
    """(status, output); ended after some minutes: a toolchain may have to be fetched."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(4 * PATIENCE):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    return process.returncode, said.decode()


async def tried(
    samples: Sequence[Sample], folder: Path, *, spared: Sequence[Sample] = ()
) -> list[Trial]:
    """All of them, put through every step beside each other.

    Raises Unprepared where one can't be installed; those that are `spared` are then left out.
    """
    own = Service(folder)
    trials: list[Trial] = []
    (folder / "prepared").mkdir()
    try:
        await own.start()
        async with AsyncExitStack() as stack:
            for number, sample in enumerate(samples):
                here = folder / f"sample-{number}"
                here.mkdir()
                line = await stack.enter_async_context(relay(own.url))
                trials.append(Trial(sample, line, here))
            for trial in list(trials):
                try:
                    await trial.prepare(folder / "prepared")
                except Unprepared as fault:
                    if trial.sample not in spared:
                        raise
                    print(f"left out: {fault}")
                    trials.remove(trial)
            await put_through(own, trials)
        await own.stop()
    finally:
        for trial in trials:
            await trial.end()
        await own.end()
    return trials


async def put_through(own: Service, trials: Sequence[Trial]) -> None:
    """Every step for all of them; raises AssertionError with the name of who fails one."""
    async with Client(own.url, key=own.key) as telecast:

        async def publish(symbol: str) -> None:
            await telecast.publish("market-data", price(symbol))

        async def everybody(step: str, symbol: str) -> None:
            async with asyncio.TaskGroup() as group:
                for trial in trials:
                    group.create_task(trial.see(symbol))
            for trial in trials:
                assert trial.count(symbol) == 1, (trial.sample.name, symbol, trial.lines)
                trial.shown.add(step)

        await publish("FIRST")
        for trial in trials:
            await trial.start(own.key)
        await everybody("connect", "FIRST")
        for trial in trials:
            # A view prints its rows once it is live, others say so behind them.
            if not any("live" in line or "snapshot" in line for line in trial.lines):
                await trial.see("live")
        await publish("SECOND")
        await everybody("live", "SECOND")
        for trial in trials:
            trial.line.cut()
        await publish("THIRD")
        await everybody("cut", "THIRD")
        for trial in trials:
            trial.line.silence()
        await publish("SIXTH")
        await everybody("silent line", "SIXTH")
        await own.stop()
        await own.start()
        await publish("FOURTH")
        await everybody("drain and restart", "FOURTH")
        own.kill()
        await own.gone()
        await own.start()
        await publish("FIFTH")
        await everybody("kill and restart", "FIFTH")
        for trial in trials:
            await trial.end()
            assert trial.count("FIRST") == 1, (trial.sample.name, "it was not resumed", trial.lines)
    wrong = f"{own.key[:-4]}0000"
    async with asyncio.TaskGroup() as group:
        for trial in trials:
            group.create_task(trial.refused(wrong))
    for trial in trials:
        trial.shown.add("wrong key")
