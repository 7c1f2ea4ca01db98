"""How a log's stream is described to the servers, and what is read from their description. Pure."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import Any

from telecast.errors import JournalUnavailable
from telecast.journal.epoch import is_epoch
from telecast.journal.jetstream.address import Address
from telecast.journal.jetstream.servers import Refused

FORMAT = "1"
TOO_FEW_SERVERS = frozenset({10005, 10074})


def new_stream(name: str, replicas: int, **metadata: str) -> dict[str, Any]:
    """The configuration of a stream that is made for a log, with a life of its own."""
    life = secrets.token_hex(4)
    return {
        "name": name,
        "subjects": [f"telecast.{name}.{life}"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "num_replicas": replicas,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_consumers": -1,
        "deny_delete": True,
        "deny_purge": False,
        "allow_direct": True,
        "compression": "none",  # the server's own breaks replicas: docs/design/cluster.md
        "metadata": {"telecast.format": FORMAT, "telecast.epoch": life} | metadata,
    }


def life_of(info: dict[str, Any]) -> str:
    """`created` changes when a stream is restored or made anew, and only then."""
    config = info["config"]
    named = f"{config['name']} {config['metadata']['telecast.epoch']} {info['created']}"
    return hashlib.sha256(named.encode()).hexdigest()[:10]


def unusable(address: Address, replicas: int, refused: Refused) -> JournalUnavailable:
    if refused.code in TOO_FEW_SERVERS:
        return JournalUnavailable(
            f"The servers of {address} can't give {replicas} replicas ({refused}): start more "
            "servers, or set `replicas` lower."
        )
    return JournalUnavailable(f"The stream {address.name} can't be used: {refused}.")


def kept_epoch(metadata: dict[str, str], life: str) -> str | None:
    """The epoch of the journal that was moved into this very log. It stands beside the log's life,
    so that a log which was made of another's description, or restored, does not go on with it."""
    of, _, epoch = metadata.get("telecast.moved", "").partition(" ")
    return epoch if of == life and is_epoch(epoch) else None


def ms_of(text: str) -> int:
    """An RFC 3339 instant with up to nine decimals, in UTC, in ms since 1970, rounded down."""
    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 1000 + int((rest + "000")[:3])
