"""Delivery acknowledgement over both transports: at least once, durably, and seen by operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from telecast.consumers import consumers
from tests.support.payloads import position
from tests.support.service.live import Live, principal, served, types

READER = principal("reader", "read")
OTHER = principal("other", "read")
DESK = principal("desk")
HERE = {"channels": "positions", "delivery": "all", "clientId": "bot"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "FLUSH_SECONDS", 0.0)


async def some(live: Live, *keys: str) -> None:
    await live.publish("positions", *(position(key, "t1") for key in keys))


async def listed(live: Live, **query: Any) -> list[dict[str, Any]]:
    return list((await live.get("/api/v1/consumers", query=query))["consumers"])


async def by_post(live: Live, seq: int, client_id: str = "bot", **how: Any) -> tuple[int, Any]:
    status, body, _ = await live.ask(
        "POST",
        "/api/v1/clients/ack",
        **{
            "who": "reader",
            "json": {"clientId": client_id, "position": how.pop("position", live.at(seq))},
            **how,
        },
    )
    return status, body["data"] if status == 200 else body["error"]


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_one_that_comes_back_with_acked_goes_on_after_what_it_acknowledged(
    transport: str,
) -> None:
    async with served(DESK, READER) as live:
        async with live.ws(who="reader", **HERE) as line:
            await line.until("live")
            await some(live, "p1", "p2", "p3")
            await line.events(3)
            answer = await line.ask("ack", reqId="1", position=live.at(2))
            assert (answer["type"], answer["action"]) == ("ack", "ack")
            assert answer["position"] == live.at(2)
        async with live.transport(transport, who="reader", since="acked", **HERE) as line:
            reported = await line.until("live")
            (resume,) = [each.body for each in reported if each.type == "resume"]
            assert resume["from"] == live.at(2)
            assert [each.body["seq"] for each in reported if each.type == "event"] == [3]


async def test_an_answered_position_outlives_the_service(tmp_path: Path) -> None:
    journal = f"sqlite:{tmp_path}/journal.db"
    async with served(DESK, READER, journal=journal) as live:
        await some(live, "p1", "p2")
        async with live.ws(who="reader", since="earliest", **HERE) as line:
            await line.until("live")
            await line.ask("ack", reqId="1", position=live.at(1))
    async with served(DESK, READER, journal=journal) as live:
        async with live.ws(who="reader", since="acked", **HERE) as line:
            reported = await line.until("live")
            assert [each.body["seq"] for each in reported if each.type == "event"] == [2]
        assert (await by_post(live, 2))[0] == 200, "it may have had it before the restart"


async def test_an_sse_client_acknowledges_by_post_while_it_streams_and_after() -> None:
    async with served(DESK, READER) as live:
        async with live.sse(who="reader", **HERE) as line:
            await line.until("live")
            await some(live, "p1", "p2")
            await line.events(2)
            assert await by_post(live, 1) == (200, {"clientId": "bot", "position": live.at(1)})
            assert await by_post(live, 1) == (200, {"clientId": "bot", "position": live.at(1)})
            (client,) = (await live.get("/api/v1/clients"))["clients"]
            assert client["acknowledged"] == {"position": live.at(1), "lagEvents": 1}
        await live.everybody_gone()
        assert (await by_post(live, 2))[1]["position"] == live.at(2)
        await some(live, "p3")
        assert (await by_post(live, 3))[1]["code"] == "ACK_AHEAD"


async def test_who_has_acknowledged_nothing_begins_with_a_snapshot() -> None:
    async with served(DESK, READER) as live:
        await some(live, "p1")
        async with live.ws(who="reader", since="acked", **HERE) as line:
            assert "snapshot" in types(await line.until("live"))


async def test_what_was_not_delivered_cannot_be_acknowledged_and_both_positions_are_named() -> None:
    async with served(DESK, READER) as live, live.ws(who="reader", **HERE) as line:
        await line.until("live")
        await some(live, "p1")
        await line.events(1)
        for bad, code in (
            (live.at(2), "ACK_AHEAD"),
            ("zzzz:1", "POSITION_UNKNOWN"),
            ("x", "POSITION_MALFORMED"),
            (7, "POSITION_MALFORMED"),
            (None, "POSITION_MALFORMED"),
        ):
            answer = await line.ask("ack", reqId="1", position=bad)
            assert (answer["type"], answer["code"]) == ("error", code)
            if code == "ACK_AHEAD":
                assert answer["details"] == {"position": live.at(2), "delivered": live.at(1)}
        assert await listed(live) == []


async def test_a_client_that_is_nobody_gets_a_clear_code() -> None:
    nameless = {**HERE}
    del nameless["clientId"]
    async with served(DESK, READER) as live:
        async with live.ws(who="reader", **nameless) as line:
            await line.until("live")
            answer = await line.ask("ack", reqId="1", position=live.at(0))
            assert answer["code"] == "CLIENT_UNNAMED"
        for path in ("ws", "sse"):
            status, body, _ = await live.ask(
                "GET",
                f"/{path}/telemetry",
                who="reader",
                query={"since": "acked", "channels": "positions"},
                headers={
                    "Connection": "Upgrade",
                    "Upgrade": "websocket",
                    "Sec-WebSocket-Version": "13",
                    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                }
                if path == "ws"
                else None,
            )
            assert (status, body["error"]["code"]) == (400, "CLIENT_UNNAMED")
        async with live.ws(who="reader") as line:
            await line.expect("welcome")
            answer = await line.ask("subscribe", channels=["positions"], since="acked")
            assert answer["code"] == "CLIENT_UNNAMED"
            answer = await line.ask("subscribe", channels=["positions"])
            assert answer["type"] == "ack", "nothing of the refused one was kept"


async def test_a_bad_post_is_refused_and_says_why() -> None:
    async with served(DESK, READER) as live:
        assert (await by_post(live, 1))[1]["code"] == "CLIENT_NOT_FOUND"
        for body in (b"", b"[]", b'{"position":"a:1"}', b'{"clientId":"b","position":"","x":1}'):
            status, answer, _ = await live.ask(
                "POST", "/api/v1/clients/ack", who="reader", data=body
            )
            assert status == 400, answer
        assert (await by_post(live, 1, position=3))[1]["code"] == "POSITION_MALFORMED"
        assert (await by_post(live, 1, client_id=""))[0] == 400
        assert (await by_post(live, 1, data=b"x" * 5000, json=None))[0] == 413
        assert (await by_post(live, 1, who=None))[0] == 401


async def test_a_name_belongs_to_its_key() -> None:
    async with served(DESK, READER, OTHER) as live:
        async with live.ws(who="reader", **HERE) as line:
            await line.until("live")
            await some(live, "p1")
            await line.events(1)
            await line.ask("ack", reqId="1", position=live.at(1))
        assert (await by_post(live, 1, who="other"))[1]["code"] == "CLIENT_NOT_FOUND"


async def test_operators_see_each_consumer_online_or_not_and_can_forget_it() -> None:
    async with served(DESK, READER, OTHER) as live:
        for who, name in (("reader", "b"), ("reader", "a"), ("other", "c")):
            async with live.ws(who=who, channels="positions", clientId=name) as line:
                await line.until("live")
                await some(live, "p1")
                await line.events(1)
                await line.ask("ack", reqId="1", position=live.at(live.published))
        await live.everybody_gone()
        async with live.ws(who="reader", channels="positions", clientId="a") as line:
            await line.until("live")
            both = await listed(live, principal="reader")
        assert [(each["clientId"], each["online"]) for each in both] == [("a", True), ("b", False)]
        one = both[1]
        assert one | {"lagMs": 0} == {
            "principal": "reader",
            "keyId": READER.key_id,
            "clientId": "b",
            "online": False,
            "connectionIds": [],
            "channels": ["positions"],
            "position": live.at(1),
            "acknowledgedAt": one["acknowledgedAt"],
            "expiresAt": one["expiresAt"],
            "lagEvents": 2,
            "lagMs": 0,
            "standing": "whole",
        }
        page = await live.get("/api/v1/consumers", query={"limit": 2})
        rest = await live.get("/api/v1/consumers", query={"cursor": page["cursor"]})
        assert (page["more"], rest["more"]) == (True, False)
        assert len(page["consumers"]) + len(rest["consumers"]) == 3
        gone = {"keyId": READER.key_id, "clientId": "b"}
        status, _, _ = await live.ask("DELETE", "/api/v1/consumers", query=gone)
        assert status == 200
        status, body, _ = await live.ask("DELETE", "/api/v1/consumers", query=gone)
        assert (status, body["error"]["code"]) == (404, "CONSUMER_NOT_FOUND")
        status, body, _ = await live.ask("DELETE", "/api/v1/consumers", query={"clientId": "b"})
        assert status == 400
        assert [each["clientId"] for each in await listed(live, principal="reader")] == ["a"]
        entries = (await live.get("/api/v1/audit"))["entries"]
        assert [entry["action"] for entry in entries] == ["forget-consumer"]
        assert (await live.ask("GET", "/api/v1/consumers", who="reader"))[0] == 403


async def test_an_admin_whose_key_is_narrowed_sees_and_forgets_only_what_it_may_see() -> None:
    forced = {"traderId": frozenset({"t1"})}
    mine = principal("mine", "read", forced=forced)
    boss = principal("boss", "admin", "read", forced=forced)
    async with served(DESK, READER, mine, boss) as live:
        for who in ("reader", "mine"):
            async with live.ws(who=who, channels="positions", clientId="bot") as line:
                await line.until("live")
                await some(live, "p1")
                await line.events(1)
                await line.ask("ack", reqId="1", position=live.at(live.published))
        seen = (await live.get("/api/v1/consumers", who="boss"))["consumers"]
        assert [each["principal"] for each in seen] == ["mine"]
        status, body, _ = await live.ask(
            "DELETE",
            "/api/v1/consumers",
            who="boss",
            query={"keyId": READER.key_id, "clientId": "bot"},
        )
        assert (status, body["error"]["code"]) == (404, "CONSUMER_NOT_FOUND")
        assert len(await listed(live)) == 2


async def test_an_ack_without_a_req_id_is_kept_and_not_answered() -> None:
    async with served(DESK, READER) as live, live.ws(who="reader", **HERE) as line:
        await line.until("live")
        await some(live, "p1")
        await line.events(1)
        await line.send("ack", position=live.at(1))
        await live.until(lambda: len(live.parts.consumers))
        answer = await line.ask("heartbeat")
        assert answer["type"] == "heartbeat", "the next that comes"


async def test_what_the_metrics_say_of_consumers() -> None:
    async with served(DESK, READER) as live:
        async with live.ws(who="reader", **HERE) as line:
            await line.until("live")
            await some(live, "p1", "p2")
            await line.events(2)
            await line.ask("ack", reqId="1", position=live.at(1))
            await line.ask("ack", reqId="1", position=live.at(9))
        async with live.session.get(live.url + "/metrics", headers=live.headers("desk")) as got:
            text = await got.text()
        for line_of in (
            "telecast_consumers 1",
            "telecast_consumer_lag_events_max 1",
            'telecast_acknowledgements_total{outcome="ACK_AHEAD"} 1',
            'telecast_acknowledgements_total{outcome="committed"} 1',
            'telecast_consumers_at_risk{standing="near"} 0',
        ):
            assert line_of in text
