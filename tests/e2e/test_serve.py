"""`telecast serve` as an operator meets it: a process, its settings, its last words, its end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from telecast.keys import create_key
from tests.support.payloads import position, price
from tests.support.service.certificate import OPENSSL, certify, encrypted
from tests.support.service.live import Ended, SseReader, WsReader, types
from tests.support.service.process import HOST, PATIENCE, Service, service

STREAM = aiohttp.ClientTimeout(total=None)


async def run(folder: Path, *flags: str, **environment: str) -> tuple[int, str]:
    """Exit status and stderr of `telecast serve` that does not start."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TELECAST_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telecast", "serve", *flags),
        cwd=folder,
        env=clean | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert out == b""
    assert process.returncode is not None
    text = err.decode()
    assert "Traceback" not in text, text
    return process.returncode, text


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    create_key(tmp_path / "keys.toml", "desk", ["read", "publish"])
    return tmp_path / "keys.toml"


# --- it does not start


@pytest.mark.skipif(OPENSSL is None, reason="openssl makes the key")
async def test_an_encrypted_tls_key_is_refused_and_nobody_is_asked_for_its_pass_phrase(
    tmp_path: Path, keys: Path
) -> None:
    made = certify(tmp_path)
    tls = ("--tls-cert", str(made.cert), "--tls-key", str(encrypted(made)))
    status, text = await run(tmp_path, "--port", "0", *tls)
    assert status == 1
    assert "locked.key is encrypted" in text
    assert "pass phrase:" not in text


async def test_without_keys_it_does_not_start_and_says_what_to_run(tmp_path: Path) -> None:
    status, text = await run(tmp_path, "--port", "0")
    assert status == 1
    assert "There is no keys file keys.toml" in text
    assert "telecast keys new NAME --scope read" in text
    _write(tmp_path / "keys.toml", b"")
    status, text = await run(tmp_path, "--port", "0")
    assert status == 1
    assert "telecast keys new NAME" in text
    assert not [name for name in os.listdir(tmp_path) if name.startswith("telecast.db")]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
async def test_off_loopback_it_wants_tls_or_a_proxy(host: str, tmp_path: Path, keys: Path) -> None:
    status, text = await run(tmp_path, "--host", host, "--port", "0")
    assert status == 1
    for way in ("tls_cert", "tls_key", "behind_proxy", "127.0.0.1"):
        assert way in text


