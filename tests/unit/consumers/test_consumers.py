"""What consumers acknowledge: judged, written as one, answered after the commit, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from telecast import turns
from telecast.channels.catalogue import CHANNELS
from telecast.consumers import Consumer, ConsumerLimits, Consumers, Name, consumers
from telecast.consumers.consumer import Standing
from telecast.errors import JournalUnavailable, OwnFault, PeerFault
from telecast.journal.base import Batch, Receipt
from telecast.journal.memory import MemoryJournal
from telecast.model import Floor, Position, Record

BOT = Name("0000000a", "bot")
DAY = 24 * 3600.0


class SlowJournal(MemoryJournal):
    """Commits notes when the test lets it; counts the writes; fails while it is `broken`."""

    def __init__(self) -> None:
        super().__init__(CHANNELS.retention)
        self.let = asyncio.Event()
        self.let.set()
        self.writes = 0
        self.broken = False

    async def append(self, batch: Batch) -> Receipt:
        if batch.notes:
            self.writes += 1
            await self.let.wait()
            if self.broken:
                raise JournalUnavailable("/secret/path can't be written.")
        return await super().append(batch)


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def running(
    journal: MemoryJournal,
    clock: Clock | None = None,
    elapsed: Clock | None = None,
    **limits: int,
) -> AsyncIterator[Consumers]:
    clock = clock or Clock()
    own = Consumers(
        journal,
        limits=ConsumerLimits(**{"most": 100, "most_per_key": 10} | limits),
        now=clock,
        elapsed=elapsed or clock,
    )
    await own.open()
    task = asyncio.create_task(own.run())
    try:
        yield own
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "FLUSH_SECONDS", 0.0)


async def journal_of(events: int) -> SlowJournal:
    journal = SlowJournal()
    record = Record("positions", "p", "upsert", False, b"{}")
    await journal.append(Batch(records=(record,) * events))
    return journal


def at(journal: MemoryJournal, seq: int) -> Position:
    return Position(journal.epoch, seq)


def said(own: Consumers, seq: int, name: Name = BOT, delivered: int | None = 100) -> asyncio.Future:
    return own.acknowledge(
        name, at(own._journal, seq), delivered=delivered, channels=("positions",)
    )


async def test_an_acknowledgement_is_answered_once_it_is_durable_and_not_before() -> None:
    journal = await journal_of(9)
    async with running(journal) as own:
        journal.let.clear()
        future = said(own, 7)
        for _ in range(5):
            await asyncio.sleep(0)
        assert journal.writes == 1
        assert not future.done()
        assert own.get(BOT) is None
        journal.let.set()
        assert (await future).position == at(journal, 7)
    async with running(journal) as again:
        kept = again.get(BOT)
        assert kept is not None
        assert (kept.position.seq, kept.channels) == (7, ("positions",))


async def test_positions_never_go_back_whatever_is_under_way() -> None:
    journal = await journal_of(9)
    async with running(journal) as own:
        assert (await said(own, 7)).position.seq == 7
        assert (await said(own, 3)).position.seq == 7, "cumulative"
        journal.let.clear()
        flying = said(own, 9)
        for _ in range(5):
            await asyncio.sleep(0)
        late = said(own, 8)
        journal.let.set()
        assert (await flying).position.seq == 9
        assert (await late).position.seq == 9
    async with running(journal) as again:
        assert again.get(BOT) == Consumer(BOT, at(journal, 9), 1_700_000_000_000, ("positions",))


async def test_all_that_come_within_a_second_are_one_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumers, "FLUSH_SECONDS", 3600.0)
    journal = await journal_of(50)
    async with running(journal, most_per_key=50) as own:
        first = said(own, 1)
        await first
        later = [said(own, seq, Name("0000000a", f"bot-{seq % 5}")) for seq in range(50)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert journal.writes == 1, "the next is due in an hour"
        assert not any(each.done() for each in later)
        await own._flush()
        assert journal.writes == 2
        assert [each.result().position.seq for each in later] == [45, 46, 47, 48, 49] * 10


async def test_nobody_acknowledges_what_was_not_delivered() -> None:
    journal = SlowJournal()
    async with running(journal) as own:
        with pytest.raises(PeerFault) as ahead:
            said(own, 8, delivered=7)
        assert ahead.value.code == "ACK_AHEAD"
        assert ahead.value.details == {
            "position": f"{journal.epoch}:8",
            "delivered": f"{journal.epoch}:7",
        }
        with pytest.raises(PeerFault, match="another journal"):
            own.acknowledge(BOT, Position("zzzz", 1), delivered=7, channels=())
        with pytest.raises(PeerFault) as nobody:
            said(own, 1, delivered=None)
        assert nobody.value.code == "CLIENT_NOT_FOUND"
        own.ended(BOT, 7)
        assert (await said(own, 7, delivered=None)).position.seq == 7, "its stream has ended"
        assert dict(own.answered) == {
            "ACK_AHEAD": 1,
            "POSITION_UNKNOWN": 1,
            "CLIENT_NOT_FOUND": 1,
            "committed": 1,
        }


async def test_after_a_restart_what_was_delivered_before_it_can_be_acknowledged() -> None:
    journal = await journal_of(9)
    async with running(journal) as own:
        await said(own, 3)
    async with running(journal) as own:
        assert (await said(own, 9, delivered=None)).position.seq == 9
        with pytest.raises(PeerFault, match="ahead"):
            said(own, 10, delivered=None)


async def test_what_cannot_be_written_is_not_answered_as_done_and_is_written_later() -> None:
    journal = await journal_of(9)
    async with running(journal) as own:
        journal.broken = True
        with pytest.raises(OwnFault, match="takes no acknowledgements") as refused:
            await said(own, 7)
        assert "secret" not in str(refused.value)
        assert own.get(BOT) is None
        journal.broken = False
        assert (await said(own, 2)).position.seq == 7


async def test_newcomers_are_refused_where_all_places_are_taken_and_the_known_are_not() -> None:
    journal = await journal_of(9)
    async with running(journal, most=3, most_per_key=2) as own:
        await said(own, 1, Name("0000000a", "one"))
        waits = said(own, 1, Name("0000000a", "two"))
        with pytest.raises(PeerFault, match="max_consumers_per_key"):
            said(own, 1, Name("0000000a", "three"))
        await said(own, 1, Name("0000000b", "one"))
        with pytest.raises(PeerFault, match=r"max_consumers \(3\)"):
            said(own, 1, Name("0000000c", "one"))
        await waits
        assert (await said(own, 5, Name("0000000a", "two"))).position.seq == 5
        assert await own.forget(Name("0000000a", "one"))
        assert not await own.forget(Name("0000000a", "one"))
        await said(own, 1, Name("0000000a", "three"))


async def under_way() -> None:
    """What was asked is being written."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_newcomers_that_are_being_written_take_places_too() -> None:
    """Regression: they were in none of the tables while the journal wrote them."""
    journal = await journal_of(9)
    async with running(journal, most_per_key=2) as own:
        journal.let.clear()
        waiting = [said(own, 7, Name("0000000a", f"bot-{n}")) for n in range(2)]
        await under_way()
        with pytest.raises(PeerFault, match="max_consumers_per_key"):
            said(own, 7, Name("0000000a", "bot-2"))
        journal.let.set()
        await asyncio.gather(*waiting)
        assert len(own) == 2


