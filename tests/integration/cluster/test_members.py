"""A node that is gone without a goodbye is missed, until it is back or forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from telecast.journal.base import Batch, Note, read_book
from telecast.web.nodes import calls, members
from telecast.web.nodes.members import BOOK, KEPT_SECONDS, MOST, Members
from tests.integration.cli.test_operating import telecast
from tests.support.service.live import Live, principal
from tests.support.service.nats import needs_nats
from tests.support.service.nodes import folder, known, level, nodes, stream_name

pytestmark = needs_nats

FEW = principal("few", "read", "admin", forced={"traderId": frozenset({"t1"})})


async def noted(*lives: Live) -> None:
    """Each is in the book, as the first of them knows it."""
    for live in lives:
        place = live.parts.members.place
        await lives[0].until(lambda place=place: place in lives[0].parts.members._kept)


@asynccontextmanager
async def killed(where: Path, name: str, beside: Live, **given: Any) -> AsyncIterator[str]:
    """The name of a node that ran in that folder, and ended without a word."""
    async with nodes(where, 1, name=name, **given) as (live,):
        await noted(beside, live)
        node = str(live.parts.journal.peers.node)
        await met(beside, node)
        await die(live, beside)
    beside.parts.journal.peers._seen.pop(node, None)  # type: ignore[attr-defined]  # a minute later
    yield node


async def met(live: Live, node: str) -> None:
    await live.until(lambda: node in {each.node for each in live.parts.journal.peers.others()})


async def die(live: Live, beside: Live) -> None:
    """It says nothing more, no goodbye either, and what it had said has come to the other one."""
    live.parts.members.place = "nowhere"
    live.parts.members.look = _nothing  # type: ignore[method-assign]
    peers = live.parts.journal.peers
    peers._beat.cancel()  # type: ignore[attr-defined]
    peers._beat = None  # type: ignore[attr-defined]
    heard = asyncio.Event()

    async def hear(_: object) -> None:
        heard.set()

    beside.parts.journal.peers.on("last", hear)
    peers.say("last", None)
    await heard.wait()


async def _nothing() -> None: ...


async def listed(live: Live, **asked: Any) -> dict[str, dict[str, Any]]:
    found = await live.get("/api/v1/nodes", **asked)
    return {each["node"]: each for each in found["nodes"]}


async def test_a_node_that_was_killed_is_missed_also_by_one_that_never_met_it(
    tmp_path: Path,
) -> None:
    name = stream_name()
    async with (
        nodes(folder(tmp_path, "a"), 1, name=name) as (first,),
        killed(folder(tmp_path, "b"), name, first) as gone,
    ):
        entry = (await listed(first))[gone]
        assert (entry["ready"], entry["connections"]) == (False, None)
        assert entry["silentSeconds"] >= 0
        assert entry["lastSeenAt"].endswith("Z")
        async with nodes(folder(tmp_path, "c"), 1, name=name) as (later,):
            assert not (await listed(later))[gone]["ready"]
        code, out, err = await telecast(first, "cluster", "status")
        assert (code, err) == (1, "")
        assert f"{gone} " in out
        assert "NOT READY" in out or "SILENT" in out


async def test_it_is_missed_no_more_once_it_is_back_in_its_place(tmp_path: Path) -> None:
    name = stream_name()
    async with (
        nodes(folder(tmp_path, "a"), 1, name=name) as (first,),
        killed(folder(tmp_path, "b"), name, first) as gone,
        nodes(folder(tmp_path, "b"), 1, name=name) as (back,),
    ):
        await noted(first, back)
        await first.until(lambda: not first.parts.members.gone())
        await met(first, str(back.parts.journal.peers.node))
        assert gone not in await listed(first)
        code, out, _ = await telecast(first, "cluster", "status", "--expect", "2")
        assert (code, out.count(" ready\n")) == (0, 2), out


async def test_who_says_goodbye_is_not_missed_but_by_who_expects_more(tmp_path: Path) -> None:
    name = stream_name()
    async with nodes(folder(tmp_path, "a"), 1, name=name) as (first,):
        async with nodes(folder(tmp_path, "b"), 1, name=name) as (second,):
            await noted(first, second)
            await known(first, second)
            await second.parts.members.leave()
            await first.until(lambda: len(first.parts.members._kept) == 1)
            await second.parts.members.look()
            await level(second, first)
            assert len(first.parts.members._kept) == 1, "a look took the goodbye back"
        await first.until(lambda: len(first.parts.members._kept) == 1)
        code, _, err = await telecast(first, "cluster", "status")
        assert (code, err) == (0, "")
        code, _, err = await telecast(first, "cluster", "status", "--expect", "2")
        assert (code, err) == (1, "Error: 2 nodes are expected, and 1 ready: 1 missing.\n")


async def test_a_node_that_does_not_come_back_is_forgotten_at_all_and_who_is_there_is_not(
    tmp_path: Path,
) -> None:
    name = stream_name()
    async with (
        nodes(folder(tmp_path, "a"), 1, name=name) as (first,),
        nodes(folder(tmp_path, "c"), 1, name=name) as (second,),
        killed(folder(tmp_path, "b"), name, first) as gone,
    ):
        await noted(first, second)
        code, out, _ = await telecast(first, "cluster", "forget", gone)
        assert (code, out) == (0, f"{gone} is forgotten.\n")
        await level(first, second)
        assert gone not in await listed(first)
        (entry, *_) = second.parts.audit.before(None)
        assert (entry.action, entry.target) == ("forget-node", gone)
        for node, status, word in (
            (gone, 404, "NODE_NOT_FOUND"),
            (str(first.parts.journal.peers.node), 400, "BAD_REQUEST"),
        ):
            found, answer, _ = await first.ask("DELETE", f"/api/v1/nodes/{node}")
            assert (found, answer["error"]["code"]) == (status, word)


async def test_a_silent_node_whose_place_is_taken_or_that_is_forgotten_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It still is in the memory of the node that is asked, for a minute."""
    name = stream_name()
    async with nodes(folder(tmp_path, "a"), 1, name=name) as (first,):
        async with nodes(folder(tmp_path, "b"), 1, name=name) as (second,):
            await noted(first, second)
            await known(first, second)
            node = str(second.parts.journal.peers.node)
            await die(second, first)
        for module in (members, calls):
            monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
        assert "logSequence" in (await listed(first))[node]
        assert await first.parts.members.forget(node)
        assert node in {each.node for each in first.parts.journal.peers.others()}
        assert node not in await listed(first)


