"""Bytes that requests hold are bounded by key and in all: unread answers, incomplete bodies."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from telecast.errors import PeerFault
from telecast.web.front import middlewares
from telecast.web.front.budget import Budget
from tests.support.payloads import position
from tests.support.service.live import Live, principal, served

READER = principal("reader", "read")
MIB = 2**20


def test_a_budget_is_by_key_and_in_all_and_forgets_who_holds_nothing() -> None:
    budget = Budget("answers_bytes", 10, 6)
    budget.take("a", 6)
    with pytest.raises(PeerFault) as refused:
        budget.take("a", 1)
    assert refused.value.code == "TOO_MUCH_AT_ONCE"
    assert refused.value.details == {"answers_bytes_per_key": 6, "retryAfterSeconds": 1}
    with pytest.raises(PeerFault) as refused:
        budget.take("b", 5)
    assert refused.value.details == {"answers_bytes": 10, "retryAfterSeconds": 1}
    budget.take("b", 4)
    assert (len(budget), budget.refused) == (10, 2)
    budget.give_back("a", 6)
    budget.give_back("b", 4)
    assert (len(budget), dict(budget._by_key)) == (0, {})


async def test_answers_under_way_are_bounded_and_others_are_answered() -> None:
    """100 history answers of one key that read nothing held 250 MB."""
    async with served(principal(), READER, answers_bytes_per_key=6 * MIB) as live:
        await live.publish("positions", *(position(f"p-{n}") for n in range(100)))
        answers = live.parts.answers
        for what in ("events", "snapshot"):
            path = f"/api/v1/channels/positions/{what}"
            answers.take(READER.key_id, 3 * MIB)
            large = {"who": "reader", "query": {"limit": 5_000}}
            status, body, response = await live.ask("GET", path, **large)
            assert (status, body["error"]["code"]) == (429, "TOO_MUCH_AT_ONCE")
            assert response.headers["Retry-After"]
            assert response.headers["X-Correlation-ID"]
            await live.get(path, who="reader", query={"limit": 10})
            await live.get(path, query={"limit": 5_000})
            answers.give_back(READER.key_id, 3 * MIB)
            await live.get(path, **large)
            status, body, _ = await live.ask("GET", f"{path}?limit=5000&cursor=x", who="reader")
            assert status == 400
            assert len(answers) == 0, "what was refused or read holds nothing"


async def test_who_asks_again_at_once_with_too_much_under_way_is_answered_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Regression: 32 connections of one key, each refused and asking again at once, took a publish
    of others from 3 to 250 ms."""
    async with served(principal(), READER, answers_bytes_per_key=3 * MIB) as live:
        live.parts.answers.take(READER.key_id, 3 * MIB)
        path, large = "/api/v1/channels/positions/events", {"limit": 5_000}
        over = asyncio.Event()
        monkeypatch.setattr(middlewares, "hold_back", over.wait)
        refused = asyncio.create_task(live.ask("GET", path, who="reader", query=large))
        await live.until(lambda: live.parts.answers.refused == 1)
        await live.get(path, query={"limit": 10})  # others are answered meanwhile
        assert not refused.done()
        over.set()
        status, body, _ = await refused
        assert (status, body["error"]["code"]) == (429, "TOO_MUCH_AT_ONCE")


async def test_an_answer_that_is_not_read_is_held_until_its_peer_goes() -> None:
    async with served(principal(), READER, stall_seconds=3600) as live:
        rows = [position(f"p-{n}", reason="r" * 1_500) for n in range(1_000)]
        for first in range(0, len(rows), 250):
            await live.publish("positions", *rows[first : first + 250])
        head = _head(live, "reader", "GET /api/v1/channels/positions/events?limit=5000")
        # So much is more than the kernel holds for them.
        lines = [await _dial(live, head * 4) for _ in range(2)]
        answers = live.parts.answers
        await live.until(lambda: len(answers) > 3 * MIB)
        await _close(lines)
        await live.until(lambda: not len(answers))


async def test_bodies_that_never_become_complete_are_bounded() -> None:
    async with served(
        principal(), max_body_bytes=2 * MIB, bodies_bytes=8 * MIB, bodies_bytes_per_key=3 * MIB
    ) as live:
        lines = []
        for _ in range(3):
            head = _head(
                live,
                "desk",
                "POST /api/v1/channels/positions/events",
                "Content-Type: application/json",
                f"Content-Length: {2 * MIB}",
            )
            lines.append(await _dial(live, head + b" " * (2 * MIB - 1)))
        await live.until(lambda: live.parts.bodies.refused)
        assert 0 < len(live.parts.bodies) <= 3 * MIB
        await _close(lines)
        await live.until(lambda: not len(live.parts.bodies))
        await live.publish("positions", position("p-1"))
        assert not len(live.parts.bodies)


@dataclass
class Idle:
    """A connection whose peer takes little and reads nothing."""

    sock: socket.socket
    sending: asyncio.Task[None]


async def _dial(live: Live, data: bytes) -> Idle:
    sock, loop = socket.socket(), asyncio.get_running_loop()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.setblocking(False)
    where = urlsplit(live.url)
    await loop.sock_connect(sock, (where.hostname, where.port))
    return Idle(sock, asyncio.ensure_future(loop.sock_sendall(sock, data)))


async def _close(lines: list[Idle]) -> None:
    for line in lines:
        line.sending.cancel()
    await asyncio.gather(*(line.sending for line in lines), return_exceptions=True)
    for line in lines:
        line.sock.close()


def _head(live: Live, who: str, line: str, *more: str) -> bytes:
    key = f"X-API-Key: {live.secrets[who]}"
    return "\r\n".join([f"{line} HTTP/1.1", "Host: x", key, *more, "", ""]).encode()
