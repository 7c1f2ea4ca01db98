"""The service on a virtual loop, the people around it, and what must be so when all is quiet."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from unittest import mock

from telecast.app import create_app, parts_of
from telecast.channels.catalogue import CHANNELS
from telecast.config import Settings
from telecast.consumers import Name
from telecast.errors import TelecastError
from telecast.fanout.broadcaster import Broadcaster
from telecast.fanout.subscriber import State, Subscriber
from telecast.keys import KeyStore
from telecast.keys.file import Entry as KeyEntry
from telecast.model import Position, Principal, Retention
from telecast.protocol.commands import Start
from telecast.server import Server
from telecast.tape.selection import Selection
from tests.simulation.cable import Cable
from tests.simulation.ground import Errors, kernel_of
from tests.simulation.line import Held, Line, Person
from tests.simulation.truth import LateJournal, Truth
from tests.simulation.virtual import BIRTH, Loop, virtual_world
from tests.support.fakes import wanted
from tests.support.service.live import principal

STALL = 45.0
QUIET = 8.0
"""Seconds after which whoever reads is at the head: a rate of 0.2, 2 s for a position ahead."""
SOME_TURNS = 8
"""Turns in which whatever is due at the moment is done."""
GONE = 135.0
"""Seconds after which nobody who vanished is counted any more: heartbeats, then TCP's timeout."""


