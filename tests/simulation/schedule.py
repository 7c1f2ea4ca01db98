"""A seed's schedule: who does what, and when. `run` plays it and returns what came of it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from typing import Any

from telecast.channels.catalogue import CHANNELS
from telecast.ingress.checking import Scope
from tests.simulation.ground import rows_of, small_bounds
from tests.simulation.line import PING, Held, Line, Person
from tests.simulation.world import World

NAMES = ("trader-status", "positions", "risk-alerts", "market-data")
VALUES = {
    "traderId": ("t0", "t1", "t2"),
    "symbol": ("S0", "S1", "BTCUSDT"),
    "exchange": ("X", "Y"),
    "severity": ("WARNING", "CRITICAL"),
}
ACTS = {
    "publish": 30,
    "burst": 4,
    "withdraw": 4,
    "replace": 3,
    "repeat": 2,
    "connect": 14,
    "crowd": 3,
    "storm": 2,
    "command": 12,
    "ack": 8,
    "stall": 6,
    "read": 6,
    "end": 8,
    "cancel": 5,
    "rights": 2,
    "freeze": 2,
    "misbehave": 1,
    "fail": 2,
    "open": 2,
    "quiet": 2,
}
PAUSES = (0.0, 0.0, 0.001, 0.01, 0.05, 0.3, 1.5)


def run(seed: int) -> tuple[str, Counter[str]]:
    """Raises AssertionError where the service breaks its word. (trace, what happened how often)"""
    world = World(seed)
    with small_bounds(), world.running():
        _Schedule(world).play()
    world.counts["schedules"] += 1
    world.counts["turns"] += world.loop.turns
    return world.loop.trace, world.counts


class _Schedule:
    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng
        self._keys: list[tuple[str, str, list[dict[str, Any]]]] = []
        for number in range(self.rng.randint(2, 8)):
            person = self._person(number)
            if number and self.rng.random() < 0.7:
                # The same wish makes one cohort.
                first = world.people[0]
                person = replace(
                    first, name=person.name, client_id=person.client_id, held=deque(maxlen=4)
                )
            world.people.append(person)

    def _person(self, number: int) -> Person:
        rng = self.rng
        name = rng.choice(list(self.world.rights))
        channels = tuple(rng.sample(NAMES, rng.randint(1, 4)))
        fields = {}
        for field in VALUES:
            if rng.random() < 0.25 and any(field in CHANNELS[c].filters for c in channels):
                fields[field] = tuple(rng.sample(VALUES[field], rng.randint(1, 2)))
        delivery = rng.choice(("conflated", "conflated", "all"))
        return Person(
            name=f"{number}",
            key_id=self.world.rights[name].key_id,
            channels=channels,
            fields=fields,
            delivery=delivery,
            max_rate=rng.choice((None, None, "0.2", "1", "5")) if delivery == "conflated" else None,
            heartbeat=rng.choice((5, 7, 15)),
            client_id=f"c{number}" if rng.random() < 0.5 else None,
        )

    def play(self) -> None:
        rng, world = self.rng, self.world
        acts = [act for act in ACTS if not world.polite or act not in ("cancel", "end", "freeze")]
        weights = [ACTS[act] for act in acts]
        for _ in range(rng.randint(15, 90)):
            act = rng.choices(acts, weights)[0]
            getattr(self, "_" + act)()
            pause = rng.choice(PAUSES)
            if rng.random() < 0.03:
                pause = rng.choice((10.0, 30.0, 60.0))
            world.loop.run_for(pause)
        world.heal()
        world.quiet()
        world.the_gone_are_gone()
        world.quiet()
        if rng.random() < 0.6:
            for line in self._lines():
                line.end(
                    rng.choice(("cut", "hang up", "close" if line.transport == "ws" else "cut"))
                )
            world.loop.run_for(90.0)
            world.nobody_is_left()
            assert not len(world.own.broadcaster._wheel._slots), "a timer for nobody"
            assert len(world.loop.tasks) == world._workers, f"{world.loop.tasks}"

    def _lines(self) -> list[Line]:
        return [line for line in self.world.lines if not line.over and not line.cable.lost]

    def _some(self, transport: str | None = None) -> Line | None:
        lines = [line for line in self._lines() if transport in (None, line.transport)]
        return self.rng.choice(lines) if lines else None

    # --- publishers

    def _channel(self) -> str:
        return self.rng.choice(NAMES)

    def _publish(self) -> None:
        channel, rng = self._channel(), self.rng
        rows = rows_of(rng, channel, rng.choice((1, 1, 1, 3, 8)))
        key = None
        if rng.random() < 0.2:
            key = f"k{len(self._keys)}"
            self._keys.append((channel, key, rows))
        task = self.world.publish(channel, rows, idempotency_key=key)
        if rng.random() < 0.1:
            self.world.loop.after_turns(rng.randrange(12), task.cancel)

    def _burst(self) -> None:
        for _ in range(self.rng.randint(5, 25)):
            self._publish()

    def _repeat(self) -> None:
        if self._keys:
            channel, key, rows = self.rng.choice(self._keys)
            self.world.publish(channel, rows, idempotency_key=key)

    def _withdraw(self) -> None:
        channel = self._channel()
        rows = list(self.world.tape.logs[channel].rows)
        if rows:
            self.world.withdraw(channel, self.rng.choice(rows))

    def _replace(self) -> None:
        rng = self.rng
        rows = rows_of(rng, "positions", rng.randrange(3))
        rows = [row | {"traderId": "t0"} for row in {row["id"]: row for row in rows}.values()]
        self.world.publish("positions", rows, replace=Scope("traderId", "t0"))

    # --- those who listen

    def _connect(self) -> None:
        rng = self.rng
        person = rng.choice(self.world.people)
        line = person.line
        if line is not None and not line.over:
            if rng.random() < 0.5 or (self.world.polite and line.transport == "sse"):
                return
            line.end("close" if self.world.polite else rng.choice(("cut", "vanish", "hang up")))
        transport = rng.choice(("ws", "sse"))
        how = rng.random()
        held = self._held(person)
        if held is not None and how < 0.7:
            self.world.dial(
                person, transport, held=held, header=transport == "sse" and rng.random() < 0.5
            )
        elif how < 0.75:
            self.world.dial(person, transport, partial=True)
        elif how < 0.8:
            self.world.dial(person, transport, since="earliest")
        elif how < 0.84:
            ahead = self.world.truth.head + rng.choice((1, 3, 1000))
            self.world.dial(person, transport, since=f"{self.world.epoch}:{ahead}")
        elif how < 0.86:
            self.world.dial(person, transport, since="zzzz:1")
        elif how < 0.95 and person.client_id is not None:
            self.world.dial(person, transport, since="acked")
        elif how < 0.88 and transport == "sse":
            self.world.dial(person, transport, since="nonsense", header=True)
        else:
            self.world.dial(person, transport, late=transport == "ws" and rng.random() < 0.5)

    def _crowd(self) -> None:
        """Many at once, and events meanwhile."""
        for _ in range(self.rng.randint(3, 6)):
            self._connect()
            self._publish()

    def _storm(self) -> None:
        """All lose their connection at once, and come back at once."""
        for person in self.world.people:
            line, held = person.line, self._held(person)
            if held is None or (self.world.polite and line is not None and not line.over):
                continue
            if line is not None and not line.over:
                line.end("cut")
            line = self.world.dial(person, self.rng.choice(("ws", "sse")), held=held)
            if line.transport == "ws" and self.rng.random() < 0.3:
                line.say(action="subscribe", channels=self.rng.sample(NAMES, 2))

    def _held(self, person: Person) -> Held | None:
        """The last position that was seen, or one from a little before."""
        fits = [
            held for held in person.held if set(held.selection.channels) <= set(person.channels)
        ]
        if not fits:
            return None
        return fits[-1] if self.rng.random() < 0.8 else self.rng.choice(fits)

    def _command(self) -> None:
        line, rng = self._some("ws"), self.rng
        if line is None:
            return
        self.world.counts["commands"] += 1
        match rng.randrange(6):
            case 0 | 1:
                names = rng.sample(NAMES, rng.randint(1, 3))
                line.say(action="subscribe", channels=names)
                # What it holds from now on is of another selection.
            case 2:
                line.say(action="unsubscribe", channels=[rng.choice(NAMES)])
            case 3:
                line.say(action="heartbeat")
            case 4:
                line.frame(PING, b"hello")
            case 5:
                channel = self._channel()
                (row,) = rows_of(rng, channel, 1)
                line.say(action="publish", channel=channel, data=row)

    def _ack(self) -> None:
        """Acknowledge the last position that was seen, or one from before, or one of nobody."""
        line, rng = self._some("ws"), self.rng
        if line is None or not line.person.held:
            return
        held = rng.choice(line.person.held)
        ahead = rng.random() < 0.1
        at = f"{self.world.epoch}:{self.world.truth.head + 100}" if ahead else held.position
        line.say(action="ack", position=at)

    def _stall(self) -> None:
        if line := self._some():
            line.cable.eat(self.rng.choice((0, 0, 20, 100, 700)))
            line.deaf = self.rng.random() < 0.3

    def _read(self) -> None:
        if line := self._some():
            line.cable.eat(None)

    def _end(self) -> None:
        if line := self._some():
            how = self.rng.choice(("cut", "cut", "vanish", "hang up", "close"))
            line.end("cut" if how == "close" and line.transport == "sse" else how)

    def _cancel(self) -> None:
        self._connect()
        if self.world.lines:
            self.world.cancel(self.world.lines[-1], self.rng.randrange(10))

    def _misbehave(self) -> None:
        if line := self._some("ws"):
            line.misbehaved = True
            for _ in range(self.rng.choice((1, 30, 300))):
                line.say(action=self.rng.choice(("nonsense", "heartbeat")))

    # --- the service's surroundings

    def _rights(self) -> None:
        rng = self.rng
        self.world.set_rights(
            rng.choice(list(self.world.rights)),
            **rng.choice(
                (
                    {},
                    {"forced": {"traderId": frozenset({"t0"})}},
                    {"forced": {"traderId": frozenset({"t1", "t2"}), "symbol": frozenset({"S0"})}},
                    {"channels": ("positions",)},
                    {"channels": ("market-data", "risk-*")},
                    {"revoked": True},
                    {"scopes": frozenset({"publish"})},
                )
            ),
        )

    def _freeze(self) -> None:
        self.world.freeze(self.rng.choice((0.2, 2.0, 10.0, 60.0)))

    def _fail(self) -> None:
        self.world.journal.failing = self.rng.choice((0.0, 0.05, 0.3, 0.9))

    def _open(self) -> None:
        """Other things open files, or close them."""
        self.world.files_spent = not self.world.files_spent

    def _quiet(self) -> None:
        """Those who stall do not hold up those who read."""
        failing, self.world.journal.failing = self.world.journal.failing, 0.0
        slowness, self.world.journal.slowness = self.world.journal.slowness, 0.0
        self.world.quiet()
        self.world.journal.failing, self.world.journal.slowness = failing, slowness
