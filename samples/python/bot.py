"""A bot on paper that shows what it does: needs `pip install telecast`.

python bot.py paper-1 BINANCE BTCUSDT
"""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from decimal import Decimal

from telecast.client import Client, Refused, State

TARGET = Decimal("0.0005")
"""A position is closed when the price has moved by so much, either way."""
QUANTITY = Decimal("0.01")


def now():
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class Bot:
    def __init__(self, telecast, name, exchange, symbol):
        self.telecast = telecast
        self.name, self.exchange, self.symbol = name, exchange, symbol
        self.status = "IDLE"
        self.open = None
        self.trades = 0
        self.look = asyncio.Event()

    async def run(self, stop):
        """Trade until `stop` is set, or until risk management says so."""
        await self.say("STARTING", "reads its market")
        # What a run before this one left behind is not ours: this is the whole of our positions.
        await self.telecast.publish("positions", [], replace=f"traderId:{self.name}")
        prices = await self.telecast.view("market-data", exchange=self.exchange, symbol=self.symbol)
        alerts = await self.telecast.view("risk-alerts", traderId=self.name)
        async with asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(self.watch(each)) for each in (prices, alerts)]
            reason = await self.trade_until(stop, prices, alerts)
            for each in watching:
                each.cancel()
        await self.say("STOPPING", reason)
        if self.open is not None:
            await self.close(Decimal(self.open["currentPrice"]), reason)
        await self.say("STOPPED", reason)

    async def watch(self, view):
        """A new price, an alert and a lost connection alike are a reason to look."""
        async for _ in view.changed:
            self.look.set()

    async def trade_until(self, stop, prices, alerts):
        """Returns why it has ended."""
        while True:
            await self.look.wait()
            self.look.clear()
            if stop.is_set():
                return "was asked to stop"
            if self.has_to_stop(alerts):
                return "risk management says EMERGENCY_STOP"
            if prices.state is not State.LIVE or alerts.state is not State.LIVE:
                # Rows are as they were last known. Nobody trades on those.
                await self.say("PAUSED", f"prices {prices.state}, alerts {alerts.state}")
                continue
            await self.say("RUNNING", "trades")
            for row in prices.values():
                await self.trade(Decimal(row["price"]))

    def has_to_stop(self, alerts):
        return any(
            row["status"] == "ACTIVE" and row["recommendation"] == "EMERGENCY_STOP"
            for row in alerts.values()
        )

    async def trade(self, price):
        if self.open is None:
            self.trades += 1
            self.open = {
                "id": f"{self.name}-{self.trades}",
                "traderId": self.name,
                "exchange": self.exchange,
                "symbol": self.symbol,
                "action": "LONG",
                "quantity": f"{QUANTITY:f}",
                "entryPrice": f"{price:f}",
                "status": "OPEN",
                "isActive": True,
                "openedAt": now(),
            }
            await self.fill("BUY", price)
            await self.show(price)
        elif abs(price / Decimal(self.open["entryPrice"]) - 1) >= TARGET:
            await self.close(price, "target")
        else:
            self.open["status"] = "UPDATED"
            await self.show(price)

    async def close(self, price, reason):
        gain = (price - Decimal(self.open["entryPrice"])) * QUANTITY
        self.open |= {"status": "CLOSED", "isActive": False, "reason": reason}
        self.open["realizedPnL"] = f"{gain:f}"
        await self.fill("SELL", price)
        await self.show(price)
        self.open = None

    async def show(self, price):
        gain = (price - Decimal(self.open["entryPrice"])) * QUANTITY
        self.open |= {"currentPrice": f"{price:f}", "updatedAt": now()}
        self.open["unrealizedPnL"] = "0" if self.open["status"] == "CLOSED" else f"{gain:f}"
        await self.telecast.publish("positions", self.open)
        print(self.open["status"], self.open["id"], self.open["currentPrice"], flush=True)

    async def fill(self, side, price):
        """A fill is an event of its own, appended once: a key of ours, also over a repeat."""
        number = f"{self.open['id']}-{self.open['openedAt']}-{side}"
        row = {
            "id": number,
            "orderId": number,
            "traderId": self.name,
            "positionId": self.open["id"],
            "exchange": self.exchange,
            "symbol": self.symbol,
            "side": side,
            "quantity": self.open["quantity"],
            "price": f"{price:f}",
            "executedAt": now(),
        }
        await self.telecast.publish("executions", row, idempotency_key=number)

    async def say(self, status, reason):
        """A status that is as it was is not published again."""
        if status != self.status:
            self.status = status
            row = {"id": self.name, "name": self.name, "status": status, "reason": reason}
            row |= {"exchange": self.exchange, "symbol": self.symbol, "updatedAt": now()}
            await self.telecast.publish("trader-status", row)
            print(status, reason, flush=True)


async def main(name, exchange, symbol):
    url = os.environ.get("TELECAST_URL", "http://127.0.0.1:8080")
    async with Client(url, key=os.environ["TELECAST_KEY"]) as telecast:
        bot = Bot(telecast, name, exchange, symbol)
        stop = asyncio.Event()

        def end():
            stop.set()
            bot.look.set()

        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, end)
        await bot.run(stop)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except* Refused as refused:
        first = refused.exceptions[0]
        sys.exit(f"{first.code}: {first.message} {first.rule.advice}")