class World:
    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.loop = Loop(rng, shuffled=rng.random() < 0.6, glance=rng.choice((0, 0, 2e-5, 5e-4)))
        self.counts = self.loop.counts
        self.truth = Truth()
        self.bytes_of: dict[int, bytes] = {}
        self.cables: list[Cable] = []
        self.lines: list[Line] = []
        self.people: list[Person] = []
        self.secrets: dict[str, str] = {}
        self.draining = False
        self.errors: list[str] = []
        self.acked: dict[Name, int] = {}
        """What was answered to consumers: it must never be lost."""
        self._evicted: list[tuple[Subscriber, TelecastError]] = []
        self._room = rng.choice((600, 3_000, 20_000))
        self._lazy = rng.random() < 0.5
        self._tls = rng.choice((0.0, 0.0, 0.3, 1.0))
        """How many of the connections have TLS."""
        self.files_spent = False
        """The process can open no more files."""
        self._may: dict[str, Principal] = {}
        self._frozen: list[tuple[float, float]] = []
        self.polite = rng.random() < 0.3
        """Nobody goes without a word, so that all that is counted as sent was sent."""
        self.cut_short = False
        """A connection was lost while it was still being sent things."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """The service, opened before and closed after; nothing of it may be left then."""
        loop, world = self.loop, self
        evict, attach, change = Broadcaster.evict, Broadcaster.attach, Broadcaster.change

        def spy_evict(own: Broadcaster, subscriber: Subscriber, fault: TelecastError) -> None:
            if subscriber.state is not State.CLOSED:
                world.on_evict(subscriber, fault)
            evict(own, subscriber, fault)

        def spy_attach(own: Broadcaster, subscriber: Subscriber, start: Start) -> None:
            if line := world.line_of(subscriber):
                line.laws.attached(subscriber.selection, start)
                world.goes_on_where_it_acknowledged(line, start)
            attach(own, subscriber, start)

        def spy_change(
            own: Broadcaster,
            subscriber: Subscriber,
            selection: Selection,
            *,
            fresh: tuple[str, ...] | None = None,
            start: Start | None = None,
        ) -> None:
            line = world.line_of(subscriber)
            if line is not None and subscriber.state is not State.CLOSED:
                line.laws.changed(selection, fresh, start)
            change(own, subscriber, selection, fresh=fresh, start=start)

        loggers = [logging.getLogger(name) for name in ("telecast", "aiohttp.server")]
        with (
            virtual_world(loop, self.rng),
            kernel_of(loop, lambda: self.files_spent),
            mock.patch.object(Broadcaster, "evict", spy_evict),
            mock.patch.object(Broadcaster, "attach", spy_attach),
            mock.patch.object(Broadcaster, "change", spy_change),
        ):
            heard = Errors(loop)
            for logger in loggers:
                logger.addHandler(heard)
            try:
                self._open()
                yield
                self._close()
            finally:
                for logger in loggers:
                    logger.removeHandler(heard)
                # After a failure: what is still at work must not die within the next schedule.
                for task in tuple(loop.tasks):
                    task.cancel()
                with suppress(Exception):
                    loop.turn()
                    loop.turn()
                loop.close()

    def _open(self) -> None:
        rng, loop = self.rng, self.loop
        now = lambda: BIRTH + loop.time()  # noqa: E731
        self.publisher = principal("publisher")
        self.rights = {
            "free": principal("free"),
            "forced": principal("forced", forced={"traderId": frozenset({"t0", "t1"})}),
            "some": principal("some", channels=("positions", "risk-*", "market-data")),
        }
        keys, self.secrets = KeyStore.of(self.publisher, *self.rights.values(), now=now)
        self.keys = keys
        self._key_entries = dict(keys._entries)
        self._may = {each.key_id: each for each in self.rights.values()}
        retention = Retention(events=rng.choice((4, 12, 60)), seconds=rng.choice((20.0, 3600.0)))
        self.journal = LateJournal(
            dict.fromkeys(CHANNELS, retention),
            rng=rng,
            truth=self.truth,
            now=now,
            turns=lambda: loop.turns,
            slowness=rng.choice((0.0, 0.002, 0.3, 2.0)),
        )
        settings = Settings(
            port=0,
            tape_events=rng.choice((3, 8, 30)),
            drain_seconds=rng.choice((0.0, 2.0)),
            stall_seconds=STALL,
            max_connections_per_key=6,
        )
        app = create_app(
            settings, keys=keys, journal=self.journal, secret=rng.randbytes(32), now=now
        )
        self.server = Server(app, settings)
        loop.run_until_complete(self.server._runner.setup())
        self._receive = self.server._receiver()
        self.own = parts_of(app)
        self.tape = self.own.broadcaster.tape
        self.epoch = self.journal.epoch
        recheck = self.own.clients.recheck

        async def spy_recheck() -> None:
            await recheck()
            for key_id in self._may:
                current = keys.current(key_id)
                if current is not None:
                    self._may[key_id] = current

        self.own.clients.recheck = spy_recheck  # type: ignore[method-assign]
        loop.turn()
        self._workers = len(loop.tasks)

    def _close(self) -> None:
        loop, own = self.loop, self.own
        self.draining = True
        loop.run_until_complete(self.server.__aexit__(None, None, None))
        loop.run_for(1.0)
        assert not loop.tasks, f"tasks that nobody ended: {loop.tasks}"
        assert own.broken is None, own.broken
        self.nobody_is_left()
        self.all_is_counted()
        self.no_acknowledged_position_is_lost()

    # --- what the laws ask

    def line_of(self, subscriber: Subscriber) -> Line | None:
        """Whose subscriber this is; None where the connection was lost before its welcome."""
        mine = (line for line in self.lines if line.connection_id == subscriber.connection_id)
        return next(mine, None)

    def on_tape(self) -> set[int]:
        return {event.seq for log in self.tape.logs.values() for event in log.since(0)}

    def in_journal(self) -> set[int]:
        return set(range(1, self.journal.head + 1)) - self.truth.gone

    def was_ahead(self, seq: int) -> bool:
        """Whether a position was still ahead of the service, but for the last few turns."""
        heard = self.journal.heard_at
        return seq > len(heard) or heard[seq - 1] > self.loop.turns - SOME_TURNS

    def leftover(self, seq: int) -> bool:
        """A row that was kept because it lived, and only waits for the next trim."""
        whole_from = self.journal.inner.floors()[self.truth[seq].channel].whole_from
        superseded = self.truth.next[seq] <= self.journal.head
        return seq <= whole_from and superseded and seq not in self.on_tape()

    def may_see(self, key_id: str, seq: int) -> None:
        """The rights of its key hold for each event, a recheck after they changed."""
        entry = self.truth[seq]
        for rights in (self._may[key_id], self.keys.current(key_id)):
            if rights is None or not rights.reaches(entry.channel):
                continue
            forced = tuple(
                (name, values)
                for name, values in rights.forced.items()
                if name in CHANNELS[entry.channel].filters
            )
            if wanted(Selection({entry.channel: forced}), entry.channel, self.truth.row(seq)):
                return
        raise AssertionError(f"{entry} is not for the key {key_id}")

    def on_evict(self, subscriber: Subscriber, fault: TelecastError) -> None:
        """Nobody is ended who has not earned it."""
        self.counts["evicted " + fault.code] += 1
        now = self.loop.time()
        try:
            line = self.line_of(subscriber)
            if line is None:
                return
            cable, person = line.cable, line.person
            match fault.code:
                case "NO_PROGRESS":
                    since = now - cable.taken_at
                    assert since >= STALL * 8 / 9 - 0.1 or cable.hung_up, f"it read {since:g} s ago"
                case "NO_SIGN_OF_LIFE":
                    # What came in this very turn has not been read yet.
                    heard = cable.sent_before if now - cable.sent_at < 0.05 else cable.sent_at
                    since = now - heard
                    assert since >= 3 * person.heartbeat - 0.1, f"it spoke {since:g} s ago"
                case "REPLACED":
                    assert person.client_id is not None
                case "FORBIDDEN" | "UNAUTHENTICATED":
                    assert self.counts["rights"]
                case "OVERLOADED":
                    assert self.journal.faults
                case "SHUTTING_DOWN":
                    assert self.draining
                case "TOO_MANY_BAD_MESSAGES" | "TOO_MANY_ACTIONS":
                    assert line.misbehaved
                case _:
                    raise AssertionError(f"ended with {fault!r}")
        except AssertionError as broken:
            self.loop.fail(broken)

    def answered(self, line: Line, position: Position) -> None:
        """An acknowledgement was answered: it is durable, and not beyond what was committed."""
        assert line.person.client_id is not None, "nobody's position is kept"
        name = Name(line.person.key_id, line.person.client_id)
        kept = self.own.consumers.get(name)
        assert kept is not None
        assert position.seq <= kept.position.seq <= self.truth.head
        assert position.seq >= self.acked.get(name, 0), "an acknowledged position went back"
        self.acked[name] = position.seq
        self.counts["acknowledged"] += 1

    def goes_on_where_it_acknowledged(self, line: Line, start: Start) -> None:
        if line.query.get("since") != "acked" or line.person.client_id is None:
            return
        name = Name(line.person.key_id, line.person.client_id)
        if name in self.acked:
            assert start.position is not None, "what was acknowledged is lost"
            assert start.position.seq >= self.acked[name]
            self.counts["from acknowledged"] += 1

    def no_acknowledged_position_is_lost(self) -> None:
        for name, seq in self.acked.items():
            kept = self.own.consumers.get(name)
            assert kept is not None
            assert kept.position.seq >= seq
        self.counts["consumers"] += len(self.acked)

    # --- what happens

    def dial(
        self,
        person: Person,
        transport: str,
        *,
        held: Held | None = None,
        partial: bool = False,
        since: str | None = None,
        late: bool = False,
        header: bool = False,
    ) -> Line:
        """Connect. `late`: without channels, which a subscribe names; `header`: Last-Event-ID."""
        query: dict[str, Any] = {"heartbeat": person.heartbeat, "delivery": person.delivery}
        if person.max_rate is not None:
            query["maxRate"] = person.max_rate
        if person.client_id is not None:
            query["clientId"] = person.client_id
        if not late:
            query["channels"] = ",".join(person.channels)
            query |= {name: list(values) for name, values in person.fields.items()}
        since = held.position if held is not None else since
        if since is not None and not header:
            query["since"] = since
        if partial:
            query["replay"] = "false"
        tls = self.rng.random() < self._tls
        cable = Cable(
            self.loop,
            self.rng,
            number=len(self.cables),
            address=f"10.0.0.{len(self.people)}",
            room=self._room,
            lazy=self._lazy,
            tls=tls,
        )
        self.cables.append(cable)
        self.counts["connections"] += 1
        self.counts["connections with TLS"] += tls
        if held is not None:
            self.counts["resumes"] += 1
        self.loop.note("dial", person.name, transport, query)
        line = Line(
            self,
            person,
            transport,
            cable,
            query,
            held=held,
            last_event_id=since if header else None,
            earliest=since == "earliest",
            hasty=self.rng.random() < 0.2,
        )
        self.lines.append(line)
        cable.on_loss = lambda: self._on_loss(line)
        cable.accept(self._receive)
        person.line = line
        if late:
            line.say(
                as_ever=True,
                action="subscribe",
                channels=person.channels,
                filter=self._filter(person),
            )
        return line

    def _on_loss(self, line: Line) -> None:
        unanswered = line.status is None
        if unanswered or line.connection_id in self.own.broadcaster.subscribers:
            self.cut_short = True

    def _filter(self, person: Person) -> dict[str, list[str]]:
        return {name: list(values) for name, values in person.fields.items()}

    def publish(self, channel: str, rows: list[dict[str, Any]], **how: Any) -> asyncio.Task[Any]:
        async def publishing() -> None:
            try:
                done = await self.own.ingress.publish(self.publisher, channel, rows, **how)
            except TelecastError as fault:
                self.counts["refused " + fault.code] += 1
                return
            receipt = done.receipt
            assert self.tape.head >= receipt.last_seq, "answered before it can be read"
            if receipt.count:
                self.counts["published"] += receipt.count
                assert self.truth[receipt.last_seq].channel == channel

        return self.loop.create_task(publishing())

    def withdraw(self, channel: str, key: str) -> None:
        async def withdrawing() -> None:
            try:
                await self.own.ingress.withdraw(self.publisher, channel, key)
            except TelecastError as fault:
                self.counts["refused " + fault.code] += 1

        self.loop.create_task(withdrawing())

    def set_rights(self, name: str, **rights: Any) -> None:
        """Change what a key may do; `revoked` takes it away."""
        self.counts["rights"] += 1
        was = self.rights[name]
        entries = dict(self.keys._entries)
        if rights.pop("revoked", False):
            entries.pop(was.key_id, None)
        else:
            before = self._key_entries[was.key_id]
            entries[was.key_id] = KeyEntry(replace(was, **rights), before.sha256)
        self.keys._entries = entries

    def cancel(self, line: Line, turns: int) -> None:
        """Cancel what answers a request, wherever it then stands."""
        loop = self.loop

        def act() -> None:
            # Not the task that waits for requests: nobody but aiohttp itself ever cancels that.
            transport = line.cable.transport
            for task in () if transport is None else loop.tasks_of(transport.get_protocol()):
                if task.get_coro().__name__ == "_handle_request":
                    self.counts["cancellations"] += 1
                    task.cancel()

        loop.after_turns(turns, act)

    def freeze(self, seconds: float) -> None:
        """The whole process stands still."""
        self.counts["freezes"] += 1
        self.loop.spend(seconds)
        self._frozen.append((self.loop.time(), seconds))

    def _awake_since(self, then: float) -> float:
        """Seconds in which the process ran."""
        return self.loop.time() - then - sum(took for at, took in self._frozen if at > then)

    # --- what must be so

    def heal(self) -> None:
        """No more faults; whoever stalled reads again."""
        self.files_spent = False
        self.journal.calm()
        for line in self.lines:
            line.deaf = False
            line.cable.eat(None)

    def quiet(self) -> None:
        """After some peace everybody who reads is at the head and holds what there is."""
        self.loop.run_for(QUIET)
        assert self.own.broken is None, self.own.broken
        assert self.tape.head == self.truth.head == self.journal.head
        assert self.own.ingress.backlog == (0, 0)
        broadcaster, until = self.own.broadcaster, self.loop.time() + 1.0
        for subscriber in tuple(broadcaster.subscribers.values()):
            line = self.line_of(subscriber)
            assert line is not None
            if subscriber.state is State.FULL:
                still = self._awake_since(max(line.cable.taken_at, line.cable.handed_at))
                assert still < STALL + 2 * STALL / 9 + 1, f"nothing was taken for {still:g} s"
            if line.over or line.cable.appetite is not None:
                continue
            assert subscriber.state is State.LIVE, f"{subscriber.state} after {QUIET:g} s of peace"
            assert broadcaster.position(subscriber).seq == self.tape.head
            while line.cable.taken < line.cable.handed:  # a heartbeat is on its way
                assert self.loop.time() < until, "not all has arrived"
                self.loop.run_for(0.01)
            line.laws.rest()
            line.holds(subscriber.selection, self.tape.head)
            self.counts["at the head"] += 1

    def the_gone_are_gone(self) -> None:
        """Who vanished is counted no more; who is there still is."""
        self.loop.run_for(GONE)
        there = {
            line.connection_id
            for line in self.lines
            if line.connection_id is not None and not line.over and not line.cable.lost
        }
        assert {client.connection_id for client in self.own.clients} == there
        assert set(self.own.broadcaster.subscribers) == there

    def nobody_is_left(self) -> None:
        own = self.own.broadcaster
        left = {
            "clients": len(self.own.clients),
            "connections": sum(self.own.clients.connections().values()),
            "keys": len(self.own.clients._by_key) + len(self.own.clients._by_address),
            "subscribers": len(own.subscribers),
            "cohorts": len(own._cohorts),
            "index": len(own._index),
            "ahead": len(own._ahead),
            "fetches": len(own._fetcher),
            "due": len(own._flusher._due),
            "ready": sum(each.state is not State.CLOSED for each in own._ready),
            "sockets": len(self.own.admission),
            "streams": len(self.own.streams),
        }
        assert not any(left.values()), left
        for cable in self.cables:
            assert cable.lost, f"cable {cable.number} hangs"

    def all_is_counted(self) -> None:
        """What the metrics say was sent is what was sent."""
        tally = self.own.broadcaster.tally
        for transport in ("ws", "sse"):
            said = tally.backfilled[transport] + sum(
                count for (_, at), count in tally.delivered.items() if at == transport
            )
            seen = sum(line.laws.events for line in self.lines if line.transport == transport)
            assert said >= seen if self.cut_short else said == seen, (
                f"{transport}: {said} for {seen}"
            )
            self.counts["events"] += seen
        evicted = {name[8:]: n for name, n in self.counts.items() if name.startswith("evicted ")}
        assert dict(tally.evicted) == evicted
        self.counts["counted exactly"] += not self.cut_short
        for line in self.lines:
            self.counts.update({f"sent {kind}": n for kind, n in line.laws.seen.items()})
