"""Our own page in a real browser: it is alive, it heals and says so, and nothing in it bites."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from telecast.channels.catalogue import CHANNELS
from telecast.journal import journal_from_url
from telecast.keys import KeyStore, create_key, revoke_key
from telecast.web.auth.cookies import sign_in_link
from tests.support.payloads import alert, metrics, position, price, trader
from tests.support.service.live import Live, principal, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

MINUS = "\N{MINUS SIGN}"
HEALS_MS = 60_000
"""Two reconnections of an EventSource, with jitter, take some ten seconds."""
ANSWER_MS = "ANSWER_MS = 2000;"
"""How long a tab waits for the one that holds the stream, as its script says it."""
NETWORK = "net::ERR_"
"""What Chromium logs itself while nobody answers: expected where a test takes the service away."""


class Visitor:
    """One person's browser: tabs that share cookies, and all that went wrong in them."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.problems: list[str] = []

    async def open(self, address: str) -> Any:
        page = await self.context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda fault: self.problems.append(f"error: {fault}"))
        page.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}"))
        await page.goto(address)
        return page

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")


@asynccontextmanager
async def visitor(browser: Any, *, outages: bool = False, **options: Any) -> AsyncIterator[Visitor]:
    """Fails where a page logged an error: a violation of its policy is one."""
    context = await browser.new_context(**{"viewport": {"width": 1360, "height": 900}} | options)
    visiting = Visitor(context)
    yield visiting
    await context.close()
    problems = [each for each in visiting.problems if not (outages and NETWORK in each)]
    assert not problems


async def signed_in(visiting: Visitor, live: Live) -> Any:
    """A tab that came by the link that the demo prints, and is live."""
    page = await visiting.open(live.url + sign_in_link(live.parts, principal().key_id))
    await word(page, "Live")
    assert urlsplit(page.url).fragment == ""
    return page


async def word(page: Any, text: str) -> None:
    await shows(page, "#state-word", text)


async def shows(page: Any, selector: str, text: str) -> None:
    """Wait until an element reads so; `text` may be part of it."""
    await page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.innerText.includes(text)",
        arg=[selector, text],
        timeout=HEALS_MS,
    )


async def note(page: Any, pattern: str) -> str:
    """Wait until what stands beside the state's word matches; returns it."""
    await page.wait_for_function(
        "(pattern) => new RegExp(pattern).test(document.querySelector('#state-note').innerText)",
        arg=pattern,
        timeout=HEALS_MS,
    )
    text: str = await page.inner_text("#state-note")
    return text


async def noting_words(page: Any) -> None:
    """Keep in `words` what the state's word becomes from now on: some words stay for a moment."""
    await page.evaluate(
        """() => {
            const word = document.querySelector("#state-word");
            window.words = [];
            new MutationObserver(() => words.push(word.innerText))
                .observe(word, { childList: true, characterData: true, subtree: true });
        }"""
    )


async def patient(visiting: Visitor) -> None:
    """Its tabs wait long for each other's answers: on a busy machine nobody is frozen."""

    async def rewritten(route: Any) -> None:
        answer = await route.fetch()
        script = await answer.text()
        assert ANSWER_MS in script
        await route.fulfill(response=answer, body=script.replace(ANSWER_MS, "ANSWER_MS = 60000;"))

    await visiting.context.route("**/page/share.js", rewritten)


async def role(page: Any, name: str) -> None:
    await page.wait_for_function(
        "(name) => document.documentElement.dataset.role === name", arg=name
    )


def cut(live: Live) -> None:
    """Every connection dies without a word."""
    for client in live.parts.clients:
        assert client.subscriber is not None
        client.subscriber.sink.abort()  # type: ignore[attr-defined]


async def desk(live: Live) -> None:
    """A little of everything."""
    await live.publish(
        "trader-status",
        trader("t1", name="Ada", strategy="trend", metrics=metrics()),
        trader("t2", name="Boris", status="ERROR", reason="margin call"),
    )
    await live.publish(
        "positions",
        position("p1", traderName="Ada"),
        position("p2", "t2", symbol="ETHUSDT", action="SHORT", unrealizedPnL="-1250.5"),
    )
    await live.publish(
        "risk-alerts",
        alert("a1", severity="INFO", message="Half of the budget is used."),
        alert("a2", None, severity="CRITICAL", message="Stop everything."),
    )
    await live.publish("market-data", price(), price("ETHUSDT", price="3480.55", change24h=-0.021))


