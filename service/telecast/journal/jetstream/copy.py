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
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from telecast.errors import JournalCorrupt, JournalFull, JournalUnavailable, TelecastError
from telecast.journal.ageing import Times
from telecast.journal.base import Figures, Note, Receipt
from telecast.journal.books import notes_of
from telecast.journal.jetstream.checkpoints.marks import Mark, Marks
from telecast.journal.jetstream.log import Logged
from telecast.journal.jetstream.message import VERSION, Message, NewerVersion, decode
from telecast.journal.jetstream.nodes import Verdict
from telecast.journal.jetstream.place import BOOK, PLACE, Place, State, read_place
from telecast.journal.sqlite.faults import explained, takes_no_more
from telecast.journal.sqlite.schema import CopyOf, connect, copy_of, is_ours, sync_directory
from telecast.journal.sqlite.store import Store
from telecast.model import Entry, Retention

log = logging.getLogger(__name__)

CLOSED = "closed"
LOOK_SECONDS = 1.0
"""Between two looks at whether the copy's file is still where it was."""
CHAINS = 4096
"""Messages whose checksums are remembered, to be compared with what others sent."""

Outcome = Receipt | TelecastError


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """What became of one message. `outcomes` are those of its batches, in their order; `trimmed`
    says how many entries went because it asked for that, `marked` whether its mark counted."""

    place: Place
    node: str
    number: int
    verdict: Verdict
    outcomes: tuple[Outcome, ...]
    entries: tuple[Entry, ...]
    notes: tuple[Note, ...]
    head: int
    trimmed: int | None
    marked: bool | None = None


class Copy:
    """The database and what the log says about it. Blocking: it lives in the copy's thread."""

    def __init__(
        self, path: str, life: str, epoch: str, retention: Mapping[str, Retention]
    ) -> None:
        """`life` and `epoch` are the log's. Raises JournalCorrupt, JournalUnavailable. The caller
        holds the lock."""
        discard_if_unsure(path)
        if not Path(path).exists():
            _say_state(path, f"open {_boot()}")  # what is half made is ours
        self._path = path
        self._looked = 0.0
        self._chains: OrderedDict[int, int] = OrderedDict()
        self._retention = retention
        self._of = CopyOf(life, epoch)
        self._load()
        _say_state(path, f"open {_boot()}")

    def _load(self) -> None:
        self.store = Store(self._path, self._retention, copy_of=self._of)
        self._state = State.from_note(self.store.note(BOOK, PLACE))
        self._chains[self.place.applied] = self.place.chain

    def open_again(self) -> None:
        """Read the file anew after a write that failed: what is remembered may be ahead of it.
        Raises as the constructor does."""
        self.store.close()
        self._load()

    @property
    def place(self) -> Place:
        return self._state.place

    @property
    def marks(self) -> Marks:
        return self._state.marks

    def apply(self, logged: Sequence[Logged]) -> list[Applied]:
        """Apply messages in one transaction. Raises JournalCorrupt, JournalUnavailable; and
        JournalFull, after which `open_again` comes next."""
        try:
            with self.store.together():
                return [self._apply(each) for each in logged]
        except JournalUnavailable as fault:
            # In the middle of a transaction the store takes every error for the last: but nothing
            # of a copy was ever promised, and its file is read anew.
            cause = fault.__cause__
            if isinstance(cause, sqlite3.Error) and takes_no_more(cause):
                raise JournalFull(
                    f"There is no space left for the copy {self._path} ({cause}): free some."
                ) from cause
            raise

    def _apply(self, logged: Logged) -> Applied:
        message = self._read(logged)
        state = self._state
        timestamp = max(state.place.timestamp, logged.timestamp)
        verdict = state.nodes.judge(message.node, message.number)
        outcomes: list[Outcome] = []
        trimmed = marked = None
        counts = verdict is Verdict.NEXT
        batches = message.batches if counts else ()
        state.marks = state.marks.after(len(logged.data))
        if counts:
            self._compare(message)
            state.nodes.take(message.node, message.number, message.fences, timestamp)
            if message.trim is not None:
                trimmed = self.store.trim(timestamp / 1000, message.trim)
            if message.mark is not None:
                marked = self._mark(message.mark, timestamp)
        now = timestamp / 1000
        group = self.store.group(batches, Times(now, now, now), message.limits)
        for batch in batches:
            try:
                outcomes.append(group.add(batch))
            except TelecastError as refusal:
                outcomes.append(refusal)
        judged = [logged.sequence, verdict.name, trimmed, marked, *map(_short, outcomes)]
        state.place = Place(
            logged.sequence, timestamp, crc32(orjson.dumps(judged), state.place.chain)
        )
        self._remember()
        notes = notes_of(group.notes.items())
        group.notes[BOOK, PLACE] = state.as_note()
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
            marked,
        )

    def _mark(self, mark: Mark, timestamp: int) -> bool:
        after = self._state.marks.judge(mark, timestamp)
        if after is not None:
            self._state.marks = after
        return after is not None

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
    with open(draft, "w", encoding="ascii", opener=_for_this_user) as file:
        file.write(state)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, f"{path}.state")
    sync_directory(path)


def _for_this_user(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def discard_if_unsure(path: str) -> None:
    """Remove a copy that was open when the machine went down: nothing of it was synced.

    A file that never was a copy is not touched, nor is a journal that was put in its place."""
    if Path(path).exists() and not _is_sure(path) and not _is_journal(path):
        log.warning("the copy was open when the machine went down: it is made anew from the log")
        discard(path)


def _is_sure(path: str) -> bool:
    try:
        state = Path(f"{path}.state").read_text("ascii")
    except FileNotFoundError:
        return True
    except (OSError, UnicodeDecodeError):
        state = ""
    return state in (CLOSED, f"open {_boot()}")


def _is_journal(path: str) -> bool:
    try:
        is_ours(path)
        with explained(path), closing(connect(path, "ro")) as database:
            return copy_of(database) is None
    except TelecastError:
        return False


def discard(path: str) -> None:
    for name in (path, f"{path}-wal", f"{path}-shm", f"{path}.head", f"{path}.state"):
        Path(name).unlink(missing_ok=True)


def reached(path: str, life: str) -> int | None:
    """Up to which message a copy of that log is there: 0 for none, None for a file that is
    something else and is to be left alone. Changes nothing."""
    if not Path(path).exists() or not Path(path).stat().st_size:
        return 0
    try:
        is_ours(path)
        with explained(path), closing(connect(path, "ro")) as database:
            if copy_of(database) != life:
                return None
            return read_place(database).applied if _is_sure(path) else 0
    except TelecastError:
        return None


def install(path: str, draft: str) -> None:
    """Put a checkpoint that was fetched in the copy's place. The caller holds the lock.

    A crash in the middle leaves no copy, or one that is not known to be whole: then it is fetched
    again."""
    discard(path)
    _say_state(path, "being put there")
    os.replace(draft, path)
    _say_state(path, f"open {_boot()}")
