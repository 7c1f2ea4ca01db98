"""Who may do what, from which page, and for how long."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

import telecast.tasks
from telecast.config.kinds import Origins
from telecast.errors import SettingsError
from telecast.keys import KeyStore, create_key, revoke_key
from telecast.logs import configure
from tests.support.payloads import alert, position, price, trader
from tests.support.service.live import Ended, Live, principal, served, types

TRANSPORTS = pytest.mark.parametrize("transport", ["ws", "sse"])
READS = (
    "/ws/telemetry?channels=positions",
    "/sse/telemetry?channels=positions",
    "/api/v1/channels",
    "/api/v1/channels/positions",
    "/api/v1/channels/positions/snapshot",
    "/api/v1/channels/positions/events",
)


async def refusal(live: Live, path: str, *, method: str = "GET", **options: Any) -> dict[str, Any]:
    status, body, response = await live.ask(method, path, **options)
    return body["error"] | {"status": status, "headers": response.headers}


# --- no key, a wrong one, one that is over


@pytest.mark.parametrize("path", [*READS, "/metrics"])
async def test_without_a_key_nothing_is_answered(path: str) -> None:
    async with served() as live:
        error = await refusal(live, path, who=None)
        assert (error["status"], error["code"]) == (401, "UNAUTHENTICATED")
        assert error["headers"]["WWW-Authenticate"].startswith("Bearer")
        assert "X-API-Key" in error["advice"]


@pytest.mark.parametrize("path", READS)
async def test_a_wrong_key_is_refused(path: str) -> None:
    async with served() as live:
        right = live.secrets["desk"]
        wrong = right[:-1] + ("0" if right[-1] != "0" else "1")
        for key in (wrong, right.upper(), "", "tc_", f"{right}0", "x" * 5_000, "é"):
            headers = {"X-API-Key": key}
            error = await refusal(live, path, who=None, headers=headers)
            assert (error["status"], error["code"]) == (401, "UNAUTHENTICATED"), key
            assert key[:20] not in error["message"] or not key


async def test_a_key_is_taken_from_either_header() -> None:
    async with served() as live:
        key = live.secrets["desk"]
        for headers in (
            {"X-API-Key": key},
            {"Authorization": f"Bearer {key}"},
            {"Authorization": f"bearer  {key}"},
        ):
            assert (await live.ask("GET", READS[2], who=None, headers=headers))[0] == 200
            for transport in ("ws", "sse"):
                async with live.transport(
                    transport, channels="positions", who=None, headers=headers
                ) as it:
                    await it.opening()
        for headers in ({"Authorization": f"Basic {key}"}, {"Authorization": key}):
            assert (await live.ask("GET", READS[2], who=None, headers=headers))[0] == 401


@pytest.mark.parametrize("path", READS)
async def test_an_expired_key_is_refused_and_called_so(path: str) -> None:
    async with served(principal("late", expires_at=time.time() - 1)) as live:
        error = await refusal(live, path, who="late")
        assert (error["status"], error["code"]) == (401, "KEY_EXPIRED")


# --- scopes and channels


async def test_each_call_needs_its_scope() -> None:
    async with served(principal("reads", "read"), principal("writes", "publish")) as live:
        for path in (*READS, "/metrics"):
            error = await refusal(live, path, who="writes")
            assert (error["status"], error["code"]) == (403, "FORBIDDEN")
        error = await live.refused("positions", position(), who="reads")
        assert (error["status"], error["code"]) == (403, "FORBIDDEN")
        assert error["details"] == {"scope": "publish"}
        await live.publish("positions", position(), who="writes")
        row = "/api/v1/channels/positions/rows/p1"
        assert (await live.ask("DELETE", row, who="reads"))[0] == 403
        assert (await live.ask("DELETE", row, who="writes"))[0] == 201


async def test_a_key_reaches_only_the_channels_of_its_globs() -> None:
    async with served(principal(), principal("few", channels=("risk-*", "pos*"))) as live:
        names = [each["name"] for each in await live.get("/api/v1/channels", who="few")]
        assert names == ["positions", "risk-alerts"]
        for path in ("", "/snapshot", "/events"):
            error = await refusal(live, f"/api/v1/channels/market-data{path}", who="few")
            assert (error["status"], error["code"]) == (403, "FORBIDDEN")
        assert (await live.refused("market-data", price(), who="few"))["status"] == 403
        row = "/api/v1/channels/market-data/rows/BINANCE:BTCUSDT"
        await live.publish("market-data", price())
        assert (await live.ask("DELETE", row, who="few"))[0] == 403
        async with live.sse(who="few") as reader:
            await reader.expect("welcome")
            assert (await reader.expect("ack")).body["channels"] == ["positions", "risk-alerts"]
        for transport in ("ws", "sse"):
            async with live.transport(
                transport, who="few", channels="market-data,positions"
            ) as reader:
                await reader.expect("welcome")
                ack = (await reader.expect("ack")).body
                assert ack["channels"] == ["positions"]
                assert [(r["channel"], r["code"]) for r in ack["rejected"]] == [
                    ("market-data", "FORBIDDEN")
                ]
            error = await refusal(live, f"/{transport}/telemetry?channels=market-data", who="few")
            assert (error["status"], error["code"]) == (403, "FORBIDDEN")
        async with live.ws(who="few") as reader:
            await reader.expect("welcome")
            ask = {"channel": "market-data", "data": price()}
            assert (await reader.ask("publish", **ask))["code"] == "FORBIDDEN"


# --- a forced filter


FORCED = principal("t1-desk", forced={"traderId": frozenset({"t1"})})


@TRANSPORTS
async def test_a_forced_filter_is_anded_into_every_stream(transport: str) -> None:
    async with served(principal(), FORCED) as live:
        rows = (position("mine"), position("theirs", "t2"))
        alerts = (alert("everyone", None), alert("theirs", "t2"))
        await live.publish("positions", *rows)
        await live.publish("risk-alerts", *alerts)
        for asked in ({}, {"traderId": ["t1", "t2"]}, {"since": live.at(0)}):
            query = {"channels": "positions,risk-alerts", "who": "t1-desk"} | asked
            async with live.transport(transport, **query) as reader:
                await reader.opening()
                keys = [e.body["key"] for e in reader.log if e.type == "event"]
                assert keys == ["mine", "everyone"]
        async with live.transport(
            transport, channels="positions,risk-alerts", who="t1-desk", traderId="t2"
        ) as reader:
            await reader.opening()
            keys = [e.body["key"] for e in reader.log if e.type == "event"]
            assert keys == ["everyone"], "what was asked for AND what is forced: only null is left"
            await live.publish("positions", *rows)
            await live.publish("risk-alerts", alert("all", None))
            assert (await reader.expect("event")).body["key"] == "all"


async def test_a_forced_filter_is_anded_into_snapshots_and_history() -> None:
    async with served(principal(), FORCED) as live:
        await live.publish("positions", position("mine"), position("theirs", "t2"))
        await live.publish("trader-status", trader("t1"), trader("t2"))
        for query in ({}, {"traderId": "t1"}):
            for channel, key in (("positions", "mine"), ("trader-status", "t1")):
                path = f"/api/v1/channels/{channel}"
                page = await live.get(f"{path}/snapshot", who="t1-desk", query=query)
                assert [row["key"] for row in page["rows"]] == [key]
                page = await live.get(f"{path}/events", who="t1-desk", query=query)
                assert [event["key"] for event in page["events"]] == [key]
        path = "/api/v1/channels/positions/snapshot"
        assert (await live.get(path, who="t1-desk", query={"traderId": "t2"}))["rows"] == []


async def test_under_a_forced_filter_only_own_rows_are_written() -> None:
    async with served(principal(), FORCED) as live:
        await live.publish("positions", position("theirs", "t2"))
        await live.publish("risk-alerts", alert("everyone", None))
        head = live.parts.journal.head
        for channel, payload in (
            ("positions", position("new", "t2")),
            ("positions", [position("mine", "t1"), position("new", "t2")]),
            ("positions", position("theirs", "t1")),  # takes over another's row
            ("risk-alerts", alert("a", None)),
            ("risk-alerts", alert("everyone", "t1")),
            ("trader-status", trader("t2")),
        ):
            error = await live.refused(channel, payload, who="t1-desk")
            assert (error["status"], error["code"]) == (403, "FORBIDDEN"), payload
        for channel, key, refused in (
            ("positions", "theirs", (404, "ROW_NOT_FOUND")),
            ("risk-alerts", "everyone", (403, "FORBIDDEN")),
        ):
            path = f"/api/v1/channels/{channel}/rows/{key}"
            error = await refusal(live, path, method="DELETE", who="t1-desk")
            assert (error["status"], error["code"]) == refused
        for scope in ("symbol:BTCUSDT", "traderId:t2"):
            receipt = await live.publish("positions", who="t1-desk", query={"replace": scope})
            assert receipt["accepted"] == 0, "rows of others do not exist for it"
        async with live.ws(who="t1-desk") as reader:
            await reader.expect("welcome")
            for data in (position("x", "t2"), position("theirs", "t1")):
                reported = await reader.ask("publish", channel="positions", data=data)
                assert (reported["type"], reported["code"]) == ("error", "FORBIDDEN")
        assert live.parts.journal.head == head
        await live.publish("positions", position("mine"), who="t1-desk")
        await live.publish("positions", position("mine", quantity="2"), who="t1-desk")
        await live.publish("positions", who="t1-desk", query={"replace": "traderId:t1"})


# --- from which page


@TRANSPORTS
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://{host}", True),
        ("https://{host}", True),
        ("HTTP://{host}", True),
        ("https://desk.example:8443", True),
        ("https://desk.example", False),
        ("http://desk.example:8443", False),
        ("https://evil.example", False),
        ("https://{host}.evil.example", False),
        ("https://evil.example/{host}", False),
        ("http://evil.example@{host}", False),
        ("http://{host}/evil", False),
        ("https://default.example", True),
        ("tauri://localhost", True),
        ("app://desk", False),
        ("null", False),
        ("http://[", False),
        ("", False),
        ("file://", False),
    ],
)
async def test_a_page_connects_only_from_here_or_from_where_is_listed(
    transport: str, origin: str, allowed: bool
) -> None:
    listed = ("https://desk.example:8443", "https://default.example:443", "tauri://localhost")
    async with served(allowed_origins=Origins().deserialize(listed)) as live:
        origin = origin.replace("{host}", live.url.removeprefix("http://"))
        _, body, _ = await live.ask("POST", "/api/v1/tickets")
        query = {"channels": "positions", "headers": {"Origin": origin}, "who": None}
        query |= {"ticket": body["data"]["ticket"]}
        if allowed:
            async with live.transport(transport, **query) as reader:
                await reader.opening()
            return
        error = await refusal(
            live,
            f"/{transport}/telemetry?channels=positions&ticket={query['ticket']}",
            who=None,
            headers={"Origin": origin},
        )
        assert (error["status"], error["code"]) == (403, "FORBIDDEN_ORIGIN")


@TRANSPORTS
async def test_with_a_key_in_a_header_the_key_decides_and_not_the_origin(transport: str) -> None:
    """Libraries that are no browsers send an Origin too: behind a proxy it was a foreign one."""
    async with served() as live:
        foreign = {"Origin": "https://elsewhere.example"}
        async with live.transport(transport, channels="positions", headers=foreign) as reader:
            await reader.opening()
        error = await refusal(live, f"/{transport}/telemetry", who=None, headers=foreign)
        assert (error["status"], error["code"]) == (403, "FORBIDDEN_ORIGIN")
        bearer = {"Authorization": f"Bearer {live.secrets['desk']}", "X-API-Key": ""}
        async with live.transport(
            transport, who=None, channels="positions", headers=foreign | bearer
        ) as reader:
            await reader.opening()


@TRANSPORTS
@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("own.example:443", "https://own.example", 401),
        ("own.example:80", "http://own.example", 401),
        ("own.example", "https://own.example:443", 401),
        ("own.example:80", "https://own.example", 403),
        ("own.example:8443", "https://own.example", 403),
    ],
)
async def test_the_default_port_of_an_origin_counts_as_none(
    transport: str, host: str, origin: str, status: int
) -> None:
    """Some proxies pass Host on with the port: our own page was a foreign one."""
    async with served(behind_proxy=True) as live:
        error = await refusal(
            live, f"/{transport}/telemetry", who=None, headers={"Host": host, "Origin": origin}
        )
        assert error["status"] == status


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("198.51.100.7:50001", "198.51.100.7"),
        ("10.0.0.1, 198.51.100.7:50001", "198.51.100.7"),
        ("[2001:db8::7]:50001", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("unknown", "unknown"),
    ],
)
async def test_behind_a_proxy_an_address_is_without_its_port_and_in_every_log_line(
    forwarded: str, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the port each connection was an address of its own: limits counted nobody."""
    async with served(behind_proxy=True) as live:
        with caplog.at_level("INFO"):
            async with live.ws(headers={"X-Forwarded-For": forwarded}) as reader:
                await reader.expect("welcome")
                (client,) = live.parts.clients
                assert client.address == address
            await live.everybody_gone()
        lines: list[Any] = [
            each for each in caplog.records if each.message in ("request", "stream ended")
        ]
        assert {each.message for each in lines} == {"request", "stream ended"}
        assert {each.remote for each in lines} == {address}


