"""The page `/docs`: channels, calls, messages and codes, as text with lines to copy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from telecast.channels.channel import Channel
from telecast.contracts.openapi import Call
from telecast.contracts.shapes import Schema, client_actions, payload, server_messages
from telecast.errors import Code

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Telecast: channels and calls</title>
<link rel="icon" href="page/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="page/docs.css">
</head>
<body>
<main>
<h1>Channels and calls</h1>
<p>What your key may use, as this service has it. For programs:
<a href="openapi.json">openapi.json</a>, <a href="asyncapi.json">asyncapi.json</a>,
<a href="types.d.ts">types.d.ts</a> (TypeScript), <a href="types.py">types.py</a> (Python).</p>
"""


def docs_page(channels: Iterable[Channel], calls: Iterable[Call], base: str) -> str:
    """`base` is the service's address as the reader has it, such as http://127.0.0.1:8080."""
    channels = list(channels)
    links = " ".join(f'<a href="#{escape(c.name)}">{escape(c.name)}</a>' for c in channels)
    parts = [_HEAD, f"<nav>{links} <a href='#calls'>calls</a> <a href='#codes'>codes</a></nav>"]
    parts += [_channel(channel, base) for channel in channels]
    parts += ['<h2 id="calls">Calls</h2>', _table(("call", "does"), _calls(calls))]
    parts += ["<h2>Messages of the service</h2>", _messages(server_messages(), "type")]
    parts += ["<h2>Messages of a WebSocket client</h2>", _messages(client_actions(channels), "")]
    rows = [
        (
            _code(code.value),
            str(code.rule.http),
            "-" if code.rule.close is None else str(code.rule.close),
            "yes" if code.rule.retryable else "no",
            escape(code.rule.advice),
        )
        for code in Code
    ]
    head = ("code", "HTTP", "close", "retry as it is", "what to do")
    parts += ['<h2 id="codes">Codes</h2>', _table(head, rows), "</main>\n</body>\n</html>\n"]
    return "\n".join(parts)


def _channel(channel: Channel, base: str) -> str:
    name = escape(channel.name)
    facts = [
        f"{channel.mode}, key {' : '.join(channel.key_fields)}",
        f"filters: {', '.join(sorted(channel.filters)) or 'none'}",
        f"kept: {channel.retention.events:,} events",
        f"scope to publish: {channel.publish_scope}",
    ]
    if channel.stale_after is not None:
        facts.append(f"stale after {channel.stale_after:g} s")
    key = '-H "X-API-Key: $TELECAST_KEY"'
    body = json.dumps(channel.example).replace("'", "'\\''")
    lines = [
        f"telecast tail {channel.name}",
        f"curl -N {key} '{base}/sse/telemetry?channels={channel.name}'",
        f'wscat -H "X-API-Key: $TELECAST_KEY" -c \'{_ws(base)}/ws/telemetry'
        f"?channels={channel.name}'",
        f"curl {key} '{base}/api/v1/channels/{channel.name}/snapshot'",
        f"curl {key} -H 'Content-Type: application/json' -d '{body}' "
        f"'{base}/api/v1/channels/{channel.name}/events'",
    ]
    schema = payload(channel)
    needed = set(schema["required"])
    rows = [
        (
            _code(field),
            escape(_kind(said)),
            "required" if field in needed else "may be left out",
            escape(str(said.get("description", ""))),
        )
        for field, said in schema["properties"].items()
    ]
    return "\n".join(
        (
            f'<section><h2 id="{name}">{name}</h2>',
            f"<p>{escape(channel.description)}</p><p>{escape('; '.join(facts))}.</p>",
            *(f"<pre>{escape(line)}</pre>" for line in lines),
            _table(("field", "type", "when publishing", ""), rows),
            "</section>",
        )
    )


def _ws(base: str) -> str:
    return "ws" + base.removeprefix("http")


def _calls(calls: Iterable[Call]) -> Iterable[Sequence[str]]:
    for call in calls:
        yield _code(f"{call.method} {call.path}"), escape(call.summary)


def _messages(found: dict[str, Schema], skip: str) -> str:
    rows = [
        (_code(kind), ", ".join(_code(name) for name in said["properties"] if name != skip))
        for kind, said in found.items()
    ]
    return _table(("message", "members"), rows)


def _kind(said: Schema) -> str:
    if "enum" in said:
        return ", ".join(str(value) for value in said["enum"] if value is not None)
    kinds: Any = said.get("type", "anything")
    shown = kinds if isinstance(kinds, str) else " or ".join(kinds)
    return f"{shown} ({said['format']})" if "format" in said else shown


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" for cells in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>\n{body}\n</tbody></table>"
