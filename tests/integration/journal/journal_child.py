"""A process that owns a journal, for tests that kill it. Told what to do by its arguments.

hold PATH            open it, say "open", live until killed
write PATH FIRST     commit batches from number FIRST on and trim, say each receipt
outgrow PATH         commit until a file may not grow any more, say what followed
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from telecast.errors import JournalFull
from telecast.journal.base import Batch, Idempotency
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.model import Record, Retention

CHANNELS = ("positions", "market-data")
KEEP = {channel: Retention(300, 3600.0) for channel in CHANNELS}
WRITERS = 12


def numbered(number: int) -> Batch:
    """A batch that is distinct, and known to be whole: each record names it and its size."""
    size = number * 7 % 23 + 1
    data = json.dumps({"batch": number, "size": size, "pad": "x" * (number % 5 * 300)}).encode()
    return Batch(
        records=tuple(
            Record(CHANNELS[(number + n) % 2], f"k{(number + n) % 17}", "upsert", n % 3 == 0, data)
            for n in range(size)
        ),
        idempotency=Idempotency(f"batch-{number}", number.to_bytes(32)),
    )


def say(what: Any) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


async def hold(path: str) -> None:
    journal = SqliteJournal(path, KEEP)
    await journal.open()
    say("open")
    await asyncio.Event().wait()


async def write(path: str, first: str) -> None:
    journal = SqliteJournal(path, KEEP)
    await journal.open()
    numbers = itertools.count(int(first))

    async def writer() -> None:
        for number in numbers:
            receipt = await journal.append(numbered(number))
            say([number, receipt.count, receipt.first_seq, receipt.last_seq, receipt.timestamp])

    async def trimmer() -> None:
        while True:
            await journal.trim()

    await asyncio.gather(trimmer(), *(writer() for _ in range(WRITERS)))


async def outgrow(path: str) -> None:
    """RLIMIT_FSIZE makes write(2) fail with EFBIG in the middle of the log, as a quota would."""
    journal = SqliteJournal(path, KEEP)
    await journal.open()
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, most))
    refusals: list[JournalFull] = []
    number = acknowledged = 0
    while len(refusals) < 5:
        number += 1
        try:
            await journal.append(numbered(number))
            acknowledged = number
        except JournalFull as fault:
            refusals.append(fault)
            number -= 1
    failure = journal.failure()
    page = await journal.read(CHANNELS, 0, 10)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    await journal.trim()
    ready = journal.failure() is None
    receipt = await journal.append(numbered(number + 1))
    await journal.close()
    say(
        {
            "acknowledged": acknowledged,
            "details": [fault.details for fault in refusals],
            "failure": failure,
            "readable": len(page.entries),
            "ready": ready,
            "duplicate": receipt.duplicate,
        }
    )


if __name__ == "__main__":
    roles: dict[str, Callable[..., Coroutine[Any, Any, None]]]
    roles = {"hold": hold, "write": write, "outgrow": outgrow}
    asyncio.run(roles[sys.argv[1]](*sys.argv[2:]))
