"""Owns what consumers have acknowledged: judges it, keeps it, answers once it is durable.

An acknowledgement is cumulative, so of each consumer only the highest counts, and all that come
within a second are written as one: the disk does the same however many acknowledge, and however
often. What is answered has been committed before, so an answered position is never lost. What was
not answered may be lost, and then the consumer gets the same events again. This would break it: an
answer before the commit; an older position that is written after a newer one and stays (`run`
writes the highest, and what another node wrote lower is written over); a position beyond what was
delivered, which skips events for good.
See docs/protocol.md, section 7, tests/unit/consumers/test_consumers.py, and the simulation.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from telecast.consumers.consumer import Consumer, Name, Standing
from telecast.consumers.standings import Standings
from telecast.errors import Code, JournalUnavailable, OwnFault, PeerFault
from telecast.journal.ageing import Ageing, monotonic
from telecast.journal.base import MAX_BATCH, Batch, Journal, Note
from telecast.journal.books import follow_book
from telecast.model import Floor, Position
from telecast.turns import in_turns

log = logging.getLogger(__name__)

BOOK = "consumer"
FLUSH_SECONDS = 1.0
"""Between two writes for all consumers together."""
KEPT_SECONDS = 30 * 24 * 3600
"""A consumer that has acknowledged nothing for so long, and is not connected, is forgotten."""
REFRESH_SECONDS = 24 * 3600
"""A repeated position is written again after so long: who acknowledges it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerLimits:
    most: int
    most_per_key: int