async def test_one_that_comes_back_in_the_moment_of_the_look_is_not_forgotten() -> None:
    """Regression: what was being written counted as not asked, and was erased behind the answer."""
    journal, clock = await journal_of(9), Clock()
    async with running(journal, clock) as own:
        await said(own, 7)
        clock.now += 31 * DAY
        journal.let.clear()
        back = said(own, 8)
        await under_way()
        look = asyncio.create_task(own.look({}, lambda name: False))
        await under_way()
        journal.let.set()
        await asyncio.gather(back, look)
        kept = own.get(BOT)
        assert kept is not None
        assert kept.position.seq == 8
    async with running(journal, clock) as again:
        assert len(again) == 1


async def test_one_that_is_being_written_can_be_forgotten() -> None:
    journal = await journal_of(9)
    async with running(journal) as own:
        journal.let.clear()
        first = said(own, 7)
        await under_way()
        forgotten = asyncio.create_task(own.forget(BOT))
        await under_way()
        journal.let.set()
        assert (await first).position.seq == 7
        assert await forgotten
        assert own.get(BOT) is None
    async with running(journal) as again:
        assert len(again) == 0


async def test_one_that_is_gone_for_thirty_days_is_forgotten_and_one_that_is_here_is_not() -> None:
    journal, clock = await journal_of(9), Clock()
    here = Name("0000000a", "here")
    async with running(journal, clock) as own:
        await said(own, 7)
        await said(own, 7, here)
        clock.now += 29 * DAY
        await own.look({}, lambda name: False)
        assert len(own) == 2
        clock.now += 2 * DAY
        await own.look({}, lambda name: name == here)
        assert own.get(BOT) is None
        assert own.get(here) is not None
    async with running(journal, clock) as again:
        assert len(again) == 1


