"""One short round of what tests/torture/test_nodes.py does at length: three NATS servers, three
nodes, clients that hop between them; the leader of the log and a node are killed."""

from __future__ import annotations

from pathlib import Path

from tests.support.checking.hopping import Site, torment
from tests.support.service.nats import needs_nats

pytestmark = needs_nats


async def test_over_the_death_of_a_leader_and_a_node_all_nodes_tell_one_history(
    tmp_path: Path,
) -> None:
    await torment(tmp_path, [Site.leader_and_node_killed], answers=10)
