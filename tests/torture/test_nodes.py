"""Three nodes on three NATS servers, and everything that can happen to either, again and again.

Clients come to another node, over another transport, each time they are cut.
`TELECAST_NODE_ROUNDS` says how often there is each fault. The figures, in a table at the end, are
the longest time in which no publish was answered, and how long events took to the streams of
other nodes than the one that they were published at.
"""

from __future__ import annotations

import os
import random
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checking.hopping import Figures, table, torment
from tests.support.checking.sites import FAULTS, Fault, Site
from tests.support.service.nats import needs_nats
from tests.support.service.volume import why_none

ROUNDS = int(os.environ.get("TELECAST_NODE_ROUNDS", "20"))
SECONDS_A_ROUND = 90
USUAL_PAUSE, MOST_PAUSE = 10.0, 20.0
"""Seconds without an answer when a leader dies: in the middle, and once where the servers have to
elect twice (each of them waits for 4 to 9 s before it stands)."""

EACH = [
    pytest.param(site, fault, id=f"{site.__name__.lower()}-{fault.__name__}")
    for site, faults in FAULTS.items()
    for fault in faults
]

pytestmark = [needs_nats, pytest.mark.timeout(120 + ROUNDS * SECONDS_A_ROUND)]


@pytest.fixture(scope="module")
def figures() -> Iterator[dict[str, Figures]]:
    found: dict[str, Figures] = {}
    yield found
    print(f"\n{table(found)}")


def needs(site: type[Site]) -> None:
    if site.volumes and why_none():
        pytest.skip(why_none())


@pytest.mark.parametrize(("site", "fault"), EACH)
async def test_whatever_happens_to_servers_and_nodes_all_nodes_tell_one_history(
    site: type[Site], fault: Fault, tmp_path: Path, figures: dict[str, Figures]
) -> None:
    needs(site)
    found = await torment(tmp_path, [fault] * ROUNDS, site=site)
    name = fault.__name__ + (" (TLS)" if site.guarded else "")
    figures[name] = found[fault.__name__]
    print(table({name: figures[name]}))
    if fault is Site.leader_killed:
        assert statistics.median(figures[name].pauses) < USUAL_PAUSE
        assert max(figures[name].pauses) < MOST_PAUSE


@pytest.mark.parametrize("site", FAULTS, ids=lambda site: site.__name__.lower())
async def test_one_fault_after_another_leaves_one_history(site: type[Site], tmp_path: Path) -> None:
    needs(site)
    there = list(dict.fromkeys([*FAULTS[Site], *FAULTS[site]]))
    seed = random.randrange(2**32)
    faults = random.Random(seed).sample(there, min(len(there), max(1, ROUNDS // 2)))
    print(f"seed {seed}:", [each.__name__ for each in faults])
    await torment(tmp_path, faults, site=site)
