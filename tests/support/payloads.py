"""Payloads that the catalogue accepts; a test says only what it is about."""

from __future__ import annotations

from typing import Any

from telecast.channels.builtin import AT
from telecast.channels.catalogue import CHANNELS

__all__ = ["AT", "Payload", "alert", "metrics", "position", "price", "trader"]

Payload = dict[str, Any]


def trader(id: str = "t1", **said: Any) -> Payload:
    return CHANNELS["trader-status"].example | {"id": id, "name": f"Trader {id}", **said}


def position(id: str = "p1", trader: str = "t1", **said: Any) -> Payload:
    return CHANNELS["positions"].example | {"id": id, "traderId": trader, **said}


def alert(id: str = "a1", trader: str | None = "t1", **said: Any) -> Payload:
    return CHANNELS["risk-alerts"].example | {"id": id, "traderId": trader, **said}


def price(symbol: str = "BTCUSDT", exchange: str | None = "BINANCE", **said: Any) -> Payload:
    return CHANNELS["market-data"].example | {
        "id": f"{exchange}:{symbol}",
        "symbol": symbol,
        "exchange": exchange,
        "source": "test",
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


ORDERS = """\
[orders]
title = "Orders"
filters = { symbol = "symbol", traderId = "traderId" }
pin = ["status"]
ends = { status = ["FILLED", "CANCELLED"] }
retention = { events = 5_000, age = "1h" }
stale_after = "90s"
[orders.fields]
id = { type = "id", example = "o1" }
symbol = { type = "id", example = "BTCUSDT" }
traderId = { type = "id", nullable = true, example = "t1" }
price = { type = "decimal", min = "0", example = "67250.10" }
status = { type = "choice", values = ["OPEN", "PARTIAL", "FILLED", "CANCELLED"] }
"""
"""A channel of a user's own, as channels.toml has it."""
