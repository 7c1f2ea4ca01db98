"""Real NATS servers: what a node finds there, what it refuses, and three nodes that are one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import nats as nats_client
import orjson
import pytest

from telecast.errors import JournalCorrupt, JournalUnavailable, SettingsError, TelecastError
from telecast.journal import Access, NodeOptions, journal_from_url
from telecast.journal.base import Batch
from telecast.journal.jetstream.address import parse_address
from telecast.model import Entry, Record, Retention
from tests.support.payloads import trader
from tests.support.service.live import Live, principal, served
from tests.support.service.nats import NatsServer, needs_nats

pytestmark = needs_nats

A = "trader-status"
KEEP = {A: Retention(1_000_000, 1e9)}


@pytest.fixture
def server() -> Iterator[NatsServer]:
    found = NatsServer()
    yield found
    found.end()


def journal_at(url: str, copy: Path, **access: Any) -> Any:
    return journal_from_url(url, KEEP, node=NodeOptions(copy=copy, access=Access(**access)))


def one(key: str) -> Batch:
    return Batch(records=(Record(A, key, "upsert", False, b"{}"),))


async def call(server: NatsServer, subject: str, body: object) -> dict[str, Any]:
    client = await nats_client.connect(server.url)
    try:
        answer = await client.request(f"$JS.API.{subject}", orjson.dumps(body), timeout=5)
    finally:
        await client.close()
    found: dict[str, Any] = orjson.loads(answer.data)
    return found


async def refused(url: str, copy: Path, kind: type[TelecastError], **access: Any) -> str:
    journal = journal_at(url, copy, **access)
    with pytest.raises(kind) as fault:
        await journal.open()
    await journal.close()
    return fault.value.message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nats://127.0.0.1", "does not read"),
        ("nats://127.0.0.1:4222/a.b", "does not read"),
        ("nats:///x", "does not read"),
        ("nats://me:secret@127.0.0.1:4222/x", "nats_password_file"),
    ],
)
def test_an_address_of_another_form_is_refused_without_its_password(url: str, words: str) -> None:
    with pytest.raises(SettingsError) as fault:
        parse_address(url)
    assert words in fault.value.message
    assert "secret" not in fault.value.message


def test_several_servers_are_one_address() -> None:
    address = parse_address("nats://a:4222,[::1]:4223/desk-1")
    assert address.servers == ("nats://a:4222", "nats://[::1]:4223")
    assert str(address) == "nats://a:4222,[::1]:4223/desk-1"


async def test_where_nobody_listens_the_start_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telecast.journal.jetstream.servers.CONNECT_SECONDS", 0.5)
    said = await refused("nats://127.0.0.1:1/x", tmp_path / "copy.db", JournalUnavailable)
    assert "No server of nats://127.0.0.1:1/x answered" in said


async def test_wrong_credentials_are_named(tmp_path: Path) -> None:
    server = NatsServer(config='authorization { user: desk, password: "right" }\n')
    try:
        (tmp_path / "wrong").write_text("wrong\n")
        (tmp_path / "right").write_text("right\n")
        access = {"user": "desk", "password_file": tmp_path / "wrong"}
        said = await refused(f"{server.url}/x", tmp_path / "c.db", JournalUnavailable, **access)
        assert "refused the credentials" in said
        assert "wrong" not in said.replace("wrong credentials", "")
        access["password_file"] = tmp_path / "right"
        journal = journal_at(f"{server.url}/x", tmp_path / "c.db", **access)
        await journal.open()
        await journal.close()
    finally:
        server.end()


async def test_a_stream_of_something_else_is_left_alone(server: NatsServer, tmp_path: Path) -> None:
    await call(server, "STREAM.CREATE.other", {"name": "other", "subjects": ["other.>"]})
    said = await refused(f"{server.url}/other", tmp_path / "copy.db", JournalUnavailable)
    assert "belongs to something else" in said


async def test_a_stream_is_not_compressed_and_one_that_is_is_warned_of(
    server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that was killed could not read what it had compressed."""
    journal = journal_at(f"{server.url}/x", tmp_path / "copy.db")
    await journal.open()
    await journal.close()
    config = (await call(server, "STREAM.INFO.x", {}))["config"]
    assert config["compression"] == "none"
    assert "compress the log" not in caplog.text
    assert "error" not in await call(server, "STREAM.UPDATE.x", config | {"compression": "s2"})
    again = journal_at(f"{server.url}/x", tmp_path / "copy.db")
    await again.open()
    await again.close()
    assert "compress the log" in caplog.text


async def test_more_replicas_than_servers_are_refused(server: NatsServer, tmp_path: Path) -> None:
    node = NodeOptions(copy=tmp_path / "copy.db", replicas=3)
    journal = journal_from_url(f"{server.url}/x", KEEP, node=node)
    with pytest.raises(JournalUnavailable, match="replicas"):
        await journal.open()
    await journal.close()


