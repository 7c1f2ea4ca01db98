"""A withdrawal that is repeated never takes away a row that was published since."""

from __future__ import annotations

from typing import Any

import pytest

from telecast.client import Publisher
from tests.support.payloads import position, price
from tests.support.service.live import Live, served

ROW = "/api/v1/channels/positions/rows/p-1"


async def withdraw(live: Live, path: str = ROW, **options: Any) -> tuple[int, dict[str, Any]]:
    status, body, _ = await live.ask("DELETE", path, **options)
    return status, body["data"] if status == 201 else body["error"]


async def rows(live: Live, channel: str = "positions") -> list[str]:
    page = await live.get(f"/api/v1/channels/{channel}/snapshot")
    return [row["key"] for row in page["rows"]]


async def test_a_repeat_under_its_idempotency_key_spares_the_new_row() -> None:
    once = {"Idempotency-Key": "once"}
    async with served() as live:
        await live.publish("positions", position("p-1"))
        first = await withdraw(live, headers=once)
        await live.publish("positions", position("p-1"))
        again = await withdraw(live, headers=once)
        assert (first[0], again[0], again[1]["duplicate"]) == (201, 201, True)
        assert again[1]["lastSeq"] == first[1]["lastSeq"]
        assert await rows(live) == ["p-1"]


async def test_a_repeat_of_what_was_found_gone_is_still_the_first_answer() -> None:
    async with served() as live:
        await live.publish("positions", position("p-1"))
        answers = [await withdraw(live, headers={"Idempotency-Key": "once"}) for _ in range(2)]
        assert [status for status, _ in answers] == [201, 201]


async def test_the_same_idempotency_key_for_another_row_is_a_conflict() -> None:
    async with served() as live:
        await live.publish("positions", position("p-1"), position("p-2"))
        await withdraw(live, headers={"Idempotency-Key": "once"})
        other = ROW.replace("p-1", "p-2")
        status, error = await withdraw(live, other, headers={"Idempotency-Key": "once"})
        assert (status, error["code"]) == (409, "IDEMPOTENCY_CONFLICT")
        assert await rows(live) == ["p-2"]


async def test_a_row_that_moved_is_not_withdrawn_and_the_answer_says_where_it_is() -> None:
    async with served() as live:
        known = (await live.publish("positions", position("p-1")))["lastSeq"]
        moved = (await live.publish("positions", position("p-1", quantity="5")))["lastSeq"]
        status, error = await withdraw(live, query={"ifSeq": known})
        assert (status, error["code"], error["details"]) == (409, "ROW_MOVED", {"seq": moved})
        assert await rows(live) == ["p-1"]
        assert (await withdraw(live, query={"ifSeq": moved}))[0] == 201
        assert await rows(live) == []


@pytest.mark.parametrize("query", [{"ifSeq": "x"}, {"ifSeq": "0"}, {"ifseq": "1"}, {"key": "p-1"}])
async def test_a_wrong_parameter_withdraws_nothing(query: dict[str, str]) -> None:
    async with served() as live:
        await live.publish("positions", position("p-1"))
        assert (await withdraw(live, query=query))[1]["code"] == "BAD_REQUEST"
        assert await rows(live) == ["p-1"]


async def test_a_key_with_a_slash_may_stand_in_the_query() -> None:
    path = "/api/v1/channels/market-data/rows"
    async with served() as live:
        await live.publish("market-data", price("BTC/USDT:USDT", "OKX"))
        assert (await withdraw(live, path))[1]["code"] == "BAD_REQUEST"
        assert (await withdraw(live, path, query={"key": "OKX:BTC/USDT:USDT"}))[0] == 201
        assert await rows(live, "market-data") == []


async def test_the_client_sends_a_key_with_each_withdrawal() -> None:
    async with served() as live, Publisher(live.url, live.secrets["desk"]) as publisher:
        await live.publish("positions", position("p-1"))
        await publisher.withdraw("positions", "p-1", idempotency_key="mine")
        await live.publish("positions", position("p-1"))
        assert (await publisher.withdraw("positions", "p-1", idempotency_key="mine"))["duplicate"]
        assert "duplicate" not in await publisher.withdraw("positions", "p-1")
        assert await rows(live) == []
