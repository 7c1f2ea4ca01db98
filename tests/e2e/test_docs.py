"""What the pages tell a reader to paste is pasted, and what they promise is compared.

A page is read from top to bottom in a folder of its own, as a reader would: what is run early is
there later. Blocks of `console`, `sh`, `python` and `js` are for pasting. Words after the language
say how:

    norun="reason"   it can't be run here
    file=NAME        the block is written to a file; a later block runs it
    service          its last command stays running until the page starts another, or ends
    stream           each command is ended once the output shown has come
    fails            each command ends with an error
    beside=NAME      its command stays running in a terminal of that name until the page ends
    continues=NAME   what that terminal shows next; the block has no command
    kills            its command ends the service, whose place the next one takes

Output that a `console` block shows after a command is compared: `...` stands for anything in a
line, and alone on a line for any lines. Times, positions, connections and keys may differ.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from telecast.errors import PeerFault
from telecast.keys import create_key
from telecast.model import Entry, Position
from telecast.protocol import messages
from tests.support.service.nats import needs_nats
from tests.support.service.process import free_port

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PASTED = ("console", "sh", "python", "js")
DOCUMENTED = "127.0.0.1:8080"
PATIENCE = 120.0
"""Seconds after which output that does not come fails the test."""

NOT_RUN = {
    "python3 dev.py": "it installs from the package index; tests/unit/house/test_dev.py tries it",
    "pip install": "it installs from the package index",
    "python3 -m venv": "it installs from the package index",
    ". .venv": "the reader has the command in the path already",
}
"""For README.md, whose blocks carry no marks: how a command begins, and why it is not run."""
ENDLESS = ("telecast tail", "curl -N")
"""Likewise: commands that go on until they are interrupted."""
SERVICES = ("telecast serve", "telecast demo")

BESIDE = {"websocket-guide.md": "demo", "protocol.md": "serve", "publishing.md": "serve"}
BESIDE |= {"bot.md": "demo", "exchange-feed.md": "serve", "cookbook.md": "demo"}
BESIDE |= {"keys.md": "serve", "python-client.md": "demo", "sse-guide.md": "demo"}
BESIDE |= {"page.md": "demo"}
"""Pages that take a running service for granted, and which."""

_FENCE = re.compile(r"^```(\S*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_WORD = re.compile(r"(\w+)(?:=(\"[^\"]*\"|\S+))?")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the pages are for a POSIX shell")


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    marks: Mapping[str, str]
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> Iterator[Block]:
    source = path.read_text("utf-8")
    for match in _FENCE.finditer(source):
        marks = {name: value.strip('"') for name, value in _WORD.findall(match[2])}
        line = source.count("\n", 0, match.start()) + 1
        yield Block(path.name, line, match[1], marks, match[3])


def pages() -> list[Path]:
    return [*sorted(DOCS.rglob("*.md")), ROOT / "README.md"]


def pasted(path: Path) -> list[Block]:
    return [block for block in blocks_of(path) if block.language in PASTED]


@dataclass
class Command:
    text: str
    shown: list[str] = field(default_factory=list)


def commands_of(block: Block) -> list[Command]:
    """The commands of a console block with what is shown after each, or those of a script."""
    found: list[Command] = []
    whole = True
    for line in block.text.splitlines():
        if not whole:
            found[-1].text += "\n" + line
        elif block.language == "sh":
            if line.strip():
                found.append(Command(line))
        elif line.startswith("$ "):
            found.append(Command(line[2:]))
        else:
            assert found, f"{block}: output before the first command"
            found[-1].shown.append(line)
            continue
        whole = bool(found) and is_whole(found[-1].text)
    return found


def is_whole(text: str) -> bool:
    try:
        shlex.split(text)
    except ValueError:
        return False
    return not text.endswith("\\")


# --- what may differ

_DIFFERS = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d\.\d{3}\b"), "CLOCK"),
    (re.compile(r'"timestamp":\d{13}'), '"timestamp":MS'),
    (re.compile(r"\b[0-9a-z]{8}:\d+"), "POSITION"),
    (re.compile(r"\bc-[0-9a-f]{12}\b"), "CONNECTION"),
    (re.compile(r'"version":"[^"]+"'), '"version":VERSION'),
    (re.compile(r"^[0-9a-f]{8}(?= )", re.MULTILINE), "ID"),
    (re.compile(r"\([0-9a-f]{8}\)"), "(ID)"),
    (re.compile(r" +"), " "),
)


def plain(text: str) -> str:
    for pattern, instead in _DIFFERS:
        text = pattern.sub(instead, text)
    return text


def pattern_of(shown: list[str]) -> re.Pattern[str]:
    parts = []
    for line in shown:
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*?")
        else:
            pieces = (re.escape(piece) for piece in plain(line.rstrip()).split("..."))
            parts.append(r"[^\n]*?".join(pieces) + r" ?\n")
    return re.compile("".join(parts))


# --- a reader


class Reader:
    """Somebody with a folder, a shell that remembers its variables, and perhaps a service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "here"
        self.folder.mkdir()
        (self.folder / "samples").symlink_to(ROOT / "samples")  # a reader stands in a clone
        # On a terminal curl shows no progress of what it prints there.
        (self.folder / ".curlrc").write_text("silent\nshow-error\n")
        self._state = folder / "state"
        self._service: asyncio.subprocess.Process | None = None
        self._drained: asyncio.Task[None] | None = None
        self._beside: dict[str, asyncio.subprocess.Process] = {}
        self._address = DOCUMENTED
        bin_folder = Path(sys.executable).parent
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TELECAST_", "COV_"))}
        self.env = {
            **kept,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PYTHONWARNINGS": "error",
            "PYTEST_ADDOPTS": "-p no:asyncio -p no:aiohttp -p no:cacheprovider",
            "NODE_OPTIONS": "--no-warnings --experimental-websocket --experimental-eventsource",
            "TELECAST_PORT": "0",
            "TELECAST_DRAIN_SECONDS": "0",
            "TELECAST_LOG_FORMAT": "json",
        }

    async def start(
        self, command: str, *, shown: list[str] | None = None, folder: Path | None = None
    ) -> None:
        """Start a service and return once it serves. What it says at the start is compared."""
        await self.stop()
        process = self._service = await self._spawn(f"exec {command}", folder)
        said = ""
        async with asyncio.timeout(PATIENCE):
            while not (found := re.search(r"http://(127\.0\.0\.1:\d+)", said)):
                line = await process.stdout.readline()  # type: ignore[union-attr]
                assert line, f"{command} ended:\n{said}"
                said += line.decode()
            self._address = found[1]
            self.know(TELECAST_URL=found[0])
            if shown:
                said = await self.see(process, shown, said)
        key = re.search(r"tc_[0-9a-f]{8}_[0-9a-f]{64}", said)
        if key is not None:
            self.know(TELECAST_KEY=key[0])
        self._drained = asyncio.create_task(_drain(process))

    def know(self, **variables: str) -> None:
        """Set variables of the shell."""
        with self._state.open("a") as state:
            for name, value in variables.items():
                state.write(f"export {name}={shlex.quote(value)}\n")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text.replace(DOCUMENTED, self._address))

    async def stop(self) -> None:
        if self._service is None:
            return
        process, self._service = self._service, None
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            status = await process.wait()
        if self._drained is not None:
            await self._drained
        assert status == 0, f"the service ended with {status}"

    async def open(self, name: str, command: str, shown: list[str]) -> None:
        """Run a command in a terminal of its own."""
        self._beside[name] = process = await self._spawn(f"exec {command}")
        async with asyncio.timeout(PATIENCE):
            await self.see(process, shown)

    async def look(self, name: str, shown: list[str]) -> None:
        """See what comes next in that terminal."""
        async with asyncio.timeout(PATIENCE):
            await self.see(self._beside[name], shown)

    async def killed(self) -> None:
        """The service was killed; the next one takes its port."""
        self.same_port()
        process, self._service = self._service, None
        assert process is not None
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == -signal.SIGKILL

    async def close(self) -> None:
        for process in self._beside.values():
            await _end(process)
        await self.stop()

    def same_port(self) -> None:
        """Let what is started next take the place of what runs now."""
        self.know(TELECAST_PORT=self._address.rpartition(":")[2])

    async def run(self, command: str) -> tuple[int, str]:
        """(exit status, output) of a command."""
        process = await self._spawn(command)
        async with asyncio.timeout(PATIENCE):
            out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, self._as_documented(out.decode())

    async def watch(self, command: str, shown: list[str]) -> None:
        """Run a command until its output is as shown."""
        process = await self._spawn(command)
        try:
            async with asyncio.timeout(PATIENCE):
                await self.see(process, shown)
        finally:
            await _end(process)

    @asynccontextmanager
    async def going(self, command: str) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await self._spawn(command)
        try:
            yield process
        finally:
            await _end(process)

    async def see(
        self, process: asyncio.subprocess.Process, shown: list[str], said: str = ""
    ) -> str:
        """All that was said until it is as shown."""
        wanted = pattern_of(shown)
        try:
            while not wanted.match(plain(self._as_documented(said))):
                line = await process.stdout.readline()  # type: ignore[union-attr]
                assert line, _unlike(shown, said)
                said += line.decode()
        except asyncio.CancelledError:
            print(_unlike(shown, said))  # the time is up: pytest shows this
            raise
        return said

    async def _spawn(self, command: str, folder: Path | None = None) -> asyncio.subprocess.Process:
        state = shlex.quote(str(self._state))
        command = command.replace(DOCUMENTED, self._address)
        script = (
            f"set -a; [ -f {state} ] && . {state}\n{command}\n"
            f"__status=$?; export -p >{state}; exit $__status"
        )
        return await asyncio.create_subprocess_exec(
            *("bash", "-c", script),
            cwd=folder or self.folder,
            env=self.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )

    def _as_documented(self, text: str) -> str:
        return text.replace(self._address, DOCUMENTED)


