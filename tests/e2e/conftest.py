"""A browser, where there is one. Without Chromium or playwright these tests are skipped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.support.browser import chromium


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    """Chromium, for tests whose loop is the session's too; each has a context of its own in it."""
    async with chromium() as browser:
        yield browser
