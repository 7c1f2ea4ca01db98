"""The life of an alert, as a pure state machine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecast.channels.alerts import (
    MOVES,
    SEVERITIES,
    Act,
    Status,
    acknowledge,
    escalate,
    follow,
    unacknowledge,
    waits,
)
from telecast.channels.catalogue import CHANNELS
from telecast.errors import PeerFault
from telecast.model import Row
from tests.support.payloads import alert

T1, T2, T3 = (f"2026-11-27T10:00:0{n}.000Z" for n in range(1, 4))


def reported(**said: Any) -> Row:
    return CHANNELS["risk-alerts"].load(alert(**said))


def test_a_first_report_is_active_and_counted_once() -> None:
    row = follow(None, reported(), T1)
    assert (row["status"], row["count"], row["activeSince"]) == ("ACTIVE", 1, T1)
    assert (row["acknowledgedBy"], row["acknowledgedAt"], row["escalatedAt"]) == (None, None, None)


def test_a_repeat_counts_and_keeps_the_acknowledgement_and_the_first_report() -> None:
    row = acknowledge(follow(None, reported(message="old"), T1), "mia", "on it", T2)
    again = follow(row, reported(message="new", createdAt="2026-11-27T11:00:00Z"), T3)
    assert (again["status"], again["count"], again["lastSeenAt"]) == ("ACKNOWLEDGED", 2, T3)
    assert (again["acknowledgedBy"], again["acknowledgedAt"], again["note"]) == ("mia", T2, "on it")
    assert (again["message"], again["createdAt"]) == ("new", row["createdAt"])


def test_a_rise_in_severity_is_active_again_and_a_fall_is_not() -> None:
    row = acknowledge(follow(None, reported(severity="WARNING"), T1), "mia", None, T2)
    fallen = follow(row, reported(severity="INFO"), T3)
    assert (fallen["status"], fallen["acknowledgedBy"]) == ("ACKNOWLEDGED", "mia")
    risen = follow(row, reported(severity="CRITICAL"), T3)
    assert (risen["status"], risen["acknowledgedBy"], risen["activeSince"]) == ("ACTIVE", None, T3)
    assert risen["count"] == 2


def test_resolved_says_who_had_acknowledged_it_and_counts_no_repeat() -> None:
    row = acknowledge(follow(None, reported(), T1), "mia", None, T2)
    ended = follow(row, reported(status="RESOLVED"), T3)
    assert (ended["status"], ended["acknowledgedBy"], ended["count"]) == ("RESOLVED", "mia", 1)


def test_who_comes_second_is_given_the_name_of_the_first() -> None:
    row = acknowledge(follow(None, reported(), T1), "mia", "on it", T2)
    with pytest.raises(PeerFault, match="mia acknowledged this alert") as refused:
        acknowledge(row, "tom", None, T3)
    assert refused.value.details == {"acknowledgedBy": "mia", "acknowledgedAt": T2, "note": "on it"}


def test_the_same_operator_may_repeat_it_and_may_write_another_note() -> None:
    row = acknowledge(follow(None, reported(), T1), "mia", "on it", T2)
    assert acknowledge(row, "mia", None, T3) is row
    assert acknowledge(row, "mia", "on it", T3) is row
    assert acknowledge(row, "mia", "flat", T3)["note"] == "flat"


def test_taken_back_it_is_active_from_then_on_and_may_escalate_again() -> None:
    row = follow(None, reported(severity="CRITICAL"), T1)
    assert unacknowledge(row, T2) is row
    back = unacknowledge(acknowledge(escalate(row, T2), "mia", None, T2), T3)
    assert (back["status"], back["acknowledgedBy"], back["activeSince"]) == ("ACTIVE", None, T3)
    assert waits(back)


def test_only_a_critical_alert_that_nobody_has_acknowledged_escalates_and_only_once() -> None:
    row = follow(None, reported(severity="CRITICAL"), T1)
    raised = escalate(row, T2)
    assert raised["escalatedAt"] == T2
    assert escalate(raised, T3) is raised
    for quiet in (
        follow(None, reported(severity="WARNING"), T1),
        acknowledge(row, "mia", None, T2),
    ):
        assert escalate(quiet, T3) is quiet


def test_a_repeat_keeps_the_time_of_the_escalation() -> None:
    raised = escalate(follow(None, reported(severity="CRITICAL"), T1), T2)
    assert follow(raised, reported(severity="CRITICAL"), T3)["escalatedAt"] == T2


def test_every_state_that_is_no_end_has_every_move() -> None:
    assert set(MOVES) == {(s, a) for s in Status for a in Act if s is not Status.RESOLVED}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.sampled_from(SEVERITIES)),
        st.tuples(st.sampled_from(["acknowledge", "unacknowledge"]), st.sampled_from("ab")),
        st.just(("escalate", "")),
        st.just(("resolve", "")),
    ),
    max_size=30,
)


@given(STEPS)
def test_nothing_but_an_operator_a_rise_or_the_end_undoes_an_acknowledgement(
    steps: list[tuple[str, str]],
) -> None:
    row: Row | None = None
    for what, who in steps:
        before = row
        if what == "report":
            row = follow(before, reported(severity=who), T2)
        elif before is None:
            continue
        elif what == "resolve":
            row = None
        elif what == "escalate":
            row = escalate(before, T3)
        else:
            try:
                row = (
                    acknowledge(before, who, None, T2)
                    if what == "acknowledge"
                    else (unacknowledge(before, T2))
                )
            except PeerFault:
                assert before["acknowledgedBy"] not in (None, who)
        if before is None or row is None or before["status"] != "ACKNOWLEDGED":
            continue
        rises = what == "report" and SEVERITIES.index(who) > SEVERITIES.index(before["severity"])
        if what == "unacknowledge" or rises:
            assert (row["status"], row["acknowledgedBy"]) == ("ACTIVE", None)
        else:
            assert row["acknowledgedBy"] == before["acknowledgedBy"]
            assert row["status"] == "ACKNOWLEDGED"
        assert row["count"] == before["count"] + (what == "report")
