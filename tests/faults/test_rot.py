"""Files that rot or lose their end: refused with what to do, or every byte sent is right."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from telecast.journal.sqlite.restored import restored
from tests.faults.rot import original, served_wrongly
from tests.support.payloads import position
from tests.support.service.live import rows as held
from tests.support.service.live import served
from tests.support.service.process import Service
from tests.support.service.rest import publish

SEEDS = int(os.environ.get("ROT_SEEDS", "150"))
"""For each kind of file; 5,000 take some two minutes."""


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
@pytest.mark.timeout(3600)
async def test_damaged_files_are_refused_or_serve_only_what_is_right(
    tmp_path: Path, killed: bool
) -> None:
    """Nothing that never was, nothing left out, no repeat committed twice, no other receipt."""
    made = await original(tmp_path, killed=killed)
    wrong, refused = [], 0
    for seed in range(SEEDS):
        found, done = await served_wrongly(made, seed)
        if found == "refused":
            refused += 1
        elif found is not None:
            wrong.append(f"{done}: {found}")
    assert wrong == []
    assert refused > SEEDS // 4, "the damage was real"


@pytest.mark.parametrize("where", ["a page", "a payload"])
async def test_the_service_says_what_to_do_about_a_damaged_journal(
    tmp_path: Path, where: str
) -> None:
    own = Service(tmp_path)
    try:
        await own.start()
        await publish(own, "positions", position("p1", symbol="ROTTEN"))
        await own.stop()
        content = own.database.read_bytes()
        if where == "a payload":
            damaged = content.replace(b"ROTTEN", b"FORGED")
        else:
            damaged = content[:4096] + bytes(4096) + content[8192:]
        own.database.write_bytes(damaged)
        with pytest.raises(AssertionError) as caught:
            await own.start()
        assert await own.gone() == 1
    finally:
        await own.end()
    said = str(caught.value)
    assert "Traceback" not in said
    assert str(own.database) in said
    assert ("Restore it from a backup" in said) or ("move the file" in said)
    assert own.database.read_bytes() == damaged, "it is left as it was"


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_clients_of_a_restored_copy_start_over_and_are_given_the_reason(
    tmp_path: Path, transport: str
) -> None:
    """The copy's next number was given to another event before: the old position fits it."""
    path, copy = tmp_path / "journal.db", tmp_path / "copy.db"
    async with served(journal=f"sqlite:{path}") as live:
        await live.publish("positions", position("p1"))
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        await live.publish("positions", position("p2"))
        seen = live.at(live.parts.journal.head)
    restored(str(copy))
    copy.replace(path)
    async with served(journal=f"sqlite:{path}") as live:
        await live.publish("positions", position("p3"))
        assert seen.endswith(f":{live.parts.journal.head}")
        async with live.transport(transport, channels="positions", since=seen) as stream:
            reported = await stream.opening()
        (snapshot,) = [each.body for each in reported if each.type == "snapshot"]
        assert snapshot["reason"] == "EPOCH_CHANGED"
        assert {key for _, key in held(reported)} == {"p1", "p3"}
