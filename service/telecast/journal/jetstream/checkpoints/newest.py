"""Fetches the newest checkpoint that is good, for a node without a copy or with one too old."""

from __future__ import annotations

import asyncio
import logging
import os

from telecast.errors import JournalCorrupt, JournalFull, JournalUnavailable
from telecast.journal.jetstream.checkpoints.file import new_file, remove, verify
from telecast.journal.jetstream.checkpoints.shelf import Checkpoint, Shelf
from telecast.journal.jetstream.log import Extent, Log

log = logging.getLogger(__name__)

TRIES = 5
AGAIN_SECONDS = 0.2
"""Between two tries, where what was found has gone meanwhile."""


class Fetching:
    """One attempt at a start. `reasons` say what was wrong with those that were passed over."""

    def __init__(self, log: Log, path: str) -> None:
        """`path` is the copy's: the checkpoint is written beside it."""
        self._log = log
        self._path = path
        self._draft = f"{path}.{os.getpid()}.fetched"
        self.reasons: list[str] = []
        self._away = False
        """Whether one could not be fetched just now, and may be good."""
        self.used: Checkpoint | None = None

    async def fetch_current(self, applied: int) -> str | None:
        """As `fetch`, for this log as it is once that is done: other nodes may make newer ones in
        the meantime, remove those that were found, and trim the log behind them."""
        for _ in range(TRIES):
            self.reasons.clear()
            extent = await self._log.extent()
            fetched = await self.fetch(extent, applied)
            reached = applied if self.used is None else self.used.sequence
            first = (await self._log.extent()).first
            changed = self.reasons or first != extent.first
            if reached + 1 >= first or not changed:
                break
            log.info("the log was trimmed meanwhile: looking for a newer checkpoint")
            await asyncio.sleep(AGAIN_SECONDS)
        return fetched

    async def fetch(self, extent: Extent, beyond: int, *, earlier_life: bool = False) -> str | None:
        """The path of the newest good one that covers more than `beyond`, and from whose end the
        log goes on; None where there is none. Of this log's life, or of any earlier one. Raises
        JournalUnavailable."""
        shelf = self._log.shelf
        self.used = None
        await asyncio.to_thread(_tidy, self._path)
        for checkpoint in await shelf.found():
            wrong = self._unfit(checkpoint, extent, beyond, earlier_life)
            if wrong is None:
                wrong = await self._try(shelf, checkpoint)
            if wrong is None:
                self.used = checkpoint
                log.info(
                    "the copy begins with a checkpoint",
                    extra={"checkpoint": checkpoint.name, "bytes": checkpoint.size},
                )
                return self._draft
            self.reasons.append(f"checkpoint {checkpoint.name}: {wrong}")
            log.warning(
                "a checkpoint is passed over",
                extra={"checkpoint": checkpoint.name, "reason": wrong},
            )
        if self._away and extent.first > beyond + 1:
            # Not that there is none: who believed that would begin the log anew.
            raise JournalUnavailable(
                f"{self._path} needs a checkpoint to begin with, and none could be fetched just "
                f"now ({'; '.join(self.reasons)}). Start this node again."
            )
        return None

    def _unfit(
        self, checkpoint: Checkpoint, extent: Extent, beyond: int, earlier_life: bool
    ) -> str | None:
        life = (self._log.life, self._log.epoch)
        if (checkpoint.life, checkpoint.epoch) != life and not earlier_life:
            return "it is of another log, or of this one before it was made anew or restored"
        if checkpoint.sequence > extent.last:
            return f"it ends at message {checkpoint.sequence}, beyond the log's {extent.last}"
        if checkpoint.sequence + 1 < extent.first:
            return f"it ends at message {checkpoint.sequence}, and the log begins later"
        if checkpoint.sequence <= beyond:
            return "the copy is not older"
        return None

    async def _try(self, shelf: Shelf, checkpoint: Checkpoint) -> str | None:
        try:
            await asyncio.to_thread(new_file, self._draft)
            await shelf.get(checkpoint, self._draft)
            await asyncio.to_thread(verify, self._draft, checkpoint)
        except JournalFull as full:
            await asyncio.to_thread(remove, self._draft)
            raise JournalFull(
                f"There is no space beside {self._path} for a checkpoint of {checkpoint.size:,} "
                "bytes: free some, then start this node again."
            ) from full
        except (JournalCorrupt, JournalUnavailable) as fault:
            self._away = self._away or isinstance(fault, JournalUnavailable)
            await asyncio.to_thread(remove, self._draft)
            return fault.message
        return None

    def clear(self) -> None:
        """Remove what was fetched and not used. Safe to call twice."""
        remove(self._draft)


def _tidy(path: str) -> None:
    """Remove what processes that were killed had fetched for this copy."""
    folder, name = os.path.split(os.path.abspath(path))
    for found in os.listdir(folder):
        before, _, pid = found.removesuffix(".fetched").rpartition(".")
        if found.endswith(".fetched") and before == name and pid.isdecimal() and _is_gone(int(pid)):
            remove(os.path.join(folder, found))


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
