"""What all workers have counted is asked one question at a time, and nothing piles up."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import orjson
import pytest

from telecast.supervision import gathering as module
from telecast.supervision.gathering import Gathering
from telecast.supervision.line import Line
from telecast.supervision.sums import Family, Join
from telecast.supervision.worker import Worker


class Asked:
    """A worker's end of its line, and what the parent has sent there."""

    def __init__(self, theirs: socket.socket) -> None:
        theirs.setblocking(False)
        self._socket = theirs
        self._read = b""

    async def question(self) -> None:
        while b"\n" not in self._read:
            self._read += await asyncio.get_running_loop().sock_recv(self._socket, 4096)
        line, _, self._read = self._read.partition(b"\n")
        assert orjson.loads(line) == {"give": True}

    def nothing_more(self) -> bool:
        try:
            self._read += self._socket.recv(4096)
        except BlockingIOError:
            return self._read == b""
        return False


@contextmanager
def workers(count: int) -> Iterator[tuple[Gathering, list[Asked]]]:
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(count)]
        for ends in pairs:
            for end in ends:
                stack.enter_context(end)
        lines = {number: Line(ours) for number, (ours, _) in enumerate(pairs, 1)}
        gathering = Gathering(lambda: lines, lambda: {"telecast_worker_restarts_total": 3})
        yield gathering, [Asked(theirs) for _, theirs in pairs]
        gathering.end()


def counted(value: float) -> list[object]:
    return [Family("counter", "n_total", "N.", Join.SUM, (((), value),)).as_json()]


def values(families: list[Family]) -> dict[str, float]:
    return {each.name: each.samples[0][1] for each in families}


async def test_scrapes_at_once_share_one_question() -> None:
    with workers(2) as (gathering, asked):
        scrapes = [asyncio.create_task(gathering.joined()) for _ in range(5)]
        for number, each in enumerate(asked, 1):
            await each.question()
            gathering.take(number, counted(number))
        for scrape in scrapes:
            assert values(await scrape) == {
                "n_total": 3,
                "telecast_worker_restarts_total": 3,
                "telecast_workers_unanswered": 0,
            }
        assert all(each.nothing_more() for each in asked)


async def test_who_scrapes_while_one_is_waited_for_asks_the_others_nothing_more() -> None:
    with workers(2) as (gathering, (first, second)):
        scrape = asyncio.create_task(gathering.joined())
        await first.question()
        await second.question()
        gathering.take(1, counted(1))
        late = asyncio.create_task(gathering.joined())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert first.nothing_more()
        gathering.take(2, counted(2))
        assert values(await scrape) == values(await late)


async def test_one_that_hangs_is_asked_once_and_named_until_it_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.01)
    with workers(1) as (gathering, (asked,)), caplog.at_level(logging.WARNING):
        gathering.take(1, counted(7))
        for _ in range(5):
            found = values(await gathering.joined())
            assert (found["n_total"], found["telecast_workers_unanswered"]) == (7, 1)
            monkeypatch.setattr(module, "GATHER_SECONDS", 3_600.0)  # it is waited for no more
        await asked.question()
        assert asked.nothing_more()
        assert len(caplog.records) == 1, "said once"
        assert caplog.records[0].worker == 1
        gathering.take(1, counted(8))
        scrape = asyncio.create_task(gathering.joined())
        await asked.question()
        gathering.take(1, counted(9))
        found = values(await scrape)
        assert (found["n_total"], found["telecast_workers_unanswered"]) == (9, 0)


async def test_one_that_ends_is_not_waited_for_and_not_missed() -> None:
    with workers(1) as (gathering, (asked,)):
        gathering.take(1, counted(7))
        scrape = asyncio.create_task(gathering.joined())
        await asked.question()
        gathering.ended(1)
        found = values(await scrape)
        assert (found["n_total"], found["telecast_workers_unanswered"]) == (7, 0)


async def test_a_worker_asks_its_parent_once_for_scrapes_that_come_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line, worker = Line(ours), Worker(Line(theirs), 1, 3600.0)
        following = asyncio.create_task(worker.follow(lambda notice: None))
        scrapes = [asyncio.create_task(worker.joined()) for _ in range(4)]
        messages = line.messages()
        assert [await anext(messages), await anext(messages)] == [{"alive": True}, {"join": True}]
        await line.send({"joined": counted(5)})
        assert [values(await each) for each in scrapes] == [{"n_total": 5}] * 4
        again = asyncio.create_task(worker.joined())
        assert await anext(messages) == {"join": True}, "the next one asks anew, and only once"
        await line.send({"joined": counted(6)})
        assert values(await again) == {"n_total": 6}
        following.cancel()


async def test_a_message_whose_sender_is_cancelled_half_way_spoils_no_other() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        line, other = Line(ours), Line(theirs)
        long = asyncio.create_task(line.send({"text": "x" * 1_000_000}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        long.cancel()
        short = asyncio.create_task(line.send({"short": True}))
        messages = other.messages()
        assert len((await anext(messages))["text"]) == 1_000_000
        assert await anext(messages) == {"short": True}
        await short
