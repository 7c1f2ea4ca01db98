"""Damages the files of a journal in seeded ways, and looks at what is made of them."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from telecast.errors import TelecastError
from telecast.journal.base import Receipt
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.model import Entry
from tests.faults.power import MEMORY
from tests.integration.journal.journal_child import CHANNELS, KEEP, numbered

BATCHES = 24
PAGE = 4096


@dataclass(frozen=True, slots=True)
class Original:
    """`files` as they lie on the disk; what they hold."""

    files: tuple[Path, ...]
    epoch: str
    head: int
    entries: tuple[Entry, ...]
    receipts: tuple[Receipt, ...]


async def original(folder: Path, *, killed: bool) -> Original:
    """A journal that was closed, or one whose process was killed: then its log is beside it."""
    path = folder / "journal.db"
    journal = SqliteJournal(path, KEEP)
    await journal.open()
    receipts = []
    for number in range(BATCHES):
        if killed and number == BATCHES // 2:
            await journal.close()
            journal = SqliteJournal(path, KEEP)
            await journal.open()
        receipts.append(await journal.append(numbered(number)))
    await journal.trim()
    entries = (await journal.read(CHANNELS, 0, 10**6)).entries
    kept = folder / "kept"
    kept.mkdir()
    if not killed:
        await journal.close()
    for name in ("journal.db", "journal.db-wal", "journal.db.head"):
        if (folder / name).exists():
            shutil.copy(folder / name, kept)
    if killed:
        await journal.close()
    return Original(
        tuple(sorted(kept.iterdir())), journal.epoch, journal.head, entries, tuple(receipts)
    )


def damage(content: bytearray, chance: random.Random) -> str:
    """Change it in one of the ways in which storage loses bytes; says how."""
    at = chance.randrange(len(content))
    way = chance.choice(("bit", "bit", "bit", "bits", "zeros", "noise", "cut", "page"))
    sector = at // 512 * 512
    match way:
        case "bit":
            content[at] ^= 1 << chance.randrange(8)
        case "bits":
            for _ in range(8):
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        case "zeros":
            content[sector : sector + 512] = bytes(512)
        case "noise":
            content[sector : sector + 512] = chance.randbytes(512)
        case "cut":
            del content[at:]
        case "page":  # written in another one's place
            other = chance.randrange(len(content)) // PAGE * PAGE
            page = content[other : other + PAGE]
            here = at // PAGE * PAGE
            content[here : here + len(page)] = page
    return f"{way} at {at}"


async def served_wrongly(made: Original, seed: int) -> tuple[str | None, str]:
    """(what was wrong, what was done). It is None where all is right, or "refused"."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        for file in made.files:
            shutil.copy(file, folder)
        victims = [file for file in made.files if file.suffix != ".head"]
        victim = Path(folder) / chance.choice(victims).name
        content = bytearray(victim.read_bytes())
        done = f"seed {seed}: {victim.name}, {damage(content, chance)}"
        victim.write_bytes(content)
        return await _served(Path(folder) / "journal.db", made), done


async def _served(path: Path, made: Original) -> str | None:
    journal = SqliteJournal(path, KEEP)
    try:
        await journal.open()
        return await _wrong(journal, made)
    except TelecastError as refusal:
        return (
            "refused"
            if str(path) in f"{refusal.message} {journal.failure()}"
            else f"says only {refusal.message}"
        )
    finally:
        await journal.close()


async def _wrong(journal: SqliteJournal, made: Original) -> str | None:
    reported: list[Entry] = []
    async for entries in journal.tail():
        if not entries:
            break
        reported += entries
    if wrong := _compared(reported, made):
        return f"the tail {wrong}"
    for channels in (*([name] for name in CHANNELS), CHANNELS):
        page = await journal.read(channels, 0, 10**6)
        wanted = [entry for entry in made.entries if entry.channel in channels]
        if list(page.entries) != wanted:
            return f"a read of {channels} {_compared(page.entries, made) or 'leaves out'}"
    if (journal.epoch, journal.head) != (made.epoch, made.head):
        return f"it is at {journal.epoch}:{journal.head}"
    for number, receipt in enumerate(made.receipts):
        again = await journal.append(numbered(number))
        if not again.duplicate:
            return f"batch {number} was committed twice"
        if (again.first_seq, again.last_seq) != (receipt.first_seq, receipt.last_seq):
            return f"batch {number} has another receipt"
    return None


def _compared(reported: Sequence[Entry], made: Original) -> str | None:
    if any(entry not in made.entries for entry in reported):
        return "tells what never was"
    return None if list(reported) == list(made.entries) else "leaves out what was acknowledged"
