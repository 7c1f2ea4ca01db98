"""What a schedule stands on: bounds that few events fill, a kernel, an ear for errors, and rows."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

from virtual import Loop

import payloads
from cable import Cable
from telecast.fanout import backfill, cohort, fetcher, tape
from telecast.fanout.tape import Tape
from telecast.web import wire


@contextmanager
def small_bounds() -> Iterator[None]:
    """Chunks, pieces, slices, pages and buffers so small that a few events fill them."""
    with (
        mock.patch.object(tape, "SLACK", 2),
        mock.patch.object(backfill, "CHUNK_BYTES", 1_200),
        mock.patch.object(cohort, "PIECE_BYTES", 1_000),
        mock.patch.object(cohort, "SLICE_MEMBERS", 2),
        mock.patch.object(fetcher, "ENTRIES", 4),
        mock.patch.object(wire, "HIGH_WATER", 6_000),
        mock.patch.object(wire, "LOW_WATER", 1_500),
        mock.patch.dict(Tape.read.__kwdefaults__, scan=5),
    ):
        yield


@contextmanager
def kernel_of(cables: Mapping[int, Cable]) -> Iterator[None]:
    """The calls that the service makes past its transports, by a cable's descriptor."""

    def write(fd: int, data: Any) -> int:
        cable = cables.get(fd)
        return os_write(fd, data) if cable is None else cable.push(bytes(data))

    def ioctl(fd: int, request: int, arg: Any = 0) -> Any:
        return cables[fd].unacknowledged().to_bytes(4, sys.byteorder)

    os_write = os.write
    with mock.patch.object(os, "write", write), mock.patch.object(fcntl, "ioctl", ioctl):
        yield


class Errors(logging.Handler):
    """Whatever is logged as an error fails the schedule."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(logging.ERROR)
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        broken = AssertionError(f"logged: {record.getMessage()}")
        broken.__cause__ = record.exc_info[1] if record.exc_info else None
        self._loop.fail(broken)


def rows_of(rng: random.Random, channel: str, count: int) -> list[dict[str, Any]]:
    """Payloads of a few keys, some of which move between filters or end their row."""
    rows = []
    for _ in range(count):
        n, group = rng.randrange(4), rng.choice(("t0", "t0", "t1", "t2"))
        match channel:
            case "trader-status":
                reason = "DELETED" if rng.random() < 0.15 else None
                row = payloads.trader(
                    f"t{n}",
                    status=rng.choice(("RUNNING", "RUNNING", "PAUSED")),
                    exchange=rng.choice(("X", "Y", None)),
                    reason=reason,
                )
            case "positions":
                row = payloads.position(
                    f"p{n}", group, currentPrice=str(rng.randrange(10**6)), status="OPEN"
                )
                if rng.random() < 0.15:
                    row |= {"status": "CLOSED"}
            case "risk-alerts":
                row = payloads.alert(
                    f"a{n}",
                    rng.choice((group, None)),
                    severity=rng.choice(("WARNING", "CRITICAL")),
                    message=str(rng.randrange(10**6)),
                )
                if rng.random() < 0.15:
                    row |= {"status": "RESOLVED"}
            case _:
                exchange = rng.choice(("X", "Y", None))
                row = payloads.price(f"S{n}", exchange, price=str(rng.randrange(1, 10**6)))
        rows.append(row)
    return rows
