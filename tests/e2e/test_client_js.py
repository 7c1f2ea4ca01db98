"""The JavaScript client in Node against the service, over SSE and over a WebSocket.

A table, cuts, a drain, a wrong key, a proxy that lets no WebSocket through.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from telecast.testing.relay import relay
from telecast.web.page.files import FOLDERS
from tests.support.payloads import position
from tests.support.service.live import Live, served

NODE = shutil.which("node")
SOCKETS = "--experimental-websocket"
"""What Node 20 has a WebSocket with; later ones have it anyway, and take the word."""


def has_websocket() -> bool:
    if NODE is None:
        return False
    asked = (NODE, SOCKETS, "-p", "typeof WebSocket")
    said = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    return said.stdout.strip() == "function"


websocket = pytest.param(
    "websocket",
    marks=pytest.mark.skipif(not has_websocket(), reason="this Node has no WebSocket: use 22"),
)
over_both = pytest.mark.parametrize("transport", ["sse", websocket])
pytestmark = pytest.mark.skipif(NODE is None, reason="no Node: apt-get install nodejs")
PATIENCE = 120.0
SCRIPT = """
import {{ Client }} from {module};
const client = new Client({url}, {{ key: {key}, transport: {transport} }});
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
  const wrong = { live: true, reconnecting: false }[view.state];
  if (wrong === (view.reason !== null)) throw new Error(view.reason);
  if (view.has("last")) view.close();
} });
"""
REFINED = """
const changes = client.follow("positions", { filter: { traderId: ["t0", "t1"] } });
let refined = false;
for await (const { state, op, key, position } of changes) {
  say(state ? [state, position !== null] : [op, key, position !== null]);
  if (state !== "live") continue;
  if (refined) break;
  refined = true;
  changes.refine({ add: { traderId: "t2" }, remove: { traderId: ["t0"] } });
}
"""
REFINED_VIEW = """
let refined = false;
const view = client.view("positions", { filter: { traderId: ["t0", "t1"] }, onchange: () => {
  if (view.state === "live" && refined) view.close();
  say([view.state, [...view].map(([key]) => key).sort()]);
  if (view.state !== "live" || refined) return;
  refined = true;
  view.refine({ add: { traderId: "t2" }, remove: { traderId: "t0" } });
} });
"""
PUBLISH = """
const first = await client.publish("positions", %s, { idempotencyKey: "once" });
const again = await client.publish("positions", %s, { idempotencyKey: "once" });
const { rows } = await client.snapshot("positions");
say([first.position === again.position, again.duplicate, rows.length]);
"""


@asynccontextmanager
async def node(
    live: Live,
    body: str,
    *,
    key: str | None = None,
    url: str | None = None,
    transport: str = "sse",
    sockets: bool = True,
) -> AsyncIterator[Any]:
    """A script in Node; yields a function that returns the next line that it says.

    Without `sockets` it is a Node that has no WebSocket.
    """
    assert NODE is not None
    module = (Path(FOLDERS["client"]) / "telecast.js").as_uri()
    words = {"module": module, "url": url or live.url, "key": key or live.secrets["desk"]}
    words["transport"] = transport
    script = SCRIPT.format(
        body=body, **{name: orjson.dumps(word).decode() for name, word in words.items()}
    )
    process = await asyncio.create_subprocess_exec(
        *(NODE, SOCKETS if sockets else "--no-experimental-websocket", "--input-type=module", "-"),
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


def transports(live: Live) -> set[str]:
    names = {"ws": "websocket", "sse": "sse"}
    return {names[client.transport] for client in live.parts.clients}


@over_both
async def test_what_is_followed_in_node_survives_cuts_without_a_gap(transport: str) -> None:
    async with served() as live, node(live, FOLLOW, transport=transport) as line:
        expected = []
        await until(line, ["live"])
        assert transports(live) == {transport}
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


@over_both
async def test_a_view_in_node_is_filtered_and_says_when_it_is_not_live(transport: str) -> None:
    async with served() as live, node(live, VIEW, transport=transport) as line:
        await live.publish("positions", position("p1", unrealizedPnL="1.0"), position("p2", "t2"))
        await until(line, ["live", 1, "1.0"])
        for client in live.parts.clients:
            assert client.subscriber is not None
            client.subscriber.sink.abort()  # type: ignore[attr-defined]
        await until(line, ["reconnecting", 1, "1.0"])
        await until(line, ["live", 1, "1.0"])
        await live.publish("positions", position("last"))


@over_both
async def test_a_filter_changes_and_a_websocket_is_sent_only_the_difference(transport: str) -> None:
    async with served() as live:
        await live.publish("positions", *(position(f"p{n}", f"t{n % 3}") for n in range(6)))
        async with node(live, REFINED, transport=transport) as line:
            seen = await until(line, ["live", True])
            seen += await until(line, ["live", True])
            seen = [each for each in seen if each[0] != "ack"]
        rows = [["upsert", f"p{n}", False] for n in (0, 1, 3, 4)]
        anew = [["upsert", f"p{n}", False] for n in (1, 2, 4, 5)]
        start = [["welcome", False], ["snapshot", False]]
        difference = [["leave", f"p{n}", False] for n in (0, 3)] + [
            ["upsert", f"p{n}", False] for n in (2, 5)
        ]
        then = difference if transport == "websocket" else start + anew
        assert seen == [*start, *rows, ["live", True], *then, ["live", True]]


@over_both
async def test_a_view_is_loading_until_its_rows_are_those_of_the_new_filter(transport: str) -> None:
    async with served() as live:
        await live.publish("positions", *(position(f"p{n}", f"t{n % 3}") for n in range(6)))
        async with node(live, REFINED_VIEW, transport=transport) as line:
            await until(line, ["live", ["p0", "p1", "p3", "p4"]])
            seen = await until(line, ["live", ["p1", "p2", "p4", "p5"]])
            assert {each[0] for each in seen[:-1]} <= {"loading"}


async def test_a_publish_from_node_counts_once() -> None:
    row = orjson.dumps(position("p1")).decode()
    async with served() as live, node(live, PUBLISH % (row, row)) as line:
        assert await line() == [True, True, 1]


@over_both
async def test_a_wrong_key_ends_a_script_with_the_services_words(transport: str) -> None:
    async with (
        served() as live,
        node(live, FOLLOW, key="tc_nonsense", transport=transport) as line,
    ):
        assert await line() == ["Refused", "UNAUTHENTICATED", 401]


@over_both
async def test_a_channel_that_is_not_there_ends_a_script_with_the_services_words(
    transport: str,
) -> None:
    """A WebSocket that is refused gives a client no reason, in a browser and in Node."""
    follow = FOLLOW.replace('"positions"', '"no-such"')
    async with served() as live, node(live, follow, transport=transport) as line:
        assert await line() == ["Refused", "UNKNOWN_CHANNEL", 404]


@pytest.mark.parametrize("sockets", [pytest.param(True, marks=websocket.marks), False])
async def test_where_no_websocket_gets_through_the_stream_comes_as_sse(sockets: bool) -> None:
    async with served() as live, relay(live.url) as proxy:
        proxy.no_websocket = 403
        async with node(
            live, FOLLOW, url=proxy.url, transport="websocket", sockets=sockets
        ) as line:
            await until(line, ["live"])
            assert transports(live) == {"sse"}
            assert (proxy.refused > 0) is sockets
            await live.publish("positions", position("p1", unrealizedPnL="1"))
            await until(line, ["upsert", "p1", "1"])
            proxy.no_websocket = None
            proxy.cut()
            await live.everybody_gone()
            await live.publish("positions", position("last", unrealizedPnL="9"))
            seen = await until(line, ["upsert", "last", "9"])
            assert [each for each in seen if len(each) == 3] == [["upsert", "last", "9"]]
