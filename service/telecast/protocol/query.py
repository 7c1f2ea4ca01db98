"""What the query of a stream asks, parsed and checked. It is the same over both transports.

Wire contract section 1. Nothing here knows what the asker may see.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from telecast.channels.catalogue import nearest
from telecast.errors import Code, PeerFault, PositionMalformed
from telecast.model import Position
from telecast.protocol.commands import (
    MOST,
    Delivery,
    Fields,
    Most,
    Origin,
    Start,
    filter_values,
    identifier,
    names,
    parse_since,
)

RATES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
"""Batches a second that `maxRate` snaps down to."""
HEARTBEAT = (2, 60, 15)
"""Least, most and default seconds between heartbeats."""

LAST_EVENT_IDS = ("lastEventId", "lastEventID", "Last-Event-ID", "last-event-id")
"""In the query: polyfills of EventSource, and Mercure's clients, send the position there."""
CACHE_BUSTERS = frozenset({"_", "t", "ts", "r", "rnd", "cb", "nocache", "cachebust", "cacheBuster"})
"""Parameters that libraries add by themselves. They mean nothing here."""

_SINGLE = ("clientId", "since", "replay", "delivery", "maxRate", "heartbeat", "position")
_FLAGS = ("replay", "position")
_NUMBERS = ("maxRate", "heartbeat")
_WHOLE = re.compile(r"[0-9]{1,4}", re.ASCII)
_RATE = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamQuery:
    """The query of a stream, the same over both transports. `channels` None: none were named."""

    client_id: str | None = None
    channels: tuple[str, ...] | None = None
    fields: Fields
    start: Start
    delivery: Delivery = "conflated"
    max_rate: float | None = None
    heartbeat: int = HEARTBEAT[2]
    positioned: bool = False
    """Whether each event has its position as a member."""


def parse_query(
    query: Iterable[tuple[str, str]],
    last_event_id: str | None,
    filters: Collection[str],
    most: Most = MOST,
    *,
    declared: Callable[[], Mapping[str, Collection[str]]] = dict,
) -> StreamQuery:
    """Read a stream's query: (name, value) pairs. Raises PeerFault.

    `filters` are the names of all filters that there are; `declared` gives those of each channel
    that the asker may see, for what a refusal says.

    `last_event_id` is the header's value, for which LAST_EVENT_IDS stand in: it goes before
    `since`, and a malformed one asks for a snapshot, since an EventSource could never correct it.
    For the same reason a parameter without a value counts as not there.
    """
    query = list(query)
    single: dict[str, str] = {}
    channels: list[str] | None = None
    fields: dict[str, set[str]] = {}
    for name, value in query:
        if not value or name in CACHE_BUSTERS:
            continue
        if name in LAST_EVENT_IDS:
            last_event_id = last_event_id or value
        elif name == "channels":
            channels = channels or []
            channels += [word for word in value.split(",") if word]
        elif name in filters:
            fields.setdefault(name, set()).add(identifier(value, name))
        elif name not in _SINGLE:
            raise no_such_parameter(
                name, (*_SINGLE, "channels"), _filters_here(query, filters, declared())
            )
        elif name in single:
            raise PeerFault(Code.BAD_REQUEST, f"{name!r} stands twice.")
        else:
            single[name] = value
    return _query_of(
        single,
        None if channels is None else names(channels, most),
        {name: frozenset(values) for name, values in fields.items()},
        last_event_id,
    )


def no_such_parameter(name: str, known: Iterable[str], filters: Collection[str]) -> PeerFault:
    """`filters` are those that what is asked for has."""
    close = nearest(name[:64], (*known, *filters))
    there = f"The filters here: {', '.join(sorted(filters))}." if filters else "No filters here."
    return PeerFault(
        Code.BAD_REQUEST, f"There is no parameter or filter {name[:64]!r}.{close} {there}"
    )


def _filters_here(
    query: Iterable[tuple[str, str]],
    filters: Collection[str],
    declared: Mapping[str, Collection[str]],
) -> Collection[str]:
    """Those of the channels that are named; where none is, all."""
    named = {each for name, value in query if name == "channels" for each in value.split(",")}
    of_named = [declared[name] for name in named if name in declared]
    return {each for those in of_named for each in those} if of_named else filters


