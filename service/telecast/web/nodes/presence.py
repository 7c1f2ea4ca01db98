"""What each node says of itself, and what two nodes must not differ in."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Mapping
from typing import Any

from telecast import __version__
from telecast.errors import IdempotencyConflict, SettingsError
from telecast.journal.base import Batch, Idempotency, Journal, Note, read_book
from telecast.model import rfc3339
from telecast.web.nodes.everywhere import answer_others
from telecast.web.parts import Parts

log = logging.getLogger(__name__)

BOOK, SECRET = "nodes", "secret"
"""The note by which a node knows the signing secret of all nodes from another one."""


def describe(parts: Parts) -> dict[str, Any]:
    """This node, for the others and for who asks about all."""
    place = parts.journal.place()
    return {
        "version": __version__,
        "startedAt": rfc3339(parts.started_at),
        "ready": parts.ready,
        "why": [f"{name}: {why}" for name, why in parts.checks() if why is not None],
        "head": str(parts.broadcaster.head),
        "logSequence": None if place is None else place.sequence,
        "logBehind": None if place is None else place.behind,
        "connections": len(parts.clients),
        "keys": parts.keys.digest(),
        "place": parts.members.place,
    }


async def join(parts: Parts) -> None:
    """Be one of the nodes: say so, and answer them."""
    answer_others(parts)
    await parts.journal.peers.begin(lambda: describe(parts))


class KeysCompared:
    """Warns once of each node that reads another keys file than this one."""

    def __init__(self) -> None:
        self._differed: Mapping[str, str] = {}
        self._warned: Mapping[str, str] = {}

    def look(self, parts: Parts) -> None:
        """Called every few seconds: a file that is being rolled out differs for a moment."""
        mine = parts.keys.digest()
        differ = {
            each.node: each.facts["keys"]
            for each in parts.journal.peers.others()
            if each.facts.get("keys", mine) != mine
        }
        for node, digest in differ.items():
            if self._differed.get(node) == digest != self._warned.get(node):
                log.warning(
                    "another node has other keys: give all nodes the same keys file",
                    extra={"node": node},
                )
        self._warned = {node: d for node, d in differ.items() if self._differed.get(node) == d}
        self._differed = differ


async def compare_secret(journal: Journal, secret: bytes, *, accept: bool = False) -> None:
    """Refuse to be a node whose sessions no other node knows: raises SettingsError.

    The first node of all says whose secret it is; with `accept` this one's holds from now on.
    """
    if not journal.shared:
        return
    digest = hmac.new(secret, b"telecast: one secret for all nodes", hashlib.sha256).digest()
    kept = (await read_book(journal, BOOK)).get(SECRET)
    mine = digest.hex()[:32].encode()
    if kept == mine:
        return
    note = Note(BOOK, SECRET, mine)
    if accept:
        await journal.append(Batch(notes=(note,)))
        log.warning("from now on this node's secret is that of all nodes: restart the others")
        return
    if kept is None:
        try:  # of two that begin at once the first in the log's order has it
            asked = Idempotency("telecast:secret", digest)
            await journal.append(Batch(idempotency=asked, notes=(note,)))
        except IdempotencyConflict:
            log.debug("another node was faster")
        else:
            return
    raise SettingsError(
        [
            "secret_file: the other nodes of this journal sign sessions with another secret, so "
            "a browser would be signed out whenever it comes to another node. Copy their "
            "secret_file to this node. To change the secret of all, start one node with "
            "--accept-secret, then give the others its file and restart them."
        ]
    )
