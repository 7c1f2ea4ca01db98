"""The tutorial of docs/own-channels.md, from its ten lines to types."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from telecast.channel_file import read_catalogue
from telecast.channels.configured import catalogue_from
from tests.support.browser import shows, visitor, word
from tests.support.payloads import ORDERS
from tests.support.service.process import Service

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/own-channels.md").read_text("utf-8")
BLOCKS = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
TSC = ROOT / "tests/specs/node_modules/typescript/bin/tsc"


async def telecast(folder: Path, *words: str, service: Service | None = None) -> str:
    """What a command prints, where it ends with 0."""
    told = {} if service is None else {"TELECAST_URL": service.url, "TELECAST_KEY": service.key}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telecast", *words),
        cwd=folder,
        env={**os.environ, **told},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    return printed.decode()


def test_every_table_on_the_page_is_right() -> None:
    assert len(BLOCKS) == 3
    schema = orjson.dumps(catalogue_from(ORDERS)["orders"].json_schema).decode()
    for block in BLOCKS:
        catalogue_from(block, read=lambda name: schema)


def test_a_channel_is_ten_lines() -> None:
    assert len(BLOCKS[0].splitlines()) <= 10


async def test_from_ten_lines_to_a_stream_and_to_types(tmp_path: Path) -> None:
    file = tmp_path / "channels.toml"
    file.write_text(BLOCKS[0])
    assert "funding" in await telecast(tmp_path, "channels", "check", "channels.toml")
    row = read_catalogue(file)["funding"].example
    service = Service(tmp_path, channels=file)
    await service.start()
    try:
        assert "funding" in await telecast(tmp_path, "channels", service=service)
        await telecast(tmp_path, "pub", "funding", orjson.dumps(row).decode(), service=service)
        shown = await telecast(tmp_path, "snapshot", "funding", "--json", service=service)
        assert orjson.loads(shown.splitlines()[0])["data"] == row
        async with aiohttp.ClientSession(headers=service.headers) as session:
            async with session.get(f"{service.url}/docs") as page:
                assert 'id="funding"' in await page.text()
            async with session.get(f"{service.url}/types.d.ts") as types:
                assert "export interface FundingRow {" in await types.text()
        printed = await telecast(tmp_path, "types", "python", "--channels", "channels.toml")
        assert "class FundingPayload(TypedDict):" in printed
    finally:
        service.kill()
        await service.gone()


@pytest.mark.asyncio(loop_scope="session")
async def test_the_page_shows_the_channel_without_any_change_of_the_page(
    browser: Any, tmp_path: Path
) -> None:
    file = tmp_path / "channels.toml"
    file.write_text(BLOCKS[0])
    row = read_catalogue(file)["funding"].example
    service = Service(tmp_path, channels=file)
    await service.start()
    try:
        async with visitor(browser) as visiting:
            page = await visiting.open(service.url)
            await page.fill("#key", service.key)
            await page.press("#key", "Enter")
            await word(page, "Live")
            await telecast(tmp_path, "pub", "funding", orjson.dumps(row).decode(), service=service)
            await shows(page, "#desk", row["rate"])
            assert row["note"] in await page.inner_text("#desk")
    finally:
        service.kill()
        await service.gone()


async def test_the_types_of_the_page_compile(tmp_path: Path) -> None:
    if not TSC.is_file() or shutil.which("node") is None:
        pytest.skip("needs tox -e specs, and node")
    (tmp_path / "channels.toml").write_text(BLOCKS[0])
    printed = await telecast(tmp_path, "types", "typescript", "--channels", "channels.toml")
    (tmp_path / "channels.d.ts").write_text(printed)
    (tmp_path / "user.ts").write_text(
        'import type { FundingRow } from "./channels";\n'
        "export const rate = (row: FundingRow): string => row.rate;\n"
    )
    process = await asyncio.create_subprocess_exec(
        "node", str(TSC), "--noEmit", "--strict", "user.ts", cwd=tmp_path
    )
    assert await process.wait() == 0
