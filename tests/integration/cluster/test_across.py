"""What is decided at one node holds at all: positions, bans, sessions, tickets, names, rights."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest

from telecast.consumers import Name
from telecast.errors import SettingsError
from telecast.journal.base import Batch, Note, read_book
from telecast.journal.jetstream import peers as peers_module
from telecast.model import Position
from telecast.web.nodes.presence import KeysCompared
from tests.support.payloads import alert, trader
from tests.support.service.live import Live, principal, served
from tests.support.service.nats import needs_nats, shared
from tests.support.service.nodes import hand_out, known, level, nodes, stream_name

pytestmark = needs_nats

A = "trader-status"


def consumer(live: Live, name: str) -> str | None:
    found = live.parts.consumers.get(Name(principal().key_id, name))
    return None if found is None else str(found.position)


async def test_a_position_acknowledged_at_one_node_is_where_another_goes_on(tmp_path: Path) -> None:
    async with nodes(tmp_path) as (first, second):
        async with first.ws(channels=A, clientId="bot") as ws:
            await ws.opening()
            await first.publish(A, trader(id="t1"), trader(id="t2"))
            await ws.events(2)
            answer = await ws.ask("ack", position=first.at(1), reqId=1)
            assert answer["type"] == "ack", answer
        await level(first, second)
        assert consumer(second, "bot") == first.at(1)
        async with second.ws(channels=A, clientId="bot", since="acked") as ws:
            begun = await ws.opening()
            assert [each.type for each in begun][-3:] == ["resume", "event", "live"]
            assert begun[-2].body["seq"] == 2


async def test_a_lower_position_of_another_node_never_stays(tmp_path: Path) -> None:
    async with nodes(tmp_path) as (first, second):
        await first.publish(A, *(trader(id=f"t{number}") for number in range(5)))
        name = Name(principal().key_id, "bot")
        for seq in (4, 2):  # the second one as of a node that has not seen the first yet
            at = Position(first.epoch, seq)
            value = b'{"position":"%s","at":1,"channels":[]}' % str(at).encode()
            await second.parts.journal.append(Batch(notes=(Note("consumer", str(name), value),)))
        await level(first, second)
        assert consumer(first, "bot") == consumer(second, "bot") == first.at(4)

        async def kept() -> bytes:
            return (await read_book(first.parts.journal, "consumer"))[str(name)]

        async with asyncio.timeout(20):
            while first.at(4).encode() not in await kept():  # noqa: ASYNC110
                await asyncio.sleep(0)


async def test_an_acknowledgement_by_rest_finds_the_stream_at_another_node(tmp_path: Path) -> None:
    async with nodes(tmp_path) as (first, second):
        await known(first, second)
        async with first.sse(channels=A, clientId="bot") as sse:
            await sse.opening()
            await first.publish(A, trader())
            await sse.events(1)
            body = {"clientId": "bot", "position": first.at(1)}
            status, answer, _ = await second.ask("POST", "/api/v1/clients/ack", json=body)
            assert status == 200, answer
            ahead = {"clientId": "bot", "position": first.at(9)}
            status, answer, _ = await second.ask("POST", "/api/v1/clients/ack", json=ahead)
            assert (status, answer["error"]["code"]) == (409, "ACK_AHEAD")


async def test_all_nodes_list_the_same_audit_with_ids_of_their_own(tmp_path: Path) -> None:
    async with nodes(tmp_path, holders=[principal()]) as (first, second):
        await first.publish("risk-alerts", alert(id="a1"), alert(id="a2"))
        await level(first, second)
        for live, name in ((first, "a1"), (second, "a2")):
            status, answer, _ = await live.ask("POST", f"/api/v1/risk-alerts/{name}/acknowledge")
            assert status == 200, answer
        await level(first, second)
        listed = [(await live.get("/api/v1/audit"))["entries"] for live in (first, second)]
        assert listed[0] == listed[1]
        assert {each["target"] for each in listed[0]} == {"a1", "a2"}
        assert len({each["id"] for each in listed[0]}) == 2


async def test_two_desks_at_two_nodes_acknowledge_one_alert_and_one_is_first(
    tmp_path: Path,
) -> None:
    desks = [principal("desk"), principal("night")]
    async with nodes(tmp_path, holders=desks) as (first, second):
        await first.publish("risk-alerts", alert(id="a1"))
        await level(first, second)
        path = "/api/v1/risk-alerts/a1/acknowledge"
        answers = await asyncio.gather(
            first.ask("POST", path, who="desk"), second.ask("POST", path, who="night")
        )
        assert sorted(status for status, _, _ in answers) == [200, 409]
        await level(first, second)
        rows = [
            (await live.get("/api/v1/channels/risk-alerts/snapshot"))["rows"]
            for live in (first, second)
        ]
        assert rows[0] == rows[1]


async def test_an_alert_escalates_once(tmp_path: Path) -> None:
    async with nodes(tmp_path, escalate_after=0.001) as (first, second):
        await first.publish("risk-alerts", alert(id="a1", severity="CRITICAL"))
        await level(first, second)
        await asyncio.gather(*(live.parts.alerts[0].look() for live in (first, second)))
        await level(first, second)
        entries = [
            each
            for each in (await second.get("/api/v1/audit"))["entries"]
            if each["action"] == "escalate-alert"
        ]
        assert len(entries) == 1


async def test_a_channel_that_goes_quiet_is_reported_once(tmp_path: Path) -> None:
    async with nodes(tmp_path) as (first, second):
        await asyncio.gather(
            *(
                live.parts.system.report(
                    "channel:x", "DEGRADED", f"Nothing comes in, {live.url}.", once=True
                )
                for live in (first, second)
            )
        )
        await level(first, second)
        entries = (await first.parts.journal.read(["system"], 0, 100)).entries
        assert len([entry for entry in entries if entry.key == "channel:x"]) == 1


async def test_a_publisher_that_is_alive_is_so_at_every_node(tmp_path: Path) -> None:
    async with nodes(tmp_path) as (first, second):
        await known(first, second)
        status, _, _ = await first.ask("POST", "/api/v1/channels/market-data/alive")
        assert status == 200
        await second.until(lambda: second.parts.staleness.last_sign("market-data"))


# --- who is connected


async def test_the_clients_of_all_nodes_are_listed_and_paged(tmp_path: Path) -> None:
    async with nodes(tmp_path, 3) as lives:
        await known(*lives)
        async with (
            lives[0].ws(clientId="a"),
            lives[1].sse(channels=A, clientId="b"),
            lives[2].ws(clientId="c"),
        ):
            for live in lives:
                await live.until(lambda live=live: len(live.parts.clients) == 1)
            found, cursor = [], None
            while True:
                query = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
                page = await lives[1].get("/api/v1/clients", query=query)
                found += page["clients"]
                assert page["missing"] == {}
                if not page["more"]:
                    break
                cursor = page["cursor"]
        assert sorted(each["clientId"] for each in found) == ["a", "b", "c"]
        assert {each["node"] for each in found} == {live.parts.journal.peers.node for live in lives}


async def test_a_kick_reaches_the_node_that_has_the_client_and_a_ban_all(tmp_path: Path) -> None:
    async with nodes(tmp_path) as (first, second):
        await known(first, second)
        async with first.ws(clientId="bot") as ws:
            welcome = (await ws.read()).body
            assert welcome["node"] == first.parts.journal.peers.node
            path = f"/api/v1/clients/{welcome['connectionId']}"
            assert (await second.get(path))["clientId"] == "bot"
            status, answer, _ = await second.ask("DELETE", path, query={"ban": "10m"})
            assert (status, answer["data"]["kicked"]) == (200, 1)
            assert (await ws.rest())[1] == 4410
        await level(first, second)
        for live in (first, second):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with live.ws(clientId="bot"):
                    pass
            assert refused.value.status == 403
        status, answer, _ = await first.ask("DELETE", path)
        assert (status, answer["error"]["code"]) == (404, "CLIENT_NOT_FOUND")


async def test_a_ban_outlives_the_node(tmp_path: Path) -> None:
    name = stream_name()
    async with nodes(tmp_path, 1, name=name) as (live,), live.ws(clientId="bot"):
        status, _, _ = await live.ask(
            "DELETE", "/api/v1/clients", query={"clientId": "bot", "ban": "10m"}
        )
        assert status == 200
    async with nodes(tmp_path, 1, name=name) as (live,):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with live.ws(clientId="bot"):
                pass
        assert refused.value.status == 403


async def test_a_ban_holds_where_the_clock_is_wrong_and_is_not_erased_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nodes(tmp_path) as (first, second):
        ahead = time.time() + 3 * 86_400
        monkeypatch.setattr(second.parts.journal, "_now", lambda: ahead)
        monkeypatch.setattr(second.parts.journal, "now", lambda: ahead)
        for live, name in ((first, "bot"), (second, "other")):
            async with live.ws(clientId=name):
                query = {"clientId": name, "ban": "10m"}
                status, _, _ = await live.ask("DELETE", "/api/v1/clients", query=query)
                assert status == 200
            await level(first, second)
        for live in (first, second):
            for name in ("bot", "other"):
                with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                    async with live.ws(clientId=name):
                        pass
        assert len(await read_book(first.parts.journal, "ban")) == 2


async def test_a_ban_of_a_key_with_a_client_id_holds_at_a_node_that_did_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "ASK_SECONDS", 0.2)
    async with nodes(tmp_path) as (first, second):
        await known(first, second)

        async def hangs(_: object) -> None:
            await asyncio.Event().wait()

        second.parts.journal.peers.on("kick", hangs)
        async with second.ws(clientId="bot") as ws:
            await ws.expect("welcome")
            query = {"principal": principal().name, "clientId": "bot", "ban": "10m"}
            _, answer, _ = await first.ask("DELETE", "/api/v1/clients", query=query)
        assert list(answer["data"]["missing"]) == [str(second.parts.journal.peers.node)]
        assert (answer["data"]["kicked"], answer["data"]["bannedUntil"] is None) == (0, False)
        await level(first, second)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with second.ws(clientId="bot"):
                pass
        assert refused.value.status == 403


async def test_a_newer_connection_of_a_name_takes_the_place_of_one_at_another_node(
    tmp_path: Path,
) -> None:
    async with nodes(tmp_path) as (first, second), first.ws(clientId="bot") as older:
        await older.expect("welcome")
        await level(first, second)
        async with second.ws(clientId="bot") as newer:
            await newer.expect("welcome")
            messages, _ = await older.rest()
            assert messages[-1].body["code"] == "REPLACED"
            await level(first, second)
            assert (await newer.ask("subscribe", channels=[A]))["type"] == "ack"


async def test_of_two_that_come_at_once_just_one_stays(tmp_path: Path) -> None:
    async with (
        nodes(tmp_path) as (first, second),
        first.ws(clientId="bot"),
        second.ws(clientId="bot"),
    ):
        await first.until(lambda: len(first.parts.clients) + len(second.parts.clients) == 1)
        await level(first, second)
        assert len(first.parts.clients) + len(second.parts.clients) == 1


async def test_a_node_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "ASK_SECONDS", 0.2)
    async with nodes(tmp_path) as (first, second):
        await known(first, second)

        async def hangs(_: object) -> None:
            await asyncio.Event().wait()

        for kind in ("clients", "kick"):
            second.parts.journal.peers.on(kind, hangs)
        name = str(second.parts.journal.peers.node)
        listed = await first.get("/api/v1/clients")
        assert listed["missing"] == {name: "It did not answer within 0.2 s."}
        command = ("telecast", "clients", "--url", first.url, "--key", first.secrets["desk"])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command), stderr=asyncio.subprocess.PIPE
        )
        assert f"# without node {name}: " in (await process.communicate())[1].decode()
        query = {"clientId": "bot", "dryRun": "true"}
        _, answer, _ = await first.ask("DELETE", "/api/v1/clients", query=query)
        assert list(answer["data"]["missing"]) == [name]


async def test_a_client_that_may_be_at_a_node_that_does_not_answer_is_not_said_to_be_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "ASK_SECONDS", 0.2)
    async with nodes(tmp_path, 3) as (first, second, third):
        await known(first, second, third)

        async def hangs(_: object) -> None:
            await asyncio.Event().wait()

        answers = third.parts.journal.peers
        answer = answers._handlers["client"]  # type: ignore[attr-defined]
        answers.on("client", hangs)
        async with second.ws(clientId="there") as there, third.ws(clientId="bot") as ws:
            await there.expect("welcome")
            wanted = (await ws.expect("welcome")).body["connectionId"]
            for method in ("GET", "DELETE"):
                status, said, answered = await first.ask(method, f"/api/v1/clients/{wanted}")
                error = said["error"]
                assert (status, error["code"]) == (503, "NODE_SILENT")
                assert list(error["details"]["missing"]) == [str(answers.node)]
                assert f"{answers.node} (It did not answer within 0.2 s.)" in error["message"]
                assert int(answered.headers["Retry-After"]) >= 2
            answers.on("client", answer)
            status, said, _ = await first.ask("GET", f"/api/v1/clients/{wanted}")
            assert (status, said["data"]["node"]) == (200, str(answers.node))
            status, said, _ = await first.ask("GET", "/api/v1/clients/c-nowhere")
            assert (status, said["error"]["code"]) == (404, "CLIENT_NOT_FOUND")


async def test_what_the_service_writes_into_an_alert_is_the_logs_time_at_every_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`activeSince`, `lastSeenAt`, `acknowledgedAt`, `escalatedAt`, and the audit."""
    async with nodes(tmp_path, escalate_after=1.0) as (first, second):
        ahead = time.time() + 3 * 86_400
        monkeypatch.setattr(second.parts.journal, "_now", lambda: ahead)
        await second.publish("risk-alerts", alert("a1", severity="CRITICAL"))
        (alerts,) = second.parts.alerts
        await second.until(lambda: alerts.row("a1") is not None)
        alerts.escalate_after(0.000_001)
        await alerts.look()
        assert alerts.escalated == 1
        await level(first, second)
        for live in (first, second):
            row = live.parts.alerts[0].row("a1")
            assert row is not None
            event = live.parts.tape.row("risk-alerts", "a1")
            assert event is not None
            for name in ("activeSince", "escalatedAt"):
                moment = datetime.fromisoformat(row[name]).timestamp()
                assert abs(moment - event.timestamp / 1000) < 60
            (entry, *_) = live.parts.audit.before(None)
            assert entry.action == "escalate-alert"
            assert abs(datetime.fromisoformat(entry.at).timestamp() - moment) < 60


