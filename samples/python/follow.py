"""Every change once, over cuts, restarts and runs of this program: needs `pip install telecast`."""

import asyncio
import os
import sys

from telecast.client import Client, Op, PositionFile, Refused


async def main():
    url = os.environ.get("TELECAST_URL", "http://127.0.0.1:8080")
    # A line on which nothing comes for three heartbeats is dead, and made anew.
    async with Client(url, key=os.environ["TELECAST_KEY"], heartbeat=2) as telecast:
        place = PositionFile("position.txt")
        async for change in telecast.follow("market-data", keep=place):
            if change.op is Op.RESET:
                print("snapshot", change.channel, change.reason, flush=True)
            elif change.op is Op.GAP:
                print("gap", change.channel, change.reason, flush=True)
            else:
                print(change.op, change.channel, change.key, change.position, flush=True)


try:
    asyncio.run(main())
except Refused as refused:
    sys.exit(f"{refused.code}: {refused.message} {refused.rule.advice}")
except KeyboardInterrupt:
    pass