def _unlike(shown: list[str], said: str) -> str:
    reported = said if len(said) < 6000 else f"{said[:3000]}\n[...]\n{said[-3000:]}"
    return "shown:\n" + "\n".join(shown) + "\n\nsaid:\n" + reported


async def _drain(process: asyncio.subprocess.Process) -> None:
    while await process.stdout.read(65536):  # type: ignore[union-attr]
        pass


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a command and all that it started."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):  # it ended, and that is on its way to us
            os.killpg(process.pid, signal.SIGTERM)
    async with asyncio.timeout(PATIENCE):
        await process.communicate()


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    own = Reader(tmp_path)
    try:
        yield own
    finally:
        await own.close()


async def service_beside(reader: Reader, folder: Path, kind: str) -> None:
    """The service that a page takes for granted; its files are not in the reader's folder."""
    os.makedirs(folder, exist_ok=True)
    if kind == "demo":
        await reader.start("telecast demo", shown=["...", "Ctrl-C..."], folder=folder)
        return
    scopes = ("read", "publish", "metrics", "admin")
    if not (folder / "keys.toml").exists():
        reader.know(TELECAST_KEY=create_key(folder / "keys.toml", "reader", scopes))
    await reader.start("telecast serve", folder=folder)


# --- the tests


@pytest.mark.parametrize(
    "path", [path for path in pages() if pasted(path)], ids=lambda path: path.name
)
async def test_what_a_page_says_to_paste_does_what_it_shows(
    path: Path, reader: Reader, tmp_path: Path
) -> None:
    kind = BESIDE.get(path.name)
    if kind is not None:
        await service_beside(reader, tmp_path / "beside", kind)
    if path.name == "protocol.md":
        tick = {"id": "1", "symbol": "BTCUSDT", "exchange": "BINANCE", "price": "67312.50"}
        tick |= {"source": "desk", "updatedAt": "2026-11-22T18:17:20Z"}
        assert (await reader.run(f"telecast pub market-data '{json.dumps(tick)}'"))[0] == 0
    for block in pasted(path):
        if "sample" in block.marks:
            continue  # its program has a test; this page has the same text, see below
        if "norun" in block.marks:
            assert block.marks["norun"], f"{block}: it needs a reason"
        elif block.language in ("console", "sh"):
            await paste(block, reader)
        elif "file" in block.marks:
            reader.write(block.marks["file"], block.text)
        else:
            assert block.language == "python", f"{block}: no block of js is run without a file"
            await paste_python(block, reader)


