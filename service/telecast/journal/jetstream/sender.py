"""This node's messages, from the batches that wait until the log has judged them.

What holds: a batch is answered with what the log made of it, or refused while it surely is not in
the log, or answered "unknown" once this node has given up on it; then its messages can't count
any more for long, since the next one fences them off. Messages are numbered without a hole, and
sent again in their order whenever one of them may be missing; `nodes` says why that is safe.

Several messages may be under way. Each takes what waits, so a slow log makes larger messages and
not more of them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto

from telecast.errors import Code, JournalFull, JournalUnavailable, PeerFault
from telecast.journal.answers import answer
from telecast.journal.base import MAX_BATCH, Batch, KeyLimits, Receipt
from telecast.journal.jetstream.checkpoints.marks import Mark
from telecast.journal.jetstream.copy import Applied
from telecast.journal.jetstream.log import Log
from telecast.journal.jetstream.message import Message, encode
from telecast.journal.jetstream.nodes import Verdict
from telecast.journal.jetstream.place import Place
from telecast.model import Retention

log = logging.getLogger(__name__)

WINDOW = 4
"""Messages under way at a time."""
GIVE_UP_SECONDS = 15.0
AGAIN_SECONDS = 0.25
BESIDE_RECORDS = 256
"""Bytes that a record's description takes beside its text, at the most."""
NOT_SENT = "The log does not answer; nothing of this was taken."
UNKNOWN = "The log did not answer in time; repeat it under its Idempotency-Key."


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    batch: Batch
    size: int
    answer: asyncio.Future[Receipt]


class _State(Enum):
    SENT = auto()
    """The log has not answered yet."""
    KEPT = auto()
    """The log has it; the follower will say what became of it."""
    DOUBTFUL = auto()
    """It may or may not be in the log."""


@dataclass(slots=True, eq=False)
class _Sent:
    """One message under way."""

    node: str
    number: int
    data: bytes
    asked: tuple[_Asked, ...]
    trimmed: asyncio.Future[int] | None
    marked: asyncio.Future[bool] | None
    deadline: float
    state: _State = _State.SENT
    tries: int = 0


def _node() -> str:
    return secrets.token_hex(8)


@dataclass(slots=True)
class _Life:
    """One life of this node in the log: it ends when the node gives up on a message."""

    node: str = field(default_factory=_node)
    number: int = 0
    fences: tuple[str, ...] = ()
    """Earlier lives, until a message that fences them off has counted."""


