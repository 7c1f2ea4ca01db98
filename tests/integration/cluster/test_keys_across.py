"""A key that changes or is revoked at one node does so at all, however the nodes interleave."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from telecast.journal.base import Batch, Receipt
from telecast.model import Position, Principal
from tests.support.payloads import trader
from tests.support.service.live import Live, principal
from tests.support.service.nats import needs_nats
from tests.support.service.nodes import folder, hand_out, level, nodes, stream_name

pytestmark = needs_nats

A = "trader-status"

ONE = principal("narrow", "read", channels=("positions",), forced={"traderId": frozenset({"t1"})})
BOTH = principal(
    "narrow", "read", channels=("positions",), forced={"traderId": frozenset({"t1", "t2"})}
)


async def settle(live: Live) -> None:
    """What the watch over the keys does each second."""
    live.parts.rights.look(live.parts.keys.principals())
    await live.parts.clients.recheck()
    await live.parts.rights.settle(live.parts.tape.head)


async def test_rights_that_change_at_one_node_after_the_other_make_positions_old_at_both(
    tmp_path: Path,
) -> None:
    async with nodes(tmp_path, holders=[principal(), ONE]) as (first, second):
        await first.publish(A, trader(id="t1"))
        await level(first, second)

        def old(live: Live, seq: int) -> bool:
            parts, at = live.parts, Position(live.epoch, seq)
            holder = parts.keys.current(ONE.key_id)
            assert holder is not None
            return bool(parts.rights.changed_since(holder, ["positions"], at))

        hand_out(first, principal(), BOTH)
        await settle(first)
        await first.publish(A, trader(id="t2"), trader(id="t3"))
        await level(first, second)
        await settle(second)  # it has the old file still, and says so
        await level(first, second)
        # What is earned at the second node now is earned under the old rights.
        assert old(first, 10**6)
        hand_out(second, principal(), BOTH)
        await settle(second)
        await level(first, second)
        head = second.parts.tape.head
        for live in (first, second):
            assert old(live, head)
            assert not old(live, head + 1)


async def test_a_key_revoked_at_one_node_is_refused_at_all_and_after_a_restart(
    tmp_path: Path,
) -> None:
    name, desk, bot = stream_name(), principal(), principal("bot", "read")
    async with nodes(tmp_path, holders=[desk, bot], name=name) as (first, second):
        async with second.ws(who="bot", channels=A) as ws:
            await ws.opening()
            hand_out(first, desk)
            await settle(first)
            await level(first, second)
            await second.parts.clients.recheck()
            messages, _ = await ws.rest()
            assert messages[-1].body["code"] == "UNAUTHENTICATED"
        status, _, _ = await second.ask("GET", "/api/v1/channels", who="bot")
        assert status == 401
    async with nodes(tmp_path, 1, holders=[desk, bot], name=name) as (live,):
        assert live.parts.keys.current(bot.key_id) is None
        assert live.parts.keys.current(desk.key_id) is not None


async def test_a_revoked_key_stays_so_where_an_older_file_is_read_anew(tmp_path: Path) -> None:
    desk, bot = principal(), principal("bot", "read")
    async with nodes(tmp_path, holders=[desk, bot]) as (first, second):
        old = second.parts.keys._entries
        hand_out(first, desk)
        await settle(first)
        await level(first, second)
        hand_out(second, desk, replace(bot))  # as where another key is added to the file
        await settle(second)
        await level(first, second)
        assert second.parts.keys.current(bot.key_id) is None
        # Taken out there too, and given again: now it is meant.
        hand_out(second, desk)
        await settle(second)
        second.parts.keys._entries = old
        await settle(second)
        assert second.parts.keys.current(bot.key_id) is not None


async def test_a_key_that_is_revoked_while_its_rights_change_is_not_given_back(
    tmp_path: Path,
) -> None:
    desk, bot = principal(), principal("bot", "read")
    async with nodes(tmp_path, holders=[desk, bot]) as (first, second):
        hand_out(second, desk, replace(bot, channels=(A,)))
        second.parts.rights.look(second.parts.keys.principals())
        hand_out(first, desk)
        await settle(first)
        await level(first, second)
        await second.parts.rights.settle(second.parts.tape.head)
        await level(first, second)
        assert second.parts.keys.current(bot.key_id) is None


class _Way:
    """What a node has sent to the log and has not arrived there yet."""

    def __init__(self, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent = asyncio.Event()
        self.arrive = asyncio.Event()
        append = live.parts.journal.append

        async def held(batch: Batch) -> Receipt:
            self.sent.set()
            await self.arrive.wait()
            return await append(batch)

        monkeypatch.setattr(live.parts.journal, "append", held)


async def revoked_meanwhile(
    first: Live, second: Live, desk: Principal, bot: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bot's rights change at the second node, whose note of that is under way to the log when
    the first one revokes its key, and arrives behind that."""
    hand_out(second, desk, replace(bot, channels=(A,)))
    with monkeypatch.context() as patch:
        way = _Way(second, patch)
        settling = asyncio.create_task(settle(second))
        await way.sent.wait()
        hand_out(first, desk)
        await settle(first)
        way.arrive.set()
        await settling
    await level(first, second)


async def test_a_note_that_is_under_way_when_a_key_is_revoked_does_not_give_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, desk, bot = stream_name(), principal(), principal("bot", "read")
    async with nodes(tmp_path, holders=[desk, bot], name=name) as (first, second):
        await revoked_meanwhile(first, second, desk, bot, monkeypatch)
        assert second.parts.keys.current(bot.key_id) is None
        await settle(second)
        await level(first, second)
        assert second.parts.keys.current(bot.key_id) is None
        # Given again where it was taken out, by somebody who has seen the revocation.
        hand_out(first, desk, bot, known=second)
        await settle(first)
        await level(first, second)
        for live in (first, second):
            assert live.parts.keys.current(bot.key_id) is not None
        hand_out(first, desk)
        await settle(first)
        await level(first, second)
    async with nodes(folder(tmp_path, "new"), 1, holders=[desk, bot], name=name) as (live,):
        assert live.parts.keys.current(bot.key_id) is None


async def test_a_late_note_gives_a_key_back_to_no_node_that_starts_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, desk, bot = stream_name(), principal(), principal("bot", "read")
    async with nodes(tmp_path, holders=[desk, bot], name=name) as (first, second):
        await revoked_meanwhile(first, second, desk, bot, monkeypatch)
    async with nodes(folder(tmp_path, "new"), 1, holders=[desk, bot], name=name) as (live,):
        assert live.parts.keys.current(bot.key_id) is None
        assert live.parts.keys.current(desk.key_id) is not None


async def test_a_key_that_reads_nothing_and_is_given_again_stays_so(tmp_path: Path) -> None:
    """Regression: no note said so, and from the next start on it was revoked again."""
    name, desk, bot = stream_name(), principal(), principal("bot", "publish")
    async with nodes(tmp_path, holders=[desk, bot], name=name) as (first, second):
        entries = first.parts.keys._entries
        hand_out(first, desk)
        await settle(first)
        first.parts.keys._entries = entries
        await settle(first)
        await level(first, second)
        assert second.parts.keys.current(bot.key_id) is not None
    async with nodes(folder(tmp_path, "new"), 1, holders=[desk, bot], name=name) as (live,):
        assert live.parts.keys.current(bot.key_id) is not None
