"""What a WebSocket's client asks, parsed and checked.

Wire contract section 5. Nothing here knows what the asker may see.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NamedTuple

import orjson
from marshmallow import ValidationError

from telecast.channels.catalogue import nearest
from telecast.channels.fields import Identifier
from telecast.errors import Code, PeerFault
from telecast.model import MAX_SEQ, Position
from telecast.protocol.instants import Instant, parse_instant
from telecast.protocol.messages import ReqId

Fields = Mapping[str, frozenset[str]]
"""A filter as it was asked for: field to values."""
Delivery = Literal["conflated", "all"]

_IDENTIFIER = Identifier()


class Origin(Enum):
    """Where a subscriber wants to start."""

    SNAPSHOT = "the complete current rows"
    LIVE = "only what comes from now on"
    EARLIEST = "the oldest event that there is"
    POSITION = "after a position"
    INSTANT = "after a point in time; whoever opens the stream finds its position"
    ACKED = "after what this client has acknowledged"
    MALFORMED = "after something that is no position, in a header that can't be refused"


@dataclass(frozen=True, slots=True)
class Start:
    origin: Origin
    position: Position | None = None
    anew: tuple[str, ...] = ()
    """Channels for which the position is not good: it was earned under other rights."""
    instant: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    req_id: ReqId
    channels: tuple[str, ...]
    fields: Fields
    start: Start | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe:
    req_id: ReqId
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFilter:
    """Filter values that are to be added and taken away, of channels that are subscribed."""

    req_id: ReqId
    channels: tuple[str, ...]
    add: Fields
    remove: Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    req_id: ReqId


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    req_id: ReqId
    channel: str
    data: dict[str, Any]
    idempotency_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgeAlert:
    req_id: ReqId
    alert_id: str
    note: Any
    idempotency_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge:
    """Everything that was delivered up to this position has been handled."""

    req_id: ReqId
    position: Position


Command = (
    Subscribe | Unsubscribe | ChangeFilter | Heartbeat | Acknowledge | Publish | AcknowledgeAlert
)


class Most(NamedTuple):
    """How many names one message may have: counted before any of them is looked at."""

    channels: int
    filter_values: int


MOST = Most(1_000, 10_000)
"""The largest that the settings take."""

_ACTIONS: Mapping[str, frozenset[str]] = {
    "subscribe": frozenset({"channels", "filter", "since"}),
    "unsubscribe": frozenset({"channels"}),
    "filter": frozenset({"channels", "add", "remove"}),
    "heartbeat": frozenset(),
    "ack": frozenset({"position"}),
    "acknowledge-alert": frozenset({"alertId", "note", "idempotencyKey"}),
    "publish": frozenset({"channel", "data", "idempotencyKey"}),
}


class CommandFault(PeerFault):
    """A message that is no command; `req_id` is its reqId where it could be read.

    After a `final` one the connection ends with its code.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        req_id: ReqId,
        details: Any = None,
        *,
        final: bool = False,
    ) -> None:
        super().__init__(code, message, details)
        self.req_id = req_id
        self.final = final


def within(name: str, has: int, most: int) -> None:
    """Raises PeerFault LIMIT_EXCEEDED with the limit's name in its details."""
    if has > most:
        raise PeerFault(
            Code.LIMIT_EXCEEDED, f"{has} is over {name} ({most}).", {name: most, "asked": has}
        )


def parse_json(data: bytes | bytearray | str, what: str = "The message") -> Any:
    """Strict JSON: no NaN, no lone surrogates, bounded nesting. Raises PeerFault BAD_JSON."""
    try:
        return orjson.loads(data)
    except (orjson.JSONDecodeError, UnicodeEncodeError) as fault:
        raise PeerFault(Code.BAD_JSON, f"{what} is not valid JSON: {fault}") from None


def parse_command(text: str, filters: Collection[str], most: Most = MOST) -> Command:
    """Read a client message; `filters` are the names that there are. Raises CommandFault."""
    req_id: ReqId = None
    try:
        body = parse_json(text)
        if not isinstance(body, dict):
            raise PeerFault(Code.BAD_REQUEST, 'A message is a JSON object with an "action".')
        if body.get("reqId") is not None:
            req_id = _req_id(body["reqId"])
        return _command(body, req_id, filters, most)
    except PeerFault as fault:
        raise CommandFault(fault.code, fault.message, req_id, fault.details) from None


