"""A table that is always current and says when it is not: needs `pip install telecast`."""

import asyncio
import os
import sys

from telecast.client import Client, Refused, State


async def main():
    url = os.environ.get("TELECAST_URL", "http://127.0.0.1:8080")
    # A line on which nothing comes for three heartbeats is dead, and made anew.
    async with Client(url, key=os.environ["TELECAST_KEY"], heartbeat=2) as telecast:
        prices = await telecast.view("market-data")
        shown = None
        async for update in prices.changed:  # the first update names all rows
            if update.state is not shown:
                shown = update.state  # dim the rows, and stop trading on them, unless it is live
                since = f"{prices.since:%H:%M:%S}"
                print(shown if shown is State.LIVE else f"{shown} since {since}", flush=True)
            for key in update.keys:
                print("row" if key in prices else "gone", "market-data", key, flush=True)


try:
    asyncio.run(main())
except Refused as refused:  # a wrong key, a channel that there is not: coming back is of no use
    sys.exit(f"{refused.code}: {refused.message} {refused.rule.advice}")
except KeyboardInterrupt:
    pass