async def test_the_page_is_alive(browser):
    async with served() as live, visitor(browser) as visiting:
        await desk(live)
        page = await signed_in(visiting, live)
        assert await note(page, "snapshot") == "from a snapshot of 8 rows"
        for section, texts in {
            "#positions": ("BTCUSDT", "Ada", "LONG", "+125.05", f"{MINUS}1,250.5"),
            "#trader-status": ("Ada", "trend", "RUNNING", "ERROR", "+80.00", "60%"),
            "#risk-alerts": ("CRITICAL", "Stop everything.", "all traders", "INFO"),
            "#market-data": ("BTCUSDT", "BINANCE", "67,250.10", f"{MINUS}2.10%"),
            "#sum-pnl": (f"{MINUS}1,125.45",),
        }.items():
            for text in texts:
                await shows(page, section, text)
        assert await page.get_attribute("#sum-pnl", "data-tone") == "loss"
        severities = await page.locator("#risk-alerts .chip").all_inner_texts()
        assert severities == ["CRITICAL", "INFO"]
        # and now it moves
        await live.publish("market-data", price(price="67300.00"))
        await live.publish("positions", position("p1", unrealizedPnL="300.00"))
        await live.publish("positions", position("p2", "t2", status="CLOSED", isActive=False))
        await shows(page, "#market-data", "67,300.00")
        await shows(page, "#sum-pnl", "+300.00")
        await page.wait_for_function(
            "() => document.querySelectorAll('#positions tbody tr').length === 1"
        )
        await shows(page, "#raw-list", '"67300.00"')
        await shows(page, "#sum-lag", "ms")


async def test_a_row_that_changes_keeps_its_element(browser):
    async with served() as live, visitor(browser) as visiting:
        await desk(live)
        page = await signed_in(visiting, live)
        row = await page.query_selector("#market-data tbody tr")
        await live.publish("market-data", price(price="1.5"))
        await shows(page, "#market-data", "1.5")
        assert await row.evaluate("row => row.isConnected && row.innerText.includes('1.5')")


async def test_a_key_signs_in_and_out(browser):
    async with served() as live, visitor(browser) as visiting:
        page = await visiting.open(live.url)
        await page.fill("#key", live.secrets["desk"])
        await page.press("#key", "Enter")
        await word(page, "Live")
        cookies = await visiting.context.cookies()
        assert [(each["httpOnly"], each["sameSite"]) for each in cookies] == [(True, "Strict")]
        other = await visiting.open(live.url)
        await word(other, "Live")
        await page.click("#sign-out")
        for tab in (page, other):
            await tab.wait_for_selector("#sign-in:not([hidden])")
        assert await visiting.context.cookies() == []
        await live.everybody_gone()


async def test_a_wrong_key_is_told(browser):
    async with served() as live, visitor(browser, outages=True) as visiting:
        page = await visiting.open(live.url)
        await page.fill("#key", "tc_nonsense")
        await page.press("#key", "Enter")
        await shows(page, "#sign-in-fault", "This key is not known here.")
        # Chromium logs every answer over 399 itself.
        visiting.problems = [each for each in visiting.problems if "status of 401" not in each]


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
        assert await note(page, "resumed") == f"resumed at {seq}, 3 replayed"
        await word(page, "Live")
        assert "Reconnecting" in await page.evaluate("words")
        await shows(page, "#positions", "SOLUSDT")
        await shows(page, "#market-data", "66,000.00")
        assert "Ada" not in await page.inner_text("#positions")
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
            assert await note(page, "resumed") == f"resumed at {head}, 0 replayed"
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
            assert await note(page, "needed") == "a snapshot was needed: EPOCH_CHANGED"
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


