"""Points in time on the command line: `10m`, `09:55`, or an instant with its zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from telecast.errors import PeerFault, PositionMalformed
from telecast.model import Position
from telecast.protocol.instants import parse_instant

_SPAN = re.compile(r"-?([0-9]{1,9}[smhd])", re.ASCII)
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?", re.ASCII)


def read_moment(text: str, now: datetime) -> str:
    """What the service takes for a time: `-10m`, or an instant in UTC. Raises ValueError.

    `09:55` is the last time that the clock showed that, in the zone of `now`.
    """
    if match := _SPAN.fullmatch(text):
        return f"-{match[1]}"
    if match := _CLOCK.fullmatch(text):
        hour, minute, second = (int(part or 0) for part in match.groups())
        moment = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
        if moment > now:
            moment -= timedelta(days=1)
        return instant(moment)
    try:
        if parse_instant(text, "time") is None:
            raise ValueError
    except PeerFault:
        raise ValueError from None
    return instant(datetime.fromisoformat(text))


def instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


class Moment(click.ParamType[str]):
    """A time: `10m` ago, `09:55` by this machine's clock and zone, or an instant."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return read_moment(str(value), datetime.now().astimezone())
        except ValueError:
            self.fail(
                f"{value!r} is no time: write 10m (ago), 09:55, or 2026-11-22T18:17:20Z.",
                param,
                ctx,
            )


class Since(click.ParamType[str]):
    """A position, a time, or `earliest`."""

    name = "position"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if text == "earliest":
            return text
        try:
            return str(Position.parse(text))
        except PositionMalformed as fault:
            try:
                return read_moment(text, datetime.now().astimezone())
            except ValueError:
                message = f"{fault.message} Or write earliest, 10m (ago), 09:55, or an instant."
                self.fail(message, param, ctx)
