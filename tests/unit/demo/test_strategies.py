"""What the strategies make of a price's last moves, whatever the price is worth."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, localcontext

import pytest

from telecast.demo.notation import EXACT
from telecast.demo.strategies import (
    STRATEGIES,
    Action,
    Breakout,
    MeanReversion,
    Recent,
    Side,
    Strategy,
    TrendFollowing,
)


@pytest.fixture(autouse=True)
def exact():
    with localcontext(EXACT):
        yield


def after(strategy: Strategy, steps: Iterable[int], *, unit: str = "0.01") -> Strategy:
    """The strategy once it has seen a price of 100 move so, in units."""
    price = Decimal(100)
    for step in steps:
        price += step * Decimal(unit)
        strategy.recent.add(price)
    assert strategy.recent.whole
    return strategy


WAVER = [1, -1] * 15
RISE, FALL = [1] * 30, [-1] * 30


@pytest.mark.parametrize(
    ("strategy", "steps", "action"),
    [
        (TrendFollowing, RISE, Action.BUY),
        (TrendFollowing, FALL, Action.SELL),
        (TrendFollowing, WAVER, None),
        (MeanReversion, [*WAVER, -9], Action.BUY),
        (MeanReversion, [*WAVER, 9], Action.SELL),
        (MeanReversion, WAVER, None),
        (Breakout, [*WAVER, 5], Action.BUY),
        (Breakout, [*WAVER, -5], Action.SELL),
        (Breakout, WAVER, None),
    ],
)
@pytest.mark.parametrize("unit", ["1", "0.00000001"])
def test_they_open_when_their_time_has_come(strategy, steps, action, unit):
    signal = after(strategy(), steps, unit=unit).decide(None)
    assert (signal and signal.action) == action
    assert signal is None or 0 < signal.confidence <= 1


def test_a_trend_that_turns_is_left():
    assert after(TrendFollowing(), [*FALL, *RISE]).decide(Side.SHORT).action is Action.CLOSE


def test_what_overshoots_its_mean_is_closed():
    assert after(MeanReversion(), [*WAVER, 9]).decide(Side.LONG).action is Action.CLOSE
    assert after(MeanReversion(), WAVER).decide(Side.LONG) is None


def test_a_breakout_is_left_to_its_stops():
    assert after(Breakout(), [*WAVER, -5]).decide(Side.LONG) is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_traders_of_one_strategy_share_nothing(strategy):
    assert strategy().recent is not strategy().recent


def test_the_recent_prices_forget_what_is_older():
    recent = Recent(3)
    for price in ("7", "1", "2", "4"):
        recent.add(Decimal(price))
    assert (recent.total, recent.moved) == (7, 3)
    assert recent.stir(1) == Decimal("1.5")


def test_a_price_that_hardly_moves_still_has_a_stir():
    recent = Recent(3)
    for price in ("1.00", "1.00", "1.00"):
        recent.add(Decimal(price))
    assert recent.stir(2) == Decimal("0.01")
