"""The newest part of the journal in memory: one compacted log per channel.

Of each channel the tape holds every event after `whole_from`; before that only pinned events and
each key's newest. Newest live rows are never trimmed; `compact_from` rises when a tombstone or a
pinned event is. So a position P is answered whole for P >= whole_from, conflated for
P >= compact_from, and with a snapshot at any time.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

import orjson

from telecast.channels.catalogue import Channel
from telecast.model import Entry, Event
from telecast.protocol.messages import event_of
from telecast.tape.channel_log import ChannelLog, Standing
from telecast.tape.compacted import seq_of
from telecast.tape.selection import Selection

SCAN = 2_000
"""Events looked at for one chunk, so that a narrow filter over a long log holds nobody up."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Events of a selection in (after, upto], in seq order; `conflated` more were left out."""

    events: list[Event]
    upto: int
    conflated: int


class Tape:
    """The logs of all channels, and the one head that they share."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        *,
        head: int = 0,
        floors: Mapping[str, tuple[int, int]] | None = None,
        most_events: int = 50_000,
        most_bytes: int = 32 * 2**20,
    ) -> None:
        """`floors` gives (whole_from, compact_from) of the journal that the tape is fed from.

        The bounds are for each channel.
        """
        self.head = head
        self._channels = dict(channels)
        self.logs = {
            name: ChannelLog(
                most_events=most_events,
                most_bytes=most_bytes,
                whole_from=(floors or {}).get(name, (0, 0))[0],
                compact_from=(floors or {}).get(name, (0, 0))[1],
            )
            for name in channels
        }

    def event(self, entry: Entry) -> Event:
        """An entry as it is sent."""
        channel = self._channels[entry.channel]
        return event_of(entry, channel.fields_of(orjson.loads(entry.data)), channel.word(entry.op))

    def apply(self, event: Event) -> None:
        """Take in the next event. Events come in seq order, each once."""
        self.logs[event.channel].apply(event)
        if event.seq > self.head:
            self.head = event.seq

    def advance(self, head: int) -> None:
        """All up to here is known, though the last of it may be trimmed already."""
        self.head = max(self.head, head)

    def row(self, channel: str, key: str) -> Event | None:
        """The newest upsert of a key that lives."""
        return self.logs[channel].rows.get(key)

    def standing(self, channel: str, after: int) -> Standing:
        return self.logs[channel].standing(after)

    def read(
        self,
        selection: Selection,
        after: int,
        *,
        conflate: bool,
        most_bytes: int,
        starts: Mapping[str, int] | None = None,
        upto: int | None = None,
        scan: int = SCAN,
    ) -> Chunk:
        """What a selection gets after a position, up to about `most_bytes` of JSON.

        `conflate` leaves out unpinned events whose key comes again. `starts` gives channels
        that are not sent from `after` but from a later position. `upto`, by default the head,
        is where it ends; the chunk's is the same when all was sent.
        """
        end = self.head if upto is None else min(upto, self.head)
        logs = [self.logs[name] for name in selection.channels]
        streams = [log.since(after) for log in logs]
        merged = streams[0] if len(streams) == 1 else heapq.merge(*streams, key=seq_of)
        events: list[Event] = []
        size = conflated = 0
        for scanned, event in enumerate(merged, 1):
            if event.seq > end:
                break
            if selection.wants(event) and not (
                starts and event.seq <= starts.get(event.channel, 0)
            ):
                if conflate and not event.pinned and not self.logs[event.channel].newest(event):
                    conflated += 1
                else:
                    events.append(event)
                    size += len(event.json)
            if size >= most_bytes or scanned >= scan:
                return Chunk(events, event.seq, conflated)
        return Chunk(events, end, conflated)

    def rows(
        self, selection: Selection, after: int, *, upto: int, most_bytes: int, scan: int = SCAN
    ) -> Chunk:
        """The rows of a selection that live and were last written in (after, upto], up to about
        `most_bytes` of JSON; the chunk's `upto` is the same when these are all.

        A row that changes before it is sent is not among them: its change comes as an event.
        """
        names = selection.channels
        share = max(1, scan // len(names))
        parts = [list(islice(self.logs[name].upserts(after), share)) for name in names]
        # Beyond the end of a part its channel may have rows that come before those of others.
        end = min([upto, *(part[-1].seq for part in parts if len(part) == share)])
        merged = parts[0] if len(parts) == 1 else heapq.merge(*parts, key=seq_of)
        events: list[Event] = []
        size = 0
        for event in merged:
            if event.seq > end:
                break
            if selection.wants(event):
                events.append(event)
                size += len(event.json)
                if size >= most_bytes:
                    return Chunk(events, event.seq, 0)
        return Chunk(events, end, 0)
