"""Whether what was stored of a channel is still true of it. Pure."""

from __future__ import annotations

import hashlib

import orjson
from marshmallow import ValidationError

from telecast.channels.channel import Channel


def digest(channel: Channel) -> bytes:
    """Changes when stored rows may have become false: fields, key, mode. `mode_in` reads the mode
    from it."""
    shape = [channel.mode, channel.key_fields, channel.json_schema]
    return f"{hashlib.sha256(orjson.dumps(shape)).hexdigest()} {channel.mode}".encode()


def mode_in(kept: bytes | None) -> str | None:
    """The mode of the channel whose digest it was; None where it is not known."""
    return None if kept is None else kept.decode("ascii", "replace").partition(" ")[2] or None


class Stored:
    """What is kept of one channel, looked at piece by piece: whether it has become false.

    Holds a count and an example of each fault and no row, however much is stored. A row that lacks
    a nullable field is true: null is what it would have.
    """

    def __init__(self, channel: Channel, was: str | None) -> None:
        """`was`: the mode that it was stored in, None where it is not known."""
        self._channel = channel
        self._otherwise = was not in (None, channel.mode)
        self._rows = 0
        self._events = 0
        self._counts: dict[tuple[str, str], int] = {}
        self._first: dict[tuple[str, str], str] = {}

    @property
    def asks_events(self) -> bool:
        """Whether events count at all: what a keyed channel's past has no more is not sent."""
        return self._otherwise or self._channel.mode == "log"

    def row(self, key: str, data: bytes) -> None:
        """A row as it is now."""
        self._rows += 1
        if self._channel.mode == "keyed" and not self._otherwise:
            self._judge(key, data)

    def event(self, key: str, data: bytes) -> None:
        """One of the events that are kept."""
        self._events += 1
        if self._channel.mode == "log" and not self._otherwise:
            self._judge(key, data)

    def misfits(self) -> list[str]:
        """A sentence for each field that what was stored would be false of: how many, and the
        first; or one about the mode."""
        now = "a log" if self._channel.mode == "log" else "keyed"
        if self._channel.mode == "log" and self._rows:
            return [f"mode: it is {now} now, but has {self._rows:,} rows"]
        if self._otherwise and self._events:
            # An event of a log is no row, and the past of a row no event of a log.
            return [f"mode: it is {now} now, but has {self._events:,} events of before"]
        return [
            f"field {name}: {message} ({count:,} stored, such as {self._first[name, message]!r})"
            for (name, message), count in self._counts.items()
        ]

    def _judge(self, key: str, data: bytes) -> None:
        channel = self._channel
        try:
            loaded = channel.load(orjson.loads(data))
        except ValidationError as fault:
            problems = channel.problems(fault)
        else:
            same = channel.key(loaded) == key
            problems = [] if same else [(", ".join(channel.key_fields), "The key is another.")]
        for problem in problems:
            self._counts[problem] = self._counts.get(problem, 0) + 1
            self._first.setdefault(problem, key)