async def test_tabs_share_one_stream_and_survive_its_holder(browser):
    async with served() as live, visitor(browser) as visiting:
        await patient(visiting)
        await desk(live)
        first = await signed_in(visiting, live)
        await role(first, "leader")
        # A late one is given the rows, though nothing happens just now.
        second = await visiting.open(live.url)
        third = await visiting.open(live.url)
        for tab in (second, third):
            await role(tab, "follower")
            await word(tab, "Live")
            await shows(tab, "#positions", "Ada")
        assert len(live.parts.clients) == 1
        await live.publish("market-data", price(price="61000.00"))
        for tab in (first, second, third):
            await shows(tab, "#market-data", "61,000.00")
        await first.close()
        await second.wait_for_function(
            "() => ['leader', 'follower'].includes(document.documentElement.dataset.role)"
        )
        await note(second, "resumed at .*, 0 replayed")
        await note(third, "resumed at .*, 0 replayed")
        await live.until(lambda: len(live.parts.clients) == 1)
        await live.publish("market-data", price(price="62000.00"))
        for tab in (second, third):
            await shows(tab, "#market-data", "62,000.00")
        roles = {
            await tab.evaluate("document.documentElement.dataset.role") for tab in (second, third)
        }
        assert roles == {"leader", "follower"}


async def test_a_tab_that_can_not_share_has_a_stream_of_its_own(browser):
    async with served() as live, visitor(browser) as visiting:
        await visiting.context.add_init_script(
            "Object.defineProperty(Navigator.prototype, 'locks', { get: () => undefined })"
        )
        await desk(live)
        first = await signed_in(visiting, live)
        second = await visiting.open(live.url)
        for tab in (first, second):
            await role(tab, "alone")
            await shows(tab, "#positions", "Ada")
        assert len(live.parts.clients) == 2


POISON = (
    '<img src=x onerror="alert(1)">',
    "</script><script>alert(1)</script>",
    "\u202etxet desrever",
    "__proto__",
    "constructor",
    "{{7*7}} ${7*7}",
    "'\"><svg onload=alert(1)>",
    "\u0301\u0301\u0301" * 40 + "z",
    "w" * 128,
)


async def test_poison_is_text_and_nothing_else(browser):
    async with served() as live, visitor(browser) as visiting:
        page = await signed_in(visiting, live)
        before = await page.evaluate("document.querySelectorAll('img, script, svg').length")
        for index, text in enumerate(POISON):
            await live.publish(
                "positions", position(f"{index}{text}"[:128], symbol=text[:128], traderName=text)
            )
            await live.publish("trader-status", trader(text[:128], name=text, strategy=text))
            await live.publish("risk-alerts", alert(text[:128], message=text))
        await page.wait_for_function(
            "(many) => document.querySelectorAll('#risk-alerts tbody tr').length === many",
            arg=len(POISON),
        )
        after = await page.evaluate("document.querySelectorAll('img, script, svg').length")
        assert after == before
        for section in ("#positions", "#trader-status", "#risk-alerts"):
            reported = await page.locator(f"{section} tbody .main").all_text_contents()
            assert set(POISON) <= set(reported), section
        assert await page.evaluate("document.documentElement.scrollWidth") <= 1360


async def test_the_policy_stops_what_would_get_past_it(browser):
    async with served() as live, visitor(browser) as visiting:
        page = await signed_in(visiting, live)
        ran = await page.evaluate(
            """() => new Promise((resolve) => {
                const broken = (event) => resolve(event.effectiveDirective);
                addEventListener("securitypolicyviolation", broken);
                const script = document.createElement("script");
                script.textContent = "document.title = 'run'";
                document.head.append(script);
            })"""
        )
        assert ran == "script-src-elem"
        assert await page.title() == "Telecast"
        assert len(visiting.problems) == 1
        visiting.problems.clear()


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


async def test_messages_can_be_held_still_and_filtered(browser):
    async with served() as live, visitor(browser) as visiting:
        await desk(live)
        page = await signed_in(visiting, live)
        await shows(page, "#raw-list", "market-data")
        await page.select_option("#raw-filter", "risk-alerts")
        await page.wait_for_function("() => document.querySelectorAll('#raw-list li').length === 2")
        await page.click("#raw-pause")
        await live.publish("risk-alerts", alert("a3"))
        await shows(page, "#risk-alerts .count", "3")
        await shows(page, "#raw-count", "1 newer")
        assert await page.locator("#raw-list li").count() == 2
        await page.click("#raw-pause")
        await page.wait_for_function("() => document.querySelectorAll('#raw-list li').length === 3")


