"""A SQLite journal is moved into a stream with its positions, is fetched again, and put back."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from telecast.cli import main
from telecast.errors import (
    JournalCorrupt,
    JournalLocked,
    JournalUnavailable,
    SettingsError,
    TelecastError,
)
from telecast.journal.base import Batch, Idempotency, Note
from telecast.journal.jetstream import move as move_module
from telecast.journal.jetstream.address import Access, parse_address
from telecast.journal.jetstream.move import Moved, move
from telecast.model import Entry, Record, Retention
from tests.support.service import nats
from tests.support.service.nats import NatsServer, needs_nats

pytestmark = needs_nats

A = "trader-status"
KEEP = {A: Retention(5, 1e9)}


@pytest.fixture
def url(server: NatsServer, tmp_path: Path) -> str:
    return f"{server.url}/{tmp_path.name[-28:]}"


def one(key: str) -> Batch:
    return Batch(
        records=(Record(A, key, "upsert", False, b"{}"),), idempotency=Idempotency(key, b"d" * 32)
    )


def opened(url: str, copy: Path = Path("unused")) -> AbstractAsyncContextManager[Any]:
    return nats.opened(url, KEEP, copy)


@pytest.fixture
async def source(tmp_path: Path) -> Path:
    """A journal with ten rows, of which it remembers five events beside the newest, and a note."""
    path = tmp_path / "telecast.db"
    async with opened(f"sqlite:{path}") as journal:
        for number in range(10):
            await journal.append(one(f"k{number % 7}-{number}"[:2] + str(number)))
            await journal.append(
                Batch(records=(Record(A, "often", "upsert", False, b"%d" % number),))
            )
        await journal.append(Batch(notes=(Note("consumer", "desk", b"17"),)))
        await journal.trim()
    return path


async def told(journal: Any) -> tuple[Any, ...]:
    page = await journal.read([A], 0, 1000)
    return journal.epoch, journal.head, page.entries, page.floors, await journal.notes("consumer")


async def moved(path: Path, url: str) -> Moved:
    return await move(str(path), parse_address(url), Access(), replicas=1)


async def test_a_journal_that_was_moved_is_the_same_on_every_node(
    source: Path, url: str, tmp_path: Path
) -> None:
    async with opened(f"sqlite:{source}") as journal:
        before = await told(journal)
    assert (await moved(source, url)) == Moved(before[0], before[1])
    async with opened(url, tmp_path / "a.db") as first, opened(url, tmp_path / "b.db") as second:
        assert await told(first) == await told(second) == before
        assert (await first.append(one("k00"))).duplicate
        receipt = await second.append(one("new"))
        assert receipt.first_seq == before[1] + 1
        await first._reached(second._place.applied)
        assert first._place == second._place
    async with opened(url, tmp_path / "a.db") as again:
        assert (again.epoch, again.head) == (before[0], before[1] + 1)


async def test_a_journal_that_was_moved_is_no_journal_any_more(source: Path, url: str) -> None:
    await moved(source, url)
    with pytest.raises(JournalUnavailable, match=f"was moved to {url}.*--journal {url}"):
        async with opened(f"sqlite:{source}"):
            pass
    assert (await moved(source, url)).again
    with pytest.raises(SettingsError, match="already"):
        await moved(source, url + "2")


async def test_one_that_a_service_has_open_is_not_moved(source: Path, url: str) -> None:
    async with opened(f"sqlite:{source}") as journal:
        with pytest.raises(JournalLocked):
            await moved(source, url)
        await journal.append(one("later"))


async def test_a_stream_that_is_there_is_not_touched(
    source: Path, url: str, tmp_path: Path
) -> None:
    async with opened(url, tmp_path / "a.db") as journal:
        await journal.append(one("mine"))
        with pytest.raises(SettingsError, match="There is a stream"):
            await moved(source, url)
    async with opened(f"sqlite:{source}"):
        pass


@pytest.mark.parametrize("step", ["made", "filled", "_mark", "finished"])
async def test_a_move_that_is_cut_off_is_done_by_the_same_command(
    step: str, source: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off before each step: nobody goes on from half of it."""
    async with opened(f"sqlite:{source}") as journal:
        before = await told(journal)

    class CutOff(Exception):
        pass

    def cut(*_: Any, **__: Any) -> None:
        raise CutOff

    with monkeypatch.context() as patch:
        patch.setattr(move_module if step == "_mark" else move_module._Target, step, cut)
        with pytest.raises(CutOff):
            await moved(source, url)
    if step != "made":
        with pytest.raises(TelecastError, match="run it again"):
            async with opened(url, tmp_path / "a.db"):
                pass
    if step == "finished":
        with pytest.raises(JournalUnavailable, match="was moved"):
            async with opened(f"sqlite:{source}"):
                pass
    else:  # the service may go on, and the move is made later
        async with opened(f"sqlite:{source}") as journal:
            await journal.append(one("meanwhile"))
            before = await told(journal)
    assert not (await moved(source, url)).again
    async with opened(url, tmp_path / "a.db") as journal:
        assert await told(journal) == before


KILLED = """
import os, signal, sys
from telecast.cli import main
from telecast.journal.jetstream import move
target = move if sys.argv[1] == "_mark" else move._Target
setattr(target, sys.argv[1], lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
main(["journal", "move", *sys.argv[2:]])
"""


