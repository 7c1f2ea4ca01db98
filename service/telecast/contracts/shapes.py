"""The JSON Schemas of what is sent and answered, for both documents and for the types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from telecast.channels.channel import Channel
from telecast.errors import Code
from telecast.model import MAX_SEQ
from telecast.protocol.messages import SnapshotReason

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_SEQ}
FLAG: Schema = {"type": "boolean"}
NAMES: Schema = {"type": "array", "items": TEXT}
ANYTHING: Schema = {}
MILLISECONDS: Schema = {**COUNT, "description": "Milliseconds since 1970."}
INSTANT: Schema = {"type": "string", "format": "date-time"}
POSITION: Schema = {
    "type": "string",
    "pattern": "^[0-9a-z]{4,16}:(0|[1-9][0-9]{0,15})$",
    "examples": ["k3v9:1042"],
}


def record(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def payload(channel: Channel) -> Schema:
    """What a publisher sends."""
    found = {name: value for name, value in channel.json_schema.items() if name != "$schema"}
    return {**found, "description": channel.description, "examples": [channel.example]}


def row(channel: Channel) -> Schema:
    """What subscribers get: every field is present, those of the server too."""
    found = payload(channel)
    example = channel.load(channel.example)
    owned = {name: _like(value) for name, value in example.items()}
    properties = {**owned, **found["properties"]}
    return {
        **found,
        "title": f"{channel.name} row",
        "properties": {name: _whole(properties[name]) for name in example},
        "required": list(example),
        "examples": [example],
    }


def event(channel: Channel) -> Schema:
    ops = ["append"] if channel.mode == "log" else ["upsert", "delete"]
    return _message(
        "event",
        {
            "channel": {"const": channel.name},
            "seq": {**COUNT, "minimum": 1},
            "op": {"enum": ops},
            "key": TEXT,
            "data": {"$ref": f"#/components/schemas/{row_name(channel)}"},
        },
        {"position": POSITION},
    )


def server_messages() -> dict[str, Schema]:
    """Every message but events, by its type."""
    code = {"$ref": "#/components/schemas/Code"}
    rejected = record({"channel": TEXT, "code": code, "message": TEXT})
    return {
        "welcome": _message(
            "welcome",
            {
                "clientId": MAYBE_TEXT,
                "connectionId": TEXT,
                "protocol": COUNT,
                "head": POSITION,
                "heartbeatSeconds": COUNT,
                "limits": {"type": "object", "additionalProperties": COUNT},
            },
            {"node": TEXT},
        ),
        "ack": {
            **_message(
                "ack",
                {
                    "action": TEXT,
                    "reqId": MAYBE_TEXT,
                    "channels": NAMES,
                    "rejected": {"type": "array", "items": rejected},
                    "delivery": {"enum": ["conflated", "all"]},
                    "maxRate": {"type": ["number", "null"]},
                },
            ),
            # An ack of a publish has what the receipt has; other actions add their own.
            "additionalProperties": True,
        },
        "snapshot": _message(
            "snapshot", {"channels": NAMES, "reason": {"enum": list(get_args(SnapshotReason))}}
        ),
        "resume": _message("resume", {"from": POSITION, "channels": NAMES}),
        "leave": _message("leave", {"channel": TEXT, "keys": NAMES}),
        "live": _message("live", {"position": POSITION, "count": COUNT}),
        "conflated": _message("conflated", {"fromSeq": COUNT, "toSeq": COUNT}, {"count": COUNT}),
        "gap": _message("gap", {"channel": TEXT, "fromSeq": COUNT, "toSeq": COUNT}),
        "heartbeat": _message("heartbeat", {"position": POSITION}),
        "stale": _message(
            "stale",
            {"channel": {"type": "string"}, "since": {"type": ["integer", "null"], "minimum": 0}},
        ),
        "fresh": _message("fresh", {"channel": {"type": "string"}}),
        "notice": _message(
            "notice",
            {
                "code": code,
                "message": TEXT,
                "retryAfterMs": {"type": ["integer", "null"]},
                "retryable": FLAG,
            },
        ),
        "error": _message("error", {"reqId": MAYBE_TEXT, **_fault()}),
    }


def client_actions(channels: Iterable[Channel]) -> dict[str, Schema]:
    """Every action of the WebSocket that names no future one."""
    channels = list(channels)
    filters = sorted({name for channel in channels for name in channel.filters})
    values = {"type": "array", "items": TEXT, "minItems": 1}
    by_filter = {"type": "object", "properties": dict.fromkeys(filters, values)}
    some = {**NAMES, "minItems": 1}
    since = {"anyOf": [POSITION, {"enum": ["earliest", "acked"]}]}
    return {
        "subscribe": _action(
            "subscribe",
            {"channels": some},
            {"filter": {**by_filter, "additionalProperties": False}, "since": since},
        ),
        "unsubscribe": _action("unsubscribe", {"channels": some}, {}),
        "filter": _action(
            "filter",
            {"channels": some},
            {
                "add": {**by_filter, "additionalProperties": False},
                "remove": {**by_filter, "additionalProperties": False},
            },
        ),
        "heartbeat": _action("heartbeat", {}, {}),
        "ack": _action("ack", {"position": POSITION}, {}),
        "acknowledge-alert": _action(
            "acknowledge-alert", {"alertId": TEXT}, {"note": MAYBE_TEXT, "idempotencyKey": TEXT}
        ),
        "publish": _action(
            "publish",
            {"channel": {"enum": [c.name for c in channels]}, "data": {"type": "object"}},
            {"idempotencyKey": TEXT},
        ),
    }


def refusal() -> Schema:
    """The body of every answer that is no success."""
    return record({"success": {"const": False}, "error": record(_fault()), "timestamp": INSTANT})


def answered(data: Schema) -> Schema:
    """The envelope around what a call answers."""
    return record({"success": {"const": True}, "data": data, "timestamp": INSTANT})


def codes() -> Schema:
    return {
        "type": "string",
        "enum": [code.value for code in Code],
        "description": "What to do about each stands in the reference of errors.",
    }


def type_name(channel: Channel) -> str:
    """A name for types: one of `risk-alerts` is a RiskAlert."""
    return channel.type_name


def payload_name(channel: Channel) -> str:
    return f"{type_name(channel)}Payload"


def row_name(channel: Channel) -> str:
    return f"{type_name(channel)}Row"


def event_name(channel: Channel) -> str:
    return f"{type_name(channel)}Event"


def _whole(schema: Schema) -> Schema:
    """An object as it is sent: what a publisher left out is there."""
    if "properties" in schema:
        properties = {name: _whole(said) for name, said in schema["properties"].items()}
        return {**schema, "properties": properties, "required": list(properties)}
    if "items" in schema:
        return {**schema, "items": _whole(schema["items"])}
    return schema


def _fault() -> dict[str, Schema]:
    return {
        "code": {"$ref": "#/components/schemas/Code"},
        "message": TEXT,
        "details": ANYTHING,
        "advice": TEXT,
        "retryable": FLAG,
    }


def _message(
    kind: str, required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None
) -> Schema:
    return record({"type": {"const": kind}, **required, "timestamp": MILLISECONDS}, optional)


def _action(kind: str, required: Mapping[str, Schema], optional: Mapping[str, Schema]) -> Schema:
    return record({"action": {"const": kind}, **required}, {**optional, "reqId": TEXT})


def _like(value: Any) -> Schema:
    """The schema of what only the server writes, by a value of it."""
    match value:
        case bool():
            return FLAG
        case int():
            return COUNT
        case str():
            return TEXT
        case list():
            return {"type": "array"}
        case _:
            return MAYBE_TEXT
