"""A synthetic market: coins that trend, hover and jump, the same for the same seed.

Every coin has one course, and what it trades at on each exchange is that course and a small
premium, so that the exchanges agree as real ones do. Prices are whole numbers of the smallest
step: no price ever passes through binary floating point.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from telecast.demo.notation import EXACT, plain, quotient, ratio
from telecast.model import Row

SOURCE = "demo"
"""What every market-data row of the demo names as its source, so that it knows its own again."""
PER_SECOND = 32.0
"""Ticks a second of the whole market: enough that within half a minute something has happened."""
SPELL = (40, 180)
"""A mood of a coin lasts this many of its ticks."""
OUTAGE = ("OKX", 240.0, 150.0, 165.0)
"""An exchange, and from when to when of each so many seconds no tick of it comes: a connection
that breaks now and then is part of the story."""
FAR = 12
"""One part in this many away from where it began, a coin only trends back."""


@dataclass(frozen=True, slots=True)
class Listing:
    """An instrument. `lot` is its price step in the coin's; `often` its share of the ticks."""

    exchange: str
    symbol: str
    lot: int
    often: int


@dataclass(slots=True)
class Coin:
    """A course in whole steps of 10**-scale; `stir` is about half a basis point in steps."""

    first: int
    scale: int
    listings: tuple[Listing, ...]
    level: int = 0
    anchor: int = 0
    drift: int = 0
    hovering: bool = False
    left: int = 0
    premium: dict[Listing, int] = field(default_factory=dict)

    @property
    def stir(self) -> int:
        return max(1, self.first // 20_000)

    def move(self, chance: random.Random) -> None:
        if self.left <= 0:
            self._turn(chance)
        self.left -= 1
        stir = self.stir
        noise = (
            chance.randint(-stir, stir) + chance.randint(-stir, stir) + chance.randint(-stir, stir)
        )
        pull = (self.anchor - self.level) // 12 if self.hovering else self.drift
        self.level = max(self.first // 2, self.level + pull + noise)

    def _turn(self, chance: random.Random) -> None:
        """The mood changes: to a trend, to hovering about where it is, or with a jump."""
        stir = self.stir
        self.left = chance.randint(*SPELL)
        away = self.level - self.first
        up = away < 0 if abs(away) * FAR > self.first else chance.random() < 0.5
        mood = chance.choice(("trend", "trend", "hover", "hover", "jump"))
        self.hovering = mood != "trend"
        self.drift = chance.randint(stir // 8, stir * 3 // 8) * (1 if up else -1)
        if mood == "jump":
            self.level += chance.randint(12, 40) * stir * (1 if up else -1)
        self.anchor = self.level

    def price(self, listing: Listing, chance: random.Random) -> Decimal:
        """The coin's course as this exchange has it, on its own grid of prices."""
        stir = self.stir
        premium = self.premium.get(listing, 0) + chance.randint(-1, 1) * max(1, stir // 4)
        self.premium[listing] = max(-stir, min(stir, premium))
        steps = (self.level + self.premium[listing]) // listing.lot * listing.lot
        return self.decimal(steps)

    def decimal(self, steps: int) -> Decimal:
        return Decimal(steps).scaleb(-self.scale, EXACT)


def coins() -> list[Coin]:
    """What is listed, before its first tick."""
    return [
        Coin(
            6_725_000,
            2,
            (
                Listing("BINANCE", "BTCUSDT", 1, 6),
                Listing("COINBASE", "BTCUSD", 1, 4),
                Listing("BITMEX", "XBTUSD", 50, 3),
            ),
        ),
        Coin(
            348_010,
            2,
            (Listing("BINANCE", "ETHUSDT", 1, 5), Listing("COINBASE", "ETHUSD", 1, 3)),
        ),
        Coin(171_350, 3, (Listing("OKX", "SOLUSDT", 1, 5),)),
        Coin(45_210, 5, (Listing("BINANCE", "ADAUSDT", 1, 3),)),
        Coin(123_450, 6, (Listing("OKX", "DOGEUSDT", 1, 3),)),
    ]


def instruments() -> list[tuple[str, str]]:
    """(exchange, symbol) of all that is listed, the busiest first."""
    listed = [listing for coin in coins() for listing in coin.listings]
    listed.sort(key=lambda listing: -listing.often)
    return [(listing.exchange, listing.symbol) for listing in listed]


def market(
    seed: int, *, per_second: float = PER_SECOND, outages: bool = True
) -> Iterator[tuple[float, Row]]:
    """Without end: (seconds since the start, a market-data payload without `updatedAt`)."""
    chance = random.Random(seed)  # noqa: S311 - a market, not a secret
    listed = [(coin, listing) for coin in coins() for listing in coin.listings]
    often = [listing.often for _, listing in listed]
    for coin, _ in listed:
        coin.level = coin.anchor = coin.first
    at = 0.0
    while True:
        at += chance.expovariate(per_second)
        coin, listing = chance.choices(listed, often)[0]
        coin.move(chance)
        price = coin.price(listing, chance)
        first = coin.decimal(coin.first)
        spread = coin.decimal(listing.lot * chance.randint(1, 4))
        size = Decimal(chance.randint(1, 5000)).scaleb(-3, EXACT)
        exchange, every, breaks, heals = OUTAGE
        if outages and listing.exchange == exchange and breaks <= at % every < heals:
            continue
        yield (
            at,
            {
                "id": f"{listing.exchange}:{listing.symbol}",
                "exchange": listing.exchange,
                "symbol": listing.symbol,
                "price": plain(price),
                "bid": plain(EXACT.subtract(price, spread)),
                "ask": plain(EXACT.add(price, spread)),
                "size": plain(size),
                "change24h": ratio(quotient(EXACT.subtract(price, first), first, 6)),
                "source": SOURCE,
            },
        )
