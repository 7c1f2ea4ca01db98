"""The judge is judged: each bug that is planted in the service is caught, and named for what it is.

One scenario for all: publishers and subscribers over both transports; a stall, absences,
newcomers amid a storm, a trim, a disk that dies in the middle of commits, a journal that is
lost. Without a bug it has no flaws. The table in docs/design/guarantees.md is this module's, and
is held against it.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import re
import sqlite3
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import aiohttp
import orjson
import pytest

import telecast.ingress.committer as committer
import telecast.ingress.ingress as ingress
import telecast.journal.sqlite.schema as schema
import telecast.tasks as service_tasks
from telecast.channels.catalogue import CHANNELS
from telecast.errors import TelecastError
from telecast.fanout import backfill, cohort
from telecast.fanout.backfill import Backfill
from telecast.fanout.broadcaster import Broadcaster
from telecast.fanout.floors import Floors
from telecast.fanout.pending import RatedPending
from telecast.fanout.subscriber import State
from telecast.journal.base import Idempotency, Receipt
from telecast.journal.books import notes_of
from telecast.journal.group import Group
from telecast.journal.sqlite.journal import SqliteJournal
from telecast.journal.sqlite.store import Store
from telecast.journal.sqlite.writer import Committed, Trim, Writer
from telecast.keys import KeyStore
from telecast.model import Event, Retention
from telecast.net import wire
from telecast.tape import channel_log, compacted
from telecast.tape.channel_log import ChannelLog
from telecast.tape.chunks import Chunks
from telecast.tape.selection import Selection
from telecast.tape.tape import Tape
from tests.support.checking.history import Change, History, Kind, Publish, number
from tests.support.checking.judge import check, flaws
from tests.support.checking.traffic import (
    PINS,
    Desk,
    Ledger,
    Listener,
    by_ws,
    kept,
    post,
    say_end,
    working,
)
from tests.support.payloads import Payload, price
from tests.support.service.live import Live, principal, served

SEED = 20_261_122
GUARANTEES = Path(__file__).parents[2] / "docs" / "design" / "guarantees.md"
TAPE_EVENTS = 30
KEPT_PRICES = 60
BIG = 300
"""Prices in one batch: more than a socket with a small buffer takes while nobody reads it."""
SMALL = 4_096
MOST_SECONDS = 300
LATE = 5.0
"""Seconds after which one who has not heard the end is taken not to hear it: for bugs alone."""

MISSED = 5
"""Events that come between a replay and a registration that is too late."""
QUIET_LOOKS = 20
"""Looks at the head, 10 ms apart, after which nobody publishes just now."""

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, slots=True)
class Bug:
    """What is wrong, what the judge must call it, and how it gets into the service."""

    what: str
    verdict: Kind
    plant: Plant


BUGS: dict[str, Bug] = {}


def bug(what: str, verdict: Kind) -> Callable[[Plant], Plant]:
    def planted(plant: Plant) -> Plant:
        BUGS[plant.__name__] = Bug(what, verdict, plant)
        return plant

    return planted


# --- what is planted: the journal


Heard = SimpleQueue[tuple[str, int]]
"""(epoch, last seq) of each answer, once the publisher has it."""


def _eagerly(heard: Heard | None) -> Callable[[Writer, Store], None]:
    """The writer's loop, which says that a group is committed before it is.

    With `heard` it answers as well, and commits once that has been heard.
    """

    def serve(self: Writer, store: Store) -> None:
        while (job := self._next(store)) is not None:
            if isinstance(job, Trim):
                self._send(self._trim(store, job))
                continue
            jobs = self._gather(job)
            group = store.group([job.batch for job in jobs], self._times())
            answers: list[Any] = []
            for each in jobs:
                try:
                    answers.append((each.answer, group.add(each.batch)))
                except TelecastError as refusal:
                    answers.append((each.answer, refusal))
            if store.failed is None:
                early = [] if heard is None else answers
                self._send(Committed(early, tuple(group.entries), (), group.head, None, None))
                for each, (_, reported) in zip(jobs, early, strict=False):
                    # What the service itself publishes, nobody hears of.
                    while each.batch.idempotency is not None and isinstance(reported, Receipt):
                        if heard.get(timeout=MOST_SECONDS) == (store.epoch, reported.last_seq):
                            break
            try:
                store.commit(group)
            except TelecastError as fault:
                answers = [(each.answer, fault) for each in jobs]
            notes = notes_of(group.notes.items())
            self._send(Committed(answers, (), notes, store.head, store.full, store.failed))

    return serve


@bug("a publish is acknowledged before it is committed", "lost")
def acknowledged_before_commit(patch: pytest.MonkeyPatch) -> None:
    heard: Heard = SimpleQueue()
    acknowledge = History.acknowledge

    def noted(self: History, publish: Publish, epoch: str, last_seq: int) -> None:
        acknowledge(self, publish, epoch, last_seq)
        heard.put((epoch, last_seq))

    patch.setattr(History, "acknowledge", noted)
    patch.setattr(committer, "GROUP", 1)  # else answers wait for those that came with them
    patch.setattr(Writer, "_serve", _eagerly(heard))


@bug("an event is broadcast before it is committed", "reused")
def broadcast_before_commit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Writer, "_serve", _eagerly(None))


@bug("a new journal keeps the epoch of the old one", "reused")
def epoch_not_changed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(schema, "new_epoch", lambda: "sameagain")


# --- what is planted: idempotency


@bug("publishes with the same body are taken for one", "lost")
def deduplicated_by_body(patch: pytest.MonkeyPatch) -> None:
    asked = ingress._asked

    def by_body(checked: Any, *rest: Any) -> Any:
        digest = hashlib.sha256(b"".join(row.data for row in checked.rows)).digest()
        return replace(asked(checked, *rest), idempotency=Idempotency(digest.hex(), digest))

    patch.setattr(ingress, "_asked", by_body)


@bug("an idempotency key belongs to nobody in particular", "lost")
def idempotency_key_of_everybody(patch: pytest.MonkeyPatch) -> None:
    asked = ingress._asked
    nobody = principal("nobody")

    def of_everybody(checked: Any, who: Any, *rest: Any) -> Any:
        return replace(asked(checked, nobody, *rest), principal=who)

    patch.setattr(ingress, "_asked", of_everybody)


@bug("an idempotency key is forgotten at once", "repeated")
def idempotency_key_forgotten(patch: pytest.MonkeyPatch) -> None:
    asked = ingress._asked
    numbers = itertools.count()

    def forgetful(checked: Any, who: Any, key: str | None, *rest: Any) -> Any:
        return asked(checked, who, key and f"{key}-{next(numbers)}", *rest)

    patch.setattr(ingress, "_asked", forgetful)


# --- what is planted: tape and catch-up


@bug("the tape is cut on the wrong side: one too early", "repeated")
def tape_one_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(channel_log, "bisect_right", bisect_left)


@bug("the tape is cut on the wrong side: one too late", "lost")
def tape_one_late(patch: pytest.MonkeyPatch) -> None:
    right = channel_log.bisect_right
    patch.setattr(
        channel_log, "bisect_right", lambda events, after, **how: right(events, after + 1, **how)
    )


@bug("a resume repeats the last event", "repeated")
def resume_repeats(patch: pytest.MonkeyPatch) -> None:
    begin = Backfill.begin

    def early(self: Backfill, subscriber: Any, start: Any) -> None:
        begin(self, subscriber, start)
        if subscriber.catchup.resume is not None:
            subscriber.catchup.cursor = max(0, subscriber.catchup.cursor - 1)

    patch.setattr(Backfill, "begin", early)


@bug("history is replayed before the subscriber is registered for what comes live", "lost")
def replay_before_registration(patch: pytest.MonkeyPatch) -> None:
    join = Broadcaster._join

    def late(self: Broadcaster, subscriber: Any) -> None:
        replayed, looks = self.tape.head, itertools.count(1)

        def registered() -> None:
            if subscriber.state is not State.QUEUED:
                return
            # Amid a storm something always comes meanwhile; where all is quiet, nothing does.
            if self.tape.head >= replayed + MISSED or next(looks) == QUIET_LOOKS:
                join(self, subscriber)
            else:
                self._scheduler.call_later(0.01, registered)

        if subscriber.selection:
            self._scheduler.call_later(0.01, registered)
        else:
            join(self, subscriber)

    patch.setattr(Broadcaster, "_join", late)


@bug("a filter is forgotten in a catch-up", "phantom")
def filter_forgotten(patch: pytest.MonkeyPatch) -> None:
    read = Tape.read

    def unfiltered(self: Tape, selection: Selection, after: int, **how: Any) -> Any:
        return read(self, Selection(dict.fromkeys(selection.channels, ())), after, **how)

    patch.setattr(Tape, "read", unfiltered)


@bug("rows of a snapshot are used again although they have changed", "stale")
def snapshot_of_yesterday(patch: pytest.MonkeyPatch) -> None:
    shared = Chunks._shared

    def sticky(self: Chunks, key: Any, encode: Any) -> Any:
        return shared(self, key[:4] if key[0] == "rows" else key, encode)

    patch.setattr(Chunks, "_shared", sticky)


@bug("what was trimmed is passed over without a gap", "lost")
def gap_not_sent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Floors, "gaps", lambda *_: [])


@bug("a gap is reported for the whole way to the head", "untrue")
def gap_where_nothing_is_missing(patch: pytest.MonkeyPatch) -> None:
    def always(self: Floors, subscriber: Any, catchup: Any, floor: Any = None) -> Any:
        if subscriber.delivery != "all" or catchup.gap_sent or catchup.cursor >= self._tape.head:
            return []
        return [
            (name, catchup.cursor + 1, self._tape.head) for name in subscriber.selection.channels
        ]

    patch.setattr(Floors, "gaps", always)


# --- what is planted: conflation, cohorts, positions


@bug("conflation keeps the older row", "lost")
def conflation_keeps_the_older(patch: pytest.MonkeyPatch) -> None:
    add = RatedPending.add

    def older(self: RatedPending, event: Event) -> bool:
        at = None if event.pinned else self._newest.get((event.channel, event.key))
        before = None if at is None else self.events[at]
        first = add(self, event)
        if before is not None and at is not None:
            self.events[at] = before
        return first

    patch.setattr(RatedPending, "add", older)


@bug("conflation takes a tombstone for an old row", "stale")
def tombstone_conflated(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ChannelLog, "newest", lambda self, event: self.rows.get(event.key) is event)


@bug("a pinned event is conflated", "lost")
def pins_forgotten(patch: pytest.MonkeyPatch) -> None:
    event = Tape.event
    patch.setattr(Tape, "event", lambda self, entry: replace(event(self, entry), pinned=False))


@bug("a catch-up leaves rows out without a word", "silent")
def conflated_without_a_word(patch: pytest.MonkeyPatch) -> None:
    read = Tape.read
    patch.setattr(Tape, "read", lambda *a, **how: replace(read(*a, **how), conflated=0))
    patch.setattr(Tape, "standing", lambda *_: channel_log.Standing.EXACT)


@bug("what was left out is counted wrongly", "untrue")
def conflation_miscounted(patch: pytest.MonkeyPatch) -> None:
    add = RatedPending.add

    def twice(self: RatedPending, event: Event) -> bool:
        before = len(self._conflated)
        first = add(self, event)
        self._conflated.extend(self._conflated[before:])
        return first

    patch.setattr(RatedPending, "add", twice)


@bug("a cohort forgets how far into a flush a member was sent", "repeated")
def cursor_forgotten_in_a_piece(patch: pytest.MonkeyPatch) -> None:
    fill = Broadcaster._fill

    def forgetful(self: Broadcaster, subscriber: Any) -> None:
        live = subscriber.state is State.LIVE
        flush = self._cohort_of(subscriber)._flush if live else None
        reported = self.position(subscriber).seq if flush is None else flush.batch.since
        fill(self, subscriber)
        subscriber.catchup.cursor = reported

    patch.setattr(Broadcaster, "_fill", forgetful)


@bug("one that fills up goes on with the next flush, not with the next piece", "lost")
def pieces_lost_by_one_who_fills_up(patch: pytest.MonkeyPatch) -> None:
    fill = Broadcaster._fill

    def hasty(self: Broadcaster, subscriber: Any) -> None:
        live = subscriber.state is State.LIVE
        fill(self, subscriber)
        if live:
            subscriber.catchup.cursor = self.tape.head

    patch.setattr(Broadcaster, "_fill", hasty)


@bug("a heartbeat carries the head in place of the client's own position", "ahead")
def heartbeat_ahead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Broadcaster, "position", lambda self, subscriber: self.head)


# --- the scenario


class Disk:
    """Commits of the journal, which fail from a moment on: what follows is as after a kill.

    The first that fails hangs until it is let go: whatever was said of it has time to be heard.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.dies_after: int | None = None
        self.hangs = asyncio.Event()
        self.dead = asyncio.Event()
        self.let_go = threading.Event()
        loop = asyncio.get_running_loop()
        commit = Store.commit

        def committed(store: Store, group: Group) -> None:
            if self.dies_after == 0:
                loop.call_soon_threadsafe(self.hangs.set)
                self.let_go.wait(MOST_SECONDS)
                loop.call_soon_threadsafe(self.dead.set)
                raise store._fault(sqlite3.OperationalError("the disk has died"), wrote=True)
            if self.dies_after is not None:
                self.dies_after -= 1
            commit(store, group)

        patch.setattr(Store, "commit", committed)

    def heal(self) -> None:
        self.dies_after = None


