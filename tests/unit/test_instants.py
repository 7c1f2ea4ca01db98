"""Points in time as readers write them, and where they lie in a journal."""

from __future__ import annotations

import pytest

from telecast.errors import PeerFault
from telecast.journal.base import Batch
from telecast.journal.lookup import seq_before
from telecast.journal.memory import MemoryJournal
from telecast.model import Record, Retention
from telecast.protocol.instants import Instant, parse_instant

AT = 1_795_371_440_000


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("-90s", Instant(90_000, relative=True)),
        ("-10m", Instant(600_000, relative=True)),
        ("-2h", Instant(7_200_000, relative=True)),
        ("-1d", Instant(86_400_000, relative=True)),
        ("2026-11-22T18:17:20Z", Instant(AT)),
        ("2026-11-22T19:17:20+01:00", Instant(AT)),
        ("2026-11-22T19:17:20 01:00", Instant(AT)),
        ("2026-11-22T18:17:20.387Z", Instant(AT + 387)),
        ("k3v9:1042", None),
        ("earliest", None),
        ("2026:11", None),
    ],
)
def test_times_are_distinguished_from_positions(text: str, found: Instant | None) -> None:
    assert parse_instant(text, "since") == found


@pytest.mark.parametrize(
    "text",
    [
        *("10m", "-10", "-10w", "-1.5h", "9:55", "2026-11-22"),
        *("2026-11-22T18:17:20", "2026-13-01T00:00:00Z"),
    ],
)
def test_a_wrong_time_is_named_with_what_would_be_right(text: str) -> None:
    with pytest.raises(PeerFault, match=r"`to`: .* is no time: write -10m"):
        parse_instant(text, "to")


def test_the_future_is_refused_and_what_is_before_1970_is_the_beginning() -> None:
    assert Instant(60_000, relative=True).at(AT) == AT - 60_000
    assert Instant(AT * 2, relative=True).at(AT) == 0
    with pytest.raises(PeerFault, match="5 s in the future"):
        Instant(AT + 5_000).at(AT)


async def test_the_place_of_a_time_is_found_whatever_the_numbers_do() -> None:
    moment = AT / 1000
    journal = MemoryJournal(
        {"a": Retention(1000, 1e9), "b": Retention(1000, 1e9)}, now=lambda: moment
    )
    await journal.open()
    times: list[tuple[int, int]] = []
    for number in range(200):
        moment += number % 3  # some commits share their time
        name = "a" if number % 5 else "b"
        record = Record(name, f"k{number}", "upsert", False, b"{}")
        receipt = await journal.append(Batch(records=(record,)))
        times.append((receipt.last_seq, receipt.timestamp))
    for wanted in {at for _, at in times} | {0, AT * 2}:
        before = [seq for seq, at in times if at < wanted]
        assert await seq_before(journal, ("a", "b"), wanted) == (before[-1] if before else 0)
    await journal.close()
