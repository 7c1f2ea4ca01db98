"""telecast demo: a service on loopback with its own key and a live market, ready to look at."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import click
import uvloop

from telecast.app import create_app, parts_of
from telecast.cli.options import settings_options
from telecast.config import load_settings
from telecast.errors import OwnFault
from telecast.keys import KeyStore
from telecast.logs import configure
from telecast.model import SCOPES, Principal, Row
from telecast.server import serve_until_stopped
from telecast.sources.demo import market
from telecast.web.answers import rfc3339

BATCH_SECONDS = 0.02
"""Ticks due within this are published together, as a feed handler would."""


@click.command(name="demo")
@settings_options(without=("host", "keys", "config", "tls_cert", "tls_key", "behind_proxy"))
@click.option(
    "--ticks",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=("Play recorded ticks (NDJSON) instead of the synthetic market, again and again."),
)
@click.option("--speed", type=click.FloatRange(0.01, 1000), default=1.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the synthetic market.")
def command(ticks: Path | None, speed: float, seed: int, **flags: Any) -> None:
    """Serve on loopback with a key of its own and market data that moves; Ctrl-C ends it."""
    flags = {name: value for name, value in flags.items() if value is not None}
    settings = load_settings({"journal": "memory:", "log_level": "warning", **flags})
    configure(settings.log_format, settings.log_level)
    principal = Principal(key_id="de300000", name="demo", scopes=frozenset(SCOPES))
    keys, secrets = KeyStore.of(principal, now=time.time)
    key = secrets[principal.key_id]
    tape = _recorded(ticks, speed) if ticks is not None else _synthetic(seed, speed)
    app = create_app(settings, keys=keys)

    async def started(url: str) -> None:
        click.echo(_story(url, key))
        sys.stdout.flush()

    async def play() -> None:
        async for rows in _due(tape):
            # The demo is a publisher like any other: what it sends is checked and committed.
            try:
                await parts_of(app).ingress.publish(principal, "market-data", rows)
            except OwnFault as fault:
                click.echo(f"The market waits: {fault}", err=True)

    uvloop.run(serve_until_stopped(app, settings, started, beside=play))


def _story(url: str, key: str) -> str:
    return f"""
Telecast is live at {url} - paste any of these into another terminal:

  curl -N -H 'X-API-Key: {key}' '{url}/sse/telemetry?channels=market-data'

  telecast tail market-data --url {url} --key {key}

  curl -H 'X-API-Key: {key}' '{url}/api/v1/channels/market-data/snapshot'

Publish something yourself and watch it come out:

  telecast pub trader-status --url {url} --key {key} \\
    '{{"id":"t1","name":"Ada","status":"RUNNING","updatedAt":"2026-01-01T00:00:00Z"}}'

Ctrl-C stops it.
"""


def _synthetic(seed: int, speed: float) -> Iterator[tuple[float, Row]]:
    return ((at / speed, row) for at, row in market(seed))


def _recorded(path: Path, speed: float) -> Iterator[tuple[float, Row]]:
    """The recording without end. Raises TelecastError for a bad line before anything starts."""
    from telecast.sources.replay import read_recording

    items = [item for item in read_recording(path) if item.channel == "market-data"]
    if not items:
        raise OwnFault("INTERNAL", f"{path} has no market data.")
    return _again(items, speed)


def _again(items: list[Any], speed: float) -> Iterator[tuple[float, Row]]:
    length = items[-1].t + 1.0
    start = 0.0
    while True:
        for item in items:
            yield (start + item.t) / speed, dict(item.payload)
        start += length


async def _due(tape: Iterator[tuple[float, Row]]) -> AsyncIterator[list[Row]]:
    """Rows as their time comes, those of the same moment together, stamped with now."""
    started = time.monotonic()
    rows: list[Row] = []
    for at, row in tape:
        wait = started + at - time.monotonic()
        if rows and (wait > BATCH_SECONDS or len(rows) >= 500):
            yield rows
            rows = []
        if wait > 0:
            await asyncio.sleep(wait)
        rows.append({**row, "updatedAt": rfc3339(time.time())})
