"""The newest part of the journal in memory: one compacted log per channel.

Of each channel the tape holds every event after `whole_from`; before that only pinned events and
each key's newest. Newest live rows are never trimmed; `compact_from` rises when a tombstone or a
pinned event is. So a position P is answered whole for P >= whole_from, conflated for
P >= compact_from, and with a snapshot at any time.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter

import orjson

from telecast.channels.catalogue import Channel
from telecast.fanout.selection import Selection
from telecast.model import Entry, Event
from telecast.protocol.messages import event_of

SCAN = 2_000
"""Events looked at for one chunk, so that a narrow filter over a long log holds nobody up."""
SLACK = 1_024
"""Events that a log may hold for nothing before it moves or sweeps: each is rare so."""

_seq = attrgetter("seq")


class Standing(Enum):
    """What a channel can do for a position."""

    EXACT = "every event after it is here"
    COMPACT = "pinned events and newest rows after it are here"
    EXPIRED = "some of these are not here any more"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Events of a selection in (after, upto], in seq order; `left_out` were conflated away."""

    events: list[Event]
    upto: int
    left_out: int


class ChannelLog:
    """One channel's events, oldest first, and its live rows."""

    def __init__(self, *, most_events: int, most_bytes: int, whole_from: int, compact_from: int):
        self.whole_from = whole_from
        self.compact_from = compact_from
        self._through = 0
        """Where the whole part starts: what is in `_kept` is not after it. `whole_from` is lower
        as long as nothing of what was moved out has been let go."""
        self.rows: dict[str, Event] = {}
        """The newest upsert of each key that lives, in seq order."""
        self._tombstones: dict[str, Event] = {}
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._upserts: list[Event] = []
        """The values of `rows`, for bisection. Superseded ones stay until they are a third."""
        self._kept: list[Event] = []
        """Pinned and newest events from before the whole part. Superseded ones stay until the next
        sweep; `since` passes them."""
        self._lost_before = array("q")
        """For each event in `_kept` the seq of the last before it that was let go of, as of the
        last sweep; what was superseded since is in `_superseded`."""
        self._superseded = array("q")
        self._sweep_at = SLACK
        self._whole: list[Event] = []
        self._first = 0
        """Where the whole part starts in `_whole`: what lies before it has moved on already."""
        self._bytes = 0

    def __len__(self) -> int:
        """Events in memory."""
        return len(self._kept) + len(self._whole) - self._first

    def apply(self, event: Event) -> None:
        for before in (self._tombstones.pop(event.key, None), self.rows.pop(event.key, None)):
            if before is not None and before.seq <= self._through and not before.pinned:
                self.whole_from = max(self.whole_from, before.seq)
                self._superseded.append(before.seq)
        if event.op == "upsert":
            self.rows[event.key] = event
            self._upserts.append(event)
        else:
            self._tombstones[event.key] = event
        self._whole.append(event)
        self._bytes += len(event.json)
        while len(self._whole) - self._first > self._most_events or (
            self._bytes > self._most_bytes and len(self._whole) - self._first > 1
        ):
            self._let_go_of_oldest()
        if len(self._upserts) > 3 * len(self.rows) // 2 + SLACK:
            self._upserts = list(self.rows.values())

    def newest(self, event: Event) -> bool:
        """Whether no later event of the same key exists."""
        key = event.key
        return self.rows.get(key) is event or self._tombstones.get(key) is event

    def since(self, after: int) -> Iterator[Event]:
        """What is held after a position, in seq order."""
        if after < self._through:
            kept = self._kept
            for index in range(bisect_right(kept, after, key=_seq), len(kept)):
                event = kept[index]
                if event.pinned or self.newest(event):
                    yield event
        whole = self._whole
        for index in range(bisect_right(whole, after, lo=self._first, key=_seq), len(whole)):
            yield whole[index]

    def upserts(self, after: int, most: int) -> list[Event]:
        """The first `most` of those that are live rows, or were not long ago, after a position."""
        first = bisect_right(self._upserts, after, key=_seq)
        return self._upserts[first : first + most]

    def lost(self, upto: int) -> int:
        """The seq of the last event up to `upto` that is not held any more; 0 if all are.

        `upto` is the seq of an event of this channel, and no lower than the floor that the log
        began with.
        """
        if upto >= self.whole_from:
            return self.whole_from
        index = bisect_right(self._kept, upto, key=_seq) - 1
        event = self._kept[index] if index >= 0 else None
        if event is None or event.seq != upto or not (event.pinned or self.newest(event)):
            return upto
        since_sweep = (seq for seq in self._superseded if seq < upto)
        return max(self._lost_before[index], max(since_sweep, default=0))

    def standing(self, after: int) -> Standing:
        if after >= self.whole_from:
            return Standing.EXACT
        return Standing.COMPACT if after >= self.compact_from else Standing.EXPIRED

    def _let_go_of_oldest(self) -> None:
        event = self._whole[self._first]
        self._first += 1
        self._bytes -= len(event.json)
        self._through = event.seq
        if event.pinned or self.newest(event):
            self._kept.append(event)
            self._lost_before.append(self.whole_from)
            if len(self._kept) > self._sweep_at:
                self._sweep()
        else:
            # A tape fed from a trimmed journal starts with rows from before its floors.
            self.whole_from = max(self.whole_from, event.seq)
        if self._first > SLACK and self._first * 2 > len(self._whole):
            # Moving the rest down costs what was appended since the last time: constant per event.
            del self._whole[: self._first]
            self._first = 0

    def _sweep(self) -> None:
        """Drop what was superseded, then the oldest history above the bounds."""
        row, tombstone = self.rows.get, self._tombstones.get
        kept = [
            event
            for event in self._kept
            if event.pinned or row(event.key) is event or tombstone(event.key) is event
        ]
        history = [event for event in kept if row(event.key) is not event]
        size = sum(len(event.json) for event in history)
        if len(history) > self._most_events or size > self._most_bytes:
            going = 0
            # A quarter more than must go, so that the next sweep is not the next event's.
            while going < len(history) and (
                len(history) - going > self._most_events * 3 // 4
                or size > self._most_bytes * 3 // 4
            ):
                size -= len(history[going].json)
                going += 1
            dropped = {event.seq for event in history[:going]}
            for event in history[:going]:
                if self._tombstones.get(event.key) is event:
                    del self._tombstones[event.key]
            self.compact_from = max(self.compact_from, history[going - 1].seq)
            self.whole_from = max(self.whole_from, self.compact_from)
            kept = [event for event in kept if event.seq not in dropped]
        self._keep(kept)
        self._sweep_at = 2 * len(kept) + SLACK

    def _keep(self, kept: list[Event]) -> None:
        """Let go of all others that were kept."""
        lost_before, lost, staying = array("q"), 0, iter(kept)
        stays = next(staying, None)
        for event, before in zip(self._kept, self._lost_before, strict=True):
            if before > lost:
                lost = before
            if event is stays:
                lost_before.append(lost)
                stays = next(staying, None)
            else:
                lost = event.seq
        self._kept, self._lost_before = kept, lost_before
        del self._superseded[:]


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
        self._channels = channels
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
        """An entry as it is told."""
        channel = self._channels[entry.channel]
        return event_of(entry, channel.fields_of(orjson.loads(entry.data)))

    def apply(self, event: Event) -> None:
        """Take in the next event. Events come in seq order, each once."""
        self.logs[event.channel].apply(event)
        self.head = max(self.head, event.seq)

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
        that are not told from `after` but from a later position. `upto`, by default the head,
        is where it ends; the chunk's is the same when all was told.
        """
        end = self.head if upto is None else min(upto, self.head)
        logs = [self.logs[name] for name in selection.channels]
        streams = [log.since(after) for log in logs]
        merged = streams[0] if len(streams) == 1 else heapq.merge(*streams, key=_seq)
        events: list[Event] = []
        size = left_out = 0
        for scanned, event in enumerate(merged, 1):
            if event.seq > end:
                break
            if selection.wants(event) and not (
                starts and event.seq <= starts.get(event.channel, 0)
            ):
                if conflate and not event.pinned and not self.logs[event.channel].newest(event):
                    left_out += 1
                else:
                    events.append(event)
                    size += len(event.json)
            if size >= most_bytes or scanned >= scan:
                return Chunk(events, event.seq, left_out)
        return Chunk(events, end, left_out)

    def rows(
        self, selection: Selection, after: int, *, upto: int, most_bytes: int, scan: int = SCAN
    ) -> Chunk:
        """The rows of a selection that live and were last written in (after, upto], up to about
        `most_bytes` of JSON; the chunk's `upto` is the same when these are all.

        A row that changes before it is told is not among them: its change comes as an event.
        """
        rows = {name: self.logs[name].rows for name in selection.channels}
        share = max(1, scan // len(rows))
        parts = [self.logs[name].upserts(after, share) for name in rows]
        # Beyond the end of a part its channel may have rows that come before those of others.
        end = min([upto, *(part[-1].seq for part in parts if len(part) == share)])
        merged = parts[0] if len(parts) == 1 else heapq.merge(*parts, key=_seq)
        events: list[Event] = []
        size = 0
        for event in merged:
            if event.seq > end:
                break
            if selection.wants(event) and rows[event.channel].get(event.key) is event:
                events.append(event)
                size += len(event.json)
                if size >= most_bytes:
                    return Chunk(events, event.seq, 0)
        return Chunk(events, end, 0)