async def test_a_question_too_many_is_refused_counted_and_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peers_module, "MOST_QUESTIONS", 2)
    async with nodes(tmp_path) as (first, second):
        await known(first, second)
        asker, asked = first.parts.journal.peers, second.parts.journal.peers
        under_way: list[object] = []
        over = asyncio.Event()

        async def hangs(body: object) -> object:
            under_way.append(body)
            await over.wait()
            return body

        asked.on("slow", hangs)
        slow = [asyncio.create_task(asker.ask("slow", number)) for number in range(2)]
        await second.until(lambda: len(under_way) == 2)
        (answer,) = await asker.ask("slow", 2)
        assert (answer.body, answer.why) == (None, "It is asked too much at once.")
        asker.say("alive", A)
        await second.until(lambda: asked.refused == 2)
        over.set()
        assert [[each.body for each in await task] for task in slow] == [[0], [1]]
        assert len(under_way) == 2
        assert [answer.body for answer in await asker.ask("slow", 3)] == [3]
        async with second.session.get(
            f"{second.url}/metrics", headers=second.headers("desk")
        ) as metrics:
            assert "telecast_node_questions_refused_total 2" in await metrics.text()
    (said,) = [each for each in caplog.records if "are refused" in each.message]
    assert said.__dict__["kind"] == "slow"


