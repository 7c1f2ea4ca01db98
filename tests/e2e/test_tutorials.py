"""The programs of the tutorials, `bot.py` and `feed.py`, against the real service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from telecast.client.blocking import Client
from telecast.testing.service import ServiceInTests
from tests.support.payloads import alert, position, price

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples" / "python"
TICKS = ROOT / "tests" / "data" / "ticks.ndjson"


@contextmanager
def program(
    service: ServiceInTests, *arguments: str, path: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A sample, ended with its test; `path` has modules that stand before others."""
    env = {**os.environ, "TELECAST_URL": service.url, "TELECAST_KEY": service.key}
    running = subprocess.Popen(
        [sys.executable, "-W", "error", str(SAMPLES / arguments[0]), *arguments[1:]],
        env=env | ({"PYTHONPATH": str(path)} if path else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running:
        try:
            yield running
        finally:
            running.kill()


def until(running: subprocess.Popen[str], start: str) -> list[str]:
    """What it prints, up to a line that begins so."""
    said: list[str] = []
    assert running.stdout is not None
    for line in running.stdout:
        said.append(line.rstrip())
        if line.startswith(start):
            return said
    raise AssertionError((start, said, running.stderr and running.stderr.read()))


def ended(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = running.communicate(timeout=60)
    return running.returncode, out, err


def digits(text: str | None) -> str | None:
    return None if text is None else f"{Decimal(text):f}"


# --- the exchange feed


def test_a_recorded_feed_ends_with_the_newest_price_of_every_instrument(
    telecast_service: ServiceInTests,
) -> None:
    newest: dict[str, dict[str, Any]] = {}
    for line in TICKS.read_text("utf-8").splitlines():
        tick = json.loads(line)
        newest[f"{tick['exchange']}:{tick['symbol']}"] = tick
    with program(telecast_service, "feed.py", "--recorded", str(TICKS), "40") as feed:
        status, _, err = ended(feed)
    assert (status, err) == (0, "")
    rows = telecast_service.rows("market-data")
    assert rows.keys() == newest.keys()
    for key, tick in newest.items():
        for name in ("price", "bid", "ask", "size"):
            assert rows[key][name] == digits(tick.get(name)), (key, name)
    assert telecast_service.rows("system")["RECORDING"]["status"] == "DOWN"


CCXT = """
class binance:
    number = float

    def __init__(self):
        self.batches = [BATCHES]

    async def watch_tickers(self, symbols):
        assert symbols == ["BTC/USDT", "ETH/USDT"], symbols
        if not self.batches:
            raise ConnectionError("the exchange is gone")
        return {each["symbol"]: {**each, "last": self.number(each["last"]),
                                 "bid": each["bid"] and self.number(each["bid"])}
                for each in self.batches.pop(0)}

    async def close(self):
        print("closed", flush=True)
"""
"""What the sample uses of ccxt: tickers, whose numbers are what `number` makes of the text.

ccxt 4.5.90 itself gives these fields so, from a message of the exchange.
"""


def test_an_exchange_s_prices_keep_their_digits_and_its_fault_is_published(
    telecast_service: ServiceInTests, tmp_path: Path
) -> None:
    ticker = {"percentage": "1.5", "ask": None, "datetime": "2026-11-27T12:00:00.000Z"}
    bitcoin = {**ticker, "symbol": "BTC/USDT", "last": "67310.10", "bid": "1e-8"}
    ether = {**ticker, "symbol": "ETH/USDT", "last": "3480.00", "bid": None, "percentage": None}
    folder = tmp_path / "ccxt"
    folder.mkdir()
    (folder / "__init__.py").touch()
    batches = f"{[bitcoin, ether]!r}, {[{**bitcoin, 'last': '67311.00'}]!r}"
    (folder / "pro.py").write_text(CCXT.replace("BATCHES", batches))
    with program(
        telecast_service, "feed.py", "binance", "BTC/USDT", "ETH/USDT", path=tmp_path
    ) as feed:
        status, out, err = ended(feed)
    assert status == 1
    assert "the exchange is gone" in err
    assert "closed" in out
    rows = telecast_service.rows("market-data")
    assert {key: (row["price"], row["bid"], row["change24h"]) for key, row in rows.items()} == {
        "BINANCE:BTCUSDT": ("67311.00", "0.00000001", 1.5),
        "BINANCE:ETHUSDT": ("3480.00", None, None),
    }
    state = telecast_service.rows("system")["BINANCE"]
    assert (state["status"], state["kind"]) == ("DOWN", "EXCHANGE")
    assert state["message"] == "ConnectionError: the exchange is gone"


CRYPTOFEED = {
    "__init__.py": """
import asyncio

class Ticker:
    def __init__(self, exchange, symbol, bid, ask, timestamp, raw=None):
        self.exchange, self.symbol, self.bid, self.ask = exchange, symbol, bid, ask
        self.timestamp, self.raw = timestamp, raw

class FeedHandler:
    def __init__(self, config=None):
        self.feeds = []

    def add_feed(self, feed, **kwargs):
        self.feeds.append(feed)

    def run(self, start_loop=True, install_signal_handlers=True):
        assert not start_loop and not install_signal_handlers, "the loop is ours"
        for feed in self.feeds:
            asyncio.get_event_loop().create_task(feed.play())
""",
    "defines.py": "TICKER = 'ticker'\n",
    "exchanges.py": """
import time
from decimal import Decimal

from cryptofeed import Ticker

class Binance:
    def __init__(self, symbols=None, channels=None, callbacks=None, **kwargs):
        assert channels == list(callbacks) == ["ticker"]
        self.symbols, self.callback = symbols, callbacks["ticker"]

    async def play(self):
        for bid, ask in BATCHES:
            for symbol in self.symbols:
                ticker = Ticker("BINANCE", symbol, Decimal(bid), Decimal(ask), time.time())
                await self.callback(ticker, time.time())
""",
}
"""What the sample uses of cryptofeed, as its documentation has it."""


def test_another_library_s_callbacks_become_rows_and_its_silence_is_published(
    telecast_service: ServiceInTests, tmp_path: Path
) -> None:
    folder = tmp_path / "cryptofeed"
    folder.mkdir()
    for name, text in CRYPTOFEED.items():
        batches = "[('67310.10', '67310.30'), ('1E-8', '3E-8')]"
        (folder / name).write_text(text.replace("BATCHES", batches))
    soon = tmp_path / "sample"
    soon.mkdir()
    for name in ("feed.py", "feed_by_cryptofeed.py"):
        text = (SAMPLES / name).read_text("utf-8")
        (soon / name).write_text(text.replace("SILENT_SECONDS = 60", "SILENT_SECONDS = 0.5"))
    arguments = (str(soon / "feed_by_cryptofeed.py"), "BTC-USDT", "ETH-USDT")
    with program(telecast_service, *arguments, path=tmp_path) as feed:
        status, _, err = ended(feed)
    assert status == 1
    assert "TimeoutError" in err
    rows = telecast_service.rows("market-data")
    assert {key: (row["price"], row["bid"], row["ask"]) for key, row in rows.items()} == {
        "BINANCE:BTCUSDT": ("0.00000002", "0.00000001", "0.00000003"),
        "BINANCE:ETHUSDT": ("0.00000002", "0.00000001", "0.00000003"),
    }
    state = telecast_service.rows("system")["BINANCE"]
    assert (state["status"], state["kind"]) == ("DOWN", "EXCHANGE")


# --- the bot


def market(number: str) -> dict[str, Any]:
    return price("BTCUSDT", "BINANCE", price=number)


def fills(service: ServiceInTests, count: int) -> list[tuple[str, str]]:
    with Client(service.url, key=service.key) as telecast:
        found = []
        for change in telecast.follow("executions", since="earliest"):
            found.append((change.row["side"], change.row["price"]))
            if len(found) == count:
                break
    return found


def test_a_bot_trades_on_live_prices_and_stops_when_risk_management_says_so(
    telecast_service: ServiceInTests,
) -> None:
    telecast_service.publish("market-data", market("100.00"))
    telecast_service.publish("positions", position("of-an-earlier-run", "paper-1"))
    telecast_service.publish("positions", position("of-another", "t2"))
    with program(telecast_service, "bot.py", "paper-1", "BINANCE", "BTCUSDT") as bot:
        until(bot, "OPEN paper-1-1 100.00")
        assert telecast_service.rows("positions").keys() == {"paper-1-1", "of-another"}
        assert telecast_service.rows("trader-status")["paper-1"]["status"] == "RUNNING"
        telecast_service.publish("market-data", market("100.20"))
        until(bot, "CLOSED paper-1-1 100.20")
        telecast_service.publish("market-data", market("100.21"))
        until(bot, "OPEN paper-1-2 100.21")
        with telecast_service.away():
            telecast_service.publish("market-data", market("100.22"))
        until(bot, "PAUSED")
        until(bot, "RUNNING")
        stop = alert("stop-1", "paper-1", severity="CRITICAL", recommendation="EMERGENCY_STOP")
        telecast_service.publish("risk-alerts", stop)
        telecast_service.publish("market-data", market("100.23"))
        status, _, err = ended(bot)
    assert (status, err) == (0, "")
    assert telecast_service.rows("positions").keys() == {"of-another"}
    last = telecast_service.rows("trader-status")["paper-1"]
    assert last["status"] == "STOPPED"
    assert "EMERGENCY_STOP" in last["reason"]
    sides = [side for side, _ in fills(telecast_service, 4)]
    assert sides == ["BUY", "SELL", "BUY", "SELL"]


def test_a_bot_that_is_asked_to_end_closes_its_position_first(
    telecast_service: ServiceInTests,
) -> None:
    telecast_service.publish("market-data", market("100.00"))
    with program(telecast_service, "bot.py", "paper-1", "BINANCE", "BTCUSDT") as bot:
        until(bot, "OPEN paper-1-1")
        bot.send_signal(signal.SIGTERM)
        status, out, err = ended(bot)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "STOPPED was asked to stop"
    assert telecast_service.rows("positions") == {}


def test_a_key_that_may_not_publish_ends_both_with_a_sentence(
    telecast_service: ServiceInTests,
) -> None:
    telecast_service.key = telecast_service.new_key("reader", ["read"])
    for arguments in (
        ("bot.py", "paper-1", "BINANCE", "BTCUSDT"),
        ("feed.py", "--recorded", str(TICKS), "40"),
    ):
        with program(telecast_service, *arguments) as running:
            status, _, err = ended(running)
        assert status == 1
        assert err.startswith("FORBIDDEN"), err
        assert "Traceback" not in err
