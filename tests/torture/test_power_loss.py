"""Power loss in long: many runs, kills and failed syncs between them, thousands of images."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from tests.faults.disk import Disk, library
from tests.faults.power import losses, said_so_far, writing, written

pytestmark = [
    pytest.mark.skipif(isinstance(library(), str), reason=str(library())),
    pytest.mark.timeout(7200),
]

RUNS = int(os.environ.get("POWER_RUNS", "40"))
IMAGES = 400
"""For each run: some 5 to 10 s of it."""


@pytest.mark.parametrize("seed", range(RUNS))
async def test_lives_of_a_journal_with_losses_of_power(tmp_path: Path, seed: int) -> None:
    """Each life ends in its own way; what one acknowledged, all later ones must have."""
    chance = random.Random(seed)
    disk = Disk(tmp_path)
    first = 0
    for _ in range(chance.randint(2, 5)):
        last = first + chance.randint(1, 40)
        end = chance.choice(("well", "killed", "in a sync", "failed"))
        if end == "in a sync":
            with writing(disk, first, last) as process:
                for _ in range(chance.randrange(200)):
                    said_so_far(disk)
                disk.control.hold = 1
                while not disk.control.held and process.poll() is None:
                    pass
            disk.control.hold = disk.control.held = 0
        elif end == "failed":
            disk.control.sync_error = errno.EIO
            disk.control.sync_before, disk.control.sync_count = chance.randrange(30), 1
            with writing(disk, first, last, chance.choice(("well", "killed"))) as process:
                process.wait(60)
            disk.control.sync_error = disk.control.sync_count = 0
        else:
            written(disk, first, last, end)
        first = chance.choice((first, last))
    assert await losses(disk, IMAGES, seed) == []
