"""A position is good only for the rights under which it was earned, over either transport."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from telecast import tasks
from telecast.channels.catalogue import CHANNELS
from telecast.errors import JournalUnavailable
from telecast.journal.base import Batch, Receipt, read_book
from telecast.journal.memory import MemoryJournal
from telecast.keys import KeyStore
from telecast.keys.file import Entry
from telecast.model import Position, Principal, Record
from telecast.rights import BOOK, Rights
from tests.support.payloads import position, price
from tests.support.service.live import Live, principal, rows, served, types

TRANSPORTS = pytest.mark.parametrize("transport", ["ws", "sse"])
DESK = principal("desk")
ONE = principal("viewer", "read", forced={"traderId": frozenset({"t1"})})
BOTH = replace(ONE, forced={"traderId": frozenset({"t1", "t2"})})
HERE = {"who": "viewer", "channels": "positions,market-data", "delivery": "all"}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "KEYS_SECONDS", 0.01)


async def change(live: Live, *holders: Principal) -> None:
    """The keys file is another one now, and the service has seen it."""
    keys = live.parts.keys
    entries = dict(keys._entries)
    for holder in holders:
        entries[holder.key_id] = Entry(holder, entries[holder.key_id].sha256)
    keys._entries = entries
    rights = live.parts.rights
    await live.until(lambda: all(rights._seen[each.key_id] is each for each in holders))
    await live.until(lambda: not rights._unsaved)


async def visit(live: Live, transport: str, **query: Any) -> tuple[list[Any], str]:
    """What one is sent until it is live, and the position that it has then."""
    async with live.transport(transport, **(HERE | query)) as line:
        reported = await line.until("live")
    return reported, reported[-1].body["position"]


def snapshots(reported: list[Any]) -> list[tuple[list[str], str]]:
    return [
        (each.body["channels"], each.body["reason"]) for each in reported if each.type == "snapshot"
    ]


async def two_positions(live: Live) -> None:
    await live.publish("positions", position("p1", "t1"), position("p2", "t2"))
    await live.publish("market-data", price("BTC"))


@TRANSPORTS
async def test_one_that_may_see_more_than_when_it_left_gets_the_rows_that_it_lacks(
    transport: str,
) -> None:
    """Regression: the rows that a wider filter opened were never sent."""
    async with served(DESK, ONE) as live:
        await two_positions(live)
        first, at = await visit(live, transport)
        assert {key for _, key in rows(first)} == {"p1"}
        await change(live, BOTH)
        again, at = await visit(live, transport, since=at)
        assert snapshots(again) == [(["positions"], "RIGHTS_CHANGED")]
        assert {key for _, key in rows(again)} == {"p1", "p2"}
        await live.publish("positions", position("p1", "t1", currentPrice="7"))
        _, at = await visit(live, transport)
        assert not snapshots((await visit(live, transport, since=at))[0]), "once"


@TRANSPORTS
async def test_one_that_may_see_less_than_when_it_left_forgets_the_rows_that_it_held(
    transport: str,
) -> None:
    """Regression: it kept a row whose end it was never sent."""
    async with served(DESK, BOTH) as live:
        await two_positions(live)
        _, at = await visit(live, transport)
        await change(live, ONE)
        await live.publish("positions", position("p2", "t2", status="CLOSED"))
        again, _ = await visit(live, transport, since=at)
        assert snapshots(again) == [(["positions"], "RIGHTS_CHANGED")]
        assert {key for _, key in rows(again)} == {"p1"}


@TRANSPORTS
async def test_a_channel_that_a_key_gained_begins_with_a_snapshot_and_the_others_go_on(
    transport: str,
) -> None:
    async with served(DESK, replace(ONE, channels=("positions",), forced={})) as live:
        await two_positions(live)
        _, at = await visit(live, transport)
        await change(live, replace(ONE, channels=("positions", "market-*"), forced={}))
        again, _ = await visit(live, transport, since=at)
        assert snapshots(again) == [(["market-data"], "RIGHTS_CHANGED")]
        assert [each.body["channels"] for each in again if each.type == "resume"] == [["positions"]]


@TRANSPORTS
async def test_a_position_that_was_earned_with_a_key_is_not_good_for_its_successor(
    transport: str,
) -> None:
    successor = principal("successor", "read")
    async with served(DESK, ONE) as live:
        await two_positions(live)
        _, at = await visit(live, transport)
        keys, secrets = KeyStore.of(successor, now=live.parts.keys._now)
        live.parts.keys._entries = {**live.parts.keys._entries, **keys._entries}
        live.secrets = {**live.secrets, successor.name: secrets[successor.key_id]}
        await live.until(lambda: successor.key_id in live.parts.rights._seen)
        await live.until(lambda: not live.parts.rights._unsaved)
        again, _ = await visit(live, transport, since=at, who="successor")
        assert snapshots(again) == [(["market-data", "positions"], "RIGHTS_CHANGED")]
        assert {key for _, key in rows(again)} == {"p1", "p2", "BINANCE:BTC"}


@TRANSPORTS
async def test_who_comes_back_before_the_change_was_looked_at_begins_anew_too(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(DESK, ONE) as live:
        await two_positions(live)
        _, at = await visit(live, transport)
        keys = live.parts.keys
        monkeypatch.setattr(live.parts.rights, "look", lambda _: None)
        keys._entries = {
            **keys._entries,
            BOTH.key_id: Entry(BOTH, keys._entries[BOTH.key_id].sha256),
        }
        again, _ = await visit(live, transport, since=at)
        assert snapshots(again) == [(["positions"], "RIGHTS_CHANGED")]


@TRANSPORTS
async def test_a_channel_that_is_gained_by_one_who_is_connected_is_taken_up_at_once(
    transport: str,
) -> None:
    """Else it would come back with a position that says nothing of the channel."""
    few = replace(ONE, channels=("positions",), forced={})
    async with served(DESK, few) as live:
        await two_positions(live)
        async with live.transport(transport, **HERE) as line:
            await line.until("live")
            await change(live, replace(few, channels=("*",)))
            reported = await line.until("live")
            assert snapshots(reported) == [(["market-data"], "NEW")]
    async with served(DESK, few) as live, live.sse(who="viewer") as line:
        await line.until("live")
        await change(live, replace(few, channels=("*",)))
        (snapshot,) = [each for each in await line.until("live") if each.type == "snapshot"]
        assert set(snapshot.body["channels"]) == set(CHANNELS) - {"positions", "system"}


async def test_rights_that_changed_while_the_service_was_down_are_found_at_its_start(
    tmp_path: Path,
) -> None:
    journal = f"sqlite:{tmp_path}/journal.db"
    async with served(DESK, ONE, journal=journal) as live:
        await two_positions(live)
        _, at = await visit(live, "ws")
    async with served(DESK, ONE, journal=journal) as live:
        assert "snapshot" not in types((await visit(live, "ws", since=at))[0]), "nothing changed"
    async with served(DESK, BOTH, journal=journal) as live:
        again, _ = await visit(live, "ws", since=at)
        assert snapshots(again) == [(["positions"], "RIGHTS_CHANGED")]
    async with served(DESK, BOTH, journal=journal) as live:
        again, _ = await visit(live, "ws", since=at)
        assert snapshots(again) == [(["positions"], "RIGHTS_CHANGED")], "and it is remembered"


class _Forgetful(MemoryJournal):
    """Takes no notes while it is `broken`."""

    broken = False

    async def append(self, batch: Batch) -> Receipt:
        if self.broken and batch.notes:
            raise JournalUnavailable("The disk is busy.")
        return await super().append(batch)


async def test_a_change_that_cannot_be_kept_just_now_holds_and_is_kept_later() -> None:
    journal = _Forgetful(CHANNELS.retention)
    await journal.append(Batch(records=(Record("positions", "p", "upsert", False, b"{}"),)))
    rights = Rights(journal, CHANNELS)
    await rights.open([ONE])
    journal.broken = True
    rights.look([BOTH])
    await rights.settle(7)
    before, after = Position(journal.epoch, 7), Position(journal.epoch, 8)
    assert rights.changed_since(BOTH, ["positions"], before) == ("positions",)
    assert rights.changed_since(BOTH, ["positions"], after) == ()
    journal.broken = False
    await rights.settle(9)
    other = Rights(journal, CHANNELS)
    await other.open([BOTH])
    assert other.changed_since(BOTH, ["positions"], before) == ("positions",)
    assert other.changed_since(BOTH, ["positions"], after) == ()


async def test_until_all_are_served_under_the_new_rights_no_position_is_good() -> None:
    journal = MemoryJournal(CHANNELS.retention)
    await journal.append(Batch(records=(Record("positions", "p", "upsert", False, b"{}"),)))
    rights = Rights(journal, CHANNELS)
    await rights.open([ONE])
    rights.look([BOTH])
    much_later = Position(journal.epoch, 10**9)
    assert rights.changed_since(BOTH, ["positions"], much_later) == ("positions",)
    await rights.settle(7)
    assert rights.changed_since(BOTH, ["positions"], much_later) == ()


async def test_nothing_is_kept_of_a_key_that_is_gone() -> None:
    journal = MemoryJournal(CHANNELS.retention)
    rights = Rights(journal, CHANNELS)
    await rights.open([ONE, DESK])
    assert set(await read_book(journal, BOOK)) == {ONE.key_id, DESK.key_id}
    rights.look([DESK])
    await rights.settle(7)
    assert set(await read_book(journal, BOOK)) == {DESK.key_id}
    assert len(rights._held) == 1
