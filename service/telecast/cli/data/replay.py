"""telecast replay: a recording into a running service, at its own pace or another."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson

from telecast.channel_file import read_catalogue
from telecast.cli.connection import run, service_options
from telecast.cli.output import note
from telecast.client import Publisher, Refused, Unreachable
from telecast.config import load_one
from telecast.errors import Code
from telecast.recording import Timed, read_recording

BATCH_EVENTS = 500
"""Events in one request: an eighth of what the service takes, so that they come in smoothly."""
BATCH_BYTES = 1 << 20
PATIENCE_SECONDS = 120.0
"""How long it waits for the service to come back."""
SHORTEST_ROUND = 1.0
"""Seconds of a recording's round in --loop at least: one tick at t=0 must not become a flood."""


@click.command(name="replay")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@service_options
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Times the recorded pace; 0: as fast as the service takes it.",
)
@click.option("--loop", "again", is_flag=True, help="Again and again, until Ctrl-C.")
def command(file: Path, url: str, key: str | None, speed: float, again: bool) -> None:
    """Publish the recording FILE: NDJSON, one event a line.

    `telecast record` makes such a file, and what `telecast tail --json` prints is one too. A line
    is {"t": seconds, "channel": ..., "data": {...}}, or a tick for market-data,
    {"t": ..., "exchange": ..., "symbol": ..., "price": ...} with bid, ask and size if known;
    `t` never falls. The whole file is checked before anything is sent. If the service restarts
    meanwhile, it goes on where it was: nothing is lost, nothing comes twice, the order stays.
    """
    items = read_recording(file, read_catalogue(load_one("channels", {})))

    async def play() -> None:
        async with Publisher(
            url, key, patience=PATIENCE_SECONDS, insist=False, report=_waiting
        ) as publisher:
            await player.play(publisher, again=again)

    player = Player(items, speed=speed)
    try:
        run(play())
    except KeyboardInterrupt:
        if not again:
            raise  # it was to go to its end and did not
    finally:
        note(player.summary())


class Player:
    """Sends what is due, in the recording's order: a batch is done before the next one begins."""

    def __init__(
        self,
        items: Sequence[Timed],
        *,
        speed: float,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`items` are not empty; `speed` 0 makes everything due at once."""
        self._items = items
        self._speed = speed
        self._clock = clock
        self._pause = pause
        self._now = now
        self._run = uuid.uuid4().hex[:16]
        self._sent = 0
        self._batches = 0
        self._began: float | None = None
        self._position = ""

    async def play(self, publisher: Publisher, *, again: bool = False) -> None:
        """Once, or for ever. Raises what `Publisher.publish` does."""
        self._began = self._clock()
        round_begins = 0.0
        length = max(SHORTEST_ROUND, self._items[-1].t)
        while True:
            await self._round(publisher, round_begins)
            if not again:
                return
            round_begins += length

    async def _round(self, publisher: Publisher, begins: float) -> None:
        items, first = self._items, 0
        while first < len(items):
            wait = self._wait(begins + items[first].t)
            if wait > 0:
                await self._pause(wait)
                continue
            channel, withdraws = items[first].channel, items[first].withdraws
            if withdraws is not None:
                await self._withdraw(publisher, channel, withdraws)
                first += 1
                continue
            body, end = self._batch(first, begins)
            self._batches += 1
            receipt = await publisher.publish(
                channel, body, idempotency_key=f"replay-{self._run}-{self._batches}"
            )
            self._sent += end - first
            self._position = str(receipt.get("position", ""))
            first = end

    async def _withdraw(self, publisher: Publisher, channel: str, key: str) -> None:
        try:
            receipt = await publisher.withdraw(channel, key)
        except Refused as refused:
            if refused.code != Code.ROW_NOT_FOUND:  # the recording began after the row did
                raise
        else:
            self._position = str(receipt.get("position", ""))
        self._sent += 1
        self._batches += 1

    def _wait(self, t: float) -> float:
        """Seconds until what is recorded at `t` is due; 0 or less: it is."""
        if not self._speed or self._began is None:
            return 0.0
        return self._began + t / self._speed - self._clock()

    def _batch(self, first: int, begins: float) -> tuple[bytes, int]:
        """What is due from `first` on as NDJSON, as far as it goes to the same channel."""
        items, size, lines = self._items, 0, list[bytes]()
        now = self._now().astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        for item in items[first : first + BATCH_EVENTS]:
            due = self._wait(begins + item.t) <= 0
            # What is sent was due when its batch began, so the first one always is.
            if item.withdraws is not None:
                break
            if lines and (not due or item.channel != items[first].channel or size > BATCH_BYTES):
                break
            lines.append(orjson.dumps(item.published_at(now)))
            size += len(lines[-1]) + 1
        return b"\n".join(lines), first + len(lines)

    def summary(self) -> str:
        """What was done, in a line."""
        seconds = self._clock() - self._began if self._began is not None else 0.0
        at = f", up to {self._position}" if self._position else ""
        return f"{self._sent} events in {seconds:.1f} s, {self._batches} batches{at}"


def _waiting(fault: Refused | Unreachable, delay: float) -> None:
    note(f"# {fault.message} Trying again in {delay:.1f} s")
