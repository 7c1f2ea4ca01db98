"""Traces and metrics of a client by OpenTelemetry's API: `pip install telecast[otel]`.

```python
async with Client(url, key=..., telemetry=OpenTelemetry()) as telecast:
```

Where your program has set no provider nothing is recorded. What is recorded is on the page "The
Python client". Events carry no trace context, since their bytes are the same for every client: a
publish and what comes of it elsewhere have `telecast.position` in common.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import metrics, propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from telecast import __version__
from telecast.client.connection.reports import Dropped, Reconnected, Report
from telecast.client.faults import Refused, Unreachable
from telecast.client.follow import Change
from telecast.client.telemetry import Done
from telecast.errors import TelecastError

NAME = "telecast.client"
SYSTEM = {"messaging.system": "telecast"}


class OpenTelemetry:
    """Give it to a Client as `telemetry`. One may serve many clients."""

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        """None takes the providers that the program has set, now or later."""
        self._tracer = trace.get_tracer(NAME, __version__, tracer_provider)
        meter = metrics.get_meter(NAME, __version__, meter_provider)
        self._lag = meter.create_histogram(
            "telecast.client.lag", "s", "From the commit of a followed change to its receipt"
        )
        self._duration = meter.create_histogram(
            "telecast.client.publish.duration", "s", "From a publish to its receipt, all tries"
        )
        self._drops = meter.create_counter(
            "telecast.client.drops", "{connection}", "Connections lost or not made"
        )
        self._reconnects = meter.create_counter(
            "telecast.client.reconnects", "{connection}", "Connections made again"
        )

    @contextmanager
    def handling(self, change: Change) -> Iterator[Span]:
        """A span around what you do with a change: your spans in it are below it."""
        said = _said("process", change.channel) | {"telecast.op": change.op.value}
        if change.position is not None:
            said["telecast.position"] = change.position
        with self._tracer.start_as_current_span(
            f"process {change.channel}", kind=SpanKind.CONSUMER, attributes=said
        ) as span:
            yield span

    # --- called by the client

    def headers(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier

    @contextmanager
    def publishing(self, operation: str, channel: str, rows: int) -> Iterator[Done]:
        said: dict[str, Any] = _said(operation, channel)
        began = time.monotonic()
        measured = dict(said)
        with self._tracer.start_as_current_span(
            f"{operation} {channel}",
            kind=SpanKind.PRODUCER,
            attributes={**said, "messaging.batch.message_count": rows},
            set_status_on_exception=False,
        ) as span:

            def done(receipt: Mapping[str, Any]) -> None:
                span.set_attribute("telecast.position", str(receipt.get("position")))
                span.set_attribute("telecast.duplicate", bool(receipt.get("duplicate")))

            try:
                yield done
            except BaseException as fault:
                code = getattr(fault, "code", None) if isinstance(fault, TelecastError) else None
                measured["error.type"] = str(code or type(fault).__name__)
                span.set_attribute("error.type", measured["error.type"])
                span.set_status(Status(StatusCode.ERROR, str(fault)))
                raise
            finally:
                self._duration.record(time.monotonic() - began, measured)

    def retrying(self, fault: Refused | Unreachable, delay: float) -> None:
        said: dict[str, str | float] = {"error.type": str(fault.code), "telecast.delay": delay}
        trace.get_current_span().add_event("retry", said)

    def received(self, channel: str, timestamp: int) -> None:
        self._lag.record(max(0.0, time.time() - timestamp / 1000), _said("receive", channel))

    def reported(self, report: Report) -> None:
        match report:
            case Dropped(code=code):
                said = {"error.type": "lost" if code is None else str(code)}
                self._drops.add(1, {**SYSTEM, **said})
            case Reconnected(transport=transport):
                self._reconnects.add(1, {**SYSTEM, "telecast.transport": transport})
            case _:
                pass


def _said(operation: str, channel: str) -> dict[str, str]:
    """As OpenTelemetry's conventions for messaging name it."""
    kind = {"publish": "send", "withdraw": "send"}.get(operation, operation)
    return {
        **SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": channel,
    }