async def test_a_key_that_another_node_does_not_know_sees_nothing_there(tmp_path: Path) -> None:
    async with nodes(tmp_path, holders=[principal(), principal("ops", "admin")]) as lives:
        first, second = lives
        await known(first, second)
        hand_out(second, principal())
        listed = await first.get("/api/v1/clients", who="ops")
        assert "not known there" in listed["missing"][str(second.parts.journal.peers.node)]


async def test_a_node_that_goes_is_not_waited_for(tmp_path: Path) -> None:
    name = stream_name()
    async with nodes(tmp_path, 1, name=name) as (stays,):
        (tmp_path / "other").mkdir()
        async with nodes(tmp_path / "other", 1, name=name) as (goes,):
            await known(stays, goes)
        await stays.until(lambda: not stays.parts.journal.peers.others())
        assert len((await stays.get("/api/v1/nodes"))["nodes"]) == 1


async def test_keys_files_that_differ_are_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with nodes(tmp_path, holders=[principal(), principal("bot", "read")]) as (first, second):
        await known(first, second)
        compared = KeysCompared()
        compared.look(first.parts)
        hand_out(first, principal())
        for _ in range(3):
            compared.look(first.parts)
        assert caplog.text.count("another node has other keys") == 1
        assert not (await first.get("/api/v1/nodes"))["sameKeys"]


