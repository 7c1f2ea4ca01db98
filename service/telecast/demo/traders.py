"""A paper trader: its states, its positions, and how it comes to its decisions."""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum

from telecast.demo.accounts import Account
from telecast.demo.desk import Mandate
from telecast.demo.fills import fills
from telecast.demo.holdings import Ending, Holding, Terms
from telecast.demo.notation import ZERO, instant, quotient, rounded, scale_of
from telecast.demo.risk import Kind, Measure
from telecast.demo.strategies import Action, Side, Signal, Strategy
from telecast.model import Row

Outgoing = tuple[str, Row]
"""(channel, payload)."""

RISKED = Decimal("0.0012")
"""Share of its capital that a trader of middling confidence loses at its stop."""
MOST_NOTIONAL = Decimal(4)
"""Times capital: no position is larger, however near its stop."""
REST = 6
"""Changes of the price between a close, or an opening, and the next opening."""
MOST_SCALE, MOST_PRICE = 12, Decimal(10) ** 12
"""Digits that prices may have on either side of the point to be traded: products stay in bounds."""
STATUS_EVERY = 5_000
"""Milliseconds after which a running trader is published again, for its uptime."""
FAULT_EVERY, FAULT_LASTS = (70_000, 300_000), (4_000, 8_000)
BREAK_EVERY, BREAK_LASTS = (120_000, 480_000), (8_000, 20_000)
FAULTS = (
    "the order gateway did not answer within 3 s",
    "the exchange refused an order: too many requests",
    "the price feed skipped a sequence number",
)


class State(StrEnum):
    IDLE = "IDLE"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    ERROR = "ERROR"


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.IDLE: frozenset({State.STARTING}),
    State.STARTING: frozenset({State.RUNNING, State.STOPPING}),
    State.RUNNING: frozenset({State.PAUSED, State.STOPPING, State.ERROR}),
    State.PAUSED: frozenset({State.RUNNING, State.STOPPING}),
    State.STOPPING: frozenset({State.STOPPED}),
    State.STOPPED: frozenset({State.STARTING}),
    State.ERROR: frozenset({State.STARTING, State.STOPPING}),
}
UP = frozenset({State.STARTING, State.RUNNING, State.PAUSED, State.STOPPING})
"""States in which the uptime runs."""


