"""The index finds exactly the cohorts that asking each of them would find."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from telecast.fanout.cohort import Cohort
from telecast.fanout.index import Index
from telecast.fanout.sink import Sinks
from telecast.model import Event
from telecast.protocol.framing import WS
from telecast.tape.selection import Selection, filter_of
from tests.support.fakes import Change, Ledger, commit, event_of_entry, histories, selections


def gathered(index: Index, events: list[Event]) -> set[Cohort]:
    found: set[Cohort] = set()
    for _ in index.gather(events, found):
        pass
    return found


@given(histories(20), st.lists(selections(least=0), max_size=8), st.data())
def test_wanting_is_what_asking_every_cohort_says(
    changes: list[Change], wishes: list[Selection], data: st.DataObject
) -> None:
    """Null fields, filters without values and cohorts that have gone included."""
    index = Index()
    cohorts = [Cohort(selection, WS, None, Sinks()) for selection in wishes]
    for cohort in cohorts:
        index.add(cohort)
    gone = data.draw(st.sets(st.sampled_from(cohorts))) if cohorts else set()
    for cohort in gone:
        index.discard(cohort)
    for entry in commit(Ledger(), changes):
        event = event_of_entry(entry)
        found = list(index.wanting(event))
        assert len(found) == len(set(found)), "each once"
        assert set(found) == {
            cohort for cohort in cohorts if cohort not in gone and cohort.selection.wants(event)
        }
    events = [event_of_entry(entry) for entry in commit(Ledger(), changes)]
    assert gathered(index, events) == {each for e in events for each in index.wanting(e)}


def test_who_wants_any_of_thousands_does_not_cost_all_times_all() -> None:
    """Regression: 4,096 events beside 1,000 cohorts without a filter held the loop for 0.4 s."""
    index, looks = Index(), 0

    class Counted(dict[Cohort, None]):
        def __iter__(self) -> Iterator[Cohort]:
            nonlocal looks
            looks += 1
            return super().__iter__()

    channel = index._channels["market-data"]
    channel.unfiltered = Counted()
    for rate in range(1, 9):
        index.add(Cohort(Selection({"market-data": ()}), WS, float(rate), Sinks()))
    ledger = Ledger()
    rows = [{"symbol": f"S{n}", "exchange": None} for n in range(20)]
    events = [event_of_entry(entry) for row in rows for entry in ledger.upsert("market-data", row)]
    assert len(gathered(index, events)) == 8
    assert looks == 1


def test_an_event_that_is_null_in_one_field_is_looked_up_by_another() -> None:
    """Regression: 4,096 rows without an exchange, beside 1,900 clients that each filter by exchange
    and symbol, held the loop for 2 s: all of them were asked, for each row."""
    index, asked = Index(), 0

    class Counted(Selection):
        def wants(self, event: Event) -> bool:
            nonlocal asked
            asked += 1
            return super().wants(event)

    for number in range(50):
        filters = {"exchange": frozenset({"X"}), "symbol": frozenset({f"S{number}"})}
        index.add(Cohort(Counted({"market-data": filter_of(filters)}), WS, None, Sinks()))
    ledger = Ledger()
    rows = [
        {"symbol": "S7", "exchange": None},
        {"symbol": "NONE", "exchange": None},
        {"symbol": "S8", "exchange": "X"},
    ]
    events = [event_of_entry(entry) for row in rows for entry in ledger.upsert("market-data", row)]
    assert [len(list(index.wanting(event))) for event in events] == [1, 0, 1]
    assert asked == 2


@given(st.lists(selections(least=0), max_size=8), st.randoms(use_true_random=False))
def test_nothing_is_left_when_all_cohorts_are_gone(wishes: list[Selection], random: object) -> None:
    index = Index()
    cohorts = [Cohort(selection, WS, None, Sinks()) for selection in wishes]
    for cohort in cohorts:
        index.add(cohort)
    assert len(index) >= sum(bool(selection) for selection in wishes)
    random.shuffle(cohorts)  # type: ignore[attr-defined]
    for cohort in cohorts:
        index.discard(cohort)
        index.discard(cohort)
    assert len(index) == 0
    assert not any(each.groups for each in index._channels.values())
