"""telecast bench: how fast a running service is, from where you stand."""

from __future__ import annotations

import contextlib
import ipaddress
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import click
import orjson
import uvloop
from yarl import URL

from telecast.cli.connection import DEFAULT_URL, Address, key_option, run
from telecast.cli.output import note, show
from telecast.cli.run.bench_run import PREFIX, ROWS, Bench, BenchRows, Run
from telecast.client import Publisher
from telecast.config import from_environment

LATE_MS = 100.0
"""A schedule that is missed by more is reported."""


def lines_of(figures: Mapping[str, Any]) -> Iterator[str]:
    """The figures for a terminal."""
    count, channel = figures["published"], figures["channel"]
    yield f"published {count:,} events to {channel}, {figures['rate']:g} a second"
    yield "transport  clients  received      lost   p50 ms   p90 ms   p99 ms p99.9 ms   max ms"
    totals: Counter[str] = Counter()
    for transport, each in figures["transports"].items():
        times = "".join(f"{each['latency_ms'].get(n, float('nan')):9.2f}" for n in _SHOWN)
        yield f"{transport:4} {each['clients']:8,} {each['received']:9,} {each['lost']:9,}{times}"
        totals.update({name: each[name] for name in ("repeated", "drops", "told_gaps")})
    for name, text in (
        ("repeated", "events came twice"),
        ("drops", "connections were lost and made again"),
        ("told_gaps", "times the service said that it left something out"),
    ):
        if totals[name]:
            yield f"{totals[name]:,} {text}"
    if figures["late_ms"] > LATE_MS:
        yield f"The publisher fell behind its schedule by up to {figures['late_ms']:.0f} ms."
    yield f"This command used {figures['own_core']:.0%} of a core."
    if figures["load_bound"]:
        yield "It was the limit itself: ask for fewer --clients, or for a lower --rate."


_SHOWN = ("p50", "p90", "p99", "p999", "max")


def is_loopback(url: str) -> bool:
    host = URL(url).host or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@click.command(name="bench")
@click.argument(
    "url",
    type=Address(),
    default=lambda: from_environment("TELECAST_URL") or DEFAULT_URL,
)
@key_option
@click.option(
    "--channel",
    default="market-data",
    show_default=True,
    help="A keyed channel of the service: test rows are made from its example.",
)
@click.option(
    "--clients",
    type=click.IntRange(1, 2_000),
    default=20,
    show_default=True,
    help="Subscribers, half of them by WebSocket and half by SSE.",
)
@click.option("--rate", type=click.FloatRange(0.1, 10_000), default=50.0, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=10.0, show_default=True)
@click.option("--yes", is_flag=True, help="Publish test rows, also to a service elsewhere.")
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
def command(
    url: str,
    key: str | None,
    channel: str,
    clients: int,
    rate: float,
    seconds: float,
    yes: bool,
    as_json: bool,
) -> None:
    """Measure the service at URL: how long an event takes to all, and whether all arrive.

    It publishes test rows, which everyone who follows the channel gets to see, and withdraws
    them at the end. Publisher and subscribers are one process here: for the service's own limits
    take the benchmarks of its repository.
    """
    if not (yes or is_loopback(url)):
        raise click.UsageError(
            f"{url} is not on this machine: all who follow {channel} there would see "
            f"{ROWS} test rows come and go. Say --yes if that is all right."
        )
    about = run(_described(url, key, channel))
    rows = BenchRows(about, PREFIX + uuid.uuid4().hex[:8])
    note(f"# publishing {ROWS} test rows, {rows.name}-..., to {channel}; they go again at the end")
    bench = Bench(Run(url, key, rows, clients, rate, seconds))
    figures = run(bench.run(), by=uvloop.run)
    if as_json:
        show(orjson.dumps(figures))
        return
    for line in lines_of(figures):
        show(line)


async def _described(url: str, key: str | None, channel: str) -> Mapping[str, Any]:
    """The channel as the service has it. Raises click.UsageError where it has none."""
    async with Publisher(url, key, insist=False) as publisher:
        found = {str(each["name"]): each for each in await publisher.channels()}
    if channel not in found:
        there = ", ".join(found) or "none"
        raise click.UsageError(f"The key reaches no channel {channel!r}; there are: {there}.")
    return found[channel]
