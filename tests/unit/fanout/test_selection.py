"""Selections: values, and what they want, against the contract's words said again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telecast.tape.selection import Selection
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


@given(histories(20), selections(least=0))
def test_a_filter_is_or_within_a_field_and_and_between_fields_and_null_matches_all(
    changes: list[Change], selection: Selection
) -> None:
    for entry in commit(Ledger(), changes):
        event = event_of_entry(entry)
        assert selection.wants(event) == wanted(selection, event.channel, event.row)


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


@given(selections(least=0), st.sets(st.sampled_from(NAMES)))
def test_only_the_channels_that_are_named_are_kept(one: Selection, names: set[str]) -> None:
    assert set(one.only(names).channels) == set(one.channels) & names
    assert bool(one) == bool(one.channels)
    assert all((name in one) == (name in one.channels) for name in NAMES)


def test_a_selection_equals_nothing_but_a_selection() -> None:
    assert Selection({"positions": ()}) != {"positions": ()}
    assert repr(Selection({"positions": ()})) == "Selection({'positions': ()})"
