"""The JavaScript client in Node against the service: a table, a cut, a restart, a wrong key."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from telecast.web.page.files import FOLDERS
from tests.support.payloads import position
from tests.support.service.live import Live, served

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no Node: apt-get install nodejs")
PATIENCE = 120.0
SCRIPT = """
import {{ Client }} from {module};
const client = new Client({url}, {{ key: {key} }});
const say = (what) => console.log(JSON.stringify(what));
{body}
"""
FOLLOW = """
try {
  for await (const { state, key, op, row } of client.follow("positions", { since: "earliest" })) {
    say(state ? [state] : [op, key, row.unrealizedPnL]);
    if (key === "last") break;
  }
} catch (fault) { say([fault.name, fault.code, fault.status]); }
"""
VIEW = """
const view = client.view("positions", { filter: { traderId: ["t1"] }, onchange: () => {
  say([view.state, view.size, view.get("p1")?.unrealizedPnL ?? null]);
  if (view.has("last")) view.close();
} });
"""
PUBLISH = """
const first = await client.publish("positions", %s, { idempotencyKey: "once" });
const again = await client.publish("positions", %s, { idempotencyKey: "once" });
const { rows } = await client.snapshot("positions");
say([first.position === again.position, again.duplicate, rows.length]);
"""


@asynccontextmanager
async def node(live: Live, body: str, key: str | None = None) -> AsyncIterator[Any]:
    """A script in Node; yields a function that returns the next line that it says."""
    assert NODE is not None
    module = (Path(FOLDERS["client"]) / "telecast.js").as_uri()
    words = {"module": module, "url": live.url, "key": key or live.secrets["desk"]}
    script = SCRIPT.format(
        body=body, **{name: orjson.dumps(word).decode() for name, word in words.items()}
    )
    process = await asyncio.create_subprocess_exec(
        *(NODE, "--input-type=module", "-"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(script.encode())
    process.stdin.close()

    async def line() -> Any:
        async with asyncio.timeout(PATIENCE):
            text = await process.stdout.readline()  # type: ignore[union-attr]
        return orjson.loads(text) if text else None

    try:
        yield line
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until(line: Any, wanted: Any) -> list[Any]:
    found = [await line()]
    while found[-1] != wanted:
        assert found[-1] is not None, found
        found.append(await line())
    return found


async def test_what_is_followed_in_node_survives_cuts_without_a_gap() -> None:
    async with served() as live, node(live, FOLLOW) as line:
        expected = []
        await until(line, ["live"])
        for turn in range(3):
            for index in range(5):
                pnl = f"{turn}.{index}"
                await live.publish("positions", position("p1", unrealizedPnL=pnl))
                expected.append(["upsert", "p1", pnl])
            for client in live.parts.clients:
                assert client.subscriber is not None
                client.subscriber.sink.abort()  # type: ignore[attr-defined]
            await live.everybody_gone()
        await live.publish("positions", position("last", unrealizedPnL="9"))
        told = await until(line, ["upsert", "last", "9"])
        assert [each for each in told if len(each) == 3][:-1] == expected
        assert ["lost"] in told


async def test_a_view_in_node_is_filtered_and_says_when_it_is_not_live() -> None:
    async with served() as live, node(live, VIEW) as line:
        await live.publish("positions", position("p1", unrealizedPnL="1.0"), position("p2", "t2"))
        await until(line, ["live", 1, "1.0"])
        for client in live.parts.clients:
            assert client.subscriber is not None
            client.subscriber.sink.abort()  # type: ignore[attr-defined]
        await until(line, ["reconnecting", 1, "1.0"])
        await until(line, ["live", 1, "1.0"])
        await live.publish("positions", position("last"))


async def test_a_publish_from_node_counts_once() -> None:
    row = orjson.dumps(position("p1")).decode()
    async with served() as live, node(live, PUBLISH % (row, row)) as line:
        assert await line() == [True, True, 1]


async def test_a_wrong_key_ends_a_script_with_the_services_words() -> None:
    async with served() as live, node(live, FOLLOW, key="tc_nonsense") as line:
        assert await line() == ["Refused", "UNAUTHENTICATED", 401]
