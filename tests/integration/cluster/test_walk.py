"""docs/several-nodes.md, pasted from top to bottom on free ports: a client's node is killed and it
goes on at another; of two desks at two nodes one is first with an alert."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.test_docs import DOCS, Reader, paste, pasted
from tests.support.service.nats import program
from tests.support.service.process import free_port

PAGE = DOCS / "several-nodes.md"
DOCUMENTED = ("4222", "8081", "8082", "8083")

pytestmark = pytest.mark.skipif(program() is None, reason="no nats-server is to be had")


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    own = Reader(tmp_path)
    try:
        yield own
    finally:
        await own.close()
        for file in own.folder.glob("*.pid"):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text()), signal.SIGKILL)


async def test_the_walk_over_three_nodes_shows_what_the_page_says(reader: Reader) -> None:
    ports = {port: str(free_port()) for port in DOCUMENTED}
    for block in pasted(PAGE):
        text = block.text
        for documented, port in ports.items():
            text = text.replace(documented, port)
        await paste(replace(block, text=text), reader)
