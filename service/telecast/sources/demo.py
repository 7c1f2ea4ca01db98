"""A synthetic market: seeded random walks in decimal arithmetic, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from telecast.model import Row


@dataclass(slots=True)
class _Instrument:
    exchange: str
    symbol: str
    price: Decimal
    tick: Decimal
    weight: float


def _listed() -> list[_Instrument]:
    return [
        _Instrument("BINANCE", "BTCUSDT", Decimal("67250.00"), Decimal("0.01"), 6),
        _Instrument("COINBASE", "BTCUSD", Decimal("67248.50"), Decimal("0.01"), 4),
        _Instrument("BINANCE", "ETHUSDT", Decimal("3480.10"), Decimal("0.01"), 5),
        _Instrument("COINBASE", "ETHUSD", Decimal("3479.95"), Decimal("0.01"), 3),
        _Instrument("OKX", "SOLUSDT", Decimal("171.35"), Decimal("0.01"), 3),
        _Instrument("BITMEX", "XBTUSD", Decimal("67251.5"), Decimal("0.5"), 3),
        _Instrument("BINANCE", "ADAUSDT", Decimal("0.4521"), Decimal("0.0001"), 2),
        _Instrument("OKX", "DOGEUSDT", Decimal("0.12345"), Decimal("0.00001"), 2),
    ]


def market(seed: int, *, per_second: float = 20.0) -> Iterator[tuple[float, Row]]:
    """Without end: (seconds since the start, a market-data payload without `updatedAt`)."""
    chance = random.Random(seed)  # noqa: S311 - a market, not a secret
    listed = _listed()
    weights = [each.weight for each in listed]
    opened = {id(each): each.price for each in listed}
    at = 0.0
    while True:
        at += chance.expovariate(per_second)
        it = chance.choices(listed, weights)[0]
        step = round(chance.gauss(0, 1) * float(it.price) * 0.00015 / float(it.tick))
        it.price = max(it.tick, it.price + step * it.tick)
        spread = it.tick * chance.randint(1, 4)
        yield (
            at,
            {
                "id": f"{it.exchange}:{it.symbol}",
                "exchange": it.exchange,
                "symbol": it.symbol,
                "price": str(it.price),
                "bid": str(max(it.tick, it.price - spread)),
                "ask": str(it.price + spread),
                "size": f"{chance.randint(1, 5000) / 1000:.3f}",
                "change24h": round(float(it.price / opened[id(it)] - 1), 6),
                "source": "demo",
            },
        )
