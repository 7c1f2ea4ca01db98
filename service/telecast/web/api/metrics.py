"""GET /metrics, in the text format of Prometheus: each value is read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web
from aioprometheus.collectors import Counter, Gauge, Histogram, Registry
from aioprometheus.formats.text import TextFormatter

from telecast.web.api.metric_table import METRICS
from telecast.web.auth.credentials import require
from telecast.web.parts import Parts


class _LiveCounter(Counter):
    """A counter whose values are read at the scrape."""

    def __init__(self, name: str, doc: str, read: Callable[[], Any], registry: Registry):
        super().__init__(name, doc, registry=registry)
        self._read = read

    def get_all(self) -> list[tuple[dict[str, str], Any]]:
        return list(self._read())


class _LiveGauge(Gauge):
    def __init__(self, name: str, doc: str, read: Callable[[], Any], registry: Registry):
        super().__init__(name, doc, registry=registry)
        self._read = read

    def get_all(self) -> list[tuple[dict[str, str], Any]]:
        return list(self._read())


class _LiveHistogram(Histogram):
    def __init__(self, name: str, doc: str, read: Callable[[], Any], registry: Registry):
        super().__init__(name, doc, registry=registry)
        self._read = read

    def get_all(self) -> list[tuple[dict[str, str], Any]]:
        return [({}, self._read())]


KINDS = {"counter": _LiveCounter, "gauge": _LiveGauge, "histogram": _LiveHistogram}


def build_registry(parts: Parts) -> Registry:
    """One registry per application. Label values come from closed sets only: aioprometheus
    does not escape them (its issue 91)."""
    registry = Registry()
    for metric in METRICS:
        KINDS[metric.kind](metric.name, metric.help, partial(metric.read, parts), registry)
    return registry


REGISTRY = web.AppKey("registry", Registry)


async def metrics(request: web.Request) -> web.Response:
    require(request, "metrics")
    formatter: Any = TextFormatter()
    return web.Response(
        body=formatter.marshall(request.app[REGISTRY]), headers=formatter.get_headers()
    )
