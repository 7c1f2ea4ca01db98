"""At the start: configured channels are held against what the journal has of them.

What became false must not be sent. A SQLite journal is looked at before it is opened, while nobody
else can change it; one that several nodes share once this node has read its log, and what begins
anew there does so for all nodes at one place in the log.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping

from telecast.channels.catalogue import CHANNELS, Catalogue, nearest
from telecast.channels.channel import Channel
from telecast.channels.evolution import Stored, digest, mode_in
from telecast.errors import Conflict, JournalUnavailable, SettingsError
from telecast.journal.base import Batch, Journal, Note, read_book
from telecast.journal.sqlite.evolution import BOOK, StoredChannels, stored_channels
from telecast.model import Entry, Record, Retention

log = logging.getLogger(__name__)

PAGE = 1000
"""Entries that are read, and rows that are taken away, at a time."""
BATCH_BYTES = 512 * 1024
"""Of rows that are taken away in one batch: it fits every server's messages."""
TRIES = 5
"""How often a channel that others publish to is begun anew."""


def settle_changes(journal: str, catalogue: Catalogue, accepted: Collection[str]) -> None:
    """Refuse channels whose stored rows have become false, or begin them anew where `accepted`.

    Blocking, before the journal is opened. Only channels that have changed since the last start
    are looked at. Raises SettingsError with a sentence for each field, then nothing was changed;
    and what opening the journal raises. For a journal that nodes share `settle_shared` does it.
    """
    own = _own(catalogue)
    unknown = [name for name in accepted if name not in own]
    if unknown:
        raise SettingsError(
            [
                f"--accept-change {name}: the channels file has no channel {name!r}."
                f"{nearest(name, own)}"
                for name in unknown
            ]
        )
    scheme, _, path = journal.partition(":")
    if scheme != "sqlite" or not own:
        return
    with stored_channels(os.path.expanduser(path)) as stored:
        if stored is not None:
            _settle(stored, own, accepted)


def _own(catalogue: Catalogue) -> dict[str, Channel]:
    return {name: channel for name, channel in catalogue.items() if name not in CHANNELS}


def _settle(stored: StoredChannels, own: Mapping[str, Channel], accepted: Collection[str]) -> None:
    changes = Changes(own, stored.digests())
    for name in changes.changed:
        looked = changes.begin(name)
        for key, data in stored.rows(name):
            looked.row(key, data)
        if looked.asks_events:
            for key, data in stored.events(name):
                looked.event(key, data)
        changes.end(name, looked)
    for name in changes.anew(accepted):
        stored.begin_anew(name)
    if changes.changed:
        stored.remember(changes.digests())


class Changes:
    """The channels that are not what they were, and what is wrong with what is kept of them."""

    def __init__(self, own: Mapping[str, Channel], known: Mapping[str, bytes]) -> None:
        self._own = own
        self._known = known
        self._now = {name: digest(channel) for name, channel in own.items()}
        self._found: dict[str, list[str]] = {}
        self.changed = [name for name in own if known.get(name) != self._now[name]]

    def begin(self, name: str) -> Stored:
        """What is stored of it is shown to the answer."""
        return Stored(self._own[name], mode_in(self._known.get(name)))

    def end(self, name: str, stored: Stored) -> None:
        """All of it was shown."""
        if found := stored.misfits():
            self._found[name] = found

    def anew(self, accepted: Collection[str]) -> list[str]:
        """The channels that begin anew. Raises SettingsError where one is not accepted."""
        problems = []
        for name in self._found.keys() - set(accepted):
            problems += [f"{name}: {each}." for each in self._found[name]]
            problems.append(
                f"{name}: change the channels file back; or start once with --accept-change "
                f"{name}: the channel then begins anew, without its rows and its history."
            )
        if problems:
            raise SettingsError(problems)
        for name in self._found:
            log.warning("a changed channel begins anew", extra={"channel": name})
        return list(self._found)

    def digests(self) -> dict[str, bytes]:
        return {name: self._now[name] for name in self.changed}


# --- a journal that several nodes share


async def settle_shared(journal: Journal, catalogue: Catalogue, accepted: Collection[str]) -> None:
    """The same for a journal that is open and that several nodes share, before anybody reads it.

    Nodes that run meanwhile see each row of a channel that begins anew go, and later nothing of
    its history. From then on a change that another node brings is a line of this one's log.
    """
    own = _own(catalogue)
    changes = Changes(own, await read_book(journal, BOOK))
    for name in changes.changed:
        looked = changes.begin(name)
        for row in await _rows(journal, name, looked.event):
            looked.row(row.key, row.data)
        changes.end(name, looked)
    for name in changes.anew(accepted):
        await _begin_anew(journal, name)
    if changes.changed:
        notes = [Note(BOOK, name, kept) for name, kept in changes.digests().items()]
        await journal.append(Batch(notes=tuple(notes)))
    journal.books.follow(BOOK, _Watch(own).take)


class _Watch:
    """Says so when another node has a channel otherwise."""

    def __init__(self, own: Mapping[str, Channel]) -> None:
        self._now = {name: digest(channel) for name, channel in own.items()}

    def take(self, note: Note) -> None:
        if note.value != self._now.get(note.key, note.value):
            log.warning(
                "another node has changed a channel: restart this one with the same channels file",
                extra={"channel": note.key},
            )


async def _rows(
    journal: Journal, channel: str, on_event: Callable[[str, bytes], None] | None = None
) -> list[Entry]:
    """Its live rows, as many as the tape will hold. Events go to `on_event` one by one: of these
    no more than a page is held, however many are kept."""
    live: dict[str, Entry] = {}
    after, more = 0, True
    while more:
        page = await journal.read([channel], after, PAGE)
        after, more = page.upto, page.more
        for entry in page.entries:
            if on_event is not None:
                on_event(entry.key, entry.data)
            if entry.op == "upsert":
                live[entry.key] = entry
            else:
                live.pop(entry.key, None)
    return list(live.values())


async def _begin_anew(journal: Journal, channel: str) -> None:
    """Take its rows away, then all of its history, at one place in the log for all nodes.

    Raises JournalUnavailable where others publish to it meanwhile."""
    for _ in range(TRIES):
        rows = await _rows(journal, channel)
        try:
            for batch in _withdrawals(channel, rows):
                await journal.append(batch)
        except Conflict:
            continue
        while await journal.trim({channel: Retention(0, 0.0)}):
            pass
        if not (await journal.read([channel], 0, 1)).entries:
            return
    raise JournalUnavailable(
        f"{channel} can't begin anew while other nodes publish to it: stop its publishers, or the "
        "other nodes, and start again."
    )


def _withdrawals(channel: str, rows: list[Entry]) -> Iterator[Batch]:
    taken: list[Entry] = []
    size = 0
    for index, row in enumerate(rows):
        taken.append(row)
        size += len(row.data) + len(row.key)
        if len(taken) == PAGE or size >= BATCH_BYTES or index == len(rows) - 1:
            yield Batch(
                records=tuple(Record(channel, r.key, "delete", True, r.data) for r in taken),
                expect={(channel, r.key): r.seq for r in taken},
            )
            taken, size = [], 0
