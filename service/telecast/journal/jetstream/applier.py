"""The thread that applies the log's messages to this node's copy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread

from telecast.errors import JournalFull, JournalUnavailable, TelecastError
from telecast.journal.answers import answer
from telecast.journal.base import Figures
from telecast.journal.jetstream.checkpoints.marks import Marks
from telecast.journal.jetstream.copy import Applied, Copy, install
from telecast.journal.jetstream.log import Logged
from telecast.journal.jetstream.place import Place
from telecast.journal.sqlite.lock import FileLock
from telecast.model import Floor, Retention

log = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
"""Between two attempts to write where the disk has no space."""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    epoch: str
    place: Place
    head: int
    floors: Mapping[str, Floor]
    figures: Figures
    marks: Marks


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Messages that were applied in one transaction."""

    applied: Sequence[Applied]
    floors: Mapping[str, Floor]
    figures: Figures
    marks: Marks


@dataclass(frozen=True, slots=True, eq=False)
class Due:
    """Whether a trim at this moment would take anything away."""

    now: float
    answer: asyncio.Future[bool]


@dataclass(frozen=True, slots=True, eq=False)
class Gone:
    """The copy is closed and unlocked; `fault` says why it could not even be opened."""

    fault: TelecastError | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Full:
    """The disk has no space for what comes next; it is tried again until there is some."""

    fault: TelecastError


@dataclass(frozen=True, slots=True, eq=False)
class Failed:
    """Nothing more is applied. What is there can be read until the end."""

    fault: TelecastError


Report = Opened | Step | Full | Failed | Gone


class Applier:
    """Owns the copy's thread from `start` until `stop`.

    `report` is called on `loop`: first with Opened, or at once with Gone; then once per step; last
    with Gone. `release` is called in the thread before the file is closed. A checkpoint that was
    `fetched` takes the copy's place first.
    """

    def __init__(
        self,
        path: str,
        life: str,
        epoch: str,
        retention: Mapping[str, Retention],
        *,
        fetched: str | None,
        loop: asyncio.AbstractEventLoop,
        report: Callable[[Report], None],
        release: Callable[[], None],
    ) -> None:
        self._path = path
        self._life = life
        self._epoch = epoch
        self._fetched = fetched
        self._retention = retention
        self._loop = loop
        self._report = report
        self._release = release
        self._jobs: SimpleQueue[Sequence[Logged] | Due | None] = SimpleQueue()
        self._ending = Event()
        self._thread = Thread(target=self._run, name="journal-copy", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, job: Sequence[Logged] | Due) -> None:
        """Have it done after all that was put before. Never blocks; the caller bounds it."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Finish what was put, as far as there is space for it, then let go of the file."""
        self._ending.set()
        self._jobs.put(None)

    def left(self) -> Iterator[Due]:
        """Questions that were put and not answered. To be called on the loop, after Gone."""
        while not self._jobs.empty():
            if isinstance(job := self._jobs.get_nowait(), Due):
                yield job

    def _send(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            log.debug("the loop ended before its journal was closed")

    def _run(self) -> None:
        try:
            lock = FileLock(self._path)
        except TelecastError as fault:
            self._send(self._report, Gone(fault))
            return
        try:
            if self._fetched is not None:
                install(self._path, self._fetched)
            copy = Copy(self._path, self._life, self._epoch, self._retention)
        except Exception as error:
            lock.release()
            self._send(self._report, Gone(self._explained(error)))
            return
        store = copy.store
        known = (store.epoch, copy.place, store.head, store.floors())
        self._send(self._report, Opened(*known, copy.figures(), copy.marks))
        try:
            self._serve(copy)
        except Exception:
            log.critical("the copy's thread has died", exc_info=True)
        finally:
            self._release()
            try:
                copy.close()
            except Exception:
                # It is not said to be whole: after a crash of the machine it is made anew.
                log.warning("the copy could not be synced at its end", exc_info=True)
            lock.release()
            self._send(self._report, Gone())

    def _serve(self, copy: Copy) -> None:
        failed = False
        while (job := self._jobs.get()) is not None:
            if isinstance(job, Due):
                self._send(answer, job.answer, False if failed else self._due(copy, job.now))
            elif not failed:
                report = self._applied(copy, job)
                self._send(self._report, report)
                while isinstance(report, Full) and not self._ending.wait(AGAIN_SECONDS):
                    report = self._applied(copy, job, again=True)
                    self._send(self._report, report)
                failed = not isinstance(report, Step)

    def _applied(
        self, copy: Copy, logged: Sequence[Logged], *, again: bool = False
    ) -> Step | Full | Failed:
        try:
            if again:
                copy.open_again()
            applied = copy.apply(logged)
            return Step(applied, copy.store.floors(), copy.figures(), copy.marks)
        except JournalFull as full:
            return Full(full)
        except Exception as error:
            return Failed(self._explained(error))

    def _due(self, copy: Copy, now: float) -> bool | TelecastError:
        try:
            return copy.due(now)
        except Exception as error:
            return self._explained(error)

    def _explained(self, error: Exception) -> TelecastError:
        if isinstance(error, TelecastError):
            return error
        log.error("the copy's thread met a fault", exc_info=error)
        return JournalUnavailable(f"The copy {self._path} failed ({error!r}): restart.")
