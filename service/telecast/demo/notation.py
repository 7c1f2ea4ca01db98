"""How the demo's numbers and times are kept and written: exact decimals, whole milliseconds.

All money is computed within EXACT, where an operation that would have to round raises, and one
that meets a binary float too. What has to be rounded says so: `rounded` and `quotient`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    FloatOperation,
    Inexact,
    InvalidOperation,
    Overflow,
)

EXACT = Context(
    prec=120,
    rounding=ROUND_HALF_EVEN,
    traps=[Inexact, FloatOperation, InvalidOperation, DivisionByZero, Overflow],
)
_ROUNDING = Context(
    prec=120,
    rounding=ROUND_HALF_EVEN,
    traps=[FloatOperation, InvalidOperation, DivisionByZero, Overflow],
)
_UNITS = tuple(Decimal((0, (1,), -scale)) for scale in range(31))

ZERO = Decimal(0)


def unit(scale: int) -> Decimal:
    """One in the last of `scale` digits after the point."""
    return _UNITS[scale]


def scale_of(value: Decimal) -> int:
    """Digits after the point."""
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def rounded(value: Decimal, scale: int) -> Decimal:
    """Half to even, to `scale` digits after the point."""
    return value.quantize(_UNITS[scale], context=_ROUNDING)


def quotient(dividend: Decimal, divisor: Decimal, scale: int) -> Decimal:
    return rounded(_ROUNDING.divide(dividend, divisor), scale)


def plain(value: Decimal) -> str:
    """Plain notation with every digit there is, never an exponent, never a negative zero."""
    return format(value if value else abs(value), "f")


def ratio(value: Decimal) -> float:
    """A share as the JSON number that the wire contract wants; nothing is computed with it."""
    return float(value)


def instant(ms: int) -> str:
    """RFC 3339 in UTC, of milliseconds since 1970."""
    seconds, rest = divmod(ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03}Z"


def duration(ms: int) -> str:
    """ISO 8601, days to whole seconds: P1DT2H0M5S, PT42S."""
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    day = f"{days}D" if days else ""
    hour = f"{hours}H" if days or hours else ""
    minute = f"{minutes}M" if days or hours or minutes else ""
    return f"P{day}T{hour}{minute}{seconds}S"
