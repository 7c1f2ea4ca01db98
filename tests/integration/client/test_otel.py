"""What the client records by OpenTelemetry, in memory: spans, metrics, the trace in the log."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id

from telecast.client import Client, Op, Refused
from telecast.client.otel import OpenTelemetry
from telecast.logs import ContextFilter
from telecast.testing.relay import relay
from tests.support.payloads import position
from tests.support.service.live import Live, served

PATIENCE = 90.0


class Watched:
    """Providers that keep what is recorded."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._metrics = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        meters = MeterProvider([self._metrics])
        self.telemetry = OpenTelemetry(tracer_provider=self.tracers, meter_provider=meters)

    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Attributes and point of each series of a metric."""
        found = []
        data = self._metrics.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == f"telecast.client.{name}":
                        found += [(dict(p.attributes or {}), p) for p in metric.data.data_points]
        return found


def client(live: Live, watched: Watched, url: str | None = None, **options: Any) -> Client:
    return Client(url or live.url, key=live.secrets["desk"], telemetry=watched.telemetry, **options)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_publish_is_a_span_up_to_its_receipt_and_the_service_logs_its_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watched = Watched()
    caplog.handler.addFilter(ContextFilter())
    caplog.set_level("INFO", "telecast.web.front.middlewares")
    async with served() as live, client(live, watched) as telecast:
        receipt = await telecast.publish("positions", [position("p1"), position("p2")])
        await telecast.channels()
    (span,) = watched.spans()
    assert (span.name, span.kind) == ("publish positions", SpanKind.PRODUCER)
    assert attributes(span) == {
        "messaging.system": "telecast",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "positions",
        "messaging.batch.message_count": 2,
        "telecast.position": receipt["position"],
        "telecast.duplicate": False,
    }
    logged = {r.method: r.correlation_id for r in caplog.records if r.message == "request"}  # type: ignore[attr-defined]
    assert logged["POST"] == format_trace_id(span.context.trace_id)
    assert logged["GET"] != logged["POST"], "there was no span around it"
    (measured,) = watched.points("publish.duration")
    assert measured[0]["messaging.destination.name"] == "positions"
    assert measured[1].count == 1


async def test_tries_that_fail_are_events_of_the_span_and_a_refusal_ends_it_as_an_error() -> None:
    watched = Watched()
    async with served() as live, relay(live.url) as line:
        line.refuses = True
        async with client(live, watched, line.url) as telecast:
            publishing = asyncio.create_task(telecast.publish("positions", position("p1")))
            await live.until(lambda: line.count)
            line.refuses = False
            await publishing
            with pytest.raises(Refused):
                await telecast.publish("positions", {"id": "p1"})
            with pytest.raises(Refused):
                await telecast.withdraw("positions", "no-such")
    published, refused, withdrawn = watched.spans()
    assert {event.name for event in published.events} == {"retry"}
    assert published.status.status_code is StatusCode.UNSET
    assert refused.status.status_code is StatusCode.ERROR
    assert attributes(refused)["error.type"] == "VALIDATION_FAILED"
    assert (withdrawn.name, attributes(withdrawn)["error.type"]) == (
        "withdraw positions",
        "ROW_NOT_FOUND",
    )
    kinds = {found.get("error.type") for found, _ in watched.points("publish.duration")}
    assert kinds == {None, "VALIDATION_FAILED", "ROW_NOT_FOUND"}


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_lag_drops_and_reconnects_are_measured(transport: Any) -> None:
    watched = Watched()
    async with (
        served() as live,
        relay(live.url) as line,
        client(live, watched, line.url, transport=transport) as telecast,
        asyncio.timeout(PATIENCE),
        aclosing(telecast.follow("positions")) as changes,
    ):
        await live.publish("positions", position("p1"))
        assert [(await anext(changes)).op for _ in range(2)] == [Op.RESET, Op.UPSERT]
        await live.publish("positions", position("p2"))
        await anext(changes)
        assert sum(point.count for _, point in watched.points("lag")) == 1, "no row of a snapshot"
        line.cut()
        await live.publish("positions", position("p3"))
        await anext(changes)
        view = await telecast.view("positions")
        changed = view.changed
        await anext(changed)
        line.cut()
        await live.publish("positions", position("p4"))
        while "p4" not in view:
            await anext(changed)
        await anext(changes)
    ((of, lag),) = watched.points("lag")
    assert of["messaging.destination.name"] == "positions"
    assert lag.count == 3
    assert 0 <= lag.sum < PATIENCE
    assert sum(point.value for _, point in watched.points("drops")) == 3
    ((how, again),) = watched.points("reconnects")
    assert (how["telecast.transport"], again.value) == (transport, 3)


async def test_what_is_done_with_a_change_is_a_span_that_names_its_position() -> None:
    watched = Watched()
    async with served() as live, client(live, watched) as telecast, asyncio.timeout(PATIENCE):
        await live.publish("positions", position("p1"))
        async with aclosing(telecast.follow("positions", since="earliest")) as changes:
            change = await anext(changes)
            with watched.telemetry.handling(change):
                await telecast.publish("positions", position("p2"))
    published, handled = watched.spans()
    assert published.parent is not None
    assert published.parent.span_id == handled.context.span_id
    assert (handled.name, handled.kind) == ("process positions", SpanKind.CONSUMER)
    assert attributes(handled)["telecast.position"] == change.position
    assert attributes(handled)["telecast.op"] == "upsert"


async def test_where_no_provider_is_set_nothing_is_recorded_and_all_goes_on() -> None:
    async with (
        served() as live,
        Client(live.url, key=live.secrets["desk"], telemetry=OpenTelemetry()) as telecast,
    ):
        assert OpenTelemetry().headers() == {}
        assert (await telecast.publish("positions", position("p1")))["accepted"] == 1


def test_the_client_alone_needs_no_opentelemetry() -> None:
    script = "import sys, telecast.client; print([n for n in sys.modules if 'opentelemetry' in n])"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


class Broken:
    """Raises wherever it is called."""

    def _fail(self, *_: object) -> Any:
        raise RuntimeError("the exporter is broken")

    headers = retrying = received = reported = _fail

    @contextmanager
    def publishing(self, *_: object) -> Iterator[Any]:
        yield self._fail
        self._fail()


async def test_telemetry_that_raises_takes_no_publish_and_no_stream_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        served() as live,
        Client(live.url, key=live.secrets["desk"], telemetry=Broken()) as client,
        aclosing(client.follow("positions")) as changes,
    ):
        assert (await anext(changes)).op is Op.RESET
        assert (await client.publish("positions", position("p1")))["accepted"] == 1
        assert (await anext(changes)).key == "p1"
        for each in list(live.parts.clients):
            assert each.subscriber is not None
            each.subscriber.sink.abort()  # type: ignore[attr-defined]
        await client.publish("positions", position("p2"))
        assert (await anext(changes)).key == "p2"
        with pytest.raises(Refused):
            await client.publish("no-such-channel", position("p3"))
    assert caplog.text.count("the client's telemetry fails") == 1
