"""Payloads that the catalogue accepts; a test says only what it is about."""

from __future__ import annotations

from typing import Any

Payload = dict[str, Any]
AT = "2026-11-22T18:17:19.387Z"


def trader(id: str = "t1", **said: Any) -> Payload:
    return {"id": id, "name": f"Trader {id}", "status": "RUNNING", "updatedAt": AT, **said}


def position(id: str = "p1", trader: str = "t1", **said: Any) -> Payload:
    return {
        "id": id,
        "traderId": trader,
        "symbol": "BTCUSDT",
        "action": "LONG",
        "quantity": "0.50",
        "entryPrice": "67000.00",
        "currentPrice": "67250.10",
        "unrealizedPnL": "125.0500",
        "status": "OPEN",
        "isActive": True,
        "updatedAt": AT,
        **said,
    }


def alert(id: str = "a1", trader: str | None = "t1", **said: Any) -> Payload:
    return {
        "id": id,
        "traderId": trader,
        "severity": "WARNING",
        "message": "The daily loss nears its limit.",
        "status": "ACTIVE",
        "createdAt": AT,
        **said,
    }


def price(symbol: str = "BTCUSDT", exchange: str | None = "BINANCE", **said: Any) -> Payload:
    return {
        "id": f"{exchange}:{symbol}",
        "symbol": symbol,
        "exchange": exchange,
        "price": "67250.10",
        "source": "test",
        "updatedAt": AT,
        **said,
    }


def metrics(**said: Any) -> Payload:
    return {
        "totalTrades": 10,
        "winningTrades": 6,
        "losingTrades": 4,
        "totalProfit": "120.00",
        "totalLoss": "-40.0",
        "netProfit": "80.00",
        "averageProfit": "20.000",
        "averageLoss": "-10",
        "maxDrawdown": "0.10",
        "winRate": 0.6,
        **said,
    }
