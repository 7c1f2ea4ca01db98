"""Which of the channels that were asked for are granted, and with which filter."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from telecast.channels.catalogue import Catalogue, Channel, nearest
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
    by_pattern: frozenset[str] = frozenset()
    """Channels that no name but a pattern alone asked for: the catalogue bounds their number."""
    barred: Mapping[str, Fields] = field(default_factory=dict)
    """As `asked`, those that the key may not read as long as it may not."""


ALL = ("*",)
"""What is asked for where no channels are named."""


def is_pattern(name: str) -> bool:
    return "*" in name


def expanded(
    catalogue: Catalogue, names: Iterable[str], principal: Principal
) -> tuple[dict[str, bool], tuple[str, ...]]:
    """Each channel that is meant, and whether it was named itself and not by a pattern alone;
    then the patterns that nothing matched.

    A pattern, such as `*` or `market-*`, means what the principal may read of what it matches.
    """
    names = tuple(names)
    if not any(map(is_pattern, names)):
        return dict.fromkeys(names, True), ()
    open_to = [c.name for c in catalogue.open_to(principal)] if principal.may("read") else []
    found: dict[str, bool] = {}
    empty = []
    for name in names:
        if not is_pattern(name):
            found[name] = True
            continue
        matched = [each for each in open_to if fnmatchcase(each, name)]
        if not matched:
            empty.append(name)
        for each in matched:
            found.setdefault(each, False)
    return found, tuple(empty)


def grant(
    catalogue: Catalogue, names: Collection[str], fields: Fields, principal: Principal
) -> Grant:
    """Sort what may be read from what may not.

    Raises PeerFault: FORBIDDEN or UNKNOWN_CHANNEL when no channel is left, UNKNOWN_FILTER for
    a filter that none of the channels left declares.
    """
    asked: dict[str, Fields] = {}
    rejected: list[Rejected] = []
    barred: dict[str, Fields] = {}
    fault: PeerFault | None = None
    meant, empty = expanded(catalogue, names, principal)
    for pattern in empty:
        message = f"No channel that this key may read matches {pattern[:64]!r}."
        fault = fault or PeerFault(Code.FORBIDDEN, message)
        rejected.append(Rejected(pattern[:64], Code.FORBIDDEN, message))
    for name in meant:
        try:
            channel = catalogue.named(name)
            wished = {f: values for f, values in fields.items() if f in channel.filters}
            if not channel.reached_by(principal) or not principal.may("read"):
                barred[name] = wished
                raise PeerFault(Code.FORBIDDEN, f"This key may not read {name!r}.")
        except PeerFault as refused:
            fault = fault or refused
            rejected.append(Rejected(name[:64], refused.code, refused.message))
        else:
            asked[name] = wished
    if not asked:
        raise fault or PeerFault(Code.FORBIDDEN, "This key may not read any channel.")
    for wanted in fields:
        if not any(wanted in catalogue[name].filters for name in asked):
            raise no_such_filter(wanted, {name: catalogue[name].filters for name in asked})
    by_pattern = {name for name, named in meant.items() if not named}
    patterns = [name for name in names if is_pattern(name)]
    for channel in catalogue.values() if patterns else ():
        if channel.name not in meant and any(fnmatchcase(channel.name, each) for each in patterns):
            barred[channel.name] = {f: each for f, each in fields.items() if f in channel.filters}
            by_pattern.add(channel.name)
    return Grant(asked, tuple(rejected), frozenset(by_pattern), barred)


def no_such_filter(wanted: str, declared: Mapping[str, Collection[str]]) -> PeerFault:
    """None of these channels declares it; `declared` has each one's filters."""
    names = sorted({name for filters in declared.values() for name in filters})
    there = f"The filters here: {', '.join(names)}." if names else "There are no filters here."
    return PeerFault(
        Code.UNKNOWN_FILTER,
        f"None of {', '.join(declared)} has a filter {wanted!r}.{nearest(wanted, names)} {there}",
        {"filters": {name: sorted(filters) for name, filters in declared.items()}},
    )


def narrowed(channel: Channel, asked: Fields, principal: Principal) -> dict[str, frozenset[str]]:
    """The filter that holds: what was asked for AND what the principal's key forces."""
    holds = dict(asked)
    for name, values in channel.forced_on(principal).items():
        if name in channel.filters:
            holds[name] = holds[name] & values if name in holds else values
    return holds
