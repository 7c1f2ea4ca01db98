"""The sample dashboard with its server, in a browser: it recovers, and dims what is not live."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from telecast.testing.relay import relay
from tests.support.payloads import position
from tests.support.service.live import served
from tests.support.service.process import free_port

SAMPLE = Path(__file__).parents[2] / "samples" / "dashboard"
STATE = "document.querySelector('#state').textContent"
LIVE = f"{STATE} === 'live'"
DIMMED = "!document.querySelector('#table').classList.contains('live')"

pytestmark = pytest.mark.asyncio(loop_scope="session")


def application(monkeypatch: pytest.MonkeyPatch, url: str, key: str) -> web.Application:
    """The sample's own, as `python server.py` would serve it."""
    monkeypatch.setenv("TELECAST_URL", url)
    monkeypatch.setenv("TELECAST_KEY", key)
    monkeypatch.syspath_prepend(str(SAMPLE))
    sys.modules.pop("server", None)
    import server  # type: ignore[import-not-found]

    app: web.Application = server.app
    return app


@asynccontextmanager
async def dashboard(browser: Any, app: web.Application, port: int) -> AsyncIterator[Any]:
    """The page, served on this port."""
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    context = await browser.new_context()
    try:
        page = await context.new_page()
        await page.goto(f"http://127.0.0.1:{port}")
        yield page
    finally:
        await context.close()
        await runner.cleanup()


async def test_the_dashboard_asks_whether_its_origin_is_listed_where_it_gets_no_answer(
    browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    async with served() as live:
        app = application(monkeypatch, live.url, live.secrets["desk"])
        async with dashboard(browser, app, port) as page:
            await page.wait_for_function(f"{STATE}.includes('--allowed-origins')")
            assert f"http://127.0.0.1:{port}" in await page.inner_text("#state")


async def test_the_dashboard_shows_rows_and_dims_them_while_the_service_is_away(
    browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    origins = (f"http://127.0.0.1:{port}",)
    async with served(allowed_origins=origins) as live, relay(live.url) as line:
        await live.publish("positions", position("p1", symbol="BTCUSDT"))
        app = application(monkeypatch, line.url, live.secrets["desk"])
        async with dashboard(browser, app, port) as page:
            await page.wait_for_function(LIVE)
            assert "BTCUSDT" in await page.inner_text("#table")
            line.refuses = True
            line.cut()
            await page.wait_for_function(DIMMED)
            await live.publish("positions", position("p2", symbol="ETHUSDT"))
            line.refuses = False
            await page.wait_for_function(LIVE)
            await page.wait_for_function(
                "document.querySelector('#table').textContent.includes('ETHUSDT')"
            )
