"""An alert is acknowledged once, by name, over both transports, and the audit keeps it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from telecast import turns
from telecast.ingress.alerts import SCAN
from tests.support.payloads import alert
from tests.support.service.live import Live, principal, served

MIA = principal("mia", "read", "operate")
TOM = principal("tom", "read", "operate")
DESK = principal("desk")
T1_DESK = principal("t1-desk", "read", "operate", forced={"traderId": frozenset({"t1"})})
READER = principal("reader", "read")
PATH = "/api/v1/risk-alerts/a1/acknowledge"
BACK = "/api/v1/risk-alerts/a1/unacknowledge"


@pytest.fixture(autouse=True)
def _no_looks_but_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telecast.tasks.ESCALATE_SECONDS", 3_600.0)


async def acknowledge(live: Live, who: str, path: str = PATH, **body: Any) -> dict[str, Any]:
    status, answer, _ = await live.ask("POST", path, who=who, **body)
    return answer["data"] if status == 200 else {"status": status, **answer["error"]}


async def test_it_is_acknowledged_with_a_note_and_every_screen_sees_it() -> None:
    async with (
        served(DESK, MIA) as live,
        live.ws(channels="risk-alerts") as ws,
        live.sse(channels="risk-alerts") as sse,
    ):
        for reader in (ws, sse):
            await reader.opening()
        await live.publish("risk-alerts", alert())
        done = await acknowledge(live, "mia", json={"note": "on it"})
        assert done["changed"] is True
        assert done["alert"]["status"] == "ACKNOWLEDGED"
        for reader in (ws, sse):
            row = (await reader.events(2))[1].row
            assert (row["acknowledgedBy"], row["note"]) == ("mia", "on it")
            assert row == done["alert"]


async def test_a_repeat_of_the_publisher_raises_the_count_and_undoes_nothing() -> None:
    async with served(DESK, MIA) as live:
        await live.publish("risk-alerts", alert())
        await acknowledge(live, "mia")
        await live.publish("risk-alerts", alert())
        await live.publish("risk-alerts", alert(), headers={"Idempotency-Key": "k"})
        repeated = await live.publish("risk-alerts", alert(), headers={"Idempotency-Key": "k"})
        assert repeated["duplicate"] is True
        rows = (await live.get("/api/v1/channels/risk-alerts/snapshot"))["rows"]
        assert [(row["data"]["status"], row["data"]["count"]) for row in rows] == [
            ("ACKNOWLEDGED", 3)
        ]


async def test_active_after_resolved_begins_a_new_life() -> None:
    async with served(DESK, MIA) as live:
        await live.publish("risk-alerts", alert(), alert())
        await acknowledge(live, "mia")
        await live.publish("risk-alerts", alert(status="RESOLVED"), alert())
        row = live.parts.alerts[0].row("a1")
        assert row is not None
        assert (row["status"], row["count"], row["acknowledgedBy"]) == ("ACTIVE", 1, None)


async def test_of_two_operators_at_once_one_wins_and_the_other_learns_who() -> None:
    async with served(DESK, MIA, TOM) as live:
        await live.publish("risk-alerts", alert())
        first, second = await asyncio.gather(acknowledge(live, "mia"), acknowledge(live, "tom"))
        won, lost = (first, second) if "alert" in first else (second, first)
        winner = won["alert"]["acknowledgedBy"]
        assert (lost["status"], lost["code"]) == (409, "ALERT_ACKNOWLEDGED")
        assert lost["details"]["acknowledgedBy"] == winner
        assert winner in lost["message"]


async def test_the_same_operator_may_repeat_it_and_nothing_more_is_committed() -> None:
    async with served(DESK, MIA) as live:
        await live.publish("risk-alerts", alert())
        await acknowledge(live, "mia", headers={"Idempotency-Key": "k"})
        head = live.parts.journal.head
        again = await acknowledge(live, "mia", headers={"Idempotency-Key": "k"})
        assert (again["changed"], again["duplicate"]) == (False, True)
        assert (await acknowledge(live, "mia"))["changed"] is False
        assert live.parts.journal.head == head


async def test_it_can_be_taken_back() -> None:
    async with served(DESK, MIA, TOM) as live:
        await live.publish("risk-alerts", alert())
        await acknowledge(live, "mia")
        back = await acknowledge(live, "tom", BACK)
        assert (back["alert"]["status"], back["alert"]["acknowledgedBy"]) == ("ACTIVE", None)
        assert (await acknowledge(live, "tom"))["alert"]["acknowledgedBy"] == "tom"


async def test_over_a_websocket_it_is_an_action_and_the_answer_has_the_alert() -> None:
    async with served(DESK, MIA) as live, live.ws(who="mia") as reader:
        await live.publish("risk-alerts", alert())
        await reader.expect("welcome")
        ask = {"reqId": "7", "alertId": "a1", "note": "on it"}
        done = await reader.ask("acknowledge-alert", **ask)
        assert (done["type"], done["reqId"], done["alertId"]) == ("ack", "7", "a1")
        assert done["alert"]["acknowledgedBy"] == "mia"
        error = await reader.ask("acknowledge-alert", reqId="8", alertId="nope")
        assert (error["code"], error["reqId"]) == ("ROW_NOT_FOUND", "8")
        error = await reader.ask("acknowledge-alert", reqId="9", alertId="a1", note="\x1b[2J")
        assert (error["code"], error["reqId"]) == ("BAD_REQUEST", "9")


async def test_without_the_scope_it_is_refused_over_both() -> None:
    async with served(DESK, READER) as live, live.ws(who="reader") as reader:
        await live.publish("risk-alerts", alert())
        await reader.expect("welcome")
        assert (await acknowledge(live, "reader"))["code"] == "FORBIDDEN"
        assert (await reader.ask("acknowledge-alert", alertId="a1"))["code"] == "FORBIDDEN"


async def test_a_forced_filter_holds() -> None:
    async with served(DESK, T1_DESK) as live:
        await live.publish("risk-alerts", alert("a1"), alert("a2", "t2"), alert("a3", None))
        paths = [f"/api/v1/risk-alerts/a{n}/acknowledge" for n in (1, 2, 3)]
        mine, hidden, everybodys = [await acknowledge(live, "t1-desk", path) for path in paths]
        assert mine["alert"]["acknowledgedBy"] == "t1-desk"
        assert (hidden["status"], hidden["code"]) == (404, "ROW_NOT_FOUND")
        assert (everybodys["status"], everybodys["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"json": {"note": "a\nb"}}, 400, "BAD_REQUEST"),
        ({"json": {"note": "x" * 1_001}}, 400, "LIMIT_EXCEEDED"),
        ({"json": {"note": "x" * 10_240}}, 413, "BODY_TOO_LARGE"),
        ({"json": {"note": 5}}, 400, "BAD_REQUEST"),
        ({"json": {"notes": "x"}}, 400, "BAD_REQUEST"),
        ({"json": []}, 400, "BAD_REQUEST"),
        ({"data": "hello"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    ],
)
async def test_bad_words_are_refused_and_change_nothing(
    body: dict[str, Any], status: int, code: str
) -> None:
    async with served(DESK, MIA) as live:
        await live.publish("risk-alerts", alert())
        refused = await acknowledge(live, "mia", **body)
        assert (refused["status"], refused["code"]) == (status, code)
        row = live.parts.alerts[0].row("a1")
        assert row is not None
        assert row["status"] == "ACTIVE"
        assert len(live.parts.audit) == 0


async def test_what_is_resolved_or_never_was_or_is_no_alert_is_not_found() -> None:
    async with served(DESK, MIA) as live:
        await live.publish("risk-alerts", alert(), alert(status="RESOLVED"))
        for path in (PATH, BACK, "/api/v1/risk-alerts/nope/acknowledge"):
            assert (await acknowledge(live, "mia", path))["code"] == "ROW_NOT_FOUND"
        refused = await acknowledge(live, "mia", "/api/v1/positions/p1/acknowledge")
        assert (refused["status"], refused["code"]) == (404, "NOT_FOUND")


async def test_the_audit_says_who_did_what_and_outlives_a_restart(tmp_path: Path) -> None:
    journal = f"sqlite:{tmp_path}/telecast.db"
    async with served(DESK, MIA, journal=journal) as live:
        await live.publish("risk-alerts", alert("a1"), alert("a2"))
        await acknowledge(live, "mia", json={"note": "on it"})
        await acknowledge(live, "mia", BACK)
    async with served(DESK, MIA, journal=journal) as live:
        found = await live.get("/api/v1/audit")
        assert [
            (each["action"], each["principal"], each["target"], each["details"]["note"])
            for each in found["entries"]
        ] == [
            ("unacknowledge-alert", "mia", "a1", None),
            ("acknowledge-alert", "mia", "a1", "on it"),
        ]
        assert found["more"] is False
        assert live.parts.alerts[0].row("a1") is not None


async def test_the_audit_is_read_in_pages_by_admins_within_what_they_may_see() -> None:
    t2_admin = principal("t2-admin", "admin", forced={"traderId": frozenset({"t2"})})
    async with served(DESK, t2_admin, READER) as live:
        await live.publish("risk-alerts", *(alert(f"a{n}", f"t{n}") for n in (1, 2, 3)))
        for n in (1, 2, 3):
            await acknowledge(live, "desk", f"/api/v1/risk-alerts/a{n}/acknowledge")
        page = await live.get("/api/v1/audit", query={"limit": "2"})
        assert [each["target"] for each in page["entries"]] == ["a3", "a2"]
        rest = await live.get("/api/v1/audit", query={"limit": "2", "cursor": page["cursor"]})
        assert ([each["target"] for each in rest["entries"]], rest["more"]) == (["a1"], False)
        mine = await live.get("/api/v1/audit", who="t2-admin")
        assert [each["target"] for each in mine["entries"]] == ["a2"]
        named = await live.get("/api/v1/audit", query={"target": "a1"})
        assert len(named["entries"]) == 1
        assert (await live.ask("GET", "/api/v1/audit", who="reader"))[0] == 403
        for query in ({"limit": "0"}, {"cursor": "x"}, {"since": "1"}):
            assert (await live.ask("GET", "/api/v1/audit", query=query))[0] == 400


async def test_the_audit_keeps_the_newest_entries_and_none_is_pushed_out_by_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("telecast.audit.MOST", 3)
    async with served(DESK) as live:
        audit = live.parts.audit
        await audit.record(MIA, "kick", "mine")
        for n in range(40):
            await audit.record(DESK, "kick", f"c{n}")
        assert [entry.target for entry in audit.before(None)] == ["c39", "c38", "mine"]
        assert len(await live.parts.journal.notes("audit")) == 3 + 1, "one goes with the next"


async def test_what_is_acknowledged_at_once_leaves_no_more_in_the_journal_than_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telecast.audit.MOST", 4)
    settings = {"journal": f"sqlite:{tmp_path / 'journal.db'}"}
    async with served(DESK, MIA, **settings) as live:
        await live.publish("risk-alerts", *(alert(f"a{n}") for n in range(40)))
        paths = [PATH.replace("a1", f"a{n}") for n in range(40)]
        await asyncio.gather(*(acknowledge(live, "mia", path) for path in paths))
    async with served(DESK, MIA, **settings) as live:
        assert len(live.parts.audit) == 4
        for n in range(8):
            await acknowledge(live, "mia", BACK.replace("a1", f"a{n}"))
        kept = [entry.id for entry in live.parts.audit.before(None)]
        noted = [note.key for note in await live.parts.journal.notes("audit")]
        assert set(kept) <= set(noted)
        assert len(noted) <= 4 + 1


async def test_an_admin_who_is_narrowed_sees_in_the_audit_its_rows_and_what_it_did_itself() -> None:
    narrow = principal("narrow", "admin", channels=("positions",))
    t1_admin = principal("t1-admin", "admin", forced={"traderId": frozenset({"t1"})})
    async with served(DESK, MIA, narrow, t1_admin) as live:
        await live.publish("risk-alerts", alert("a1"), alert("a2", traderId="t2"))
        for alert_id in ("a1", "a2"):
            await acknowledge(live, "mia", PATH.replace("a1", alert_id), json={"note": "secret"})
        for who in ("desk", "narrow", "t1-admin"):
            await live.ask("DELETE", f"/api/v1/clients?clientId=of-{who}", who=who)
        seen = {
            who: [each["target"] for each in (await live.get("/api/v1/audit", who=who))["entries"]]
            for who in ("narrow", "t1-admin")
        }
        assert seen == {
            "narrow": ["clientId=of-narrow"],
            "t1-admin": ["clientId=of-t1-admin", "a1"],
        }


async def test_a_look_at_many_waiting_alerts_lets_others_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served(DESK) as live:
        (alerts,) = live.parts.alerts
        many = [alert(f"a{n}", severity="CRITICAL") for n in range(5 * SCAN)]
        for first in range(0, len(many), SCAN):
            await live.publish("risk-alerts", *many[first : first + SCAN])
        await alerts.look()
        assert alerts.unacknowledged == 5 * SCAN
        monkeypatch.setattr(turns, "SLICE", 0.0)
        between, looked = 0, False

        async def other() -> None:
            nonlocal between
            while not looked:
                between += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        await alerts.look()
        looked = True
        await beside
        assert between >= 5


async def test_a_critical_alert_that_nobody_acknowledges_is_escalated_once() -> None:
    clock = [1_800_000_000.0]
    time = {"now": lambda: clock[0], "elapsed": lambda: clock[0]}
    async with served(DESK, MIA, **time, escalate_after=300.0) as live:
        (alerts,) = live.parts.alerts
        critical = {"severity": "CRITICAL"}
        await live.publish("risk-alerts", *(alert(f"a{n}", **critical) for n in (1, 2, 3)))
        await live.publish("risk-alerts", alert("a4"), alert("a3", status="RESOLVED", **critical))
        await acknowledge(live, "mia", "/api/v1/risk-alerts/a2/acknowledge")
        clock[0] += 299
        await alerts.look()
        assert (alerts.escalated, alerts.unacknowledged) == (0, 1)
        await live.publish("risk-alerts", alert("a1", **critical))  # a repeat does not postpone it
        clock[0] += 1
        async with live.ws(channels="risk-alerts") as reader:
            await reader.opening()
            await alerts.look()
            row = (await reader.events())[0].row
            assert (row["id"], row["escalatedAt"]) == ("a1", "2027-01-15T08:05:00.000Z")
        await alerts.look()
        assert (alerts.escalated, alerts.unacknowledged) == (1, 0)
        (entry, *_) = live.parts.audit.before(None)
        assert (entry.action, entry.principal, entry.target) == ("escalate-alert", "telecast", "a1")


async def test_a_clock_that_jumps_escalates_nothing_and_holds_up_nothing() -> None:
    """Regression: an hour's step of the clock escalated what had waited for some seconds."""
    clock, elapsed = [1_800_000_000.0], [0.0]
    time = {"now": lambda: clock[0], "elapsed": lambda: elapsed[0]}

    async def looks(seconds: float) -> int:
        clock[0] += seconds
        elapsed[0] += seconds
        await live.parts.alerts[0].look()
        return live.parts.alerts[0].escalated

    async with served(DESK, **time, escalate_after=300.0) as live:
        await live.publish("risk-alerts", alert("a1", severity="CRITICAL"))
        assert await looks(10) == 0
        clock[0] += 3600
        await live.publish("risk-alerts", alert("a2", severity="CRITICAL"))
        await live.publish("risk-alerts", alert("a1", severity="CRITICAL"))
        assert await looks(1) == 0
        assert await looks(279) == 0
        assert await looks(11) == 1
        assert await looks(11) == 2
        clock[0] -= 7200
        await live.publish("risk-alerts", alert("a3", severity="CRITICAL"))
        assert await looks(1) == 2
        assert await looks(298) == 2
        assert await looks(2) == 3


async def test_what_waited_before_a_restart_is_escalated_after_it(tmp_path: Path) -> None:
    journal, clock = f"sqlite:{tmp_path}/telecast.db", [1_800_000_000.0]
    async with served(DESK, journal=journal, now=lambda: clock[0]) as live:
        await live.publish("risk-alerts", alert(severity="CRITICAL"))
    clock[0] += 300
    async with served(DESK, journal=journal, now=lambda: clock[0]) as live:
        (alerts,) = live.parts.alerts
        await alerts.look()
        assert alerts.escalated == 1


async def test_zero_switches_escalation_off() -> None:
    clock = [1_800_000_000.0]
    async with served(DESK, now=lambda: clock[0], escalate_after=0.0) as live:
        await live.publish("risk-alerts", alert(severity="CRITICAL"))
        clock[0] += 1e6
        await live.parts.alerts[0].look()
        assert live.parts.alerts[0].escalated == 0
