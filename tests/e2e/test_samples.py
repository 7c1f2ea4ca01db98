"""Each sample client that this machine can run, put through a cut, a drain, a kill, a wrong key."""

from __future__ import annotations

from pathlib import Path

from tests.support.service.samples import (
    EVERYWHERE,
    NODE,
    OTHERS,
    SAMPLES,
    STEPS,
    missing,
    tried,
)


async def test_samples_recover_by_themselves_and_say_when_they_are_refused(tmp_path: Path) -> None:
    """Those for Node are left out where there is no npm, or nothing that it could install from."""
    here = [each for each in (*EVERYWHERE, *NODE) if not missing(each)]
    trials = await tried(here, tmp_path, spared=NODE)
    for trial in trials:
        assert trial.shown == set(STEPS), trial.sample.name
    assert {trial.sample for trial in trials} >= {each for each in here if each not in NODE}


def test_the_list_of_samples_says_of_each_folder_how_it_is_started() -> None:
    listed = (SAMPLES / "README.md").read_text("utf-8")
    for folder in SAMPLES.iterdir():
        if folder.is_dir():
            assert f"| `{folder.name}` |" in listed


def test_the_matrix_names_every_sample_and_every_step() -> None:
    matrix = (SAMPLES.parent / "docs" / "reference" / "clients.md").read_text("utf-8")
    for sample in (*EVERYWHERE, *NODE, *OTHERS):
        assert sample.name in matrix, "tox -e clients writes the page"
    for step in STEPS:
        assert step in matrix
