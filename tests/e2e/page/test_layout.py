"""The page on any screen, and as somebody wants it."""

from __future__ import annotations

import pytest

from tests.support.browser import (
    desk,
    shows,
    signed_in,
    visitor,
)
from tests.support.service.live import served

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_phone_needs_no_sideways_scrolling(browser):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    async with served() as live, visitor(browser, **phone) as visiting:
        await desk(live)
        page = await signed_in(visiting, live)
        await shows(page, "#positions", "Ada")
        wide = await page.evaluate(
            """() => [document.documentElement, ...document.querySelectorAll(".scroller")]
                .map((each) => each.scrollWidth - each.clientWidth)"""
        )
        assert max(wide) == 0
