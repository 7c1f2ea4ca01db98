"""The tables that are made from the code, so that they can't differ from it.

A page has two markers, `<!-- telecast:settings -->` and `<!-- /telecast:settings -->`, each on a
line of its own. The table between them is committed, so that a clone can be read without a build;
a test compares it with the code. Run this file to write all of them, or to print one:

    python docs/tables.py --write
    python docs/tables.py settings
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from marshmallow import Schema, fields

from telecast.app import create_app
from telecast.channels.catalogue import CHANNELS, Channel
from telecast.channels.fields import (
    Choice,
    Count,
    Duration,
    Flag,
    Identifier,
    Instant,
    PlainDecimal,
    Ratio,
    Text,
)
from telecast.config import Settings, table
from telecast.errors import CODES
from telecast.keys import KeyStore
from telecast.web.api.metric_table import METRICS
from telecast.web.api.metrics import REGISTRY

SOURCE = Path(__file__).parent.parent / "service/telecast"
_MARKED = re.compile(
    r"^<!-- telecast:([a-z]+) -->\n(?:.*?^<!-- /telecast:\1 -->$)?", re.MULTILINE | re.DOTALL
)


def filled(text: str) -> str:
    """The page with every marked table made anew. Raises KeyError for a marker of no table."""
    return _MARKED.sub(_marked, text)


def _marked(match: re.Match[str]) -> str:
    name = match[1]
    return f"<!-- telecast:{name} -->\n\n{TABLES[name]()}\n\n<!-- /telecast:{name} -->"


def write() -> None:
    """Write the tables into the pages."""
    for page in sorted(Path(__file__).parent.rglob("*.md")):
        text = page.read_text("utf-8")
        made = filled(text)
        if made != text:
            page.write_text(made, "utf-8")
            print(f"{page.name} written")


def settings() -> str:
    rows = [
        (
            f"`{about.name}`",
            _default(about.default),
            f"{_plain(about.why)} Right: {_plain(about.right)}.",
        )
        for about in table()
    ]
    return _table(("setting", "default", "what for, and what is right"), rows)


def errors() -> str:
    rows = [
        (
            f"`{name}`",
            str(code.http),
            "-" if code.close is None else str(code.close),
            "yes" if code.retryable else "no",
            _plain(code.advice),
        )
        for name, code in CODES.items()
    ]
    return _table(("code", "HTTP", "close code", "try again", "what to do"), rows)


def metrics() -> str:
    joins = {each.name: each.join for each in METRICS}
    rows = [
        (f"`{name}`", kind, _plain(reported.removesuffix(".")), joins[name])
        for name, kind, reported in collectors()
    ]
    return _table(("metric", "type", "what", "workers"), rows)


def channels() -> str:
    return "\n\n".join(_channel(channel) for channel in CHANNELS.values())


def overview() -> str:
    rows = [
        (
            f"`{channel.name}`",
            _plain(channel.description),
            ", ".join(f"`{name}`" for name in channel.filters),
            f"{channel.retention.events:,} events, {_days(channel.retention.seconds)}",
        )
        for channel in CHANNELS.values()
    ]
    return _table(("channel", "what", "filters", "kept at the most"), rows)


def logs() -> str:
    """Every line that the service logs, found in its source."""
    found: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room in ("client", "demo", "cli", "testing") and path.name not in SERVES:
            continue
        text = path.read_text("utf-8")
        named = re.search(r'^log = logging.getLogger\("([\w.]+)"\)$', text, re.MULTILINE)
        module = ".".join(["telecast", *path.relative_to(SOURCE).with_suffix("").parts])
        logger = named[1] if named else module.removesuffix(".__init__")
        for call in ast.walk(ast.parse(text)):
            for event, level, names in _logged(call):
                levels, known = found.setdefault((event, logger), (set(), set()))
                levels.add(level)
                known.update(names)
    rows = [
        (f"`{event}`", " ".join(sorted(levels)), f"`{logger}`", _names(names))
        for (event, logger), (levels, names) in sorted(found.items())
    ]
    return _table(("event", "level", "logger", "fields"), rows)


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "-"


def _decided(words: list[ast.expr]) -> Iterator[tuple[str, str, set[str]]]:
    """(event, level, fields) of a line that the supervision of workers has decided on."""
    level, event, *fields = words
    assert isinstance(level, ast.Attribute)
    assert isinstance(event, ast.Constant)
    if fields and isinstance(fields[0], ast.Dict):
        names = {str(key.value) for key in fields[0].keys if isinstance(key, ast.Constant)}
    else:
        names = {"worker", "status", "again_in_seconds", "reason"} if fields else set()
    yield str(event.value), level.attr, names


SERVES = ("serve.py", "process.py", "several.py")
"""Modules of the command line that are the service's."""
LEVELS = {
    "info": "INFO",
    "warning": "WARNING",
    "error": "ERROR",
    "exception": "ERROR",
    "critical": "CRITICAL",
}


