"""What a schedule stands on: bounds that few events fill, a kernel, an ear for errors, and rows."""

from __future__ import annotations

import errno
import fcntl
import logging
import random
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from telecast.fanout import backfill, cohort, fetcher
from telecast.net import wire
from telecast.net.plain import PlainWire
from telecast.tape import compacted
from telecast.tape.tape import Tape
from tests.simulation.cable import Cable
from tests.simulation.ends import Socket
from tests.simulation.virtual import Loop
from tests.support import payloads


@contextmanager
def small_bounds() -> Iterator[None]:
    """Chunks, pieces, slices, pages and buffers so small that a few events fill them."""
    with (
        mock.patch.object(compacted, "SLACK", 2),
        mock.patch.object(backfill, "CHUNK_BYTES", 1_200),
        mock.patch.object(cohort, "PIECE_BYTES", 1_000),
        mock.patch.object(cohort, "SLICE_MEMBERS", 2),
        mock.patch.object(fetcher, "ENTRIES", 4),
        mock.patch.object(wire, "HIGH_WATER", 6_000),
        mock.patch.object(wire, "LOW_WATER", 1_500),
        mock.patch.dict(Tape.read.__kwdefaults__, scan=5),
        mock.patch.dict(Tape.rows.__kwdefaults__, scan=5),
    ):
        yield


@contextmanager
def kernel_of(loop: Loop, spent: Callable[[], bool]) -> Iterator[None]:
    """The calls that the service makes past its transports; and an ear to what it holds back.

    `spent` says whether all descriptors are in use.
    """
    keep, abort = PlainWire.keep, PlainWire.abort

    def fromfd(fd: int, *_: int) -> Socket:
        if spent():
            loop.counts["no file to open"] += 1
            raise OSError(errno.EMFILE, "too many open files")
        return Socket(loop.files[fd].cable.open(lent=False))

    def ioctl(fd: int, request: int, arg: Any = 0) -> Any:
        if fd < 0:
            raise ValueError("no descriptor")
        assert loop.files[fd].open
        return loop.files[fd].cable.unacknowledged().to_bytes(4, sys.byteorder)

    def spy_keep(own: PlainWire, data: bytes, taken: int) -> bool:
        loop.counts["held back"] += 1
        cable = _cable(own)
        cable.high = wire.HIGH_WATER
        cable.hand(data[taken:])
        return keep(own, data, taken)

    def spy_abort(own: PlainWire) -> None:
        _cable(own).dropped = True
        abort(own)

    with (
        mock.patch.object(socket, "fromfd", fromfd),
        mock.patch.object(fcntl, "ioctl", ioctl),
        mock.patch.object(PlainWire, "keep", spy_keep),
        mock.patch.object(PlainWire, "abort", spy_abort),
    ):
        yield


def _cable(own: PlainWire) -> Cable:
    sock: Any = own._sock
    cable: Cable = sock.cable
    return cable


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