def test_what_a_page_shows_of_a_sample_stands_in_it() -> None:
    shown = [block for path in pages() for block in blocks_of(path) if "sample" in block.marks]
    assert shown
    for block in shown:
        assert block.text in (ROOT / block.marks["sample"]).read_text("utf-8"), str(block)


async def paste(block: Block, reader: Reader) -> None:
    if "continues" in block.marks:
        await reader.look(block.marks["continues"], ["...", *block.text.splitlines()])
        return
    commands = commands_of(block)
    if "beside" in block.marks:
        (command,) = commands
        await reader.open(block.marks["beside"], command.text, command.shown)
        return
    for command in commands:
        text, shown = command.text, command.shown
        bare = block.language == "sh"
        if bare and any(text.startswith(begin) for begin in NOT_RUN):
            continue
        tool = shlex.split(text)[0]
        if tool in ("node", "sqlite3") and shutil.which(tool) is None:
            print(f"{block}: not run, there is no {tool}")
        elif text.startswith(SERVICES) and (
            bare or ("service" in block.marks and command is commands[-1])
        ):
            await reader.start(text, shown=shown)
        elif "stream" in block.marks:
            await reader.watch(text, shown)
        elif bare and text.startswith(ENDLESS):
            await reader.watch(text, ["...", "...live..."])
        else:
            status, out = await reader.run(text)
            assert bool(status) == ("fails" in block.marks), f"{block}: {text}\n{out}"
            if "kills" in block.marks:
                await reader.killed()
            if shown:
                wanted = pattern_of(shown)
                said = plain(out.rstrip() + "\n")
                assert wanted.fullmatch(said), f"{block}: {_unlike(shown, out)}"


