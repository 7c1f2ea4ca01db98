"""Makes checkpoints when they are due, and removes what of the log they make needless.

What holds: the log is only trimmed up to a checkpoint that is kept whole, and, but for a log that
is full, only up to the one before it. So a node whose copy is a little older goes on without a
checkpoint, and one that finds the newest damaged goes on from the next. A crash between any two
steps leaves at worst a checkpoint that nobody has announced, which is as good as any, or messages
that are not needed any more: the next round removes both.

What would break it: to trim before the checkpoint is kept, or to take the checkpoint's place in the
log from anywhere but from itself. `tests/integration/cluster/test_checkpoints.py` shows it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from telecast.errors import JournalFull, TelecastError
from telecast.journal.jetstream.checkpoints.file import make, remove
from telecast.journal.jetstream.checkpoints.marks import Claim, Made, Marks
from telecast.journal.jetstream.checkpoints.shelf import Checkpoint
from telecast.journal.jetstream.log import Log
from telecast.journal.jetstream.place import Place
from telecast.journal.jetstream.sender import Sender

log = logging.getLogger(__name__)

KEPT = 2
"""Checkpoints that stay: the newest, and one for a node that finds it damaged."""
AGAIN_SECONDS = 60.0
"""After a checkpoint that failed, before the next try."""
FULL_SECONDS = 5.0
"""Between two attempts to make space in a full log."""


class Keeper:
    """`run` is its task, one per node. Which node makes the next checkpoint, the log says."""

    def __init__(
        self, path: str, log: Log, sender: Sender, place: Callable[[], Place], every: int
    ) -> None:
        """A checkpoint of the copy at `path` is due after `every` bytes of messages, or as many as
        the copy itself is large: so that it never costs more than what was published."""
        self._path = path
        self._draft = f"{path}.checkpoint"
        self._log = log
        self._sender = sender
        self._place = place
        self._every = every
        self._marks = Marks()
        self._size = 0
        self._is_full = False
        self._wake = asyncio.Event()

    def seen(self, marks: Marks, size: int) -> None:
        """What the log says by now, and how many bytes the copy has."""
        self._marks, self._size = marks, size
        if self._due():
            self._wake.set()

    def full(self) -> None:
        """The log takes no more."""
        self._is_full = True
        self._wake.set()

    def _due(self) -> bool:
        return self._marks.weight >= max(self._every, self._size) and self._marks.free(
            self._place().timestamp
        )

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                if self._is_full:
                    self._is_full = False
                    await self._make_space()
                    await asyncio.sleep(FULL_SECONDS)
                elif self._due():
                    await self._take_turn()
            except (TelecastError, OSError) as fault:
                log.warning("no checkpoint was made", extra={"reason": str(fault)})
                await self._paused()
            except Exception:
                # The log goes on without checkpoints for a while; that nobody knew would be worse.
                log.exception("a fault in the code that makes checkpoints")
                await self._paused()

    async def _paused(self) -> None:
        """Until it is time to try again; a full log does not wait."""
        self._wake.clear()
        try:
            async with asyncio.timeout(AGAIN_SECONDS):
                while not self._is_full:
                    await self._wake.wait()
                    self._wake.clear()
        except TimeoutError:
            pass
        self._wake.set()

    async def _take_turn(self) -> None:
        after = self._marks.name
        if await self._sender.mark(Claim(after)):
            await self._announce(after, await self._keep())

    async def _keep(self) -> Checkpoint:
        """Make a checkpoint and put it on the shelf."""
        try:
            checkpoint = await asyncio.to_thread(make, self._path, self._draft)
            await self._log.shelf.put(checkpoint, self._draft)
        finally:
            await asyncio.to_thread(remove, self._draft)
        return checkpoint

    async def _announce(self, after: str, made: Checkpoint) -> None:
        counts = await self._sender.mark(Made(after, made.name, made.sequence))
        log.info(
            "a checkpoint was made",
            extra={"checkpoint": made.name, "bytes": made.size, "first": counts},
        )
        await self._tidy(keep=KEPT)

    async def _tidy(self, *, keep: int) -> None:
        """Remove older checkpoints, then the messages that all that are left cover."""
        ours = await self._ours()
        if not ours:
            return
        await self._log.shelf.tidy([each.name for each in ours[:KEPT]])
        if len(ours) >= keep:
            await self._forget(ours[keep - 1])

    async def _ours(self) -> list[Checkpoint]:
        """The checkpoints of this very log, the newest first."""
        found = await self._log.shelf.found()
        return [each for each in found if each.life == self._log.life]

    async def _forget(self, oldest: Checkpoint) -> None:
        extent = await self._log.extent()
        if oldest.sequence < extent.first:
            return
        await self._log.forget(oldest.sequence)
        log.info(
            "the log was trimmed",
            extra={"first": oldest.sequence + 1, "messages": oldest.sequence + 1 - extent.first},
        )

    async def _make_space(self) -> None:
        """The log is full: only the newest checkpoint's messages go on being needed. It can't be
        announced before there is space."""
        ours = await self._ours()
        extent = await self._log.extent()
        if not ours or ours[0].sequence < extent.first:
            if self._place().applied < extent.first:
                return
            await self._keep()
        await self._tidy(keep=1)
        ours = await self._ours()
        if ours and ours[0].name != self._marks.name:
            try:
                await self._announce(self._marks.name, ours[0])
            except JournalFull:
                log.debug("another message was faster")
