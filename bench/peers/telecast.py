"""Telecast as `telecast serve` runs it, with the limits raised that the number of clients needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

from bench.peers.base import Place, Running, listening, server
from bench.tools import Publication, Subscription, get, post, upgrade
from telecast.keys import create_key

LIMITS = {
    "max-connections": 50_000,
    "max-connections-per-key": 50_000,
    "max-connections-per-address": 50_000,
    "new-connections-per-second": 50_000,
    "new-connections-burst": 50_000,
    "publishes-per-second": 1_000_000,
    "backlog-events": 1_000_000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Telecast:
    """`publish` is how events get in: ws, ndjson or post; `batch` is for ndjson.

    `query` is what subscribers ask for besides the channels.
    """

    name: str = "telecast"
    title: str = "Telecast"
    transports: tuple[str, ...] = ("ws", "sse")
    journal: str = "memory:"
    publish: str = "ws"
    batch: int = 10
    channels: tuple[str, ...] = ("market-data",)
    query: tuple[tuple[str, str], ...] = (("replay", "false"),)
    settings: tuple[tuple[str, str], ...] = ()

    def missing(self) -> str | None:
        return None

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        keys = place.folder / "keys.toml"
        key = create_key(keys, "bench", ["read", "publish"])
        settings = {
            "port": place.port,
            "journal": self.journal.replace("FOLDER", str(place.folder)),
            "keys": keys,
            "secret-file": place.folder / "secret",
            "log-level": "warning",
            "drain-seconds": 0,
            **LIMITS,
            **dict(self.settings),
        }
        flags = [f"--{name}={value}" for name, value in settings.items()]
        workers = int(dict(self.settings).get("workers", "1"))
        with server(place, [sys.executable, "-m", "telecast", "serve", *flags]) as pid:
            listening(place.port, workers)
            yield Running(
                pid=pid,
                place=place,
                subscription=self.subscription(place.transport, key),
                publication=self.publication(key),
                key=key,
            )

    def subscription(self, transport: str, key: str) -> Subscription:
        query = urlencode([("channels", ",".join(self.channels)), *self.query], safe="%:,")
        path = f"/{transport}/telemetry?{query}"
        # A subscriber by message, as the desktop does it, is served from the same code.
        request = (upgrade if transport == "ws" else get)(path, f"X-API-Key: {key}")
        return Subscription(request=request, dialect="telecast")

    def publication(self, key: str) -> Publication:
        channel, header = self.channels[0], f"X-API-Key: {key}"
        if self.publish == "ws":
            return Publication(
                kind="ws",
                request=upgrade("/ws/telemetry", header),
                before=f'{{"action":"publish","channel":"{channel}","data":',
                after="}",
            )
        path = f"/api/v1/channels/{channel}/events"
        if self.publish == "post":
            return Publication(kind="http", request=post(path, "application/json", header))
        request = post(path, "application/x-ndjson", header)
        return Publication(kind="http", request=request, batch=self.batch)
