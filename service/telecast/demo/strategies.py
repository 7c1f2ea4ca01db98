"""How the paper traders decide: on the last prices, exactly, and knowing nothing else.

All compare in units of the `stir`, how far the price moves from one change to the next on average,
so that they trade a lively market and a quiet one alike, whatever a price is worth.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from telecast.demo.notation import ZERO, quotient, unit


class Side(StrEnum):
    LONG = "LONG"
    SHORT = "SHORT"

    @property
    def other(self) -> Side:
        return Side.SHORT if self is Side.LONG else Side.LONG


class Action(StrEnum):
    BUY = "BUY"
    SELL = "SELL"
    HOLD = "HOLD"
    CLOSE = "CLOSE"


@dataclass(frozen=True, slots=True)
class Signal:
    """What to do, how sure (0 to 1, two digits) and why."""

    action: Action
    confidence: Decimal
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exits:
    """Where a position ends, each a distance from its entry in stirs.

    `trail_after`: once so far in profit the stop follows at `trail` behind the best price.
    """

    stop: int
    target: int | None
    trail_after: int | None
    trail: int


class Recent:
    """The last `most` changes of a price: their sum, and the sum of the moves between them."""

    def __init__(self, most: int) -> None:
        self.prices: deque[Decimal] = deque()
        self.total = ZERO
        self.moved = ZERO
        self._most = most

    def add(self, price: Decimal) -> None:
        prices = self.prices
        if prices:
            self.moved += abs(price - prices[-1])
        prices.append(price)
        self.total += price
        if len(prices) > self._most:
            first = prices.popleft()
            self.total -= first
            self.moved -= abs(prices[0] - first)

    @property
    def whole(self) -> bool:
        return len(self.prices) == self._most

    def stir(self, scale: int) -> Decimal:
        """The mean move from one price to the next, at least one in the last digit of `scale`."""
        return max(unit(scale), quotient(self.moved, Decimal(self._most - 1), scale))


class Strategy(Protocol):
    """Decides for one trader. `decide` is asked at each change of the price, once `warm`."""

    name: str
    exits: Exits
    recent: Recent

    def decide(self, side: Side | None) -> Signal | None:
        """`side` is what the trader holds; None: nothing to do."""
        ...


def _sure(value: Decimal, least: Decimal) -> Decimal:
    """A strength of `least` is half sure, of twice that and more quite sure."""
    return min(Decimal("1.00"), quotient(value, least * 2, 2)) if least else Decimal("1.00")


class TrendFollowing:
    """Goes with a fast mean that has left a slow one behind, out when it comes back."""

    name = "trend following"
    exits = Exits(stop=10, target=None, trail_after=10, trail=9)
    FAST, SLOW = 6, 18
    LEAST = Decimal("1.5")

    def __init__(self) -> None:
        self.recent = Recent(self.SLOW)

    def decide(self, side: Side | None) -> Signal | None:
        recent = self.recent
        fast = sum(list(recent.prices)[-self.FAST :], ZERO)
        # Both means times SLOW: without a division nothing is rounded.
        ahead = fast * (self.SLOW // self.FAST) - recent.total
        if (
            side is not None
            and (ahead < 0) is (side is Side.LONG)
            and abs(ahead) * 4 > recent.moved * 3
        ):
            return Signal(Action.CLOSE, Decimal("0.60"), "the trend has turned")
        least = recent.moved * self.LEAST
        if abs(ahead) <= least:
            return None
        sure = _sure(abs(ahead), least)
        if ahead > 0:
            return Signal(Action.BUY, sure, "the fast mean is above the slow one")
        return Signal(Action.SELL, sure, "the fast mean is below the slow one")


class MeanReversion:
    """Buys what fell far below its mean and sells what rose far above; out at the mean."""

    name = "mean reversion"
    exits = Exits(stop=10, target=9, trail_after=None, trail=0)
    SPAN = 20
    LEAST = 4

    def __init__(self) -> None:
        self.recent = Recent(self.SPAN)

    def decide(self, side: Side | None) -> Signal | None:
        recent = self.recent
        away = recent.prices[-1] * self.SPAN - recent.total
        if side is not None and (away > 0) is (side is Side.LONG) and abs(away) > recent.moved:
            return Signal(Action.CLOSE, Decimal("0.70"), "the price is back at its mean")
        least = recent.moved * self.LEAST
        if side is not None or abs(away) <= least:
            return None
        if away < 0:
            return Signal(Action.BUY, _sure(-away, least), "far below its mean")
        return Signal(Action.SELL, _sure(away, least), "far above its mean")


class Breakout:
    """Goes with a price that leaves the range of the last ones, out by stop or target alone."""

    name = "breakout"
    exits = Exits(stop=8, target=22, trail_after=9, trail=7)
    SPAN = 16

    def __init__(self) -> None:
        self.recent = Recent(self.SPAN)

    def decide(self, side: Side | None) -> Signal | None:
        if side is not None:
            return None
        *before, price = self.recent.prices
        high, low = max(before), min(before)
        width = high - low
        if price > high:
            return Signal(Action.BUY, _sure(price - low, width), "above the range")
        if price < low:
            return Signal(Action.SELL, _sure(high - price, width), "below the range")
        return None


STRATEGIES = (TrendFollowing, MeanReversion, Breakout)