class Sender:
    """The only one who appends to the log on this node; `run` is its task."""

    def __init__(
        self,
        log: Log,
        place: Callable[[], Place],
        limits: KeyLimits,
        full: Callable[[], None],
    ) -> None:
        """`full` is called when the log takes no more."""
        self._log = log
        self._place = place
        self._limits = limits
        self._full = full
        self._life = _Life()
        self._waiting: deque[_Asked] = deque()
        self._trim: tuple[Mapping[str, Retention], asyncio.Future[int]] | None = None
        self._mark: tuple[Mark, asyncio.Future[bool]] | None = None
        self._sent: OrderedDict[tuple[str, int], _Sent] = OrderedDict()
        """By (node, number), in the order of sending; an earlier life's come first."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._again = False
        self._ended: JournalUnavailable | None = None

    # --- what the journal calls

    def put(self, batch: Batch) -> asyncio.Future[Receipt]:
        """The batch's receipt or refusal, once the log has judged it. Raises JournalUnavailable,
        and PeerFault BODY_TOO_LARGE where it fits no message."""
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        size = _measure(batch)
        if size > self._log.most_bytes:
            raise PeerFault(
                Code.BODY_TOO_LARGE,
                f"The batch takes some {size:,} bytes, and a message of the log holds "
                f"{self._log.most_bytes:,}: publish fewer events at a time. (An operator can raise "
                "`max_payload` of the NATS servers.)",
            )
        self._check()
        self._waiting.append(_Asked(batch, size, receipt))
        self._wake.set()
        return receipt

    def trim(self, retention: Mapping[str, Retention]) -> asyncio.Future[int]:
        """Ask all nodes to trim at the same place; how many entries went on this one. What was
        asked and not sent yet is asked along with it."""
        self._check()
        if self._trim is not None:
            self._trim = ({**self._trim[0], **retention}, self._trim[1])
        else:
            self._trim = (retention, asyncio.get_running_loop().create_future())
        self._wake.set()
        return self._trim[1]

    def mark(self, mark: Mark) -> asyncio.Future[bool]:
        """Whether a mark about checkpoints counts. One at a time; its caller awaits it."""
        self._check()
        self._mark = (mark, asyncio.get_running_loop().create_future())
        self._wake.set()
        return self._mark[1]

    def _check(self) -> None:
        if self._ended is not None:
            raise JournalUnavailable(self._ended.message)
        why = self._log.away()
        if why is not None:
            raise JournalUnavailable(f"{why} Nothing is taken meanwhile; publish again later.")

    def judged(self, applied: Applied) -> None:
        """What the log made of a message of any node, in the log's order."""
        life = self._life
        if applied.node != life.node and applied.node not in life.fences:
            return
        if applied.verdict is Verdict.TOO_EARLY:
            self._doubt(applied.node, applied.number)
            return
        sent = self._sent.pop((applied.node, applied.number), None)
        if sent is None or applied.verdict is not Verdict.NEXT:
            return
        for asked, outcome in zip(sent.asked, applied.outcomes, strict=True):
            answer(asked.answer, outcome)
        if sent.trimmed is not None and not sent.trimmed.done():
            sent.trimmed.set_result(applied.trimmed or 0)
        if sent.marked is not None and not sent.marked.done():
            sent.marked.set_result(bool(applied.marked))
        if applied.node == life.node and life.fences:
            self._fenced(life)
        self._wake.set()

    def _doubt(self, node: str, number: int) -> None:
        """A message came before one of ours that is not there: both are sent again."""
        for sent in self._sent.values():
            if sent.node == node and sent.number <= number:
                sent.state = _State.DOUBTFUL
        self._again = True
        self._wake.set()

    def _fenced(self, life: _Life) -> None:
        """The fence counts: what is left of earlier lives never will."""
        life.fences = ()
        for key in [key for key, sent in self._sent.items() if sent.node != life.node]:
            self._settle(self._sent.pop(key), JournalUnavailable("The log did not take it."))

    def _settle(self, sent: _Sent, fault: JournalUnavailable) -> None:
        """One exception per caller: raised in many tasks, one would gather all their tracebacks."""
        for asked in sent.asked:
            answer(asked.answer, type(fault)(fault.message, outcome_unknown=fault.outcome_unknown))
        if sent.trimmed is not None:
            answer(sent.trimmed, type(fault)(fault.message))
        if sent.marked is not None:
            answer(sent.marked, type(fault)(fault.message))

    def end(self, why: str) -> None:
        """Take no more; what waits is refused, what is under way is unknown."""
        if self._ended is not None:
            return
        self._ended = JournalUnavailable(why)
        for asked in self._waiting:
            answer(asked.answer, JournalUnavailable(why))
        self._waiting.clear()
        self._forget(why)
        if self._trim is not None:
            answer(self._trim[1], JournalUnavailable(why))
        if self._mark is not None:
            answer(self._mark[1], JournalUnavailable(why))
        self._trim = self._mark = None
        for task in self._tasks:
            task.cancel()
        self._wake.set()

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._sent

    # --- the task

    async def run(self) -> None:
        """Send what waits, until `end`."""
        loop = asyncio.get_running_loop()
        while self._ended is None:
            self._wake.clear()
            if self._overdue(loop.time()):
                self._give_up()
            if self._again:
                await self._send_again()
                continue
            while len(self._sent) < WINDOW and (self._waiting or self._trim or self._mark):
                self._start(self._next(loop.time()))
            await self._slept()

    async def _slept(self) -> None:
        """Until something changes, or it is time to look after what is under way."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0 if self._sent else None):
                await self._wake.wait()

    def _overdue(self, now: float) -> bool:
        return any(sent.deadline <= now for sent in self._sent.values())

    def _next(self, now: float) -> _Sent:
        """The next message: what waits, as far as it fits into one."""
        life, place = self._life, self._place()
        life.number += 1
        taken: list[_Asked] = []
        records = size = 0
        while self._waiting:
            first = self._waiting[0]
            records += max(1, len(first.batch.records))
            size += first.size
            if taken and (records > MAX_BATCH or size > self._log.most_bytes):
                break
            taken.append(self._waiting.popleft())
        trim, self._trim = self._trim, None
        mark, self._mark = self._mark, None
        keyed = any(asked.batch.idempotency is not None for asked in taken)
        message = Message(
            node=life.node,
            number=life.number,
            fences=life.fences,
            at=place.applied,
            chain=place.chain,
            batches=tuple([asked.batch for asked in taken]),
            trim=trim and trim[0],
            mark=mark and mark[0],
            limits=self._limits if keyed else None,
        )
        sent = _Sent(
            *(life.node, life.number, encode(message), tuple(taken)),
            *(trim and trim[1], mark and mark[1], now + GIVE_UP_SECONDS),
        )
        self._sent[sent.node, sent.number] = sent
        return sent

    def _start(self, sent: _Sent) -> None:
        task = asyncio.create_task(self._append(sent))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _append(self, sent: _Sent) -> None:
        sent.tries += 1
        try:
            await self._log.append(sent.data)
        except JournalFull as full:
            self._refuse(sent, full)
            self._full()
        except JournalUnavailable as fault:
            log.debug("a message of the log is in doubt", extra={"reason": fault.message})
            sent.state = _State.DOUBTFUL
            self._again = True
        else:
            sent.state = _State.KEPT
        self._wake.set()

    def _refuse(self, refused: _Sent, full: JournalFull) -> None:
        """The log is full: this message surely is not in it, nor can a later one count.

        A later one may be in it all the same, and must never count under a number that is used
        again: so another life begins, and fences this one off. Where the message was tried before,
        nobody knows, and it stays in doubt.
        """
        if refused.tries > 1 or refused.node != self._life.node:
            refused.state = _State.DOUBTFUL
            self._again = True
            return
        for key in [key for key, sent in self._sent.items() if _follows(sent, refused)]:
            self._settle(self._sent.pop(key), full)
        self._refuse_waiting(full.message)
        self._begin_anew()

    async def _send_again(self) -> None:
        """Everything under way that is not known to be kept, and all after it, in order."""
        await asyncio.sleep(AGAIN_SECONDS)
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._again = False
        doubtful = False
        for sent in [*self._sent.values()]:
            doubtful = doubtful or sent.state is not _State.KEPT
            if doubtful and (sent.node, sent.number) in self._sent:
                sent.state = _State.SENT
                await self._append(sent)
                if self._again:
                    return

    def _give_up(self) -> None:
        self._forget(UNKNOWN)
        self._refuse_waiting(NOT_SENT)
        self._begin_anew()

    def _refuse_waiting(self, why: str) -> None:
        """It was put behind what was not taken: taken now, it would stand before that once it is
        repeated."""
        for asked in self._waiting:
            answer(asked.answer, JournalUnavailable(why))
        self._waiting.clear()

    def _forget(self, why: str) -> None:
        for sent in self._sent.values():
            self._settle(sent, JournalUnavailable(why, outcome_unknown=True))
        self._sent.clear()

    def _begin_anew(self) -> None:
        """Another life: what is left of the one before must not count any more."""
        old = self._life
        self._life = _Life(fences=(*old.fences, old.node))
        self._again = False


def _follows(sent: _Sent, other: _Sent) -> bool:
    """Whether a message is another one, or stands behind it in the same life."""
    return sent.node == other.node and sent.number >= other.number


def _measure(batch: Batch) -> int:
    """Bytes of a message that the batch takes up, at the most."""
    size = 512
    for record in batch.records:
        size += len(record.data) + 6 * len(record.key) + BESIDE_RECORDS
    for channel, key in batch.expect:
        size += 6 * (len(channel) + len(key)) + 32
    for note in batch.notes:
        size += len(note.value or b"") + 6 * len(note.key) + BESIDE_RECORDS
    return size
