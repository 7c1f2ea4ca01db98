"""GET /metrics: plain counts, read when somebody asks. Nothing is counted here on the hot path."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web
from aioprometheus.collectors import Counter, Gauge, Histogram, Registry
from aioprometheus.formats.text import TextFormatter

from telecast import __version__, logs
from telecast.lag import Lag
from telecast.net.admission import WHY
from telecast.web.auth.credentials import require
from telecast.web.parts import Parts

Samples = Iterable[tuple[dict[str, str], float]]
TRANSPORTS = ("ws", "sse")


class _LiveCounter(Counter):
    """A counter whose values are read at the scrape."""

    def __init__(self, name: str, doc: str, read: Callable[[], Samples], registry: Registry):
        super().__init__(name, doc, registry=registry)
        self._read = read

    def get_all(self) -> list[tuple[dict[str, str], Any]]:
        return list(self._read())


class _LiveGauge(Gauge):
    def __init__(self, name: str, doc: str, read: Callable[[], Samples], registry: Registry):
        super().__init__(name, doc, registry=registry)
        self._read = read

    def get_all(self) -> list[tuple[dict[str, str], Any]]:
        return list(self._read())


class _LiveHistogram(Histogram):
    """`read` gives upper bounds with how many are no higher, then "sum" and "count"."""

    def __init__(
        self, name: str, doc: str, read: Callable[[], dict[float | str, float]], registry: Registry
    ):
        super().__init__(name, doc, registry=registry)
        self._read = read

    def get_all(self) -> list[tuple[dict[str, str], Any]]:
        return [({}, self._read())]


def build_registry(parts: Parts) -> Registry:
    """One registry per application. Label values come from closed sets only: aioprometheus
    does not escape them (its issue 91)."""
    registry = Registry()
    tally, broadcaster = parts.broadcaster.tally, parts.broadcaster
    started = time.time()

    def counter(name: str, doc: str, read: Callable[[], Samples]) -> None:
        _LiveCounter(f"telecast_{name}", doc, read, registry)

    def gauge(name: str, doc: str, read: Callable[[], Samples]) -> None:
        _LiveGauge(f"telecast_{name}", doc, read, registry)

    gauge(
        "connections",
        "Open streams.",
        lambda: [
            ({"transport": transport}, parts.clients.connections()[transport])
            for transport in TRANSPORTS
        ],
    )
    counter(
        "connections_opened_total",
        "Streams opened.",
        lambda: [
            ({"transport": transport}, parts.clients.opened[transport]) for transport in TRANSPORTS
        ],
    )
    counter(
        "connections_refused_total",
        "Streams refused at admission, by error code.",
        lambda: [({"code": code}, n) for code, n in parts.clients.refused.items()],
    )
    gauge(
        "sockets",
        "Open connections, those that have not asked for anything included.",
        lambda: [({}, len(parts.admission))],
    )
    counter(
        "sockets_closed_total",
        "Connections, no streams, that the service closed, by why.",
        lambda: [({"why": why}, parts.admission.closed[why]) for why in WHY],
    )
    counter(
        "wrong_keys_total",
        "Keys shown that are none, by the error code that was answered.",
        lambda: [({"code": code}, n) for code, n in parts.guesses.answered.items()],
    )
    gauge(
        "keys_file_usable",
        "1 while the keys file can be read and is right; 0 while older keys stay in force.",
        lambda: [({}, float(parts.keys.trouble is None))],
    )
    gauge(
        "journal_file_bytes",
        "Size of the journal's file; 0 in memory.",
        lambda: [({}, parts.journal.figures().file_bytes)],
    )
    gauge(
        "journal_log_bytes",
        "Size of the journal's log (-wal), which grows while another program reads for long.",
        lambda: [({}, parts.journal.figures().log_bytes)],
    )
    gauge(
        "journal_idempotency_keys",
        "Idempotency keys that the journal remembers.",
        lambda: [({}, parts.journal.figures().idempotency_keys)],
    )
    counter(
        "clock_jumps_total",
        "Steps of the system's clock that deletion by age has waited out.",
        lambda: [({}, parts.journal.figures().clock_jumps)],
    )
    counter(
        "evictions_total",
        "Streams that the service ended, by error code.",
        lambda: [({"code": code}, n) for code, n in tally.evicted.items()],
    )
    counter(
        "frames_refused_total",
        "WebSockets ended because of a frame, by reason.",
        lambda: [({"reason": reason}, n) for reason, n in parts.frames_refused.items()],
    )
    gauge(
        "subscriptions",
        "Streams that hear a channel.",
        lambda: [({"channel": name}, broadcaster.hearers(name)) for name in parts.catalogue],
    )
    counter(
        "events_published_total",
        "Events committed through this node.",
        lambda: [({"channel": name}, n) for name, n in parts.ingress.tally.published.items()],
    )
    counter(
        "publishes_refused_total",
        "Publishes refused after validation, by error code.",
        lambda: [({"code": code}, n) for code, n in parts.ingress.tally.refused.items()],
    )
    counter(
        "publishes_duplicate_total",
        "Publishes answered from an idempotency key.",
        lambda: [({}, parts.ingress.tally.duplicates)],
    )
    counter(
        "events_delivered_total",
        "Events handed to live streams.",
        lambda: [({"channel": c, "transport": d}, n) for (c, d), n in tally.delivered.items()],
    )
    counter(
        "events_backfilled_total",
        "Events and rows handed to streams that were behind.",
        lambda: [
            ({"transport": transport}, tally.backfilled[transport]) for transport in TRANSPORTS
        ],
    )
    counter(
        "events_left_out_total",
        "Events conflated away for slow or rate-limited streams.",
        lambda: [({"transport": transport}, tally.left_out[transport]) for transport in TRANSPORTS],
    )
    counter(
        "sent_bytes_total",
        "Bytes of events and rows.",
        lambda: [({"transport": transport}, tally.bytes[transport]) for transport in TRANSPORTS],
    )
    counter("stalls_total", "Times that a stream's buffer was full.", lambda: [({}, tally.stalls)])
    counter("flushes_total", "Rounds of flushes.", lambda: [({}, tally.flushes)])
    counter("flush_seconds_total", "Seconds spent in them.", lambda: [({}, tally.flush_seconds)])
    gauge(
        "publish_backlog_events",
        "Events that wait to be committed.",
        lambda: [({}, parts.ingress.backlog[0])],
    )
    counter(
        "alerts_escalated_total",
        "Critical alerts that nobody acknowledged in time.",
        lambda: [({"channel": each.channel.name}, each.escalated) for each in parts.alerts],
    )
    gauge(
        "alerts_unacknowledged",
        "Critical alerts that nobody has acknowledged and that are not escalated yet.",
        lambda: [({"channel": each.channel.name}, each.unacknowledged) for each in parts.alerts],
    )
    gauge("head_seq", "The newest seq told.", lambda: [({}, parts.tape.head)])
    gauge(
        "tape_events",
        "Events in memory.",
        lambda: [({"channel": n}, len(log)) for n, log in parts.tape.logs.items()],
    )
    _LiveHistogram(
        "telecast_event_loop_lag_seconds",
        "How late the event loop wakes a timer, ten times a second.",
        lambda: _histogram(parts.lag),
        registry,
    )
    counter(
        "log_lines_dropped_total",
        "Log lines that were dropped because their reader had stopped.",
        lambda: [({}, logs.dropped())],
    )
    gauge("ready", "1 when new work is welcome.", lambda: [({}, float(parts.ready))])
    gauge(
        "build_info",
        "Always 1.",
        lambda: [({"version": __version__, "python": platform.python_version()}, 1)],
    )
    _LiveGauge(
        "process_start_time_seconds",
        "Seconds since 1970.",
        lambda: [({}, started)],
        registry,
    )
    _LiveCounter("process_cpu_seconds_total", "User and system time.", _cpu, registry)
    _LiveGauge("process_resident_memory_bytes", "Resident memory.", _resident, registry)
    return registry


def _histogram(lag: Lag) -> dict[float | str, float]:
    buckets = lag.buckets()
    return {**dict(buckets), "sum": lag.seconds, "count": buckets[-1][1]}


def _cpu() -> Samples:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return [({}, usage.ru_utime + usage.ru_stime)]


def _resident() -> Samples:
    try:
        with open("/proc/self/statm", "rb") as statm:
            pages = int(statm.read().split()[1])
        return [({}, pages * resource.getpagesize())]
    except OSError:  # not Linux: the peak, in KiB or (macOS) bytes
        unit = 1 if sys.platform == "darwin" else 1024
        return [({}, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)]


REGISTRY = web.AppKey("registry", Registry)


async def metrics(request: web.Request) -> web.Response:
    require(request, "metrics")
    formatter: Any = TextFormatter()
    return web.Response(
        body=formatter.marshall(request.app[REGISTRY]), headers=formatter.get_headers()
    )
