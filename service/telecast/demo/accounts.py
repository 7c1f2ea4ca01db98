"""What a trader has made of its closed positions: trader-status metrics, added up exactly."""

from __future__ import annotations

from decimal import Decimal

from telecast.demo.notation import ZERO, duration, instant, plain, quotient, ratio
from telecast.demo.strategies import Action, Signal
from telecast.model import Row

AVERAGE_SCALE = 8
"""Digits after the point of averageProfit and averageLoss, half to even; sums are exact."""
SHARE_SCALE = 4
"""Of winRate and profitFactor."""


class Account:
    """Sums over closed positions. A loss counts as a positive amount in totalLoss.

    Profit and loss are in the currency that the trader's symbol is quoted in.
    """

    def __init__(self) -> None:
        self.total = self.winning = self.losing = 0
        self.profit = self.loss = ZERO
        self.drawdown = ZERO
        """The deepest that the net profit has been below its highest, over closed positions."""
        self.today = ZERO
        """Realized since the day began."""
        self._peak = ZERO
        self._opened = self._closed_by_signal = 0
        self._last: tuple[Signal, int] | None = None

    @property
    def net(self) -> Decimal:
        return self.profit - self.loss

    def new_day(self) -> None:
        self.today = ZERO

    def heard(self, now: int, signal: Signal) -> None:
        """A signal that was acted on."""
        self._last = (signal, now)
        if signal.action is Action.CLOSE:
            self._closed_by_signal += 1
        elif signal.action is not Action.HOLD:
            self._opened += 1

    def closed(self, realized: Decimal) -> None:
        self.total += 1
        self.today += realized
        if realized > 0:
            self.winning += 1
            self.profit += realized
        elif realized < 0:
            self.losing += 1
            self.loss -= realized
        self._peak = max(self._peak, self.net)
        self.drawdown = max(self.drawdown, self._peak - self.net)

    def row(self, started: int | None, until: int) -> Row:
        """The metrics, `started` being when the trader last did and `until` when it last ran."""
        signal, heard = self._last or (None, 0)
        return {
            "totalTrades": self.total,
            "winningTrades": self.winning,
            "losingTrades": self.losing,
            "totalProfit": plain(self.profit),
            "totalLoss": plain(self.loss),
            "netProfit": plain(self.net),
            "averageProfit": plain(_average(self.profit, self.winning)),
            "averageLoss": plain(_average(self.loss, self.losing)),
            "maxDrawdown": plain(self.drawdown),
            "winRate": ratio(
                quotient(Decimal(self.winning), Decimal(self.total or 1), SHARE_SCALE)
            ),
            "profitFactor": ratio(quotient(self.profit, self.loss, SHARE_SCALE))
            if self.loss
            else None,
            "sharpeRatio": None,
            "startTime": None if started is None else instant(started),
            "uptime": None if started is None else duration(until - started),
            "signalsExecuted": self._opened,
            "closeSignalsExecuted": self._closed_by_signal,
            "lastSignalAction": signal.action.value if signal else None,
            "lastSignalConfidence": ratio(signal.confidence) if signal else None,
            "lastSignalTime": instant(heard) if signal else None,
        }


def _average(total: Decimal, count: int) -> Decimal:
    return quotient(total, Decimal(count or 1), AVERAGE_SCALE)
