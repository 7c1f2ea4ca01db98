"""What a journal's file holds and costs, for `telecast journal info`. Blocking, read-only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from telecast.errors import JournalUnavailable
from telecast.journal.sqlite.faults import corrupt, explained
from telecast.journal.sqlite.schema import connect, is_ours
from telecast.model import Floor, Retention

START_EVENTS_PER_SECOND = 65_000
"""How fast a start reads what is kept: 400,000 events in 6 s on two shared cores."""

_CHANNELS = """
SELECT channel, count(*), (SELECT count(*) FROM rows WHERE rows.channel = events.channel),
       sum(length(data)), min(timestamp), max(timestamp),
       (SELECT whole_from FROM floors WHERE floors.channel = events.channel),
       (SELECT compact_from FROM floors WHERE floors.channel = events.channel)
  FROM events GROUP BY channel ORDER BY channel
"""
_WHOLE = """
SELECT (SELECT value FROM meta WHERE name = 'epoch'),
       (SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'),
       (SELECT user_version FROM pragma_user_version),
       (SELECT page_size FROM pragma_page_size) * (SELECT page_count FROM pragma_page_count),
       (SELECT page_size FROM pragma_page_size)
           * (SELECT freelist_count FROM pragma_freelist_count),
       (SELECT count(*) FROM idempotency)
"""


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """One channel: `oldest` and `newest` in ms since 1970, `payload_bytes` of its JSON alone."""

    name: str
    events: int
    rows: int
    payload_bytes: int
    oldest: int
    newest: int
    floor: Floor


@dataclass(frozen=True, slots=True)
class Cost:
    """What a channel takes at the most by its retention, at the size of its events today.

    Newest rows stay beyond the retention: they come on top.
    """

    events: int
    disk_bytes: int
    start_seconds: float


@dataclass(frozen=True, slots=True)
class Info:
    epoch: str
    head: int
    format: int
    file_bytes: int
    free_bytes: int
    """Within the file, left by what was trimmed: used again, or given back by compacting."""
    log_bytes: int
    idempotency_keys: int
    notes: Mapping[str, int]
    channels: tuple[ChannelInfo, ...]

    @property
    def events(self) -> int:
        return sum(channel.events for channel in self.channels)

    @property
    def overhead(self) -> float:
        """Bytes on the disk per byte of payload."""
        payload = sum(channel.payload_bytes for channel in self.channels)
        return (self.file_bytes - self.free_bytes) / payload if payload else 1.0

    def cost(self, channel: ChannelInfo, retention: Retention) -> Cost:
        events = retention.events
        return Cost(
            events,
            int(events * channel.payload_bytes / max(1, channel.events) * self.overhead),
            events / START_EVENTS_PER_SECOND,
        )


def info(path: str) -> Info:
    """Changes nothing; a service may run on it. Raises JournalUnavailable, JournalCorrupt."""
    if not os.path.isfile(path):
        raise JournalUnavailable(f"There is no journal {path}.")
    is_ours(path)
    with explained(path), closing(connect(path, "ro")) as database:
        database.execute("BEGIN")
        ((epoch, head, version, size, free, keys),) = database.execute(_WHOLE)
        ((noted,),) = database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'notes'")
        notes = database.execute("SELECT book, count(*) FROM notes GROUP BY book") if noted else ()
        found = Info(
            epoch=epoch,
            head=head,
            format=version,
            file_bytes=size,
            free_bytes=free,
            log_bytes=_size(f"{path}-wal"),
            idempotency_keys=keys,
            notes=dict(notes),
            channels=tuple(_channel(*row) for row in database.execute(_CHANNELS)),
        )
    if epoch is None:
        raise corrupt(path, "it has no epoch")
    return found


def _channel(
    name: str,
    events: int,
    rows: int,
    payload: int,
    oldest: int,
    newest: int,
    whole_from: int | None,
    compact_from: int | None,
) -> ChannelInfo:
    floor = Floor(whole_from or 0, compact_from or 0)
    return ChannelInfo(name, events, rows, payload, oldest, newest, floor)


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
