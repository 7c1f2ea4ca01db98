"""Limits and their alerts: raised, repeated, resolved."""

from __future__ import annotations

from decimal import Decimal

import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.demo.risk import Kind, Measure, Watch, limits

CAPITAL = Decimal(100_000)
START = 1_790_000_000_000
LOSS = limits(Kind.DAILY_LOSS, warning="0.01", critical="0.02")


def watch(trader: str | None = "t1", **options: str) -> Watch:
    return Watch(trader, "Ada", LOSS, **options)


def reported(watch: Watch, lost: str, second: int = 0) -> list[tuple[str, str]]:
    rows = watch.look(START + second * 1000, {Kind.DAILY_LOSS: Measure(Decimal(lost), CAPITAL)})
    for row in rows:
        assert CHANNELS["risk-alerts"].load(row)
    return [(row["id"], row["status"]) for row in rows]


def test_a_limit_that_holds_says_nothing():
    assert reported(watch(), "1000") == []


def test_a_limit_that_breaks_raises_its_alert():
    assert reported(watch(), "1000.01") == [("t1:WARNING:DAILY_LOSS", "ACTIVE")]


def test_far_beyond_its_limits_both_alerts_are_raised_the_milder_first():
    assert reported(watch(), "2500") == [
        ("t1:WARNING:DAILY_LOSS", "ACTIVE"),
        ("t1:CRITICAL:DAILY_LOSS", "ACTIVE"),
    ]


def test_an_alert_that_lasts_is_repeated_less_and_less_often():
    lasting = watch()
    heard = [second for second in range(200) if reported(lasting, "1500", second)]
    assert heard == [0, 8, 24, 56, 116, 176]


def test_an_alert_is_resolved_once_and_only_well_below_its_limit():
    flapping = watch()
    reported(flapping, "1001")
    assert reported(flapping, "999", 1) == []
    assert reported(flapping, "900.01", 2) == []
    assert reported(flapping, "900", 3) == [("t1:WARNING:DAILY_LOSS", "RESOLVED")]
    assert reported(flapping, "900", 4) == []


def test_between_the_limit_and_its_ease_an_alert_is_not_repeated():
    eased = watch()
    reported(eased, "1001")
    assert reported(eased, "950", 60) == []


def test_raised_again_it_keeps_its_fingerprint_and_begins_anew():
    again = watch()
    for lost, second in (("1001", 0), ("0", 1)):
        reported(again, lost, second)
    rows = again.look(START + 2000, {Kind.DAILY_LOSS: Measure(Decimal(1001), CAPITAL)})
    assert [row["id"] for row in rows] == ["t1:WARNING:DAILY_LOSS"]
    assert rows[0]["createdAt"] == "2026-09-21T14:13:22.000Z"


def test_the_desk_stands_for_all_traders():
    rows = watch(None, stop="EMERGENCY_STOP").look(
        START, {Kind.DAILY_LOSS: Measure(Decimal(5000), CAPITAL)}
    )
    assert [(row["id"], row["traderId"], row["recommendation"]) for row in rows] == [
        ("ALL:WARNING:DAILY_LOSS", None, "WARN"),
        ("ALL:CRITICAL:DAILY_LOSS", None, "EMERGENCY_STOP"),
    ]


def test_an_alert_says_what_was_measured_to_the_last_digit():
    rows = watch().look(START, {Kind.DAILY_LOSS: Measure(Decimal("1234.56789012345"), CAPITAL)})
    (violation,) = rows[0]["violations"]
    assert violation["details"] == {"measured": "1234.56789012345", "limit": "1000.00"}
    assert (
        violation["message"] == "Ada: the day's loss is at 1.23 % of capital; the limit is 1.00 %."
    )


@pytest.mark.parametrize(("amount", "broken"), [("0", 0), ("0.01", 1)])
def test_with_no_equity_left_any_leverage_is_too_much(amount, broken):
    lever = Watch("t1", "Ada", limits(Kind.LEVERAGE, warning="5", critical="8")[:1])
    rows = lever.look(START, {Kind.LEVERAGE: Measure(Decimal(amount), Decimal(0))})
    assert len(rows) == broken