async def test_all_wrong_settings_are_listed_at_once_with_their_source(
    tmp_path: Path, keys: Path
) -> None:
    _write(tmp_path / "telecast.toml", b"max_channels = '7.9'\nmax_chanels = 3\n")
    status, text = await run(
        tmp_path,
        *("--port", "99999", "--log-level", "loud", "--config", "telecast.toml"),
        TELECAST_MAX_CONNECTIONS="1_000",
        TELECAST_JOURNAL="postgres:",
    )
    assert status == 1
    lines = [line for line in text.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 6, text
    for line, source in zip(
        sorted(lines),
        ("TELECAST_JOURNAL", "--log-level", "telecast.toml", "TELECAST_MAX_CONN", "--port", "max_"),
        strict=False,
    ):
        assert source in text, line
    assert "max_channels" in text.split("is no setting")[-1], "the nearest name is shown"


async def test_a_port_that_is_taken_is_reported_in_one_line(tmp_path: Path, keys: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        status, text = await run(tmp_path, "--port", str(port), "--journal", "memory:")
    assert status == 1
    assert text.splitlines()[-1] == (
        f"Error: Something listens on {HOST}:{port} already: stop it, or choose another --port."
    )


@pytest.mark.parametrize(
    "content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 4096]
)
async def test_a_corrupt_journal_is_reported_and_left_untouched(
    content: bytes, tmp_path: Path, keys: Path
) -> None:
    journal = tmp_path / "journal.db"
    _write(journal, content)
    status, text = await run(tmp_path, "--port", "0", "--journal", f"sqlite:{journal}")
    assert status == 1
    assert str(journal) in text
    assert "try again later" not in text, "it will be as broken then"
    assert hashlib.sha256(_bytes(journal)).digest() == hashlib.sha256(content).digest()


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


async def test_a_second_process_on_the_same_journal_is_refused(tmp_path: Path) -> None:
    async with service(tmp_path) as own:
        status, text = await run(
            tmp_path,
            *("--port", "0", "--keys", "keys.toml", "--journal", f"sqlite:{own.database}"),
        )
        assert status == 1
        assert f"is in use by process {own.pid}" in text


# --- it goes down


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session:
        yield session


@asynccontextmanager
async def streams(
    own: Service, session: aiohttp.ClientSession
) -> AsyncIterator[tuple[WsReader, SseReader]]:
    query = {"channels": "market-data", "delivery": "all"}
    async with (
        session.ws_connect(
            f"{own.url}/ws/telemetry", headers=own.headers, params=query, max_msg_size=0
        ) as socket_,
        session.get(
            f"{own.url}/sse/telemetry", headers=own.headers, params=query, timeout=STREAM
        ) as response,
    ):
        readers = WsReader(socket_), SseReader(response.content.readline)
        for reader in readers:
            await reader.opening()
        yield readers


async def put(own: Service, session: aiohttp.ClientSession, *rows: Any) -> dict[str, Any]:
    async with session.post(
        f"{own.url}/api/v1/channels/market-data/events", headers=own.headers, json=list(rows)
    ) as response:
        assert response.status == 201, await response.text()
        data: dict[str, Any] = (await response.json())["data"]
        return data


async def test_sigterm_notifies_everyone_and_loses_nothing_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    acknowledged: list[str] = []
    async with service(tmp_path, drain_seconds=0.5) as own, client() as session:

        async def publish() -> None:
            with contextlib.suppress(aiohttp.ClientError, AssertionError):
                while True:
                    for n in range(1_000_000):
                        receipt = await put(own, session, price(price=str(n)))
                        acknowledged.append(receipt["position"])

        async with streams(own, session) as (ws, sse):
            publishers = [asyncio.create_task(publish()) for _ in range(4)]
            await ws.events(20)
            os.kill(own.pid, signal.SIGTERM)
            reported = await ws.until("notice")
            assert types(reported[:-1]) == ["event"] * (len(reported) - 1)
            assert reported[-1].body["code"] == "SHUTTING_DOWN"
            assert reported[-1].body["retryAfterMs"] >= 500
            with pytest.raises(Ended) as end:
                await ws.read()
            assert end.value.code == 1001
            notice = (await sse.until("notice"))[-1].body
            assert sse.retry[1:] == [notice["retryAfterMs"]]
            with pytest.raises(Ended):
                await sse.read()
            await asyncio.wait(publishers)
        assert await own.gone() == 0
        for line in map(orjson.loads, own.complaints()):
            assert (line["event"], line["code"]) == ("refused", "SHUTTING_DOWN")
        own.log.clear()
        heard = [each.json for each in ws.log if each.type == "event"]
        # What was acknowledged was sent to the stream that lived on until then.
        also = [each.json for each in sse.log if each.type == "event"]
        assert also[: len(heard)] == heard
        before = acknowledged[-1].split(":")[0]
        await own.start()
        kept = await _history(own, session)
        assert {f"{before}:{event['seq']}" for event in kept} >= set(acknowledged)
        again = await put(own, session, price())
        epoch, seq = again["position"].split(":")
        assert epoch == before, "a restart of the same journal is the same life"
        assert int(seq) > max(event["seq"] for event in kept)


async def _history(own: Service, session: aiohttp.ClientSession) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query = {"limit": "5000"}
    while True:
        async with session.get(
            f"{own.url}/api/v1/channels/market-data/events", headers=own.headers, params=query
        ) as response:
            page = (await response.json())["data"]
        found += page["events"]
        if not page["more"]:
            return found
        query["after"] = page["position"]


async def test_after_a_restart_a_resume_goes_on_where_it_was(tmp_path: Path) -> None:
    async with service(tmp_path) as own, client() as session:
        first = await put(own, session, price(price="1"), price(price="2"))
        await own.stop()
        await own.start()
        await put(own, session, price(price="3"))
        async with session.get(
            f"{own.url}/sse/telemetry",
            headers=own.headers | {"Last-Event-ID": first["position"]},
            params={"channels": "market-data"},
            timeout=STREAM,
        ) as response:
            reader = SseReader(response.content.readline)
            reported = await reader.opening()
            assert types(reported) == ["ack", "resume", "event", "live"]
            assert reported[2].row["price"] == "3"


# --- what it says


async def test_log_lines_are_json_when_piped_and_carry_the_ids(tmp_path: Path) -> None:
    async with service(tmp_path, log_format="auto") as own, client() as session:
        headers = own.headers | {"X-Correlation-ID": "mine-1"}
        async with session.get(f"{own.url}/api/v1/channels", headers=headers) as response:
            assert response.status == 200
        async with streams(own, session) as (ws, sse):
            ids = {reader.log[0].body["connectionId"] for reader in (ws, sse)}
        await own.stop()
        lines = [orjson.loads(line) for line in own.log]
        assert all({"ts", "level", "logger", "event"} <= set(line) for line in lines)
        assert [line["event"] for line in lines if line["logger"] == "telecast.cli.run.serve"]
        (asked,) = (line for line in lines if line.get("correlation_id") == "mine-1")
        assert (asked["path"], asked["status"]) == ("/api/v1/channels", 200)
        assert {line["connection_id"] for line in lines if "connection_id" in line} == ids
        assert own.key.encode() not in b"".join(own.log)
        await own.start()


async def test_a_sigint_is_as_good_as_a_sigterm(tmp_path: Path) -> None:
    async with service(tmp_path, journal="memory:") as own, client() as session:
        async with session.post(
            f"{own.url}/api/v1/channels/positions/events", headers=own.headers, json=position()
        ) as response:
            assert response.status == 201
        os.kill(own.pid, signal.SIGINT)
        assert await own.gone() == 0
        await own.start()


async def test_a_log_reader_that_has_stopped_holds_up_neither_requests_nor_the_end(
    tmp_path: Path, keys: Path
) -> None:
    """Regression: the loop itself wrote to the pipe, and stood still once it was full."""
    reads, writes = os.pipe()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TELECAST_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telecast", "serve", "--port", "0", "--drain-seconds", "0"),
        cwd=tmp_path,
        env=clean,
        stderr=writes,
    )
    os.close(writes)
    try:
        log = b""
        while b'"event":"serving"' not in log:
            log += await asyncio.to_thread(os.read, reads, 65536)
        url = next(
            line["url"]
            for line in map(orjson.loads, log.splitlines())
            if line["event"] == "serving"
        )
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            for _ in range(1_000):  # some 250 bytes a line: four times what a pipe takes
                async with session.get(url + "/api/v1/session") as response:
                    assert response.status == 200
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        os.close(reads)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_sighup_reads_the_settings_again_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "telecast.toml").write_text("max_channels = 2\n")
    async with service(tmp_path, config=tmp_path / "telecast.toml") as own:
        (tmp_path / "telecast.toml").write_text("max_channels = 3\nport = 1\n")
        os.kill(own.pid, signal.SIGHUP)
        async with asyncio.timeout(PATIENCE):
            while not (said := _reloaded(own)):  # noqa: ASYNC110 - a log knows no event
                await asyncio.sleep(0)
        assert (said["changed"], said["need_a_restart"]) == (["max_channels"], [])
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(own.url + "/ws/telemetry", headers=own.headers) as socket,
        ):
            welcome = await WsReader(socket).expect("welcome")
            assert welcome.body["limits"]["maxChannels"] == 3


def _reloaded(own: Service) -> dict[str, Any]:
    found = (orjson.loads(line) for line in own.log)
    return next((line for line in found if line["event"] == "settings read again"), {})
