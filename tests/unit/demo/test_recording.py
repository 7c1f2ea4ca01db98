"""A recording is checked as a whole, and told by line number what is wrong with it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import orjson
import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.cli.data.replay import BATCH_EVENTS, Player
from telecast.recording import RecordingFault, Timed, line_of, parse_recording, read_recording

TICK = b'{"t":%s,"exchange":"OKX","symbol":"%s","price":"7.5"}'
NOW = datetime(2026, 11, 22, 18, 17, 19, 387_000, UTC)


def tick(t: object, symbol: str = "BTCUSDT") -> bytes:
    return TICK % (str(t).encode(), symbol.encode())


def problems(*lines: bytes) -> tuple[str, ...]:
    with pytest.raises(RecordingFault) as caught:
        parse_recording(lines, CHANNELS)
    return caught.value.problems


def test_a_tick_becomes_market_data_that_the_catalogue_takes():
    line = (
        b'{"t":0.0,"exchange":"BINANCE_FUTURES","symbol":"SUSHIUSDT","price":"7.6115",'
        b'"bid":"7.6110","ask":"7.6120","size":"1"}'
    )
    (timed,) = parse_recording([line], CHANNELS)
    assert (timed.t, timed.channel) == (0.0, "market-data")
    row = CHANNELS["market-data"].load(timed.published_at("2026-11-22T18:17:19.387Z"))
    assert row["id"] == "BINANCE_FUTURES:SUSHIUSDT"
    assert row["source"] == "replay"
    assert row["updatedAt"] == "2026-11-22T18:17:19.387Z"
    assert (row["price"], row["bid"], row["ask"], row["size"]) == (
        *("7.6115", "7.6110", "7.6120"),
        "1",
    )


def test_a_tick_without_exchange_is_named_by_its_symbol():
    (timed,) = parse_recording([b'{"t":1,"symbol":"GOLD","price":"1"}'], CHANNELS)
    assert timed.payload["id"] == "GOLD"


def test_a_tiny_price_loses_its_exponent_and_none_of_its_digits():
    line = b'{"t":0,"exchange":"X","symbol":"Y","price":"1.810e-05","bid":"2E3"}'
    (timed,) = parse_recording([line], CHANNELS)
    assert (timed.payload["price"], timed.payload["bid"]) == ("0.00001810", "2000")


def test_an_exponent_that_would_fill_memory_is_a_problem():
    (reported,) = problems(b'{"t":0,"symbol":"Y","price":"1e999999999"}')
    assert reported.startswith("Line 1: price:")


def test_a_payload_for_a_channel_is_sent_as_it_was_recorded():
    data = {"id": "t1", "name": "Ada", "status": "RUNNING", "updatedAt": "2026-01-01T00:00:00Z"}
    (timed,) = parse_recording(
        [orjson.dumps({"t": 2.5, "channel": "trader-status", "data": data, "note": "ignored"})],
        CHANNELS,
    )
    assert timed.published_at("2027-01-01T00:00:00Z") == data


def streamed(seq: int, at: int, op: str = "upsert", **more: object) -> dict[str, object]:
    data = {**CHANNELS["positions"].example, **more}
    body = {"type": "event", "channel": "positions", "seq": seq, "op": op, "key": data["id"]}
    return {**body, "data": data, "timestamp": 1_795_380_667_000 + at}


def test_what_tail_prints_as_json_is_a_recording():
    row = {**streamed(1, -86_400_000), "snapshot": True}
    lines = [row, streamed(7, 0, quantity="2"), streamed(8, 2500, status="CLOSED", op="delete")]
    found = parse_recording([orjson.dumps(line) for line in lines], CHANNELS)
    assert [timed.t for timed in found] == [0.0, 0.0, 2.5]
    assert [timed.payload.get("quantity") for timed in found][1] == "2"
    assert found[2].payload["status"] == "CLOSED"
    assert {timed.withdraws for timed in found} == {None}


def test_a_row_that_was_withdrawn_is_withdrawn_again():
    gone = streamed(2, 10, op="delete")
    (timed,) = parse_recording([orjson.dumps(gone)], CHANNELS)
    assert (timed.withdraws, timed.payload) == (gone["key"], {})
    again = parse_recording([line_of(timed)], CHANNELS)
    assert (again[0].channel, again[0].withdraws) == ("positions", gone["key"])


def test_a_row_that_moves_between_filters_stays():
    moved = [streamed(2, 10, op="delete"), streamed(3, 10, traderId="t2")]
    (timed,) = parse_recording([orjson.dumps(line) for line in moved], CHANNELS)
    assert timed.payload["traderId"] == "t2"


def test_what_the_service_added_to_an_alert_is_left_out():
    example = CHANNELS["risk-alerts"].example
    alert = {
        **example,
        "status": "ACKNOWLEDGED",
        "count": 3,
        "note": "on it",
    }
    body = {"type": "event", "channel": "risk-alerts", "seq": 1, "op": "upsert", "key": "a"}
    line = orjson.dumps({**body, "data": alert, "timestamp": 1})
    (timed,) = parse_recording([line], CHANNELS)
    assert timed.payload == {**example, "status": "ACTIVE"}


def test_empty_lines_count_but_say_nothing(tmp_path):
    path = tmp_path / "ticks.ndjson"
    path.write_bytes(b"\n" + tick(0) + b"\r\n\n" + tick(0) + b"\n")
    assert [timed.t for timed in read_recording(path, CHANNELS)] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{nope", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"symbol":"A","price":"1"}', "`t`"),
        (b'{"t":true,"symbol":"A","price":"1"}', "`t`"),
        (b'{"t":"1","symbol":"A","price":"1"}', "`t`"),
        (b'{"t":-1,"symbol":"A","price":"1"}', "`t`"),
        (b'{"t":1}', "neither"),
        (b'{"t":1,"channel":"positions"}', "`data`"),
        (b'{"t":1,"data":{}}', "`channel`"),
        (b'{"t":1,"channel":"postions","data":{}}', "Did you mean 'positions'?"),
        (b'{"t":1,"channel":"positions","data":{}}', "traderId: Missing data"),
        (b'{"t":1,"symbol":"A","price":1.5}', "price: Must be a decimal number"),
        (b'{"t":1,"symbol":"A","price":"1","prize":"1"}', "prize: Unknown field."),
    ],
)
def test_a_bad_line_is_reported_with_its_number(line, said):
    (reported,) = problems(tick(0), line)
    assert reported.startswith("Line 2: ")
    assert said in reported


def test_time_never_falls():
    assert problems(tick(3.2), tick(3.1), tick(3.2)) == ("Line 2: `t` falls from 3.2 to 3.1.",)


def test_every_problem_is_reported_up_to_a_bound():
    reported = problems(tick(0), *[b"{"] * 25)
    assert reported[0].startswith("Line 2:")
    assert len(reported) == 21
    assert reported[-1] == "and 5 more"


def test_an_empty_file_is_no_recording():
    assert problems(b"\n") == ("The file has no lines.",)


class Clock:
    """Time that passes only when somebody waits, or publishes."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def pause(self, seconds: float) -> None:
        self.now += seconds