def _logged(node: ast.AST) -> Iterator[tuple[str, str, set[str]]]:
    """(event, level, fields) of a call of a logger: `log.info(...)`, or `run(log.info, ...)`."""
    if not isinstance(node, ast.Call):
        return
    words, called = list(node.args), node.func
    if isinstance(called, ast.Name) and called.id == "Say":
        yield from _decided(words)
        return
    if words and isinstance(words[0], ast.Attribute) and isinstance(words[0].value, ast.Name):
        called, words = words[0], words[1:]
    if not (isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name)):
        return
    if called.value.id != "log" or called.attr not in LEVELS or not words:
        return
    fields = {
        str(key.value)
        for keyword in node.keywords
        if keyword.arg == "extra"
        for each in ast.walk(keyword.value)
        if isinstance(each, ast.Dict)
        for key in each.keys
        if isinstance(key, ast.Constant)
    }
    if any(each.arg == "exc_info" for each in node.keywords) or called.attr == "exception":
        fields.add("exc_info")
    level = LEVELS[called.attr]
    for word in ast.walk(words[0]):
        if isinstance(word, ast.Constant) and isinstance(word.value, str):
            yield word.value, level, fields


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings,
    "errors": errors,
    "metrics": metrics,
    "channels": channels,
    "overview": overview,
    "logs": logs,
}


def collectors() -> list[tuple[str, str, str]]:
    """(name, type, help) of every metric, from the registry of a service that was started."""

    async def ask() -> list[tuple[str, str, str]]:
        chosen = Settings(journal="memory:", port=0)
        keys, _ = KeyStore.of(now=lambda: 0.0)
        app = create_app(chosen, keys=keys)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            found = app[REGISTRY].get_all()
            return sorted((each.name, each.kind.name, each.doc) for each in found)
        finally:
            await runner.cleanup()

    return asyncio.run(ask())


def _channel(channel: Channel) -> str:
    schema = channel.json_schema
    retention = channel.retention
    kept = f"{retention.events:,} events, none older than {_days(retention.seconds)}"
    return "\n\n".join(
        [
            f"## {channel.name}",
            _plain(channel.description),
            f"Filters: {', '.join(f'`{name}`' for name in channel.filters)}. "
            f"The journal keeps the newest {kept}; the newest row of each key stays beyond both.",
            *_fields(channel.schema),
            "JSON Schema of a payload as it is published:",
            f"```json\n{_schema(schema)}\n```",
        ]
    )


def _schema(schema: dict[str, Any]) -> str:
    """With a line for each member and each property: readable, and not a page long."""
    lines = []
    for name, value in schema.items():
        reported = json.dumps(value)
        if name == "properties":
            below = (f"    {json.dumps(each)}: {json.dumps(of)}" for each, of in value.items())
            reported = "{\n" + ",\n".join(below) + "\n  }"
        lines.append(f"  {json.dumps(name)}: {reported}")
    return "{\n" + ",\n".join(lines) + "\n}"


def _fields(schema: Schema, name: str = "") -> Iterable[str]:
    """A table of the fields, then one for each object that is nested in them."""
    nested = []
    rows = []
    for each, field in schema.fields.items():
        rows.append((f"`{each}`", _kind(field), _needed(field)))
        inner = field.inner if isinstance(field, fields.List) else field
        if isinstance(inner, fields.Nested):
            nested.append((each, inner.schema))
    if name:
        yield f"`{name}`:"
    yield _table(("field", "type", "when publishing"), rows)
    for each, below in nested:
        yield from _fields(below, f"{name}.{each}" if name else each)


_KINDS: Sequence[tuple[type[fields.Field[Any]], str]] = (
    (PlainDecimal, "decimal, in a string"),
    (Instant, "instant (RFC 3339)"),
    (Duration, "duration (ISO 8601)"),
    (Identifier, "id: 1 to 128 characters, no control characters"),
    (Text, "text: at most 4,096 characters"),
    (Count, "whole number from 0"),
    (Ratio, "finite number"),
    (Flag, "true or false"),
    (fields.Nested, "object"),
    (fields.Dict, "object of text to text or null"),
)


def _kind(field: fields.Field[Any]) -> str:
    if isinstance(field, Choice):
        return ", ".join(f"`{each}`" for each in field.validators[0].choices)
    if isinstance(field, fields.List):
        return f"list of {_kind(field.inner)}s"
    return next(reported for kind, reported in _KINDS if isinstance(field, kind))


def _needed(field: fields.Field[Any]) -> str:
    if field.required:
        return "required"
    if field.allow_none:
        return "may be left out or null"
    default = field.load_default
    reported = default() if callable(default) else default
    return f"may be left out: `{json.dumps(reported)}`"


def _days(seconds: float) -> str:
    days = timedelta(seconds=seconds).days
    return f"{days} days"


def _default(value: object) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return f"`{value}`"


def _plain(text: str) -> str:
    """Text for a cell: what Markdown would take for itself is escaped, code stays code."""
    return text.replace("|", r"\|").replace("*", r"\*").replace("<", r"\<")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write()
    else:
        print("\n\n".join(TABLES[name]() for name in sys.argv[1:] or TABLES))
