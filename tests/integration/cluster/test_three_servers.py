"""One short round of what tests/torture/test_nodes.py does at length: three NATS servers, three
nodes, clients that hop between them. Servers and nodes speak TLS and ask for credentials, and all
nodes make checkpoints again and again. A leader and a node are killed, passwords change, and, where
the tests may mount a file system, the servers lose their power all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.checking.hopping import torment
from tests.support.checking.sites import Fault, Guarded, Hurried, Powered, Site
from tests.support.service.nats import needs_nats
from tests.support.service.volume import why_none

pytestmark = needs_nats


class Everything(Guarded, Hurried, Powered):
    volumes = not why_none()

    def settings(self, number: int) -> dict[str, Any]:
        return Guarded.settings(self, number) | Hurried.settings(self, number)


async def test_over_the_death_of_a_leader_and_a_node_all_nodes_tell_one_history(
    tmp_path: Path,
) -> None:
    faults: list[Fault] = [Site.leader_and_node_killed, Guarded.password_changed]
    if Everything.volumes:
        faults.append(Powered.all_lost_power)
    await torment(tmp_path, faults, site=Everything, answers=10)
