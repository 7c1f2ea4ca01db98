"""One position: what it is worth, and what closes it."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.demo.holdings import Ending, Holding, Terms
from telecast.demo.notation import EXACT
from telecast.demo.strategies import Exits, Side

OPENED = 1_790_000_000_000
TRAILING = Exits(stop=5, target=None, trail_after=4, trail=3)
TARGET = Exits(stop=5, target=6, trail_after=None, trail=0)


@pytest.fixture(autouse=True)
def exact():
    with localcontext(EXACT):
        yield


def holding(side: Side = Side.LONG, exits: Exits = TARGET, **said: str) -> Holding:
    return Holding(
        Terms(
            id="t1-1-1",
            trader_id="t1",
            trader_name="Ada",
            exchange="OKX",
            symbol="SOLUSDT",
            leverage=Decimal(5),
            side=side,
            quantity=Decimal(said.get("quantity", "2.5")),
            entry=Decimal(said.get("entry", "100.00")),
            stir=Decimal(said.get("stir", "0.10")),
            exits=exits,
            opened=OPENED,
            why="above the range",
        )
    )


def hear(it: Holding, *prices: str) -> list[Ending | None]:
    return [it.heard(OPENED + 1, Decimal(price)) for price in prices]


@pytest.mark.parametrize(("side", "worth"), [(Side.LONG, "0.3075"), (Side.SHORT, "-0.3075")])
def test_it_is_worth_its_gain_times_its_quantity_signed_by_its_side(side, worth):
    it = holding(side)
    hear(it, "100.123")
    assert it.row()["unrealizedPnL"] == f"{worth}"


def test_not_a_digit_is_lost_where_28_would_be():
    it = holding(entry="123456789.123456789012", quantity="98765432.12345678", stir="1")
    it.heard(OPENED, Decimal("123456789.123456789013"))
    assert it.row()["unrealizedPnL"] == "0.00009876543212345678"


def test_nothing_gained_is_a_zero_without_a_sign_or_an_exponent():
    it = holding(Side.SHORT, entry="0.000000012", quantity="0.00000001", stir="0.000000001")
    assert it.row()["unrealizedPnL"] == "0.00000000000000000"


@pytest.mark.parametrize(
    ("side", "prices", "ending"),
    [
        (Side.LONG, ["99.51", "99.50"], Ending.STOP_LOSS),
        (Side.LONG, ["90.00"], Ending.STOP_LOSS),
        (Side.LONG, ["100.59", "100.60"], Ending.TAKE_PROFIT),
        (Side.SHORT, ["100.49", "100.50"], Ending.STOP_LOSS),
        (Side.SHORT, ["99.41", "99.40"], Ending.TAKE_PROFIT),
    ],
)
def test_the_stop_and_the_target_end_it_at_their_price_or_beyond(side, prices, ending):
    assert hear(holding(side), *prices) == [None] * (len(prices) - 1) + [ending]


@pytest.mark.parametrize(("side", "sign"), [(Side.LONG, 1), (Side.SHORT, -1)])
def test_a_trailing_stop_follows_the_best_price_and_never_goes_back(side, sign):
    it = holding(side, TRAILING)

    def at(gain: str) -> Ending | None:
        return hear(it, str(Decimal(100) + sign * Decimal(gain)))[0]

    assert at("0.39") is None
    assert not it.trailing
    assert at("0.50") is None
    assert it.trailing
    assert it.stop == Decimal(100) + sign * Decimal("0.20")
    assert at("0.30") is None
    assert it.stop == Decimal(100) + sign * Decimal("0.20")
    assert at("0.20") is Ending.TRAILING_STOP


def test_it_goes_from_open_over_updated_to_closed_and_its_rows_are_accepted():
    it = holding()
    rows = [it.row()]
    hear(it, "100.20")
    rows.append(it.row())
    assert it.close(OPENED + 2, Ending.SIGNAL) == Decimal("0.500")
    rows.append(it.row())
    for row in rows:
        CHANNELS["positions"].load(row)
    assert [row["status"] for row in rows] == ["OPEN", "UPDATED", "CLOSED"]
    assert [row["realizedPnL"] for row in rows] == [None, None, "0.500"]
    assert rows[-1]["reason"] == "SIGNAL"


def test_what_is_closed_stays_closed():
    it = holding()
    it.close(OPENED, Ending.SIGNAL)
    with pytest.raises(ValueError, match="CLOSED"):
        hear(it, "100.10")
