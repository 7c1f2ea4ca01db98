"""Whether what a trading floor tells hangs together, held against arithmetic of our own.

`Story.hear` takes what is sent, in its order, and fails at the first thing that can't be. It
computes with fractions, so that it can't share a rounding with what it judges.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from telecast.channels.catalogue import CHANNELS
from telecast.demo.desk import Mandate
from telecast.demo.holdings import Ending
from telecast.demo.traders import TRANSITIONS, State

Row = dict[str, Any]

PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
SHARES = {"change24h", "winRate", "profitFactor", "sharpeRatio", "lastSignalConfidence"}
"""Ratios are JSON numbers; no other number may be one with a point."""
UPTIME = re.compile(r"P(?:(\d+)D)?T(?:(\d+)H)?(?:(\d+)M)?(\d+)S")
INTERVALS = {"10s": 10_000, "1m": 60_000}
SIGN = {"LONG": 1, "SHORT": -1}
CONSTANT = (
    *("id", "traderId", "traderName", "exchange", "symbol", "action", "quantity"),
    *("entryPrice", "takeProfitPrice", "leverage", "openedAt"),
)


def ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo == UTC
    whole = moment.replace(microsecond=0)
    return int(whole.timestamp()) * 1000 + moment.microsecond // 1000


def seconds(uptime: str) -> int:
    match = UPTIME.fullmatch(uptime)
    assert match is not None, uptime
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def half_even(value: Fraction, scale: int) -> Fraction:
    # round() of a Fraction is half to even, and exact.
    return Fraction(round(value * 10**scale), 10**scale)


def no_float(value: Any, name: str = "") -> None:
    if isinstance(value, dict):
        for key, below in value.items():
            no_float(below, key)
    elif isinstance(value, list):
        for below in value:
            no_float(below, name)
    else:
        assert name in SHARES or type(value) in (str, int, bool, type(None)), (name, value)


class Story:
    """All that was sent so far. `thinned`: position updates were left out on the way."""

    def __init__(
        self, desk: list[Mandate], *, started: int, day: int, thinned: bool = False
    ) -> None:
        self.seen: Counter[str] = Counter()
        """What happened, such as CLOSED STOP_LOSS, ACTIVE t1:CRITICAL:EXPOSURE, RUNNING PAUSED."""
        self.first: dict[str, int] = {}
        """When, in milliseconds from the start."""
        self.open: dict[str, Row] = {}
        self.prices: dict[tuple[str | None, str], Fraction] = {}
        self.alerts: dict[str, Row] = {}
        self.traders: dict[str, Row] = {}
        self.ended = False
        self.system: dict[str, Row] = {}
        self._ticked: dict[str, int] = {}
        self.over = False
        """Whether the core has said that it is down, as it does at the tape's end."""
        self._mandates = {mandate.id: mandate for mandate in desk}
        self._started, self._day, self._thinned = started, day, thinned
        self._gone: set[str] = set()
        self._sums: dict[str, Sums] = defaultdict(Sums)
        self._now = started
        self._sticks: dict[Any, tuple[Fraction, Fraction, Fraction, Fraction, Fraction | int]] = {}
        self._closed_candles: set[Any] = set()
        self._fills: dict[str, list[Row]] = defaultdict(list)
        self._fill_ids: set[str] = set()
        self._signals: Counter[str] = Counter()

    def hear(self, now: int, reported: list[tuple[str, Row]]) -> None:
        assert now >= self._now
        self._now = now
        for channel, row in reported:
            no_float(row)
            loaded = CHANNELS[channel].load(row)
            assert {name: loaded[name] for name in row} == row, "sent as it was published"
            getattr(self, "_" + channel.replace("-", "_"))(row)

    def _happened(self, what: str) -> None:
        self.seen[what] += 1
        self.first.setdefault(what, self._now - self._started)

    # --- prices

    def _market_data(self, row: Row) -> None:
        assert PLAIN.fullmatch(row["price"])
        assert ms(row["updatedAt"]) == self._now
        self.prices[row.get("exchange"), row["symbol"]] = Fraction(row["price"])
        if (exchange := row.get("exchange")) is not None:
            self.system_up(f"exchange:{exchange}")
            self._ticked[exchange] = self._now

        where, price = (row.get("exchange"), row["symbol"]), Fraction(row["price"])
        size = Fraction(row.get("size") or 0)
        for interval, length in INTERVALS.items():
            key = (where, interval, self._now - self._now % length)
            first, high, low, _, volume = self._sticks.get(key, (price, price, price, price, 0))
            self._sticks[key] = (first, max(high, price), min(low, price), price, volume + size)

    # --- what is up

    def system_up(self, component: str) -> None:
        assert self.system[component]["status"] == "UP", f"{component} works and is not up"

    def _system(self, row: Row) -> None:
        component, status = row["component"], row["status"]
        before = self.system.get(component)
        assert before is None or before["status"] != status, "what has not changed is not said"
        assert ms(row["since"]) == self._now
        self.system[component] = row
        self._happened(f"{component} {status}")
        if component == "core":
            halted = any(
                alert["traderId"] is None and alert["severity"] == "CRITICAL"
                for alert in self.alerts.values()
            )
            self.over = status == "DOWN"
            assert self.over or (status == "DEGRADED") == halted
            return
        silent = self._now - self._ticked.get(component.removeprefix("exchange:"), self._now)
        if status == "DOWN":
            assert self.over or silent >= 10_000
        elif status == "DEGRADED":
            assert silent >= 4_000
        else:
            assert status == "UP"

    # --- candles

    def _candles(self, row: Row) -> None:
        """A candle is just what the ticks of its interval were."""
        begins = ms(row["openTime"])
        assert begins % INTERVALS[row["interval"]] == 0
        key = ((row["exchange"], row["symbol"]), row["interval"], begins)
        if row["closed"]:
            assert key not in self._closed_candles, "closed once"
            self._closed_candles.add(key)
        elif self._thinned:
            return  # several ticks may have been published before it
        names = ("open", "high", "low", "close", "volume")
        assert tuple(Fraction(row[name]) for name in names) == self._sticks[key]
        self._happened(f"CANDLE {row['interval']} {'closed' if row['closed'] else 'open'}")

    # --- fills

    def _executions(self, row: Row) -> None:
        assert row["id"] not in self._fill_ids, "an id is used once"
        self._fill_ids.add(row["id"])
        self._fills[row["positionId"]].append(row)
        assert ms(row["executedAt"]) == self._now or self._thinned
        self._happened(f"FILL {row['side']}")

    def _filled(self, position: Row, *, opening: bool) -> Fraction:
        """What the fills of one order of a position are worth; they add up to its quantity."""
        side = "BUY" if (position["action"] == "LONG") is opening else "SELL"
        mine = [fill for fill in self._fills[position["id"]] if fill["side"] == side]
        for name in ("traderId", "symbol", "exchange"):
            assert all(fill[name] == position[name] for fill in mine), name
        quantities = [Fraction(fill["quantity"]) for fill in mine]
        assert all(each > 0 for each in quantities)
        assert sum(quantities) == Fraction(position["quantity"])
        return sum(
            (Fraction(f["price"]) * Fraction(f["quantity"]) for f in mine), start=Fraction(0)
        )

    # --- positions

    def _positions(self, row: Row) -> None:
        before = self.open.get(row["id"])
        assert row["id"] not in self._gone, "an id is used once"
        for name in ("quantity", "entryPrice", "currentPrice", "unrealizedPnL", "stopLossPrice"):
            assert PLAIN.fullmatch(row[name]), (name, row[name])
        assert row["isActive"] is (row["status"] != "CLOSED")
        assert (row["realizedPnL"] is None) is (row["status"] != "CLOSED")
        self._is_worth_its_price(row)
        if row["status"] == "OPEN":
            assert before is None
            self._opened(row)
        else:
            assert before is not None, "nothing is updated or closed before it is open"
            self._went_on(before, row)
        if row["status"] == "CLOSED":
            self._closed(before, row)
        else:
            self.open[row["id"]] = row

    def _is_worth_its_price(self, row: Row) -> None:
        gain = Fraction(row["currentPrice"]) - Fraction(row["entryPrice"])
        worth = SIGN[row["action"]] * gain * Fraction(row["quantity"])
        assert Fraction(row["unrealizedPnL"]) == worth
        if not self._thinned:
            price = self.prices[row["exchange"], row["symbol"]]
            assert Fraction(row["currentPrice"]) == price, "the market's last price"

    def _opened(self, row: Row) -> None:
        mandate = self._mandates[row["traderId"]]
        assert (row["exchange"], row["symbol"]) == (mandate.exchange, mandate.symbol)
        assert self.traders[row["traderId"]]["status"] == "RUNNING", "only who runs may open"
        assert Fraction(row["quantity"]) > 0
        bought = self._filled(row, opening=True)
        assert bought == Fraction(row["entryPrice"]) * Fraction(row["quantity"])
        assert Fraction(row["unrealizedPnL"]) == 0
        assert row["currentPrice"] == row["entryPrice"]
        assert row["openedAt"] == row["updatedAt"]
        self._signals[row["traderId"]] += 1
        self._happened("OPEN")

    def _went_on(self, before: Row, row: Row) -> None:
        for name in CONSTANT:
            assert row[name] == before[name], name
        assert ms(row["updatedAt"]) >= ms(before["updatedAt"])
        sign = SIGN[row["action"]]
        moved = sign * (Fraction(row["stopLossPrice"]) - Fraction(before["stopLossPrice"]))
        assert moved >= 0, "a stop never loosens"
        assert not moved or row["trailingStopActivated"], "only a trailing stop moves"
        assert row["trailingStopActivated"] >= before["trailingStopActivated"]
        if row["status"] == "UPDATED":
            assert row["reason"] == before["reason"]
            assert sign * (Fraction(row["currentPrice"]) - Fraction(row["stopLossPrice"])) > 0
            if row["takeProfitPrice"] is not None:
                short_of = Fraction(row["takeProfitPrice"]) - Fraction(row["currentPrice"])
                assert sign * short_of > 0, "what reaches its target is closed"
            self._happened("UPDATED")

    def _closed(self, before: Row | None, row: Row) -> None:
        assert before is not None
        assert row["realizedPnL"] == row["unrealizedPnL"]
        made = self._filled(row, opening=False) - self._filled(row, opening=True)
        assert SIGN[row["action"]] * made == Fraction(row["realizedPnL"]), "fills tell the result"
        ending, sign = Ending(row["reason"]), SIGN[row["action"]]
        price = Fraction(row["currentPrice"])
        at_stop = sign * (price - Fraction(row["stopLossPrice"])) <= 0
        assert at_stop is (ending in (Ending.STOP_LOSS, Ending.TRAILING_STOP)), ending
        if at_stop:
            assert row["trailingStopActivated"] is (ending is Ending.TRAILING_STOP)
            if not self._thinned:
                assert row["stopLossPrice"] == before["stopLossPrice"], "a hit stop stays put"
        if ending is Ending.TAKE_PROFIT:
            assert sign * (price - Fraction(row["takeProfitPrice"])) >= 0
        del self.open[row["id"]]
        self._gone.add(row["id"])
        self._sums[row["traderId"]].add(row, self._today)
        self._happened(f"CLOSED {ending}")

    # --- alerts

    def _risk_alerts(self, row: Row) -> None:
        (violation,) = row["violations"]
        assert row["id"] == f"{row['traderId'] or 'ALL'}:{row['severity']}:{violation['type']}"
        before = self.alerts.get(row["id"])
        details = violation["details"]
        measured, limit = Fraction(details["measured"]), Fraction(details["limit"])
        if row["status"] == "ACTIVE":
            assert measured > limit, "an alert comes from a limit that is broken"
            assert before is None or before["createdAt"] == row["createdAt"]
            self.alerts[row["id"]] = row
        else:
            assert before is not None, "only what is active is resolved"
            assert measured <= limit
            del self.alerts[row["id"]]
        assert ms(row["createdAt"]) == (self._now if before is None else ms(before["createdAt"]))
        repeat = before is not None and row["status"] == "ACTIVE"
        self._happened(f"{'REPEAT' if repeat else row['status']} {row['id']}")
        if row["traderId"] is not None and not self._thinned and not self.ended:
            self._measured(row["traderId"], violation["type"], measured, limit)

    def _measured(self, trader: str, kind: str, measured: Fraction, limit: Fraction) -> None:
        """The alert against the positions and the limits: the channels tell one story."""
        mandate = self._mandates[trader]
        mine = [row for row in self.open.values() if row["traderId"] == trader]
        exposure = sum(Fraction(row["currentPrice"]) * Fraction(row["quantity"]) for row in mine)
        result = self.day_result(trader)
        amount = max(Fraction(0), -result) if kind == "DAILY_LOSS" else exposure
        base = Fraction(mandate.capital) + (result if kind == "LEVERAGE" else 0)
        assert measured == amount
        assert limit in [Fraction(each.most) * base for each in mandate.limits if each.kind == kind]

    def day_result(self, trader: str) -> Fraction:
        shown = [row["unrealizedPnL"] for row in self.open.values() if row["traderId"] == trader]
        sums = self._sums[trader]
        today = sums.today if sums.day == self._today else Fraction(0)
        return sum(map(Fraction, shown), today)

    @property
    def _today(self) -> int:
        return (self._now - self._started) // self._day

    # --- traders

    def _trader_status(self, row: Row) -> None:
        before = self.traders.get(row["id"])
        state = State(row["status"])
        assert row["reason"]
        if before is None:
            assert state is State.IDLE
        elif before["status"] != state:
            assert state in TRANSITIONS[State(before["status"])]
            self._happened(f"{before['status']} {state}")
            self._for_a_reason(row, State(before["status"]))
        self.traders[row["id"]] = row
        self._adds_up(row)

    def _for_a_reason(self, row: Row, before: State) -> None:
        critical = [
            key
            for key, alert in self.alerts.items()
            if alert["traderId"] == row["id"] and alert["severity"] == "CRITICAL"
        ]
        if row["status"] == "PAUSED":
            assert row["reason"] == f"paused by {critical[0]}"
        elif before is State.PAUSED and row["status"] == "RUNNING":
            assert not critical
        elif row["status"] == "STOPPED":
            assert not [1 for each in self.open.values() if each["traderId"] == row["id"]]

    def _adds_up(self, row: Row) -> None:
        metrics, sums = row["metrics"], self._sums[row["id"]]
        reported = (metrics["totalTrades"], metrics["winningTrades"], metrics["losingTrades"])
        assert reported == (sums.total, sums.won, sums.lost)
        assert Fraction(metrics["totalProfit"]) == sums.profit
        assert Fraction(metrics["totalLoss"]) == sums.loss
        assert Fraction(metrics["netProfit"]) == sums.profit - sums.loss
        assert Fraction(metrics["averageProfit"]) == half_even(sums.profit / (sums.won or 1), 8)
        assert Fraction(metrics["averageLoss"]) == half_even(sums.loss / (sums.lost or 1), 8)
        assert Fraction(metrics["maxDrawdown"]) == sums.deepest
        assert metrics["winRate"] == float(half_even(Fraction(sums.won, sums.total or 1), 4))
        factor = float(half_even(sums.profit / sums.loss, 4)) if sums.loss else None
        assert metrics["profitFactor"] == factor
        assert metrics["signalsExecuted"] == self._signals[row["id"]]
        assert metrics["closeSignalsExecuted"] == len(sums.signalled)
        if metrics["startTime"] is not None and row["status"] not in ("STOPPED", "ERROR"):
            ran = ms(row["updatedAt"]) - ms(metrics["startTime"])
            assert seconds(metrics["uptime"]) == ran // 1000


class Sums:
    """Of one trader's closed positions."""

    def __init__(self) -> None:
        self.total = self.won = self.lost = 0
        self.profit = self.loss = self.deepest = self._peak = Fraction(0)
        self.today = Fraction(0)
        self.day = 0
        self.signalled: set[str] = set()
        """Moments at which a signal closed something: one signal may close several positions."""

    def add(self, row: Row, day: int) -> None:
        result = Fraction(row["realizedPnL"])
        self.total += 1
        self.won += result > 0
        self.lost += result < 0
        self.profit += max(result, Fraction(0))
        self.loss -= min(result, Fraction(0))
        self._peak = max(self._peak, self.profit - self.loss)
        self.deepest = max(self.deepest, self._peak - (self.profit - self.loss))
        self.today = result if day != self.day else self.today + result
        self.day = day
        if row["reason"] == Ending.SIGNAL:
            self.signalled.add(row["updatedAt"])
