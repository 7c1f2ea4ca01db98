"""A recording as timed payloads: NDJSON, each line a payload for a channel, or a tick."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from marshmallow import ValidationError

from telecast.channels.catalogue import Catalogue
from telecast.errors import Code, PeerFault, TelecastError
from telecast.model import Row

TICKS = "market-data"
SOURCE = "replay"
MOST_PROBLEMS = 20
"""Problems reported of one file: whoever fixes these sees the pattern."""
_SCIENTIFIC = re.compile(r"-?[0-9]{1,30}(?:\.[0-9]{1,30})?[eE][+-]?[0-9]{1,2}", re.ASCII)
"""How exchanges write tiny prices; a tick is published in plain notation, with all its digits."""
_ANY_TIME = "2026-01-01T00:00:00Z"


class RecordingFault(TelecastError):
    """The file is no recording. `problems` are sentences, each with its line's number."""

    def __init__(self, problems: list[str]) -> None:
        more = len(problems) - MOST_PROBLEMS
        if more > 0:
            problems = [*problems[:MOST_PROBLEMS], f"and {more} more"]
        super().__init__("VALIDATION_FAILED", "\n".join(problems), {"problems": problems})
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Timed:
    """A payload and when it is due: `t` seconds after the recording's beginning."""

    t: float
    channel: str
    payload: Row
    stamped: bool
    """A tick: its `updatedAt` is the moment at which it is published, not recorded."""

    def published_at(self, now: str) -> Row:
        """The payload as it is to be published; `now` is RFC 3339 in UTC."""
        return {**self.payload, "updatedAt": now} if self.stamped else self.payload


def read_recording(path: Path, catalogue: Catalogue) -> list[Timed]:
    """All of a file, checked, in its order. Raises RecordingFault, or OSError.

    A line is `{"t": seconds, "channel": name, "data": payload}` or a tick for market-data,
    `{"t": seconds, "exchange": ..., "symbol": ..., "price": ...}` with bid, ask and size if known.
    Empty lines are passed over.
    """
    with path.open("rb") as file:
        return parse_recording(file, catalogue)


def parse_recording(lines: Iterable[bytes], catalogue: Catalogue) -> list[Timed]:
    """What `read_recording` does, of lines. Every problem is reported, not only the first."""
    found: list[Timed] = []
    problems: list[str] = []
    latest = 0.0
    for number, line in enumerate(lines, 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue
        try:
            timed = _timed(line, latest)
            _check(timed, catalogue)
        except PeerFault as fault:
            problems.append(f"Line {number}: {fault.message}")
        else:
            latest = timed.t
            found.append(timed)
    if problems:
        raise RecordingFault(problems)
    if not found:
        raise RecordingFault(["The file has no lines."])
    return found


def _timed(line: bytes, latest: float) -> Timed:
    """Raises PeerFault."""
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError as fault:
        raise PeerFault(Code.BAD_JSON, f"not JSON: {fault}") from None
    if not isinstance(body, dict):
        raise PeerFault(Code.BAD_REQUEST, "not a JSON object.")
    t = _time(body, latest)
    if "channel" in body or "data" in body:
        channel, data = body.get("channel"), body.get("data")
        if not isinstance(channel, str) or not isinstance(data, dict):
            raise PeerFault(
                Code.BAD_REQUEST,
                "it needs a `channel`, the name, and `data`, the payload's object.",
            )
        return Timed(t, channel, data, stamped=False)
    if "symbol" in body:
        return Timed(t, TICKS, _tick(body), stamped=True)
    raise PeerFault(
        Code.BAD_REQUEST, "neither `channel` and `data`, nor the `symbol` and `price` of a tick."
    )


def _time(body: dict[str, Any], latest: float) -> float:
    t: Any = body.get("t")
    if type(t) not in (int, float) or not math.isfinite(t) or t < 0:
        raise PeerFault(Code.BAD_REQUEST, "it needs `t`: seconds from the beginning, 0 or more.")
    if t < latest:
        raise PeerFault(Code.BAD_REQUEST, f"`t` falls from {latest:.15g} to {t:.15g}.")
    return float(t)


def _tick(body: dict[str, Any]) -> Row:
    exchange, symbol = body.get("exchange"), body["symbol"]
    row = {name: value for name, value in body.items() if name != "t"}
    row["id"] = symbol if exchange is None else f"{exchange}:{symbol}"
    row["source"] = SOURCE
    for name in ("price", "bid", "ask", "size"):
        value = row.get(name)
        if isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
            row[name] = f"{Decimal(value):f}"
    return row


def _check(timed: Timed, catalogue: Catalogue) -> None:
    """As the service will. Raises PeerFault."""
    channel = catalogue.named(timed.channel)
    try:
        channel.load(timed.published_at(_ANY_TIME))
    except ValidationError as fault:
        row = "; ".join(
            f"{field}: {message}" if field else message
            for field, message in channel.problems(fault)
        )
        raise PeerFault(Code.VALIDATION_FAILED, row) from None
