"""OpenAPI 3.1 of the REST calls, made from the routes and the channels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from telecast import __version__
from telecast.channels.channel import Channel
from telecast.contracts.links import links_of
from telecast.contracts.shapes import (
    ANYTHING,
    COUNT,
    INSTANT,
    POSITION,
    TEXT,
    Schema,
    answered,
    codes,
    event,
    event_name,
    payload,
    payload_name,
    record,
    refusal,
    row,
    row_name,
)

_PART = re.compile(r"\{(\w+)(?::[^{}]*(?:\{[^{}]*\})?[^{}]*)?\}")
_OF_CHANNEL = "/channels/{channel}"
_ROWS_LIMIT = {"type": "integer", "minimum": 1, "maximum": 5_000, "default": 1_000}


@dataclass(frozen=True, slots=True)
class Call:
    """A route: what it does in one sentence is its handler's."""

    method: str
    path: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Detail:
    """What is known of a call beyond its route."""

    scope: str | None = None
    status: int = 200
    query: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, Schema] = field(default_factory=dict)


_IDEMPOTENCY: Mapping[str, Schema] = {
    "Idempotency-Key": {"type": "string", "minLength": 1, "maxLength": 128}
}
_CONDITION: Mapping[str, Schema] = {"If-None-Match": TEXT}
_AUDIT_LIMIT: Schema = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
_CLIENTS = ("principal", "clientId", "transport", "channel", "stale")
_DETAILS: Mapping[tuple[str, str], _Detail] = {
    ("get", "/channels"): _Detail(scope="read"),
    ("get", "/channels/{channel}"): _Detail(scope="read"),
    ("get", "/channels/{channel}/snapshot"): _Detail(
        scope="read", query={"limit": _ROWS_LIMIT, "cursor": TEXT}, headers=_CONDITION
    ),
    ("get", "/channels/{channel}/events"): _Detail(
        scope="read", query={"limit": _ROWS_LIMIT, "after": TEXT, "from": TEXT, "to": TEXT}
    ),
    ("get", "/channels/{channel}/rows/{key}"): _Detail(scope="read", headers=_CONDITION),
    ("get", "/channels/{channel}/rows"): _Detail(
        scope="read", query={"key": TEXT}, headers=_CONDITION
    ),
    ("post", "/channels/{channel}/events"): _Detail(
        status=201, query={"replace": TEXT}, headers=_IDEMPOTENCY
    ),
    ("delete", "/channels/{channel}/rows/{key}"): _Detail(
        status=201, query={"ifSeq": COUNT}, headers=_IDEMPOTENCY
    ),
    ("delete", "/channels/{channel}/rows"): _Detail(
        status=201, query={"key": TEXT, "ifSeq": COUNT}, headers=_IDEMPOTENCY
    ),
    ("post", "/{channel}/{id}/acknowledge"): _Detail(scope="operate", headers=_IDEMPOTENCY),
    ("post", "/{channel}/{id}/unacknowledge"): _Detail(scope="operate", headers=_IDEMPOTENCY),
    ("get", "/audit"): _Detail(
        scope="admin",
        query={
            "limit": _AUDIT_LIMIT,
            "cursor": TEXT,
            "principal": TEXT,
            "action": TEXT,
            "target": TEXT,
        },
    ),
    ("get", "/clients"): _Detail(
        scope="admin",
        query={
            **dict.fromkeys(_CLIENTS, TEXT),
            "closed": TEXT,
            "limit": _AUDIT_LIMIT,
            "cursor": TEXT,
        },
    ),
    ("delete", "/clients"): _Detail(
        scope="admin",
        query=dict.fromkeys((*_CLIENTS, "reason", "ban", "dryRun"), TEXT),
    ),
    ("get", "/clients/{connection_id}"): _Detail(scope="admin"),
    ("delete", "/clients/{connection_id}"): _Detail(
        scope="admin", query={"reason": TEXT, "ban": TEXT}
    ),
    ("post", "/clients/ack"): _Detail(scope="read"),
    ("get", "/consumers"): _Detail(
        scope="admin",
        query={"principal": TEXT, "clientId": TEXT, "limit": _AUDIT_LIMIT, "cursor": TEXT},
    ),
    ("delete", "/consumers"): _Detail(scope="admin", query={"keyId": TEXT, "clientId": TEXT}),
    ("get", "/keys/{id}"): _Detail(scope="admin"),
    ("get", "/stats"): _Detail(scope="admin"),
    ("get", "/nodes"): _Detail(scope="admin"),
    ("delete", "/nodes/{node}"): _Detail(scope="admin"),
}