async def test_a_stream_that_was_made_anew_is_another_log(
    server: NatsServer, tmp_path: Path
) -> None:
    journal = journal_at(f"{server.url}/x", tmp_path / "copy.db")
    await journal.open()
    await journal.append(one("a"))
    epoch = journal.epoch
    await journal.close()
    await call(server, "STREAM.DELETE.x", {})
    said = await refused(f"{server.url}/x", tmp_path / "copy.db", JournalCorrupt)
    assert "made anew or restored" in said
    again = journal_at(f"{server.url}/x", tmp_path / "new.db")
    await again.open()
    assert again.epoch != epoch
    await again.close()


async def test_a_copy_that_is_lost_is_made_from_the_log(server: NatsServer, tmp_path: Path) -> None:
    journal = journal_at(f"{server.url}/x", tmp_path / "copy.db")
    await journal.open()
    for number in range(300):
        await journal.append(one(f"k{number}"))
    page = await journal.read([A], 0, 1000)
    await journal.close()
    again = journal_at(f"{server.url}/x", tmp_path / "new.db")
    await again.open()
    assert (await again.read([A], 0, 1000)).entries == page.entries
    assert (again.epoch, again.head) == (journal.epoch, journal.head)
    await again.close()


async def test_servers_that_are_killed_and_come_back_lose_nothing(tmp_path: Path) -> None:
    server = NatsServer()
    journal = journal_at(f"{server.url}/x", tmp_path / "copy.db")
    await journal.open()
    acknowledged, unknown = list[str](), list[str]()

    async def publish(key: str) -> None:
        try:
            await journal.append(one(key))
            acknowledged.append(key)
        except JournalUnavailable as fault:
            if fault.outcome_unknown:
                unknown.append(key)

    try:
        for number in range(50):
            await publish(f"a{number}")
        server.stop(signal.SIGKILL)
        meanwhile = [asyncio.create_task(publish(f"b{number}")) for number in range(50)]
        await asyncio.sleep(0)
        folder, port = server.folder, server.port
        server = NatsServer(folder=folder, port=port)
        await asyncio.gather(*meanwhile)
        await publish("last")
        keys = [entry.key for entry in (await journal.read([A], 0, 1000)).entries]
        assert set(acknowledged) <= set(keys) <= {*acknowledged, *unknown}
        assert len(keys) == len(set(keys))
        assert acknowledged[-1] == "last"
    finally:
        await journal.close()
        server.end()


@asynccontextmanager
async def three(server: NatsServer, folder: Path) -> AsyncIterator[list[Live]]:
    """Three services on one log, with the same key's secret."""
    desk = principal()
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                served(desk, journal=f"{server.url}/desk", journal_copy=folder / f"{number}.db")
            )
            for number in range(3)
        ]


async def rows(live: Live) -> tuple[Entry, ...]:
    return (await live.parts.journal.read([A], 0, 1000)).entries


async def test_what_one_node_publishes_all_nodes_send_and_a_position_is_good_at_each(
    server: NatsServer, tmp_path: Path
) -> None:
    async with (
        three(server, tmp_path) as (first, second, third),
        second.ws(channels=A) as ws,
        third.sse(channels=A) as sse,
    ):
        await ws.opening()
        await sse.opening()
        for number, node in enumerate((first, second, third)):
            row = trader(id=f"t{number}")
            status, body, _ = await node.ask("POST", f"/api/v1/channels/{A}/events", json=row)
            assert status == 201, body
        sent = await ws.events(3)
        assert [each.json for each in await sse.events(3)] == [each.json for each in sent]
        position = sse.log[-2].id
        await first.parts.relay.reached(third.parts.journal.head)
        async with first.sse(channels=A, headers={"Last-Event-ID": position}) as resumed:
            begun = await resumed.opening()
            assert [each.type for each in begun][-3:] == ["resume", "event", "live"]
            assert begun[-2].json == sent[2].json
        assert await rows(first) == await rows(second) == await rows(third)


async def test_the_same_idempotency_key_at_two_nodes_is_one_event(
    server: NatsServer, tmp_path: Path
) -> None:
    async with three(server, tmp_path) as (first, second, _):
        answers = [
            await node.ask(
                "POST",
                f"/api/v1/channels/{A}/events",
                json=trader(),
                headers={"Idempotency-Key": "once"},
            )
            for node in (first, second)
        ]
        assert [status for status, _, _ in answers] == [201, 201]
        assert len(await rows(second)) == 1
        assert answers[0][1]["data"]["position"] == answers[1][1]["data"]["position"]
