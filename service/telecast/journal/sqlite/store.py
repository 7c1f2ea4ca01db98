"""The SQLite database as its one writer sees it. Blocking: it lives in the writer's thread."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from telecast.errors import JournalFull, JournalUnavailable
from telecast.journal.ageing import Times
from telecast.journal.base import IDEMPOTENCY_SECONDS, Batch, Figures, KeyLimits, Receipt
from telecast.journal.group import Group, Known, Remembered, RowKey
from telecast.journal.sqlite.faults import explained, is_busy, is_full, is_in_log, takes_no_more
from telecast.journal.sqlite.mark import Mark
from telecast.journal.sqlite.place import Place
from telecast.journal.sqlite.procedures import (
    CANDIDATES,
    COMMIT,
    LEFT_OVER,
    LOOK_UP,
    OWNER,
    PROBE,
    PROCEDURES,
    TRIM,
    commit_parameters,
)
from telecast.journal.sqlite.readers import key_checksum
from telecast.journal.sqlite.schema import CopyOf, connect, prepare, sync_directory, upgrade
from telecast.journal.trimming import TRIM_MOST, Candidate, overdue, raised
from telecast.model import Floor, Retention

log = logging.getLogger(__name__)

LOG_BYTES = 64 * 2**20
"""What the log file is cut back to after a checkpoint that a long read had held up."""
LOG_WARNING = 256 * 2**20
"""Bytes of the log from which on the operator is warned: some read holds it for long."""
PIECE = 2**20
"""Bytes of the log that are written again at a time."""
MARK_EVERY = 1024
"""Entries after which the mark is written anew: 50 times a second at most; a trim does it too."""


@dataclass(slots=True)
class _Channel:
    """`recent`: entries after `through`, `bytes` their payloads, counted once somebody asks.
    `oldest`: the time of the first one, where known."""

    through: int = 0
    floor: Floor = field(default_factory=Floor)
    recent: int = 0
    oldest: int | None = None
    bytes: int | None = None


class Store:
    """Opens, looks up, commits, trims; one thread makes, uses and closes it.

    What it remembers of the database (head, floors, counts) changes only after the statement
    that changed the database succeeded. `full` says why nothing fits just now, `failed` why
    nothing can be written until the journal is opened anew.
    """

    def __init__(
        self,
        path: str,
        retention: Mapping[str, Retention],
        *,
        name: str | None = None,
        copy_of: CopyOf | None = None,
        limits: KeyLimits | None = None,
    ) -> None:
        """Raises JournalCorrupt, JournalUnavailable. The caller holds the lock.

        `name` is how the operator calls the file, `path` where it is, without links.
        `copy_of` is the log that this database is only a copy of: it syncs nothing, since the log
        is the truth.
        """
        prepare(path, copy_of)
        self._copy = copy_of is not None
        self._remembered = Remembered(limits or KeyLimits())
        self.full: str | None = None
        self.failed: str | None = None
        self._path = path
        self._mark = Mark(path)
        self._marked = -1
        self._warn_at = LOG_WARNING
        self._place = Place(name or path)
        self._retention = dict(retention)
        self._channels: dict[str, _Channel] = {channel: _Channel() for channel in retention}
        with explained(path):
            self._database = connect(path, "rw")
            try:
                self._configure()
                if not self._copy:
                    self._harden()
                upgrade(self._database, path)
                self._load()
                self._note()
            except BaseException:
                self._database.close()
                raise

    def _configure(self) -> None:
        ((mode,),) = self._database.execute("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise JournalUnavailable(
                f"{self._path} lies on a file system without shared memory: use a local disk."
            )
        self._database.execute(f"PRAGMA synchronous = {'OFF' if self._copy else 'FULL'}")
        self._database.execute("PRAGMA secure_delete = OFF")
        self._database.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        self._database.executescript(PROCEDURES)

    def _load(self) -> None:
        ((self.epoch, self.head),) = self._database.execute(
            "SELECT value, (SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'events')"
            "  FROM meta WHERE name = 'epoch'"
        )
        ((self.newest,),) = self._database.execute(
            "SELECT (SELECT timestamp FROM events WHERE seq = (SELECT max(seq) FROM events))"
        )
        owners = self._database.execute(f"SELECT {OWNER}, count(*) FROM idempotency GROUP BY 1")
        self._remembered.add(dict(owners))
        for name, channel in self._channels.items():
            self._channels[name] = self._loaded(name, channel)

    def _loaded(self, name: str, channel: _Channel) -> _Channel:
        """The channel, with what the database has of it."""
        floors = "SELECT through, whole_from, compact_from FROM floors WHERE channel = ?"
        for through, *floor in self._database.execute(floors, (name,)):
            channel.through, channel.floor = through, Floor(*floor)
        ((channel.recent,),) = self._database.execute(
            "SELECT count(*) FROM events WHERE channel = ? AND seq > ?", (name, channel.through)
        )
        return channel

    def _harden(self) -> None:
        """Write again, and sync, what a process that was killed may have left in the log.

        It may be in the system's cache only. Another sync would not do: after one that failed,
        later ones skip what it should have written, though it can still be read. Meanwhile no
        other program may begin the log anew.
        """
        self._database.execute("BEGIN IMMEDIATE")
        with suppress(FileNotFoundError), open(f"{self._path}-wal", "r+b") as file:
            # In pieces: behind a long read the log grows beyond the memory there is.
            at = 0
            while content := file.read(PIECE):
                file.seek(at)
                file.write(content)
                at += len(content)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(self._path)  # SQLite would not say if that failed
        self._database.execute("ROLLBACK")

    def _note(self) -> None:
        # A copy that was put back is no older journal, but one that the log brings up to date; and
        # its head is ahead of the file while several messages are one transaction.
        if self.head != self._marked and not self._copy:
            self._mark.write(self.epoch, self.head)
            self._marked = self.head

    def floors(self) -> dict[str, Floor]:
        return {name: channel.floor for name, channel in self._channels.items()}

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written meanwhile is one transaction. If any of it fails, the store has failed:
        what it remembers may be ahead of the database."""
        self._write("BEGIN IMMEDIATE", ())
        try:
            yield
            self._write("COMMIT", ())
        except BaseException as error:
            self.failed = self.failed or f"Writing the journal failed ({error}): restart."
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise

    def look(self) -> None:
        """Whether the files are where they were, and how large; `failed` says what is wrong."""
        if self.failed is None and (wrong := self._place.look()) is not None:
            self.failed = wrong
            log.critical("the journal takes nothing more", extra={"reason": wrong})
        held = self._place.sizes.log
        if held >= self._warn_at:
            log.warning(
                "the journal's log is large: another program has been reading it for long",
                extra={"path": f"{self._path}-wal", "bytes": held},
            )
            self._warn_at = held * 2
        elif held < LOG_WARNING:
            self._warn_at = LOG_WARNING

    def figures(self) -> Figures:
        sizes = self._place.sizes
        return Figures(
            file_bytes=sizes.database, log_bytes=sizes.log, idempotency_keys=self._remembered.total
        )

    def group(
        self, batches: Sequence[Batch], times: Times, limits: KeyLimits | None = None
    ) -> Group:
        """An empty group that knows of the database what these batches ask about.

        `limits` of idempotency keys are this store's, or for a copy those that its log says."""
        asked_rows = {row for batch in batches for row in batch.expect}
        asked_keys = {batch.idempotency.key for batch in batches if batch.idempotency}
        rows: dict[RowKey, int] = {}
        known: dict[str, Known] = {}
        if asked_rows or asked_keys:
            found = self._read(LOOK_UP, (_json([*asked_rows]), _json([*asked_keys])))
            for channel, key, seq in orjson.loads(found[0]):
                rows[channel, key] = seq
            for key, digest, count, first, last, at, crc, since in orjson.loads(found[1]):
                if key_checksum(key, digest, count, first, last, at) != crc:
                    self.failed = (
                        f"The journal is damaged: the idempotency key {key!r} is not what was "
                        "written. Restore it from a backup."
                    )
                    raise JournalUnavailable(self.failed)
                known[key] = Known(bytes.fromhex(digest), Receipt(count, first, last, at), since)
        return Group(
            head=self.head,
            timestamp=int(times.clock * 1000),
            since=int(times.after * 1000),
            rows=rows,
            known=known,
            remembered=self._limited(limits),
        )

    def _limited(self, limits: KeyLimits | None) -> Remembered | None:
        if self._copy and limits is None:
            return None
        self._remembered.limits = limits or self._remembered.limits
        return self._remembered

    def commit(self, group: Group) -> None:
        """Make a group durable, whole. Raises JournalUnavailable, JournalFull."""
        if not group.entries and not group.keys and not group.notes:
            return
        self._write(COMMIT, commit_parameters(group))
        self.head = group.head
        self._remembered.add(group.owners)
        if self.head - self._marked >= MARK_EVERY:
            self._note()
        for entry in group.entries:
            channel = self._channels.get(entry.channel)
            if channel is not None:
                channel.recent += 1
                if channel.bytes is not None:
                    channel.bytes += len(entry.data)

    def note(self, book: str, key: str) -> bytes | None:
        """One note. Raises JournalUnavailable."""
        (value,) = self._read(
            "SELECT (SELECT value FROM notes WHERE book = ? AND key = ?)", (book, key)
        )
        return None if value is None else bytes(value)

    def is_due(self, now: float) -> bool:
        """Whether a trim would take anything away; changes nothing."""
        superseded, old_keys = self._read(LEFT_OVER, (1, _forget_before(now), 1))
        return bool(orjson.loads(superseded) or orjson.loads(old_keys)) or any(
            self._look(name, self._channel(name), kept, now, TRIM_MOST, [])[0]
            for name, kept in self._retention.items()
        )

    def trim(self, now: float, retention: Mapping[str, Retention] | None = None) -> int:
        """One bounded step of trimming, as one transaction with the floors it raises.

        By `retention` where it is given: of the channels that it names."""
        chosen = self._retention if retention is None else retention
        self._note()
        forget = _forget_before(now)
        superseded, old = self._read(LEFT_OVER, (TRIM_MOST, forget, TRIM_MOST))
        old_keys: dict[str, int] = orjson.loads(old)
        gone: dict[str, list[tuple[int, bool]]] = {}
        for seq, name, pinned in orjson.loads(superseded):
            gone.setdefault(name, []).append((seq, bool(pinned)))
        budget = TRIM_MOST - sum(map(len, gone.values()))
        moved: dict[str, _Channel] = {}
        for name, kept in chosen.items():
            channel = self._channel(name)
            looked, after = self._look(name, channel, kept, now, budget, gone.setdefault(name, []))
            budget -= looked
            after.floor = raised(after.floor, gone[name])
            if after != channel:
                moved[name] = after
        for name in gone.keys() - chosen.keys():
            channel = self._channel(name)
            moved[name] = replace(channel, floor=raised(channel.floor, gone[name]))
        seqs = [seq for went in gone.values() for seq, _ in went]
        if seqs or moved or old_keys:
            floors = [
                (name, after.through, after.floor.whole_from, after.floor.compact_from)
                for name, after in moved.items()
            ]
            self._write(TRIM, (_json(seqs), _json(floors), forget, TRIM_MOST))
            self._remembered.forget(old_keys)
            self._channels.update(moved)
        elif self.full is not None:
            self._write(PROBE, ())  # nobody may dare to publish: find out that space is back
        return len(seqs) + sum(old_keys.values())

    def _channel(self, name: str) -> _Channel:
        """What is remembered of a channel; another node may know one that this one does not."""
        if name not in self._channels:
            self._channels[name] = self._loaded(name, _Channel())
        return self._channels[name]

    def _look(
        self,
        name: str,
        channel: _Channel,
        retention: Retention,
        now: float,
        most: int,
        gone: list[tuple[int, bool]],
    ) -> tuple[int, _Channel]:
        """How many entries of a channel are overdue, and what the channel is without them."""
        excess = channel.recent - retention.events
        before = (now - retention.seconds) * 1000
        heavy = 0
        if retention.bytes is not None:
            channel.bytes = self._weight(name, channel) if channel.bytes is None else channel.bytes
            heavy = channel.bytes - retention.bytes
        due = excess > 0 or heavy > 0 or channel.oldest is None or channel.oldest < before
        if not channel.recent or not due or most < 1:
            return 0, channel
        (found,) = self._read(CANDIDATES, (name, channel.through, most))
        candidates = [
            Candidate(seq, timestamp, bool(live), bool(lasting), size)
            for seq, timestamp, live, lasting, size in orjson.loads(found)
        ]
        cut = overdue(candidates, excess=excess, before=before, heavy=heavy)
        gone.extend((c.seq, c.lasting) for c in candidates[:cut] if not c.live)
        went = sum(each.size for each in candidates[:cut])
        return cut, _Channel(
            candidates[cut - 1].seq if cut else channel.through,
            channel.floor,
            channel.recent - cut,
            candidates[cut].timestamp if cut < len(candidates) else None,
            None if channel.bytes is None else channel.bytes - went,
        )

    def _weight(self, name: str, channel: _Channel) -> int:
        """Bytes of the payloads after `through`: reads them all, so only once and if asked for."""
        (found,) = self._read(
            "SELECT ifnull(sum(length(data)), 0) FROM events WHERE channel = ? AND seq > ?",
            (name, channel.through),
        )
        return int(found)

    def _read(self, sql: str, parameters: tuple[Any, ...]) -> tuple[Any, ...]:
        try:
            row: tuple[Any, ...] = self._database.execute(sql, parameters).fetchone()
        except sqlite3.Error as error:
            raise self._fault(error, wrote=False) from error
        return row

    def _write(self, sql: str, parameters: tuple[Any, ...]) -> None:
        if self.failed is not None:
            raise JournalUnavailable(self.failed)
        try:
            self._database.execute(sql, parameters)
        except sqlite3.Error as error:
            raise self._fault(error, wrote=True) from error
        self.full = None

    def _fault(self, error: sqlite3.Error, *, wrote: bool) -> JournalUnavailable:
        if is_busy(error):
            return JournalUnavailable(f"Another program holds the journal: {error}.")
        if wrote and takes_no_more(error) and not self._database.in_transaction:
            return self._no_space(error)
        # After a failed sync nobody knows what is on the disk, and asking again would be answered
        # from a cache that the failure emptied: only reading it anew shows.
        self.failed = f"Writing the journal failed ({error}): check the disk, then restart."
        return JournalUnavailable(self.failed, outcome_unknown=wrote)

    def _no_space(self, error: sqlite3.Error) -> JournalFull:
        if is_full(error):
            self.full = "There is no space left for the journal: free some."
        else:  # a quota, a size limit, a disk that refuses: SQLite does not say which
            self.full = (
                f"The journal can't be written ({error}): free some space, raise its quota or "
                "its size limit, or check the disk."
            )
        # What the log holds may fit into the database's own pages; then the log is free.
        with suppress(sqlite3.Error):
            self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return JournalFull(self.full, outcome_unknown=is_in_log(error))

    def sync(self) -> None:
        """Have all of a copy, which nothing else syncs, on the disk. Raises JournalUnavailable."""
        self._write("PRAGMA synchronous = FULL", ())
        self._write("PRAGMA wal_checkpoint(TRUNCATE)", ())

    def close(self) -> None:
        self._note()
        self._database.close()


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _forget_before(now: float) -> int:
    """Idempotency keys from before this time, in ms, are forgotten."""
    return int((now - IDEMPOTENCY_SECONDS) * 1000)