async def paste_python(block: Block, reader: Reader) -> None:
    """The programs of README.md run as they stand."""
    (name,) = re.findall(r"^async def (\w+)", block.text, re.MULTILINE)
    reader.write(f"{name}.py", block.text)
    if name == "follow":
        row = {"id": "t5", "name": "Emil", "status": "RUNNING", "updatedAt": "2026-11-22T18:00:00Z"}
        assert (await reader.run(f"telecast pub trader-status '{json.dumps(row)}'"))[0] == 0
        await reader.watch(f"python -u {name}.py", ["...", "live {...t5..."])
    else:
        status, out = await reader.run(f"python {name}.py")
        assert (status, out.partition(" at ")[0]) == (0, "durable"), f"{block}: {out}"


BROWSER = """
import { follow } from "./MODULE";
const base = process.env.TELECAST_URL;
const headers = { "X-API-Key": process.env.TELECAST_KEY };
async function newTicket() {
  const answer = await fetch(`${base}/api/v1/tickets`, { method: "POST", headers });
  return (await answer.json()).data.ticket;
}
follow(base, ["positions", "market-data"], newTicket, (message) => {
  if (message.type === "event") console.log(message.op, message.channel, message.key);
  else console.log(message.type, message.reason ?? "");
});
"""
"""What a page does with the samples for browsers. Node stands in for one."""

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")


@pytest.mark.parametrize(
    ("sample", "command"),
    [
        ("follow.py", "python follow.py"),
        pytest.param("follow.mjs", "node follow.mjs", marks=needs_node),
        pytest.param("follow-ws.mjs", "node browser.mjs", marks=needs_node),
        pytest.param("follow-sse.mjs", "node browser.mjs", marks=needs_node),
    ],
)
async def test_a_sample_client_comes_back_after_a_restart_and_misses_nothing(
    sample: str, command: str, reader: Reader, tmp_path: Path
) -> None:
    (block,) = [
        each for each in blocks_of(DOCS / "websocket-guide.md") if each.marks.get("file") == sample
    ]
    if command.endswith("browser.mjs"):
        await has_browser_parts(reader)
    reader.write(sample, block.text)
    reader.write("browser.mjs", BROWSER.replace("MODULE", sample))
    beside = tmp_path / "beside"
    await service_beside(reader, beside, "serve")

    async def publish(symbol: str) -> None:
        tick = {"id": "1", "symbol": symbol, "price": "1", "source": "desk"}
        tick["updatedAt"] = "2026-11-22T18:17:20Z"
        status, out = await reader.run(f"telecast pub market-data '{json.dumps(tick)}'")
        assert status == 0, out

    await publish("FIRST")
    async with reader.going(command) as client:
        async with asyncio.timeout(PATIENCE):
            await reader.see(client, ["...", "...market-data FIRST...", "...", "live..."])
        await reader.stop()
        reader.same_port()
        await service_beside(reader, beside, "serve")
        await publish("SECOND")
        # Between the cut and the row there is no snapshot: it was resumed.
        async with asyncio.timeout(PATIENCE):
            said = await reader.see(client, ["...", "...market-data SECOND..."])
        assert "FIRST" not in said, said
        assert "snapshot" not in said, said