def _command(
    body: Mapping[str, Any], req_id: ReqId, filters: Collection[str], most: Most
) -> Command:
    action = body.get("action")
    if not isinstance(action, str) or action not in _ACTIONS:
        # What is no string is not quoted: lists within lists would be, until the stack is full.
        if isinstance(action, str):
            message = f"There is no action {action[:64]!r}.{nearest(action[:64], _ACTIONS)}"
        elif "action" in body:
            message = "`action` must be a string."
        else:
            message = "The message has no `action`."
        raise PeerFault(Code.UNKNOWN_ACTION, message, {"actions": list(_ACTIONS)})
    allowed = _ACTIONS[action]
    for name in body:
        if name not in allowed and name not in ("action", "reqId"):
            close = nearest(name[:64], allowed)
            raise PeerFault(Code.BAD_REQUEST, f"{action!r} has no field {name[:64]!r}.{close}")
    match action:
        case "subscribe":
            since = body.get("since")
            if since is not None and not isinstance(since, str):
                raise PeerFault(Code.POSITION_MALFORMED, "`since` must be a string.")
            if since is not None and parse_instant(since, "since") is not None:
                raise PeerFault(
                    Code.BAD_REQUEST,
                    "`since` takes a time in the stream's address only; here send a position.",
                )
            return Subscribe(
                req_id=req_id,
                channels=names(body.get("channels"), most),
                fields=filter_values(body.get("filter"), "filter", filters, most),
                start=None if since is None else parse_since(since),
            )
        case "unsubscribe":
            return Unsubscribe(req_id=req_id, channels=names(body.get("channels"), most))
        case "filter":
            add = filter_values(body.get("add"), "add", filters, most)
            remove = filter_values(body.get("remove"), "remove", filters, most)
            if not add and not remove:
                raise PeerFault(Code.BAD_REQUEST, "`add` or `remove` must name filter values.")
            for name in add.keys() & remove.keys():
                if both := add[name] & remove[name]:
                    raise PeerFault(
                        Code.BAD_REQUEST, f"`{name}`: {min(both)!r} is to be added and removed."
                    )
            return ChangeFilter(
                req_id=req_id, channels=names(body.get("channels"), most), add=add, remove=remove
            )
        case "heartbeat":
            return Heartbeat(req_id=req_id)
        case "publish":
            data = body.get("data")
            if not isinstance(data, dict):
                raise PeerFault(Code.BAD_REQUEST, "`data` must be a JSON object: the payload.")
            return Publish(
                req_id=req_id,
                channel=identifier(body.get("channel"), "channel"),
                data=data,
                idempotency_key=_key(body),
            )
        case "acknowledge-alert":
            return AcknowledgeAlert(
                req_id=req_id,
                alert_id=identifier(body.get("alertId"), "alertId"),
                note=body.get("note"),
                idempotency_key=_key(body),
            )
        case _:
            return Acknowledge(req_id=req_id, position=parse_position(body.get("position")))


def parse_position(value: Any) -> Position:
    """Raises PeerFault POSITION_MALFORMED."""
    if not isinstance(value, str):
        raise PeerFault(Code.POSITION_MALFORMED, "`position` must be a string such as k3v9:1042.")
    return Position.parse(value)


def parse_client_id(value: Any) -> str:
    """Raises PeerFault BAD_REQUEST."""
    return identifier(value, "clientId")


def _key(body: Mapping[str, Any]) -> str | None:
    key = body.get("idempotencyKey")
    return None if key is None else identifier(key, "idempotencyKey")


def parse_since(text: str) -> Start:
    """A position, a time, `earliest` or `acked`. Raises PeerFault."""
    if text == "earliest":
        return Start(Origin.EARLIEST)
    if text == "acked":
        return Start(Origin.ACKED)
    instant = parse_instant(text, "since")
    if instant is not None:
        return Start(Origin.INSTANT, instant=instant)
    return Start(Origin.POSITION, Position.parse(text))


def identifier(value: Any, name: str) -> str:
    try:
        if value is None:
            _IDENTIFIER.deserialize(value)  # `read` knows no null: the words for it are the field's
        return _IDENTIFIER.read(value)
    except ValidationError as fault:
        raise PeerFault(Code.BAD_REQUEST, f"`{name}`: {fault.messages[0]}") from None


def _req_id(value: Any) -> ReqId:
    """A text, or a whole number that every JSON reader keeps: it goes back as it came."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_SEQ:
        return value
    if isinstance(value, str):
        return identifier(value, "reqId")
    raise PeerFault(Code.BAD_REQUEST, "`reqId` must be a text or a whole number below 2^53.")


def names(value: Any, most: Most) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise PeerFault(Code.BAD_REQUEST, "`channels` must name at least one channel.")
    within("max_channels", len(value), most.channels)
    return tuple(dict.fromkeys(identifier(name, "channels") for name in value))


def filter_values(value: Any, member: str, filters: Collection[str], most: Most) -> Fields:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise PeerFault(
            Code.BAD_REQUEST, f"`{member}` must be an object of field to list of values."
        )
    fields: dict[str, frozenset[str]] = {}
    count = 0
    for name, values in value.items():
        if name not in filters:
            raise PeerFault(
                Code.UNKNOWN_FILTER,
                f"There is no filter {name[:64]!r}.{nearest(name[:64], filters)} There are: "
                f"{', '.join(sorted(filters))}.",
                {"filters": sorted(filters)},
            )
        if not isinstance(values, list) or not values:
            raise PeerFault(Code.BAD_REQUEST, f"`{member}.{name}` must be a list of values.")
        count += len(values)
        within("max_filter_values", count, most.filter_values)
        fields[name] = frozenset(identifier(each, f"{member}.{name}") for each in values)
    return fields
