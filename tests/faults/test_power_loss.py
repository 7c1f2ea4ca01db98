"""Power loss: what was acknowledged or sent is there again, whole and once, whatever was unsynced.

A real journal process is recorded down to its writes and syncs; its power is then cut at many
moments, in many ways. tests/torture/test_power_loss.py does the same for much longer.
"""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest

from tests.faults import writer
from tests.faults.disk import Disk, library
from tests.faults.power import losses, said_so_far, writing, written

pytestmark = pytest.mark.skipif(isinstance(library(), str), reason=str(library()))


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


async def test_nothing_that_was_acknowledged_is_lost_with_the_power(disk: Disk) -> None:
    written(disk, 0, 40)
    written(disk, 40, 60, "killed")
    assert await losses(disk, 100, seed=1) == []


async def test_a_first_start_that_loses_power_leaves_a_journal_or_none(disk: Disk) -> None:
    """The change to WAL mode left a rollback journal beside the file: it was refused for good."""
    written(disk, 0, 1)
    operations = disk.operations()
    opened = next(n for n, done in enumerate(operations) if done.data.startswith(b'["open"'))
    for seed in range(2):
        assert await losses(disk, 60, seed=seed, upto=opened) == []


@pytest.mark.parametrize("manner", ["normal", "hasty"])
async def test_it_would_be_noticed(disk: Disk, manner: str) -> None:
    """A journal that acknowledges before it is sure loses what it acknowledged."""
    written(disk, 0, 40, manner)
    found = await losses(disk, 20, seed=1)
    assert any("acknowledged and is lost" in flaw for flaw in found)


def until_it_syncs(process: subprocess.Popen[bytes], disk: Disk) -> None:
    """Return once the writer, which has acknowledged something, waits in a sync."""
    while not said_so_far(disk).acknowledged:
        assert process.poll() is None
    disk.control.hold = 1
    while not disk.control.held:
        assert process.poll() is None


async def test_what_a_killed_process_had_not_synced_is_sure_before_it_is_sent(disk: Disk) -> None:
    """Killed between write and sync, the batch is in the system's cache: the next process finds
    it there, tells it and acknowledges its repeat, and the power may go the moment after."""
    with writing(disk, 0, 10**6) as process:
        until_it_syncs(process, disk)
    disk.control.hold = disk.control.held = 0
    last = max(said_so_far(disk).acknowledged)
    before = len(disk.operations())
    written(disk, max(0, last - 5), last + 10, "killed")
    assert await losses(disk, 40, seed=1, start=before) == []


@pytest.mark.parametrize("good", [12, 15, 18, 27])
@pytest.mark.parametrize("manner", ["well", "killed"])
async def test_a_sync_that_failed_is_never_followed_by_an_acknowledgement(
    disk: Disk, good: int, manner: str
) -> None:
    """The system forgets what it could not sync (PostgreSQL's "fsyncgate"): later syncs succeed
    without it, and yet it can be read, also by the next process."""
    disk.control.sync_error, disk.control.sync_before, disk.control.sync_count = errno.EIO, good, 1
    # Whatever their groups, there are more commits than good syncs.
    with writing(disk, 0, writer.WRITERS * 30, manner) as process:
        assert process.wait(60) in (0, 1), "1: it did not even open"
    assert disk.control.sync_count == 0
    said = said_so_far(disk)
    assert len(said.unknown) <= writer.WRITERS, "one group at the most: later ones are not tried"
    before = len(disk.operations())
    written(disk, 0, writer.WRITERS * 30, "killed")
    assert await losses(disk, 20, seed=good, upto=before) == []
    assert await losses(disk, 20, seed=good, start=before) == []


@pytest.mark.parametrize("good", [0, 1])
async def test_a_log_whose_name_may_be_lost_is_not_relied_upon(disk: Disk, good: int) -> None:
    """SQLite ignores it when the folder, in which it makes the log, can't be synced."""
    written(disk, 0, 1)
    control = disk.control
    control.folder_only, control.sync_error = 1, errno.EIO
    control.sync_before, control.sync_count = good, 1_000
    with writing(disk, 1, 20, "killed") as process:
        assert process.wait(60) == (0 if good else 1), "1: it did not open"
    assert await losses(disk, 20, seed=1) == []


async def test_a_commit_whose_shared_memory_can_not_grow_is_unknown_and_harms_nobody(
    disk: Disk,
) -> None:
    """It is in the log and synced, yet refused: a crash brings it back, the next replaces it."""
    with writing(disk, 0, 10**6, "roomy") as process:  # how many fill it depends on their groups
        while said_so_far(disk).epoch is None:
            assert process.poll() is None
        disk.control.shared_only, disk.control.full = 1, errno.ENOSPC
        while not said_so_far(disk).unknown:
            assert process.poll() is None
        disk.control.full = 0
        refused = max(said_so_far(disk).unknown)
        while max(said_so_far(disk).acknowledged) < refused + 100:
            assert process.poll() is None, "it goes on by itself"
    assert await losses(disk, 4, seed=1) == []
