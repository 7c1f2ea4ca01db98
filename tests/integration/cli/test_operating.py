"""The operator's commands against a real service: what they show, and what they do."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shlex
import struct
import sys
import termios
from pathlib import Path

import orjson
import pytest

from tests.support.payloads import alert, position, price
from tests.support.service.live import PATIENCE, Live, principal, served

READER = principal("reader", "read")


async def telecast(live: Live, *arguments: str, who: str = "desk") -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telecast", *arguments),
        env={**os.environ, "TELECAST_URL": live.url, "TELECAST_KEY": live.secrets[who]},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_clients_are_listed_kicked_and_written_into_the_audit() -> None:
    async with served() as live, live.ws(channels="positions", clientId="desk-1") as reader:
        await reader.until("live")
        code, out, err = await telecast(live, "clients")
        assert (code, err) == (0, "# 1 open\n")
        head, line = out.splitlines()
        assert head.split()[:2] == ["CONNECTION", "PRINCIPAL"]
        assert line.split()[1:6] == ["desk", "desk-1", "ws", "live", "0"]
        connection = line.split()[0]
        code, out, err = await telecast(live, "kick", "--client-id", "desk-1", "--dry-run")
        assert (code, out, err) == (0, f"{connection}\n", "# would end 1 connection\n")
        assert len(live.parts.clients) == 1
        code, out, err = await telecast(live, "kick", connection, "--reason", "it hangs")
        assert (code, err) == (0, "# ended 1 connection\n")
        _, closed = await reader.rest()
        assert closed == 4410
        code, out, _ = await telecast(live, "kick", connection)
        assert code == 1
        code, out, _ = await telecast(live, "clients", "--closed", "--json")
        assert orjson.loads(out)["code"] == "KICKED"
        code, out, _ = await telecast(live, "audit", "--action", "kick")
        assert f" desk kick connectionId={connection}" in out


async def test_a_key_without_the_scope_is_refused_by_each() -> None:
    async with served(READER) as live:
        for words in (("clients",), ("ack", "a1")):
            code, _, err = await telecast(live, *words, who="reader")
            assert code == 3, words
            assert "scope" in err


async def test_status_says_what_is_there_and_how_old() -> None:
    async with served() as live:
        await live.publish("positions", position())
        code, out, _ = await telecast(live, "status")
        assert code == 0
        assert ", ready, up " in out
        assert [line.split()[:3] for line in out.splitlines() if line.startswith("positions")] == [
            ["positions", "1", "0"]
        ]
        live.parts.begin_drain()
        code, out, _ = await telecast(live, "status")
        assert code == 1
        assert "NOT READY" in out
        assert "not accepting: draining" in out


async def test_an_alert_is_acknowledged_once_and_that_is_in_the_audit() -> None:
    async with served(principal(), principal("other")) as live:
        await live.publish("risk-alerts", alert())
        name = str(alert()["id"])
        code, out, _ = await telecast(live, "ack", name, "--note", "on it")
        assert (code, out) == (0, f"{name} is ACKNOWLEDGED by desk\n")
        code, _, err = await telecast(live, "ack", name, who="other")
        assert code == 1
        assert "desk" in err
        _, out, _ = await telecast(live, "audit", "--target", f"risk-alerts/{name}", "--json")
        if not out:
            _, out, _ = await telecast(live, "audit", "--json")
        assert orjson.loads(out.splitlines()[0])["principal"] == "desk"
        code, out, _ = await telecast(live, "ack", name, "--undo")
        assert (code, out) == (0, f"{name} is ACTIVE\n")


async def test_the_past_is_read_by_time_by_number_and_as_a_table() -> None:
    moment = 1_795_371_440.0
    async with served(now=lambda: moment) as live:
        for number in range(4):
            await live.publish("market-data", price(price=str(number)))
            moment += 60
        times = ("--from", "2026-11-22T18:18:00Z", "--to", "2026-11-22T18:20:00Z")
        code, out, err = await telecast(live, "history", "market-data", *times)
        assert (code, err) == (0, "# 2 events\n")
        assert [line.split()[2] for line in out.splitlines()] == ["2", "3"]
        _, out, _ = await telecast(live, "history", "market-data", "--last", "1", "--json")
        assert orjson.loads(out)["seq"] == 4
        at = ("--at", "2026-11-22T18:19:00Z")
        _, out, err = await telecast(live, "snapshot", "market-data", *at)
        assert out.startswith("2 ")
        assert err == "# 1 rows as they were at 2026-11-22T18:19:00.000Z\n"
        _, out, _ = await telecast(live, "tail", "market-data", "--last", "2", "--count", "2")
        assert [line.split()[2] for line in out.splitlines()] == ["3", "4"]
        _, out, _ = await telecast(live, "tail", "market-data", "--since", "70s", "--count", "1")
        assert out.split()[2] == "4"


async def test_what_tail_says_comes_next_can_be_pasted_into_a_shell() -> None:
    async with served() as live:
        await live.publish("market-data", price("BTC USD"))
        asked = ("market-data", "--filter", "symbol=BTC USD", "--last", "1", "--count", "1")
        _, _, err = await telecast(live, "tail", *asked)
        again = shlex.split(err.splitlines()[-1].partition("next: ")[2])
        chosen = ["--filter", "symbol=BTC USD", "--delivery", "all", "--since", live.at(1)]
        assert again == ["telecast", "tail", "market-data", *chosen]


async def test_doctor_finds_nothing_wrong_with_a_service_that_is_well() -> None:
    async with served() as live:
        code, out, _ = await telecast(live, "doctor")
        assert code == 0, out
        checks = ("address", "TLS", "readiness", "key", "clock", "WebSocket", "SSE")
        assert [line.split(":")[0] for line in out.splitlines()] == [
            f"[ok] {name}" for name in checks
        ]


async def test_doctor_finds_nothing_wrong_with_a_key_that_is_newer_than_the_last_event(
    tmp_path: Path,
) -> None:
    """Bug: a quiet service and a new key, and the doctor suspected several services."""
    journal = f"sqlite:{tmp_path}/telecast.db"
    async with served(journal=journal) as live:
        await live.publish("positions", position())
    async with served(principal("ann"), journal=journal) as live:
        code, out, _ = await telecast(live, "doctor", who="ann")
        assert code == 0, out
        assert out.count("resumes with a snapshot (the key's rights are newer") == 2


async def test_doctor_names_a_wrong_key_and_a_service_that_drains() -> None:
    async with served() as live:
        live.secrets["wrong"] = "tc_00000000_" + "0" * 64
        live.parts.begin_drain()
        code, out, _ = await telecast(live, "doctor", who="wrong")
        assert code == 1
        assert "[--] readiness: it is not ready: accepting: draining" in out
        assert "[--] key: UNAUTHENTICATED" in out
        assert "WebSocket" not in out  # nothing that follows can work


async def test_top_shows_the_worst_and_ends_one_after_asking() -> None:
    async with served() as live, live.ws(channels="positions", clientId="slow") as reader:
        await reader.until("live")
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "telecast", "top", "--every", "0.5"),
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "TELECAST_URL": live.url,
                "TELECAST_KEY": live.secrets["desk"],
            },
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        os.set_blocking(ours, False)
        screen = asyncio.Queue[bytes]()
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, lambda: screen.put_nowait(os.read(ours, 65536)))
        seen = b""

        async def until(wanted: bytes) -> None:
            nonlocal seen
            async with asyncio.timeout(PATIENCE):
                while wanted not in seen:
                    seen += await screen.get()
            seen = b""

        try:
            await until(b"slow")
            os.write(ours, b"k")
            await until(b"y ends it")
            os.write(ours, b"y")
            _, closed = await reader.rest()
            assert closed == 4410
            await until(b"is ended.")
            os.write(ours, b"q")
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0
        finally:
            loop.remove_reader(ours)
            os.close(ours)
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_consumers_are_listed_with_how_far_they_are() -> None:
    async with served() as live:
        receipt = await live.publish("positions", position("p1"))
        async with live.ws(channels="positions", clientId="books", since="earliest") as reader:
            await reader.until("live")
            await reader.ask("ack", reqId="1", position=receipt["position"])
        await live.publish("positions", position("p2"))
        code, out, err = await telecast(live, "consumers")
        assert (code, err) == (0, "# 1 consumers\n")
        words = out.splitlines()[1].split()
        assert words[:2] == ["books", "desk"]
        assert words[3:5] == [receipt["position"], "1"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Bad Name", "a channel's name is of small letters"),
        ("orders.fills", "a channel's name is of small letters"),
        ("positions", "the name is that of a built-in channel"),
        ("events", "the name is reserved"),
    ],
)
async def test_a_new_channel_s_wrong_name_is_what_the_error_is_about(name: str, said: str) -> None:
    """Bug: the error was about line 4 of a table that nobody saw, or "no valid TOML"."""
    async with served() as live:
        code, out, err = await telecast(live, "channels", "new", name)
    assert (code, out) == (2, "")
    assert f"Invalid value for NAME: {said}" in " ".join(err.split())


async def test_a_filter_that_a_channel_has_not_is_answered_with_those_that_it_has() -> None:
    async with served() as live:
        there = "The filters here: exchange, symbol, traderId."
        for words, said in (
            (("tail", "positions", "--filter", "foo=1"), "no parameter or filter 'foo'"),
            (("tail", "positions", "--filter", "traderid=1"), "Did you mean 'traderId'?"),
            (("tail", "positions", "--filter", "severity=1"), "None of positions has a filter"),
            (("history", "positions", "--filter", "foo=1"), "no parameter or filter 'foo'"),
        ):
            code, _, err = await telecast(live, *words)
            assert code == 1, words
            assert said in err, words
            assert there in err, words
