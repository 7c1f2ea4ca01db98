"""Since when each key has had its rights: a resume from before that begins anew.

A position says what its holder has seen, and holds only for the rights under which it was earned.
A key that may see more than then lacks rows that no later event brings; one that may see less keeps
rows whose end it is never sent. So for each key and channel the seq is kept at which the filter
that the key forces last changed. A position up to that seq is not resumed from: the channel begins
with a snapshot. The kept seqs are notes of the journal, so a change that happens while the service
is down is found at the next start.

Several nodes that share a journal read a keys file each, and those change one after the other. What
is kept is folded from the notes of all. A node that still serves a key under other rights than
those that another node has noted says so at once (`BEGUN`), and the key's positions are too old
everywhere until it has the new ones too. A key that has gone from one node's file is refused by all
(`revoked`), also by one that starts later with an old file.

A revocation that is in the log is undone only by a note of somebody who had seen it. Each has a
name, kept in a book where no note about rights can replace it, and each note about rights says
which revocation of its key its writer had seen last. Another one counts for nothing: it was under
way when the revocation committed. What would break it: to take the last note for the truth.

A change has begun (`BEGUN`) as soon as it is seen. From then on every position is too old, until
`settle` is called, once no connection is served under the rights from before. See protocol.md,
section 3, tests/integration/streams/test_rights.py, and the simulation, which changes rights at any
moment.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from telecast.channels.catalogue import Catalogue, Channel
from telecast.errors import JournalUnavailable
from telecast.journal.base import MAX_BATCH, Batch, Journal, Note
from telecast.journal.books import follow_book
from telecast.model import MAX_SEQ, Position, Principal
from telecast.protocol.subscription import narrowed

log = logging.getLogger(__name__)

BOOK = "rights"
REVOCATIONS = "revocations"
"""Key id to the name of its last revocation; no two have the same."""
ALWAYS = -1
"""The seq of rights that no position is older than: those of a journal's first start."""
REVOKED = b"revoked"
"""What stands in the place of a key's rights once it has gone from a node's file. A node that is
not upgraded yet knows by this alone."""
KEYS_A_BATCH = MAX_BATCH // 2
"""A revocation is two notes."""
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
        self._mine: dict[str, dict[str, str]] = {}
        """Key id to the digests of the rights under which this node serves it."""
        self._changing: dict[str, None] = {}
        """Keys whose rights have changed at this node, and have not settled yet."""
        self._seen: dict[str, Principal] = {}
        self._looked = False
        self.revoked: dict[str, None] = {}
        """Keys that have gone from the file of some node."""
        self._revocations: dict[str, str] = {}
        """Key id to its last revocation that is in the log, also where the key was given back."""
        self._unsaved: dict[str, str] = {}
        """Keys whose note is not what is held. One that is gone is held no more: with it stands the
        name of its revocation, the same at each try."""

    async def open(self, principals: Iterable[Principal]) -> None:
        """Read what was kept, and compare it with the keys of now. Raises OwnFault."""
        await follow_book(self._journal, REVOCATIONS, self._take_revocation)
        await follow_book(self._journal, BOOK, self._take)
        self.look(principals)
        await self.settle(self._journal.head)

    def look(self, principals: Iterable[Principal]) -> None:
        """Note which of all keys have changed since the last look."""
        seen = {principal.key_id: principal for principal in principals}
        for key_id, principal in seen.items():
            if self._seen.get(key_id) is not principal:
                self._look_at(principal)
        # At its start a node can't know whether another one has just been given a new key.
        known = self._seen if self._journal.shared else self._held
        for key_id in [gone for gone in known if gone not in seen]:
            self._held.pop(key_id, None)
            self._mine.pop(key_id, None)
            if key_id not in self.revoked:
                self._unsaved[key_id] = secrets.token_hex(8)
        self._seen, self._looked = seen, True

    def _look_at(self, principal: Principal) -> None:
        key_id = principal.key_id
        now = {
            channel.name: _digest(channel, principal)
            for channel in self._catalogue.open_to(principal)
            if principal.may("read")
        }
        given_back = key_id in self.revoked
        if given_back:
            # Put back it is only where it was away: a file that is read anew still has it.
            if not self._looked or key_id in self._seen:
                _warn(key_id)
                self._mine[key_id] = now
                return
            del self.revoked[key_id]
        before, mine = self._held.get(key_id, {}), self._mine.get(key_id)
        first = ALWAYS if not self._journal.head else BEGUN
        held = {
            name: since
            if (since := before.get(name)) is not None
            and since.digest == digest
            and (mine is None or mine.get(name) == digest)
            else _Since(digest, first)
            for name, digest in now.items()
        }
        self._mine[key_id] = now
        if given_back or held != before or any(since.seq == BEGUN for since in held.values()):
            self._held[key_id] = held
            self._unsaved[key_id], self._changing[key_id] = "", None

    def _take(self, note: Note) -> None:
        """A note has committed, here or at another node."""
        key_id = note.key
        if note.value is None:
            if key_id not in self._seen:
                self._held.pop(key_id, None)
            return
        if note.value == REVOKED:
            self._revoke(key_id)
            return
        written = orjson.loads(note.value)
        if written.get("revocation", "") != self._revocations.get(key_id, ""):
            log.info("a late note about a revoked key counts for nothing", extra={"key_id": key_id})
            return
        self.revoked.pop(key_id, None)
        theirs = _read(written, self._journal.epoch)
        mine = self._mine.get(key_id)
        if mine is None:
            self._held[key_id] = theirs
            return
        ours = self._held.get(key_id, {})
        folded = {name: _fold(ours.get(name), since) for name, since in theirs.items()}
        for name, since in folded.items():
            if mine.get(name) != since.digest:
                folded[name] = _Since(since.digest, BEGUN)  # it is served here under other rights
        for name, digest in mine.items():
            if key_id in self._changing:
                folded[name] = ours.get(name, _Since(digest, BEGUN))  # `settle` comes after it
            else:
                folded.setdefault(name, _Since(digest, BEGUN))
        self._held[key_id] = folded
        if any(theirs.get(name) != since for name, since in folded.items()):
            self._unsaved[key_id] = ""

    def _take_revocation(self, note: Note) -> None:
        assert note.value is not None, "none is ever erased"
        self._revocations[note.key] = note.value.decode()
        self._revoke(note.key)

    def _revoke(self, key_id: str) -> None:
        if key_id in self._seen and key_id not in self.revoked:
            _warn(key_id)
        self.revoked[key_id] = None
        for known in (self._held, self._unsaved, self._changing):
            known.pop(key_id, None)  # a note about it now would give it back

    async def settle(self, head: int) -> None:
        """Nobody is served under the rights from before any more: what has begun to change has
        changed at `head`. Kept durably; where that fails it is tried again at the next call, and
        a start before that finds the change anew."""
        for key_id in self._unsaved:
            self._held[key_id] = {
                name: _Since(since.digest, head)
                if since.seq == BEGUN and self._mine.get(key_id, {}).get(name) == since.digest
                else since
                for name, since in self._held.get(key_id, {}).items()
            }
        unsaved, self._unsaved = list(self._unsaved.items()), {}
        self._changing.clear()
        try:
            for start in range(0, len(unsaved), KEYS_A_BATCH):
                if notes := tuple(self._notes(unsaved[start : start + KEYS_A_BATCH])):
                    await self._journal.append(Batch(notes=notes))
        except JournalUnavailable as fault:
            log.warning("changed rights are not kept yet", extra={"reason": fault.message})
            again = {key_id: name for key_id, name in unsaved if not self._refused(key_id)}
            self._unsaved = again | self._unsaved

    def _refused(self, key_id: str) -> bool:
        """Whether it was revoked elsewhere while this node has it still: nothing is noted of it."""
        return key_id in self.revoked and key_id in self._seen

    def _notes(self, unsaved: Iterable[tuple[str, str]]) -> Iterator[Note]:
        for key_id, revocation in unsaved:
            if self._refused(key_id):
                continue
            if key_id in self._seen:
                seen = self._revocations.get(key_id, "")
                yield Note(BOOK, key_id, _written(self._held[key_id], self._journal.epoch, seen))
                continue
            self._held.pop(key_id, None)
            yield Note(BOOK, key_id, REVOKED if self._journal.shared else None)
            if self._journal.shared:
                yield Note(REVOCATIONS, key_id, revocation.encode())

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


