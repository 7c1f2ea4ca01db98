"""What a publish may bring: each payload held against its channel, before anything waits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from marshmallow import ValidationError

from telecast.channels.catalogue import Channel, channel_named
from telecast.errors import PeerFault, ValidationFailed
from telecast.model import Principal, Row


@dataclass(frozen=True, slots=True)
class Scope:
    """Rows whose `field` has this value: what a replacing publish is the whole of."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Checked:
    """Rows of one publish that fit their channel, each with its JSON; a digest if it is keyed."""

    channel: Channel
    rows: tuple[tuple[str, Row, bytes], ...]
    digest: bytes

    @property
    def size(self) -> int:
        return sum(len(data) for _, _, data in self.rows)


def writable(principal: Principal, channel: str) -> Channel:
    """Raises PeerFault UNKNOWN_CHANNEL or FORBIDDEN."""
    entry = channel_named(channel)
    if not principal.may("publish") or not principal.reaches(channel):
        raise PeerFault("FORBIDDEN", f"This key may not publish to {channel!r}.")
    return entry


def check_request(
    channel: Channel, payloads: Sequence[Any], replace: Scope | None, max_events: int
) -> None:
    """Raises PeerFault if this may not be asked, whatever the payloads are."""
    if replace is not None and replace.field not in channel.filters:
        raise PeerFault(
            "UNKNOWN_FILTER",
            f"{channel.name} has no filter {replace.field[:64]!r} to replace by.",
            {"filters": sorted(channel.filters)},
        )
    if len(payloads) > max_events:
        raise PeerFault(
            "LIMIT_EXCEEDED",
            f"{len(payloads)} events are over max_batch_events ({max_events}).",
            {"max_batch_events": max_events},
        )
    if not payloads and replace is None:
        raise PeerFault("BAD_REQUEST", "There is nothing to publish.")


class Checker:
    """Checks the payloads of one publish, one a step."""

    def __init__(
        self,
        channel: Channel,
        principal: Principal,
        payloads: Sequence[Any],
        replace: Scope | None,
        max_event_bytes: int,
        keyed: bool = False,
    ) -> None:
        """`keyed`: the publish has an idempotency key, which goes with a digest of what it asks."""
        self._channel = channel
        self._principal = principal
        self._payloads = payloads
        self._replace = replace
        self._most = max_event_bytes
        self._rows: list[tuple[str, Row, bytes]] = []
        self._problems: list[dict[str, Any]] = []
        self._hash = None
        if keyed:
            scope = replace and [replace.field, replace.value]
            self._hash = hashlib.sha256(orjson.dumps([channel.name, scope]))

    def steps(self) -> Iterable[None]:
        for item, payload in enumerate(self._payloads):
            self._check(item, payload)
            yield

    def result(self) -> Checked:
        """Raises ValidationFailed, or FORBIDDEN for rows outside of a forced filter."""
        if self._problems:
            raise ValidationFailed(self._problems)
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
            return
        data = orjson.dumps(row)
        if not self._fits(item, len(data)):
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
        self._rows.append((channel.key(row), row, data))

    def _fits(self, item: int, size: int) -> bool:
        if size <= self._most:
            return True
        self._problem(item, "", f"{size} bytes are over max_event_bytes ({self._most}).")
        return False

    def _problem(self, item: int, name: str, message: str) -> None:
        self._problems.append({"item": item, "field": name, "message": message})


def must_hold(principal: Principal, channel: Channel, fields: Mapping[str, str | None]) -> None:
    """Raises FORBIDDEN for a row outside of the principal's forced filter.

    Unlike in a selection null does not pass here: a row for everybody is not for one to write.
    """
    for name, values in principal.forced.items():
        if name in fields and fields[name] not in values:
            raise PeerFault(
                "FORBIDDEN",
                f"This key may only write rows of {name} {', '.join(sorted(values))}.",
            )
