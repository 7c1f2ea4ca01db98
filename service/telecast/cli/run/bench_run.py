"""One run of `telecast bench`: its test rows, its subscribers, its publisher, its judgement."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import click

from telecast.cli.output import note
from telecast.client import Publisher, Refused, Stream
from telecast.client.connection.reports import Dropped, Report

PREFIX = "telecast-bench-"
ROWS = 20
"""Test rows that take turns: few enough to be withdrawn quickly."""
OPENING_AT_ONCE = 50
OPEN_SECONDS = 20.0
QUIET_SECONDS = 5.0
"""How long after the last arrival what has not come counts as lost."""
PATIENCE_SECONDS = 10.0
BOUND = 0.70
"""The share of a core above which this command may itself be what was measured."""

Transport = Literal["ws", "sse"]
TRANSPORTS: tuple[Transport, ...] = ("ws", "sse")


class BenchRows:
    """The rows of one run, made from the channel's example: under a name of the run's own, so
    that nobody else's row is touched.

    `about` is the channel as the service's catalogue describes it. Raises click.UsageError for a
    channel whose rows are not distinct, or can't be taken away again.
    """

    def __init__(self, about: Mapping[str, Any], name: str) -> None:
        self.channel = str(about["name"])
        self.name = name
        self._example: Mapping[str, Any] = about["example"]
        self._key: Sequence[str] = about["key"]
        self._fields: Mapping[str, Mapping[str, Any]] = about["schema"]["properties"]
        if about["mode"] != "keyed":
            raise click.UsageError(
                f"{self.channel} is a log: what is published there stays. Choose a keyed channel."
            )
        ids = [each for each in self._key if self._is_free(each)]
        group = [f for f in about["filters"] if self._is_free(f) and f not in ids[-1:]]
        if not ids:
            raise click.UsageError(f"{self.channel} has no id in its key to make test rows by.")
        self._id = ids[-1]
        self._group = group[0] if group else None
        taken = {*self._key, *about["filters"]}
        self._mark = self._field_for_marks([f for f in self._fields if f not in taken])
        self._filters: Sequence[str] = about["filters"]

    def _is_free(self, name: str) -> bool:
        """Whether a field takes any short text."""
        said = self._fields.get(name, {})
        return "string" in said.get("type", ()) and not {"enum", "format"} & said.keys()

    def _field_for_marks(self, free: Sequence[str]) -> str:
        """A field that can carry an event's number: a text, else an id, else a decimal."""
        texts = [f for f in free if self._is_free(f) and "pattern" not in self._fields[f]]
        ids = [f for f in free if self._is_free(f)]
        decimals = [f for f in free if self._fields[f].get("format") == "decimal"]
        for found in (texts[:1], ids[:1], decimals[-1:]):
            if found:
                return found[0]
        raise click.UsageError(f"{self.channel} has no field that could carry a test's number.")

    def payload(self, number: int, now: str) -> dict[str, Any]:
        """Event `number` of the run, which it carries; `now` is RFC 3339."""
        row = dict(self._example)
        row |= {f: now for f in row if self._fields[f].get("format") == "date-time"}
        if self._group is not None:
            row[self._group] = self.name
        row[self._id] = f"{self.name}-{number % ROWS}"
        is_decimal = self._fields[self._mark].get("format") == "decimal"
        row[self._mark] = str(number) if is_decimal else f"{PREFIX}{number}"
        return row

    @property
    def filters(self) -> dict[str, list[str]]:
        """What selects these rows, and few others."""
        if self._group is not None:
            return {self._group: [self.name]}
        if self._id in self._filters:
            return {self._id: [f"{self.name}-{number}" for number in range(ROWS)]}
        return {}

    def row_keys(self) -> list[str]:
        """The rows' keys, as the service derives them."""
        rows = [self.payload(number, instant()) for number in range(ROWS)]
        return [":".join(str(row[f]) for f in self._key if row.get(f) is not None) for row in rows]

    def number_of(self, event: Mapping[str, Any]) -> int | None:
        """Which event of this run it is; None for anybody else's."""
        data = event["data"]
        mine = str(data.get(self._id)).startswith(f"{self.name}-")
        number = str(data.get(self._mark)).removeprefix(PREFIX)
        return int(number) if mine and number.isdigit() else None


def instant() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(slots=True)
class Listener:
    """One subscriber: what came to it."""

    transport: Transport
    live: asyncio.Event = field(default_factory=asyncio.Event)
    seen: set[int] = field(default_factory=set)
    latencies: list[float] = field(default_factory=list)
    repeated: int = 0
    gaps: int = 0
    drops: int = 0
    last: str = ""

    def report(self, report: Report) -> None:
        if isinstance(report, Dropped):
            self.drops += 1
            self.last = report.reason


@dataclass(frozen=True, slots=True)
class Run:
    """What a run is to do."""

    url: str
    key: str | None
    rows: BenchRows
    clients: int
    rate: float
    seconds: float

    @property
    def events(self) -> int:
        return max(1, int(self.rate * self.seconds))