async def test_a_clock_that_is_wrong_for_a_while_forgets_nobody() -> None:
    journal, clock, elapsed = await journal_of(9), Clock(), Clock()
    behind = Name("0000000a", "behind")
    async with running(journal, clock, elapsed) as own:
        await said(own, 7)
        clock.now += 40 * DAY
        await own.look({}, lambda name: False)
        assert own.get(BOT) is not None
        clock.now -= 80 * DAY
        await said(own, 7, behind)
        clock.now += 40 * DAY
        await own.look({}, lambda name: False)
        assert own.get(behind) is not None
    clock.now += 40 * DAY
    async with running(journal, clock, elapsed) as again:
        await again.look({}, lambda name: False)
        assert len(again) == 2, "a clock that is wrong at the start"


async def test_a_look_at_many_consumers_lets_others_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "SLICE", 0.0)
    journal, looked = await journal_of(9), False
    async with running(journal) as own:
        for number in range(8):
            await said(own, 7, Name("0000000a", f"bot-{number}"))
        between = 0

        async def other() -> None:
            nonlocal between
            while not looked:
                between += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        await own.look({}, lambda name: False)
        looked = True
        await beside
    assert between >= 8


async def test_the_same_position_again_counts_as_a_sign_of_life() -> None:
    journal, clock = await journal_of(9), Clock()
    async with running(journal, clock) as own:
        await said(own, 7)
        writes = journal.writes
        await said(own, 7)
        assert journal.writes == writes, "nothing to write"
        clock.now += 2 * DAY
        assert (await said(own, 7)).at == int(clock.now * 1000)


async def test_retention_that_comes_near_is_warned_of_before_it_overtakes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal = await journal_of(100)
    async with running(journal) as own:
        await said(own, 30)
        await own.look({"positions": Floor(5, 0)}, lambda name: True)
        assert own.standing(BOT) is Standing.WHOLE
        await own.look({"positions": Floor(20, 0)}, lambda name: True)
        await own.look({"positions": Floor(20, 0)}, lambda name: True)
        assert own.standing(BOT) is Standing.NEAR
        await own.look({"positions": Floor(31, 0)}, lambda name: True)
        assert own.standing(BOT) is Standing.OVERTAKEN
        assert (own.count(Standing.NEAR), own.count(Standing.OVERTAKEN)) == (0, 1)
        assert own.most_behind() == 70
        assert [record.getMessage() for record in caplog.records] == [
            "retention comes near to a consumer",
            "retention has overtaken a consumer",
        ]


async def test_who_waits_when_the_service_goes_down_gets_an_error() -> None:
    journal = await journal_of(9)
    async with running(journal) as own:
        journal.let.clear()
        future = said(own, 7)
        for _ in range(5):
            await asyncio.sleep(0)
    with pytest.raises(OwnFault, match="going down"):
        await future
