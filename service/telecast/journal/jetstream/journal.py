"""A journal on a log: what commits is what the log orders, judged alike on every node."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum, auto

from telecast.errors import JournalCorrupt, JournalFull, JournalUnavailable, TelecastError
from telecast.journal.answers import answer
from telecast.journal.base import (
    Batch,
    KeyLimits,
    LogPlace,
    Receipt,
)
from telecast.journal.group import check
from telecast.journal.jetstream.applier import (
    Applier,
    Due,
    Failed,
    Full,
    Gone,
    Opened,
    Report,
    Step,
)
from telecast.journal.jetstream.checkpoints.keeper import Keeper
from telecast.journal.jetstream.checkpoints.newest import Fetching
from telecast.journal.jetstream.copy import reached
from telecast.journal.jetstream.log import Extent, Log, Logged
from telecast.journal.jetstream.place import Place
from telecast.journal.jetstream.sender import Sender
from telecast.journal.sqlite.reading import StoredJournal
from telecast.model import Retention

log = logging.getLogger(__name__)

DOUBT_SECONDS = 12.0
"""How long a log that seems to have lost its end is asked again: a leader that woke up may answer
from what it knew before it slept."""
AHEAD = 1024
"""Messages that wait for the copy's thread at the most."""
CLOSE_SECONDS = 5.0
CHECKPOINT_BYTES = 64 * 2**20
BESIDE_EVENTS = 4096
"""What a message holds beside the events of one change, at the most."""


class _State(Enum):
    NEW = auto()
    OPENING = auto()
    OPEN = auto()
    FAILED = auto()
    CLOSING = auto()
    CLOSED = auto()


_MOVES = {
    _State.NEW: {_State.OPENING},
    _State.OPENING: {_State.OPEN, _State.FAILED, _State.CLOSING},
    _State.OPEN: {_State.FAILED, _State.CLOSING},
    _State.FAILED: {_State.CLOSING},
    _State.CLOSING: {_State.CLOSED},
    _State.CLOSED: set[_State](),
}


