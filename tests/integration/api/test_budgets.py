"""What one publisher can fill: a full budget refuses the newcomer, never the known."""

from __future__ import annotations

import asyncio

import pytest

from telecast.journal.base import Batch
from telecast.journal.memory import MemoryJournal
from telecast.model import Record
from tests.support.payloads import position, price
from tests.support.service.live import served

KEYED = {"Idempotency-Key": "first"}


async def test_a_full_channel_takes_changes_and_ends_of_rows_and_no_new_one() -> None:
    async with served(max_rows_per_channel=3) as live:
        await live.publish("positions", *(position(f"p{n}") for n in range(3)))
        error = await live.refused("positions", [position("p1"), position("p9")])
        assert (error["status"], error["code"]) == (409, "ROWS_EXHAUSTED")
        assert error["details"] == {"maxRowsPerChannel": 3, "rows": 3, "new": 1}
        assert "positions has 3 rows and may have 3; 1 of these would be new" in error["message"]
        await live.publish("positions", *(position(f"p{n}", quantity="2") for n in range(3)))
        await live.publish("market-data", price())
        await live.publish("positions", position("p0", status="CLOSED"))
        await live.publish("positions", position("p9"))
        assert (await live.refused("positions", position("p8")))["code"] == "ROWS_EXHAUSTED"


async def test_publishes_that_come_at_once_do_not_pass_the_budget_together() -> None:
    async with served(max_rows_per_channel=5) as live:
        answers = await asyncio.gather(
            *(live.post("positions", [position(f"{n}a"), position(f"{n}b")]) for n in range(20))
        )
        assert sorted(status for status, _, _ in answers) == [201] * 2 + [409] * 18
        await live.publish("positions", position("the last"))
        rows = (await live.get("/api/v1/channels/positions/snapshot"))["rows"]
        assert len(rows) == 5


async def test_a_repeat_of_what_was_committed_is_answered_though_the_channel_is_full() -> None:
    async with served(max_rows_per_channel=1) as live:
        await live.publish("positions", position("p1"), headers=KEYED)
        await live.publish("positions", position("p1", status="CLOSED"))
        await live.publish("positions", position("p2"))
        again = await live.publish("positions", position("p1"), headers=KEYED)
        assert again["duplicate"] is True


async def test_a_key_that_has_used_up_its_idempotency_keys_publishes_without_them() -> None:
    async with served(max_idempotency_keys_per_key=1) as live:
        await live.publish("positions", position("p1"), headers=KEYED)
        status, body, answer = await live.post(
            "positions", position("p2"), headers={"Idempotency-Key": "second"}
        )
        assert (status, body["error"]["code"]) == (429, "IDEMPOTENCY_EXHAUSTED")
        assert body["error"]["retryable"] is True
        assert int(answer.headers["Retry-After"]) >= 60
        assert (await live.publish("positions", position("p1"), headers=KEYED))["duplicate"]
        await live.publish("positions", position("p2"))


async def journal_of_another_version() -> MemoryJournal:
    journal = MemoryJournal({})
    await journal.append(
        Batch(
            records=(
                Record("orders", "o1", "upsert", True, b'{"id":"o1"}'),
                Record("orders", "o2", "upsert", True, b'{"id":"o2"}'),
            )
        )
    )
    return journal


async def test_a_channel_that_there_is_not_any_more_is_passed_over_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal = await journal_of_another_version()
    async with served(journal=journal) as live:
        published = await live.publish("positions", position())
        assert published["firstSeq"] == 3, "numbers go on"
        rows = (await live.get("/api/v1/channels/positions/snapshot"))["rows"]
        assert [row["seq"] for row in rows] == [3]
    (said,) = [each for each in caplog.records if "passed over" in each.message]
    assert (said.channel, said.count) == ("orders", 2)  # type: ignore[attr-defined]