class Taker:
    """Stands where the publisher does and notes what it is given, and when."""

    def __init__(self, clock: Clock, *, takes: float = 0.0) -> None:
        self.clock = clock
        self.takes = takes
        self.batches: list[tuple[float, str, list[dict[str, object]]]] = []
        self.keys: list[str] = []

    async def publish(self, channel: str, body: bytes, *, idempotency_key: str) -> dict[str, str]:
        rows = [orjson.loads(line) for line in body.split(b"\n")]
        self.batches.append((round(self.clock.now - 100.0, 6), channel, rows))
        self.keys.append(idempotency_key)
        self.clock.now += self.takes
        if len(self.batches) == 8:
            raise asyncio.CancelledError
        return {"position": f"k3v9:{len(self.batches)}"}


def timed(t: float, channel: str = "market-data") -> Timed:
    return Timed(t, channel, {"n": t}, stamped=channel == "market-data")


async def played(items: list[Timed], *, takes: float = 0.0, **options: float) -> Taker:
    clock = Clock()
    taker = Taker(clock, takes=takes)
    player = Player(
        items,
        speed=options.get("speed", 1.0),
        clock=clock,
        pause=clock.pause,
        now=lambda: NOW,
    )
    await player.play(taker)  # type: ignore[arg-type]
    return taker


async def test_what_is_due_goes_out_in_time_and_once():
    taker = await played([timed(0), timed(1), timed(1), timed(2.5)])
    assert [(at, len(rows)) for at, _, rows in taker.batches] == [(0, 1), (1, 2), (2.5, 1)]
    assert len(set(taker.keys)) == 3
    assert taker.batches[0][2][0]["updatedAt"] == "2026-11-22T18:17:19.387Z"


async def test_speed_stretches_or_removes_time():
    items = [timed(0), timed(4)]
    assert [at for at, *_ in (await played(items, speed=2)).batches] == [0, 2]
    assert [len(rows) for *_, rows in (await played(items, speed=0)).batches] == [2]


async def test_what_became_due_meanwhile_goes_out_together():
    taker = await played([timed(t / 10) for t in range(10)], takes=0.36)
    assert [len(rows) for *_, rows in taker.batches] == [1, 3, 4, 2]


async def test_the_order_of_channels_stays():
    taker = await played([timed(0), timed(0, "positions"), timed(0, "positions"), timed(0)])
    assert [(channel, len(rows)) for _, channel, rows in taker.batches] == [
        ("market-data", 1),
        ("positions", 2),
        ("market-data", 1),
    ]


async def test_a_batch_has_its_bound():
    taker = await played([timed(0)] * (BATCH_EVENTS + 1))
    assert [len(rows) for *_, rows in taker.batches] == [BATCH_EVENTS, 1]


async def test_a_loop_begins_anew_and_a_single_tick_is_no_flood():
    clock = Clock()
    taker = Taker(clock)
    player = Player([timed(0)], speed=1.0, clock=clock, pause=clock.pause, now=lambda: NOW)
    with pytest.raises(asyncio.CancelledError):
        await player.play(taker, again=True)  # type: ignore[arg-type]
    assert [at for at, *_ in taker.batches] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert player.summary() == "7 events in 7.0 s, 8 batches, up to k3v9:7"