@dataclass
class Venue:
    """A service in this process, which goes and comes back on the same file."""

    file: Path
    up: asyncio.Event = field(default_factory=asyncio.Event)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def __post_init__(self) -> None:
        holders = principal("desk"), principal("other")
        self.keys, issued = KeyStore.of(*holders, now=time.time)
        self.secrets = {holder.name: issued[holder.key_id] for holder in holders}
        self.key = self.secrets["desk"]
        self.headers = {"X-API-Key": self.key}

    async def open(self) -> None:
        keep = {name: Retention(10_000, 1e9) for name in CHANNELS}
        keep["market-data"] = Retention(KEPT_PRICES, 1e9)
        self.live: Live = await self._stack.enter_async_context(
            served(
                keys=self.keys,
                secrets=self.secrets,
                journal=SqliteJournal(self.file, keep),
                tape_events=TAPE_EVENTS,
            )
        )
        self.url = self.live.url
        self.port = int(self.url.rpartition(":")[2])

    async def close(self) -> None:
        self.up.clear()
        await self._stack.aclose()

    async def trim(self) -> None:
        while await self.live.parts.journal.trim():
            pass

    async def rid_of(self, *listeners: Listener) -> None:
        """Have these leave, which they do after a message, until they are asked to come back."""
        for each in listeners:
            each.stays.clear()
        for each in listeners:
            while not each.away.is_set():
                self.beat()
                await asyncio.wait([asyncio.ensure_future(each.away.wait())], timeout=0.05)

    async def heard_by(self, *listeners: Listener) -> None:
        """Wait until these were sent all that the journal says it has."""
        head = self.live.parts.journal.head
        await self.live.until(lambda: all(number(each.positions[-1]) >= head for each in listeners))

    def beat(self) -> None:
        """A heartbeat for everybody, at once."""
        for subscriber in tuple(self.live.parts.broadcaster.subscribers.values()):
            self.live.parts.broadcaster.heartbeat(subscriber)