async def test_after_a_day_and_beyond_a_number_of_places_the_oldest_are_missed_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nodes(tmp_path, 1) as (live,):
        await noted(live)
        book: Members = live.parts.members
        now = live.parts.journal.now()
        for number in range(3):
            await other_place(live, f"place-{number}", now - number)
        await other_place(live, "old", now - KEPT_SECONDS - 1)
        assert len(book.gone()) == 4
        await book.look()
        assert {each.place for each in book.gone()} == {"place-0", "place-1", "place-2"}
        monkeypatch.setattr(members, "MOST", 2)
        await book.look()
        assert {each.place for each in book.gone()} == {"place-0", "place-1"}
        assert set(await read_book(live.parts.journal, BOOK)) == {
            book.place,
            "place-0",
            "place-1",
        }
    assert MOST >= 64


async def other_place(live: Live, place: str, at: float) -> None:
    value = orjson.dumps([f"node of {place}", "0.2.0", at])
    await live.parts.journal.append(Batch(notes=(Note(BOOK, place, value),)))


async def test_a_narrowed_admin_is_shown_no_counts_of_who_is_gone_either(tmp_path: Path) -> None:
    name = stream_name()
    holders = [principal(), FEW]
    async with (
        nodes(folder(tmp_path, "a"), 1, name=name, holders=holders) as (first,),
        killed(folder(tmp_path, "b"), name, first, holders=holders) as gone,
    ):
        assert (await listed(first, who="few"))[gone]["connections"] is None
