"""The parent of several workers: carries out what `crew` decides. It serves no client itself.

It holds the port without listening on it, so that the workers, which listen on it together
(SO_REUSEPORT), come and go while it stays theirs. It writes the log for all, so that lines stay
whole, and remembers what each worker has counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from telecast import logs
from telecast.config import Settings, as_plain
from telecast.errors import SettingsError
from telecast.supervision.crew import Crew, State
from telecast.supervision.gathering import Gathering
from telecast.supervision.line import Line
from telecast.supervision.orders import Abort, End, Finish, Kill, Order, Say, Serving, Start
from telecast.watch.notify import Notifier

log = logging.getLogger(__name__)
decided = logging.getLogger("telecast.supervision.crew")

SILENT_SECONDS = 30.0
"""How long a worker may give no sign of life, where no supervisor says another time."""
BETWEEN_SECONDS = 10.0
"""Between two reports that nobody asked for: what a killed worker counted is lost for no longer."""
LONGEST_LINE = 2**20
BEYOND_SECONDS = 20.0
"""How long a worker may take to end beside its drain: its journal is closed, and synced."""
END_SECONDS = 2.0
"""How long the last words of a worker that has ended are waited for."""
MOST_TRACE = 200
"""Lines of where a worker stood that go into the log."""

Reread = Callable[[Settings, bool], Settings]
"""The settings that hold after they were read again; the flag: for a rolling restart. It logs what
changed, and raises SettingsError."""


@dataclass(slots=True, eq=False)
class _Life:
    """One life of a worker's process."""

    number: int
    line: Line
    process: asyncio.subprocess.Process
    reload_owed: bool = False
    trace: list[str] | None = None
    """Where it stands, line by line; None until it was asked."""


