"""A process that owns a journal on a watched disk, for tests that cut its power.

What it acknowledges and tells it writes to the file `said`, beside the journal: so it stands in
the same record as what it does to its files, in order.

Arguments: the folder; the number of the first batch; of how many batches the last; how it goes
about it (see `MANNERS`).
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from telecast.errors import JournalUnavailable
from telecast.journal.sqlite import store
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.model import Retention
from tests.integration.journal.journal_child import CHANNELS, numbered

KEEP = {CHANNELS[0]: Retention(100_000, 1e9), CHANNELS[1]: Retention(40, 1e9)}
"""One channel keeps all that is asked of it; the other is trimmed all the time."""
WRITERS = 4
CHECKPOINT = 60
"""Pages in the log (SQLite: 1000) at which it is carried over: so that it happens often."""
MARK = 40
"""Entries (usually 1024) after which the mark is written."""
MANNERS = ("well", "normal", "hasty", "killed", "roomy")
"""`normal`: with synchronous=NORMAL; `hasty`: acknowledges before it commits; `killed`: ends
without a close; `roomy`: its log grows and grows."""


def connected(path: str, mode: str, manner: str) -> sqlite3.Connection:
    connection = _connect(path, mode)
    connection.execute(f"PRAGMA wal_autocheckpoint = {0 if manner == 'roomy' else CHECKPOINT}")
    return connection


_connect = store.connect


async def work(folder: Path, first: int, last: int, manner: str) -> None:
    said = os.open(folder / "said", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(*what: Any) -> None:
        os.write(said, json.dumps(what).encode() + b"\n")

    assert manner in MANNERS
    store.MARK_EVERY = MARK
    store.connect = lambda path, mode: connected(path, mode, manner)
    if manner == "normal":
        configure = store.Store._configure

        def careless(self: store.Store) -> None:
            configure(self)
            self._database.execute("PRAGMA synchronous = NORMAL")

        store.Store._configure = careless  # type: ignore[method-assign]
    journal = SqliteJournal(folder / "journal.db", KEEP)
    await journal.open()
    say("open", journal.epoch, journal.head)
    numbers = iter(range(first, last))

    async def write() -> None:
        for number in numbers:
            if manner == "hasty":
                say("acknowledged", number)
            try:
                await journal.append(numbered(number))
            except JournalUnavailable as fault:
                say("refused", number, bool(fault.details))
            else:
                say("acknowledged", number)

    async def tell() -> None:
        try:
            async for entries in journal.tail():
                if entries:
                    say("sent", entries[-1].seq)
        except JournalUnavailable:
            say("ended")

    async def trim() -> None:
        while True:
            await asyncio.sleep(0.01)
            if journal.failure() is None:
                with suppress(JournalUnavailable):
                    await journal.trim()

    telling, trimming = asyncio.ensure_future(tell()), asyncio.ensure_future(trim())
    await asyncio.gather(*(write() for _ in range(WRITERS)))
    trimming.cancel()
    await asyncio.gather(trimming, return_exceptions=True)
    if manner == "killed":
        os._exit(0)
    await journal.close()
    await telling
    say("closed")


if __name__ == "__main__":
    folder, first, last, manner = sys.argv[1:]
    asyncio.run(work(Path(folder), int(first), int(last), manner))
