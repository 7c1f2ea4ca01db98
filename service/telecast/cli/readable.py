"""Lines for people: one per event or row, safe to show on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from telecast.cli.output import plain


def compact(data: Any) -> str:
    return plain(orjson.dumps(data).decode())


def event_line(body: Mapping[str, Any]) -> str:
    """Time of the commit (UTC), channel, seq, op, key, payload."""
    moment = clock_of(body.get("timestamp"))
    words = (body.get("channel"), body.get("seq"), body.get("op"), body.get("key"))
    head = " ".join(plain(str(word)) for word in words)
    return f"{moment} {head} {compact(body.get('data'))}"


def row_line(row: Mapping[str, Any]) -> str:
    """Seq, key, payload."""
    key = plain(str(row.get("key")))
    return f"{row.get('seq')} {key} {compact(row.get('data'))}"


def clock_of(timestamp: Any) -> str:
    """ms since 1970 as 20:51:07.123, UTC."""
    if not isinstance(timestamp, int):
        return "--:--:--.---"
    moment = datetime.fromtimestamp(timestamp / 1000, UTC)
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"


def table(cells: list[list[str]]) -> list[str]:
    """Columns as wide as their widest cell; the last one ends where it ends."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        lines.append("  ".join(padded).rstrip())
    return lines


def span_of(seconds: float) -> str:
    """A length of time in at most five characters: 0.4s, 12s, 5m, 3h, 2d."""
    if seconds < 1:
        return f"{seconds:.1f}s"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def size_of(count: int) -> str:
    """Bytes in at most six characters."""
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= size:
            return f"{count / size:.0f}{unit}"
    return f"{count}B"
