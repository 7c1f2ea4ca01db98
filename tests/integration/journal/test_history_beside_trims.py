"""History over REST while retention works: what was trimmed meanwhile is a gap, never a silence."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from telecast.channels.catalogue import CHANNELS
from telecast.journal.memory import MemoryJournal
from telecast.model import Page, Retention
from telecast.web.api.channels import READ
from tests.support.payloads import position
from tests.support.service.live import Live, served

PATH = "/api/v1/channels/positions/events"


class TrimmedBetweenReads(MemoryJournal):
    """Trims after each of the `trims` first reads, as the timer of the service may."""

    def __init__(self, trims: int) -> None:
        keep = {name: channel.retention for name, channel in CHANNELS.items()}
        super().__init__(keep | {"positions": Retention(READ // 2, 1e9)})
        self.trims = trims

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page:
        page = await super().read(channels, after, limit)
        if limit == READ and self.trims:
            self.trims -= 1
            await self.trim()
        return page


async def filled(live: Live) -> None:
    """Four pages of one row: seqs 1 to 4 * READ, of which a trim leaves the last READ // 2."""
    for start in range(0, 4 * READ, READ):
        rows = [position(quantity=str(n + 1)) for n in range(start, start + READ)]
        await live.publish("positions", *rows)


async def page(live: Live, **query: Any) -> dict[str, Any]:
    return await live.get(PATH, query={"limit": "5000", **query})


def seqs(answer: dict[str, Any]) -> list[int]:
    return [event["seq"] for event in answer["events"]]


async def test_an_answer_ends_before_what_was_trimmed_while_it_was_read() -> None:
    async with served(journal=TrimmedBetweenReads(trims=1)) as live:
        await filled(live)
        first = await page(live)
        assert seqs(first) == list(range(1, READ + 1))
        assert (first["gap"], first["more"]) == (None, True)
        rest = await page(live, after=first["position"])
        assert rest["gap"] == {"fromSeq": READ + 1, "toSeq": 4 * READ - READ // 2}
        assert seqs(rest) == list(range(4 * READ - READ // 2 + 1, 4 * READ + 1))
        assert rest["more"] is False


async def test_a_trim_after_the_last_read_makes_no_gap_of_what_is_in_the_answer() -> None:
    async with served(journal=TrimmedBetweenReads(trims=0)) as live:
        await filled(live)
        start = live.at(0)
        journal = live.parts.journal
        assert isinstance(journal, TrimmedBetweenReads)
        whole = await page(live, after=start)
        assert whole["gap"] is None
        assert seqs(whole) == list(range(1, 4 * READ + 1))
        await journal.trim()
        assert (await page(live, after=start))["gap"] == {
            "fromSeq": 1,
            "toSeq": 4 * READ - READ // 2,
        }