class Consumers:
    def __init__(
        self,
        journal: Journal,
        *,
        limits: ConsumerLimits,
        now: Callable[[], float],
        elapsed: Callable[[], float] = monotonic,
    ) -> None:
        """`now` gives seconds since 1970, `elapsed` seconds of monotonic time."""
        self.answered: Counter[str] = Counter()
        """What came of acknowledgements: "committed", or the code of the error."""
        self._journal = journal
        self._limits = limits
        self._now = now
        self._elapsed = elapsed
        self._ageing = Ageing(aloud=False)
        """Nobody is forgotten because the clock is wrong for a while."""
        self._kept: dict[Name, Consumer] = {}
        """What is durable."""
        self._asked: dict[Name, Consumer] = {}
        """What is to be written next."""
        self._writing: dict[Name, Consumer] = {}
        """What is being written."""
        self._waiting: dict[Name, list[asyncio.Future[Consumer]]] = {}
        self._per_key: Counter[str] = Counter()
        self._delivered: dict[Name, int] = {}
        """What ended connections had been sent: of the last ones of so many names."""
        self._before_start = 0
        """What was committed before this start may have been delivered by then."""
        self._wanted = asyncio.Event()
        self._standings = Standings()
        self._warned = ""

    # --- what others ask

    async def open(self) -> None:
        """Read what is kept. Raises OwnFault."""
        self._before_start = self._journal.head
        await follow_book(self._journal, BOOK, self._take)
        newest = max((each.at / 1000 for each in self._kept.values()), default=None)
        self._ageing.start(self._now(), self._elapsed(), newest)

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: Name) -> Consumer | None:
        """What is durable of it."""
        return self._kept.get(name)

    def after(self, name: Name | None) -> list[Consumer]:
        """Those whose names come after this one, in the order of the names."""
        names = sorted(each for each in self._kept if name is None or each > name)
        return [self._kept[each] for each in names]

    def standing(self, name: Name) -> Standing:
        """As of the last look."""
        return self._standings.of(name)

    def count(self, standing: Standing) -> int:
        return self._standings.count(standing)

    def most_behind(self) -> int:
        """The largest lag of all, in events of all channels."""
        head = self._journal.head
        return max((head - each.position.seq for each in self._kept.values()), default=0)

    # --- acknowledgements come in

    def acknowledge(
        self, name: Name, position: Position, *, delivered: int | None, channels: Iterable[str]
    ) -> asyncio.Future[Consumer]:
        """Everything up to here has been handled; the future ends once that is durable.

        `delivered` is what its open connections have been sent, None where there is none. Raises
        PeerFault: POSITION_UNKNOWN, ACK_AHEAD, CLIENT_NOT_FOUND, TOO_MANY_CONSUMERS.
        """
        try:
            return self._acknowledge(name, position, delivered, tuple(channels))
        except PeerFault as fault:
            self.answered[fault.code] += 1
            raise

    def _acknowledge(
        self, name: Name, position: Position, delivered: int | None, channels: tuple[str, ...]
    ) -> asyncio.Future[Consumer]:
        known = self._asked.get(name) or self._writing.get(name) or self._kept.get(name)
        self._check(name, position, delivered, known)
        if known is not None and known.position.epoch == position.epoch:
            position = max(position, known.position, key=_seq)
        future: asyncio.Future[Consumer] = asyncio.get_running_loop().create_future()
        now = int(self._ageing.at(self._now(), self._elapsed()).after * 1000)
        kept = self._kept.get(name)
        if (
            kept is not None
            and kept.position == position
            and name not in self._asked
            and now - kept.at < REFRESH_SECONDS * 1000
        ):
            future.set_result(kept)
            self.answered["committed"] += 1
            return future
        if known is None:
            self._admit(name)
        channels = channels or (known.channels if known is not None else ())
        self._asked[name] = Consumer(name, position, now, channels)
        self._waiting.setdefault(name, []).append(future)
        self._wanted.set()
        return future

    def _check(
        self, name: Name, position: Position, delivered: int | None, known: Consumer | None
    ) -> None:
        epoch = self._journal.epoch
        if position.epoch != epoch:
            raise PeerFault(
                Code.POSITION_UNKNOWN,
                f"{position} is of another journal: positions of this one begin with {epoch}.",
                {"position": str(position), "epoch": epoch},
            )
        before = self._delivered.get(name)
        if delivered is None and before is None and known is None:
            raise PeerFault(
                Code.CLIENT_NOT_FOUND,
                f"No client {name.client_id!r} has been connected with this key.",
            )
        most = max(delivered or 0, before or 0, self._before_start if known is not None else 0)
        if position.seq > most:
            raise PeerFault(
                Code.ACK_AHEAD,
                f"{position} is ahead of what was delivered to this client: {epoch}:{most}.",
                {"position": str(position), "delivered": f"{epoch}:{most}"},
            )

    def _admit(self, name: Name) -> None:
        limits = self._limits
        unsaved = (self._asked.keys() | self._writing.keys()) - self._kept.keys()
        of_key = self._per_key[name.key_id] + sum(each.key_id == name.key_id for each in unsaved)
        for setting, most, has in (
            ("max_consumers", limits.most, len(self._kept) + len(unsaved)),
            ("max_consumers_per_key", limits.most_per_key, of_key),
        ):
            if has >= most:
                raise PeerFault(
                    Code.TOO_MANY_CONSUMERS, f"{setting} ({most}) is reached.", {setting: most}
                )

    def ended(self, name: Name, delivered: int) -> None:
        """A connection of this name is over, and had been sent everything up to this seq."""
        delivered = max(delivered, self._delivered.pop(name, 0))
        if len(self._delivered) >= self._limits.most:
            del self._delivered[next(iter(self._delivered))]
        self._delivered[name] = delivered

    # --- they are written

    async def run(self) -> None:
        """Write what was asked, once a second at the most, until cancelled."""
        loop = asyncio.get_running_loop()
        written = float("-inf")
        try:
            while True:
                await self._wanted.wait()
                await asyncio.sleep(max(0.0, written + FLUSH_SECONDS - loop.time()))
                written = loop.time()
                self._wanted.clear()
                await self._flush()
        finally:
            fault = OwnFault(Code.SHUTTING_DOWN, "The service is going down.")
            for futures in self._waiting.values():
                _fail(futures, fault)
            self._waiting.clear()

    async def _flush(self) -> None:
        self._writing, self._asked = self._asked, {}
        waiting, self._waiting = self._waiting, {}
        consumers = [self._highest(each) for each in self._writing.values()]
        for start in range(0, len(consumers), MAX_BATCH):
            some = consumers[start : start + MAX_BATCH]
            notes = tuple(Note(BOOK, str(each.name), each.as_note()) for each in some)
            try:
                await self._journal.append(Batch(notes=notes))
            except JournalUnavailable as fault:
                self._put_back(some, waiting, fault)
            except BaseException:
                self._waiting = waiting | self._waiting  # `run` ends them
                raise
            else:
                self._warned = ""
                for each in some:
                    futures = waiting.pop(each.name, [])
                    self.answered["committed"] += len(futures)
                    for future in futures:
                        if not future.done():
                            future.set_result(each)
        self._writing = {}

    def _highest(self, asked: Consumer) -> Consumer:
        """What was written since it was asked may be higher: positions never go back."""
        kept = self._kept.get(asked.name)
        if kept is None or kept.position.epoch != asked.position.epoch:
            return asked
        return replace(asked, position=max(kept.position, asked.position, key=_seq))

    def _put_back(
        self,
        some: Iterable[Consumer],
        waiting: dict[Name, list[asyncio.Future[Consumer]]],
        fault: JournalUnavailable,
    ) -> None:
        """They are written with the next; who waits gets an error."""
        if fault.message != self._warned:
            log.warning("acknowledgements are not written", extra={"reason": fault.message})
        self._warned = fault.message
        for each in some:
            futures = waiting.pop(each.name, [])
            self.answered[fault.code] += len(futures)
            # Not the fault's own words: they name the operator's files.
            _fail(futures, OwnFault(fault.code, "The journal takes no acknowledgements just now."))
            newer = self._asked.get(each.name)
            if newer is None or newer.position.seq < each.position.seq:
                self._asked[each.name] = each
        self._wanted.set()

    def _take(self, note: Note) -> None:
        """A note has committed, here or at another node."""
        if note.value is None:
            self._drop(Name.parse(note.key))
            return
        consumer = Consumer.of_note(note.key, note.value)
        kept = self._kept.get(consumer.name)
        if kept is not None and _behind(consumer.position, kept.position):
            # Two nodes wrote at once, and the lower one came last: it must not stay in the book.
            if consumer.name not in self._asked:
                self._asked[consumer.name] = kept
                self._wanted.set()
            return
        self._keep(consumer)

    def _keep(self, consumer: Consumer) -> None:
        if consumer.name not in self._kept:
            self._per_key[consumer.name.key_id] += 1
        self._kept[consumer.name] = consumer

    def _is_asked(self, name: Name) -> bool:
        return name in self._asked or name in self._writing

    async def forget(self, name: Name) -> bool:
        """Whether there was one. Raises OwnFault, and then it is still there."""
        self._asked.pop(name, None)
        _fail(
            self._waiting.pop(name, []),
            PeerFault(Code.CLIENT_NOT_FOUND, "An operator has had this consumer forgotten."),
        )
        if name not in self._kept and name not in self._writing:
            return False
        await self._journal.append(Batch(notes=(Note(BOOK, str(name), None),)))
        return True

    def _drop(self, name: Name) -> None:
        if self._kept.pop(name, None) is not None:
            self._per_key[name.key_id] -= 1
        self._standings.drop(name)
        self._delivered.pop(name, None)

    # --- they are watched

    async def look(self, floors: Mapping[str, Floor], online: Callable[[Name], bool]) -> None:
        """Warn of those whom retention comes near, and forget those who are gone for good."""
        oldest = (self._ageing.at(self._now(), self._elapsed()).before - KEPT_SECONDS) * 1000
        aged: list[Name] = []
        await in_turns(self._look(floors, oldest, aged))
        gone = [
            name
            for name in aged[:MAX_BATCH]
            if name in self._kept
            and self._kept[name].at < oldest
            and not self._is_asked(name)
            and not online(name)
        ]
        if gone:
            with suppress(JournalUnavailable):  # else at the next look
                await self._journal.append(
                    Batch(notes=tuple(Note(BOOK, str(name), None) for name in gone))
                )

    def _look(self, floors: Mapping[str, Floor], oldest: float, aged: list[Name]) -> Iterator[None]:
        head, epoch = self._journal.head, self._journal.epoch
        for name, consumer in tuple(self._kept.items()):
            if name in self._kept:
                self._standings.look(consumer, floors, head, epoch)
            if consumer.at < oldest:
                aged.append(name)
            yield


def _behind(position: Position, other: Position) -> bool:
    return position.epoch == other.epoch and position.seq < other.seq


def _seq(position: Position) -> int:
    return position.seq


def _fail(futures: Iterable[asyncio.Future[Consumer]], fault: OwnFault | PeerFault) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(type(fault)(fault.code, fault.message, fault.details))
