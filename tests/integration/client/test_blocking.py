"""The client without asyncio, from threads and scripts, against the real service."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from telecast.client import Client as Asynchronous
from telecast.client import Closed, Op, PositionFile, Refused, State, View
from telecast.client.blocking import Client
from telecast.client.blocking import View as BlockingView
from tests.support.payloads import position, trader
from tests.support.service.live import Live, served

PATIENCE = 90.0


def client(live: Live, **options: Any) -> Client:
    return Client(live.url, **{"key": live.secrets["desk"], "patience": PATIENCE, **options})


async def in_thread(act: Callable[[], Any]) -> Any:
    """As a script would do it, beside the service, which is in this thread's loop."""
    return await asyncio.to_thread(act)


def signatures(kind: type, like: type) -> dict[str, list[tuple[str, Any, Any]]]:
    return {
        name: [(each.name, each.kind, each.default) for each in _parameters(kind, name)]
        for name, value in vars(like).items()
        if inspect.isfunction(value) and (not name.startswith("_") or name == "__init__")
    }


def _parameters(kind: type, name: str) -> list[inspect.Parameter]:
    return list(inspect.signature(getattr(kind, name)).parameters.values())


def test_every_call_and_option_is_that_of_the_asynchronous_client():
    assert signatures(Client, Asynchronous) == signatures(Asynchronous, Asynchronous)
    members = {name for name in vars(View) if not name.startswith("_")}
    assert members <= vars(BlockingView).keys()


async def test_a_view_is_the_table_and_each_change_can_be_waited_for():
    async with served() as live:
        await live.publish("positions", position("p1"), position("p2"))

        def script() -> None:
            with client(live) as telecast:
                positions = telecast.view("positions")
                assert positions.state is State.LIVE
                assert sorted(positions) == ["p1", "p2"]
                assert positions["p1"]["id"] == "p1"
                first = positions.wait(PATIENCE)
                assert first is not None
                assert (first.keys, first.everything) == ({"p1", "p2"}, True)
                assert positions.wait(0) is None, "nothing has changed since"
                telecast.publish("positions", position("p3"))
                second = positions.wait(PATIENCE)
                assert second is not None
                assert second.keys == {"p3"}
                assert {row["id"] for row in positions.values()} == {"p1", "p2", "p3"}
                assert next(iter(positions.changed)).everything
                kept = positions
            assert kept.state is State.DISCONNECTED
            assert sorted(kept.rows()) == ["p1", "p2", "p3"], "the rows stay as they were"
            assert list(kept.changed) == []
            with pytest.raises(Closed):
                kept.wait()

        await in_thread(script)
        await live.everybody_gone()


async def test_changes_come_one_by_one_and_the_place_is_kept(tmp_path: Path):
    async with served() as live:
        await live.publish("positions", position("p1"), position("p2"))
        place = PositionFile(tmp_path / "place")

        def script(stop: str, **how: Any) -> list[str]:
            seen = []
            with client(live) as telecast:
                for change in telecast.follow("positions", keep=place, **how):
                    seen.append(change.key if change.op is Op.UPSERT else change.op.value)
                    if change.key == stop:
                        break
            return seen

        assert await in_thread(lambda: script("p2", since="earliest")) == ["p1", "p2"]
        await live.publish("positions", position("p3"))
        again = await in_thread(lambda: script("p3"))
        assert again == ["p2", "p3"], "what was being handled comes again, nothing before it"
        await live.everybody_gone()


async def test_leaving_the_loop_ends_the_connection_of_a_client_that_goes_on():
    async with served() as live:
        await live.publish("positions", position("p1"))
        left, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def script() -> None:
            with client(live) as telecast:
                for change in telecast.follow("positions"):
                    if change.key == "p1":
                        break
                loop.call_soon_threadsafe(left.set)
                assert go_on.wait(PATIENCE)
                telecast.publish("positions", position("p2"))

        working = asyncio.create_task(in_thread(script))
        async with asyncio.timeout(PATIENCE):
            await left.wait()
            await live.everybody_gone()
        go_on.set()
        await working


async def test_what_the_service_refuses_is_raised_where_it_was_asked():
    async with served() as live:

        def script() -> None:
            with client(live) as telecast:
                with pytest.raises(Refused) as refused:
                    telecast.publish("trader-status", trader("t1") | {"status": "RUNING"})
                assert refused.value.code == "VALIDATION_FAILED"
                with pytest.raises(Refused):
                    telecast.view("positionz")
                with pytest.raises(ValueError, match="client_id"):
                    telecast.follow("positions", acknowledge=True)
            with pytest.raises(Closed):
                telecast.channels()
            telecast.close()

        await in_thread(script)


async def test_a_key_function_that_calls_its_client_is_told_so_instead_of_waiting_for_ever():
    async with served() as live:
        reported: list[str] = []

        def script() -> None:
            def key() -> str:
                with pytest.raises(RuntimeError) as wrong:
                    telecast.channels()
                reported.append(str(wrong.value))
                return live.secrets["desk"]

            with client(live, key=key) as telecast:
                telecast.publish("positions", position("p1"))

        await in_thread(script)
        assert "would wait for itself" in reported[0]


NOTEBOOK = """
import asyncio, os, signal, threading
from telecast.client.blocking import Client

telecast = Client(os.environ["TELECAST_URL"], key=os.environ["TELECAST_KEY"])
changes = telecast.follow("positions", since="earliest")
print(next(changes).key, flush=True)

async def cell():
    # An event loop runs already, as in a notebook.
    try:
        print("waits", flush=True)
        next(changes)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print(len(telecast.view("positions")), "rows", flush=True)

loop = asyncio.new_event_loop()
loop.run_until_complete(cell())
loop.close()
held = telecast.follow("positions", since="earliest")
print(next(held).key, flush=True)
print(*sorted(each.name for each in threading.enumerate()), flush=True)
# It ends here, with a client that nobody closed and a stream that nobody left.
"""


async def test_an_interrupt_ends_the_call_alone_and_a_program_ends_without_closing():
    async with served() as live:
        await live.publish("positions", position("p1"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", NOTEBOOK),
            env={**os.environ, "TELECAST_URL": live.url, "TELECAST_KEY": live.secrets["desk"]},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"p1\n"
            assert await process.stdout.readline() == b"waits\n"
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
        said = out.decode().splitlines()
        assert said == ["interrupted", "1 rows", "p1", "MainThread telecast-client"], err.decode()
        assert (process.returncode, err) == (0, b"")
        await live.everybody_gone()
