"""Three nodes on three NATS servers, and everything that can happen to either, again and again.

Clients come to another node, over another transport, each time they are cut. `TELECAST_ROUNDS` says
how many faults there are in all; the figures are the longest time in which no publish was answered.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checking.hopping import FAULTS, torment
from tests.support.service.nats import needs_nats

ROUNDS = int(os.environ.get("TELECAST_NODE_ROUNDS", str(20 * len(FAULTS))))
SECONDS_A_ROUND = 60
MOST_PAUSE = 10.0
"""Seconds without an answer when a leader dies."""

pytestmark = needs_nats


@pytest.mark.timeout(120 + ROUNDS * SECONDS_A_ROUND)
async def test_whatever_happens_to_servers_and_nodes_all_nodes_tell_one_history(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    faults = list(itertools.islice(itertools.cycle(FAULTS), ROUNDS))
    pauses = await torment(tmp_path, faults)
    for name, figures in pauses.items():
        record_property(name, figures)
        print(f"{name}: {figures}")
    assert max(pauses.get("leader_killed", [0.0])) < MOST_PAUSE
