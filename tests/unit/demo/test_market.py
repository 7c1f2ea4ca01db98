"""The synthetic market, and the numbers that the demo is made of."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal, FloatOperation, Inexact, localcontext
from itertools import islice

import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.demo.desk import hire, liveliest
from telecast.demo.market import instruments, market
from telecast.demo.notation import EXACT, duration, instant, plain, quotient, rounded

STAMP = {"updatedAt": "2026-01-01T00:00:00Z"}


def test_the_same_seed_is_the_same_market():
    assert list(islice(market(5), 500)) == list(islice(market(5), 500))
    assert list(islice(market(5), 50)) != list(islice(market(6), 50))


def test_every_tick_is_a_payload_on_its_exchange_s_grid_of_prices():
    seen = set()
    for _, row in islice(market(3), 2_000):
        CHANNELS["market-data"].load(row | STAMP)
        assert Decimal(row["bid"]) < Decimal(row["price"]) < Decimal(row["ask"])
        seen.add((row["exchange"], row["symbol"]))
        if row["exchange"] == "BITMEX":
            assert Decimal(row["price"]) % Decimal("0.5") == 0
    assert seen == set(instruments())


def test_time_rises_at_the_pace_asked_for():
    at = [at for at, _ in islice(market(3, per_second=50), 5_000)]
    assert at == sorted(at)
    assert 80 < at[-1] < 120


def test_exchanges_agree_and_prices_stay_near_where_they_began():
    last: dict[str, dict[str, Decimal]] = defaultdict(dict)
    first: dict[str, Decimal] = {}
    for _, row in islice(market(11), 60_000):
        symbol, price = row["symbol"], Decimal(row["price"])
        first.setdefault(symbol, price)
        assert abs(price / first[symbol] - 1) < Decimal("0.2")
        last[symbol][row["exchange"]] = price
    bitcoin = [price for symbol in last if "BTC" in symbol for price in last[symbol].values()]
    assert max(bitcoin) / min(bitcoin) < Decimal("1.003")


def test_the_desk_trades_what_moves_most():
    rows = [{"exchange": None, "symbol": "DULL", "price": "1"} for _ in range(9)]
    rows += [{"exchange": "OKX", "symbol": "LIVE", "price": str(price)} for price in range(1, 4)]
    assert liveliest(rows) == [("OKX", "LIVE"), (None, "DULL")]
    assert {mandate.symbol for mandate in hire(liveliest(rows))} == {"LIVE", "DULL"}


def test_what_is_quoted_in_a_coin_has_its_capital_in_that_coin():
    assert {mandate.capital for mandate in hire([("COINBASE", "SKLBTC")])} == {Decimal(2)}


@pytest.mark.parametrize(
    ("value", "written"),
    [("1E-9", "0.000000001"), ("1E+3", "1000"), ("-0.00", "0.00"), ("-1.50", "-1.50")],
)
def test_decimals_are_written_plainly(value, written):
    assert plain(Decimal(value)) == written


def test_what_would_round_or_meets_a_float_raises():
    with localcontext(EXACT):
        with pytest.raises(Inexact):
            Decimal(1) / Decimal(3)
        with pytest.raises(FloatOperation):
            Decimal(float("0.5"))
    assert plain(quotient(Decimal(1), Decimal(3), 4)) == "0.3333"
    assert [plain(rounded(Decimal(v), 1)) for v in ("0.25", "0.35")] == ["0.2", "0.4"]


@pytest.mark.parametrize(
    ("ms", "written"),
    [
        (999, "PT0S"),
        (42_000, "PT42S"),
        (65_000, "PT1M5S"),
        (3_600_000, "PT1H0M0S"),
        (90_061_000, "P1DT1H1M1S"),
    ],
)
def test_durations_are_iso_8601(ms, written):
    assert duration(ms) == written


def test_instants_keep_their_milliseconds():
    assert instant(1_790_000_000_007) == "2026-09-21T14:13:20.007Z"