def _fold(ours: _Since | None, theirs: _Since) -> _Since:
    """What holds of one channel once a later note has said so."""
    if ours is None or ours.digest != theirs.digest or ours.seq == BEGUN:
        return theirs
    return max(ours, theirs, key=lambda since: since.seq)


def _digest(channel: Channel, principal: Principal) -> str:
    """The filter that a key forces on a channel; empty where there is none."""
    forced = narrowed(channel, {}, principal)
    if not forced:
        return ""
    text = orjson.dumps(sorted((name, sorted(values)) for name, values in forced.items()))
    return sha256(text).hexdigest()[:16]


def _warn(key_id: str) -> None:
    log.warning(
        "a key was revoked at another node: take it out of this node's keys file",
        extra={"key_id": key_id},
    )


def _written(held: Mapping[str, _Since], epoch: str, revocation: str) -> bytes:
    channels = {name: [since.digest, since.seq] for name, since in held.items()}
    return orjson.dumps({"epoch": epoch, "channels": channels, "revocation": revocation})


def _read(note: Mapping[str, Any], epoch: str) -> _Held:
    same = note["epoch"] == epoch
    # Of another epoch no position is taken anyway.
    return {
        name: _Since(digest, seq if same else ALWAYS)
        for name, (digest, seq) in note["channels"].items()
    }