# --- keys change while streams are open


@asynccontextmanager
async def keyed(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    now: Callable[[], float] = time.time,
    **rights: Any,
) -> AsyncIterator[Live]:
    """A service on a keys file that is looked at all the time. "bot" has the rights, "desk" all."""
    monkeypatch.setattr(telecast.tasks, "KEYS_SECONDS", 0.005)
    every = ("read", "publish", "metrics")
    secrets = {
        "desk": create_key(path, "desk", every),
        "bot": create_key(path, "bot", rights.pop("scopes", every), **rights),
    }
    keys = KeyStore(path, now=now)
    keys.load()
    async with served(keys=keys, secrets=secrets, now=now) as live:
        yield live


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """As an editor does: the new file takes the old one's place."""
    text = change(path.read_text("utf-8"))
    fresh = path.with_suffix(".new")
    fresh.write_text(text, "utf-8")
    fresh.replace(path)


def granting(line: str) -> Callable[[str], str]:
    """Adds a line to the entry of "bot", which is the last."""
    return lambda text: text.rstrip("\n") + f"\n{line}\n"


def _text(path: Path) -> str:
    return path.read_text("utf-8")


def _put(path: Path, text: str) -> None:
    """In place, as a careless tool writes."""
    path.write_text(text, "utf-8")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


