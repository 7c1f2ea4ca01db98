"""What a configured channel costs beside the same built-in one: `python -m bench.channels`.

One process with the service, its publisher and its subscribers, so only the ratios mean something.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from telecast.app import create_app, parts_of
from telecast.channel_file import read_catalogue
from telecast.channels.catalogue import CHANNELS, Catalogue
from telecast.config import Settings
from telecast.keys import KeyStore
from telecast.model import SCOPES, Principal
from telecast.server import Server

SUBSCRIBERS = 20
EVENTS = 1_500
BATCH = 10
ROUNDS = 7
MANY = 200
"""Channels of the file whose start is timed."""

TWIN = """
[quotes]
key = ["exchange", "symbol"]
filters = ["symbol", "exchange"]
[quotes.fields]
id = { type = "id", example = "BINANCE:BTCUSDT" }
symbol = { type = "id", example = "BTCUSDT" }
price = { type = "decimal", example = "67250.10" }
source = { type = "id", example = "feed" }
change24h = { type = "ratio", nullable = true }
isSnapshot = { type = "flag", nullable = true }
updatedAt = { type = "instant" }
exchange = { type = "id", example = "BINANCE" }
bid = { type = "decimal", nullable = true }
ask = { type = "decimal", nullable = true }
size = { type = "decimal", nullable = true }
"""
"""market-data, as a user would write it."""
HOLDER = Principal(key_id="00000001", name="bench", scopes=frozenset(SCOPES))


def catalogue_of(text: str) -> Catalogue:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "channels.toml"
        path.write_text(text)
        return read_catalogue(path)


def many(count: int) -> str:
    return "\n".join(TWIN.replace("quotes", f"c{number}") for number in range(count))


async def cost(catalogue: Catalogue, channels: Sequence[str]) -> dict[str, float]:
    """CPU in µs of an event, published and received by all, for each channel; the rounds take
    turns, so that both see the same machine."""
    settings = Settings(journal="memory:", port=0, drain_seconds=0.0)
    keys, secrets = KeyStore.of(HOLDER, now=time.time)
    app = create_app(settings, keys=keys, catalogue=catalogue)
    headers = {"X-API-Key": secrets[HOLDER.key_id]}
    found: dict[str, list[float]] = {name: [] for name in channels}
    async with Server(app, settings) as server, aiohttp.ClientSession(headers=headers) as session:
        for _ in range(ROUNDS):
            for name in channels:
                url = f"{server.url}/ws/telemetry?channels={name}&delivery=all&replay=false"
                sockets = [await session.ws_connect(url) for _ in range(SUBSCRIBERS)]
                readers = [asyncio.create_task(received(each)) for each in sockets]
                began = time.process_time()
                for _ in range(EVENTS // BATCH):
                    rows = [CHANNELS["market-data"].example] * BATCH
                    await parts_of(app).ingress.publish(HOLDER, name, rows)
                await asyncio.gather(*readers)
                found[name].append(1e6 * (time.process_time() - began) / EVENTS)
                for each in sockets:
                    await each.close()
    return {name: statistics.median(times) for name, times in found.items()}


async def received(socket: aiohttp.ClientWebSocketResponse) -> None:
    count = 0
    while count < EVENTS:
        count += b'"type":"event"' in (await socket.receive()).data.encode()


async def start(text: str) -> float:
    """CPU seconds from the file's text to a service that is ready."""
    began = time.process_time()
    catalogue = catalogue_of(text)
    settings = Settings(journal="memory:", port=0, drain_seconds=0.0)
    keys, _ = KeyStore.of(HOLDER, now=time.time, known={})
    async with Server(create_app(settings, keys=keys, catalogue=catalogue), settings):
        return time.process_time() - began


def report(name: str, figures: dict[str, Any]) -> None:
    print(name, ", ".join(f"{key} {value:.3g}" for key, value in figures.items()))


async def main() -> None:
    figures = await cost(catalogue_of(TWIN), ("market-data", "quotes"))
    figures["ratio"] = figures["quotes"] / figures["market-data"]
    report("CPU of an event to 20 subscribers, µs:", figures)
    crowd = await cost(catalogue_of(TWIN + many(MANY)), ("market-data", "quotes"))
    crowd["ratio"] = crowd["quotes"] / crowd["market-data"]
    report(f"the same beside {MANY} more channels:", crowd)
    report("start, CPU s:", {f"{MANY} channels": await start(many(MANY))})


if __name__ == "__main__":
    asyncio.run(main())
