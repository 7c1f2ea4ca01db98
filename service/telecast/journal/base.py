"""The journal's contract. `docs/design/journal.md` maps it onto each implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from telecast.journal.peers import Alone, Peers
from telecast.model import Entry, Floor, Page, Record, Retention

MAX_BATCH = 4096
"""Records in one batch: what an implementation may number within one message (4096 = 2**12)."""

MAX_NOTE_BYTES = 32 * 1024
"""Bytes in the value of one note, as in one event."""
IDEMPOTENCY_SECONDS = 24 * 3600.0
"""How long an idempotency key and its result are kept."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """`key` is unique to its principal; `digest` is the SHA-256 of what was asked."""

    key: str
    digest: bytes

    @property
    def owner(self) -> str:
        """Its principal: what stands before the first colon."""
        return self.key.partition(":")[0]


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """How many idempotency keys are remembered; one takes some 200 bytes on the disk.

    A publisher that sends 50 keyed publishes a second all day stays below the first.
    """

    per_owner: int = 5_000_000
    total: int = 20_000_000


@dataclass(frozen=True, slots=True)
class Note:
    """A small durable value that is no event: an acknowledged position, the life of an alert.

    `book` names the part of the service that owns it, `key` is unique in its book. A note
    replaces the one before it; `value` is None to erase it. Nobody but its owner reads a book,
    and the owner bounds how many notes it holds.
    """

    book: str
    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What commits as one.

    `expect` maps (channel, key) to the seq of the live row that the records were derived from,
    0 where there was none. `notes` are written in the same transaction as the records, in
    their order. At least one of `records`, `notes` and `idempotency` must be there.
    """

    records: tuple[Record, ...] = ()
    expect: Mapping[tuple[str, str], int] = field(default_factory=dict)
    idempotency: Idempotency | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """A durable commit. Without records `first_seq` is 0 and `last_seq` the head at that time."""

    count: int
    first_seq: int
    last_seq: int
    timestamp: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a journal takes up, for metrics: as of the last look, at most some seconds ago."""

    file_bytes: int = 0
    log_bytes: int = 0
    """What is committed and not yet moved into the file (SQLite's -wal)."""
    idempotency_keys: int = 0
    clock_jumps: int = 0
    """Steps of the system's clock that deletion by age has waited out, since the start."""


@dataclass(frozen=True, slots=True)
class LogPlace:
    """How far a node is with the log: its last message that was applied here, and how many more
    the log is known to have."""

    sequence: int
    behind: int


class Books:
    """Hands each note that has committed to the owner of its book. See `journal.books`."""

    def __init__(self) -> None:
        self._takers: dict[str, Callable[[Note], object]] = {}

    def follow(self, book: str, take: Callable[[Note], object]) -> None:
        """From now on this book's notes go here. A book has one owner."""
        self._takers[book] = take

    def committed(self, notes: Iterable[Note]) -> None:
        for note in notes:
            take = self._takers.get(note.book)
            if take is not None:
                take(note)


class Journal(ABC):
    """The one truth: it numbers what is committed and keeps it.

    Order: `seq` rises strictly in commit order, stays under 2**53, is never used again, and its
    jumps mean nothing. `append` calls made one after the other on one node commit in that order.
    Atomicity: all records of a batch commit or none; their seqs have no other batch's between.
    Durability: once `append` returns, the batch outlives the death of the process (and for
    durable implementations of the machine). When it raises, nothing of the batch is committed,
    but for JournalUnavailable with `outcome_unknown`: the caller repeats it under its
    idempotency key.
    Trimming: only `trim` removes entries, and it never removes the newest row of a live key.

    One event loop owns an instance; no method may be called before `open` returned or after
    `close` was called.
    """

    epoch: str
    """Names this journal's life: `[0-9a-z]{4,16}`. Another life never has the same."""
    head: int
    """The seq of the last committed entry, 0 before the first."""
    books: Books
    """Each note that commits, on this node or another, arrives here once: on the loop, in the
    order of the commits, before the `append` that wrote it returns."""
    shared: bool = False
    """Whether other nodes may commit to it too."""
    peers: Peers = Alone()
    """The other nodes that share it."""

    @abstractmethod
    async def open(self) -> None:
        """Take ownership and recover. Raises JournalLocked, JournalCorrupt, JournalUnavailable."""

    @abstractmethod
    async def append(self, batch: Batch) -> Receipt:
        """Commit a batch as one; return once it is durable.

        A batch whose idempotency key is known returns the first receipt with `duplicate=True`
        and changes nothing, whatever `expect` says. Raises IdempotencyConflict when the known
        key has another digest, IdempotencyExhausted when no more keys are remembered (a known
        one is always answered), Conflict when a row is not where `expect` says,
        JournalFull, JournalUnavailable, and PeerFault BODY_TOO_LARGE where the batch is larger than
        this journal can ever take. Cancelling the caller does not cancel the commit.
        ValueError is the calling code's fault: too many records or notes or nothing at all, a
        note over MAX_NOTE_BYTES, text with NUL or a lone surrogate.

        A refused batch and a duplicate write no notes. A batch of notes alone moves no number
        and is not reported by the tail.
        """

    @abstractmethod
    def tail(self) -> AsyncIterator[tuple[Entry, ...]]:
        """Every entry there is and every entry that commits, once, in order, without end.

        History comes in tuples of any size and ends with one empty tuple, even where there is
        none; after that each tuple is one or more whole batches.
        There is one tail per instance. It ends when the journal closes, and raises
        JournalUnavailable when the journal can't go on, JournalCorrupt at an entry that is not
        what was committed.
        """

    @abstractmethod
    async def read(self, channels: Collection[str], after: int, limit: int) -> Page:
        """At most `limit` entries of `channels` after `after`, in one short read transaction.

        Raises JournalUnavailable, and JournalCorrupt where an entry is not what was committed:
        the journal takes no more batches then.
        """

    @abstractmethod
    async def notes(self, book: str, after: str = "", limit: int = 1000) -> tuple[Note, ...]:
        """At most `limit` notes of a book whose key is beyond `after`, in the order of their keys.

        Holds every note that was acknowledged before the call. `read_book` reads a whole book.
        Raises JournalUnavailable, and JournalCorrupt where a note is not what was committed.
        """

    @abstractmethod
    def floors(self) -> Mapping[str, Floor]:
        """What trimming left of each channel whose retention it was given."""

    @abstractmethod
    async def trim(self, retention: Mapping[str, Retention] | None = None) -> int:
        """Apply the retention of each channel now; return how many entries and keys went.

        Where `retention` is given, that one in place of the journal's own, for the channels that
        it names: of these what was spared and is superseded since goes too.

        Bounded work per call, so that commits are never held up for long: what is left over
        goes at the next call, also where this one met only rows to spare and returned 0.
        Also forgets idempotency keys older than IDEMPOTENCY_SECONDS. Age is that of `ageing`: a
        clock that has just jumped deletes nothing.
        """

    @abstractmethod
    def now(self) -> float:
        """Seconds since 1970 by the clock that stamps what commits: where several nodes share the
        journal that is the log's, as well as this node knows it, and not the node's."""

    @abstractmethod
    def failure(self) -> str | None:
        """Why the journal takes no batches just now, or None when it does."""

    def place(self) -> LogPlace | None:
        """How far this node is with a log that several nodes share; None where there is none."""
        return None

    @abstractmethod
    def figures(self) -> Figures:
        """What it takes up."""

    @abstractmethod
    async def close(self) -> None:
        """Finish the appends under way, let go of everything. Safe to call twice."""


async def read_book(journal: Journal, book: str) -> dict[str, bytes]:
    """Every note of a book by its key, in the order of the keys. For its owner, at the start."""
    found: dict[str, bytes] = {}
    after = ""
    while page := await journal.notes(book, after):
        found.update((note.key, note.value) for note in page if note.value is not None)
        after = page[-1].key
    return found
