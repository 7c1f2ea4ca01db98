"""An exchange's prices on `market-data`: needs `pip install telecast ccxt`.

python feed.py binance BTC/USDT ETH/USDT     from the exchange, by ccxt
python feed.py --recorded ticks.ndjson 10    a recording, ten times as fast; needs no ccxt
"""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from telecast.client import Client, Refused, Unreachable

AT_ONCE_SECONDS = 0.1
"""Prices are gathered for so long: a batch costs one commit, however many rows it has."""
QUIET_SECONDS = 5


def now():
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def plain(number):
    """Digit for digit, without an exponent; None stays None."""
    return None if number is None else f"{Decimal(number):f}"


# --- where prices come from: an async iterator of rows for `market-data`


async def exchange(name, symbols):
    """For ever. Raises what ccxt raises, which comes back by itself from most cuts."""
    import ccxt.pro

    connected = getattr(ccxt.pro, name)()
    connected.number = str  # as the exchange wrote it: the way through a float would change digits
    try:
        while True:
            for ticker in (await connected.watch_tickers(symbols)).values():
                if ticker["last"] is not None:
                    yield row(name, ticker)
    finally:
        await connected.close()


def row(name, ticker):
    return {
        "id": f"{name}:{ticker['symbol']}",
        "exchange": name.upper(),
        "symbol": ticker["symbol"].replace("/", ""),
        "price": plain(ticker["last"]),
        "bid": plain(ticker["bid"]),
        "ask": plain(ticker["ask"]),
        "change24h": None if ticker["percentage"] is None else float(ticker["percentage"]),
        "source": "ccxt",
        "updatedAt": ticker["datetime"] or now(),
    }


async def recording(path, speed):
    """To the file's end: lines of `t` in seconds, `exchange`, `symbol`, `price` and more."""
    started = asyncio.get_running_loop().time()
    text = await asyncio.to_thread(Path(path).read_text, "utf-8")
    for number, line in enumerate(text.splitlines()):
        tick = json.loads(line)
        due = started + tick.pop("t") / speed
        await asyncio.sleep(max(0, due - asyncio.get_running_loop().time()))
        numbers = {name: plain(tick.get(name)) for name in ("price", "bid", "ask", "size")}
        own = {"id": str(number), "source": "recording", "updatedAt": now()}
        yield {**tick, **own, **numbers}


# --- and where they go


class Feed:
    """Keeps each instrument's newest price until it is published: never more than that waits."""

    def __init__(self, telecast, name):
        self.telecast = telecast
        self.name = name
        self.newest = {}
        self.arrived = asyncio.Event()
        self.ended = False
        self.fault = None

    async def read(self, source):
        """Up to the source's end, or to its fault."""
        try:
            async for price in source:
                self.newest[price["exchange"], price["symbol"]] = price
                self.arrived.set()
        except Exception as fault:
            self.fault = fault
        self.ended = True
        self.arrived.set()

    async def publish(self):
        """All that is published comes from here, in its order; a fault of the source is raised."""
        await self.report("UP", "prices come")
        while not self.ended or self.newest:
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    await self.arrived.wait()
            except TimeoutError:
                # Nothing has changed, and we are there: without this the channel becomes stale.
                await self.telecast.alive("market-data")
                continue
            self.arrived.clear()
            rows, self.newest = list(self.newest.values()), {}
            if rows:
                receipt = await self.telecast.publish("market-data", rows)
                print(receipt["accepted"], "prices up to", receipt["position"], flush=True)
            if not self.ended:
                await asyncio.sleep(AT_ONCE_SECONDS)
        if self.fault is None:
            await self.report("DOWN", "the recording has ended")
        else:
            await self.report("DOWN", f"{type(self.fault).__name__}: {self.fault}"[:400])
            raise self.fault

    async def report(self, status, message):
        state = {"component": self.name, "kind": "EXCHANGE", "status": status, "since": now()}
        try:
            await self.telecast.publish("system", {**state, "message": message})
        except Refused as refused:
            if refused.code != "FORBIDDEN":
                raise
            print("left out on system:", status, "-", refused.message, flush=True)


async def main(arguments):
    if arguments[0] == "--recorded":
        await run("RECORDING", recording(arguments[1], float(arguments[2])))
    else:
        await run(arguments[0].upper(), exchange(arguments[0], arguments[1:]))


async def run(name, source):
    url = os.environ.get("TELECAST_URL", "http://127.0.0.1:8080")
    async with Client(url, key=os.environ["TELECAST_KEY"]) as telecast:
        feed = Feed(telecast, name)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(feed.read(source))
            tasks.create_task(feed.publish())


def start(running):
    """Run it to its end, which is a sentence where it can't be helped."""
    try:
        asyncio.run(running)
    except* Refused as refused:
        first = refused.exceptions[0]
        sys.exit(f"{first.code}: {first.message} {first.rule.advice}")
    except* Unreachable as away:
        sys.exit(str(away.exceptions[0]))
    except* ModuleNotFoundError as missing:
        sys.exit(f"{missing.exceptions[0]}: pip install ccxt")
    except* KeyboardInterrupt:
        pass


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    start(main(sys.argv[1:]))
