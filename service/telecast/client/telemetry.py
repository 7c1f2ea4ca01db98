"""What a client reports of its work, to whoever watches the program that it is part of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from telecast.client.connection.reports import Report
from telecast.client.faults import Refused, Unreachable

log = logging.getLogger("telecast.client")

Done = Callable[[Mapping[str, Any]], None]
"""To be called with the receipt."""


class Telemetry(Protocol):
    """What a Client calls while it works. `telecast.client.otel.OpenTelemetry` is one.

    All calls are made on the event loop, and must neither wait nor raise.
    """

    def headers(self) -> Mapping[str, str]:
        """Headers that go with each request and each connection, such as `traceparent`."""
        ...

    def publishing(self, operation: str, channel: str, rows: int) -> AbstractContextManager[Done]:
        """Entered before the first try of a `publish` or `withdraw`, left after the last; what it
        gives is called with the receipt. What is raised in it is what the caller gets."""
        ...

    def retrying(self, fault: Refused | Unreachable, delay: float) -> None:
        """A try of a request has failed; the next follows after `delay` seconds."""
        ...

    def received(self, channel: str, timestamp: int) -> None:
        """A change came that `follow` yields, no row of a snapshot. `timestamp` is its commit, in
        ms since 1970 by the service's clock."""
        ...

    def reported(self, report: Report) -> None:
        """A stream's connection was lost, made again, or fell silent."""
        ...


class NoTelemetry:
    """Reports nothing."""

    def headers(self) -> Mapping[str, str]:
        return {}

    @contextmanager
    def publishing(self, operation: str, channel: str, rows: int) -> Iterator[Done]:
        yield lambda receipt: None

    def retrying(self, fault: Refused | Unreachable, delay: float) -> None: ...

    def received(self, channel: str, timestamp: int) -> None: ...

    def reported(self, report: Report) -> None: ...


class Guarded:
    """Hands on to another, and goes on where that raises: a publish that is committed has not
    failed because its span could not be ended. The first fault is logged."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._logged = False

    def headers(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        self._quietly(lambda: found.update(self._telemetry.headers()))
        return found

    @contextmanager
    def publishing(self, operation: str, channel: str, rows: int) -> Iterator[Done]:
        entered: list[tuple[AbstractContextManager[Done], Done]] = []

        def enter() -> None:
            work = self._telemetry.publishing(operation, channel, rows)
            entered.append((work, work.__enter__()))

        def leave(fault: BaseException | None) -> None:
            for work, _ in entered:
                if fault is None:
                    work.__exit__(None, None, None)
                else:
                    work.__exit__(type(fault), fault, fault.__traceback__)

        def done(receipt: Mapping[str, Any]) -> None:
            for _, said in entered:
                self._quietly(said, receipt)

        self._quietly(enter)
        try:
            yield done
        except BaseException as fault:
            self._quietly(leave, fault)
            raise
        self._quietly(leave, None)

    def retrying(self, fault: Refused | Unreachable, delay: float) -> None:
        self._quietly(self._telemetry.retrying, fault, delay)

    def received(self, channel: str, timestamp: int) -> None:
        self._quietly(self._telemetry.received, channel, timestamp)

    def reported(self, report: Report) -> None:
        self._quietly(self._telemetry.reported, report)

    def _quietly(self, call: Callable[..., object], *values: object) -> None:
        try:
            call(*values)
        except Exception:
            if not self._logged:
                self._logged = True
                log.exception("the client's telemetry fails; the client goes on")
