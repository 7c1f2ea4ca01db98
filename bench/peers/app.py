"""Peers that are a library: a small server of ours, in apps/, broadcasts as their documents show.

All take what is published on a connection of their own kind, as messages.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.peers.base import Place, Running, server
from bench.tools import Publication, Subscription, get, upgrade

APPS = Path(__file__).parent / "apps"
ENGINE = "/socket.io/?EIO=4&transport=websocket"
PLAIN = Publication(kind="ws", request=upgrade("/publish"))
SOCKETIO = Publication(
    kind="ws", request=upgrade(ENGINE), before='42["publish",', after="]", socketio=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """`needs` are the packages without which it does not run."""

    name: str
    title: str
    file: str
    needs: tuple[str, ...]
    transports: tuple[str, ...] = ("ws",)
    publication: Publication = PLAIN
    subscriptions: tuple[Subscription, ...]

    def missing(self) -> str | None:
        if self.file.endswith(".py"):
            absent = [name for name in self.needs if importlib.util.find_spec(name) is None]
            return f"pip install {' '.join(absent)}".replace("_", "-") if absent else None
        if shutil.which("node") is None:
            return "there is no Node"
        absent = [name for name in self.needs if not (APPS / "node_modules" / name).is_dir()]
        return "npm install --prefix bench/peers/apps" if absent else None

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        runtime = sys.executable if self.file.endswith(".py") else "node"
        with server(place, [runtime, APPS / self.file, str(place.port)]) as pid:
            yield Running(
                pid=pid,
                place=place,
                subscription=self.subscriptions[self.transports.index(place.transport)],
                publication=self.publication,
            )


BOTH = (
    Subscription(request=upgrade("/ws")),
    Subscription(request=get("/sse", "Accept: text/event-stream")),
)
SOCKETIO_CLIENT = Subscription(request=upgrade(ENGINE), dialect="socketio")

APP_PEERS = (
    App(
        name="ws",
        title="ws on Node",
        file="ws_server.js",
        needs=("ws",),
        subscriptions=BOTH[:1],
    ),
    App(
        name="aiohttp",
        title="plain aiohttp",
        file="aiohttp_server.py",
        needs=("aiohttp", "aiohttp_sse", "uvloop"),
        transports=("ws", "sse"),
        subscriptions=BOTH,
    ),
    App(
        name="starlette",
        title="Starlette",
        file="starlette_server.py",
        needs=("starlette", "sse_starlette", "uvicorn", "uvloop", "websockets", "httptools"),
        transports=("ws", "sse"),
        subscriptions=BOTH,
    ),
    App(
        name="socketio",
        title="Socket.IO on Node",
        file="socketio_server.js",
        needs=("socket.io",),
        publication=SOCKETIO,
        subscriptions=(SOCKETIO_CLIENT,),
    ),
    App(
        name="python-socketio",
        title="python-socketio",
        file="python_socketio_server.py",
        needs=("socketio", "uvicorn", "uvloop", "websockets", "httptools"),
        publication=SOCKETIO,
        subscriptions=(SOCKETIO_CLIENT,),
    ),
)
