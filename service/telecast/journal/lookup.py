"""Finds places in a journal by time. It reads; it owns nothing."""

from __future__ import annotations

from collections.abc import Collection

from telecast.journal.base import Journal
from telecast.model import Entry


async def seq_before(journal: Journal, channels: Collection[str], moment: int) -> int:
    """The seq after which everything of `channels` was committed at `moment` or later.

    `moment` is in ms since 1970. 0 where all that the journal has is younger. Commits are numbered
    in the order of their times, but for a clock that was set back: then it is one of the places
    where the time passes `moment`. It makes one short read for each bit of the head.
    """
    before, beyond = 0, journal.head
    while before < beyond:
        middle = (before + beyond) // 2
        entry = await _next(journal, channels, middle)
        if entry is None or entry.seq > beyond or entry.timestamp >= moment:
            beyond = middle
        else:
            before = entry.seq
    return before


async def _next(journal: Journal, channels: Collection[str], after: int) -> Entry | None:
    while True:
        page = await journal.read(channels, after, 1)
        if page.entries:
            return page.entries[0]
        if not page.more:
            return None
        after = page.upto
