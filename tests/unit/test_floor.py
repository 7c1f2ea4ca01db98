"""The story of the demo: four channels that never contradict each other, told the same each time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from story import Story
from telecast.model import Row
from telecast.sources.demo import instruments, market
from telecast.sources.desk import TRADERS, Mandate, hire, liveliest
from telecast.sources.floor import DAY, Floor
from telecast.sources.pace import Pace
from telecast.sources.replay import read_recording
from telecast.sources.traders import TRANSITIONS, Told

RECORDINGS = sorted((Path(__file__).parent.parent / "data").glob("ticks*.ndjson"))
"""An excerpt of real ticks; longer ones that are put beside it are played too."""
START = 1_790_000_000_000
BEAT = 250
MINUTES = 100
ROUNDS = 12


def played(
    tape: Iterable[tuple[float, Row]],
    desk: list[Mandate],
    *,
    seconds: float,
    seed: int = 1,
    day: int = DAY,
    beat: int = BEAT,
    end: bool = True,
) -> Iterable[tuple[int, list[Told]]]:
    """What the floor tells, with its moments; time passes between ticks as in the demo."""
    floor = Floor(desk, seed=seed, started=START, day=day)
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


def synthetic(seed: int, seconds: float, **options: float) -> Iterable[tuple[int, list[Told]]]:
    return played(market(seed), hire(instruments()), seconds=seconds, seed=seed, **options)


def rounds(path: Path, times: int) -> tuple[list[tuple[float, Row]], list[Mandate]]:
    items = read_recording(path)
    length = items[-1].t + 1
    tape = [(number * length + each.t, each.payload) for number in range(times) for each in items]
    return tape, hire(liveliest(each.payload for each in items))


def test_the_story_holds_over_ten_minutes_as_the_demo_shows_them():
    story = Story(hire(instruments()), started=START, day=DAY)
    for now, told in synthetic(7, 600, end=False):
        story.hear(now, told)
    assert story.seen["OPEN"] > 200
    for ending in ("STOP_LOSS", "TRAILING_STOP", "TAKE_PROFIT", "SIGNAL"):
        assert story.seen[f"CLOSED {ending}"] > 5, ending
    assert story.seen["RUNNING PAUSED"]
    assert story.seen["PAUSED RUNNING"]


SEEN: Counter[str] = Counter()


@pytest.mark.parametrize("seed", range(10))
def test_the_story_holds_over_a_hundred_minutes_of_any_seed(seed):
    day = 1_200_000
    desk = hire(instruments())
    story = Story(desk, started=START, day=day)
    tape = market(seed, per_second=1.0)
    for now, told in played(tape, desk, seconds=MINUTES * 60, seed=seed, day=day, beat=2_000):
        story.ended = len(told) > 0 and told[-1][1].get("reason") == "the tape has ended"
        story.hear(now, told)
    SEEN.update(story.seen)
    assert not story.open
    assert not story.alerts
    assert {row["status"] for row in story.traders.values()} == {"STOPPED"}


def test_over_a_thousand_minutes_everything_happens_that_can():
    if SEEN["OPEN"] == 0:
        pytest.skip("tells of the thousand minutes before it, which were not played")
    moves = {f"{before} {after}" for before in TRANSITIONS for after in TRANSITIONS[before]}
    assert moves - set(SEEN) <= {"STARTING STOPPING", "PAUSED STOPPING", "ERROR STOPPING"}
    for kind in ("EXPOSURE", "DAILY_LOSS", "LEVERAGE"):
        for severity in ("WARNING", "CRITICAL"):
            for what in ("ACTIVE", "REPEAT", "RESOLVED"):
                assert any(SEEN[f"{what} {trader}:{severity}:{kind}"] for trader in TRADERS)
    assert SEEN["ACTIVE ALL:WARNING:EXPOSURE"]
    assert SEEN["RESOLVED ALL:WARNING:EXPOSURE"]
    assert SEEN["ACTIVE ALL:CRITICAL:DAILY_LOSS"], "the desk is stopped now and then"
    assert SEEN["CLOSED EMERGENCY_STOP"]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_the_story_holds_on_real_ticks_again_and_again(path):
    tape, desk = rounds(path, ROUNDS)
    story = Story(desk, started=START, day=DAY)
    for now, told in played(tape, desk, seconds=tape[-1][0], end=False):
        story.hear(now, told)
    assert story.seen["OPEN"] >= 10
    assert sum(count for what, count in story.seen.items() if what.startswith("CLOSED")) >= 8


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5, 6])
def test_within_half_a_minute_positions_close_and_an_alert_is_raised(seed):
    story = Story(hire(instruments()), started=START, day=DAY)
    for now, told in synthetic(seed, 30, end=False):
        story.hear(now, told)
    assert any(what.startswith("CLOSED") for what in story.seen)
    assert any(what.startswith("ACTIVE") for what in story.seen)


def test_the_same_seed_and_start_tell_the_same():
    assert list(synthetic(3, 120)) == list(synthetic(3, 120))


def test_another_seed_tells_another_story():
    assert list(synthetic(3, 20)) != list(synthetic(4, 20))


def test_thinned_out_the_story_still_adds_up():
    story = Story(hire(instruments()), started=START, day=DAY, thinned=True)
    pace = Pace()
    told_at: dict[str, int] = {}
    updates = all_updates = 0
    for now, told in synthetic(5, 240):
        all_updates += sum(row.get("status") == "UPDATED" for _, row in told)
        passed = pace.through(now, told)
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
    for now, told in played(market(2), desk, seconds=120):
        story.hear(now, told)
    assert {row["metrics"]["totalTrades"] > 0 for row in story.traders.values()} == {True}


def test_a_price_that_nobody_trades_is_told_alone():
    floor = Floor(hire([("OKX", "SOLUSDT")]), seed=1, started=START)
    row = {"id": "X", "symbol": "X", "exchange": None, "price": "1.5", "source": "demo"}
    assert floor.tick(START + 1, row) == [
        ("market-data", {**row, "updatedAt": "2026-09-21T14:13:20.001Z"})
    ]


@pytest.mark.parametrize("price", ["-37.63", "0", "0.0000000000001", "1000000000000"])
def test_nobody_trades_at_an_impossible_price(price):
    floor = Floor(hire([(None, "OIL")]), seed=1, started=START)
    floor.open(START)
    row = {"id": "OIL", "symbol": "OIL", "price": price, "source": "demo"}
    assert [channel for channel, _ in floor.tick(START + 1, row)] == ["market-data"]


def test_after_the_end_nothing_starts_again():
    floor = Floor(hire(instruments()), seed=1, started=START)
    for at, row in market(1):
        if at > 20:
            break
        floor.tick(START + int(at * 1000), row)
    floor.end(START + 20_000)
    assert not [told for minute in range(1, 60) for told in floor.beat(START + minute * 60_000)]
