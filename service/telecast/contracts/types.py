"""Types of the channels' rows, events and payloads, for TypeScript and for Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from keyword import iskeyword
from typing import Any

from telecast.channels.channel import Channel
from telecast.contracts.shapes import event_name, payload, payload_name, row, row_name

Schema = Mapping[str, Any]

_TS = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean"}
_PY = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"}


def typescript(channels: Iterable[Channel]) -> str:
    """A module of declarations: a payload, a row and an event for each channel."""
    parts = ["// Made from the channel catalogue; decimals are strings, so that no digit is lost."]
    names = []
    for channel in channels:
        ops = '"append"' if channel.mode == "log" else '"upsert" | "delete"'
        parts += [
            f"/** {_remark(channel.description)} As it is published. */\n"
            f"export interface {payload_name(channel)} {_ts_object(payload(channel), '')}",
            f"/** {_remark(channel.description)} As subscribers get it. */\n"
            f"export interface {row_name(channel)} {_ts_object(row(channel), '')}",
            f"export interface {event_name(channel)} {{\n"
            '  type: "event";\n'
            f"  channel: {json.dumps(channel.name)};\n"
            "  seq: number;\n"
            f"  op: {ops};\n"
            "  key: string;\n"
            f"  data: {row_name(channel)};\n"
            "  timestamp: number;\n}",
        ]
        names.append((channel, event_name(channel)))
    rows = "".join(f"  {json.dumps(c.name)}: {row_name(c)};\n" for c, _ in names)
    payloads = "".join(f"  {json.dumps(c.name)}: {payload_name(c)};\n" for c, _ in names)
    parts += [
        f"/** The row of each channel, by its name. */\nexport interface Rows {{\n{rows}}}",
        f"export interface Payloads {{\n{payloads}}}",
        f"export type ChannelEvent = {' | '.join(name for _, name in names) or 'never'};",
    ]
    return "\n\n".join(parts) + "\n"


def python_types(channels: Iterable[Channel]) -> str:
    """A module of TypedDicts: a payload and a row for each channel."""
    parts = [
        '"""Types of the channels\' rows and payloads, made from the channel catalogue.\n\n'
        'Decimals are strings, so that no digit is lost.\n"""',
        "from __future__ import annotations",
    ]
    classes: list[str] = []
    for channel in channels:
        for name, schema in (
            (payload_name(channel), payload(channel)),
            (row_name(channel), row(channel)),
        ):
            classes += reversed(_py_classes(name, schema))
    text = "\n\n\n".join(classes)
    names = [name for name in ("Any", "Literal", "NotRequired", "TypedDict") if name in text]
    parts.append(f"from typing import {', '.join(names)}" if names else "")
    return "\n\n".join(parts) + f"\n\n\n{text}\n"


def _remark(text: str) -> str:
    """What may stand in a comment of TypeScript, and does not end it."""
    return text.replace("*/", "* /")


def _ts_object(schema: Schema, indent: str) -> str:
    inner = indent + "  "
    required = set(schema.get("required", ()))
    lines = []
    for name, said in schema["properties"].items():
        if "description" in said:
            lines.append(f"{inner}/** {_remark(said['description'])} */")
        lines.append(f"{inner}{name}{'' if name in required else '?'}: {_ts(said, inner)};")
    return "{\n" + "".join(f"{line}\n" for line in lines) + indent + "}"


def _ts(schema: Schema, indent: str) -> str:
    """A type; what JSON Schema bounds beyond it (lengths, patterns) no type says."""
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "anyOf" in schema:
        return " | ".join(_ts(each, indent) for each in schema["anyOf"])
    kinds = schema.get("type", [])
    found = []
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind == "array":
            found.append(f"Array<{_ts(schema.get('items', {}), indent)}>")
        elif kind == "object" and schema.get("properties"):
            found.append(_ts_object(schema, indent))
        elif kind == "object":
            below = schema.get("additionalProperties")
            of = _ts(below, indent) if isinstance(below, Mapping) else "unknown"
            found.append(f"Record<string, {of}>")
        else:
            found.append("null" if kind == "null" else _TS[kind])
    return " | ".join(found) or "unknown"


def _py_classes(name: str, schema: Schema) -> list[str]:
    """The class of an object, and after it those that it needs."""
    required = set(schema.get("required", ()))
    lines, below = [], []
    if any(iskeyword(field) for field in schema["properties"]):
        # Such as `from`, which no class can have: the form of a call can.
        members = []
        for field, said in schema["properties"].items():
            kind, classes = _py(name + field[:1].upper() + field[1:], said)
            below += classes
            members.append(
                f"{json.dumps(field)}: {kind if field in required else f'NotRequired[{kind}]'}"
            )
        return [f"{name} = TypedDict({json.dumps(name)}, {{{', '.join(members)}}})", *below]
    for field, said in schema["properties"].items():
        kind, classes = _py(name + field[:1].upper() + field[1:], said)
        below += classes
        lines.append(f"    {field}: {kind if field in required else f'NotRequired[{kind}]'}")
    return [f"class {name}(TypedDict):\n" + "\n".join(lines), *below]


def _py(name: str, schema: Schema) -> tuple[str, list[str]]:
    if "enum" in schema:
        words = [value for value in schema["enum"] if value is not None]
        none = " | None" if len(words) < len(schema["enum"]) else ""
        return f"Literal[{', '.join(json.dumps(word) for word in words)}]{none}", []
    if "anyOf" in schema:
        both = [_py(name, each) for each in schema["anyOf"]]
        return " | ".join(kind for kind, _ in both), [c for _, found in both for c in found]
    kinds = schema.get("type", [])
    found: list[str] = []
    classes: list[str] = []
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind == "array":
            of, classes = _py(f"{name}Item", schema.get("items", {}))
            found.append(f"list[{of}]")
        elif kind == "object" and schema.get("properties"):
            classes = _py_classes(name, schema)
            found.append(name)
        elif kind == "object":
            values = schema.get("additionalProperties")
            of, _ = _py(name, values) if isinstance(values, Mapping) else ("Any", [])
            found.append(f"dict[str, {of}]")
        else:
            found.append("None" if kind == "null" else _PY[kind])
    return " | ".join(found) or "Any", classes