# --- sessions and tickets


async def test_a_session_signed_out_at_one_node_is_out_at_all(tmp_path: Path) -> None:
    async with nodes(tmp_path) as (first, second):
        status, _, response = await first.ask("POST", "/api/v1/session", json={})
        cookie = {"Cookie": response.headers["Set-Cookie"].partition(";")[0]}
        assert status == 201
        async with second.sse(channels=A, who=None, headers=cookie) as sse:
            await sse.opening()
            status, _, _ = await first.ask("DELETE", "/api/v1/session", who=None, headers=cookie)
            assert status == 200
            messages, _ = await sse.rest()
            assert messages[-1].body["code"] == "SESSION_OVER"
        said = await second.get("/api/v1/session", who=None, headers=cookie)
        assert said["why"]["code"] == "SESSION_OVER"


async def test_a_ticket_opens_one_stream_at_one_node(tmp_path: Path) -> None:
    async with nodes(tmp_path) as (first, second):
        _, answer, _ = await first.ask("POST", "/api/v1/tickets")
        ticket = answer["data"]["ticket"]

        async def opened(live: Live) -> int:
            try:
                async with live.ws(who=None, channels=A, ticket=ticket):
                    return 101
            except aiohttp.WSServerHandshakeError as refused:
                return refused.status

        found = await asyncio.gather(opened(first), opened(second))
        assert sorted(found) == [101, 401]
        assert [await opened(first), await opened(second)] == [401, 401]


