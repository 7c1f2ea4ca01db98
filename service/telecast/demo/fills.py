"""The fills of an order, for the channel executions: they add up to what the position has."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from telecast.demo.holdings import Ending, Terms
from telecast.demo.notation import instant, plain, rounded, scale_of
from telecast.demo.strategies import Side
from telecast.model import Row

FEE = Decimal("0.0004")
"""Of what a fill is worth."""
QUOTES = ("USDT", "USDC", "USD", "EUR", "BTC", "ETH")
"""What symbols end with: the currency that fees are paid in."""
TWO_FROM = Decimal(10)
"""An order of so many units of its last digit, or more, is filled in two."""


def fills(terms: Terms, ending: Ending | None, price: Decimal, now: int) -> Iterator[Row]:
    """Of the order that opens a position, or closes it because of `ending`, at one price."""
    buys = (terms.side is Side.LONG) is (ending is None)
    order = f"{terms.id}-{'open' if ending is None else 'close'}"
    currency = next((quote for quote in QUOTES if terms.symbol.endswith(quote)), None)
    for number, quantity in enumerate(_split(terms.quantity), 1):
        yield {
            "id": f"{order}-{number}",
            "orderId": order,
            "traderId": terms.trader_id,
            "positionId": terms.id,
            "symbol": terms.symbol,
            "exchange": terms.exchange,
            "side": "BUY" if buys else "SELL",
            "quantity": plain(quantity),
            "price": plain(price),
            "fee": None if currency is None else plain(price * quantity * FEE),
            "feeCurrency": currency,
            # A target rests in the book; all else takes what is there.
            "liquidity": "MAKER" if ending is Ending.TAKE_PROFIT else "TAKER",
            "executedAt": instant(now),
        }


def _split(quantity: Decimal) -> list[Decimal]:
    """In two parts, about three to two, where there are digits for it."""
    scale = scale_of(quantity)
    if quantity.scaleb(scale) < TWO_FROM:
        return [quantity]
    first = rounded(quantity * Decimal("0.6"), scale)
    return [first, quantity - first]
