"""Publishing with the client: in order, once, through cuts, and refused in the service's words."""

from __future__ import annotations

import asyncio

import pytest

from telecast.client import Client, Refused
from telecast.testing.relay import relay
from tests.support.payloads import alert, position, price, trader
from tests.support.service.live import served


async def test_calls_of_many_tasks_commit_in_the_order_in_which_they_were_made():
    async with served() as live, Client(live.url, key=live.secrets["desk"]) as telecast:
        calls = [
            asyncio.create_task(telecast.publish("market-data", price(price=str(number))))
            for number in range(50)
        ]
        receipts = await asyncio.gather(*calls)
        assert [receipt["firstSeq"] for receipt in receipts] == list(range(1, 51))


async def test_a_lost_answer_is_asked_for_again_and_nothing_is_published_twice():
    async with served() as live, relay(live.url) as line:
        async with Client(line.url, key=live.secrets["desk"]) as telecast:
            await telecast.publish("positions", position("p1"))
            for number in range(5):
                publishing = asyncio.create_task(
                    telecast.publish("positions", [position(f"p{number}"), position("q")])
                )
                for _ in range(number):
                    await asyncio.sleep(0)
                line.cut()
                assert (await publishing)["accepted"] == 2
        assert (await live.get("/api/v1/channels/positions/events"))["position"] == live.at(11)


async def test_a_bad_row_is_refused_with_every_field_and_a_withdrawal_takes_a_row_away():
    async with served() as live, Client(live.url, key=live.secrets["desk"]) as telecast:
        with pytest.raises(Refused) as caught:
            await telecast.publish("trader-status", trader(status="RUNING"))
        assert caught.value.code == "VALIDATION_FAILED"
        assert caught.value.details["problems"][0]["field"] == "status"
        await telecast.publish("trader-status", trader("t1"))
        assert [row["key"] for row in (await telecast.snapshot("trader-status")).rows] == ["t1"]
        await telecast.withdraw("trader-status", "t1")
        assert (await telecast.snapshot("trader-status")).rows == []
        assert "positions" in {each["name"] for each in await telecast.channels()}


async def test_an_alert_is_acknowledged_once_and_the_second_asker_is_given_the_name_of_the_first():
    async with served() as live, Client(live.url, key=live.secrets["desk"]) as telecast:
        await telecast.publish("risk-alerts", alert("a1"))
        said = await telecast.acknowledge_alert("a1", note="seen")
        assert (said["alert"]["status"], said["alert"]["note"]) == ("ACKNOWLEDGED", "seen")
        assert said["changed"]
        with pytest.raises(Refused) as caught:
            await telecast.acknowledge_alert("nope")
        assert caught.value.code == "ROW_NOT_FOUND"


async def test_a_row_that_has_moved_is_not_withdrawn():
    async with served() as live, Client(live.url, key=live.secrets["desk"]) as telecast:
        await telecast.publish("trader-status", trader("t1"))
        await telecast.publish("trader-status", trader("t1", status="PAUSED"))
        with pytest.raises(Refused) as caught:
            await telecast.withdraw("trader-status", "t1", if_seq=1)
        assert caught.value.code == "ROW_MOVED"


async def test_a_key_that_was_replaced_is_asked_for_again():
    async with served() as live:
        given = ["tc_00000000_old", live.secrets["desk"]]

        async def key() -> str:
            return given.pop(0) if len(given) > 1 else given[0]

        async with Client(live.url, key=key) as telecast:
            assert (await telecast.publish("positions", position()))["accepted"] == 1


async def test_a_function_that_goes_on_giving_a_wrong_key_is_refused():
    async with served() as live, Client(live.url, key=lambda: "tc_00000000_old") as telecast:
        with pytest.raises(Refused) as caught:
            await telecast.publish("positions", position())
        assert caught.value.code == "UNAUTHENTICATED"
