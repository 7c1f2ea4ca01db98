"""When commits are flushed: at once when quiet, joined when busy. Writes cost virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.fanout import cohort
from telecast.fanout.broadcaster import Broadcaster
from telecast.fanout.flusher import PATIENCE, TURN
from telecast.fanout.subscriber import Subscriber
from telecast.model import Floor
from telecast.protocol.commands import Origin, Start
from telecast.protocol.framing import WS
from telecast.tape.selection import Selection
from telecast.tape.tape import Tape
from tests.support.fakes import EPOCH, Change, FakeSink, Ledger, VirtualLoop, commit, messages_in

TINY = 1e-6


class Market:
    """One channel, `clients` who hear it, and writes that take `cost` seconds each."""

    def __init__(self, clients: int, cost: float, *, selections: int = 1) -> None:
        self.loop = VirtualLoop()
        self.ledger = Ledger()
        self.tape = Tape(CHANNELS)
        self.broadcaster = Broadcaster(
            self.tape,
            EPOCH,
            scheduler=self.loop,
            now=lambda: 0,
            journal_floor=lambda name: Floor(0, 0),
        )
        self.sinks = [FakeSink(self.loop, high=10**9) for _ in range(clients)]
        self.committed: list[float] = []
        for number, sink in enumerate(self.sinks):
            values = frozenset({"S0", "S1", "S2", f"X{number % selections}"})
            subscriber = Subscriber(
                connection_id=f"c{number}",
                transport=WS,
                sink=sink,
                selection=Selection({"market-data": (("symbol", values),)}),
                heartbeat=1e9,
            )
            self.broadcaster.attach(subscriber, Start(Origin.LIVE))
        self.loop.run_for(1)
        for sink in self.sinks:
            sink.cost = cost
            sink.writes.clear()

    def tick(self, count: int = 1) -> None:
        changes = [Change(3, number % 3, 0, 0, 1, 1) for number in range(count)]
        events = [self.tape.event(entry) for entry in commit(self.ledger, changes)]
        self.committed.append(self.loop.time())
        self.broadcaster.take_in(events)

    def every(self, seconds: float, times: int) -> None:
        """Commit again and again, whatever else holds the loop."""
        self.tick()
        if times > 1:
            self.loop.call_later(seconds, self.every, seconds, times - 1)

    def busy(self) -> float:
        return sum(len(sink.writes) * sink.cost for sink in self.sinks)


@pytest.fixture
def markets() -> Iterator[list[Market]]:
    markets: list[Market] = []
    yield markets
    for market in markets:
        market.loop.close()


@pytest.mark.parametrize("pause", [0.002, 0.02, 0.1, 3.0])
def test_quiet_a_commit_is_written_at_once(markets: list[Market], pause: float) -> None:
    """A fixed timer, of whatever length, would make it wait."""
    market = Market(clients=3, cost=10e-6)
    markets.append(market)
    for number in range(50):
        at = market.loop.time()
        market.tick()
        market.loop.run_for(pause * (1 + number % 7 / 10))
        assert market.sinks[0].writes[-1][0] - at <= TINY
    assert [len(sink.writes) for sink in market.sinks] == [50] * 3


@pytest.mark.parametrize(("clients", "cost"), [(100, 10e-6), (100, 50e-6), (150, 35e-6)])
def test_busy_flushing_takes_at_most_a_third_of_the_time(
    markets: list[Market], clients: int, cost: float
) -> None:
    """And every commit is on its way after the flush before, twice as long again, and its own."""
    market = Market(clients, cost)
    markets.append(market)
    began = market.loop.time()
    market.every(0.0005, 4_000)
    market.loop.run_for(2)
    spent = market.loop.time() - began
    assert 0.27 <= market.busy() / spent <= 0.34
    flush = clients * cost
    starts = [at for at, _ in market.sinks[0].writes]
    assert all(late - early >= 3 * flush - TINY for early, late in pairwise(starts))
    for at in market.committed[:-200]:
        first = next(start for start in starts if start >= at - TINY)
        assert first - at <= 3 * flush + 0.001
    market.loop.run_for(9)
    reported = [one for one in messages_in("ws", market.sinks[-1].received) if one.type == "event"]
    assert len(reported) == len(market.ledger.history), "joined, and none left out"


def test_a_commit_waits_its_bound_and_one_flush_at_the_most(markets: list[Market]) -> None:
    market = Market(clients=1_000, cost=100e-6)
    markets.append(market)
    market.every(0.001, 2_000)
    market.loop.run_for(3)
    starts = [at for at, _ in market.sinks[0].writes]
    for at in market.committed[:-400]:
        first = next(start for start in starts if start >= at - TINY)
        assert first - at <= PATIENCE + 0.1 + 0.002
    waits = [late - early - 0.1 for early, late in pairwise(starts)]
    assert all(PATIENCE - TINY <= wait <= PATIENCE + 0.002 for wait in waits[:-1])


@pytest.mark.parametrize(("clients", "selections", "events"), [(2_000, 1, 1), (300, 300, 1)])
def test_a_flush_lets_the_loop_turn(
    markets: list[Market], clients: int, selections: int, events: int
) -> None:
    """Between two turns no more than a slice: 500 writes to a cohort, or 2 ms of many cohorts."""
    cost = 4e-6 if selections == 1 else 100e-6
    market = Market(clients, cost, selections=selections)
    markets.append(market)
    slice_seconds = cohort.SLICE_MEMBERS * cost if selections == 1 else TURN + cost
    held(market, market.tick, slice_seconds)
    assert all(len(sink.writes) == 1 for sink in market.sinks)


def held(market: Market, begin: Callable[[], None], most: float) -> None:
    """Between two turns of the loop no more than `most` seconds of work."""
    turns: list[float] = []

    def turn() -> None:
        turns.append(market.loop.time())
        if market.loop.time() < until:
            market.loop.call_soon(turn)
            market.loop.spend(1e-5)

    until = market.loop.time() + 0.1
    market.loop.call_soon(begin)
    turn()
    market.loop.run_for(0.2)
    longest = max(late - early for early, late in pairwise(turns))
    assert longest <= most + 3e-5


def test_many_pieces_for_few_members_let_the_loop_turn(markets: list[Market]) -> None:
    """Regression: a slice ended only within a piece, so that a flush of a hundred pieces to ten
    members held the loop until all were written."""
    market = Market(clients=10, cost=100e-6)
    markets.append(market)
    held(market, lambda: market.tick(4_096), TURN)
    assert len(market.sinks[0].writes) > 5


def test_a_commit_during_a_flush_is_flushed_next(markets: list[Market]) -> None:
    market = Market(clients=1_200, cost=4e-6)
    markets.append(market)
    market.tick()
    market.loop.turn()
    market.tick()
    market.loop.run_for(0.1)
    assert {len(sink.writes) for sink in market.sinks} == {2}


def test_the_flush_counters_say_what_it_took(markets: list[Market]) -> None:
    market = Market(clients=10, cost=100e-6)
    markets.append(market)
    for _ in range(5):
        market.tick()
        market.loop.run_for(0.1)
    tally = market.broadcaster.tally
    assert tally.flush.count == 5
    assert tally.flush.seconds == pytest.approx(5 * 10 * 100e-6)
    assert tally.delivered["market-data", "ws"] == 50