async def test_a_key_that_is_removed_ends_its_streams_and_no_others(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        keyed(path, monkeypatch) as live,
        live.ws(who="bot", channels="positions") as ws,
        live.sse(who="bot", channels="positions") as sse,
        live.ws(channels="positions") as other,
    ):
        for reader in (ws, sse, other):
            await reader.opening()
        revoke_key(path, "bot")
        for reader in (ws, sse):
            notice = (await reader.expect("notice")).body
            assert (notice["code"], notice["retryable"]) == ("UNAUTHENTICATED", False)
            assert notice["retryAfterMs"] is None
        with pytest.raises(Ended) as end:
            await ws.read()
        assert end.value.code == 4401
        with pytest.raises(Ended):
            await sse.read()
        assert len(sse.retry) == 1, "nobody is asked to come back with a dead key"
        assert (await live.refused("positions", position(), who="bot"))["status"] == 401
        await live.publish("positions", position())
        await other.events()


async def test_a_key_that_expires_ends_its_streams(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime

    clock = [time.time()]
    expires = datetime.fromtimestamp(clock[0] + 60, UTC)
    async with (
        keyed(path, monkeypatch, now=lambda: clock[0], expires=expires) as live,
        live.ws(who="bot", channels="positions") as ws,
    ):
        await ws.opening()
        clock[0] += 61
        reported, code = await ws.rest()
        assert (types(reported), code) == (["notice"], 4401)


@TRANSPORTS
async def test_a_key_that_loses_a_channel_is_sent_no_more_of_it_and_is_notified(
    transport: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        keyed(path, monkeypatch) as live,
        live.transport(transport, who="bot", channels="positions,market-data") as reader,
    ):
        await reader.opening()
        rewrite(path, granting('channels = ["market-*"]'))
        ack = (await reader.expect("ack")).body
        assert (ack["action"], ack["reqId"]) == ("subscribe", None)
        assert ack["channels"] == ["market-data"]
        assert [(r["channel"], r["code"]) for r in ack["rejected"]] == [("positions", "FORBIDDEN")]
        await live.publish("positions", position())
        await live.publish("market-data", price())
        assert (await reader.expect("event")).body["channel"] == "market-data"


@TRANSPORTS
async def test_a_key_whose_filter_narrows_gets_a_fresh_snapshot(
    transport: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        keyed(path, monkeypatch) as live,
        live.transport(transport, who="bot", channels="positions,market-data") as reader,
    ):
        await reader.opening()
        await live.publish("positions", position("mine"), position("theirs", "t2"))
        await reader.events(2)
        rewrite(path, granting('filter = { traderId = ["t1"] }'))
        assert types(await reader.until("live")) == ["ack", "snapshot", "event", "live"]
        _, snapshot, row, _ = (each.body for each in reader.log[-4:])
        assert snapshot["channels"] == ["positions"], "what was not narrowed goes on"
        assert row["key"] == "mine"
        await live.publish("positions", position("theirs", "t2"), position("mine", quantity="2"))
        assert (await reader.expect("event")).body["key"] == "mine"


@TRANSPORTS
async def test_a_key_that_may_read_nothing_any_more_loses_its_streams(
    transport: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        keyed(path, monkeypatch, scopes=["read"]) as live,
        live.transport(transport, who="bot", channels="positions") as reader,
    ):
        await reader.opening()
        rewrite(path, lambda text: text.replace('scopes = ["read"]', 'scopes = ["metrics"]'))
        reported, code = await reader.rest()
        assert [each.body["code"] for each in reported] == ["FORBIDDEN"]
        assert code == (4403 if transport == "ws" else None)


async def test_a_connection_that_may_publish_no_more_can_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        keyed(path, monkeypatch, scopes=["publish", "read"]) as live,
        live.ws(who="bot") as it,
    ):
        await it.expect("welcome")
        ask = {"channel": "positions", "data": position()}
        assert (await it.ask("publish", **ask))["type"] == "ack"
        rewrite(path, lambda text: text.replace('["publish", "read"]', '["read"]'))
        key_id = live.secrets["bot"][3:11]
        await live.until(lambda: not live.parts.keys.current(key_id).may("publish"))  # type: ignore[union-attr]
        assert (await it.ask("publish", **ask))["code"] == "FORBIDDEN"


