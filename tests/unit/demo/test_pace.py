"""Position updates as often as a person can read them; everything else at once."""

from __future__ import annotations

from typing import Any

from telecast.demo.pace import Pace

NOW = 1_790_000_000_000


def position(status: str, price: str = "1", key: str = "p1") -> tuple[str, dict[str, Any]]:
    return "positions", {"id": key, "status": status, "currentPrice": price}


OPEN, CLOSED = position("OPEN"), position("CLOSED")


def updated(price: str, key: str = "p1") -> tuple[str, dict[str, Any]]:
    return position("UPDATED", price, key)


def test_other_channels_pass_at_once():
    reported = [
        ("market-data", {"id": "X"}),
        ("risk-alerts", {"id": "a"}),
        ("risk-alerts", {"id": "a"}),
    ]
    assert Pace().through(NOW, reported) == reported


def test_an_update_waits_for_its_turn_and_the_newest_takes_it():
    pace = Pace()
    assert pace.through(NOW, [OPEN, updated("2")]) == [OPEN]
    assert pace.through(NOW + 200, [updated("3")]) == []
    assert pace.through(NOW + 499, []) == []
    assert pace.through(NOW + 500, []) == [updated("3")]
    assert pace.through(NOW + 2_000, []) == []


def test_an_update_after_a_while_passes_at_once_and_the_older_one_is_forgotten():
    pace = Pace()
    pace.through(NOW, [OPEN, updated("2")])
    assert pace.through(NOW + 600, [updated("3")]) == [updated("3")]
    assert pace.through(NOW + 2_000, []) == []


def test_a_close_passes_at_once_and_nothing_comes_after_it():
    pace = Pace()
    pace.through(NOW, [OPEN, updated("2")])
    assert pace.through(NOW + 1, [CLOSED]) == [CLOSED]
    assert pace.through(NOW + 2_000, []) == []


def test_each_position_has_its_own_turn():
    pace = Pace()
    other = position("OPEN", key="p2")
    pace.through(NOW, [OPEN])
    pace.through(NOW + 300, [other, updated("2"), updated("2", "p2")])
    assert pace.through(NOW + 500, []) == [updated("2")]
    assert pace.through(NOW + 800, []) == [updated("2", "p2")]
