"""How near retention was to each consumer when it was last looked at, and the warnings of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from telecast.consumers.consumer import Consumer, Name, Standing
from telecast.model import Floor

log = logging.getLogger(__name__)


class Standings:
    """Owns what the last look found. A change is a line in the log, once."""

    def __init__(self) -> None:
        self._seen: dict[Name, Standing] = {}

    def of(self, name: Name) -> Standing:
        return self._seen.get(name, Standing.WHOLE)

    def count(self, standing: Standing) -> int:
        return sum(each is standing for each in self._seen.values())

    def look(self, consumer: Consumer, floors: Mapping[str, Floor], head: int, epoch: str) -> None:
        """`floors` are the journal's, `head` its newest seq."""
        standing = consumer.standing(floors, head, epoch)
        if standing is not self.of(consumer.name):
            self._seen[consumer.name] = standing
            _warn(consumer, standing, head)

    def drop(self, name: Name) -> None:
        self._seen.pop(name, None)


def _warn(consumer: Consumer, standing: Standing, head: int) -> None:
    extra = {
        "key_id": consumer.name.key_id,
        "client_id": consumer.name.client_id,
        "lag_events": head - consumer.position.seq,
    }
    if standing is Standing.NEAR:
        log.warning("retention comes near to a consumer", extra=extra)
    elif standing is Standing.OVERTAKEN:
        log.warning("retention has overtaken a consumer", extra=extra)
