"""The trading floor: prices in, and what all channels have to tell about them out.

It has no loop and no clock: `now` comes in, in whole milliseconds since 1970, never falling. For
the same desk, seed, start and prices it gives the same events.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext

from telecast.demo.candles import Candles
from telecast.demo.connectivity import Connectivity
from telecast.demo.desk import DESK_LIMITS, Mandate
from telecast.demo.notation import EXACT, ZERO, instant, quotient
from telecast.demo.risk import Kind, Limit, Measure, Watch
from telecast.demo.traders import Outgoing, Trader
from telecast.model import Row

DAY = 180_000
"""Milliseconds. A day of the demo is three minutes, so that what ends with a day can be watched."""


class TradingFloor:
    """Traders and the limits that they are held to.

    Every method returns what there is to tell, (channel, payload) in the order in which it is to
    be published: prices before what they did, alerts before the pause that they caused.
    """

    def __init__(
        self,
        desk: Sequence[Mandate],
        *,
        seed: int,
        started: int,
        day: int = DAY,
        limits: tuple[Limit, ...] = DESK_LIMITS,
    ) -> None:
        """`limits` are the whole desk's; each trader's stand in its mandate."""
        run = f"{started:x}"
        self.traders = [
            Trader(mandate, random.Random(f"{seed}:{mandate.id}"), run=run)  # noqa: S311 - no secret
            for mandate in desk
        ]
        self._at: dict[tuple[str | None, str], list[Trader]] = {}
        for trader in self.traders:
            mandate = trader.mandate
            self._at.setdefault((mandate.exchange, mandate.symbol), []).append(trader)
        self._watches = {
            mandate.id: Watch(mandate.id, mandate.name, mandate.limits) for mandate in desk
        }
        self._desk = Watch(None, "The desk", limits, stop="EMERGENCY_STOP")
        self._started = started
        self._day_length = day
        self._day = 0
        self._candles = Candles()
        self._connectivity = Connectivity()

    def open(self, now: int) -> list[Outgoing]:
        """The traders as they wait for the first price."""
        with localcontext(EXACT):
            waiting = [row for trader in self.traders for row in trader.take(now)]
        return waiting + [("system", row) for row in self._connectivity.trading(now, None)]

    def tick(self, now: int, market: Row) -> list[Outgoing]:
        """A price: a market-data payload, whose `updatedAt` is now."""
        outgoing: list[Outgoing] = [("system", row) for row in self._connectivity.tick(now, market)]
        outgoing.append(("market-data", {**market, "updatedAt": instant(now)}))
        with localcontext(EXACT):
            outgoing += [("candles", row) for row in self._candles.tick(now, market)]
            self._turn_day(now)
            heard = self._at.get((market.get("exchange"), market["symbol"]), [])
            for trader in heard:
                trader.heard(now, Decimal(market["price"]))
            outgoing += self._settle(now, heard)
        return outgoing

    def beat(self, now: int) -> list[Outgoing]:
        """Time has passed, whether there was a price or not."""
        with localcontext(EXACT):
            self._turn_day(now)
            closed: list[Outgoing] = [("candles", row) for row in self._candles.passed(now)]
            for trader in self.traders:
                trader.passed(now)
            silent: list[Outgoing] = [("system", row) for row in self._connectivity.passed(now)]
            return silent + closed + self._settle(now, self.traders)

    def end(self, now: int) -> list[Outgoing]:
        """The tape is over: all positions are closed, all traders stopped, all alerts resolved."""
        with localcontext(EXACT):
            for trader in self.traders:
                trader.end(now)
                trader.new_day()
            closed: list[Outgoing] = [("candles", row) for row in self._candles.end()]
            over: list[Outgoing] = [("system", row) for row in self._connectivity.end(now)]
            return closed + self._settle(now, self.traders) + over

    def _turn_day(self, now: int) -> None:
        day = (now - self._started) // self._day_length
        if day != self._day:
            self._day = day
            for trader in self.traders:
                trader.new_day()

    def _settle(self, now: int, touched: Iterable[Trader]) -> list[Outgoing]:
        """Hold the limits against what has become of these traders, and act on the alerts."""
        outgoing: list[Outgoing] = []
        for trader in touched:
            outgoing += trader.take(now)
            watch = self._watches[trader.mandate.id]
            outgoing += [("risk-alerts", row) for row in watch.look(now, trader.measures())]
            trader.obey(now, watch.critical)
        outgoing += [("risk-alerts", row) for row in self._desk.look(now, self._whole())]
        halted_by = next(iter(self._desk.critical), None)
        outgoing += [("system", row) for row in self._connectivity.trading(now, halted_by)]
        for trader in self.traders:
            if self._desk.critical:
                trader.halt(now, self._desk.critical[0])
            else:
                trader.release(now)
            outgoing += trader.take(now)
        return outgoing

    def _whole(self) -> dict[Kind, Measure]:
        """The desk's measures. Traders count in shares of their capital: currencies differ."""
        exposure = lost = ZERO
        for trader in self.traders:
            capital = trader.mandate.capital
            exposure += quotient(trader.exposure, capital, 6)
            lost -= quotient(trader.day_result, capital, 6)
        base = Decimal(len(self.traders))
        return {
            Kind.EXPOSURE: Measure(exposure, base),
            Kind.DAILY_LOSS: Measure(max(ZERO, lost), base),
        }
