"""Which of the channels that were asked for are granted, and with which filter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from telecast.channels.catalogue import Catalogue, Channel
from telecast.errors import Code, PeerFault
from telecast.model import Principal
from telecast.protocol.commands import Fields


@dataclass(frozen=True, slots=True)
class Rejected:
    channel: str
    code: str
    message: str

    def as_json(self) -> dict[str, str]:
        return {"channel": self.channel, "code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True)
class Grant:
    """Channel to the filter that was asked for, narrowed to what it declares."""

    asked: Mapping[str, Fields]
    rejected: tuple[Rejected, ...]


def readable(catalogue: Catalogue, principal: Principal) -> tuple[str, ...]:
    """All channels that this principal may read, in the catalogue's order."""
    return tuple(c.name for c in catalogue.open_to(principal)) if principal.may("read") else ()


def grant(
    catalogue: Catalogue, names: Iterable[str], fields: Fields, principal: Principal
) -> Grant:
    """Sort what may be read from what may not.

    Raises PeerFault: FORBIDDEN or UNKNOWN_CHANNEL when no channel is left, UNKNOWN_FILTER for
    a filter that none of the channels left declares.
    """
    asked: dict[str, Fields] = {}
    rejected: list[Rejected] = []
    fault: PeerFault | None = None
    for name in names:
        try:
            channel = catalogue.named(name)
            if not channel.reached_by(principal) or not principal.may("read"):
                raise PeerFault(Code.FORBIDDEN, f"This key may not read {name!r}.")
        except PeerFault as refused:
            fault = fault or refused
            rejected.append(Rejected(name[:64], refused.code, refused.message))
        else:
            asked[name] = {f: values for f, values in fields.items() if f in channel.filters}
    if not asked:
        raise fault or PeerFault(Code.FORBIDDEN, "This key may not read any channel.")
    for field in fields:
        if not any(field in catalogue[name].filters for name in asked):
            raise PeerFault(
                Code.UNKNOWN_FILTER,
                f"None of {', '.join(asked)} has a filter {field!r}.",
                {"filters": {name: sorted(catalogue[name].filters) for name in asked}},
            )
    return Grant(asked, tuple(rejected))


def narrowed(channel: Channel, asked: Fields, principal: Principal) -> dict[str, frozenset[str]]:
    """The filter that holds: what was asked for AND what the principal's key forces."""
    holds = dict(asked)
    for field, values in principal.forced.items():
        if field in channel.filters:
            holds[field] = holds[field] & values if field in holds else values
    return holds
