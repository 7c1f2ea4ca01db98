"""No key, ticket or cookie is in anything that the service says, wherever it was put."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

import telecast.web.api.channels as channels
import telecast.web.api.publish as publishing
import telecast.web.streams.ws as ws
from telecast.keys import KeyStore
from telecast.logs import configure
from tests.hostile.hosting import connected
from tests.hostile.poison import TEXTS
from tests.support.payloads import position
from tests.support.service.live import Live, principal, served
from tests.support.service.process import HOST, Service
from tests.support.sockets.raw import request

WORDS = ("key", "token", "ticket", "api_key", "clientId", "since", "channels", "cursor", "replace")
HEADERS = (
    *("X-API-Key", "Authorization", "Cookie", "X-Correlation-ID", "Last-Event-ID", "Origin"),
    *("Idempotency-Key", "User-Agent", "Content-Type", "Content-Encoding", "X-Forwarded-For"),
    *("Sec-WebSocket-Protocol", "Sec-WebSocket-Key", "Referer", "Expect", "Host"),
)


class Prowler:
    """Puts a secret where none belongs, and keeps all that it is answered."""

    def __init__(self, url: str, session: aiohttp.ClientSession, key: str) -> None:
        self.heard: list[str] = []
        self.minted: list[str] = []
        """Secrets that the service made: each was shown once, to whom it belongs."""
        self._url = url
        self._session = session
        self._key = key

    async def mint(self) -> None:
        mine = {"X-API-Key": self._key}
        for _ in range(2):
            async with self._session.post(f"{self._url}/api/v1/tickets", headers=mine) as answer:
                self.minted.append((await answer.json())["data"]["ticket"])
        async with self._session.post(f"{self._url}/api/v1/session", headers=mine) as answer:
            for line in answer.headers.getall("Set-Cookie"):
                self.minted += [morsel.value for morsel in SimpleCookie(line).values()]
        async with self._session.get(
            f"{self._url}/sse/telemetry", params={"ticket": self.minted[0]}
        ) as answer:
            for line in answer.headers.getall("Set-Cookie"):
                self.minted += [morsel.value for morsel in SimpleCookie(line).values()]

    async def ask(self, method: str, path: str, **said: Any) -> None:
        said["headers"] = {"X-API-Key": self._key} | said.get("headers", {})
        async with self._session.request(method, self._url + path, **said) as answer:
            body = b""
            if answer.content_type != "text/event-stream":
                body = await answer.read()
            headers = [item for item in answer.headers.items() if item[0] != "Set-Cookie"]
            self.heard += [str(answer.status), str(headers), body.decode()]

    async def everywhere(self, secret: str) -> None:
        """In each part of requests of each kind."""
        transports = ("/ws/telemetry", "/sse/telemetry")
        for path in (*transports, "/api/v1/channels", "/api/v1/channels/positions/events"):
            for word in WORDS:
                await self.ask("GET", path, params={word: secret})
            await self.ask("GET", path, params={secret: "1"})
        for path in ("channels/@", "channels/@/events", "clients/@", "@", "channels/@/snapshot"):
            await self.ask("GET", f"/api/v1/{path}".replace("@", secret))
        for name in HEADERS:
            for scheme in ("", "Bearer ", "Basic ", "telecast_session=", "telecast_stream="):
                headers = {"X-API-Key": "", name: scheme + secret}
                for path in ("/api/v1/channels", "/metrics", "/nothing", *transports):
                    await self.ask("GET", path, headers=headers)
        events = "/api/v1/channels/positions/events"
        for body in (
            *({"id": secret}, {secret: 1}, [secret], secret, position(quantity=secret)),
            *(position(**{secret: 1}), position() | {"status": secret}),
        ):
            await self.ask("POST", events, json=body, headers={"Idempotency-Key": secret[:128]})
            await self.ask("POST", "/api/v1/session", json=body, headers={"X-API-Key": ""})
        await self.ask("POST", events, data=f'{{"id":"{secret}",', params={"replace": secret})
        await self.ask("DELETE", f"/api/v1/channels/positions/rows/{secret}")
        cookie = {"Cookie": f"telecast_session={secret}"}
        await self.ask("DELETE", "/api/v1/session", headers=cookie)

    async def by_socket(self, secret: str) -> None:
        mine = {"X-API-Key": self._key}
        query = {"channels": f"positions,{secret[:90]}"}
        async with self._session.ws_connect(
            f"{self._url}/ws/telemetry", headers=mine, params=query
        ) as socket:
            sayings: list[Any] = [
                secret,
                {"action": secret},
                {"action": "heartbeat", secret: 1},
                {"action": "subscribe", "channels": [secret]},
                {"action": "subscribe", "channels": ["positions"], "filter": {secret: ["1"]}},
                {"action": "subscribe", "channels": ["positions"], "since": secret},
                {"action": "publish", "channel": secret, "data": {}},
                {"action": "publish", "channel": "positions", "data": {secret: 1}},
            ]
            for saying in sayings:
                await socket.send_str(orjson.dumps(saying).decode())
            await socket.send_bytes(secret.encode())
            async for message in socket:
                body = orjson.loads(message.data)
                # What stands in `details` and `rejected` are the asker's own words, to the asker.
                self.heard.append(f"{body.get('code')} {body.get('message')}")

    async def no_http(self, secret: str) -> None:
        port = int(self._url.rpartition(":")[2])
        for head in (
            f"GET / HTTP/1.1\r\nX-API-Key {secret}\r\n\r\n",
            f"GET /?ticket={secret} HTTP/1.1\r\nX-API-Key: {secret}\r\nHost: x\r\nHost: y\r\n\r\n",
            f"GET / HTTP/{secret}\r\n\r\n",
            f"{secret} / HTTP/1.1\r\n\r\n",
            f"GET /{'x' * 9_000}?key={secret} HTTP/1.1\r\nX-API-Key: {secret}\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: {secret}\r\nContent-Length: {secret}\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: {secret}\x00\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: x\r\nExpect: {secret}\r\nConnection: close\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(head.encode())
            writer.write_eof()
            self.heard.append((await reader.read()).decode())
            writer.close()

    async def reported(self) -> None:
        for path in ("/metrics", "/readyz?verbose", "/livez", "/api/v1/session", "/api/v1/stats"):
            await self.ask("GET", path)


def assert_unheard(what: str, secrets: dict[str, str]) -> None:
    for name, secret in secrets.items():
        assert secret not in what, (name, what[max(0, what.index(secret) - 300) :][:600])


def tails(key: str, prowler: Prowler) -> dict[str, str]:
    """What must never be said of each secret: enough of it to be of use to a thief."""
    found = {"key": key[-64:][:40], "wrong key": "c0ffee" * 6}
    return found | {f"minted {n}": text[-24:] for n, text in enumerate(prowler.minted)}


async def prowl(url: str, key: str, *, wrong: bool = True) -> Prowler:
    async with aiohttp.ClientSession() as session:
        prowler = Prowler(url, session, key)
        await prowler.mint()
        ticket, cookie = prowler.minted[1:3]
        secrets = [key, ticket, cookie, "tc_0badc0de_" + "c0ffee" * 10 + "c0ff"]
        for secret in secrets:
            await prowler.everywhere(secret)
            await prowler.by_socket(secret)
            await prowler.no_http(secret)
        await prowler.reported()
    return prowler


async def test_a_process_at_debug_says_no_secret_in_its_log_or_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio's and aiohttp's own loggers speak as well, and as much as they can."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    own = Service(tmp_path, log_level="debug")
    try:
        await own.start()
        prowler = await prowl(own.url, own.key)
        os.kill(own.pid, signal.SIGABRT)
        assert await own.gone() == -signal.SIGABRT
    finally:
        await own.end()
    log = b"".join(own.log).decode()
    assert "Fatal Python error: Aborted" in log
    secrets = tails(own.key, prowler)
    secrets["what signs"] = (tmp_path / "secret").read_text().strip()
    assert_unheard(log, secrets)
    lines, _, _ = log.partition("Fatal Python error")
    assert all(isinstance(orjson.loads(line), dict) for line in lines.splitlines() if line)
    assert '"path":"/api/v1/channels/[redacted]"' in lines
    for reported in prowler.heard:
        if "telecast_connections" in reported:
            assert_unheard(reported, secrets)


@asynccontextmanager
async def listened() -> AsyncIterator[tuple[Live, io.StringIO]]:
    stream = io.StringIO()
    handler = configure("json", "debug", stream)
    try:
        async with served() as live:
            yield live, stream
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger().setLevel(logging.WARNING)


def messages(heard: list[str]) -> str:
    """Of all answers what is said in words; what is quoted to the asker as data is the asker's."""
    found = []
    for reported in heard:
        try:
            body = orjson.loads(reported)
            found.append(str(body["error"]["code"]) + str(body["error"]["message"]))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            found.append(reported)
    return "\n".join(found)


