"""Each sample client that this machine can run, put through a cut, a drain, a kill, a wrong key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.service.samples import (
    EVERYWHERE,
    NODE,
    OTHERS,
    SAMPLES,
    STEPS,
    Unprepared,
    missing,
    tried,
)


async def test_samples_recover_by_themselves_and_say_when_they_are_refused(tmp_path: Path) -> None:
    here = [each for each in EVERYWHERE if not missing(each)]
    for trial in await tried(here, tmp_path):
        assert trial.shown == set(STEPS), trial.sample.name


@pytest.mark.skipif(any(missing(each) for each in NODE), reason="there is no node, or no npm")
async def test_samples_for_node_recover_by_themselves_too(tmp_path: Path) -> None:
    try:
        trials = await tried(NODE, tmp_path)
    except Unprepared as fault:
        pytest.skip(f"npm could not install: {fault}")
    for trial in trials:
        assert trial.shown == set(STEPS), trial.sample.name


def test_the_matrix_names_every_sample_and_every_step() -> None:
    matrix = (SAMPLES.parent / "docs" / "reference" / "clients.md").read_text("utf-8")
    for sample in (*EVERYWHERE, *NODE, *OTHERS):
        assert sample.name in matrix, "tox -e clients writes the page"
    for step in STEPS:
        assert step in matrix
