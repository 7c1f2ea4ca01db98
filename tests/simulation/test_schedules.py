"""Seeded schedules of the whole service in virtual time: whatever a seed brings, the laws hold.

`TELECAST_SEED=N pytest tests/simulation` plays one schedule again, twice, and compares the two.
`TELECAST_SCHEDULES=5000 pytest tests/simulation` plays that many, from `TELECAST_FIRST` on.
In CI some more are played from a seed that is another one each time: `tests/support/fresh.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.schedule import run
from tests.support.fresh import FRESH

SEED = os.environ.get("TELECAST_SEED")
FIRST = int(os.environ.get("TELECAST_FIRST", "0"))
SCHEDULES = int(os.environ.get("TELECAST_SCHEDULES", "200"))
SHARE = 25
"""Schedules in one test."""

OFTEN = {
    # What some two hundred schedules must have brought, or they show nothing.
    "resumes": 50,
    "connections with TLS": 200,
    "no file to open": 50,
    "held back": 500,
    "errors said once": 20,
    "cancellations": 30,
    "freezes": 20,
    "rights": 20,
    "at the head": 100,
    "counted exactly": 10,
    "sent gap": 3,
    "sent conflated": 100,
    "sent NEW": 100,
    "sent POSITION_EXPIRED": 10,
    "sent POSITION_UNKNOWN": 3,
    "sent EPOCH_CHANGED": 3,
    "sent RIGHTS_CHANGED": 3,
    "acknowledged": 50,
    "from acknowledged": 2,
    "sent POSITION_MALFORMED": 1,
    "evicted NO_PROGRESS": 5,
    "evicted NO_SIGN_OF_LIFE": 5,
    "evicted REPLACED": 3,
    "evicted FORBIDDEN": 2,
    "evicted UNAUTHENTICATED": 2,
    "evicted TOO_MANY_ACTIONS": 1,
}

seen: Counter[str] = Counter()


def played(seed: int) -> Counter[str]:
    try:
        return run(seed)[1]
    except BaseException as fault:
        fault.add_note(f"seed {seed}: TELECAST_SEED={seed} pytest tests/simulation")
        raise


@pytest.mark.skipif(SEED is not None, reason="one seed was asked for")
@pytest.mark.parametrize("first", range(FIRST, FIRST + SCHEDULES, SHARE))
def test_whatever_a_seed_brings_the_laws_hold(first: int) -> None:
    for seed in range(first, min(first + SHARE, FIRST + SCHEDULES)):
        seen.update(played(seed))


@pytest.mark.skipif(FRESH is None or SEED is not None, reason="no fresh seed was asked for")
def test_whatever_a_seed_brings_that_nobody_has_tried_the_laws_hold() -> None:
    for seed in range(FRESH or 0, (FRESH or 0) + SHARE):
        played(seed)


@pytest.mark.skipif(SEED is not None or SCHEDULES < 200, reason="too few schedules to tell")
def test_the_schedules_bring_everything_that_they_are_for() -> None:
    if seen["schedules"] < SCHEDULES:
        pytest.skip("not all of them were played")
    print(*sorted(seen.items()), sep="\n")
    assert {what: seen[what] for what, least in OFTEN.items() if seen[what] < least} == {}


@pytest.mark.parametrize("seed", [int(SEED)] if SEED is not None else [3, 8, 12])
def test_a_seed_is_the_same_schedule_every_time(seed: int) -> None:
    assert run(seed) == run(seed)


@pytest.mark.skipif(SEED is not None, reason="one seed was asked for")
def test_a_seed_is_the_same_schedule_in_another_process() -> None:
    """Strings hash differently there: nothing that is sent may hang on the order of a set."""
    here = Path(__file__).parent
    code = f"from schedule import run; print(*(run(seed)[0] for seed in {SEEDS_ELSEWHERE}))"
    reported = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONHASHSEED": "7",
            "PYTHONPATH": os.pathsep.join([str(here), str(here.parent), *sys.path]),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    assert reported.split() == [run(seed)[0] for seed in SEEDS_ELSEWHERE]


SEEDS_ELSEWHERE = (1, 2, 5, 21)
