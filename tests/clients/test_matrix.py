"""Every sample client whose toolchain is here, and the page that says with what it was tried.

`tox -e clients` runs this. TELECAST_MATRIX=write has it write docs/reference/clients.md anew.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.service.samples import (
    EVERYWHERE,
    NODE,
    OTHERS,
    SAMPLES,
    STEPS,
    Sample,
    Unprepared,
    missing,
    tried,
)

PAGE = SAMPLES.parent / "docs" / "reference" / "clients.md"
HEAD = """# Clients that were tried

Each sample in `samples/` is put through the same steps against the real service, on a line that
can be cut: it connects, gets a change as it happens, is cut while a change is published, is left
on a line that falls silent without an error, sees the service drain and start again, sees it killed
and start again, and is given a wrong key. It passes when every change comes exactly once, nothing
starts over with a snapshot, and the wrong key ends it with the reason. `tox -e clients` runs all of
them and writes this page; the Python, curl and Node samples are part of every run of the tests.

Written {date}.

"""
ALL: tuple[tuple[Sample, ...], ...] = (EVERYWHERE, NODE, *((each,) for each in OTHERS))
ROWS: dict[str, str] = {}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("samples", ALL, ids=lambda each: each[0].name)
async def test_samples_recover_by_themselves(samples: tuple[Sample, ...], tmp_path: Path) -> None:
    lacking = sorted({tool for sample in samples for tool in missing(sample)})
    if lacking:
        pytest.skip(f"not installed: {', '.join(lacking)}")
    try:
        trials = await tried(samples, tmp_path)
    except Unprepared as fault:
        pytest.skip(f"it can't be installed here: {fault}")
    for trial in trials:
        assert trial.shown == set(STEPS), trial.sample.name
        cells = ["yes" if step in trial.shown else "no" for step in STEPS]
        with_what = re.sub(r"</?[\w.]+>|\s+/\S+|[├└]──", " ", trial.version).split()
        ROWS[trial.sample.name] = " | ".join([trial.sample.name, *cells, " ".join(with_what)])


def test_the_page_is_written_when_it_is_asked_for() -> None:
    if os.environ.get("TELECAST_MATRIX") != "write":
        pytest.skip("TELECAST_MATRIX=write writes it")
    names = [sample.name for samples in ALL for sample in samples]
    assert ROWS.keys() == set(names), "the page is written where all of them can be tried"
    head = " | ".join(["client", *STEPS, "tried with"])
    table = [
        f"| {head} |",
        "|---" * (len(STEPS) + 2) + "|",
        *(f"| {ROWS[name]} |" for name in names),
    ]
    PAGE.write_text(HEAD.format(date=datetime.now(UTC).date()) + "\n".join(table) + "\n", "utf-8")
