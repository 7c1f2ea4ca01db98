"""What a journal in memory takes: an entry its own bytes and little more, its history a budget."""

from __future__ import annotations

import tracemalloc

import orjson

from telecast.journal.base import Batch
from telecast.journal.memory import ENTRY_BYTES, MemoryJournal
from telecast.model import Record, Retention

KEEP = {name: Retention(1_000_000, 1e9) for name in ("a", "b")}


def some(channel: str, count: int, *, keys: int, size: int = 200) -> Batch:
    return Batch(
        records=tuple(
            Record(channel, f"k{n % keys}", "upsert", False, orjson.dumps({"x": "y" * size}))
            for n in range(count)
        )
    )


async def trimmed(journal: MemoryJournal) -> None:
    while await journal.trim():
        pass


async def test_an_entry_takes_its_own_bytes_and_not_the_buffer_that_they_were_written_in() -> None:
    """Regression: what orjson makes keeps 4 KiB, so 40,000 small rows took 170 MB."""
    journal = MemoryJournal(KEEP)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            await journal.append(some("a", 1_000, keys=1_000))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / 5_000 < 208 + 1.2 * ENTRY_BYTES


async def test_the_history_of_all_channels_together_stays_within_its_budget() -> None:
    journal = MemoryJournal(KEEP, history_bytes=100_000)
    for _ in range(20):
        await journal.append(some("a", 100, keys=5))
        await journal.append(some("b", 20, keys=5))
    await trimmed(journal)
    page = await journal.read(("a", "b"), 0, 100_000)
    assert sum(len(entry.data) + ENTRY_BYTES for entry in page.entries) <= 100_000 + 10 * 600
    assert {(entry.channel, entry.key) for entry in page.entries} == {
        (channel, f"k{n}") for channel in "ab" for n in range(5)
    }, "the newest row of each key stays"
    assert page.entries[-1].seq == journal.head == 2_400
    for name, floor in journal.floors().items():
        held = {entry.seq for entry in page.entries if entry.channel == name}
        assert held >= {n for n in range(floor.whole_from + 1, 2_401) if _channel(n) == name}
        assert floor.whole_from > 0


def _channel(seq: int) -> str:
    return "a" if (seq - 1) % 120 < 100 else "b"


async def test_rows_that_live_are_no_history_and_are_kept_beyond_the_budget() -> None:
    journal = MemoryJournal(KEEP, history_bytes=10_000)
    await journal.append(some("a", 1_000, keys=1_000))
    await trimmed(journal)
    assert len((await journal.read(("a",), 0, 10_000)).entries) == 1_000
    assert journal.floors()["a"].whole_from == 0, "nothing has gone"


async def test_without_a_budget_only_the_retention_lets_go() -> None:
    journal = MemoryJournal(KEEP)
    await journal.append(some("a", 1_000, keys=1, size=4_000))
    await trimmed(journal)
    assert len((await journal.read(("a",), 0, 10_000)).entries) == 1_000


async def test_one_trim_is_bounded_however_far_over_the_budget_it_is() -> None:
    journal = MemoryJournal(KEEP, history_bytes=1)
    for _ in range(3):
        await journal.append(some("a", 4_000, keys=1, size=1))
    assert await journal.trim() <= 5_000
    await trimmed(journal)
    assert len((await journal.read(("a",), 0, 20_000)).entries) == 1
