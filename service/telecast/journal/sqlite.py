"""The default journal: one SQLite file, one writer thread, group commit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from queue import Empty, SimpleQueue
from threading import Thread

from telecast.errors import JournalUnavailable, TelecastError
from telecast.journal.base import Batch, Floor, Journal, Page, Receipt
from telecast.journal.feed import Feed
from telecast.journal.group import check
from telecast.journal.lock import FileLock
from telecast.journal.readers import MAX_READERS, Readers
from telecast.journal.store import Store
from telecast.model import Entry, Retention

log = logging.getLogger(__name__)

GROUP_RECORDS = 4096
"""Records in one group commit: some 25 ms of the writer, which the next group waits for."""
GROUP_BYTES = 8 * 2**20
"""Payload in one group commit: it is held three times over while it is written."""


class _State(Enum):
    NEW = auto()
    OPEN = auto()
    FULL = auto()
    FAILED = auto()
    CLOSING = auto()
    CLOSED = auto()


_MOVES = {
    _State.NEW: {_State.OPEN, _State.CLOSED},
    _State.OPEN: {_State.FULL, _State.FAILED, _State.CLOSING},
    _State.FULL: {_State.OPEN, _State.FAILED, _State.CLOSING},
    _State.FAILED: {_State.CLOSING},
    _State.CLOSING: {_State.CLOSED},
    _State.CLOSED: {_State.NEW},
}


@dataclass(frozen=True, slots=True, eq=False)
class _Append:
    batch: Batch
    answer: asyncio.Future[Receipt]


@dataclass(frozen=True, slots=True, eq=False)
class _Trim:
    answer: asyncio.Future[int]


_Job = _Append | _Trim | None
"""None: there will be no more."""


@dataclass(frozen=True, slots=True, eq=False)
class _Report:
    """What the writer did, told to the loop in one call."""

    answers: Sequence[tuple[asyncio.Future[Receipt], Receipt | Exception]]
    entries: tuple[Entry, ...]
    head: int
    full: str | None
    failed: str | None
    trimmed: tuple[asyncio.Future[int], int | Exception] | None = None
    floors: Mapping[str, Floor] | None = None
