"""Cuts the power of a recorded run at chosen moments, and looks at what a journal makes of it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from telecast.errors import TelecastError
from telecast.journal.base import Batch
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.model import Record
from tests.faults import writer
from tests.faults.disk import Disk, Remains
from tests.faults.writer import KEEP
from tests.integration.journal.journal_child import CHANNELS, numbered

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where images are looked at: each opening syncs several times, which takes no time there."""
WHOLE = CHANNELS[0]
"""The channel of which nothing is ever trimmed."""


@contextmanager
def writing(
    disk: Disk, first: int, last: int, manner: str = "well"
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that commits batches on the disk; killed at the end of the block if it lives."""
    process = subprocess.Popen(
        [sys.executable, writer.__file__, str(disk.files), str(first), str(last), manner],
        env={**os.environ, **disk.environment, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def written(disk: Disk, first: int, last: int, manner: str = "well") -> None:
    with writing(disk, first, last, manner) as process:
        assert process.wait(60) == 0


@dataclass(slots=True)
class Said:
    """What the world had been sent when the power went."""

    epoch: str | None = None
    reported: int = 0
    acknowledged: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)

    def hear(self, line: bytes) -> None:
        word, *more = json.loads(line)
        if word == "open":
            self.epoch, head = more
            self.refused.clear()  # they may be asked for again now
            self.reported = max(self.reported, head)
        elif word == "sent":
            self.reported = max(self.reported, more[0])
        elif word == "acknowledged":
            self.acknowledged.add(more[0])
        elif word == "refused":
            (self.unknown if more[1] else self.refused).add(more[0])


def said_so_far(disk: Disk) -> Said:
    said = Said()
    path = disk.files / "said"
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        if line.endswith(b"\n"):
            said.hear(line)
    return said


@dataclass(frozen=True, slots=True)
class Moment:
    """After so many operations; `seed` None: nothing (share 0) or all (1) of what was unsynced."""

    after: int
    seed: int | None
    share: float


def moments(first: int, last: int, count: int, seed: int) -> list[Moment]:
    """Anywhere between two operations; for half of them what waits to be synced is torn."""
    chance = random.Random(seed)
    chosen = []
    for _ in range(count):
        after = chance.randint(first, last)
        way = chance.randrange(4)
        if way < 2:
            chosen.append(Moment(after, None, float(way)))
        else:
            chosen.append(Moment(after, chance.randrange(2**32), chance.choice((0.2, 0.5, 0.9))))
    return sorted(chosen, key=lambda moment: moment.after)


async def losses(
    disk: Disk, count: int, seed: int, *, start: int = 0, upto: int | None = None
) -> list[str]:
    """What is wrong after `count` losses of power between two operations of the record.

    Each flaw is named with the moment, which leaves the same image again.
    """
    operations = disk.operations()
    remains, said, done = Remains(disk.files), Said(), 0
    said_by: int | None = None
    found: list[str] = []
    for moment in moments(start, len(operations) if upto is None else upto, count, seed):
        for operation in operations[done : moment.after]:
            if operation.kind == "C" and operation.data == b"said":
                said_by = operation.inode
            elif operation.kind == "W" and operation.inode == said_by:
                said.hear(operation.data)
            else:
                remains.follow(operation)
        done = max(done, moment.after)
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            chance = None if moment.seed is None else random.Random(moment.seed)
            remains.image(Path(folder), chance, moment.share)
            found += [f"{moment}: {flaw}" for flaw in await flaws(Path(folder), said)]
    return found


async def flaws(image: Path, said: Said) -> list[str]:
    """What a journal that is opened on these files gets wrong."""
    journal = SqliteJournal(image / "journal.db", KEEP)
    try:
        await journal.open()
    except TelecastError as refusal:
        return [f"refused: {refusal.message}"]
    try:
        return await _flaws(journal, said)
    except TelecastError as fault:
        return [f"failed: {fault.message}"]
    finally:
        await journal.close()


async def _flaws(journal: SqliteJournal, said: Said) -> list[str]:
    found = []
    if said.epoch not in (None, journal.epoch):
        found.append(f"another epoch than {said.epoch}")
    if journal.head < said.reported:
        found.append(f"{said.reported} was sent, but the head is {journal.head}")
    page = await journal.read([WHOLE], 0, 1_000_000)
    kept: dict[int, list[tuple[str, bytes]]] = {}
    for entry in page.entries:
        kept.setdefault(json.loads(entry.data)["batch"], []).append((entry.key, entry.data))
    for number, reported in kept.items():
        if reported != _asked(number):
            found.append(f"batch {number} is not whole, or there twice")
    there = {number for number in range(max(said.acknowledged, default=0) + 1) if _asked(number)}
    lost = (said.acknowledged & there) - kept.keys()
    found += [f"batch {number} was acknowledged and is lost" for number in sorted(lost)]
    found += [f"batch {number} was refused, and is there" for number in said.refused & kept.keys()]
    again = await asyncio.gather(*(journal.append(numbered(n)) for n in said.acknowledged))
    if not all(receipt.duplicate for receipt in again):
        found.append("a repeat of an acknowledged batch was committed anew")
    new = await journal.append(Batch(records=(Record(WHOLE, "new", "upsert", False, b"{}"),)))
    if new.first_seq <= max(said.reported, page.upto):
        found.append(f"{new.first_seq} is used a second time")
    return found


def _asked(number: int) -> list[tuple[str, bytes]]:
    return [(r.key, r.data) for r in numbered(number).records if r.channel == WHOLE]
