"""The payloads of the wire contract, section 9, version 1. Evolution is additive only."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, pre_load, validates_schema

from telecast.channels.fields import (
    MAX_ITEMS,
    Choice,
    Count,
    Duration,
    FewDict,
    FewList,
    Flag,
    Identifier,
    Instant,
    PlainDecimal,
    Ratio,
    Text,
    nullable,
)


class Payload(Schema):
    """A row as it is published. What comes out of `load` is the row as it is sent."""

    class Meta:
        unknown = RAISE

    error_messages = {
        "unknown": "Unknown field.",
        "type": "Must be a JSON object.",
    }

    @pre_load
    def _count(self, payload: Any, **_: Any) -> Any:
        """A row's bytes may be thousands of fields that there are not, of 2 µs each."""
        if isinstance(payload, dict) and len(payload) > len(self.fields) + MAX_ITEMS:
            raise ValidationError(f"More than {MAX_ITEMS} of its fields are unknown.")
        return payload

    def agree(self, row: Mapping[str, Any]) -> None:
        """Raises ValidationError where values that are good each for itself don't fit together."""

    @validates_schema(skip_on_field_errors=True)
    def _agree(self, row: Mapping[str, Any], **_: Any) -> None:
        self.agree(row)


class TraderMetrics(Payload):
    totalTrades = Count(required=True)
    winningTrades = Count(required=True)
    losingTrades = Count(required=True)
    totalProfit = PlainDecimal(required=True)
    totalLoss = PlainDecimal(required=True)
    netProfit = PlainDecimal(required=True)
    averageProfit = PlainDecimal(required=True)
    averageLoss = PlainDecimal(required=True)
    maxDrawdown = PlainDecimal(required=True)
    winRate = Ratio(required=True)
    profitFactor = nullable(Ratio)
    sharpeRatio = nullable(Ratio)
    startTime = nullable(Instant)
    uptime = nullable(Duration)
    signalsExecuted = Count(load_default=0)
    closeSignalsExecuted = Count(load_default=0)
    lastSignalAction = nullable(Choice, "BUY", "SELL", "HOLD", "CLOSE")
    lastSignalConfidence = nullable(Ratio)
    lastSignalTime = nullable(Instant)

    def agree(self, row: Mapping[str, Any]) -> None:
        if not 0 <= row["winRate"] <= 1:
            raise ValidationError("Must be from 0 to 1.", "winRate")


class TraderStatus(Payload):
    id = Identifier(required=True)
    name = Text(required=True)
    status = Choice(
        "IDLE", "STARTING", "RUNNING", "PAUSED", "STOPPING", "STOPPED", "ERROR", required=True
    )
    exchange = nullable(Identifier)
    symbol = nullable(Identifier)
    strategy = nullable(Text)
    reason = nullable(Text)
    metrics = fields.Nested(TraderMetrics, allow_none=True, load_default=None)
    updatedAt = Instant(required=True)


class Position(Payload):
    id = Identifier(required=True)
    traderId = Identifier(required=True)
    symbol = Identifier(required=True)
    action = Choice("LONG", "SHORT", required=True)
    quantity = PlainDecimal(required=True)
    entryPrice = PlainDecimal(required=True)
    currentPrice = PlainDecimal(required=True)
    unrealizedPnL = PlainDecimal(required=True)
    realizedPnL = nullable(PlainDecimal)
    status = Choice("OPEN", "UPDATED", "CLOSED", required=True)
    reason = nullable(Text)
    trailingStopActivated = Flag(load_default=False)
    stopLossPrice = nullable(PlainDecimal)
    takeProfitPrice = nullable(PlainDecimal)
    isActive = Flag(required=True)
    updatedAt = Instant(required=True)
    exchange = nullable(Identifier)
    leverage = nullable(PlainDecimal)
    openedAt = nullable(Instant)
    traderName = nullable(Text)


class Violation(Payload):
    type = Choice(
        "BUDGET",
        "LEVERAGE",
        "EXPOSURE",
        "DAILY_LOSS",
        "STOP_LOSS",
        "EMERGENCY",
        "UNKNOWN",
        required=True,
    )
    message = Text(required=True)
    details = FewDict(keys=Identifier(), values=Text(allow_none=True), load_default=dict)


class RiskAlert(Payload):
    """A publisher sends ACTIVE and RESOLVED; what follows ACTIVE belongs to the server."""

    id = Identifier(required=True)
    traderId = nullable(Identifier)
    severity = Choice("INFO", "WARNING", "CRITICAL", required=True)
    recommendation = nullable(Choice, "ALLOW", "WARN", "BLOCK", "EMERGENCY_STOP")
    message = Text(required=True)
    violations = FewList(fields.Nested(Violation), load_default=list)
    status = Choice("ACTIVE", "RESOLVED", required=True)
    createdAt = Instant(required=True)


class Execution(Payload):
    """One fill of an order."""

    id = Identifier(required=True)
    orderId = Identifier(required=True)
    traderId = Identifier(required=True)
    positionId = nullable(Identifier)
    symbol = Identifier(required=True)
    exchange = nullable(Identifier)
    side = Choice("BUY", "SELL", required=True)
    quantity = PlainDecimal(required=True)
    price = PlainDecimal(required=True)
    fee = nullable(PlainDecimal)
    feeCurrency = nullable(Identifier)
    liquidity = nullable(Choice, "MAKER", "TAKER")
    executedAt = Instant(required=True)

    def agree(self, row: Mapping[str, Any]) -> None:
        if (row["fee"] is None) != (row["feeCurrency"] is None):
            raise ValidationError("A fee and its currency go together.", "feeCurrency")


class Candle(Payload):
    exchange = nullable(Identifier)
    symbol = Identifier(required=True)
    interval = Identifier(required=True)
    open = PlainDecimal(required=True)
    high = PlainDecimal(required=True)
    low = PlainDecimal(required=True)
    close = PlainDecimal(required=True)
    volume = PlainDecimal(required=True)
    openTime = Instant(required=True)
    closed = Flag(required=True)

    def agree(self, row: Mapping[str, Any]) -> None:
        one_instrument(row)
        if ":" in row["interval"]:
            raise ValidationError('Must not contain ":".', "interval")
        low, high = Decimal(row["low"]), Decimal(row["high"])
        for name in ("open", "close"):
            if not low <= Decimal(row[name]) <= high:
                raise ValidationError("Must be from low to high.", name)


class SystemStatus(Payload):
    component = Identifier(required=True)
    status = Choice("UP", "DEGRADED", "DOWN", required=True)
    kind = Choice("EXCHANGE", "CORE", "SERVICE", "ADMINISTRATION", load_default="CORE")
    message = nullable(Text)
    since = Instant(required=True)


def one_instrument(row: Mapping[str, Any]) -> None:
    """Raises ValidationError where two instruments could have the same key."""
    exchange = row["exchange"]
    if exchange is None and ":" in row["symbol"]:
        raise ValidationError('A symbol with ":" needs its exchange.', "exchange")
    if exchange is not None and ":" in exchange:
        raise ValidationError('Must not contain ":".', "exchange")


class MarketData(Payload):
    id = Identifier(required=True)
    symbol = Identifier(required=True)
    price = PlainDecimal(required=True)
    source = Identifier(required=True)
    change24h = nullable(Ratio)
    isSnapshot = Flag(load_default=False)
    updatedAt = Instant(required=True)
    exchange = nullable(Identifier)
    bid = nullable(PlainDecimal)
    ask = nullable(PlainDecimal)
    size = nullable(PlainDecimal)

    def agree(self, row: Mapping[str, Any]) -> None:
        one_instrument(row)
