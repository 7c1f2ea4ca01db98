"""One measured run: a server, N subscribers, a publisher; what it cost and what arrived."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import Cores, Spent, cpu_of_each, free_port, memory, spent
from bench.payload import price
from bench.peers.base import Peer, Place, Running
from bench.tools import publishing, subscribers

BOUND = 0.70
"""The share of its core above which the load itself may have been what was measured."""
BUSY = 0.10
"""The share of a core above which what else runs on the machine has been measured too."""
LATE_MS = 5.0
"""A publisher whose p99 is later than this did not keep its schedule."""

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is asked of a server. Seconds of `warm` are published first and not counted."""

    clients: int
    rate: float
    seconds: float = 4.0
    warm: float = 1.0
    stalled: int = 0
    keys: int = 50
    filtered: bool = False
    grace: float = 2.0
    deadline: float = 10.0
    templates: tuple[str, ...] = (price(),)

    @property
    def first(self) -> int:
        return max(1, int(self.rate * self.warm))

    @property
    def end(self) -> int:
        return self.first + max(1, int(self.rate * self.seconds))


@contextmanager
def serving(peer: Peer, transport: str, cores: Cores) -> Iterator[Running]:
    """The peer's server in a folder of its own that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="telecast-bench-") as name:
        place = Place(folder=Path(name), port=free_port(), transport=transport, cores=cores)
        with peer.start(place) as running:
            yield running


def measure(running: Running, work: Work) -> Figures:
    """Subscribe, publish, count. Raises LoadFailed where that was not possible at all."""
    place, spoken = running.place, running.publication
    handing = (place.cores, place.folder, place.port, spoken, work.templates)
    crowd_options = {
        "clients": work.clients,
        "stalled": work.stalled,
        "keys": work.keys,
        "filtered": work.filtered,
        "grace": work.grace,
        "deadline": work.deadline,
        "room": work.end,
    }
    before = memory(running.pid)
    with subscribers(
        place.cores,
        place.folder,
        place.port,
        place.transport,
        running.subscription,
        **crowd_options,
    ) as crowd:
        opened = crowd.ready(30 + work.clients / 200)
        connected = memory(running.pid)
        with publishing(*handing, rate=work.rate, count=work.first, keys=work.keys):
            crowd.end(work.first, work.deadline + 20)
        crowd.mark(work.first)
        began = spent(running.pid, place.cores)
        alone = cpu_of_each(running.pid)
        measured = {"first": work.first, "count": work.end - work.first, "keys": work.keys}
        with publishing(*handing, rate=work.rate, **measured) as reported:
            heard = crowd.end(work.end, work.deadline + 20)
            used = spent(running.pid, place.cores).since(began)
            busiest = max(
                cpu - alone.get(pid, 0.0) for pid, cpu in cpu_of_each(running.pid).items()
            )
        after = memory(running.pid)
    return judged(
        work,
        reported,
        heard,
        used,
        busiest_us=1e6 * busiest / reported["sent"],
        opened_seconds=opened["seconds"],
        rss={"before": before["rss"], "connected": connected["rss"], "after": after["rss"]},
    )


def judged(work: Work, reported: Figures, heard: Figures, used: Spent, **more: Any) -> Figures:
    """The figures of a run from what publisher and subscribers say, and its marks."""
    received, window = heard["received"], max(heard["arriving"], reported["seconds"])
    # Both run on the same core: what one takes, the other has not.
    load = heard["cpu_user"] + heard["cpu_sys"] + reported["cpu"]
    figures: Figures = {
        "clients": work.clients,
        "rate": work.rate,
        "published": reported["sent"],
        "expected": heard["expected"],
        "received": received,
        "lost": heard["lost"],
        "overdue": heard["overdue"],
        "duplicates": heard["duplicates"],
        "out_of_order": heard["out_of_order"],
        "unknown": heard["unknown"],
        "closed": heard["closed"],
        "stalled_cut_off": heard["cut_off"],
        "fault": heard["fault"],
        "cpu_us": 1e6 * used.cpu / received if received else None,
        "event_us": 1e6 * used.cpu / reported["sent"],
        "server_core": used.cpu / window,
        "others_core": used.others(load),
        "per_second": received / window,
        "events_a_read": received / heard["reads"] if heard["reads"] else None,
        "bytes_a_delivery": heard["bytes"] / received if received else None,
        "latency_ms": {k: v / 1e3 for k, v in heard["latency"].items() if k != "count"},
        "late_ms": reported["lateness"]["p99"] / 1e3,
        "load_core": load / window,
        **more,
    }
    figures["marks"] = marks_of(figures)
    return figures


def marks_of(figures: Figures) -> list[str]:
    """What a reader must know about a run before believing it."""
    marks = core_marks(figures["load_core"], figures["others_core"])
    if figures["late_ms"] > LATE_MS:
        marks.append("publisher late")
    for name in ("lost", "overdue", "duplicates", "out_of_order", "closed"):
        if figures[name]:
            marks.append(f"{name.replace('_', ' ')} {figures[name]:,}")
    return marks


def core_marks(load: float, others: float) -> list[str]:
    """What shares of a core say: the load's own, and what others had of either core."""
    return ["load-bound"] * (load > BOUND) + ["machine busy"] * (others > BUSY)
