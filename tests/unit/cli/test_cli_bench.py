"""telecast bench without a service: what it counts, how it says it, what it does not begin."""

from __future__ import annotations

import click
import orjson
import pytest
from click.testing import CliRunner

from telecast.channels.catalogue import CHANNELS
from telecast.cli import main
from telecast.cli.exits import Exit
from telecast.cli.run.bench import is_loopback, lines_of
from telecast.cli.run.bench_run import PREFIX, ROWS, Bench, BenchRows, Listener, Run, figures
from telecast.cli.run.bench_run import percentiles as percentiles_of
from telecast.web.api.channels import describe

NOW = "2026-01-02T03:04:05Z"
ROWS_OF_PRICES = BenchRows(describe(CHANNELS["market-data"]), f"{PREFIX}x")
ASKED = Run("http://127.0.0.1:1", None, ROWS_OF_PRICES, clients=2, rate=10, seconds=1)


def listener(transport: str, *seen: int, **but: int) -> Listener:
    found = Listener(transport)
    found.seen, found.latencies = set(seen), [0.001 * (n + 1) for n in seen]
    for name, value in but.items():
        setattr(found, name, value)
    return found


def reported(*listeners: Listener, cpu: float = 0.1, late: float = 0.0) -> dict:
    return figures(ASKED, listeners, seconds=1.0, cpu=cpu, late=late)


def test_what_a_client_did_not_receive_is_lost_though_another_received_it():
    found = reported(listener("ws", *range(10)), listener("ws", *range(7)), listener("sse", 1))
    assert found["transports"]["ws"] | {"latency_ms": 0} == {
        "clients": 2,
        "received": 17,
        "lost": 3,
        "repeated": 0,
        "drops": 0,
        "told_gaps": 0,
        "latency_ms": 0,
    }
    assert found["transports"]["sse"]["lost"] == 9


def test_percentiles_are_values_that_were_measured():
    assert percentiles_of([0.003, 0.001, 0.002, 0.004]) == pytest.approx(
        {"p50": 2.0, "p90": 4.0, "p99": 4.0, "p999": 4.0, "max": 4.0}
    )
    hundred = percentiles_of([n / 1_000 for n in range(1, 101)])
    assert hundred == pytest.approx({"p50": 50, "p90": 90, "p99": 99, "p999": 100, "max": 100})
    assert percentiles_of([]) == {}


@pytest.mark.parametrize(("cpu", "bound"), [(0.5, False), (0.69, False), (0.71, True), (1.2, True)])
def test_a_command_that_used_most_of_a_core_says_that_it_was_the_limit(cpu, bound):
    found = reported(listener("ws"), cpu=cpu)
    assert found["load_bound"] is bound
    assert any("the limit itself" in line for line in lines_of(found)) is bound


def test_what_was_amiss_is_reported_and_what_was_not_is_not():
    lines = "\n".join(lines_of(reported(listener("ws", *range(10)))))
    for word in ("twice", "made again", "left something out", "fell behind"):
        assert word not in lines
    amiss = listener("sse", 1, repeated=2, drops=3, gaps=4)
    lines = "\n".join(lines_of(reported(amiss, late=0.25)))
    assert "2 events came twice" in lines
    assert "3 connections were lost and made again" in lines
    assert "4 times the service said" in lines
    assert "behind its schedule by up to 250 ms" in lines


@pytest.mark.parametrize("channel", [name for name in CHANNELS if CHANNELS[name].mode == "keyed"])
def test_test_rows_are_valid_in_every_channel_and_know_their_own(channel):
    about = describe(CHANNELS[channel])
    rows, other = BenchRows(about, f"{PREFIX}x"), BenchRows(about, f"{PREFIX}y")
    for number in (0, 7, ROWS + 3):
        row = CHANNELS[channel].load(rows.payload(number, NOW))
        assert not CHANNELS[channel].gone(row)
        assert rows.number_of({"data": row}) == number
        assert other.number_of({"data": row}) is None
        told_to = CHANNELS[channel].fields_of(row)
        assert all(told_to[field] in values for field, values in rows.filters.items())
        assert CHANNELS[channel].key(row) in rows.row_keys()
    assert len(set(rows.row_keys())) == ROWS


def test_a_log_gets_no_test_rows_for_they_would_stay():
    with pytest.raises(click.UsageError, match="is a log"):
        BenchRows(describe(CHANNELS["executions"]), f"{PREFIX}x")


def test_an_event_is_taken_once_and_one_that_was_not_published_never():
    bench, one = Bench(ASKED), Listener("ws")
    bench._sent_at = [0.0, 0.0]
    events = [{"data": ROWS_OF_PRICES.payload(number, NOW)} for number in (0, 1, 1, 2)]
    for event in events:
        bench._take(one, event)
    assert (one.seen, one.repeated, len(one.latencies)) == ({0, 1}, 1, 2)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:8080", True),
        ("http://localhost:8080", True),
        ("http://10.0.0.1:8080", False),
        ("https://localhost.example", False),
        ("http://0.0.0.0:8080", False),
    ],
)
def test_only_loopback_is_here(url, here):
    assert is_loopback(url) is here


def test_a_service_elsewhere_gets_no_test_rows_unasked(monkeypatch):
    monkeypatch.setattr("telecast.cli.run.bench.run", lambda *_, **__: pytest.fail("it began"))
    result = CliRunner().invoke(main, ["bench", "http://telemetry.example"])
    assert result.exit_code == Exit.USAGE
    assert "Say --yes" in result.stderr


def test_a_service_elsewhere_is_measured_when_that_is_said(monkeypatch):
    def run(work: object, **_: object) -> dict:
        work.close()
        return next(answers)

    answers = iter([describe(CHANNELS["market-data"]), reported(listener("ws", *range(10)))])
    monkeypatch.setattr("telecast.cli.run.bench.run", run)
    result = CliRunner().invoke(main, ["bench", "http://telemetry.example", "--yes", "--json"])
    assert result.exit_code == Exit.OK, result.stderr
    assert orjson.loads(result.stdout)["transports"]["ws"]["received"] == 10


def test_nobody_at_the_address_is_reported_with_the_address():
    result = CliRunner().invoke(main, ["bench", "http://127.0.0.1:9"])
    assert result.exit_code == Exit.UNREACHABLE
    assert "Nobody answers at http://127.0.0.1:9" in result.stderr