async def test_a_half_written_keys_file_leaves_the_last_good_keys_in_force(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        keyed(path, monkeypatch) as live,
        live.ws(who="bot", channels="positions") as reader,
    ):
        await reader.opening()
        whole = _text(path)
        _put(path, whole[:-30])
        await live.until(lambda: "stay in force" in caplog.text)
        await live.publish("positions", position(), who="bot")
        await reader.events()
        _put(path, whole.replace('"bot"', '"robot"'))
        key_id = live.secrets["bot"][3:11]
        await live.until(lambda: live.parts.keys.current(key_id).name == "robot")  # type: ignore[union-attr]
        await live.publish("positions", position("p2"), who="bot")
        await reader.events()


async def test_a_forced_filter_that_no_channel_declares_is_refused_and_not_ignored(
    path: Path,
) -> None:
    """A slip such as `traderid` would have forced nothing: its holder had seen everything."""
    create_key(path, "bot", ["read"])
    rewrite(path, granting('filter = { traderid = ["t1"] }'))
    with pytest.raises(SettingsError, match=r"traderid.*traderId"):
        KeyStore(path, now=time.time).load()
    with pytest.raises(SettingsError, match="traderid"):
        create_key(path.with_name("k2"), "x", ["read"], forced={"traderid": ["t1"]})


