"""The floor: a C program that gives each event to each socket by one send(), and no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench import build
from bench.peers.base import Place, Running, server
from bench.tools import Publication, Subscription, get, upgrade


class Floor:
    name = "floor"
    title = "bare C send() loop"
    transports = ("ws", "sse")

    def missing(self) -> str | None:
        return None

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        with server(place, [build.program("floor"), str(place.port), place.transport]) as pid:
            yield Running(
                pid=pid,
                place=place,
                subscription=Subscription(
                    request=upgrade("/") if place.transport == "ws" else get("/")
                ),
                publication=Publication(kind="lines", request=get("/publish")),
            )
