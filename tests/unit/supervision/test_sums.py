"""Metrics of several workers as those of one service."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telecast.supervision.sums import Family, Join, Sums


def counter(value: float, *labels: tuple[str, str], name: str = "n_total") -> Family:
    return Family("counter", name, "N.", Join.SUM, ((labels, value),))


def gauge(join: Join, value: float, *labels: tuple[str, str]) -> Family:
    return Family("gauge", f"g_{join}", "G.", join, ((labels, value),))


def values(families: list[Family]) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    return {each.name: dict(each.samples) for each in families}


def test_counters_are_summed_by_their_labels() -> None:
    sums = Sums()
    sums.take(1, [counter(2, ("c", "a"))])
    sums.take(2, [counter(3, ("c", "a"))])
    sums.take(3, [counter(5, ("c", "b"))])
    assert values(sums.joined([1, 2, 3])) == {"n_total": {(("c", "a"),): 5, (("c", "b"),): 5}}


def test_histograms_are_summed_bucket_by_bucket() -> None:
    def seen(low: int, high: int) -> Family:
        samples = (((("le", "0.1"),), low), ((("le", "inf"),), high), ((("le", "sum"),), high / 2))
        return Family("histogram", "h", "H.", Join.SUM, samples)

    sums = Sums()
    sums.take(1, [seen(1, 4)])
    sums.take(2, [seen(2, 6)])
    assert list(values(sums.joined([1, 2]))["h"].values()) == [3, 10, 5]


def test_gauges_are_joined_as_each_says() -> None:
    sums = Sums()
    for number, value in ((1, 4.0), (2, 6.0)):
        sums.take(number, [gauge(join, value) for join in Join])
    assert values(sums.joined([1, 2])) == {
        "g_sum": {(): 10},
        "g_most": {(): 6},
        "g_least": {(): 4},
        "g_each": {(("worker", "1"),): 4, (("worker", "2"),): 6},
    }


def test_of_a_worker_that_does_not_answer_counters_stay_and_gauges_do_not() -> None:
    sums = Sums()
    for number in (1, 2):
        sums.take(number, [counter(7), gauge(Join.SUM, 7)])
    assert values(sums.joined([2])) == {"n_total": {(): 14}, "g_sum": {(): 7}}


def test_what_one_that_has_ended_had_counted_stays_once() -> None:
    sums = Sums()
    sums.take(1, [counter(7), gauge(Join.SUM, 7)])
    sums.ended(1)
    sums.ended(1)
    assert values(sums.joined([])) == {"n_total": {(): 7}}
    sums.take(1, [counter(1), gauge(Join.SUM, 1)])
    assert values(sums.joined([1])) == {"n_total": {(): 8}, "g_sum": {(): 1}}


@given(
    st.lists(
        st.tuples(st.sampled_from(["count", "end", "ask"]), st.integers(1, 3), st.integers(0, 9))
    )
)
def test_a_counter_never_falls_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    sums, live = Sums(), {1: 0, 2: 0, 3: 0}
    before = 0.0
    for what, number, more in steps:
        if what == "end":
            sums.ended(number)
            live[number] = 0
        elif what == "count":
            live[number] += more
        else:
            sums.take(number, [counter(live[number])])
        now = values(sums.joined([])).get("n_total", {}).get((), 0.0)
        assert now >= before
        before = now


def test_a_family_goes_over_the_line_and_back() -> None:
    family = Family("gauge", "g", "G.", Join.EACH, (((("a", "b"),), 1.5), ((), 2.0)))
    assert Family.from_json(family.as_json()) == family
