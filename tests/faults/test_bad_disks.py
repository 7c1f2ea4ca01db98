"""The real service on a disk that is full, fails to sync, or does not come back from a sync."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.faults.disk import Disk, library
from tests.support.payloads import position
from tests.support.service.live import SseReader
from tests.support.service.process import PATIENCE, Service
from tests.support.service.rest import history, rows

pytestmark = pytest.mark.skipif(isinstance(library(), str), reason=str(library()))


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: dict[str, Any]
    retry_after: str | None

    @property
    def error(self) -> dict[str, Any]:
        reported: dict[str, Any] = self.body["error"]
        return reported


class Desk:
    """A publisher and reader of a service on a disk that can be made bad."""

    def __init__(self, own: Service, disk: Disk, session: aiohttp.ClientSession) -> None:
        self.own = own
        self.control = disk.control
        self._session = session

    async def publish(self, key: str, retry: str | None = None, **said: Any) -> Answer:
        url = f"{self.own.url}/api/v1/channels/positions/events"
        headers = {} if retry is None else {"Idempotency-Key": retry}
        asked = self._session.post(url, json=position(key, **said), headers=headers)
        async with asyncio.timeout(PATIENCE), asked as response:
            reported = orjson.loads(await response.read())
            return Answer(response.status, reported, response.headers.get("Retry-After"))

    async def status(self, path: str) -> tuple[int, str]:
        async with asyncio.timeout(PATIENCE), self._session.get(self.own.url + path) as response:
            return response.status, await response.text()

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[SseReader]:
        url = f"{self.own.url}/sse/telemetry?channels=positions"
        async with self._session.get(url) as response:
            yield SseReader(response.content.readline)

    async def until(self, done: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not done():
                await self.status("/livez")

    async def keys(self) -> list[str]:
        """The keys of the history, in order: from the journal where the tape is too short."""
        return [orjson.loads(event)["key"] for event in await history(self.own, "positions")]


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    disk = Disk(tmp_path)
    for name, value in disk.environment.items():
        monkeypatch.setenv(name, value)
    own = Service(disk.files, backlog_events=40, max_batch_events=40, tape_events=1)
    try:
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            headers=own.headers, timeout=timeout, connector=connector
        ) as session:
            await own.start()
            yield Desk(own, disk, session)
    finally:
        disk.control.hold = disk.control.full = 0
        await own.end()


async def until_refused(desk: Desk) -> tuple[list[str], Answer]:
    """Publish until it is refused: the keys that were acknowledged, and the refusal."""
    taken: list[str] = []
    while True:
        key = f"p{len(taken)}"
        answer = await desk.publish(key)
        if answer.status != 201:
            return taken, answer
        taken.append(key)


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EFBIG"])
async def test_a_full_disk_refuses_publishes_and_nothing_else_until_there_is_space(
    desk: Desk, error: str
) -> None:
    async with desk.stream() as stream:
        await stream.opening()
        assert (await desk.publish("first")).status == 201
        desk.control.full = getattr(errno, error)
        taken, refusal = await until_refused(desk)
        assert (refusal.status, refusal.error["code"]) == (503, "JOURNAL_UNAVAILABLE")
        assert refusal.error["retryable"]
        assert refusal.error["details"] is None, "it is known that nothing was committed"
        assert int(refusal.retry_after or 0) >= 1
        assert "free some" in refusal.error["message"]
        assert desk.control.refused > 0
        status, said = await desk.status("/readyz?verbose")
        assert (status, "free some" in said) == (503, True)
        assert (await desk.status("/livez"))[0] == 200
        known = ["first", *taken]
        assert await desk.keys() == known, "the history is read"
        assert list(await rows(desk.own, "positions")) == [("positions", key) for key in known]
        async with desk.stream() as newcomer:
            await newcomer.opening()
        desk.control.full = 0
        assert (await desk.publish("after")).status == 201
        assert (await desk.status("/readyz"))[0] == 200
        reported = [each.body["key"] for each in await stream.events(len(known) + 1)]
        assert reported == [*known, "after"] == await desk.keys()
    await desk.own.stop()


async def test_after_a_sync_that_failed_nothing_is_taken_until_a_restart(desk: Desk) -> None:
    async with desk.stream() as stream:
        await stream.opening()
        assert (await desk.publish("first")).status == 201
        desk.control.sync_count, desk.control.sync_error = 1, errno.EIO
        lost = await desk.publish("lost", "again")
        assert (lost.status, lost.error["details"]) == (503, {"unknown": True})
        assert desk.control.sync_count == 0, "syncs succeed from here on"
        for _ in range(3):
            later = await desk.publish("later")
            assert (later.status, "restart" in later.error["message"]) == (503, True)
        status, said = await desk.status("/readyz?verbose")
        assert (status, "check the disk, then restart" in said) == (503, True)
        assert (await desk.status("/livez"))[0] == 200
        assert await desk.keys() == ["first"]
        assert [each.body["key"] for each in await stream.events()] == ["first"]
    await desk.own.stop()
    await desk.own.start()
    assert (await desk.status("/readyz"))[0] == 200
    assert (await desk.publish("lost", "again")).status in (200, 201)
    assert await desk.keys() == ["first", "lost"], "once"
    await desk.own.stop()


async def test_a_sync_that_hangs_holds_up_publishers_and_nobody_else(desk: Desk) -> None:
    """What waits is bounded; the loop turns: it answers all else, as often as it is asked."""
    assert (await desk.publish("first")).status == 201
    desk.control.hold = 1
    publishing = [asyncio.create_task(desk.publish("p0"))]
    await desk.until(lambda: desk.control.held)
    publishing += [asyncio.create_task(desk.publish(f"p{n}")) for n in range(1, 100)]
    await desk.until(lambda: sum(each.done() for each in publishing) == 100 - 1 - 40)
    refused = [each.result() for each in publishing if each.done()]
    assert {(each.status, each.error["code"]) for each in refused} == {(503, "OVERLOADED")}
    assert all(int(each.retry_after or 0) >= 1 for each in refused)
    for _ in range(200):
        assert (await desk.status("/livez"))[0] == 200
    assert await desk.keys() == ["first"]
    assert list(await rows(desk.own, "positions")) == [("positions", "first")]
    async with desk.stream() as stream:
        await stream.opening()
    assert sum(each.done() for each in publishing) == len(refused), "nothing by luck"
    assert desk.control.held == 1
    desk.control.hold = 0
    answers = await asyncio.gather(*publishing)
    taken = [f"p{n}" for n, answer in enumerate(answers) if answer.status == 201]
    assert len(taken) == 100 - len(refused) == 41
    assert sorted(await desk.keys()) == sorted(["first", *taken])
    await desk.own.stop()
