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
