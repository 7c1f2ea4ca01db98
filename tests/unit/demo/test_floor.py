"""The story of the demo: channels that never contradict each other, the same each time."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.demo.desk import DESK_LIMITS, Mandate, hire, liveliest
from telecast.demo.floor import DAY, TradingFloor
from telecast.demo.holdings import Ending
from telecast.demo.market import instruments, market
from telecast.demo.pace import Pace
from telecast.demo.risk import Kind, Limit, limits
from telecast.demo.traders import TRANSITIONS, Outgoing
from telecast.model import Row
from telecast.recording import read_recording
from tests.support.checking.story import Story

RECORDINGS = sorted((Path(__file__).parents[2] / "data").glob("ticks*.ndjson"))
"""Real ticks of 44 instruments on 7 exchanges over 31 s; others put beside them are played too."""
START = 1_790_000_000_000
BEAT = 250
FLOORS = int(os.environ.get("TELECAST_FLOORS", "0"))
SEEDS = tuple(range(FLOORS)) or (0, 1, 4, 7)
"""Few, among which everything happens that can; `tox -e torture` plays many."""
CANDLE_SEEDS = (0, 1)
"""Candles come of the ticks alone, and are half of all there is to judge."""
SLOW_DAY = 1_200_000
"""Where ticks are few, a day must be longer for as much to happen in it."""
ROUNDS = 8

hours = pytest.mark.no_cover
"""Hours of story: to count the lines takes as long again, and the short ones run them too."""


def played(
    tape: Iterable[tuple[float, Row]],
    desk: list[Mandate],
    *,
    seconds: float,
    seed: int = 1,
    day: int = DAY,
    beat: int = BEAT,
    limits: tuple[Limit, ...] = DESK_LIMITS,
    end: bool = True,
) -> Iterable[tuple[int, list[Outgoing]]]:
    """What the floor tells, with its moments; time passes between ticks as in the demo."""
    floor = TradingFloor(desk, seed=seed, started=START, day=day, limits=limits)
    yield START, floor.open(START)
    beaten = now = START
    for at, row in tape:
        if at > seconds:
            break
        now = START + int(at * 1000)
        while beaten + beat <= now:
            beaten += beat
            yield beaten, floor.beat(beaten)
        yield now, floor.tick(now, row)
    if end:
        yield now, floor.end(now)


def synthetic(seed: int, seconds: float, **options: Any) -> Iterable[tuple[int, list[Outgoing]]]:
    return played(market(seed), hire(instruments()), seconds=seconds, seed=seed, **options)


def rounds(path: Path, times: int) -> tuple[list[tuple[float, Row]], list[Mandate]]:
    items = read_recording(path, CHANNELS)
    length = items[-1].t + 1
    tape = [(number * length + each.t, each.payload) for number in range(times) for each in items]
    return tape, hire(liveliest(each.payload for each in items))


@hours
def test_the_story_holds_at_the_pace_at_which_the_demo_shows_it():
    story = Story(hire(instruments()), started=START, day=DAY)
    for now, reported in synthetic(7, 200, end=False):
        story.hear(now, reported)
    assert story.seen["OPEN"] > 50
    for ending in ("STOP_LOSS", "TRAILING_STOP", "TAKE_PROFIT", "SIGNAL"):
        assert story.seen[f"CLOSED {ending}"], ending
    for what in ("FILL BUY", "FILL SELL", "CANDLE 10s closed", "CANDLE 1m closed"):
        assert story.seen[what], what
    assert story.seen["RUNNING PAUSED"]
    assert story.seen["PAUSED RUNNING"]
    for status in ("UP", "DEGRADED", "DOWN"):
        assert story.seen[f"exchange:OKX {status}"], "an exchange that breaks and heals"
    assert story.seen["exchange:OKX UP"] == 2
    assert story.seen["exchange:BINANCE DOWN"] == 0


@functools.cache
def hundred_minutes(seed: int) -> Story:
    """Played and held against its invariants once, at a slow market's pace, to the tape's end."""
    desk = hire(instruments())
    story = Story(desk, started=START, day=SLOW_DAY)
    tape = market(seed, per_second=0.7, outages=False)
    for now, reported in played(tape, desk, seconds=6_000, seed=seed, day=SLOW_DAY, beat=12_000):
        story.ended = any(row.get("reason") == "the tape has ended" for _, row in reported)
        if seed not in CANDLE_SEEDS:
            reported = [each for each in reported if each[0] != "candles"]
        story.hear(now, reported)
    return story


@hours
@pytest.mark.parametrize("seed", SEEDS)
def test_the_story_holds_over_a_hundred_minutes_of_any_seed(seed):
    story = hundred_minutes(seed)
    assert story.seen["OPEN"] > 30
    assert not story.open
    assert not story.alerts
    assert {row["status"] for row in story.traders.values()} == {"STOPPED"}
    assert {row["status"] for row in story.system.values()} == {"DOWN"}


@hours
def test_over_hundreds_of_minutes_everything_happens_that_can():
    seen = {re.sub(r" t\d:", " ", what) for seed in SEEDS for what in hundred_minutes(seed).seen}
    moves = {f"{before} {after}" for before in TRANSITIONS for after in TRANSITIONS[before]}
    endings = {f"CLOSED {ending}" for ending in Ending}
    alerts = {
        f"{what} {severity}:{kind}"
        for what in ("ACTIVE", "REPEAT", "RESOLVED")
        for severity in ("WARNING", "CRITICAL")
        for kind in Kind
    }
    rare = {"CLOSED EMERGENCY_STOP", "ERROR STOPPING", "PAUSED STOPPING"}
    assert (moves | endings | alerts) - seen <= rare
    assert {"ACTIVE ALL:WARNING:EXPOSURE", "RESOLVED ALL:WARNING:EXPOSURE"} <= seen


@hours
def test_a_critical_alert_of_the_desk_stops_everybody_until_it_is_resolved():
    desk = hire(instruments())
    story = Story(desk, started=START, day=60_000)
    strict = limits(Kind.DAILY_LOSS, warning="0.0001", critical="0.0002")
    told_all = []
    for now, reported in synthetic(
        1, 130, day=60_000, limits=(*DESK_LIMITS[:2], *strict), end=False
    ):
        story.hear(now, reported)
        told_all += [row for channel, row in reported if channel == "risk-alerts"]
        if "ALL:CRITICAL:DAILY_LOSS" in story.alerts:
            running = [row["id"] for row in story.traders.values() if row["status"] == "RUNNING"]
            assert not running
    (alert, *_) = [row for row in told_all if row["id"] == "ALL:CRITICAL:DAILY_LOSS"]
    assert (alert["traderId"], alert["recommendation"]) == (None, "EMERGENCY_STOP")
    for happened in (
        *("ACTIVE ALL:CRITICAL:DAILY_LOSS", "RESOLVED ALL:CRITICAL:DAILY_LOSS"),
        *("CLOSED EMERGENCY_STOP", "STOPPING STOPPED", "STOPPED STARTING"),
        *("core DEGRADED", "core UP"),
    ):
        assert story.seen[happened], happened


@hours
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_the_story_holds_on_real_ticks_again_and_again(path):
    tape, desk = rounds(path, ROUNDS)
    story = Story(desk, started=START, day=DAY)
    for now, reported in played(tape, desk, seconds=tape[-1][0], end=False):
        story.hear(now, reported)
    assert story.seen["OPEN"] >= 10
    assert sum(count for what, count in story.seen.items() if what.startswith("CLOSED")) >= 8


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5, 6])
def test_within_half_a_minute_positions_close_and_an_alert_is_raised(seed):
    story = Story(hire(instruments()), started=START, day=DAY)
    for now, reported in synthetic(seed, 30, end=False):
        story.hear(now, reported)
    assert any(what.startswith("CLOSED") for what in story.seen)
    assert any(what.startswith("ACTIVE") for what in story.seen)


def test_the_same_seed_and_start_give_the_same():
    assert list(synthetic(3, 120)) == list(synthetic(3, 120))


def test_another_seed_gives_another_story():
    assert list(synthetic(3, 20)) != list(synthetic(4, 20))


def test_thinned_out_the_story_still_adds_up():
    story = Story(hire(instruments()), started=START, day=DAY, thinned=True)
    pace = Pace()
    told_at: dict[str, int] = {}
    updates = all_updates = 0
    for now, reported in synthetic(5, 120):
        all_updates += sum(row.get("status") == "UPDATED" for _, row in reported)
        passed = pace.through(now, reported)
        story.hear(now, passed)
        for channel, row in passed:
            if channel == "positions" and row["status"] != "CLOSED":
                assert row["status"] == "OPEN" or now - told_at[row["id"]] >= 500
                told_at[row["id"]] = now
                updates += row["status"] == "UPDATED"
    assert updates * 2 < all_updates
    assert not story.open


def test_two_traders_may_share_an_instrument():
    desk = hire([("OKX", "SOLUSDT")])
    story = Story(desk, started=START, day=DAY)
    for now, reported in played(market(2), desk, seconds=120):
        story.hear(now, reported)
    assert {row["metrics"]["totalTrades"] > 0 for row in story.traders.values()} == {True}


def test_a_price_that_nobody_trades_brings_its_candles_and_nothing_else():
    floor = TradingFloor(hire([("OKX", "SOLUSDT")]), seed=1, started=START)
    floor.open(START)
    row = {"id": "X", "symbol": "X", "exchange": None, "price": "1.5", "source": "demo"}
    first, *rest = floor.tick(START + 1, row)
    assert first == ("market-data", {**row, "updatedAt": "2026-09-21T14:13:20.001Z"})
    assert {channel for channel, _ in rest} == {"candles"}


@pytest.mark.parametrize("price", ["-37.63", "0", "0.0000000000001", "1000000000000"])
def test_nobody_trades_at_an_impossible_price(price):
    floor = TradingFloor(hire([(None, "OIL")]), seed=1, started=START)
    floor.open(START)
    row = {"id": "OIL", "symbol": "OIL", "price": price, "source": "demo"}
    assert {channel for channel, _ in floor.tick(START + 1, row)} == {"market-data", "candles"}


def test_after_the_end_nothing_starts_again():
    floor = TradingFloor(hire(instruments()), seed=1, started=START)
    for at, row in market(1):
        if at > 20:
            break
        floor.tick(START + int(at * 1000), row)
    floor.end(START + 20_000)
    assert not [
        reported for minute in range(1, 60) for reported in floor.beat(START + minute * 60_000)
    ]
