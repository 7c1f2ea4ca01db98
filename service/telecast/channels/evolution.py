"""Whether what was stored of a channel is still true of it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

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


def misfits(channel: Channel, stored: Iterable[tuple[str, bytes]]) -> list[str]:
    """A sentence for each field that stored rows would be false of: how many, and the first.

    A row that lacks a nullable field is true: null is what it would have.
    """
    counts: dict[tuple[str, str], int] = {}
    first: dict[tuple[str, str], str] = {}
    for key, data in stored:
        row = orjson.loads(data)
        try:
            loaded = channel.load(row)
        except ValidationError as fault:
            problems = channel.problems(fault)
        else:
            same = channel.key(loaded) == key
            problems = [] if same else [(", ".join(channel.key_fields), "The key is another.")]
        for problem in problems:
            counts[problem] = counts.get(problem, 0) + 1
            first.setdefault(problem, key)
    return [
        f"field {name}: {message} ({count:,} stored, such as {first[name, message]!r})"
        for (name, message), count in counts.items()
    ]
