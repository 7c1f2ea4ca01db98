"""Candles of the ticks that the floor gets: each is the sum of its ticks, closed exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from telecast.demo.notation import ZERO, instant, plain
from telecast.model import Row

INTERVALS = {"10s": 10_000, "1m": 60_000}
"""Milliseconds: a minute of the demo is a third of its day."""
EVERY = 1_000
"""Milliseconds between two events of a candle that is still open."""

Instrument = tuple[str | None, str]


@dataclass(slots=True)
class Candle:
    """One that is open. `opened` is where its interval begins, `sent` when it was last sent."""

    opened: int
    first: Decimal
    high: Decimal
    low: Decimal
    last: Decimal
    volume: Decimal
    sent: int

    def add(self, price: Decimal, size: Decimal) -> None:
        self.high, self.low = max(self.high, price), min(self.low, price)
        self.last = price
        self.volume += size


class Candles:
    """The open candles of every instrument."""

    def __init__(self) -> None:
        self._open: dict[tuple[Instrument, str], Candle] = {}

    def tick(self, now: int, market: Row) -> Iterator[Row]:
        """A price: what it closes, then what it changes, as candles payloads."""
        instrument = market.get("exchange"), market["symbol"]
        price, size = Decimal(market["price"]), Decimal(market.get("size") or "0")
        for interval, length in INTERVALS.items():
            key, begins = (instrument, interval), now - now % length
            candle = self._open.get(key)
            if candle is not None and candle.opened != begins:
                yield self._row(key, candle, closed=True)
                candle = None
            if candle is None:
                candle = Candle(begins, price, price, price, price, ZERO, now - EVERY)
                self._open[key] = candle
            candle.add(price, size)
            if now - candle.sent >= EVERY:
                candle.sent = now
                yield self._row(key, candle, closed=False)

    def passed(self, now: int) -> Iterator[Row]:
        """Time has passed: candles whose interval is over are closed."""
        for key, candle in list(self._open.items()):
            if now >= candle.opened + INTERVALS[key[1]]:
                del self._open[key]
                yield self._row(key, candle, closed=True)

    def end(self) -> Iterator[Row]:
        """No more prices will come."""
        for key, candle in self._open.items():
            yield self._row(key, candle, closed=True)
        self._open.clear()

    @staticmethod
    def _row(key: tuple[Instrument, str], candle: Candle, *, closed: bool) -> Row:
        (exchange, symbol), interval = key
        return {
            "exchange": exchange,
            "symbol": symbol,
            "interval": interval,
            "open": plain(candle.first),
            "high": plain(candle.high),
            "low": plain(candle.low),
            "close": plain(candle.last),
            "volume": plain(candle.volume),
            "openTime": instant(candle.opened),
            "closed": closed,
        }