class Trader:
    """One trader on one instrument. What it has to tell gathers until `take`.

    Stops rest at the exchange: they close positions in every state. Only RUNNING opens new ones.
    """

    def __init__(self, mandate: Mandate, chance: random.Random, *, run: str) -> None:
        """`run` tells this run's positions from those of another."""
        self.mandate = mandate
        self.state = State.IDLE
        self.account = Account()
        self.holdings: list[Holding] = []
        self._chance = chance
        self._run = run
        self._opened = 0
        self._strategy: Strategy = mandate.strategy()
        self._price: Decimal | None = None
        self._scale = 0
        self._rest = 0
        self._reason = "waits for the first price"
        self._started: int | None = None
        self._ended = 0
        self._due: int | None = None
        """When the state ends by itself: the fault of RUNNING, the restart of ERROR and STOPPED."""
        self._break = 0
        self._ending = Ending.TRADER_STOPPED
        self._held_by_desk = False
        self._outgoing: list[Outgoing] = []
        self._changed = True
        self._published_at = 0

    # --- what happens to it

    def heard(self, now: int, price: Decimal) -> None:
        """A price of its instrument. One with more digits than any market's is passed over."""
        if not 0 < price < MOST_PRICE or scale_of(price) > MOST_SCALE:
            return
        self._scale = max(self._scale, scale_of(price))
        if self.state is State.IDLE and not self._held_by_desk:
            self._start(now, "started for the day")
        self._revalue(now, price)
        if self.state is State.STOPPING:
            self._stop(now, self._ending)
        if price == self._price:
            return
        self._price = price
        self._rest -= 1
        self._strategy.recent.add(price)
        if not self._strategy.recent.whole:
            return
        if self.state is State.STARTING:
            self._due = self._after(now, FAULT_EVERY)
            self._break = self._after(now, BREAK_EVERY)
            self._move(now, State.RUNNING, "has seen enough prices to trade")
        elif self.state is State.RUNNING:
            self._decide(now)

    def passed(self, now: int) -> None:
        """Time has passed."""
        if self.state is State.RUNNING and now >= self._break:
            self._halt(now, "stopped for maintenance", Ending.TRADER_STOPPED)
            self._due = self._after(now, BREAK_LASTS)
        elif self.state is State.STOPPING and not self.holdings:
            self._stop(now, self._ending)
        elif self._due is not None and now >= self._due:
            if self.state is State.RUNNING:
                self._move(now, State.ERROR, self._chance.choice(FAULTS))
                self._due = self._after(now, FAULT_LASTS)
            elif self.state is State.ERROR:
                self._start(now, f"restarted after: {self._reason}")
            elif self.state is State.STOPPED:
                self._start(now, "started again")

    def obey(self, now: int, critical: list[str]) -> None:
        """Critical alerts of its own pause it; once none is left, it goes on."""
        if self.state is State.RUNNING and critical:
            self._move(now, State.PAUSED, f"paused by {critical[0]}")
        elif self.state is State.PAUSED and not critical:
            self._move(now, State.RUNNING, "goes on: its limits hold again")

    def halt(self, now: int, fingerprint: str) -> None:
        """An alert of the whole desk stops it, until `release`."""
        if self.state in (State.IDLE, State.STOPPING, State.STOPPED):
            self._due = None
        else:
            self._halt(now, f"stopped by {fingerprint}", Ending.EMERGENCY_STOP)
        self._held_by_desk = True

    def release(self, now: int) -> None:
        """The desk's alert is resolved: back to work, after a while."""
        if self._held_by_desk:
            self._held_by_desk = False
            self._due = self._after(now, BREAK_LASTS)

    def end(self, now: int) -> None:
        """No more prices will come: whatever it holds is closed at the last one."""
        if self.state not in (State.IDLE, State.STOPPING, State.STOPPED):
            self._halt(now, "the tape has ended", Ending.TAPE_ENDED)
        if self.state is State.STOPPING:
            self._stop(now, Ending.TAPE_ENDED)
        self._due, self._held_by_desk = None, False

    def new_day(self) -> None:
        self.account.new_day()

    # --- what it is asked

    @property
    def exposure(self) -> Decimal:
        return sum((holding.exposure for holding in self.holdings), ZERO)

    @property
    def day_result(self) -> Decimal:
        """What the day has brought: realized since it began, and what the open positions show."""
        return sum((holding.profit for holding in self.holdings), self.account.today)

    def measures(self) -> dict[Kind, Measure]:
        capital, result, exposure = self.mandate.capital, self.day_result, self.exposure
        return {
            Kind.EXPOSURE: Measure(exposure, capital),
            Kind.DAILY_LOSS: Measure(max(ZERO, -result), capital),
            Kind.LEVERAGE: Measure(exposure, max(ZERO, capital + result)),
        }

    def take(self, now: int) -> list[Outgoing]:
        """What there is to publish since the last time, in its order."""
        if self._changed or (self.state in UP and now - self._published_at >= STATUS_EVERY):
            self._publish_status(now)
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    # --- its states

    def _move(self, now: int, state: State, reason: str) -> None:
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"{self.mandate.id} is {self.state}: it can't become {state}.")
        self.state = state
        self._reason = reason
        if state in (State.STOPPED, State.ERROR):
            self._ended = now
        self._publish_status(now)

    def _start(self, now: int, reason: str) -> None:
        self._strategy = self.mandate.strategy()
        self._price = None
        self._started = now
        self._due = None
        self._move(now, State.STARTING, reason)

    def _halt(self, now: int, reason: str, ending: Ending) -> None:
        self._ending = ending
        self._due = None
        self._move(now, State.STOPPING, reason)

    def _stop(self, now: int, ending: Ending) -> None:
        for holding in list(self.holdings):
            self._close(now, holding, ending)
        self._move(now, State.STOPPED, self._reason)

    def _after(self, now: int, span: tuple[int, int]) -> int:
        return now + self._chance.randint(*span)

    # --- its positions

    def _revalue(self, now: int, price: Decimal) -> None:
        for holding in list(self.holdings):
            before = holding.price
            ending = holding.heard(now, price)
            if ending is not None:
                self._close(now, holding, ending)
            elif price != before:
                self._outgoing.append(("positions", holding.row()))

    def _decide(self, now: int) -> None:
        side = self.holdings[0].terms.side if self.holdings else None
        signal = self._strategy.decide(side)
        if signal is None:
            return
        wanted = {Action.BUY: Side.LONG, Action.SELL: Side.SHORT}.get(signal.action)
        if side is not None and wanted is not side:
            self.account.heard(now, Signal(Action.CLOSE, signal.confidence, signal.why))
            for holding in list(self.holdings):
                self._close(now, holding, Ending.SIGNAL)
        elif wanted is not None and self._may_open():
            self._open(now, wanted, signal)

    def _may_open(self) -> bool:
        """Never right after the last; and only to a position that shows a profit is added."""
        room = len(self.holdings) < self.mandate.most_positions
        return room and self._rest <= 0 and all(holding.profit > 0 for holding in self.holdings)

    def _open(self, now: int, side: Side, signal: Signal) -> None:
        price = self._strategy.recent.prices[-1]
        stir = self._strategy.recent.stir(self._scale)
        quantity = self._quantity(price, stir, signal.confidence)
        if not quantity:
            return
        self._opened += 1
        mandate = self.mandate
        terms = Terms(
            id=f"{mandate.id}-{self._run}-{self._opened}",
            trader_id=mandate.id,
            trader_name=mandate.name,
            exchange=mandate.exchange,
            symbol=mandate.symbol,
            leverage=mandate.leverage,
            side=side,
            quantity=quantity,
            entry=price,
            stir=stir,
            exits=self._strategy.exits,
            opened=now,
            why=signal.why,
        )
        holding = Holding(terms)
        self.holdings.append(holding)
        self._rest = REST
        self.account.heard(now, signal)
        self._fill(now, holding, None)
        self._outgoing.append(("positions", holding.row()))
        self._changed = True

    def _quantity(self, price: Decimal, stir: Decimal, confidence: Decimal) -> Decimal:
        """So much that the stop costs what may be risked, to three digits; 0: too little to."""
        capital = self.mandate.capital
        risked = capital * RISKED * (Decimal("0.5") + confidence)
        quantity = min(
            quotient(risked, stir * self._strategy.exits.stop, MOST_SCALE),
            quotient(capital * MOST_NOTIONAL, price, MOST_SCALE),
        )
        return rounded(quantity, max(0, min(8, 2 - quantity.adjusted())))

    def _close(self, now: int, holding: Holding, ending: Ending) -> None:
        self.account.closed(holding.close(now, ending))
        self.holdings.remove(holding)
        self._rest = REST
        self._fill(now, holding, ending)
        self._outgoing.append(("positions", holding.row()))
        self._changed = True

    def _fill(self, now: int, holding: Holding, ending: Ending | None) -> None:
        rows = fills(holding.terms, ending, holding.price, now)
        self._outgoing += [("executions", row) for row in rows]

    # --- its status

    def _publish_status(self, now: int) -> None:
        self._changed = False
        self._published_at = now
        mandate = self.mandate
        row = {
            "id": mandate.id,
            "name": mandate.name,
            "status": self.state.value,
            "exchange": mandate.exchange,
            "symbol": mandate.symbol,
            "strategy": mandate.strategy.name,
            "reason": self._reason,
            "metrics": self.account.row(self._started, now if self.state in UP else self._ended),
            "updatedAt": instant(now),
        }
        self._outgoing.append(("trader-status", row))
