"""`telecast serve --workers N` as an operator and clients meet it: real processes on one port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.test_serve import run
from tests.support.payloads import price
from tests.support.service.live import Ended, WsReader
from tests.support.service.nats import needs_nats, shared
from tests.support.service.process import PATIENCE, Service

pytestmark = needs_nats

PUBLISHED = ("telecast_events_published_total", "market-data")


@asynccontextmanager
async def workers(folder: Path, name: str, count: int = 2, **settings: Any) -> AsyncIterator[Crew]:
    """A service of several workers on a log of its own."""
    own = Crew(
        folder,
        journal=f"{shared().url}/{name}",
        workers=count,
        journal_copy=folder / "copy.db",
        **settings,
    )
    try:
        await own.start()
        async with aiohttp.ClientSession() as own.session:
            yield own
    finally:
        await own.end()


class Crew(Service):
    session: aiohttp.ClientSession

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = []
        for line in self.log:
            with contextlib.suppress(orjson.JSONDecodeError):
                lines.append(orjson.loads(line))
        return [line for line in lines if line["event"] == event]

    async def until_said(self, event: str, times: int = 1) -> list[dict[str, Any]]:
        async with asyncio.timeout(PATIENCE):
            while len(found := self.said(event)) < times:  # noqa: ASYNC110 - a log knows no event
                await asyncio.sleep(0)
        return found

    def pids(self) -> dict[int, int]:
        """The processes of the workers, as the log has them."""
        return {line["worker"]: line["pid"] for line in self.said("a worker is up")}

    async def publish(self, number: int) -> str:
        """Once, whatever happens to the worker that is asked."""
        once = self.headers | {"Idempotency-Key": f"n{number}"}
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with self.session.post(
                    f"{self.url}/api/v1/channels/market-data/events",
                    headers=once,
                    json=price(price=str(number)),
                ) as response:
                    if response.status == 201:
                        position: str = (await response.json())["data"]["position"]
                        return position

    async def counts(self) -> dict[tuple[str, ...], float]:
        """Once all workers have answered: on a busy machine one may be too late."""
        async with asyncio.timeout(PATIENCE):
            while (found := await self._scraped())["telecast_workers",] < 2:
                pass
        return found

    async def _scraped(self) -> dict[tuple[str, ...], float]:
        """By another connection each time, so that each worker is asked at some time."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}/metrics", headers=self.headers) as response,
        ):
            text = await response.text()
            assert response.status == 200, text
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


class Follower:
    """A client that follows all prices, and comes back where it was."""

    def __init__(self, own: Crew, epoch: str) -> None:
        self.prices: list[str] = []
        self.ends: list[int | None] = []
        self._own = own
        self._epoch = epoch
        self._seq: int | None = None
        self._last = asyncio.Event()
        self._until = ""

    async def reached(self, number: int) -> None:
        self._until = str(number)
        async with asyncio.timeout(PATIENCE):
            while self._until not in self.prices:
                self._last.clear()
                await self._last.wait()

    async def run(self, opened: asyncio.Event) -> None:
        while True:
            query = {"channels": "market-data", "delivery": "all"}
            if self._seq is not None:
                query["since"] = f"{self._epoch}:{self._seq}"
            with contextlib.suppress(aiohttp.ClientError):
                async with self._own.session.ws_connect(
                    f"{self._own.url}/ws/telemetry", headers=self._own.headers, params=query
                ) as ws:
                    await self._follow(WsReader(ws), opened)

    async def _follow(self, reader: WsReader, opened: asyncio.Event) -> None:
        try:
            while True:
                body = (await reader.read()).body
                if body["type"] == "event":
                    self.prices.append(body["data"]["price"])
                    self._seq = body["seq"]
                    self._last.set()
                elif body["type"] == "live":
                    opened.set()
                assert body["type"] != "snapshot" or self._seq is None, "a resume is exact"
        except Ended as end:
            self.ends.append(end.code)


@asynccontextmanager
async def following(own: Crew, count: int) -> AsyncIterator[list[Follower]]:
    """So many clients that are live; the port's hash spreads them over the workers."""
    epoch = (await own.publish(0)).split(":")[0]
    followers = [Follower(own, epoch) for _ in range(count)]
    opened = [asyncio.Event() for _ in followers]
    tasks = [
        asyncio.create_task(each.run(event)) for each, event in zip(followers, opened, strict=True)
    ]
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(event.wait() for event in opened))
        yield followers
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in results), results