# --- no key in any log


async def test_no_key_is_ever_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    stream = io.StringIO()
    handler = configure("json", "debug", stream)
    try:
        async with served() as live:
            await _use_keys_in_every_wrong_way(live)
    finally:
        logging.getLogger().removeHandler(handler)
    secret = live.secrets["desk"]
    canaries = (secret, secret[-64:], "canary")
    assert "request" in caplog.text
    for canary in canaries:
        assert canary not in stream.getvalue()
    for record in (each for each in caplog.records if each.name.startswith("telecast")):
        assert not any(canary in record.getMessage() for canary in canaries)
    for line in stream.getvalue().splitlines():
        orjson.loads(line)


async def _use_keys_in_every_wrong_way(live: Live) -> None:
    key = live.secrets["desk"]
    for where in (f"/api/v1/channels?key={key}", f"/sse/telemetry?token={key}&api_key=canary"):
        await live.ask("GET", where)
    await live.ask("GET", f"/api/v1/nothing/{key}")
    await live.ask("GET", "/api/v1/channels", headers={"X-Correlation-ID": key})
    await live.ask("GET", "/api/v1/channels", headers={"Cookie": "session=canary"})
    await live.ask("GET", "/api/v1/channels", headers={"Authorization": "Bearer canary"}, who=None)
    await live.refused("positions", {key: key})
    await live.refused(key, position())
    for transport in ("ws", "sse"):
        async with live.transport(transport, channels="positions", clientId=key) as reader:
            await reader.opening()
    async with live.ws() as reader:
        await reader.expect("welcome")
        await reader.ask(key, **{key: key})
    host, port = live.url.removeprefix("http://").split(":")
    for head in (
        f"GET / HTTP/1.1\r\nX-API-Key {key}\r\n\r\n",
        f"GET /?ticket=canary&x=\x00 HTTP/1.1\r\nX-API-Key: {key}\r\nHost: x\r\nHost: y\r\n\r\n",
        f"GET / HTTP/{key}\r\n\r\n",
        f"GET / HTTP/1.1\r\nX-API-Key: {key}\r\nContent-Length: {key}\r\n\r\n",
        f"GET / HTTP/1.1\r\nX-API-Key: {key}\x00\r\n\r\n",
    ):
        stream, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode())
        writer.write_eof()
        answer = await stream.read(-1)
        assert b"500" not in answer[:16]
        writer.close()
        await writer.wait_closed()


async def test_a_refusal_quotes_no_key(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as live:
        secret = live.secrets["desk"]
        bad: Sequence[dict[str, str]] = (
            {"X-API-Key": secret[:-2]},
            {"Authorization": f"Basic {secret}"},
            {"Authorization": f"Bearer {secret}x"},
        )
        for headers in bad:
            async with live.session.get(f"{live.url}/api/v1/channels", headers=headers) as response:
                assert response.status == 401
                assert secret[-32:-2] not in await response.text()
                assert secret[-32:-2] not in str(response.headers)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await live.session.ws_connect(f"{live.url}/ws/telemetry", headers=bad[0])
        assert refused.value.status == 401