class Bench:
    """One run, in one process with one clock: an event's time is that at which it was handed over.

    Times are of `time.monotonic`, in seconds.
    """

    def __init__(self, asked: Run) -> None:
        self._asked = asked
        self._sent_at: list[float] = []
        self._late = 0.0
        self._arrived_at = 0.0
        self._all_here = asyncio.Event()
        self.listeners = [Listener(TRANSPORTS[n % 2]) for n in range(asked.clients)]

    async def run(self) -> dict[str, Any]:
        """Open, publish, wait, withdraw. Raises Refused, Unreachable, or a click exception."""
        asked = self._asked
        async with Publisher(
            asked.url, asked.key, patience=PATIENCE_SECONDS, insist=False
        ) as publisher:
            # Without the right to publish there is nothing to measure: that shows here, at once.
            # The rows are then part of every snapshot, which does not count.
            await publisher.publish(asked.rows.channel, self._batch(0, ROWS))
            try:
                return await self._measured(publisher)
            finally:
                await self._withdraw(publisher)

    async def _measured(self, publisher: Publisher) -> dict[str, Any]:
        tasks = []
        try:
            async with asyncio.TaskGroup() as opening:
                at_once = asyncio.Semaphore(OPENING_AT_ONCE)
                for listener in self.listeners:
                    tasks.append(asyncio.create_task(self._listen(listener)))
                    opening.create_task(self._opened(listener, tasks[-1], at_once))
            gc.collect()  # what opening left behind is not to be paid for by a latency
            began, cpu = time.monotonic(), time.process_time()
            await self._publish(publisher)
            await self._settle(tasks)
            return figures(
                self._asked,
                self.listeners,
                seconds=time.monotonic() - began,
                cpu=time.process_time() - cpu,
                late=self._late,
            )
        except* (Refused, click.ClickException) as group:
            raise _first(group) from None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _opened(
        self, listener: Listener, task: asyncio.Task[None], at_once: asyncio.Semaphore
    ) -> None:
        async with at_once:
            live = asyncio.create_task(listener.live.wait())
            await asyncio.wait(
                (live, task), timeout=OPEN_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            live.cancel()
        if task.done():
            await task
        if not listener.live.is_set():
            ready = sum(each.live.is_set() for each in self.listeners)
            why = listener.last or f"no stream within {OPEN_SECONDS:.0f} s"
            raise click.ClickException(
                f"Only {ready} of {len(self.listeners)} clients got a stream: {why}.\n"
                "Ask for fewer --clients, or raise what the service allows a key and an address."
            )

    async def _listen(self, listener: Listener) -> None:
        asked = self._asked
        stream = Stream(
            asked.url,
            asked.key,
            [asked.rows.channel],
            transport=listener.transport,
            delivery="all",
            filters=asked.rows.filters,
            insist=False,
            report=listener.report,
        )
        async with stream:
            async for message in stream:
                if message.type == "live":
                    listener.live.set()
                elif message.type in ("gap", "conflated"):
                    listener.gaps += 1
                elif message.type == "event" and not message.is_row:
                    self._take(listener, message.body)

    def _take(self, listener: Listener, event: Mapping[str, Any]) -> None:
        number = self._asked.rows.number_of(event)
        if number is None or number >= len(self._sent_at):
            return
        if number in listener.seen:
            listener.repeated += 1
            return
        self._arrived_at = time.monotonic()
        listener.seen.add(number)
        listener.latencies.append(self._arrived_at - self._sent_at[number])

    async def _publish(self, publisher: Publisher) -> None:
        """By the clock: what is due goes out together, however late the last answer was."""
        asked, began = self._asked, time.monotonic()
        sent = 0
        while sent < asked.events:
            wait = began + sent / asked.rate - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            now = time.monotonic()
            self._late = max(self._late, now - began - sent / asked.rate)
            due = min(asked.events, sent + 1_000, 1 + int((now - began) * asked.rate))
            due = max(due, sent + 1)
            self._sent_at += [now] * (due - sent)
            await publisher.publish(asked.rows.channel, self._batch(sent, due))
            sent = due

    def _batch(self, start: int, end: int) -> list[dict[str, Any]]:
        now = instant()
        return [self._asked.rows.payload(number, now) for number in range(start, end)]

    async def _settle(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Until all came to all, nothing comes any more, or a stream has ended for good."""
        self._arrived_at = max(self._arrived_at, time.monotonic())
        while time.monotonic() - self._arrived_at < QUIET_SECONDS:
            if all(len(each.seen) == self._asked.events for each in self.listeners):
                return
            for task in tasks:
                if task.done():
                    await task
            await asyncio.sleep(0.02)

    async def _withdraw(self, publisher: Publisher) -> None:
        channel, left = self._asked.rows.channel, []
        for key in self._asked.rows.row_keys():
            try:
                await publisher.withdraw(channel, key)
            except Refused as refused:
                if refused.code != "ROW_NOT_FOUND":
                    left.append(f"{key}: {refused.message}")
        if left:
            note(f"{len(left)} test rows could not be withdrawn; {left[0]}")


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """What a group holds was all caused by the same: one of them says it."""
    fault: BaseException = group
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """In ms: the value that so many per cent do not exceed, and the most."""
    if not values:
        return {}
    ordered = sorted(values)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
    last = len(ordered) - 1
    return {
        name: 1_000 * ordered[min(last, max(0, -int(-share * len(ordered) // 1) - 1))]
        for name, share in shares.items()
    }


def figures(
    asked: Run, listeners: Sequence[Listener], *, seconds: float, cpu: float, late: float
) -> dict[str, Any]:
    """What a run gave, ready for JSON. `lost`: expected by a client and not received by it."""
    transports = {}
    for transport in TRANSPORTS:
        here = [each for each in listeners if each.transport == transport]
        if here:
            received = sum(len(each.seen) for each in here)
            transports[transport] = {
                "clients": len(here),
                "received": received,
                "lost": len(here) * asked.events - received,
                "repeated": sum(each.repeated for each in here),
                "drops": sum(each.drops for each in here),
                "told_gaps": sum(each.gaps for each in here),
                "latency_ms": percentiles([t for each in here for t in each.latencies]),
            }
    return {
        "channel": asked.rows.channel,
        "published": asked.events,
        "rate": asked.rate,
        "late_ms": 1_000 * late,
        "transports": transports,
        "own_core": cpu / seconds,
        "load_bound": cpu / seconds > BOUND,
    }
