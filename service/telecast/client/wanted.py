"""What a stream asks for, and what its open connection has been asked for so far. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from telecast.protocol.instants import parse_instant

Filter = str | Iterable[str]
"""A value, or several: a row passes if it has one of them."""
Selection = tuple[tuple[str, tuple[str, ...]], ...]
"""Each filter field that is named, and its values, in order."""
Values = Mapping[str, Sequence[str]]
"""A filter's field to its values."""
Pairs = list[tuple[str, str]]
"""Parameters of a query."""

_REFINE = "filter-"
"""What the names of requests begin with that change the filter."""


class Wanted:
    """Channels and filters. They outlive the connection, whose query names them; what changes
    while it is open is asked for by an action."""

    def __init__(self, channels: Sequence[str], filters: Values | None, query: Pairs) -> None:
        """`query` is what each connection asks for besides."""
        self._channels = list(channels)
        self._filters = {name: list(values) for name, values in (filters or {}).items()}
        self._query = query
        self._asked: list[str] = []
        self._asked_filters = self._filters
        self._requests: dict[str, list[str]] = {}
        """Names of requests whose answer is due to the channels that each asks for."""
        self._numbers = itertools.count(1)

    def begin(self, besides: Pairs) -> Pairs:
        """The query of a new connection, with parameters of its own."""
        self._asked = list(self._channels)
        self._asked_filters = self._filters
        self._requests.clear()
        filters = [(name, value) for name, values in self._filters.items() for value in values]
        return [("channels", ",".join(self._asked)), *filters, *self._query, *besides]

    @property
    def outdated(self) -> bool:
        """Whether the filter has changed since the query of the newest connection was made."""
        return self._asked_filters is not self._filters

    def add(self, channels: Iterable[str]) -> list[str]:
        """Want these too; those that are new."""
        new = [name for name in channels if name not in self._channels]
        self._channels += new
        if new:
            self._forget_start()
        return new

    def _forget_start(self) -> None:
        """Where the stream first began holds for what it asked for then: whoever began there with
        more would never get the rows that are older. A time, and `earliest`, claim nothing."""
        self._query = [
            (name, value)
            for name, value in self._query
            if name != "replay" and (name != "since" or _claims_nothing(value))
        ]

    def remove(self, channels: Iterable[str]) -> list[str]:
        """Want these no longer; those that were wanted."""
        gone = [name for name in channels if name in self._channels]
        self._channels = [name for name in self._channels if name not in gone]
        return gone

    def unsubscribe(self, gone: list[str]) -> dict[str, Any]:
        """The action that stops these."""
        self._asked = [name for name in self._asked if name not in gone]
        return {"action": "unsubscribe", "channels": gone}

    def missing(self) -> list[str]:
        """Channels that the open connection has not been asked for yet."""
        return [name for name in self._channels if name not in self._asked]

    def subscribe(self, missing: list[str]) -> dict[str, Any]:
        """The action that asks for these."""
        self._asked += missing
        number = f"add-{next(self._numbers)}"
        self._requests[number] = missing
        action: dict[str, Any] = {"action": "subscribe", "reqId": number, "channels": missing}
        if self._filters:
            action["filter"] = self._filters
        return action

    def refine(self, add: Values, remove: Values) -> None:
        """Take values in and let others go. Raises ValueError, and changes nothing."""
        self._filters = refined(self._filters, add, remove)
        self._forget_start()

    def filter(self, add: Values, remove: Values) -> dict[str, Any]:
        """The action that does the same on the open connection, which has all before it."""
        self._asked_filters = self._filters
        action: dict[str, Any] = {"action": "filter", "channels": self._asked}
        return action | {"reqId": f"{_REFINE}{next(self._numbers)}", "add": add, "remove": remove}

    def refused(self, req_id: object) -> list[str]:
        """The channels of a subscription that was refused."""
        return self._requests.pop(str(req_id), [])

    @staticmethod
    def is_filter(req_id: object) -> bool:
        """Whether the request was one that changes the filter."""
        return str(req_id).startswith(_REFINE)


def _claims_nothing(since: str) -> bool:
    return since == "earliest" or parse_instant(since, "since") is not None


def lists_of(filters: Mapping[str, Filter]) -> dict[str, list[str]]:
    """The values of each filter as a list."""
    return {
        n: [values] if isinstance(values, str) else list(values) for n, values in filters.items()
    }


def refined(filters: Values, add: Values, remove: Values) -> dict[str, list[str]]:
    """The filters with some values more, and without others. Raises ValueError."""
    found = {name: list(values) for name, values in filters.items()}
    for name in {**add, **remove}:
        if name not in found:
            raise ValueError(f"The stream is not filtered by {name!r}: it has every value.")
        gone = set(remove.get(name, ()))
        kept = [each for each in found[name] if each not in gone]
        found[name] = list(dict.fromkeys([*kept, *add.get(name, ())]))
        if not found[name]:
            raise ValueError(f"No value of {name!r} would be left.")
    return found


def query_of(
    since: str | None,
    delivery: str,
    max_rate: float | None,
    heartbeat: int | None,
    client_id: str | None,
) -> Pairs:
    """What each connection of a stream asks for besides channels and filters."""
    query = [("delivery", delivery)]
    for name, value in (
        ("since", None if since == "now" else since),
        ("replay", "false" if since == "now" else None),
        ("maxRate", None if max_rate is None else f"{max_rate:g}"),
        ("heartbeat", None if heartbeat is None else str(heartbeat)),
        ("clientId", client_id),
    ):
        if value is not None:
            query.append((name, value))
    return query


def selection_of(filters: Mapping[str, Filter]) -> Selection:
    """Raises ValueError for a filter without a value, which would pass everything."""
    found = []
    for name, value in sorted(filters.items()):
        values = (value,) if isinstance(value, str) else tuple(sorted(set(value)))
        if not values:
            raise ValueError(f"The filter {name!r} has no value: leave it out to pass all rows.")
        found.append((name, values))
    return tuple(found)
