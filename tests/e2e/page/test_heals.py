"""The page heals after cuts, restarts and another journal, and says how."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.journal import journal_from_url
from telecast.keys import KeyStore, create_key, revoke_key
from tests.support.browser import (
    HEALS_MS,
    cut,
    desk,
    logged,
    noting_words,
    shows,
    signed_in,
    visitor,
    word,
)
from tests.support.payloads import position, price
from tests.support.service.live import principal, served

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_cut_heals_and_says_how(browser):
    async with served() as live, visitor(browser, outages=True) as visiting:
        await desk(live)
        page = await signed_in(visiting, live)
        seq = live.parts.broadcaster.tape.head
        await noting_words(page)
        cut(live)
        await live.everybody_gone()
        await live.publish("positions", position("p3", symbol="SOLUSDT"))
        await live.publish("positions", position("p1", status="CLOSED", isActive=False))
        await live.publish("market-data", price(price="66000.00"))
        await logged(page, f"resumed at {seq}, 3 replayed$")
        await word(page, "Live")
        assert "Reconnecting" in await page.evaluate("words")
        await shows(page, "#positions", "SOLUSDT")
        await shows(page, "#market-data", "66,000.00")
        assert await page.locator("#positions tr[data-key=p1]").count() == 0
        await page.click("#story summary")
        assert re.search(
            r"resumed.*the connection was lost.*snapshot",
            await page.inner_text("#story"),
            re.DOTALL,
        )


def durable(folder: Path) -> Any:
    """What a service that starts again finds: its keys, its secret, its journal."""
    holder = principal()
    keys, issued = KeyStore.of(holder, now=lambda: 0.0)
    secrets = {holder.name: issued[holder.key_id]}

    def start(port: int = 0, name: str = "telecast.db") -> Any:
        journal = journal_from_url(
            f"sqlite:{folder / name}", {each: CHANNELS[each].retention for each in CHANNELS}
        )
        return served(keys=keys, secrets=secrets, secret=b"s" * 32, journal=journal, port=port)

    return start


async def test_a_restart_heals_without_a_gap(browser, tmp_path):
    start = durable(tmp_path)
    async with visitor(browser, outages=True) as visiting:
        async with start() as live:
            await desk(live)
            page = await signed_in(visiting, live)
            port = urlsplit(live.url).port
            head = live.parts.broadcaster.tape.head
        await word(page, "Reconnecting")
        await shows(page, "#notice", "SHUTTING_DOWN")
        async with start(port) as live:
            await logged(page, f"resumed at {head}, 0 replayed$")
            await word(page, "Live")
            assert not await page.is_visible("#notice")
            await live.publish("market-data", price(price="65000.00"))
            await shows(page, "#market-data", "65,000.00")
            await shows(page, "#positions", "Ada")


async def test_another_journal_leaves_no_ghosts(browser, tmp_path):
    start = durable(tmp_path)
    async with visitor(browser, outages=True) as visiting:
        async with start() as live:
            await desk(live)
            page = await signed_in(visiting, live)
            port = urlsplit(live.url).port
        async with start(port, "another.db") as live:
            await logged(page, "a snapshot was needed: EPOCH_CHANGED$")
            await word(page, "Live")
            await shows(page, "#positions", "No open positions.")
            assert await page.locator("tbody tr").count() == 0


async def test_a_revoked_key_is_final_until_somebody_signs_in(browser, tmp_path):
    file = tmp_path / "keys.toml"
    secrets = {"desk": create_key(file, "desk", ["read"])}
    keys = KeyStore(file, now=lambda: 0.0)
    keys.load()
    async with (
        served(keys=keys, secrets=secrets) as live,
        visitor(browser, outages=True) as visiting,
    ):
        page = await visiting.open(live.url)
        await page.fill("#key", secrets["desk"])
        await page.press("#key", "Enter")
        await word(page, "Live")
        revoke_key(file, "desk")
        new = create_key(file, "desk again", ["read"])
        keys.reload_if_changed()
        await live.parts.clients.recheck()
        await page.wait_for_selector("#sign-in:not([hidden])", timeout=HEALS_MS)
        await shows(page, "#sign-in-why", "revoked or has expired")
        await page.fill("#key", new)
        await page.press("#key", "Enter")
        await word(page, "Live")
        visiting.problems = [each for each in visiting.problems if "status of 401" not in each]
