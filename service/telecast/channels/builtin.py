"""The channels that Telecast brings. An entry here, or a table in channels.toml, is a channel."""

from __future__ import annotations

from telecast.channels import alerts, schemas
from telecast.channels.channel import Channel
from telecast.model import Retention, Row

DAY = 24 * 3600.0
AT = "2026-11-22T18:17:19.387Z"
"""The instant of the examples."""


def _market_key(row: Row) -> str:
    symbol: str = row["symbol"]
    return symbol if row["exchange"] is None else f"{row['exchange']}:{symbol}"


ENTRIES: tuple[Channel, ...] = (
    Channel(
        name="trader-status",
        title="Traders",
        description="One row per trader: what it does, why, and how it has done.",
        schema=schemas.TraderStatus(),
        key=lambda row: str(row["id"]),
        key_fields=("id",),
        filters={"traderId": "id", "exchange": "exchange", "symbol": "symbol"},
        pin=lambda row: row["status"],
        gone=lambda row: row["reason"] == "DELETED",
        retention=Retention(events=200_000, seconds=30 * DAY),
        stale_after=120.0,
        example={"id": "t1", "name": "Trader t1", "status": "RUNNING", "updatedAt": AT},
    ),
    Channel(
        name="positions",
        title="Positions",
        description="One row per position, from its opening to its close.",
        schema=schemas.Position(),
        key=lambda row: str(row["id"]),
        key_fields=("id",),
        filters={"traderId": "traderId", "exchange": "exchange", "symbol": "symbol"},
        # OPEN to UPDATED is a position that lives on: no change worth pinning.
        pin=lambda row: row["status"] == "CLOSED",
        gone=lambda row: row["status"] == "CLOSED",
        retention=Retention(events=500_000, seconds=30 * DAY),
        stale_after=120.0,
        example={
            "id": "p1",
            "traderId": "t1",
            "symbol": "BTCUSDT",
            "action": "LONG",
            "quantity": "0.50",
            "entryPrice": "67000.00",
            "currentPrice": "67250.10",
            "unrealizedPnL": "125.0500",
            "status": "OPEN",
            "isActive": True,
            "updatedAt": AT,
        },
    ),
    Channel(
        name="risk-alerts",
        title="Risk alerts",
        description="One row per alert that is not resolved, keyed by its fingerprint.",
        schema=schemas.RiskAlert(),
        key=lambda row: str(row["id"]),
        key_fields=("id",),
        filters={"traderId": "traderId", "severity": "severity"},
        pin=lambda row: (row["status"], row["severity"], row.get("escalatedAt")),
        gone=lambda row: row["status"] == "RESOLVED",
        retention=Retention(events=200_000, seconds=90 * DAY),
        example={
            "id": "a1",
            "traderId": "t1",
            "severity": "WARNING",
            "message": "The daily loss nears its limit.",
            "status": "ACTIVE",
            "createdAt": AT,
        },
        owned=alerts.owned,
        follow=alerts.follow,
    ),
    Channel(
        name="market-data",
        title="Market data",
        description="One row per instrument and exchange: its newest price.",
        schema=schemas.MarketData(),
        key=_market_key,
        key_fields=("exchange", "symbol"),
        filters={"symbol": "symbol", "exchange": "exchange"},
        pin=None,
        gone=lambda row: False,
        retention=Retention(events=500_000, seconds=2 * DAY),
        stale_after=30.0,
        example={
            "id": "BINANCE:BTCUSDT",
            "symbol": "BTCUSDT",
            "exchange": "BINANCE",
            "price": "67250.10",
            "source": "feed",
            "updatedAt": AT,
        },
        key_holds_filters=True,
    ),
)
