"""The channel `system`: who may write it, who reaches it, and who sees what operators did."""

from __future__ import annotations

from pathlib import Path

import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.channels.configured import catalogue_from
from telecast.model import Principal
from tests.support.service.live import principal, served

EXAMPLE = CHANNELS["system"].example
ACT = EXAMPLE | {"component": "kick", "kind": "ADMINISTRATION", "status": "UP"}


def holder(number: int, name: str, *scopes: str, channels: tuple[str, ...] = ("*",)) -> Principal:
    made = principal(name, *scopes, channels=channels)
    return Principal(key_id=f"{number:08x}", name=name, scopes=made.scopes, channels=made.channels)


HOLDERS = (
    holder(1, "admin", "read", "publish", "operate", "admin"),
    holder(2, "operator", "read", "operate"),
    holder(3, "bot", "read", "publish", channels=("*", "system")),
    holder(4, "anyone", "read", "publish"),
)


async def test_it_is_written_with_the_scope_operate_only() -> None:
    async with served(*HOLDERS) as live:
        for who in ("bot", "anyone"):
            fault = await live.refused("system", EXAMPLE, who=who)
            assert (fault["status"], fault["code"]) == (403, "FORBIDDEN")
        await live.publish("system", EXAMPLE, who="operator")
        fault = await live.refused("positions", CHANNELS["positions"].example, who="operator")
        assert (fault["status"], fault["code"]) == (403, "FORBIDDEN")
        async with live.ws(who="bot") as reader:
            await reader.expect("welcome")
            await reader.send("publish", channel="system", data=EXAMPLE)
            assert (await reader.expect("error")).body["code"] == "FORBIDDEN"
        status, _, _ = await live.ask(
            "DELETE", "/api/v1/channels/system/rows/binance", who="operator"
        )
        assert status == 201


async def test_a_key_that_names_no_channels_does_not_get_it_by_surprise() -> None:
    async with served(*HOLDERS) as live:
        names = {
            who: [each["name"] for each in await live.get("/api/v1/channels", who=who)]
            for who in ("admin", "operator", "bot", "anyone")
        }
        assert {who for who in names if "system" in names[who]} == {"admin", "operator", "bot"}
        status, answer, _ = await live.ask("GET", "/api/v1/channels/system/snapshot", who="anyone")
        assert (status, answer["error"]["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_what_operators_did_is_seen_with_the_scope_admin_only(transport: str) -> None:
    async with served(*HOLDERS) as live:
        await live.publish("system", EXAMPLE, ACT, who="admin")
        fault = await live.refused("system", ACT, who="operator")
        assert (fault["status"], fault["code"]) == (403, "FORBIDDEN")
        for who, seen in (("admin", ["binance", "kick"]), ("operator", ["binance"])):
            rows = (await live.get("/api/v1/channels/system/snapshot", who=who))["rows"]
            assert [each["key"] for each in rows] == seen
            events = (await live.get("/api/v1/channels/system/events", who=who))["events"]
            assert [each["key"] for each in events] == seen
            async with live.transport(transport, who=who, channels="system") as reader:
                opening = await reader.opening()
                assert [e.body["key"] for e in opening if e.type == "event"] == seen
        async with live.transport(
            transport, who="operator", channels="system", kind="ADMINISTRATION"
        ) as reader:
            assert [e for e in await reader.opening() if e.type == "event"] == []


async def test_the_service_reports_and_keeps_since_while_the_status_is_the_same() -> None:
    now = iter(range(1, 100))
    async with served(now=lambda: 1_000.0) as live:
        reports = live.parts.system
        reports._now = lambda: float(next(now))
        assert await reports.report("feed", "DOWN", "no event for 60 s")
        assert await reports.report("feed", "DOWN", "no event for 90 s")
        (row,) = (await live.get("/api/v1/channels/system/snapshot"))["rows"]
        assert row["data"] == {
            "component": "feed",
            "status": "DOWN",
            "kind": "SERVICE",
            "message": "no event for 90 s",
            "since": "1970-01-01T00:00:01.000Z",
        }
        assert await reports.report("feed", "UP")
        (row,) = (await live.get("/api/v1/channels/system/snapshot"))["rows"]
        assert row["data"]["since"] == "1970-01-01T00:00:02.000Z"


async def test_a_drain_is_reported_to_who_follows_and_taken_back_at_the_next_start(
    tmp_path: Path,
) -> None:
    journal = f"sqlite:{tmp_path / 'journal.db'}"
    async with served(journal=journal) as live, live.ws(channels="system") as reader:
        await reader.opening()
        await live.server.__aexit__(None, None, None)
        (event,) = await reader.events()
        assert (event.row["component"], event.row["status"]) == ("telecast", "DOWN")
        assert (await reader.expect("notice")).body["code"] == "SHUTTING_DOWN"
    async with served(journal=journal) as live:
        (row,) = (await live.get("/api/v1/channels/system/snapshot"))["rows"]
        assert row["data"]["status"] == "UP"


async def test_a_drain_that_nobody_follows_changes_nothing(tmp_path: Path) -> None:
    journal = f"sqlite:{tmp_path / 'journal.db'}"
    for _ in range(2):
        async with served(journal=journal) as live:
            assert live.parts.tape.head == 0


async def test_without_the_channel_nothing_is_reported_and_nothing_fails() -> None:
    async with served(catalogue=catalogue_from("[system]\nenabled = false\n")) as live:
        assert not await live.parts.system.report("feed", "DOWN")
        await live.parts.system.started()