async def over(pid: int) -> None:
    """Wait for the end of a process that is not a child of ours."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, gone.set)
    try:
        async with asyncio.timeout(PATIENCE):
            await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def test_a_killed_worker_hurts_nobody_at_the_others_and_its_clients_resume_elsewhere(
    tmp_path: Path,
) -> None:
    async with workers(tmp_path, "crash") as own, following(own, 12) as followers:
        pids = own.pids()
        for number in range(1, 21):
            await own.publish(number)
        await asyncio.gather(*(each.reached(20) for each in followers))
        for _ in range(6):
            counts = await own.counts()
            assert counts[PUBLISHED] == 21
            assert counts["telecast_connections", "ws"] == 12
            assert counts["telecast_workers",] == 2
            assert counts["telecast_head_seq",] >= 21  # the service may say that a channel is stale
            assert {name[1] for name in counts if name[0] == "process_open_fds"} == {"1", "2"}
        os.kill(pids[1], signal.SIGKILL)
        for number in range(21, 41):
            await own.publish(number)
        await asyncio.gather(*(each.reached(40) for each in followers))
        hurt = [each for each in followers if each.ends]
        assert 0 < len(hurt) < len(followers)
        for each in followers:
            assert each.prices[-20:] == [str(number) for number in range(21, 41)]
            assert len(each.prices) == len(set(each.prices))
        (line,) = await own.until_said("a worker has ended; it is restarted")
        assert (line["worker"], line["status"]) == (1, -9)
        await own.until_said("a worker is up", times=3)
        after = await own.counts()
        assert after["telecast_worker_restarts_total",] == 1
        assert after["telecast_workers",] == 2
        # What the killed one had counted is still in the sums.
        for where, value in counts.items():
            if where[0].endswith(("_total", "_bucket", "_count")):
                assert after[where] >= value, where
        # The parent dies: nothing of the service stays behind.
        again = own.pids()
        assert again[1] != pids[1]
        own.kill()
        await asyncio.gather(*map(over, again.values()))


async def test_a_rolling_restart_and_a_reload_lose_nobody_anything(tmp_path: Path) -> None:
    settings = tmp_path / "telecast.toml"
    settings.write_text("max_channels = 2\n")
    async with (
        workers(tmp_path, "roll", config=settings) as own,
        following(own, 8) as followers,
    ):
        before = own.pids()
        settings.write_text("max_channels = 3\nmax_rows_per_channel = 1000\n")
        os.kill(own.pid, signal.SIGHUP)
        for line in await own.until_said("settings read again", times=3):
            assert line["changed"] == ["max_channels"]
            assert line["need_a_restart"] == ["max_rows_per_channel"]
        ended = {each.get("worker") for each in own.said("settings read again")}
        assert ended == {None, 1, 2}
        os.kill(own.pid, signal.SIGUSR2)
        done = asyncio.create_task(own.until_said("rolling restart done"))
        number = 0
        while not done.done():
            number += 1
            await own.publish(number)
        await asyncio.gather(*(each.reached(number) for each in followers))
        for each in followers:
            assert each.prices[-number:] == [str(count) for count in range(1, number + 1)]
            assert set(each.ends) <= {1001}, "each end came with a notice"
        after = own.pids()
        assert after[1] != before[1]
        assert after[2] != before[2]
        counts = await own.counts()
        assert counts[PUBLISHED] == number + 1
        assert counts["telecast_worker_restarts_total",] == 0
        # A mistake is said once, and nothing is restarted.
        settings.write_text("max_channels = 0\n")
        os.kill(own.pid, signal.SIGUSR2)
        (line,) = await own.until_said("settings not read again")
        assert "max_channels" in line["problems"][0]
        # Somebody else who would share the port is refused.
        status, text = await run(
            tmp_path,
            *("--port", str(own.port), "--workers", "2", "--journal", f"{shared().url}/roll"),
        )
        assert status == 1
        assert "Something listens on" in text
        assert own.pids() == after
        # As systemd ends a unit: each process gets the signal, and the parent passes it on.
        for pid in (*after.values(), own.pid):
            os.kill(pid, signal.SIGTERM)
        assert await own.gone() == 0, b"".join(own.log[-9:]).decode()
        assert not own.said("asked again: not waiting any more")


async def test_a_start_that_fails_says_so_once_and_ends(tmp_path: Path) -> None:
    status, text = await run(
        tmp_path, "--port", "0", "--workers", "3", "--journal", f"{shared().url}/never"
    )
    assert status == 1
    assert text.count("Error: There is no keys file keys.toml") == 1
    assert text.count("Error:") == 1


@pytest.mark.parametrize("journal", ["sqlite:telecast.db", "memory:"])
async def test_a_journal_of_one_process_is_refused_with_the_way_to_a_shared_one(
    journal: str, tmp_path: Path
) -> None:
    status, text = await run(tmp_path, "--workers", "2", "--journal", journal)
    assert status == 1
    assert "nats-server -js -sd DIR" in text
    moved = f"telecast journal move {journal} nats://127.0.0.1:4222/telecast"
    assert (moved in text) == journal.startswith("sqlite:")
    assert not (tmp_path / "telecast.db").exists()


async def test_nobody_but_the_parent_starts_a_worker(tmp_path: Path) -> None:
    status, text = await run(tmp_path, "--as-worker", "1")
    assert status == 2
    assert "leave it out" in text


async def test_systemd_is_notified_once_and_a_worker_that_stands_still_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.setblocking(False)
        line.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "2000000")
        async with workers(tmp_path, "notified") as own:
            heard = asyncio.create_task(heard_until(line, "STOPPING=1"))
            async with following(own, 8) as followers:
                pids = own.pids()
                os.kill(pids[2], signal.SIGSTOP)
                await own.until_said("a worker's loop stood still: it is killed")
                async with asyncio.timeout(PATIENCE):
                    while own.pids()[2] == pids[2]:  # noqa: ASYNC110 - a log knows no event
                        await asyncio.sleep(0)
                for number in range(1, 4):
                    await own.publish(number)
                await asyncio.gather(*(each.reached(3) for each in followers))
                assert any(each.ends for each in followers)
                assert all(each.prices[-3:] == ["1", "2", "3"] for each in followers)
                assert (await own.counts())["telecast_worker_hangs_total",] == 1
            await own.stop()
            said = await heard
            assert said[0] == "READY=1"
            assert said.count("READY=1") == 1
            assert set(said[1:-1]) == {"WATCHDOG=1"}


async def heard_until(line: socket.socket, last: str) -> list[str]:
    found: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while last not in found:
            found.append((await asyncio.get_running_loop().sock_recv(line, 100)).decode())
    return found