FOLD = """async (messages) => {
    const { Store } = await import("/page/store.js");
    const store = new Store();
    for (const message of messages) store.apply(message);
    return [...store.of("positions")].map(([key, { data }]) => [key, data]);
}"""


def reported(op: str, key: str, data: str = "") -> dict[str, Any]:
    return {"type": "event", "channel": "positions", "op": op, "key": key, "seq": 1, "data": data}


SNAPSHOT = {"type": "snapshot", "channels": ["positions"], "reason": "NEW"}
LIVE = {"type": "live", "count": 1, "position": "abcd:1"}


@pytest.mark.parametrize(
    ("messages", "rows"),
    [
        pytest.param(
            [reported("upsert", "a", "1"), reported("upsert", "a", "2"), reported("upsert", "b")],
            [["a", "2"], ["b", ""]],
            id="an upsert is the whole row",
        ),
        pytest.param(
            [reported("upsert", "a"), reported("delete", "a"), reported("delete", "b")],
            [],
            id="a delete takes it away, and one for nothing does nothing",
        ),
        pytest.param(
            [reported("upsert", "ghost"), SNAPSHOT, reported("upsert", "a"), LIVE],
            [["a", ""]],
            id="a snapshot is complete: other rows are forgotten",
        ),
        pytest.param(
            [reported("upsert", "a"), SNAPSHOT, {"type": "welcome"}, reported("upsert", "b"), LIVE],
            [["a", ""], ["b", ""]],
            id="a snapshot that was cut short counts for nothing",
        ),
        pytest.param(
            [reported("upsert", "a"), {"type": "ack", "channels": ["risk-alerts"]}],
            [],
            id="what may not be read any more is not shown any more",
        ),
        pytest.param(
            [reported("upsert", "a"), {"type": "something-new", "channels": ["positions"]}],
            [["a", ""]],
            id="unknown types are ignored",
        ),
    ],
)
async def test_the_page_folds_the_stream_as_the_contract_says(browser, messages, rows):
    async with served() as live, visitor(browser) as visiting:
        page = await visiting.open(live.url)
        assert await page.evaluate(FOLD, messages) == rows


async def test_sums_are_exact(browser):
    async with served() as live, visitor(browser) as visiting:
        page = await visiting.open(live.url)
        for texts, total in (
            (["0.1", "0.2"], "0.3"),
            (["-0.05", "0.049"], "-0.001"),
            (["9007199254740993", "0.000000001", "-1"], "9007199254740992.000000001"),
            (["1", "nonsense", None, "-1.00"], "0.00"),
            ([], "0"),
        ):
            found = await page.evaluate(
                "async (texts) => (await import('/page/format.js')).sum(texts)", texts
            )
            assert found == total


async def test_a_holder_that_is_frozen_is_not_waited_for(browser):
    async with served() as live, visitor(browser) as visiting:
        await desk(live)
        frozen = await visiting.open(live.url)  # not signed in: it has no stream itself
        await frozen.evaluate(
            """() => new Promise((held) => navigator.locks.request("telecast stream 1", () => {
                held();
                return new Promise(() => {});
            }))"""
        )
        page = await signed_in(visiting, live)
        await role(page, "alone")
        await shows(page, "#positions", "Ada")


async def test_the_lag_knows_that_clocks_differ(browser):
    async with served() as live, visitor(browser) as visiting:
        page = await visiting.open(live.url)
        offset, doubt, lag = await page.evaluate(
            """async () => {
                const { Clock } = await import("/page/clock.js");
                const clock = new Clock();
                const now = () => performance.timeOrigin + performance.now();
                await clock.measure(async () => now() + 5000);
                const at = Date.now();
                clock.event(at + 5000 - 20, at);
                return [clock.offset, clock.doubt, clock.lag(at)];
            }"""
        )
        assert abs(offset - 5000) <= doubt + 1
        assert abs(lag - 20) <= doubt + 2
