"""GET /metrics, in the text format of Prometheus: each value is read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web
from aioprometheus.collectors import Counter, Gauge, Histogram, Registry
from aioprometheus.formats.text import TextFormatter

from telecast.supervision.sums import Family, Labels
from telecast.web.api.metric import Metric
from telecast.web.api.metric_table import METRICS
from telecast.web.auth.credentials import require
from telecast.web.parts import Parts, parts_from


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


def report(parts: Parts) -> list[Family]:
    """What this process has counted, to be added to what others have."""
    return [
        Family(metric.kind, metric.name, metric.help, metric.join, _samples(metric, parts))
        for metric in METRICS
    ]


def _samples(metric: Metric, parts: Parts) -> tuple[tuple[Labels, float], ...]:
    found = metric.read(parts)
    if metric.kind == "histogram":
        return tuple(((("le", str(bound)),), value) for bound, value in found.items())
    return tuple(
        (tuple((name, str(value)) for name, value in labels.items()), float(value))
        for labels, value in found
    )


def _registry_of(families: list[Family]) -> Registry:
    """Of what the workers have counted together."""
    registry = Registry()
    for family in families:
        KINDS[family.kind](family.name, family.help, partial(_values, family), registry)
    return registry


def _values(family: Family) -> Any:
    if family.kind != "histogram":
        return [(dict(labels), value) for labels, value in family.samples]
    bounds = ((labels[0][1], value) for labels, value in family.samples)
    return {at if at in ("sum", "count") else float(at): value for at, value in bounds}


REGISTRY = web.AppKey("registry", Registry)


async def metrics(request: web.Request) -> web.Response:
    """Of all workers, whichever is asked."""
    require(request, "metrics")
    worker = parts_from(request).worker
    registry = request.app[REGISTRY] if worker is None else _registry_of(await worker.joined())
    formatter: Any = TextFormatter()
    return web.Response(body=formatter.marshall(registry), headers=formatter.get_headers())