# --- the secret, and what nodes say


async def test_a_node_with_another_secret_does_not_start(tmp_path: Path) -> None:
    name = stream_name()
    url = f"{shared().url}/{name}"
    other = {"journal": url, "journal_copy": tmp_path / "other.db", "secret": b"x" * 32}
    async with nodes(tmp_path, 1, name=name):
        with pytest.raises(SettingsError, match="Copy their secret_file"):
            async with served(principal(), **other):
                pass


async def test_a_narrowed_admin_is_not_shown_how_many_streams_others_have(tmp_path: Path) -> None:
    few = principal("few", "read", "admin", forced={"traderId": frozenset({"t1"})})
    async with nodes(tmp_path, holders=[principal(), few]) as (first, second):
        await known(first, second)
        for who, shown in (("few", {None}), ("desk", {0})):
            status, answer, _ = await first.ask("GET", "/api/v1/nodes", who=who)
            assert status == 200
            assert {each["connections"] for each in answer["data"]["nodes"]} == shown


async def test_nodes_say_which_they_are_and_how_far(tmp_path: Path) -> None:
    async with nodes(tmp_path) as (first, second):
        await known(first, second)
        await first.publish(A, trader())
        await level(first, second)
        found = await second.get("/api/v1/nodes")
        assert found["shared"]
        assert found["sameKeys"]
        assert [each["node"] for each in found["nodes"]] == sorted(
            str(live.parts.journal.peers.node) for live in (first, second)
        )
        assert all(each["ready"] and each["logBehind"] == 0 for each in found["nodes"])
        async with second.session.get(second.url + "/readyz?verbose") as response:
            text = await response.text()
        assert f"node {second.parts.journal.peers.node}; others: " in text
        assert "log sequence" in text