class Stage:
    """Publishes one thing after the other, and notes what it was answered."""

    def __init__(self, venue: Venue, record: History, chance: random.Random) -> None:
        self.venue = venue
        self.ledger = Ledger(record)
        self.desk = Desk("stage", chance)
        self._record = record
        self._session = aiohttp.ClientSession(headers=venue.headers)

    async def close(self) -> None:
        await self._session.close()

    async def say(
        self,
        reported: tuple[str, list[Payload], Any],
        *,
        who: str = "desk",
        keys: Sequence[str | None] = (None,),
    ) -> None:
        """Publish it once for each key; under a key that it has had already it is repeated."""
        channel, payloads, changes = reported
        made: dict[str | None, Any] = {}
        for key in keys:
            publish = made.get(key) if key else None
            if publish is None:
                publish = made[key] = self._record.publish(f"stage {who}", changes)
            headers = {"Content-Type": "application/json", "X-API-Key": self.venue.secrets[who]}
            if key is not None:
                headers["Idempotency-Key"] = key
            body = orjson.dumps(payloads)
            receipt = await post(self.venue, self._session, channel, body, headers)
            assert receipt is not None
            epoch, _, last = receipt["position"].rpartition(":")
            self._record.acknowledge(publish, epoch, int(last))

    async def otherwise(self, key: str) -> int:
        """Something else under a key that was used; the status."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        url = f"{self.venue.url}/api/v1/channels/market-data/events"
        async with self._session.post(url, json=price("OTHER"), headers=headers) as response:
            if response.status == 201:
                made = self._record.publish("stage otherwise", [])
                made.refused = True
            return response.status

    async def withdraw(self, symbol: str) -> None:
        """A tombstone that nothing pins."""
        key = f"{self.desk.name}:{symbol}"
        (before,) = [self.desk.book.rows.pop(("market-data", key))]
        change = Change("market-data", "delete", key, before)
        made = self._record.publish("stage desk", [change])
        url = f"{self.venue.url}/api/v1/channels/market-data/rows/{key}"
        async with self._session.delete(url) as response:
            receipt = orjson.loads(await response.read())["data"]
        epoch, _, last = receipt["position"].rpartition(":")
        self._record.acknowledge(made, epoch, int(last))

    async def waves(self, count: int) -> None:
        for _ in range(count):
            await self.say(self.desk.one())
            await self.say(self.desk.positions())

    async def prices(self, count: int) -> None:
        """Many at once, of few instruments."""
        symbols = [f"B{number % 7}" for number in range(count)]
        await self.say(self.desk.prices(symbols))


async def scenario(
    file: Path, record: History, patch: pytest.MonkeyPatch, late: float | None = None
) -> tuple[list[BaseException], int]:
    """Play it; what listeners fell over, and the status of a key that was used otherwise.

    Who has not heard the end `late` seconds after it is not waited for any more.
    """
    # All smaller than in production, so that little traffic goes a long way.
    patch.setattr(compacted, "SLACK", 16)
    patch.setattr(
        service_tasks, "TRIM_SECONDS", 3_600.0
    )  # what is trimmed when is the scenario's to say
    patch.setattr(backfill, "CHUNK_BYTES", 8_192)
    patch.setattr(cohort, "PIECE_BYTES", 8_192)
    for name, size in (("HIGH_WATER", 16_384), ("LOW_WATER", 4_096), ("NOTSENT_LOWAT", 16_384)):
        patch.setattr(wire, name, size)
    disk, venue, chance = Disk(patch), Venue(file), random.Random(record.seed)
    await venue.open()
    venue.up.set()

    def apart() -> random.Random:
        return random.Random(chance.random())

    stage = Stage(venue, record, apart())

    def listener(name: str, transport: str, **how: Any) -> Listener:
        how = {
            "first": "snapshot",
            "cuts": (10**6,),
            "appetites": (2**16,),
            "delivery": "conflated",
        } | how
        return Listener(venue, record, name, chance, transports=[transport], **how)

    everything = [
        listener(f"all {transport} {n}", transport, delivery="all", first="earliest")
        for transport in ("ws", "sse")
        for n in (1, 2)
    ]
    mixed = [
        listener("rows", "ws"),
        listener("rows of t1", "sse", traderId="t1"),
        listener("rated", "ws", maxRate=20),
        listener("rated by sse", "sse", maxRate=20),
    ]
    stalling = [
        listener("stalls", "ws", receive_buffer=SMALL),
        listener("stalls on all", "ws", delivery="all", first="earliest", receive_buffer=SMALL),
        listener("stalls on t1", "sse", traderId="t1", receive_buffer=SMALL),
    ]
    leaving = [
        listener("leaves", "ws"),
        listener("leaves t1", "sse", traderId="t1"),
        listener("leaves all", "sse", delivery="all", first="earliest"),
        listener("leaves all by ws", "ws", delivery="all", first="earliest"),
    ]
    newcomers = [
        listener(f"new {n} {transport}", transport) for n in range(4) for transport in ("ws", "sse")
    ]
    tasks: list[asyncio.Task[None]] = []

    async def enter(*those: Listener) -> None:
        tasks.extend(asyncio.create_task(each.listen()) for each in those)
        for each in those:
            await each.live.wait()

    try:
        await stage.waves(2)
        await enter(*everything, *mixed, *stalling, *leaving)
        await stage.waves(6)

        # The same again, and the same by others.
        same = stage.desk.prices(["SAME"])
        await stage.say(stage.desk.one(), keys=("again", "again"))
        await stage.say(same, keys=("one", "two", None))
        await stage.say(same, who="other", keys=("one",))
        status = await stage.otherwise("one")

        # Some stop reading and some leave; meanwhile a lot happens.
        for each in stalling:
            each.reads.clear()
        await venue.rid_of(*leaving)
        for count in (7, BIG, 7):
            await stage.prices(7)
            venue.beat()
            await stage.prices(count)
            await stage.waves(3)
            await stage.withdraw("B3")
        for each in leaving:
            each.stays.set()
        for each in stalling:
            each.reads.set()
        for each in leaving:
            await each.live.wait()

        # They leave again, for as long as the tape remembers.
        await venue.rid_of(*leaving)
        await stage.prices(7)
        await stage.waves(1)
        await stage.withdraw("B5")
        for each in leaving:
            each.stays.set()

        # Some come amid a storm.
        storm = Ledger(record)
        async with working(by_ws(venue, Desk("storm", apart()), storm)):
            for each in newcomers:
                await storm.answers(6)
                tasks.append(asyncio.create_task(each.listen()))
            await storm.answers(12)
            storm.enough = True

        # Some are away while what they miss is trimmed.
        await venue.rid_of(*leaving)
        await stage.prices(2 * KEPT_PRICES)
        await venue.trim()
        for each in leaving:
            each.stays.set()

        # The disk dies amid commits.
        storm = Ledger(record)
        async with working(by_ws(venue, Desk("last storm", apart()), storm)):
            await storm.answers(15)
            disk.dies_after = 2
            await disk.hangs.wait()
            await venue.heard_by(*everything)
            disk.let_go.set()
            await disk.dead.wait()
            await venue.close()
            disk.heal()
            await venue.open()
            # The number that the disk did not take is another's now, before anybody repeats it.
            await stage.prices(1)
            venue.up.set()
            await storm.answers(15)
            storm.enough = True
        epoch, record.kept[epoch] = await kept(venue)

        # The journal is lost.
        await venue.close()
        for leftover in file.parent.glob(f"{file.name}*"):
            leftover.unlink()
        stage.desk.book.rows.clear()
        await venue.open()
        venue.up.set()
        await stage.waves(8)
        await stage.prices(20)
        await say_end(venue, stage.ledger)
        _, deaf = await asyncio.wait(tasks, timeout=late)
        for task in deaf:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        epoch, record.kept[epoch] = await kept(venue)
        return [each for each in ended if each is not None], status
    finally:
        for task in tasks:
            task.cancel()
        disk.let_go.set()
        await stage.close()
        await venue.close()


# --- what the judge says


async def test_without_a_bug_it_has_no_flaws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = History(SEED, PINS)
    async with asyncio.timeout(MOST_SECONDS):
        fallen, status = await scenario(tmp_path / "journal.db", record, monkeypatch)
    assert fallen == []
    check(record)
    assert status == 409
    assert len(record.kept) == 2
    reported = {
        orjson.loads(json)["type"] for session in record.sessions for json, _ in session.heard
    }
    assert reported >= {"snapshot", "resume", "live", "gap", "conflated", "heartbeat"}


@pytest.mark.parametrize("name", BUGS)
async def test_each_bug_is_caught(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = History(SEED, PINS)
    BUGS[name].plant(monkeypatch)
    async with asyncio.timeout(MOST_SECONDS):
        await scenario(tmp_path / "journal.db", record, monkeypatch, LATE)
    found = Counter(flaw.kind for flaw in flaws(record))
    assert BUGS[name].verdict in found, found


def test_the_table_in_the_docs_is_that_of_the_bugs() -> None:
    page = GUARANTEES.read_text("utf-8").partition("## Planted bugs")[2]
    rows = re.findall(r"^\| ([^|]+) \| `(\w+)` \| `(\w+)` \|$", page, re.MULTILINE)
    assert rows == [(bug.what, bug.verdict, name) for name, bug in BUGS.items()]
