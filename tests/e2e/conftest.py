"""A browser, where there is one. Without Chromium or playwright these tests are skipped."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.browser import chromium


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    """Chromium, for tests whose loop is the session's too; each has a context of its own in it."""
    async with chromium() as browser:
        yield browser


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where only the browser's tests are wanted, the others here run elsewhere: once is enough."""
    if not os.environ.get("TELECAST_BROWSER_ONLY"):
        return
    others = [each for each in items if "browser" not in getattr(each, "fixturenames", ())]
    config.hook.pytest_deselected(items=others)
    items[:] = [each for each in items if each not in others]