async def test_a_move_that_is_killed_loses_nothing(source: Path, url: str, tmp_path: Path) -> None:
    async with opened(f"sqlite:{source}") as journal:
        before = await told(journal)
    for step in ("filled", "_mark", "finished"):
        killed = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", KILLED, step, f"sqlite:{source}", url]
        )
        assert killed.returncode == -signal.SIGKILL
    await moved(source, url)
    async with opened(url, tmp_path / "a.db") as journal:
        assert await told(journal) == before


async def test_the_checkpoint_of_a_moved_journal_is_needed_to_start(
    source: Path, url: str, tmp_path: Path
) -> None:
    """A node must never begin with nothing, at the numbers of the journal that was moved."""
    await moved(source, url)
    async with opened(url, tmp_path / "a.db") as journal:
        await journal._log._servers.call(f"STREAM.DELETE.OBJ_telecast-{url.rpartition('/')[2]}")
    with pytest.raises(JournalCorrupt, match="no checkpoint leads from there"):
        async with opened(url, tmp_path / "b.db"):
            pass
    async with opened(url, tmp_path / "a.db"):
        pass


async def test_a_copy_of_another_stream_with_the_same_epoch_is_refused(
    source: Path, url: str, tmp_path: Path
) -> None:
    twin = tmp_path / "twin.db"
    await asyncio.to_thread(shutil.copy, source, twin)
    await moved(source, url)
    await moved(twin, url + "-2")
    async with opened(url, tmp_path / "a.db") as journal:
        await journal.append(one("new"))
    with pytest.raises(JournalCorrupt, match="copy of another log"):
        async with opened(url + "-2", tmp_path / "a.db"):
            pass


async def test_a_stream_that_is_made_anew_with_the_description_of_a_moved_one_has_its_own_epoch(
    source: Path, url: str, tmp_path: Path
) -> None:
    epoch = (await moved(source, url)).epoch
    name = url.rpartition("/")[2]
    async with opened(url, tmp_path / "a.db") as journal:
        call = journal._log._servers.call
        config = (await call(f"STREAM.INFO.{name}"))["config"]
        await call(f"STREAM.DELETE.{name}")
        await call(f"STREAM.CREATE.{name}", config)
    async with opened(url, tmp_path / "b.db") as journal:
        assert journal.epoch != epoch


def invoke(*command: str) -> Result:
    return CliRunner().invoke(main, ["journal", *command])


def test_the_commands_walk_from_a_file_to_a_stream_and_back(
    server: NatsServer, tmp_path: Path
) -> None:
    async def publish(url: str, key: str, copy: Path | None = None) -> tuple[str, list[str]]:
        async with opened(url, copy) as journal:
            await journal.append(one(key))
            entries: tuple[Entry, ...] = (await journal.read([A], 0, 1000)).entries
            return journal.epoch, [entry.key for entry in entries]

    file, url = tmp_path / "telecast.db", f"{server.url}/walk"
    epoch, _ = asyncio.run(publish(f"sqlite:{file}", "a"))
    result = invoke("move", f"sqlite:{file}", url)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert f"is now in {url}: epoch {epoch}, head 1" in result.stderr
    assert invoke("move", f"sqlite:{file}", url).stderr.startswith(f"{file} is in {url}")
    assert asyncio.run(publish(url, "b", tmp_path / "a.db")) == (epoch, ["a", "b"])

    fetched = tmp_path / "fetched.db"
    result = invoke("copy", str(fetched), "--journal", url)
    assert result.exit_code == 0, result.stderr
    assert f"epoch {epoch}, head 1" in result.stderr
    assert invoke("copy", str(fetched), "--journal", url).exit_code != 0
    assert asyncio.run(publish(url, "c", fetched)) == (epoch, ["a", "b", "c"])

    result = CliRunner().invoke(
        main,
        ["journal", "backup", str(tmp_path / "backup.db"), "--journal", url],
        env={"TELECAST_JOURNAL_COPY": str(fetched)},
    )
    assert result.exit_code == 0, result.stderr
    backup = tmp_path / "backup.db"
    assert "no journal of its own" in str(refusal(f"sqlite:{backup}"))
    assert "node's copy" in invoke("move", f"sqlite:{backup}", f"{server.url}/x").stderr
    result = invoke("restored", str(backup))
    assert result.exit_code == 0, result.stderr
    back, keys = asyncio.run(publish(f"sqlite:{backup}", "d"))
    assert back != epoch
    assert keys == ["a", "b", "c", "d"]
    assert invoke("move", f"sqlite:{backup}", f"{server.url}/walk-2").exit_code == 0
    assert asyncio.run(publish(f"{server.url}/walk-2", "e", tmp_path / "w.db"))[0] == back
    # The journal that was moved can be a journal again, with another epoch.
    assert invoke("restored", str(file)).exit_code == 0
    assert asyncio.run(publish(f"sqlite:{file}", "z"))[1] == ["a", "z"]


def refusal(url: str) -> TelecastError:
    async def tried() -> None:
        async with opened(url):
            pass

    with pytest.raises(TelecastError) as fault:
        asyncio.run(tried())
    return fault.value


async def test_a_copy_that_a_node_has_open_is_not_made_a_journal(
    server: NatsServer, tmp_path: Path
) -> None:
    async with opened(f"{server.url}/held", tmp_path / "a.db") as journal:
        await journal.append(one("a"))
        result = await asyncio.to_thread(invoke, "restored", str(tmp_path / "a.db"))
        assert "in use" in result.stderr
        assert os.path.exists(tmp_path / "a.db.state")  # noqa: ASYNC240
