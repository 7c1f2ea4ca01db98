"""AsyncAPI 3.1 of the streams: both transports, every message and every action."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from telecast import __version__
from telecast.channels.channel import Channel
from telecast.contracts.shapes import (
    Schema,
    client_actions,
    codes,
    event,
    event_name,
    row,
    row_name,
    server_messages,
)

_TRANSPORTS = {
    "ws": ("/ws/telemetry", "A WebSocket: messages both ways, subscriptions that change."),
    "sse": (
        "/sse/telemetry",
        "Server-Sent Events: a selection in the address, or by POST in a JSON body.",
    ),
}


def asyncapi(channels: Iterable[Channel]) -> Schema:
    """The document for these channels."""
    channels = list(channels)
    from_server = {f"{kind}Message": said for kind, said in server_messages().items()}
    events = {event_name(channel): event(channel) for channel in channels}
    actions = {_action_name(kind): said for kind, said in client_actions(channels).items()}
    sent, taken = [*from_server, *events], [*actions]
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Telecast",
            "version": __version__,
            "description": "The streams. REST calls are in /openapi.json.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "service": {
                "host": "localhost:8080",
                "protocol": "ws",
                "description": "The service that answered this, at its own address.",
                "security": [{"$ref": "#/components/securitySchemes/key"}],
            }
        },
        "channels": {
            name: {
                "address": address,
                "description": description,
                "messages": {
                    each: {"$ref": f"#/components/messages/{each}"}
                    for each in (sent + taken if name == "ws" else sent)
                },
            }
            for name, (address, description) in _TRANSPORTS.items()
        },
        "operations": {
            **{
                f"{name}Sends": _operation("send", name, sent, "What the service sends.")
                for name in _TRANSPORTS
            },
            "wsReceives": _operation("receive", "ws", taken, "What a client may ask."),
        },
        "components": {
            "securitySchemes": {"key": {"type": "httpApiKey", "name": "X-API-Key", "in": "header"}},
            "messages": {
                name: {
                    "name": name,
                    "contentType": "application/json",
                    "payload": {"$ref": f"#/components/schemas/{name}"},
                }
                for name in sent + taken
            },
            "schemas": {
                "Code": codes(),
                **from_server,
                **{row_name(channel): row(channel) for channel in channels},
                **events,
                **actions,
            },
        },
    }


def _operation(action: str, channel: str, messages: Sequence[str], summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{each}"} for each in messages],
    }


def _action_name(kind: str) -> str:
    words = kind.split("-")
    return words[0] + "".join(word.capitalize() for word in words[1:]) + "Action"