class Parent:
    """The caller holds the port.

    `command` starts a worker, with `--as-worker NUMBER` behind it, in `environment`.
    """

    def __init__(
        self,
        settings: Settings,
        command: Sequence[str],
        *,
        reread: Reread,
        notifier: Notifier,
        watchdog: float | None,
        silent: float = SILENT_SECONDS,
        environment: dict[str, str],
    ) -> None:
        self._settings = settings
        self._command = command
        self._reread = reread
        self._notifier = notifier
        self._environment = environment
        self._crew = Crew(
            settings.workers,
            settings.drain_notice + settings.drain_seconds + BEYOND_SECONDS,
            watchdog or silent,
        )
        self._gathering = Gathering(self._lines, self._counts)
        self._lives: dict[int, _Life] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._finish: asyncio.Future[Finish] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._going = False

    async def run(self, serving: Callable[[], None]) -> Finish:
        """Until all workers are gone. `serving` is called when all are up for the first time."""
        self._serving = serving
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._asked_to_end)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._loop.add_signal_handler(signal.SIGUSR2, self._roll)
        beside = [
            self._loop.create_task(self._gather_now_and_then()),
            self._loop.create_task(self._watch()),
        ]
        try:
            self._do(self._crew.due(self._loop.time()))
            return await self._finish
        finally:
            for task in (*beside, *self._tasks):
                task.cancel()
            self._gathering.end()
            for life in self._lives.values():
                with contextlib.suppress(ProcessLookupError):
                    life.process.kill()

    # --- what is decided is done

    def _do(self, orders: Iterable[Order]) -> None:
        for order in orders:
            match order:
                case Start():
                    self._begin(self._live(order.number))
                case End():
                    self._end(order)
                case Kill():
                    if (life := self._lives.get(order.number)) is not None:
                        _signal(life, signal.SIGKILL)
                case Abort():
                    if (life := self._lives.get(order.number)) is not None:
                        life.trace = []
                        _signal(life, signal.SIGABRT)
                case Serving():
                    self._serving()
                    self._notifier.say("READY=1")
                    self._begin(self._notifier.beat())
                case Say():
                    decided.log(order.level, order.event, extra=dict(order.fields))
                case Finish():
                    if not self._finish.done():
                        self._finish.set_result(order)
        if self._timer is not None:
            self._timer.cancel()
        due = self._crew.next_due()
        self._timer = None if due is None else self._loop.call_at(due, self._due)

    def _due(self) -> None:
        self._do(self._crew.due(self._loop.time()))

    def _begin(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self, order: End) -> None:
        life = self._lives.get(order.number)
        if life is None:
            return  # its process is being made: `_live` looks
        # No signal: systemd sends SIGTERM to all processes itself, and a second one means haste.
        self._begin(life.line.send({"leave": True, "notice": order.notice}))

    # --- signals

    def _asked_to_end(self) -> None:
        if self._going:
            log.warning("asked again: not waiting any more")
            for life in self._lives.values():
                _signal(life, signal.SIGKILL)
            logs.flush()
            os._exit(1)
        self._going = True
        log.info("all workers go down")
        self._notifier.say("STOPPING=1")
        self._do(self._crew.stop(self._loop.time()))

    def _take(self, *, rolling: bool) -> bool:
        try:
            self._settings = self._reread(self._settings, rolling)
        except SettingsError as fault:
            log.error(  # noqa: TRY400
                "settings not read again", extra={"problems": fault.problems}
            )
            return False
        logging.getLogger().setLevel(self._settings.log_level.upper())
        return True

    def _reload(self) -> None:
        """Once here, so that a mistake is said once; then in each worker."""
        if not self._take(rolling=False):
            return
        for life in self._lives.values():
            if self._crew.state(life.number) is State.UP:
                _signal(life, signal.SIGHUP)
            else:
                life.reload_owed = True

    def _roll(self) -> None:
        if self._take(rolling=True):
            self._do(self._crew.roll(self._loop.time()))

    # --- one worker

    async def _live(self, number: int) -> None:
        """From its start to its end."""
        ours, theirs = socket.socketpair()
        status = 1
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                "--as-worker",
                str(number),
                stdin=theirs.fileno(),
                stderr=asyncio.subprocess.PIPE,
                env=self._environment,
                # Ctrl-C in a terminal is for the parent, which asks each worker once.
                process_group=0,
            )
        except OSError as fault:
            theirs.close()
            ours.close()
            self._crew.refused(number, [f"A worker can't be started: {fault.strerror}."])
        else:
            theirs.close()  # else its end would never be read
            life = _Life(number, Line(ours), process)
            self._lives[number] = life
            try:
                status = await self._follow(life)
            finally:
                del self._lives[number]
                life.line.close()
        self._gathering.ended(number)
        self._do(self._crew.ended(number, status, self._loop.time()))

    async def _follow(self, life: _Life) -> int:
        beat = self._crew.every / 2
        await life.line.send({"settings": as_plain(self._settings), "beat": beat})
        if self._crew.state(life.number) is State.LEAVING:  # it was asked to go meanwhile
            await life.line.send({"leave": True, "notice": False})
        assert life.process.stderr is not None
        reading = [
            self._loop.create_task(_pass_on(life, life.process.stderr)),
            self._loop.create_task(self._listen(life)),
        ]
        try:
            status = await life.process.wait()
            await asyncio.wait(reading, timeout=END_SECONDS)
        finally:
            for task in reading:
                task.cancel()
        if life.trace:
            log.error(
                "where the loop of a worker stood",
                extra={"worker": life.number, "trace": life.trace},
            )
        return status

    async def _listen(self, life: _Life) -> None:
        async for message in life.line.messages():
            self._crew.sign(life.number, self._loop.time())
            if "up" in message:
                self._do(self._crew.up(life.number, self._loop.time(), life.process.pid))
                if life.reload_owed:
                    life.reload_owed = False
                    _signal(life, signal.SIGHUP)
            elif "refused" in message:
                self._crew.refused(life.number, message["refused"])
            elif "given" in message:
                self._gathering.take(life.number, message["families"])
            elif "join" in message:
                self._begin(self._join(life))

    async def _watch(self) -> None:
        """Have the crew look for workers that hang, as systemd would for the service."""
        while True:
            await asyncio.sleep(self._crew.every)
            self._do(self._crew.look(self._loop.time()))

    # --- metrics

    async def _join(self, life: _Life) -> None:
        families = [each.as_json() for each in await self._gathering.joined()]
        await life.line.send({"joined": families})

    async def _gather_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(BETWEEN_SECONDS)
            await self._gathering.gather()

    def _lines(self) -> dict[int, Line]:
        serving = (State.UP, State.LEAVING)
        return {n: life.line for n, life in self._lives.items() if self._crew.state(n) in serving}

    def _counts(self) -> dict[str, float]:
        """What the parent alone has counted."""
        return {
            "telecast_worker_restarts_total": self._crew.restarts,
            "telecast_worker_hangs_total": self._crew.hangs,
            "telecast_log_lines_dropped_total": logs.dropped(),
        }


def _signal(life: _Life, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        life.process.send_signal(number)


async def _pass_on(life: _Life, stream: asyncio.StreamReader) -> None:
    """A worker's lines into the one log, whole; what it says of where it stands is kept."""
    read = b""
    while data := await stream.read(65_536):
        *lines, read = (read + data).split(b"\n")
        for line in lines:
            _take_line(life, line)
        if len(read) > LONGEST_LINE:
            _take_line(life, read)
            read = b""
    if read:
        _take_line(life, read)


def _take_line(life: _Life, read: bytes) -> None:
    line = read.decode(errors="replace")
    if life.trace is None or line.startswith("{"):
        logs.pass_on(line)
    elif line.strip() and len(life.trace) < MOST_TRACE:
        life.trace.append(line.strip())