def openapi(channels: Iterable[Channel], calls: Iterable[Call], api: str = "/api/v1") -> Schema:
    """The document for these channels; `calls` are all routes, those under `api` are described."""
    channels = list(channels)
    paths: dict[str, Any] = {}
    for call in calls:
        path = _PART.sub(lambda part: f"{{{part[1]}}}", call.path)
        if not path.startswith(api):
            continue
        below = path.removeprefix(api)
        for_each: Sequence[Channel | None] = channels if below.startswith(_OF_CHANNEL) else (None,)
        for channel in for_each:
            named = path if channel is None else path.replace("{channel}", channel.name)
            paths.setdefault(named, {})[call.method.lower()] = _operation(call, below, channel)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Telecast",
            "version": __version__,
            "description": "Publish, read and administer. Streams are in /asyncapi.json.",
        },
        "servers": [{"url": "/", "description": "The service that answered this."}],
        "security": [{"key": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "responses": {
                "Refusal": {
                    "description": "A refusal: its code, and what to do about it.",
                    "content": _json({"$ref": "#/components/schemas/Refusal"}),
                }
            },
            "schemas": _schemas(channels),
        },
    }


def _schemas(channels: Sequence[Channel]) -> dict[str, Schema]:
    receipt = record(
        {
            "accepted": COUNT,
            "firstSeq": {"type": ["integer", "null"]},
            "lastSeq": COUNT,
            "position": POSITION,
            "subscribers": COUNT,
        },
        {"duplicate": {"const": True}},
    )
    found: dict[str, Schema] = {"Code": codes(), "Refusal": refusal(), "Receipt": receipt}
    for channel in channels:
        found[payload_name(channel)] = payload(channel)
        found[row_name(channel)] = row(channel)
        found[event_name(channel)] = event(channel)
    return found


def _operation(call: Call, below: str, channel: Channel | None) -> dict[str, Any]:
    method = call.method.lower()
    path = _PART.sub(lambda part: f"{{{part[1]}}}", below)
    detail = _DETAILS.get((method, path), _Detail())
    filters = channel.filters if channel is not None and "cursor" in detail.query else {}
    if channel is not None and "after" in detail.query:
        filters = channel.filters
    query: dict[str, Schema] = {**detail.query, **dict.fromkeys(filters, TEXT)}
    path_parts = [part for part in _PART.findall(path) if channel is None or part != "channel"]
    operation: dict[str, Any] = {
        "operationId": _name(method, path, channel),
        "summary": call.summary,
        "tags": [channel.name if channel is not None else "service"],
        "parameters": [
            *(
                {"name": part, "in": "path", "required": True, "schema": TEXT}
                for part in path_parts
            ),
            *({"name": each, "in": "query", "schema": said} for each, said in query.items()),
            *({"name": h, "in": "header", "schema": said} for h, said in detail.headers.items()),
        ],
        "responses": {
            str(detail.status): {
                "description": "Done.",
                "content": _json(answered(_answer(method, path, channel))),
            },
            "default": {"$ref": "#/components/responses/Refusal"},
        },
    }
    if detail.headers is _CONDITION:
        operation["responses"]["304"] = {"description": "It is what `If-None-Match` names."}
    if channel is not None and (links := links_of(method, path, channel, _name)):
        operation["responses"][str(detail.status)]["links"] = links
    scope = detail.scope
    if scope is None and channel is not None:
        scope = channel.publish_scope
    if scope is not None:
        operation["description"] = f"Needs the scope `{scope}`."
    if channel is not None and (method, path) == ("post", "/channels/{channel}/events"):
        one = {"$ref": f"#/components/schemas/{payload_name(channel)}"}
        example = {"example": {"value": channel.example}}
        operation["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]},
                    "examples": example,
                },
                "application/x-ndjson": {"schema": {"type": "string"}},
            },
        }
    return operation


def _answer(method: str, path: str, channel: Channel | None) -> Schema:
    if channel is None:
        return ANYTHING
    if (method, path) in _DETAILS and method in ("post", "delete"):
        return {"$ref": "#/components/schemas/Receipt"}
    one = record(
        {
            "key": TEXT,
            "seq": COUNT,
            "updatedAt": INSTANT,
            "data": {"$ref": f"#/components/schemas/{row_name(channel)}"},
        }
    )
    if "/rows" in path:
        return one
    if path.endswith("/snapshot"):
        page = {"rows": {"type": "array", "items": one}, "position": POSITION}
        return record({**page, "more": {"type": "boolean"}}, {"cursor": TEXT})
    if path.endswith("/events"):
        one = {"$ref": f"#/components/schemas/{event_name(channel)}"}
        gap = {"anyOf": [record({"fromSeq": COUNT, "toSeq": COUNT}), {"type": "null"}]}
        page = {"events": {"type": "array", "items": one}, "position": POSITION}
        return record({**page, "more": {"type": "boolean"}, "gap": gap})
    return {"type": "object"}


def _name(method: str, path: str, channel: Channel | None) -> str:
    words = [word for word in re.split(r"[^A-Za-z0-9]+", path) if word not in ("", "channel")]
    if channel is not None:
        words[1:1] = channel.name.split("-")
    return method + "".join(word[:1].upper() + word[1:] for word in words)


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
