"""OpenAPI links (3.1, Link Object): which call takes what another has answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from telecast.channels.channel import Channel

_CHANNEL = "/channels/{channel}"
_ANSWER = "$response.body#/data/"
Target = tuple[str, str, Mapping[str, str], str]
"""The method and path of the call, its parameters as expressions, and what it is for."""

_AFTER: Target = (
    "get",
    f"{_CHANNEL}/events",
    {"after": f"{_ANSWER}position"},
    "What was committed after it.",
)
_LINKS: Mapping[tuple[str, str], Mapping[str, Target]] = {
    ("post", f"{_CHANNEL}/events"): {"history": _AFTER},
    ("get", f"{_CHANNEL}/events"): {"next": _AFTER},
    ("get", f"{_CHANNEL}/snapshot"): {
        "history": _AFTER,
        "next": (
            "get",
            f"{_CHANNEL}/snapshot",
            {"cursor": f"{_ANSWER}cursor"},
            "The next page, if there is more.",
        ),
        "row": (
            "get",
            f"{_CHANNEL}/rows/{{key}}",
            {"key": f"{_ANSWER}rows/0/key"},
            "The first of these rows by itself.",
        ),
    },
    ("get", f"{_CHANNEL}/rows/{{key}}"): {
        "withdraw": (
            "delete",
            f"{_CHANNEL}/rows/{{key}}",
            {"key": f"{_ANSWER}key", "ifSeq": f"{_ANSWER}seq"},
            "Take it away, if it has not changed since.",
        ),
    },
    ("delete", f"{_CHANNEL}/rows/{{key}}"): {"history": _AFTER},
}


def links_of(
    method: str, path: str, channel: Channel, name: Callable[[str, str, Channel], str]
) -> dict[str, Any]:
    """The links of a call on a channel; `name` gives the operationId of another."""
    targets = dict(_LINKS.get((method, path), {}))
    if (method, path) == ("post", f"{_CHANNEL}/events") and _one_field_key(channel):
        targets["row"] = (
            "get",
            f"{_CHANNEL}/rows/{{key}}",
            {"key": f"$request.body#/{channel.key_fields[0]}"},
            "The row that a single payload makes.",
        )
    return {
        word: {
            "operationId": name(to_method, to_path, channel),
            "parameters": dict(parameters),
            "description": description,
        }
        for word, (to_method, to_path, parameters, description) in targets.items()
    }


def _one_field_key(channel: Channel) -> bool:
    return channel.mode == "keyed" and len(channel.key_fields) == 1
