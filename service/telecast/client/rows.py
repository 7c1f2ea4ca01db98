"""Types of the channels' rows and payloads, made from the channel catalogue.

Decimals are strings, so that no digit is lost.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class TraderStatusPayloadMetrics(TypedDict):
    totalTrades: int
    winningTrades: int
    losingTrades: int
    totalProfit: str
    totalLoss: str
    netProfit: str
    averageProfit: str
    averageLoss: str
    maxDrawdown: str
    winRate: float
    profitFactor: NotRequired[float | None]
    sharpeRatio: NotRequired[float | None]
    startTime: NotRequired[str | None]
    uptime: NotRequired[str | None]
    signalsExecuted: NotRequired[int]
    closeSignalsExecuted: NotRequired[int]
    lastSignalAction: NotRequired[Literal["BUY", "SELL", "HOLD", "CLOSE"] | None]
    lastSignalConfidence: NotRequired[float | None]
    lastSignalTime: NotRequired[str | None]


class TraderStatusPayload(TypedDict):
    id: str
    name: str
    status: Literal["IDLE", "STARTING", "RUNNING", "PAUSED", "STOPPING", "STOPPED", "ERROR"]
    exchange: NotRequired[str | None]
    symbol: NotRequired[str | None]
    strategy: NotRequired[str | None]
    reason: NotRequired[str | None]
    metrics: NotRequired[TraderStatusPayloadMetrics | None]
    updatedAt: str


class TraderStatusRowMetrics(TypedDict):
    totalTrades: int
    winningTrades: int
    losingTrades: int
    totalProfit: str
    totalLoss: str
    netProfit: str
    averageProfit: str
    averageLoss: str
    maxDrawdown: str
    winRate: float
    profitFactor: float | None
    sharpeRatio: float | None
    startTime: str | None
    uptime: str | None
    signalsExecuted: int
    closeSignalsExecuted: int
    lastSignalAction: Literal["BUY", "SELL", "HOLD", "CLOSE"] | None
    lastSignalConfidence: float | None
    lastSignalTime: str | None


class TraderStatusRow(TypedDict):
    id: str
    name: str
    status: Literal["IDLE", "STARTING", "RUNNING", "PAUSED", "STOPPING", "STOPPED", "ERROR"]
    exchange: str | None
    symbol: str | None
    strategy: str | None
    reason: str | None
    metrics: TraderStatusRowMetrics | None
    updatedAt: str


class PositionPayload(TypedDict):
    id: str
    traderId: str
    symbol: str
    action: Literal["LONG", "SHORT"]
    quantity: str
    entryPrice: str
    currentPrice: str
    unrealizedPnL: str
    realizedPnL: NotRequired[str | None]
    status: Literal["OPEN", "UPDATED", "CLOSED"]
    reason: NotRequired[str | None]
    trailingStopActivated: NotRequired[bool]
    stopLossPrice: NotRequired[str | None]
    takeProfitPrice: NotRequired[str | None]
    isActive: bool
    updatedAt: str
    exchange: NotRequired[str | None]
    leverage: NotRequired[str | None]
    openedAt: NotRequired[str | None]
    traderName: NotRequired[str | None]


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


class RiskAlertPayloadViolationsItem(TypedDict):
    type: Literal["BUDGET", "LEVERAGE", "EXPOSURE", "DAILY_LOSS", "STOP_LOSS", "EMERGENCY", "UNKNOWN"]
    message: str
    details: NotRequired[dict[str, str | None]]


class RiskAlertPayload(TypedDict):
    id: str
    traderId: NotRequired[str | None]
    severity: Literal["INFO", "WARNING", "CRITICAL"]
    recommendation: NotRequired[Literal["ALLOW", "WARN", "BLOCK", "EMERGENCY_STOP"] | None]
    message: str
    violations: NotRequired[list[RiskAlertPayloadViolationsItem]]
    status: Literal["ACTIVE", "RESOLVED"]
    createdAt: str


class RiskAlertRowViolationsItem(TypedDict):
    type: Literal["BUDGET", "LEVERAGE", "EXPOSURE", "DAILY_LOSS", "STOP_LOSS", "EMERGENCY", "UNKNOWN"]
    message: str
    details: dict[str, str | None]


class RiskAlertRow(TypedDict):
    id: str
    traderId: str | None
    severity: Literal["INFO", "WARNING", "CRITICAL"]
    recommendation: Literal["ALLOW", "WARN", "BLOCK", "EMERGENCY_STOP"] | None
    message: str
    violations: list[RiskAlertRowViolationsItem]
    status: Literal["ACTIVE", "RESOLVED"]
    createdAt: str
    count: int
    lastSeenAt: str
    acknowledgedBy: str | None
    acknowledgedAt: str | None
    note: str | None
    activeSince: str | None
    escalatedAt: str | None


class MarketDataPayload(TypedDict):
    id: str
    symbol: str
    price: str
    source: str
    change24h: NotRequired[float | None]
    isSnapshot: NotRequired[bool]
    updatedAt: str
    exchange: NotRequired[str | None]
    bid: NotRequired[str | None]
    ask: NotRequired[str | None]
    size: NotRequired[str | None]


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


class ExecutionPayload(TypedDict):
    id: str
    orderId: str
    traderId: str
    positionId: NotRequired[str | None]
    symbol: str
    exchange: NotRequired[str | None]
    side: Literal["BUY", "SELL"]
    quantity: str
    price: str
    fee: NotRequired[str | None]
    feeCurrency: NotRequired[str | None]
    liquidity: NotRequired[Literal["MAKER", "TAKER"] | None]
    executedAt: str


class ExecutionRow(TypedDict):
    id: str
    orderId: str
    traderId: str
    positionId: str | None
    symbol: str
    exchange: str | None
    side: Literal["BUY", "SELL"]
    quantity: str
    price: str
    fee: str | None
    feeCurrency: str | None
    liquidity: Literal["MAKER", "TAKER"] | None
    executedAt: str


class CandlePayload(TypedDict):
    exchange: NotRequired[str | None]
    symbol: str
    interval: str
    open: str
    high: str
    low: str
    close: str
    volume: str
    openTime: str
    closed: bool


class CandleRow(TypedDict):
    exchange: str | None
    symbol: str
    interval: str
    open: str
    high: str
    low: str
    close: str
    volume: str
    openTime: str
    closed: bool


class SystemPayload(TypedDict):
    component: str
    status: Literal["UP", "DEGRADED", "DOWN"]
    kind: NotRequired[Literal["EXCHANGE", "CORE", "SERVICE", "ADMINISTRATION"]]
    message: NotRequired[str | None]
    since: str


class SystemRow(TypedDict):
    component: str
    status: Literal["UP", "DEGRADED", "DOWN"]
    kind: Literal["EXCHANGE", "CORE", "SERVICE", "ADMINISTRATION"]
    message: str | None
    since: str
