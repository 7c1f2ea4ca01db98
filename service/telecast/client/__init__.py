"""The Python client: follow channels, publish to them, and survive what happens in between."""

from telecast.client.backoff import Backoff
from telecast.client.faults import BadAnswer, Refused, Unreachable
from telecast.client.messages import ServerMessage
from telecast.client.publish import Publisher, Snapshot
from telecast.client.stream import Dropped, Reconnected, Stream
from telecast.client.watch import Watch

__all__ = [
    "Backoff",
    "BadAnswer",
    "Dropped",
    "Publisher",
    "Reconnected",
    "Refused",
    "ServerMessage",
    "Snapshot",
    "Stream",
    "Unreachable",
    "Watch",
]
