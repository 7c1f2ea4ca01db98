"""What a publish may bring: each payload held against its channel, before anything waits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from marshmallow import ValidationError

from telecast.channels.catalogue import Catalogue, Channel
from telecast.errors import Code, PeerFault, ValidationFailed
from telecast.model import Principal, Row
from telecast.protocol.messages import envelope_bytes


@dataclass(frozen=True, slots=True)
class Scope:
    """Rows whose `field` has this value: what a replacing publish is the whole of."""

    field: str
    value: str


Fields = Mapping[str, str | None]
"""The value of each filter of the channel; None matches every value."""


class CheckedRow(NamedTuple):
    """A row with what was found out about it on the way: its key, its JSON, its filter fields."""

    key: str
    row: Row
    data: bytes
    fields: Fields


@dataclass(frozen=True, slots=True)
class Checked:
    """Rows of one publish that fit their channel; a digest if the publish is keyed."""

    channel: Channel
    rows: tuple[CheckedRow, ...]
    digest: bytes

    @property
    def size(self) -> int:
        return sum(len(row.data) for row in self.rows)


def writable(catalogue: Catalogue, principal: Principal, channel: str) -> Channel:
    """Raises PeerFault UNKNOWN_CHANNEL or FORBIDDEN."""
    entry = catalogue.named(channel)
    if not entry.writable_by(principal):
        raise PeerFault(
            Code.FORBIDDEN,
            f"This key may not publish to {channel!r}: that needs the scope "
            f"{entry.publish_scope!r} and a right to the channel.",
        )
    return entry


def check_scope(channel: Channel, replace: Scope | None) -> None:
    """Raises PeerFault UNKNOWN_FILTER, or BAD_REQUEST for a log, which has no rows."""
    if replace is not None and channel.mode == "log":
        raise PeerFault(Code.BAD_REQUEST, f"{channel.name} is a log: it has no rows to replace.")
    if replace is not None and replace.field not in channel.filters:
        raise PeerFault(
            Code.UNKNOWN_FILTER,
            f"{channel.name} has no filter {replace.field[:64]!r} to replace by.",
            {"filters": sorted(channel.filters)},
        )


class Checker:
    """Checks the payloads of one publish, one a step.

    Each is let go of, but for its row, as the next is taken: `payloads` may make them when they
    are asked for, and 8 MiB of JSON are never all there as objects, which take twenty times as
    much, and the garbage collector 0.1 s to look through.
    """

    def __init__(
        self,
        channel: Channel,
        principal: Principal,
        payloads: Iterable[Any],
        replace: Scope | None,
        max_events: int,
        max_event_bytes: int,
        keyed: bool = False,
    ) -> None:
        """`keyed`: the publish has an idempotency key, which goes with a digest of what it asks."""
        self._channel = channel
        self._principal = principal
        self._payloads = payloads
        self._replace = replace
        self._most_events = max_events
        self._most = max_event_bytes
        self._rows: list[CheckedRow] = []
        self._problems: list[dict[str, Any]] = []
        """Those that are reported, of `_bad`."""
        self._bad = 0
        self._hash = None
        if keyed:
            scope = replace and [replace.field, replace.value]
            self._hash = hashlib.sha256(orjson.dumps([channel.name, scope]))

    def steps(self) -> Iterable[None]:
        """Raises PeerFault: LIMIT_EXCEEDED, FORBIDDEN for a row outside of a forced filter, and
        what `payloads` raises."""
        for item, payload in enumerate(self._payloads):
            if item == self._most_events:
                raise PeerFault(
                    Code.LIMIT_EXCEEDED,
                    f"More than {item} events: that is over max_batch_events.",
                    {"max_batch_events": item},
                )
            self._check(item, payload)
            yield

    def result(self) -> Checked:
        """Raises ValidationFailed, or BAD_REQUEST where nothing is asked."""
        if self._problems:
            raise ValidationFailed(self._problems, self._bad)
        if not self._rows and self._replace is None:
            raise PeerFault(Code.BAD_REQUEST, "There is nothing to publish.")
        digest = self._hash.digest() if self._hash is not None else b""
        return Checked(self._channel, tuple(self._rows), digest)

    def _check(self, item: int, payload: Any) -> None:
        if isinstance(payload, PeerFault):
            self._problem(item, "", payload.message)
            return
        channel = self._channel
        # Before the schema, which takes microseconds for each member: a payload of megabytes in
        # one step would hold up every other client for a minute.
        try:
            size = len(orjson.dumps(payload))
        except orjson.JSONEncodeError:
            self._problem(item, "", "It is nested too deep.")
            return
        if not self._fits(item, size):
            return
        try:
            row = channel.load(payload)
        except ValidationError as fault:
            for name, message in channel.problems(fault):
                self._problem(item, name, message)
            # Else it and marshmallow's frame hold each other, and the payload.
            fault.__traceback__ = None
            return
        data = orjson.dumps(row)
        key = channel.key(row)
        # Some libraries take no message above 32,768 bytes: what counts is the event as it is sent.
        if not self._fits(item, len(data) + envelope_bytes(channel.name, key)):
            return
        fields = channel.fields_of(row)
        if self._replace is not None and fields[self._replace.field] != self._replace.value:
            scope = f"{self._replace.field}:{self._replace.value}"
            self._problem(item, channel.filters[self._replace.field], f"It is not of {scope}.")
            return
        must_hold(self._principal, channel, fields)
        if self._hash is not None:
            # Publishers may order fields as they like: the same rows are the same request.
            self._hash.update(data)
        self._rows.append(CheckedRow(key, row, data, fields))

    def _fits(self, item: int, size: int) -> bool:
        if size <= self._most:
            return True
        self._problem(item, "", f"{size} bytes are over max_event_bytes ({self._most}).")
        return False

    def _problem(self, item: int, name: str, message: str) -> None:
        self._bad += 1
        if self._bad <= ValidationFailed.MOST:
            self._problems.append({"item": item, "field": name, "message": message})


def must_hold(principal: Principal, channel: Channel, fields: Fields) -> None:
    """Raises FORBIDDEN for a row outside of the principal's forced filter.

    Unlike in a selection null does not pass here: a row for everybody is not for one to write.
    """
    for name, values in channel.forced_on(principal).items():
        if name in fields and fields[name] not in values:
            raise PeerFault(
                Code.FORBIDDEN,
                f"This key may only write rows of {name} {', '.join(sorted(values))}.",
            )


def may_see(principal: Principal, channel: Channel, fields: Fields) -> bool:
    """Whether what is forced on the principal lets it read the row; null is for everybody."""
    return all(
        fields.get(name) is None or fields[name] in values
        for name, values in channel.forced_on(principal).items()
    )