async def test_no_refusal_quotes_a_key_from_where_it_does_not_belong() -> None:
    """Cut to 64 characters, a key in a channel's place was no key any more to what looks for it."""
    async with listened() as (live, stream):
        prowler = await prowl(live.url, live.secrets["desk"])
        secrets = tails(live.secrets["desk"], prowler)
        keys = {name: tail for name, tail in secrets.items() if "key" in name}
        assert_unheard(messages(prowler.heard), keys)
        assert_unheard(stream.getvalue(), secrets)


@pytest.mark.parametrize("place", ["rest", "publish", "ws", "sse", "worker"])
async def test_a_fault_of_ours_that_quotes_a_secret_shows_it_to_nobody(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    async with listened() as (live, stream):
        key = live.secrets["desk"]

        def break_down(*_: Any, **__: Any) -> Any:
            headers = {"X-API-Key": key, "Cookie": "telecast_session=canary.canary"}
            raise RuntimeError(f"{key} {key[:60]} {headers} ?ticket=canary&x=1")

        heard = ""
        with monkeypatch.context() as patch:
            if place == "rest":
                patch.setattr(channels, "describe", break_down)
                status, body, _ = await live.ask("GET", "/api/v1/channels")
                assert status == 500
                heard = str(body)
            elif place == "publish":
                patch.setattr(publishing, "parse_json", break_down)
                heard = str(await live.refused("positions", position()))
            elif place == "ws":
                patch.setattr(ws._WsStream, "_act", break_down)
                async with live.ws() as reader:
                    await reader.send("heartbeat")
                    reported, code = await reader.rest()
                assert code == 1011
                heard = str(reported)
            elif place == "sse":
                patch.setattr(live.parts.broadcaster, "attach", break_down)
                async with connected(live) as (reader, writer):
                    writer.write(request("sse", key, {}))
                    with contextlib.suppress(ConnectionError):
                        while line := await reader.readline():
                            heard += line.decode()
                assert heard.count("HTTP/1.1") <= 1, "no second answer within the first"
            else:
                patch.setattr(live.parts.clients, "recheck", break_down)
                await live.until(lambda: live.parts.broken)
                async with live.session.get(f"{live.url}/readyz?verbose") as answer:
                    heard = await answer.text()
                assert "RuntimeError" in heard
        secrets = {"key": key[-64:][:16], "canary": "canary"}
        assert_unheard(heard, secrets)
        logged = stream.getvalue()
        assert "RuntimeError" in logged
        assert_unheard(logged, secrets)


# --- the log


@pytest.mark.parametrize("place", ["path", "query", "header", "body"])
async def test_whatever_is_asked_each_line_of_the_log_is_one_bounded_object(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telecast.web.front.refusals.EACH_SECOND", 1_000)  # none is only counted
    async with listened() as (live, stream):
        for text in (*TEXTS, "x" * 7_000, '\n{"level":"ERROR","event":"forged"}'):
            if place == "path":
                await live.ask("GET", "/api/v1/@".replace("@", _quoted(text)))
            elif place == "query":
                await live.ask("GET", "/sse/telemetry", query={"clientId": text[:2_000], "x": "1"})
            elif place == "header":
                safe = text.encode().replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
                async with connected(live) as (reader, writer):
                    writer.write(
                        b"GET /api/v1/session HTTP/1.1\r\nHost: x\r\nUser-Agent: %b\r\n"
                        b"Referer: %b\r\nX-Forwarded-For: %b\r\n\r\n" % (safe, safe, safe)
                    )
                    await reader.readline()
            else:
                await live.post("positions", {text: text})
        records = [orjson.loads(line) for line in stream.getvalue().splitlines()]
        assert len(records) > len(TEXTS)
        assert all(isinstance(each, dict) for each in records)
        assert not [each for each in records if each["event"] == "forged"]
        assert all(len(str(value)) <= 8_300 for each in records for value in each.values())
        assert {each["level"] for each in records} <= {"INFO", "DEBUG"}


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode()[:2_000])


# --- what a key costs to check


@pytest.mark.parametrize(
    "wrong",
    [
        "tc_00000000_" + "0" * 64,
        "tc_@_" + "0" * 64,
        "tc_@_" + "0" * 63,
        "tc_@",
        "x",
        "\u0661" * 76,
        "x" * 7_000,
    ],
)
def test_every_refusal_of_a_key_does_the_same_work(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """One hash, and one comparison of 64 with 64 letters that looks at all: unknown or wrong."""
    store, _ = KeyStore.of(principal(), now=lambda: 0.0)
    work: list[tuple[str, int, int]] = []

    def compared(a: str, b: str) -> bool:
        work.append(("compare", len(a), len(b)))
        return a == b

    monkeypatch.setattr("telecast.keys.store.hmac.compare_digest", compared)
    digest = KeyStore.authenticate.__globals__["digest"]
    monkeypatch.setattr(
        "telecast.keys.store.digest", lambda text: (work.append(("hash", 0, 0)), digest(text))[1]
    )
    with pytest.raises(Exception, match="not known here"):
        store.authenticate(wrong.replace("@", principal().key_id))
    assert work == [("hash", 0, 0), ("compare", 64, 64)]