class JetStreamJournal(StoredJournal):
    """Keeps the whole contract, on any number of nodes: a receipt is given once this node has
    judged the batch at its place in the log.

    `head` and `floors()` change on the loop only. An instance is opened once.
    """

    shared = True

    def __init__(
        self,
        log: Log,
        copy: str | os.PathLike[str],
        retention: Mapping[str, Retention],
        *,
        now: Callable[[], float],
        limits: KeyLimits | None = None,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
        largest_event: int = 0,
    ) -> None:
        """`copy` is the path of this node's own database. `now` counts where the log's time is not
        known, and says when to ask for a trim: what goes is judged by the log's time. A checkpoint
        is made every so many bytes.
        A message must hold the `largest_event` twice: as it was, taken away, and as it is."""
        super().__init__(copy)
        self._least = 2 * largest_event + BESIDE_EVENTS
        self._log = log
        self._retention = dict(retention)
        self._now = now
        self._state = _State.NEW
        self._why = "The journal is not open."
        self._full: str | None = None
        """Why the copy can't go on just now: it does by itself once there is space."""
        self._place = Place()
        self.peers = log.peers
        self._sender = Sender(log, lambda: self._place, limits or KeyLimits(), self._on_full)
        self._keeper = Keeper(self._path, log, self._sender, lambda: self._place, checkpoint_bytes)
        self._applier: Applier | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._moved = asyncio.Event()
        """Set whenever the copy has moved, or can't any more."""
        self._handed = 0
        """The sequence of the last message that the copy's thread was given."""
        self._opened: asyncio.Future[None]
        self._gone: asyncio.Future[None]

    # --- opening and closing

    async def open(self) -> None:
        self._move(_State.OPENING, "The journal is not open yet.")
        loop = asyncio.get_running_loop()
        self._opened, self._gone = loop.create_future(), loop.create_future()
        try:
            self._check_folder()
            await self._log.open()
            self._check_payload()
            fetching = Fetching(self._log, self._path)
            try:
                await self._open_copy(loop, await self._fetched(fetching))
            finally:
                await asyncio.to_thread(fetching.clear)
            extent = await self._checked(fetching)
            self._tasks.append(asyncio.create_task(self._follow()))
            await self._reached(extent.last)
        except BaseException:
            await self.close()
            raise
        self._move(_State.OPEN)
        self._tasks.append(asyncio.create_task(self._sender.run()))
        self._tasks.append(asyncio.create_task(self._keeper.run()))

    def _check_folder(self) -> None:
        folder = os.path.dirname(os.path.abspath(self._path))
        if not os.path.isdir(folder):
            raise JournalUnavailable(
                f"There is no folder {folder} for this node's copy of the log: make it, or name "
                "another place (journal_copy)."
            )

    def _check_payload(self) -> None:
        if self._log.most_bytes < self._least:
            raise JournalUnavailable(
                f"A message of the log holds {self._log.most_bytes:,} bytes, and the largest event "
                f"with what belongs to it takes {self._least:,}: raise `max_payload` of the NATS "
                "servers (8 MB is a good value), or lower max_event_bytes."
            )

    async def _fetched(self, fetching: Fetching) -> str | None:
        """A checkpoint to begin with, where the copy is missing or older than the log."""
        extent = await self._log.extent()
        applied = await asyncio.to_thread(reached, self._path, self._log.life)
        if applied is None or (applied and applied + 1 >= extent.first):
            return None
        return await fetching.fetch_current(applied)

    async def _open_copy(self, loop: asyncio.AbstractEventLoop, fetched: str | None) -> None:
        self._applier = Applier(
            self._path,
            self._log.life,
            self._log.epoch,
            self._retention,
            fetched=fetched,
            loop=loop,
            report=self._on_report,
            release=self._reading.release,
        )
        self._applier.start()
        with self._courtesy.shown():
            await self._opened

    async def _checked(self, fetching: Fetching) -> Extent:
        """The log's extent, once it is sure that the copy is one of this very log."""
        applied, deadline = self._place.applied, asyncio.get_running_loop().time() + DOUBT_SECONDS
        while True:
            extent = await self._log.extent()
            if extent.last >= applied and await self._is_ours(extent):
                break
            if asyncio.get_running_loop().time() >= deadline:
                raise JournalCorrupt(
                    f"The log ends at message {extent.last} or has other messages than before; "
                    f"the copy {self._path} is at {applied}. The log has lost its end, or was put "
                    "back from a backup. If the log is to be kept as it is, move the copies of all "
                    "nodes away: they are made anew from it."
                )
            await asyncio.sleep(0.5)
        if extent.first > applied + 1:
            raise JournalCorrupt(
                f"The log begins at message {extent.first}, the copy {self._path} ends at "
                f"{applied}, and no checkpoint leads from there "
                f"({'; '.join(fetching.reasons) or 'there is none'}). If the stream was put back "
                "from a backup: `telecast journal restored nats://...`. Else begin a new one with "
                "a copy of another node (`telecast journal backup`, `restored`, then `move`)."
            )
        return extent

    async def _is_ours(self, extent: Extent) -> bool:
        """Whether the last message that was applied is still the one in its place."""
        applied = self._place.applied
        if applied < extent.first:
            return True
        found = await self._log.timestamp_of(applied)
        # The copy's times never fall, so its own is the message's or a later one.
        return found is not None and found <= self._place.timestamp

    async def _reached(self, sequence: int) -> None:
        while self._place.applied < sequence:
            self._moved.clear()
            if self._state is _State.FAILED:
                raise JournalUnavailable(self._why)
            await self._moved.wait()

    async def close(self) -> None:
        if self._state is _State.NEW:
            return
        if self._state not in (_State.CLOSING, _State.CLOSED):
            await self._let_go()
        await asyncio.shield(self._gone)
        self._end()

    async def _let_go(self) -> None:
        opened = self._state is _State.OPEN
        self._move(_State.CLOSING, "The journal is closed.")
        if opened:
            # What is under way is finished; where the log is away, that can't be waited for.
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    while not self._sender.idle:
                        self._moved.clear()
                        await self._moved.wait()
        self._sender.end(self._why)
        # Before the tasks are cancelled: nats-py may swallow a cancellation while it waits for an
        # answer, and what follows a log that is closed ends by itself.
        await self._log.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._applier is not None:
            self._applier.stop()
        else:
            self._reading.release()
            self._on_gone(Gone())

    def _move(self, state: _State, why: str = "") -> None:
        if state not in _MOVES[self._state]:
            raise AssertionError(f"{self._state} -> {state}")
        self._state, self._why = state, why
        self._moved.set()

    def _fail(self, fault: TelecastError) -> None:
        if self._state in (_State.OPENING, _State.OPEN):
            log.critical("the journal takes nothing any more", extra={"reason": fault.message})
            self._move(_State.FAILED, fault.message)
        self._sender.end(fault.message)
        self._tail.end(fault)

    # --- the log, applied

    async def _follow(self) -> None:
        assert self._applier is not None
        try:
            async for logged in self._log.follow(self._place.applied):
                await self._hand_on(self._applier, logged)
        except TelecastError as fault:
            self._fail(fault)

    async def _hand_on(self, applier: Applier, logged: tuple[Logged, ...]) -> None:
        applier.put(logged)
        self._handed = logged[-1].sequence
        while self._handed - self._place.applied > AHEAD and self._state is not _State.FAILED:
            self._moved.clear()
            await self._moved.wait()

    def _on_report(self, report: Report) -> None:
        match report:
            case Opened():
                self.epoch, self.head, self._floors = report.epoch, report.head, report.floors
                self._place = report.place
                self._keeper.seen(report.marks, report.figures.file_bytes)
                if not self._opened.done():
                    self._opened.set_result(None)
            case Step():
                self._on_step(report)
            case Full():
                self._on_no_space(report.fault)
            case Failed():
                self._fail(report.fault)
            case Gone():
                self._on_gone(report)

    def _on_no_space(self, fault: TelecastError) -> None:
        if self._full is None:
            log.critical("the copy can't go on for now", extra={"reason": fault.message})
        self._full = fault.message

    def _on_step(self, step: Step) -> None:
        if self._full is not None:
            log.warning("the copy goes on")
            self._full = None
        self._floors, self._figures = step.floors, step.figures
        for applied in step.applied:
            self.head, self._place = applied.head, applied.place
            self._tail.add(applied.entries)
            self.books.committed(applied.notes)
            self._sender.judged(applied)
        self._keeper.seen(step.marks, step.figures.file_bytes)
        self._moved.set()

    def _on_full(self) -> None:
        self._keeper.full()

    def _on_gone(self, report: Gone) -> None:
        if not self._opened.done():
            fault = report.fault or JournalUnavailable("The copy was closed.")
            self._opened.set_exception(fault)
            self._opened.exception()  # where the opening failed before, nobody asks
        elif self._state is not _State.CLOSING:  # its thread has died
            self._fail(JournalUnavailable("The copy's thread has ended: restart the service."))
        for due in self._applier.left() if self._applier is not None else ():
            answer(due.answer, JournalUnavailable(self._why))
        self._gone.set_result(None)
        self._end()

    def _end(self) -> None:
        if self._state is _State.CLOSING and self._gone.done():
            self._move(_State.CLOSED, self._why)
            self._tail.end()

    # --- the contract

    async def append(self, batch: Batch) -> Receipt:
        check(batch)
        if self._state is not _State.OPEN:
            raise JournalUnavailable(self._why)
        if self._full is not None:
            raise JournalFull(self._full)
        with self._courtesy.shown():
            return await asyncio.shield(self._sender.put(batch))

    async def trim(self, retention: Mapping[str, Retention] | None = None) -> int:
        if self._state is not _State.OPEN or self._applier is None:
            raise JournalUnavailable(self._why)
        if self._full is not None:
            raise JournalFull(self._full)
        if retention is not None:
            return await asyncio.shield(self._sender.trim(retention))
        due: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._applier.put(Due(self._now(), due))
        if not await due:
            return 0
        return await asyncio.shield(self._sender.trim(self._retention))

    def _unreadable(self) -> str | None:
        shut = self._state in (_State.NEW, _State.CLOSING, _State.CLOSED)
        return self._why if shut else None

    def _on_damage(self, damage: JournalCorrupt) -> None:
        self._fail(damage)

    def now(self) -> float:
        found = self._log.now()
        return self._now() if found is None else found

    def place(self) -> LogPlace:
        sequence = self._place.applied
        return LogPlace(sequence, max(0, self._log.known_end() - sequence))

    def failure(self) -> str | None:
        if self._state is not _State.OPEN:
            return self._why
        return self._full or self._log.away()
