"""A recording as timed payloads: NDJSON, each line a payload for a channel, a tick, or an event.

`parse_recording` reads one, `Recorder` makes one from the events of a stream. What `telecast tail
--json` prints is a recording too.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from marshmallow import ValidationError

from telecast.channels.catalogue import Catalogue, Channel
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
    stamped: bool = False
    """A tick: its `updatedAt` is the moment at which it is published, not recorded."""
    withdraws: str | None = None
    """The key of a row that ended without a final state; then there is no payload."""
    key: str | None = None
    """The row's key, where it came as an event."""

    def published_at(self, now: str) -> Row:
        """The payload as it is to be published; `now` is RFC 3339 in UTC."""
        return {**self.payload, "updatedAt": now} if self.stamped else self.payload


def read_recording(path: Path, catalogue: Catalogue) -> list[Timed]:
    """All of a file, checked, in its order. Raises RecordingFault, or OSError.

    A line is `{"t": seconds, "channel": name, "data": payload}`, or the same with `withdraw`, a
    row's key, in place of `data`; or a tick for market-data, `{"t": seconds, "exchange": ...,
    "symbol": ..., "price": ...}` with bid, ask and size if known; or an event as a stream sends it.
    Empty lines are passed over.
    """
    with path.open("rb") as file:
        return parse_recording(file, catalogue)


def parse_recording(lines: Iterable[bytes], catalogue: Catalogue) -> list[Timed]:
    """What `read_recording` does, of lines. Every problem is reported, not only the first."""
    found: list[Timed] = []
    problems: list[str] = []
    latest = 0.0
    recorder = Recorder(catalogue)
    for number, line in enumerate(lines, 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue
        try:
            timed = _timed(line, latest, recorder)
            _check(timed, catalogue)
        except PeerFault as fault:
            problems.append(f"Line {number}: {fault.message}")
        else:
            latest = timed.t
            if found and replaces(found[-1], timed):
                found.pop()
            found.append(timed)
    if problems:
        raise RecordingFault(problems)
    if not found:
        raise RecordingFault(["The file has no lines."])
    return found


def replaces(last: Timed, timed: Timed) -> bool:
    """Whether a row moved from one filter to another: its end and its new state are one change."""
    return (
        last.withdraws is not None
        and timed.withdraws is None
        and (last.channel, last.t, last.withdraws) == (timed.channel, timed.t, timed.key)
    )


class Recorder:
    """Turns the events of a stream into timed payloads that can be published again.

    Channels that the catalogue lacks are taken as they are.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._began: int | None = None
        self._latest = 0.0

    def take(self, event: Mapping[str, Any], *, is_row: bool = False) -> Timed:
        """`event` is its JSON. A row of a snapshot is due at once. Raises PeerFault."""
        name = str(event.get("channel"))
        data, key, moment = event.get("data"), event.get("key"), event.get("timestamp")
        if not isinstance(data, dict) or not isinstance(key, str) or type(moment) is not int:
            raise PeerFault(Code.BAD_REQUEST, "an event without its key, data or timestamp.")
        if not is_row:
            began = self._began = moment if self._began is None else self._began
            self._latest = max(self._latest, (moment - began) / 1000)
        channel, row = self._catalogue.get(name), data
        if channel is not None:  # what the service has added is not for publishing
            row = {each: value for each, value in data.items() if each in channel.schema.fields}
        if row.get("status") == "ACKNOWLEDGED":  # the service's own step: a publisher says ACTIVE
            row["status"] = "ACTIVE"
        if event.get("op") == "delete" and not (channel is not None and _ends(channel, row)):
            return Timed(self._latest, name, {}, withdraws=key)
        return Timed(self._latest, name, row, key=key)


def line_of(timed: Timed) -> bytes:
    """A line of a recording, without its end."""
    body: dict[str, Any] = {"t": round(timed.t, 3), "channel": timed.channel}
    if timed.withdraws is not None:
        return orjson.dumps({**body, "withdraw": timed.withdraws})
    return orjson.dumps({**body, "data": timed.payload})


def _ends(channel: Channel, row: Row) -> bool:
    try:
        return channel.gone(channel.load(row))
    except ValidationError:
        return False


def _timed(line: bytes, latest: float, recorder: Recorder) -> Timed:
    """Raises PeerFault."""
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError as fault:
        raise PeerFault(Code.BAD_JSON, f"not JSON: {fault}") from None
    if not isinstance(body, dict):
        raise PeerFault(Code.BAD_REQUEST, "not a JSON object.")
    if body.get("type") == "event":
        return recorder.take(body, is_row=body.get("snapshot") is True)
    t = _time(body, latest)
    if "withdraw" in body:
        channel, key = body.get("channel"), body["withdraw"]
        if not isinstance(channel, str) or not isinstance(key, str):
            raise PeerFault(Code.BAD_REQUEST, "`withdraw` needs a row's key, and a `channel`.")
        return Timed(t, channel, {}, withdraws=key)
    if "channel" in body or "data" in body:
        channel, data = body.get("channel"), body.get("data")
        if not isinstance(channel, str) or not isinstance(data, dict):
            raise PeerFault(
                Code.BAD_REQUEST,
                "it needs a `channel`, the name, and `data`, the payload's object.",
            )
        return Timed(t, channel, data)
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
    if timed.withdraws is not None:
        return
    try:
        channel.load(timed.published_at(_ANY_TIME))
    except ValidationError as fault:
        row = "; ".join(
            f"{field}: {message}" if field else message
            for field, message in channel.problems(fault)
        )
        raise PeerFault(Code.VALIDATION_FAILED, row) from None