async def has_browser_parts(reader: Reader) -> None:
    status, _ = await reader.run("node -e 'new EventSource(\"http://127.0.0.1:1\").close()'")
    if status:
        pytest.skip("this node has no EventSource")


def test_every_block_for_pasting_is_run_or_says_why_not() -> None:
    known = {"norun", "sample", "file", "service", "stream", "fails"}
    known |= {"beside", "continues", "kills"}
    for path in pages():
        for block in pasted(path):
            assert set(block.marks) <= known, f"{block}: {set(block.marks) - known}"


def test_data_in_the_pages_is_what_it_claims_to_be() -> None:
    for path in pages():
        for block in blocks_of(path):
            try:
                if block.language == "json":
                    json.loads(block.text)
                elif block.language == "toml":
                    tomllib.loads(block.text)
            except ValueError as fault:
                raise AssertionError(f"{block}: {fault}") from None


def as_built() -> dict[str, dict[str, Any]]:
    """One message of each type, as the service makes it."""
    at = Position("zpvv89pt", 1)
    fault = PeerFault("BAD_REQUEST", "No.")
    entry = Entry(1, 1, "market-data", "X", "upsert", False, b"{}")
    made = [
        messages.welcome(
            1, client_id=None, connection_id="c", head=at, heartbeat_seconds=15, limits={}
        ),
        messages.ack(
            1,
            action="subscribe",
            req_id=None,
            channels=[],
            rejected=[],
            delivery="all",
            max_rate=None,
        ),
        messages.snapshot(1, ["x"], "NEW"),
        messages.resume(1, at, ["x"]),
        messages.leave(1, "x", ["k"]),
        messages.live(1, at, 0),
        messages.conflated(1, 1, 1, 1),
        messages.gap(1, "x", 1, 1),
        messages.heartbeat(1, at),
        messages.stale(1, "x", 1),
        messages.fresh(1, "x"),
        messages.notice(1, fault),
        messages.error(1, fault),
    ]
    found = {message.type: json.loads(message.json) for message in made}
    return found | {"event": json.loads(messages.event_of(entry, {}).json)}


def test_the_contract_shows_every_server_message_with_just_its_fields() -> None:
    built = as_built()
    seen = set()
    for path in (DOCS / "protocol.md", DOCS / "websocket-guide.md"):
        for block in blocks_of(path):
            body = json.loads(block.text) if block.language == "json" else None
            if not isinstance(body, dict) or "type" not in body:
                continue
            kind = body["type"]
            extra = {"position", "seq", "duplicate", "subscribers"}
            reported = set(body) - (extra if body.get("action") == "publish" else set())
            assert reported == set(built[kind]), block
            seen.add(kind)
    assert seen == set(built)


@needs_nats
async def test_the_walk_over_three_nodes_shows_what_the_page_says(reader: Reader) -> None:
    """A client's node is killed and it goes on at another; of two desks at two nodes one is first
    with an alert. The page's ports are fixed, so they are others here."""
    ports = {port: str(free_port()) for port in ("4222", "8081", "8082", "8083")}
    try:
        for block in pasted(DOCS / "several-nodes.md"):
            text = block.text
            for documented, port in ports.items():
                text = text.replace(documented, port)
            await paste(replace(block, text=text), reader)
    finally:
        for file in reader.folder.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text()), signal.SIGKILL)
