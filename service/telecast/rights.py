"""Since when each key has had its rights: a resume from before that begins anew.

A position says what its holder has seen, and holds only for the rights under which it was earned.
A key that may see more than then lacks rows that no later event brings; one that may see less keeps
rows whose end it is never sent. So for each key and channel the seq is kept at which the filter
that the key forces last changed. A position up to that seq is not resumed from: the channel begins
with a snapshot. The kept seqs are notes of the journal, so a change that happens while the service
is down is found at the next start.

A change has begun (`BEGUN`) as soon as it is seen. From then on every position is too old, until
`settle` is called, once no connection is served under the rights from before. See protocol.md,
section 3, tests/integration/streams/test_rights.py, and the simulation, which changes rights at any
moment.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

import orjson

from telecast.channels.catalogue import Catalogue, Channel
from telecast.errors import JournalUnavailable
from telecast.journal.base import MAX_BATCH, Batch, Journal, Note, read_book
from telecast.model import MAX_SEQ, Position, Principal
from telecast.protocol.subscription import narrowed

log = logging.getLogger(__name__)

BOOK = "rights"
ALWAYS = -1
"""The seq of rights that no position is older than: those of a journal's first start."""
BEGUN = MAX_SEQ
"""The seq of rights that have changed a moment ago: every position is too old until they settle."""


@dataclass(frozen=True, slots=True)
class _Since:
    """The rights to one channel, as a digest, and the last seq at which they were others."""

    digest: str
    seq: int


_Held = dict[str, _Since]


class Rights:
    """Owns what is known of each key's rights. All but `open` and `settle` is synchronous."""

    def __init__(self, journal: Journal, catalogue: Catalogue) -> None:
        self._journal = journal
        self._catalogue = catalogue
        self._held: dict[str, _Held] = {}
        """Key id to its channels."""
        self._seen: dict[str, Principal] = {}
        self._unsaved: dict[str, None] = {}
        """Keys whose note is not what is held. An erased one is held no more."""

    async def open(self, principals: Iterable[Principal]) -> None:
        """Read what was kept, and compare it with the keys of now. Raises OwnFault."""
        for key_id, value in (await read_book(self._journal, BOOK)).items():
            self._held[key_id] = _read(value, self._journal.epoch)
        self.look(principals)
        await self.settle(self._journal.head)

    def look(self, principals: Iterable[Principal]) -> None:
        """Note which of all keys have changed since the last look."""
        seen = {principal.key_id: principal for principal in principals}
        for key_id, principal in seen.items():
            if self._seen.get(key_id) is not principal:
                self._look_at(principal)
        for key_id in [gone for gone in self._held if gone not in seen]:
            del self._held[key_id]
            self._unsaved[key_id] = None
        self._seen = seen

    def _look_at(self, principal: Principal) -> None:
        before = self._held.get(principal.key_id, {})
        first = ALWAYS if not self._journal.head else BEGUN
        now = {
            channel.name: _digest(channel, principal)
            for channel in self._catalogue.open_to(principal)
            if principal.may("read")
        }
        held = {
            name: since
            if (since := before.get(name)) is not None and since.digest == digest
            else _Since(digest, first)
            for name, digest in now.items()
        }
        if held != before:
            self._held[principal.key_id] = held
            self._unsaved[principal.key_id] = None

    async def settle(self, head: int) -> None:
        """Nobody is served under the rights from before any more: what has begun to change has
        changed at `head`. Kept durably; where that fails it is tried again at the next call, and
        a start before that finds the change anew."""
        for key_id in self._unsaved:
            self._held[key_id] = {
                name: _Since(since.digest, head) if since.seq == BEGUN else since
                for name, since in self._held.get(key_id, {}).items()
            }
        unsaved, self._unsaved = list(self._unsaved), {}
        try:
            for start in range(0, len(unsaved), MAX_BATCH):
                notes = tuple(self._notes(unsaved[start : start + MAX_BATCH]))
                await self._journal.append(Batch(notes=notes))
        except JournalUnavailable as fault:
            log.warning("changed rights are not kept yet", extra={"reason": fault.message})
            self._unsaved = dict.fromkeys(unsaved) | self._unsaved

    def _notes(self, key_ids: Iterable[str]) -> Iterator[Note]:
        for key_id in key_ids:
            if key_id in self._seen:
                yield Note(BOOK, key_id, _written(self._held[key_id], self._journal.epoch))
            else:
                del self._held[key_id]
                yield Note(BOOK, key_id, None)

    def changed_since(
        self, principal: Principal, names: Iterable[str], position: Position
    ) -> tuple[str, ...]:
        """Channels of which the holder of this position may not be said to hold the rows.

        `principal` has the rights that hold for the stream. Where they are not those of the last
        look, they have just changed.
        """
        held = self._held.get(principal.key_id, {})
        changed = []
        for name in names:
            since = held.get(name)
            digest = _digest(self._catalogue[name], principal)
            if since is None or since.digest != digest or position.seq <= since.seq:
                changed.append(name)
        return tuple(changed)


def _digest(channel: Channel, principal: Principal) -> str:
    """The filter that a key forces on a channel; empty where there is none."""
    forced = narrowed(channel, {}, principal)
    if not forced:
        return ""
    text = orjson.dumps(sorted((name, sorted(values)) for name, values in forced.items()))
    return sha256(text).hexdigest()[:16]


def _written(held: Mapping[str, _Since], epoch: str) -> bytes:
    channels = {name: [since.digest, since.seq] for name, since in held.items()}
    return orjson.dumps({"epoch": epoch, "channels": channels})


def _read(value: bytes, epoch: str) -> _Held:
    note = orjson.loads(value)
    same = note["epoch"] == epoch
    # Of another epoch no position is taken anyway.
    return {
        name: _Since(digest, seq if same else ALWAYS)
        for name, (digest, seq) in note["channels"].items()
    }
