"""The rows of the built-in channels, for type checkers. Decimals and instants are strings.

`tests/unit/client/test_rows.py` holds them against the schemas. A newer service may add fields.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class TraderStatusRow(TypedDict):
    id: str
    name: str
    status: Literal["IDLE", "STARTING", "RUNNING", "PAUSED", "STOPPING", "STOPPED", "ERROR"]
    exchange: str | None
    symbol: str | None
    strategy: str | None
    reason: str | None
    metrics: dict[str, Any] | None
    updatedAt: str


class PositionRow(TypedDict):
    id: str
    traderId: str
    symbol: str
    action: Literal["LONG", "SHORT"]
    quantity: str
    entryPrice: str
    currentPrice: str
    unrealizedPnL: str
    realizedPnL: str | None
    status: Literal["OPEN", "UPDATED", "CLOSED"]
    reason: str | None
    trailingStopActivated: bool
    stopLossPrice: str | None
    takeProfitPrice: str | None
    isActive: bool
    updatedAt: str
    exchange: str | None
    leverage: str | None
    openedAt: str | None
    traderName: str | None


class RiskAlertRow(TypedDict):
    id: str
    traderId: str | None
    severity: Literal["INFO", "WARNING", "CRITICAL"]
    recommendation: Literal["ALLOW", "WARN", "BLOCK", "EMERGENCY_STOP"] | None
    message: str
    violations: list[dict[str, Any]]
    status: str
    createdAt: str


class MarketDataRow(TypedDict):
    id: str
    symbol: str
    price: str
    source: str
    change24h: float | None
    isSnapshot: bool
    updatedAt: str
    exchange: str | None
    bid: str | None
    ask: str | None
    size: str | None
