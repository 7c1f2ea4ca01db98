"""The same as feed.py beside it, by another library: needs `pip install telecast cryptofeed`.

python feed_by_cryptofeed.py BTC-USDT ETH-USDT
"""

import asyncio
import sys

from cryptofeed import FeedHandler
from cryptofeed.defines import TICKER
from cryptofeed.exchanges import Binance
from feed import now, plain, run, start

SILENT_SECONDS = 60


async def tickers(symbols):
    """For ever. Raises TimeoutError when nothing comes: the library does not say when it is cut."""
    rows = asyncio.Queue(1_000)

    async def on_ticker(ticker, received):
        price = {
            "id": f"{ticker.exchange}:{ticker.symbol}",
            "exchange": ticker.exchange,
            "symbol": ticker.symbol.replace("-", ""),
            "price": plain((ticker.bid + ticker.ask) / 2),
            "bid": plain(ticker.bid),
            "ask": plain(ticker.ask),
            "source": "cryptofeed",
            "updatedAt": now(),
        }
        await rows.put(price)

    handler = FeedHandler()
    handler.add_feed(Binance(symbols=symbols, channels=[TICKER], callbacks={TICKER: on_ticker}))
    handler.run(start_loop=False, install_signal_handlers=False)
    while True:
        async with asyncio.timeout(SILENT_SECONDS):
            row = await rows.get()
        yield row


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    start(run("BINANCE", tickers(sys.argv[1:])))
