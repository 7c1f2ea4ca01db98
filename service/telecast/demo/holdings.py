"""One position from its opening to its close: what it is worth, and what ends it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from telecast.demo.notation import ZERO, instant, plain
from telecast.demo.strategies import Exits, Side
from telecast.model import Row


class Stage(StrEnum):
    OPEN = "OPEN"
    UPDATED = "UPDATED"
    CLOSED = "CLOSED"


STAGES = {
    Stage.OPEN: frozenset({Stage.UPDATED, Stage.CLOSED}),
    Stage.UPDATED: frozenset({Stage.UPDATED, Stage.CLOSED}),
    Stage.CLOSED: frozenset[Stage](),
}
"""What each stage may become. A jump may close a position at the first price after its opening."""


class Ending(StrEnum):
    """The `reason` of a CLOSED position."""

    STOP_LOSS = "STOP_LOSS"
    TRAILING_STOP = "TRAILING_STOP"
    TAKE_PROFIT = "TAKE_PROFIT"
    SIGNAL = "SIGNAL"
    TRADER_STOPPED = "TRADER_STOPPED"
    EMERGENCY_STOP = "EMERGENCY_STOP"
    TAPE_ENDED = "TAPE_ENDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What does not change over a position's life. `stir` is the unit of the exits' distances."""

    id: str
    trader_id: str
    trader_name: str
    exchange: str | None
    symbol: str
    leverage: Decimal
    side: Side
    quantity: Decimal
    entry: Decimal
    stir: Decimal
    exits: Exits
    opened: int
    why: str


class Holding:
    """An open position. The stop only ever moves in the position's favour."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.stage = Stage.OPEN
        self.price = self._best = terms.entry
        self.realized: Decimal | None = None
        self.trailing = False
        self.stop = self._behind(terms.entry, terms.exits.stop)
        target = terms.exits.target
        self.target = None if target is None else self._behind(terms.entry, -target)
        self._reason = terms.why
        self._updated = terms.opened

    def worth(self, price: Decimal) -> Decimal:
        """The profit at this price: exact, in the currency that the symbol is quoted in."""
        terms = self.terms
        gain = price - terms.entry if terms.side is Side.LONG else terms.entry - price
        return gain * terms.quantity

    @property
    def profit(self) -> Decimal:
        return self.worth(self.price)

    @property
    def exposure(self) -> Decimal:
        return self.price * self.terms.quantity

    def heard(self, now: int, price: Decimal) -> Ending | None:
        """A price of its instrument; what it triggers. A stop that triggers does not move."""
        self._move(Stage.UPDATED, now)
        self.price = price
        if not self._ahead(price, self.stop):
            return Ending.TRAILING_STOP if self.trailing else Ending.STOP_LOSS
        if self.target is not None and not self._ahead(self.target, price):
            return Ending.TAKE_PROFIT
        if self._ahead(price, self._best):
            self._best = price
            self._trail()
        return None

    def close(self, now: int, ending: Ending) -> Decimal:
        """Sold, or bought back, at the price last heard. What it has made or lost."""
        self._move(Stage.CLOSED, now)
        self.realized = self.profit
        self._reason = ending.value
        return self.realized

    def row(self) -> Row:
        """The positions payload."""
        terms = self.terms
        return {
            "id": terms.id,
            "traderId": terms.trader_id,
            "symbol": terms.symbol,
            "action": terms.side.value,
            "quantity": plain(terms.quantity),
            "entryPrice": plain(terms.entry),
            "currentPrice": plain(self.price),
            "unrealizedPnL": plain(self.profit),
            "realizedPnL": None if self.realized is None else plain(self.realized),
            "status": self.stage.value,
            "reason": self._reason,
            "trailingStopActivated": self.trailing,
            "stopLossPrice": plain(self.stop),
            "takeProfitPrice": None if self.target is None else plain(self.target),
            "isActive": self.stage is not Stage.CLOSED,
            "updatedAt": instant(self._updated),
            "exchange": terms.exchange,
            "leverage": plain(terms.leverage),
            "openedAt": instant(terms.opened),
            "traderName": terms.trader_name,
        }

    def _move(self, stage: Stage, now: int) -> None:
        if stage not in STAGES[self.stage]:
            raise ValueError(f"{self.terms.id} is {self.stage}: it can't become {stage}.")
        self.stage = stage
        self._updated = now

    def _trail(self) -> None:
        terms = self.terms
        after = terms.exits.trail_after
        if after is None:
            return
        start = self._behind(terms.entry, -after)
        self.trailing = self.trailing or not self._ahead(start, self._best)
        if self.trailing:
            stop = self._behind(self._best, terms.exits.trail)
            self.stop = stop if self._ahead(stop, self.stop) else self.stop

    def _behind(self, price: Decimal, stirs: int) -> Decimal:
        """So many stirs on the losing side of a price; never below a price's least."""
        distance = self.terms.stir * stirs
        moved = price - distance if self.terms.side is Side.LONG else price + distance
        return max(ZERO, moved)

    def _ahead(self, price: Decimal, other: Decimal) -> bool:
        return price > other if self.terms.side is Side.LONG else price < other
