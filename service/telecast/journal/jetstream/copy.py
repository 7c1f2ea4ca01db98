"""This node's copy of the log: a SQLite database, and how messages are applied to it.

What holds: the copy is what applying messages 1 to `applied` gives, on every node alike, since it
depends on the messages and their times alone. A message's entries, rows, keys and notes, and the
place in the log that they bring the copy to, are one transaction: after a crash the copy is at
some message's end, and goes on from there. Nothing is synced, since the log is the truth: after
the machine itself went down the copy is made anew.

What would break it: judging by this node's clock, settings or memory. So the time is the log's,
the retention stands in the message that asks to trim, and `chain`, a checksum of all judgements,
goes along with each message: a node that judged otherwise finds out and stops.
`docs/design/cluster.md` weighs it; `tests/contract` and `tests/integration/cluster` show it.
"""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from telecast.errors import JournalCorrupt, JournalUnavailable, TelecastError
from telecast.journal.ageing import Times
from telecast.journal.base import Figures, Note, Receipt
from telecast.journal.books import notes_of
from telecast.journal.jetstream.log import Logged
from telecast.journal.jetstream.message import VERSION, Message, NewerVersion, decode
from telecast.journal.jetstream.nodes import Nodes, Verdict
from telecast.journal.sqlite.schema import sync_directory
from telecast.journal.sqlite.store import Store
from telecast.model import Entry, Retention

log = logging.getLogger(__name__)

BOOK, PLACE = "log", "place"
"""The note that says up to where the log is applied."""
CLOSED = "closed"
LOOK_SECONDS = 1.0
"""Between two looks at whether the copy's file is still where it was."""
CHAINS = 4096
"""Messages whose checksums are remembered, to be compared with what others sent."""

Outcome = Receipt | TelecastError


@dataclass(frozen=True, slots=True)
class Place:
    """Up to where the log is applied: the sequence and time of that message, and the checksum of
    all judgements until then."""

    applied: int = 0
    timestamp: int = 0
    chain: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """What became of one message. `outcomes` are those of its batches, in their order; `trimmed`
    says how many entries went because it asked for that."""

    place: Place
    node: str
    number: int
    verdict: Verdict
    outcomes: tuple[Outcome, ...]
    entries: tuple[Entry, ...]
    notes: tuple[Note, ...]
    head: int
    trimmed: int | None


class Copy:
    """The database and what the log says about it. Blocking: it lives in the copy's thread."""

    def __init__(self, path: str, epoch: str, retention: Mapping[str, Retention]) -> None:
        """Raises JournalCorrupt, JournalUnavailable. The caller holds the lock."""
        discard_if_unsure(path)
        self._path = path
        self._looked = 0.0
        self._chains: OrderedDict[int, int] = OrderedDict()
        self.store = Store(path, retention, copy_of=epoch)
        kept = self.store.note(BOOK, PLACE)
        if kept is None:
            self.place, self._nodes = Place(), Nodes()
        else:
            found = orjson.loads(kept)
            self.place = Place(found["applied"], found["timestamp"], found["chain"])
            self._nodes = Nodes.from_json(found["nodes"])
        _say_state(path, f"open {_boot()}")

    def apply(self, logged: Sequence[Logged]) -> list[Applied]:
        """Apply messages in one transaction. Raises JournalCorrupt, JournalUnavailable."""
        with self.store.together():
            return [self._apply(each) for each in logged]

    def _apply(self, logged: Logged) -> Applied:
        message = self._read(logged)
        timestamp = max(self.place.timestamp, logged.timestamp)
        verdict = self._nodes.judge(message.node, message.number)
        outcomes: list[Outcome] = []
        trimmed = None
        counts = verdict is Verdict.NEXT
        batches = message.batches if counts else ()
        if counts:
            self._compare(message)
            self._nodes.take(message.node, message.number, message.fences, timestamp)
            if message.trim is not None:
                trimmed = self.store.trim(timestamp / 1000, message.trim)
        now = timestamp / 1000
        group = self.store.group(batches, Times(now, now, now))
        for batch in batches:
            try:
                outcomes.append(group.add(batch))
            except TelecastError as refusal:
                outcomes.append(refusal)
        judged = [logged.sequence, verdict.name, trimmed, *map(_short, outcomes)]
        self.place = Place(
            logged.sequence, timestamp, crc32(orjson.dumps(judged), self.place.chain)
        )
        self._remember()
        notes = notes_of(group.notes.items())
        group.notes[BOOK, PLACE] = orjson.dumps(
            {
                "applied": self.place.applied,
                "timestamp": self.place.timestamp,
                "chain": self.place.chain,
                "nodes": self._nodes.as_json(),
            }
        )
        self.store.commit(group)
        return Applied(
            self.place,
            message.node,
            message.number,
            verdict,
            tuple(outcomes),
            tuple(group.entries),
            notes,
            self.store.head,
            trimmed,
        )

    def _read(self, logged: Logged) -> Message:
        if logged.sequence != self.place.applied + 1:
            raise JournalCorrupt(
                f"Message {logged.sequence} of the log came after {self.place.applied}."
            )
        try:
            return decode(logged.data)
        except NewerVersion as newer:
            raise JournalUnavailable(
                f"Message {logged.sequence} of the log has version {newer.version!r} and this "
                f"Telecast knows {VERSION}: upgrade this node."
            ) from newer

    def _compare(self, message: Message) -> None:
        ours = self._chains.get(message.at)
        if ours is not None and ours != message.chain:
            raise JournalCorrupt(
                f"This node and node {message.node} have judged the log differently up to message "
                f"{message.at}: one of the copies is wrong. Stop both, move {self._path} away on "
                "the one that you trust less, and report this."
            )

    def _remember(self) -> None:
        self._chains[self.place.applied] = self.place.chain
        if len(self._chains) > CHAINS:
            self._chains.popitem(last=False)

    def figures(self) -> Figures:
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self.store.look()
            self._looked = time.monotonic()
        return self.store.figures()

    def due(self, now: float) -> bool:
        return self.store.is_due(now)

    def close(self) -> None:
        try:
            if self.store.failed is None:
                self.store.sync()
            failed = self.store.failed
        finally:
            self.store.close()
        if failed is None:
            _say_state(self._path, CLOSED)


def _short(outcome: Outcome) -> list[Any]:
    if isinstance(outcome, TelecastError):
        return [str(outcome.code)]
    return [outcome.first_seq, outcome.last_seq, outcome.duplicate]


def _boot() -> str:
    """Names the time since this machine's last start; the copy before it may be half written."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "unknown"


def _say_state(path: str, state: str) -> None:
    """Write, and sync, how far the copy's file may be trusted after a crash of the machine."""
    draft = f"{path}.state.new"
    with open(draft, "w", encoding="ascii") as file:
        file.write(state)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, f"{path}.state")
    sync_directory(path)


def discard_if_unsure(path: str) -> None:
    """Remove a copy that was open when the machine went down: nothing of it was synced."""
    if not Path(path).exists():
        return
    try:
        state = Path(f"{path}.state").read_text("ascii")
    except OSError:
        state = ""
    if state in (CLOSED, f"open {_boot()}"):
        return
    log.warning("the copy was open when the machine went down: it is made anew from the log")
    for name in (path, f"{path}-wal", f"{path}-shm", f"{path}.head", f"{path}.state"):
        Path(name).unlink(missing_ok=True)
