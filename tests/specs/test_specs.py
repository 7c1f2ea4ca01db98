"""The documents before the parsers that users have: AsyncAPI's own, the TypeScript compiler, and
schemathesis, which sends what the OpenAPI document allows and holds the answers against it.

`tox -e specs` installs them; where one is not there its test says so.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

import telecast
from telecast.channels.catalogue import CHANNELS
from telecast.channels.configured import catalogue_from
from telecast.contracts.asyncapi import asyncapi
from telecast.contracts.types import python_types, typescript
from tests.support.payloads import ORDERS
from tests.support.service.live import served

FOLDER = Path(__file__).parent
MODULES = FOLDER / "node_modules"
PATIENCE = 240
CATALOGUES = {"built-in": CHANNELS, "own": catalogue_from(ORDERS)}

needs_node = pytest.mark.skipif(
    not MODULES.is_dir() or shutil.which("node") is None, reason="needs tox -e specs, and node"
)


def run(*command: str, given: bytes = b"", cwd: Path = FOLDER) -> None:
    done = subprocess.run(command, input=given, cwd=cwd, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@needs_node
@pytest.mark.parametrize("which", CATALOGUES)
def test_the_asyncapi_parser_finds_nothing_wrong(which: str) -> None:
    run("node", "asyncapi.mjs", given=orjson.dumps(asyncapi(CATALOGUES[which].values())))


@needs_node
def test_the_asyncapi_parser_would_find_a_wrong_reference() -> None:
    document = orjson.dumps(asyncapi(CHANNELS.values())).replace(
        b'"#/channels/ws"', b'"#/channels/nowhere"'
    )
    with pytest.raises(AssertionError):
        run("node", "asyncapi.mjs", given=document)


@needs_node
@pytest.mark.parametrize("which", CATALOGUES)
def test_the_declarations_compile_and_hold_a_user_to_them(which: str, tmp_path: Path) -> None:
    (tmp_path / "channels.d.ts").write_text(typescript(CATALOGUES[which].values()))
    (tmp_path / "user.ts").write_text(
        """
import type { ChannelEvent, PositionPayload, Rows } from "./channels";
export const price = (row: Rows["market-data"]): string => row.price;
export function told(event: ChannelEvent): string | null {
  return event.channel === "positions" ? event.data.realizedPnL : event.key;
}
// @ts-expect-error a number would lose digits
export const wrong: Partial<PositionPayload> = { quantity: 1 };
"""
    )
    tsc = MODULES / "typescript/bin/tsc"
    run("node", str(tsc), "--noEmit", "--strict", "--target", "es2022", "user.ts", cwd=tmp_path)


CLIENT = Path(telecast.__file__).parent / "web" / "page" / "client"
DECLARE = ("--declaration", "--allowJs", "--emitDeclarationOnly", "--skipLibCheck")


@needs_node
def test_the_declarations_of_telecast_js_are_those_of_its_comments(tmp_path: Path) -> None:
    tsc = str(MODULES / "typescript/bin/tsc")
    made = (*DECLARE, "--target", "es2022", "--outDir", str(tmp_path))
    run("node", tsc, str(CLIENT / "telecast.js"), *made)
    committed = (CLIENT / "telecast.d.ts").read_text("utf-8")
    again = f"node {tsc} {CLIENT}/telecast.js {' '.join(DECLARE)} --target es2022 --outDir {CLIENT}"
    assert (tmp_path / "telecast.d.ts").read_text("utf-8") == committed, f"run: {again}"


@needs_node
def test_a_user_of_telecast_js_is_held_to_its_declarations(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "telecast-client"
    shutil.copytree(CLIENT, package)
    (tmp_path / "user.mts").write_text(
        """
import { Client, Refused, States, type Change } from "telecast-client";
import type { PositionRow } from "telecast-client/channels";
const telecast = new Client("http://127.0.0.1:8080", { key: "tc_", transport: "websocket" });
const positions = telecast.view("positions", {
  filter: { traderId: ["t1"] },
  onchange: (view, changed) => console.log(view.state === States.LIVE, changed.keys?.size),
});
export const row = positions.get("p1") as PositionRow | undefined;
export async function go(): Promise<void> {
  for await (const change of telecast.follow(["positions"], { since: "earliest" })) {
    const one: Change = change;
    if (one.row) console.log(one.op, one.key, one.row.symbol);
  }
  try { await telecast.publish("positions", { id: "p1" }); } catch (fault) {
    if (fault instanceof Refused) console.log(fault.message);
  }
}
// @ts-expect-error there is no such transport
export const wrong = new Client("", { transport: "pigeon" });
// @ts-expect-error channels are names
telecast.follow(7);
"""
    )
    tsc = str(MODULES / "typescript/bin/tsc")
    how = ("--noEmit", "--strict", "--target", "es2022", "--module", "nodenext")
    run("node", tsc, *how, "user.mts", cwd=tmp_path)


@pytest.mark.parametrize("which", CATALOGUES)
def test_the_typed_dicts_pass_a_strict_type_checker(which: str, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "rows.py").write_text(python_types(CATALOGUES[which].values()))
    run(sys.executable, "-m", "mypy", "--strict", "rows.py", cwd=tmp_path)


async def test_what_schemathesis_sends_gets_answers_of_the_document(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    command = Path(sys.executable).parent / "schemathesis"
    async with served(catalogue=CATALOGUES["own"]) as live:
        process = await asyncio.create_subprocess_exec(
            *(command, "run", f"{live.url}/openapi.json", "--max-examples", "10", "--no-color"),
            *(
                "-H",
                f"X-API-Key: {live.secrets['desk']}",
                "--exclude-path-regex",
                "session|tickets",
            ),
            *("--checks", "not_a_server_error,response_schema_conformance"),
            *("--phases", "examples,fuzzing,stateful", "--seed", "1"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await process.communicate()
        assert process.returncode == 0, printed.decode()[-4_000:]
