"""Selections: values, and what they want, against the contract's words said again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telecast.tape.selection import Filter, Selection, both, filter_of
from tests.support.fakes import (
    NAMES,
    Change,
    Ledger,
    commit,
    event_of_entry,
    histories,
    selections,
    wanted,
)

FILTERS = st.dictionaries(
    st.sampled_from(("exchange", "symbol")),
    st.frozensets(st.sampled_from(("one", "two", "XAU"))),
    max_size=2,
).map(filter_of)


@given(histories(20), selections(least=0))
def test_a_filter_is_or_within_a_field_and_and_between_fields_and_null_matches_all(
    changes: list[Change], selection: Selection
) -> None:
    for entry in commit(Ledger(), changes):
        event = event_of_entry(entry)
        assert selection.wants(event) == wanted(selection, event.channel, event.row)


@given(histories(20), FILTERS, FILTERS)
def test_both_filters_pass_what_each_of_them_passes(
    changes: list[Change], first: Filter, second: Filter
) -> None:
    for entry in commit(Ledger(), changes):
        event = event_of_entry(entry)
        if event.channel == "risk-alerts":
            continue
        each = [Selection({event.channel: one}).wants(event) for one in (first, second)]
        assert Selection({event.channel: both(first, second)}).wants(event) == all(each)


@given(selections(least=0))
def test_the_order_of_asking_makes_no_difference(selection: Selection) -> None:
    turned = Selection(dict(reversed(selection.parts)))
    assert turned == selection
    assert hash(turned) == hash(selection)
    assert turned.channels == selection.channels
    assert len({turned, selection}) == 1


@given(selections(least=0), selections(least=0))
def test_changed_are_exactly_the_channels_that_are_new_or_filtered_otherwise(
    before: Selection, after: Selection
) -> None:
    old = dict(before.parts)
    assert set(after.changed_since(before)) == {
        name for name, narrow in after.parts if name not in old or old[name] != narrow
    }


@given(selections(least=0), selections(least=0), st.sets(st.sampled_from(NAMES)))
def test_channels_are_added_replaced_kept_and_dropped(
    one: Selection, two: Selection, names: set[str]
) -> None:
    assert dict(one.having(dict(two.parts)).parts) == {**dict(one.parts), **dict(two.parts)}
    assert set(one.lacking(names).channels) == set(one.channels) - names
    assert set(one.only(names).channels) == set(one.channels) & names
    assert bool(one) == bool(one.channels)
    assert all((name in one) == (name in one.channels) for name in NAMES)


def test_a_selection_equals_nothing_but_a_selection() -> None:
    assert Selection({"positions": ()}) != {"positions": ()}
    assert repr(Selection({"positions": ()})) == "Selection({'positions': ()})"