def parse_selection(
    body: Any, last_event_id: str | None, filters: Collection[str], most: Most = MOST
) -> StreamQuery:
    """The same from a JSON body, where the values of filters stand in `filter`. A null member
    counts as not there. Raises PeerFault."""
    if not isinstance(body, dict):
        raise PeerFault(Code.BAD_REQUEST, 'The body is a JSON object, such as {"channels":["*"]}.')
    single: dict[str, str] = {}
    for name, value in body.items():
        if name not in (*_SINGLE, "channels", "filter"):
            close = nearest(name[:64], (*_SINGLE, "channels", "filter"))
            where = " Filters stand in `filter`." if name in filters else close
            raise PeerFault(Code.BAD_REQUEST, f"The body has no member {name[:64]!r}.{where}")
        if value is not None and name in _SINGLE:
            single[name] = _text_of(name, value)
    channels = body.get("channels")
    return _query_of(
        single,
        None if channels is None else names(channels, most),
        filter_values(body.get("filter"), "filter", filters, most),
        last_event_id,
    )


def _text_of(name: str, value: Any) -> str:
    """A member as the query would have it. Raises PeerFault."""
    if name in _FLAGS:
        if isinstance(value, bool):
            return "true" if value else "false"
    elif name in _NUMBERS:
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6:
            return str(value) if isinstance(value, int) else f"{value:.4f}"
    elif isinstance(value, str) and value:
        return value
    kind = "true or false" if name in _FLAGS else "a number" if name in _NUMBERS else "a text"
    raise PeerFault(Code.BAD_REQUEST, f"`{name}` must be {kind}.")


def _query_of(
    single: Mapping[str, str],
    channels: tuple[str, ...] | None,
    fields: Fields,
    last_event_id: str | None,
) -> StreamQuery:
    delivery = single.get("delivery", "conflated")
    if delivery not in ("conflated", "all"):
        raise PeerFault(Code.BAD_REQUEST, "`delivery` must be conflated or all.")
    max_rate = _rate(single["maxRate"]) if "maxRate" in single else None
    if max_rate is not None and delivery == "all":
        raise PeerFault(Code.BAD_REQUEST, "`maxRate` conflates: not with delivery=all.")
    client_id = single.get("clientId")
    return StreamQuery(
        client_id=None if client_id is None else identifier(client_id, "clientId"),
        channels=channels,
        fields=fields,
        start=_start(single, last_event_id),
        delivery="all" if delivery == "all" else "conflated",
        max_rate=max_rate,
        heartbeat=_heartbeat(single["heartbeat"]) if "heartbeat" in single else HEARTBEAT[2],
        positioned=_flag(single, "position", usual="false"),
    )


def _start(single: Mapping[str, str], last_event_id: str | None) -> Start:
    replay = _flag(single, "replay", usual="true")
    since = parse_since(single["since"]) if "since" in single else None
    if last_event_id:
        try:
            return Start(Origin.POSITION, Position.parse(last_event_id))
        except PositionMalformed:
            return Start(Origin.MALFORMED)
    if since is not None:
        return since
    return Start(Origin.SNAPSHOT if replay else Origin.LIVE)


def _flag(single: Mapping[str, str], name: str, *, usual: str) -> bool:
    text = single.get(name, usual)
    if text not in ("true", "false"):
        raise PeerFault(Code.BAD_REQUEST, f"`{name}` must be true or false.")
    return text == "true"


def _rate(text: str) -> float:
    rate = float(text) if _RATE.fullmatch(text) else 0.0
    if rate < RATES[0]:
        raise PeerFault(
            Code.BAD_REQUEST, f"`maxRate` must be a number from {RATES[0]} to {RATES[-1]}."
        )
    return max(allowed for allowed in RATES if allowed <= rate)


def _heartbeat(text: str) -> int:
    least, most, _ = HEARTBEAT
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise PeerFault(Code.BAD_REQUEST, f"`heartbeat` must be whole seconds, {least} to {most}.")
    return int(text)
