"""The pictures of the page in docs/images, made anew from the demo, in Chromium; some minutes.

    tox -e e2e --notest
    .tox/e2e/bin/python -m docs.pictures              # all of them
    .tox/e2e/bin/python -m docs.pictures desk stale   # some

Look at each before it is committed.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from playwright.async_api import async_playwright

from bench.machine import free_port
from telecast.keys import create_key

IMAGES = Path(__file__).parent / "images"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
DESK = {"width": 1600, "height": 1000}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
LATER_MS = 120_000
OURS = [
    "acknowledgedAt",
    "acknowledgedBy",
    "activeSince",
    "count",
    "escalatedAt",
    "lastSeenAt",
    "note",
]
"""What the service adds to an alert: nobody publishes it."""


class Demo:
    """`telecast demo` as a process of its own, on a port that is free."""

    def __init__(self, process: Any, greeting: str) -> None:
        self.process = process
        link = re.search(r"http://\S+#ticket=\S+", greeting)
        key = re.search(r"tc_\w+", greeting)
        assert link is not None, greeting
        assert key is not None, greeting
        self.link, self.key = link[0], key[0]
        self.url = self.link.partition("/#")[0]


@asynccontextmanager
async def demo(*flags: str) -> AsyncIterator[Demo]:
    command = [sys.executable, "-m", "telecast", "demo", "--port", "0", *flags]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe)
    assert process.stdout is not None
    greeting = ""
    while "#ticket=" not in greeting or "tc_" not in greeting:
        line = await process.stdout.readline()
        assert line, greeting
        greeting += line.decode()
    reading = asyncio.ensure_future(process.stdout.read())
    try:
        yield Demo(process, greeting)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


class Line:
    """A way to the service that can be made slow."""

    bytes_per_second: float | None = None

    def __init__(self, url: str) -> None:
        self._port = urlsplit(url).port

    async def _carry(self, reader: Any, writer: Any, *, slowly: bool) -> None:
        try:
            while piece := await reader.read(1024):
                if slowly and self.bytes_per_second:
                    await asyncio.sleep(len(piece) / self.bytes_per_second)
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def connected(self, reader: Any, writer: Any) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port, limit=2048)
        ways = self._carry(reader, back, slowly=False), self._carry(there, writer, slowly=True)
        await asyncio.gather(*ways)


async def save(page: Any, name: str) -> None:
    await page.screenshot(path=IMAGES / f"{name}.png")
    print(f"docs/images/{name}.png")


async def word(page: Any, text: str, selector: str = "#state-word") -> None:
    await page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.innerText.includes(text)",
        arg=[selector, text],
        timeout=LATER_MS,
    )


async def critical(page: Any) -> None:
    """Until there is a critical alert that nobody has acknowledged."""
    await page.wait_for_selector("#critical:not([hidden])", timeout=LATER_MS)


async def sign_in(page: Any, running: Demo) -> None:
    """By the key, for those who come after the link was used."""
    await page.goto(running.url)
    await page.fill("#key", running.key)
    await page.check("#operate")
    await page.press("#key", "Enter")
    await word(page, "Live")


async def desk(browser: Any) -> None:
    """The desk, the same in the dark, on a phone, and an alert acknowledged on two screens."""
    async with demo() as running:
        await asyncio.sleep(90)  # the demo's traders trade
        page = await browser.new_page(viewport=DESK)
        await page.goto(running.link)
        await critical(page)
        await page.wait_for_timeout(3000)
        await save(page, "page")
        dark = await browser.new_page(viewport=DESK, color_scheme="dark")
        await sign_in(dark, running)
        await dark.select_option("#positions .group-by", "quote")
        await dark.wait_for_timeout(2000)
        await save(dark, "page-dark")
        await dark.close()
        phone = await browser.new_page(**PHONE)
        await sign_in(phone, running)
        await critical(phone)
        await phone.wait_for_timeout(1000)
        await save(phone, "page-phone")
        await page.bring_to_front()
        await page.keyboard.press("a")
        await page.fill("#take-note", "I am calling the desk.")
        await page.press("#take-note", "Enter")
        await word(phone, "I am calling", "#risk-alerts")
        await word(page, "I am calling", "#risk-alerts")
        seen = "tr[data-key]:has-text('I am calling')"
        await page.locator(f"#risk-alerts {seen}").scroll_into_view_if_needed()
        ours = await page.locator("#risk-alerts").screenshot()
        await phone.locator(f"#risk-alerts {seen}").evaluate(
            "row => row.scrollIntoView({ block: 'center' })"
        )
        await phone.wait_for_timeout(500)
        await beside(browser, "page-alert", ours, await phone.screenshot())
        await phone.close()
        await page.close()


async def beside(browser: Any, name: str, *pictures: bytes) -> None:
    """Two screens as one picture."""
    page = await browser.new_page(viewport={"width": 1200, "height": 740})
    images = "".join(
        f"<img src='data:image/png;base64,{base64.b64encode(each).decode()}'>" for each in pictures
    )
    style = (
        "body { margin: 0; display: flex; gap: 24px; align-items: flex-start; padding: 20px;"
        "background: #e4e1d8; width: max-content } img { max-height: 700px; border-radius: 12px }"
    )
    await page.set_content(f"<style>{style}</style>{images}")
    await page.wait_for_function("() => [...document.images].every(({ complete }) => complete)")
    await page.locator("body").screenshot(path=IMAGES / f"{name}.png")
    print(f"docs/images/{name}.png")
    await page.close()


async def slow(browser: Any) -> None:
    """A line that is too slow, and a service that is killed."""
    async with demo() as running:
        line = Line(running.url)
        server = await asyncio.start_server(line.connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await asyncio.sleep(30)
        page = await browser.new_page(viewport={"width": 1360, "height": 900})
        await page.goto(running.link.replace(running.url, f"http://127.0.0.1:{port}"))
        await word(page, "Live")
        await page.wait_for_timeout(3000)
        line.bytes_per_second = 600
        await word(page, "Delayed")
        await page.wait_for_timeout(4000)
        await save(page, "page-lagging")
        line.bytes_per_second = None
        await word(page, "Live")
        running.process.kill()
        server.close()
        await word(page, "Service down")
        await page.wait_for_timeout(1000)
        await save(page, "page-down")
        await page.close()


class Service:
    """`telecast serve` with a key, and what a demo has published so far."""

    def __init__(self, url: str, key: str, session: aiohttp.ClientSession) -> None:
        self.url, self.key, self._session = url, key, session
        self._headers = {"X-API-Key": key}

    async def publish(self, channel: str, rows: list[Any]) -> None:
        address = f"{self.url}/api/v1/channels/{channel}/events"
        async with self._session.post(address, json=rows, headers=self._headers) as answer:
            assert answer.status == 201, await answer.text()


async def rows_of(session: aiohttp.ClientSession, running: Demo, channel: str) -> list[Any]:
    address = f"{running.url}/api/v1/channels/{channel}/snapshot"
    async with session.get(address, headers={"X-API-Key": running.key}) as answer:
        rows = [row["data"] for row in (await answer.json())["data"]["rows"]]
    return [{field: row[field] for field in row if field not in OURS} for row in rows]


@asynccontextmanager
async def service(folder: Path) -> AsyncIterator[Service]:
    keys, port = folder / "keys.toml", free_port()
    key = create_key(keys, "desk", ["read", "publish", "operate"])
    flags = ["--port", str(port), "--journal", "memory:", "--keys", str(keys)]
    flags += ["--secret-file", str(folder / "secret"), "--drain-seconds", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "telecast", "serve", *flags
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session:
            for _ in range(100):
                try:
                    async with session.get(f"{url}/readyz") as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)
            yield Service(url, key, session)
    finally:
        process.terminate()
        await process.wait()


async def stale(browser: Any) -> None:
    """Prices that nobody publishes any more, while all else goes on."""
    channels = ("trader-status", "positions", "risk-alerts", "market-data")
    with tempfile.TemporaryDirectory() as folder:
        async with demo() as running, aiohttp.ClientSession() as session:
            await asyncio.sleep(45)
            rows = {each: await rows_of(session, running, each) for each in channels}
        async with service(Path(folder)) as desk:
            for channel, found in rows.items():
                await desk.publish(channel, found)
            page = await browser.new_page(viewport={"width": 1360, "height": 900})
            await page.goto(desk.url)
            await page.fill("#key", desk.key)
            await page.check("#operate")
            await page.press("#key", "Enter")
            for _ in range(38):
                for channel in channels[:2]:
                    await desk.publish(channel, rows[channel])
                await asyncio.sleep(1)
            await word(page, "Stale")
            await save(page, "page-stale")
            await page.close()


async def views(browser: Any) -> None:
    """The operator's view with a client that reads nothing, and the debugger."""
    async with demo() as running, aiohttp.ClientSession() as session:
        headers = {"X-API-Key": running.key}
        streams = f"{running.url}/sse/telemetry?channels=market-data&delivery=all&clientId="
        slow = await asyncio.to_thread(unread, running)
        readers = [await session.get(streams + "bot-7", headers=headers)]
        sockets = [
            await session.ws_connect(f"{running.url}/ws/telemetry?{query}", headers=headers)
            for query in ("channels=positions&clientId=risk-desk", "clientId=wall-3")
        ]
        reading = [asyncio.ensure_future(follow(each)) for each in sockets]
        await asyncio.sleep(30)
        page = await browser.new_page(viewport=DESK)
        await page.goto(running.link)
        await word(page, "Live")
        for panel, keys in (("operator", "go"), ("debug", "gd")):
            for key in keys:
                await page.keyboard.press(key)
            await page.wait_for_selector(f"#{panel}", state="visible")
            maximise = f"document.querySelector('#{panel} .maximise').click()"
            await page.evaluate(maximise)
            if panel == "operator":
                await page.fill("#operator input[type=password]", running.key)
                await page.press("#operator input[type=password]", "Enter")
                await word(page, "risk-desk", "#operator")
                await page.wait_for_timeout(5000)
                await save(page, "page-operator")
                await page.evaluate(maximise)
                continue
            await page.fill("#debug input[name=channels]", "market-data, positions")
            await page.click("#debug .debug-form .primary")
            await page.wait_for_timeout(4000)
            await page.click("#debug .debug-cut")
            await page.wait_for_timeout(1500)
            await page.click("#debug .debug-change")
            await page.click("#debug-diff")
            await page.click("#debug .debug-copy summary")
            await page.wait_for_timeout(3000)
            await save(page, "page-debugger")
        for each in reading:
            each.cancel()
        for answer in readers:
            answer.close()
        slow.close()
        await page.close()


def unread(running: Demo) -> socket.socket:
    """A client whose socket is soon full: it never reads."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    line.connect(("127.0.0.1", urlsplit(running.url).port))
    path = "/sse/telemetry?delivery=all&clientId=recorder"
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {running.key}\r\n\r\n"
    line.sendall(head.encode())
    return line


async def follow(stream: aiohttp.ClientWebSocketResponse) -> None:
    async for _ in stream:
        pass


SCENES: dict[str, Callable[[Any], Awaitable[None]]] = {
    "desk": desk,
    "slow": slow,
    "stale": stale,
    "views": views,
}


async def main(names: list[str]) -> None:
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        for name in names or SCENES:
            await SCENES[name](browser)
        await browser.close()


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(SCENES)
    if unknown:
        sys.exit(f"No such scene: {', '.join(sorted(unknown))}. There are {', '.join(SCENES)}.")
    asyncio.run(main(sys.argv[1:]))
