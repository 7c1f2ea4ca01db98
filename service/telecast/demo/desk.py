"""Who trades what on the demo's floor, with how much, within which limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from telecast.demo.risk import Kind, Limit, limits
from telecast.demo.strategies import (
    STRATEGIES,
    Breakout,
    MeanReversion,
    Strategy,
    TrendFollowing,
)
from telecast.model import Row

Instrument = tuple[str | None, str]
"""(exchange, symbol), as market-data rows name it."""

NAMES = ("Ada", "Boris", "Chen", "Dara", "Emil", "Femi")
TRADERS = tuple(f"t{number}" for number in range(1, len(NAMES) + 1))
"""The ids of all traders that there ever are: rows of these are the demo's own."""
CAPITAL = Decimal(100_000)
CAPITAL_IN = {"BTC": Decimal(2), "ETH": Decimal(40)}
"""By what the symbol is quoted in, where that is no money: about as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """What a trader may do. `limits` are multiples of capital, and of equity for LEVERAGE."""

    id: str
    name: str
    exchange: str | None
    symbol: str
    strategy: type[Strategy]
    capital: Decimal
    leverage: Decimal
    most_positions: int
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What goes with a way of trading."""

    leverage: int
    most_positions: int
    limits: tuple[Limit, ...]


STYLES: dict[type[Strategy], Style] = {
    TrendFollowing: Style(
        leverage=10,
        most_positions=3,
        limits=(
            *limits(Kind.EXPOSURE, warning="6", critical="8"),
            *limits(Kind.DAILY_LOSS, warning="0.006", critical="0.012"),
            *limits(Kind.LEVERAGE, warning="8", critical="10"),
        ),
    ),
    MeanReversion: Style(
        leverage=5,
        most_positions=1,
        limits=(
            *limits(Kind.EXPOSURE, warning="3.2", critical="4"),
            *limits(Kind.DAILY_LOSS, warning="0.004", critical="0.008"),
            *limits(Kind.LEVERAGE, warning="3.6", critical="5"),
        ),
    ),
    Breakout: Style(
        leverage=5,
        most_positions=1,
        limits=(
            *limits(Kind.EXPOSURE, warning="3.8", critical="5"),
            *limits(Kind.DAILY_LOSS, warning="0.004", critical="0.008"),
            *limits(Kind.LEVERAGE, warning="3.5", critical="4"),
        ),
    ),
}

DESK_LIMITS = (
    *limits(Kind.EXPOSURE, warning="3.5", critical="6"),
    *limits(Kind.DAILY_LOSS, warning="0.0015", critical="0.004"),
)
"""Of the whole desk: multiples of the capital of an average trader."""


def hire(instruments: Sequence[Instrument]) -> list[Mandate]:
    """The desk for these instruments, the first ones first; two share one if there are few."""
    return [
        _mandate(number, *instruments[number % len(instruments)]) for number in range(len(NAMES))
    ]


def _mandate(number: int, exchange: str | None, symbol: str) -> Mandate:
    strategy = STRATEGIES[number % len(STRATEGIES)]
    style = STYLES[strategy]
    capital = next((own for quote, own in CAPITAL_IN.items() if symbol.endswith(quote)), CAPITAL)
    return Mandate(
        id=TRADERS[number],
        name=NAMES[number],
        exchange=exchange,
        symbol=symbol,
        strategy=strategy,
        capital=capital,
        leverage=Decimal(style.leverage),
        most_positions=style.most_positions,
        limits=style.limits,
    )


def liveliest(rows: Iterable[Row]) -> list[Instrument]:
    """The instruments of some market-data rows, those whose price changes most often first."""
    changes: Counter[Instrument] = Counter()
    last: dict[Instrument, str] = {}
    for row in rows:
        instrument = (row.get("exchange"), row["symbol"])
        changes[instrument] += last.get(instrument) not in (None, row["price"])
        last[instrument] = row["price"]
    return sorted(changes, key=lambda instrument: -changes[instrument])
