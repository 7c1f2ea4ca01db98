"""The peers by name, in the order of the tables."""

from __future__ import annotations

from bench.peers.app import APP_PEERS
from bench.peers.base import Peer
from bench.peers.brokers import Centrifugo, Mercure
from bench.peers.floor import Floor
from bench.peers.nchan import Nchan
from bench.peers.telecast import Telecast

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Telecast(),
        Telecast(
            name="telecast-sqlite",
            title="Telecast, journal SQLite FULL",
            journal="sqlite:FOLDER/journal.db",
        ),
        Telecast(name="telecast-ndjson", title="Telecast, fed by NDJSON", publish="ndjson"),
        Floor(),
        Nchan(),
        *APP_PEERS,
        Centrifugo(),
        Mercure(),
    )
}
