"""What a client reports of its work, to whoever watches the program that it is part of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from telecast.client.connection.reports import Report
from telecast.client.faults import Refused, Unreachable

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
