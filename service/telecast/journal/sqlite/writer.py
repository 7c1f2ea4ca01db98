"""The thread that writes: it takes what waits, commits it as one group, and reports once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from threading import Thread

from telecast.errors import JournalUnavailable, TelecastError
from telecast.journal.ageing import Ageing, Times
from telecast.journal.base import Batch, Figures, KeyLimits, Note, Receipt
from telecast.journal.books import notes_of
from telecast.journal.sqlite.lock import FileLock
from telecast.journal.sqlite.store import Store
from telecast.model import Entry, Floor, Retention

log = logging.getLogger(__name__)

GROUP_RECORDS = 4096
"""Records in one group commit: some 25 ms of the writer, which the next group waits for."""
LOOK_SECONDS = 1.0
"""Between two looks at whether the files are still where they were."""
GROUP_BYTES = 8 * 2**20
"""Payload in one group commit: it is held three times over while it is written."""


@dataclass(frozen=True, slots=True, eq=False)
class Append:
    batch: Batch
    answer: asyncio.Future[Receipt]


@dataclass(frozen=True, slots=True, eq=False)
class Trim:
    answer: asyncio.Future[int]
    retention: Mapping[str, Retention] | None = None


Answers = Sequence[tuple[asyncio.Future[Receipt], Receipt | Exception]]


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    epoch: str
    head: int
    floors: Mapping[str, Floor]


@dataclass(frozen=True, slots=True, eq=False)
class Committed:
    """A group was judged, and what it accepted (`entries`) is durable."""

    answers: Answers
    entries: tuple[Entry, ...]
    notes: tuple[Note, ...]
    head: int
    full: str | None
    failed: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Trimmed:
    answer: asyncio.Future[int]
    outcome: int | Exception
    floors: Mapping[str, Floor]
    full: str | None
    failed: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Gone:
    """The file is closed and unlocked; `fault` says why it could not even be opened."""

    fault: Exception | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """The files were looked at; `failed` says that one is not where it was."""

    figures: Figures
    full: str | None
    failed: str | None


Report = Looked | Opened | Committed | Trimmed | Gone


class Writer:
    """Owns the file from `start` until `stop`, and everything that blocks.

    `report` is called on `loop`: first with Opened, or at once with Gone; then once per group
    and per trim; last with Gone. `release` is called in the thread before the file is closed.
    """

    def __init__(
        self,
        path: str,
        retention: Mapping[str, Retention],
        *,
        name: str,
        now: Callable[[], float],
        elapsed: Callable[[], float],
        limits: KeyLimits,
        loop: asyncio.AbstractEventLoop,
        report: Callable[[Report], None],
        release: Callable[[], None],
    ) -> None:
        self._path = path
        self._retention = retention
        self._name = name
        self._now = now
        self._elapsed = elapsed
        self._limits = limits
        self._ageing = Ageing()
        self._looked = 0.0
        self._loop = loop
        self._report = report
        self._release = release
        # Not bounded here: ingress bounds what it lets in, by count and by bytes.
        self._jobs: SimpleQueue[Append | Trim | None] = SimpleQueue()
        self._held: deque[Append | Trim | None] = deque(maxlen=1)
        # A daemon, so that a service that dies without closing its journal does die.
        self._thread = Thread(target=self._run, name="journal-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, job: Append | Trim) -> None:
        """Have it done after all that was put before. Never blocks."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Finish what was put, then let go of the file."""
        self._jobs.put(None)

    def left(self) -> Iterator[Append | Trim]:
        """What was put and not begun. To be called on the loop, after Gone."""
        while self._held or not self._jobs.empty():
            job = self._held.popleft() if self._held else self._jobs.get_nowait()
            if job is not None:
                yield job

    def _send(self, report: Report) -> None:
        try:
            self._loop.call_soon_threadsafe(self._report, report)
        except RuntimeError:
            log.debug("the loop ended before its journal was closed")

    def _run(self) -> None:
        try:
            lock = FileLock(self._path)
        except TelecastError as fault:
            self._send(Gone(fault))
            return
        try:
            lock.hold()
            store = Store(self._path, self._retention, name=self._name, limits=self._limits)
            lock.hold()
        except Exception as fault:
            lock.release()
            self._send(Gone(fault))
            return
        self._ageing.start(
            self._now(),
            self._elapsed(),
            None if store.newest is None else store.newest / 1000,
        )
        self._send(Opened(store.epoch, store.head, store.floors()))
        try:
            self._serve(store)
        except Exception:
            log.critical("the journal's writer has died", exc_info=True)
        finally:
            self._release()
            store.close()
            lock.release()
            self._send(Gone())

    def _serve(self, store: Store) -> None:
        while (job := self._next(store)) is not None:
            if isinstance(job, Trim):
                self._send(self._trim(store, job))
            else:
                self._send(self._commit(store, self._gather(job)))

    def _next(self, store: Store) -> Append | Trim | None:
        """Waits for it, and looks at the files meanwhile and before it is done."""
        while True:
            if not self._held:
                with suppress(Empty):
                    self._held.append(self._jobs.get(timeout=LOOK_SECONDS))
            if time.monotonic() - self._looked >= LOOK_SECONDS:
                self._look(store)  # nothing is acknowledged in a file that is gone
            if self._held:
                return self._held.popleft()

    def _look(self, store: Store) -> None:
        store.look()
        self._looked = time.monotonic()
        figures = replace(store.figures(), clock_jumps=self._ageing.jumps)
        self._send(Looked(figures, store.full, store.failed))

    def _times(self) -> Times:
        return self._ageing.at(self._now(), self._elapsed())

    def _gather(self, first: Append) -> list[Append]:
        """The appends that wait now, as far as they fit into a group."""
        jobs = [first]
        records, size = _measure(first.batch)
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return jobs
            if isinstance(job, Append):
                more, bigger = _measure(job.batch)
                records, size = records + more, size + bigger
                if records <= GROUP_RECORDS and size <= GROUP_BYTES:
                    jobs.append(job)
                    continue
            self._held.append(job)
            return jobs

    def _commit(self, store: Store, jobs: list[Append]) -> Committed:
        answers: list[tuple[asyncio.Future[Receipt], Receipt | Exception]] = []
        entries: tuple[Entry, ...] = ()
        notes: tuple[Note, ...] = ()
        try:
            group = store.group([job.batch for job in jobs], self._times())
            for job in jobs:
                try:
                    answers.append((job.answer, group.add(job.batch)))
                except TelecastError as refusal:
                    answers.append((job.answer, refusal))
            entries = tuple(group.entries)
            store.commit(group)
            notes = notes_of(group.notes.items())
        except Exception as error:
            # Refusals fall too: they may rest on a batch of the group that is not there.
            faults = [_fault(store, error) for _ in jobs]
            answers = [(job.answer, fault) for job, fault in zip(jobs, faults, strict=True)]
            entries = ()
        return Committed(answers, entries, notes, store.head, store.full, store.failed)

    def _trim(self, store: Store, job: Trim) -> Trimmed:
        outcome: int | Exception
        try:
            outcome = store.trim(self._times().before, job.retention)
        except Exception as error:
            outcome = _fault(store, error)
        return Trimmed(job.answer, outcome, store.floors(), store.full, store.failed)


def _measure(batch: Batch) -> tuple[int, int]:
    size = sum([len(record.data) for record in batch.records])
    if batch.notes:
        size += sum([len(note.value or b"") for note in batch.notes])
    return len(batch.records) + len(batch.notes), size


def _fault(store: Store, error: Exception) -> Exception:
    """One exception per caller: raised in many tasks, one would gather all their tracebacks."""
    if isinstance(error, JournalUnavailable):
        fault = type(error)(error.message, outcome_unknown=error.outcome_unknown)
        fault.__cause__ = error.__cause__
        return fault
    if store.failed is None:
        log.error("a fault in the code of the journal's writer", exc_info=error)
        store.failed = f"The journal failed ({error!r}): restart the service, and report this."
    return JournalUnavailable(store.failed, outcome_unknown=True)
