"""Programs on telecast.client and telecast.js whose lines break anywhere lose nothing and get
nothing twice. `TELECAST_CLIENT_CUTS` says how often each stream that is followed is cut.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checking.programs import torment

CUTS = int(os.environ.get("TELECAST_CLIENT_CUTS", "5"))
NODE = shutil.which("node")
MOST_SECONDS = 120 + 20 * CUTS


def has_websocket() -> bool:
    if NODE is None:
        return False
    asked = (NODE, "--experimental-websocket", "-p", "typeof WebSocket")
    said = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    return said.stdout.strip() == "function"


@pytest.mark.timeout(2 * MOST_SECONDS)
async def test_over_lines_that_break_anywhere_and_kills_nothing_is_lost_and_nothing_comes_twice(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with asyncio.timeout(MOST_SECONDS):
        figures = await torment(
            tmp_path, CUTS, node=NODE, in_node=("ws", "sse") if has_websocket() else ("sse",)
        )
    for name, figure in figures.items():
        record_property(name, figure)
        print(f"{name}: {figure}")
