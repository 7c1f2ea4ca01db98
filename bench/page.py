"""The page itself: 10,000 positions of which 500 a second change, watched through the DevTools
protocol.

    tox -e e2e --notest
    .tox/e2e/bin/python -m bench.page --seconds 60

It needs Chromium, and shows figures; nothing is asserted, since they are this machine's.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import click
import orjson

from bench.machine import description, free_port
from bench.tasks import CATEGORIES, LongTask, long_tasks
from telecast.keys import create_key

ROWS, BATCH, TRADERS = 10_000, 25, 40
LONG_MS = 50
WATCH = """(() => {
    window.bench = { frames: [], long: [], since: 0 };
    new PerformanceObserver((list) => {
        for (const each of list.getEntries()) bench.long.push([each.startTime, each.duration]);
    }).observe({ type: "longtask", buffered: true });
})()"""
FRAMES = """() => {
    bench.since = performance.now();
    const frame = (at) => { bench.frames.push(at); requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
}"""
SCROLL = """() => {
    const box = document.querySelector("#positions .scroller");
    let down = true;
    setInterval(() => {
        box.scrollTop += down ? 40 : -40;
        if (box.scrollTop <= 0) down = true;
        if (box.scrollTop + box.clientHeight >= box.scrollHeight - 1) down = false;
    }, 16);
}"""


def position(number: int, profit: int) -> dict[str, Any]:
    symbol = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XBTUSD")[number % 4]
    return {
        "id": f"p{number:05}",
        "traderId": f"t{number % TRADERS}",
        "traderName": f"Trader {number % TRADERS}",
        "symbol": symbol,
        "exchange": "BINANCE",
        "action": "LONG",
        "quantity": "0.50",
        "entryPrice": "67000.00",
        "currentPrice": f"{67000 + profit / 100:.2f}",
        "unrealizedPnL": f"{profit / 100:.2f}",
        "status": "OPEN",
        "isActive": True,
        "updatedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


@asynccontextmanager
async def service(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """A service of its own: its address and a key."""
    keys, port = folder / "keys.toml", free_port()
    key = create_key(keys, "bench", ["read", "publish"])
    flags = ["--port", str(port), "--journal", "memory:", "--keys", str(keys)]
    flags += ["--secret-file", str(folder / "secret"), "--log-level", "warning"]
    command = [sys.executable, "-m", "telecast", "serve", *flags, "--drain-seconds", "0"]
    process = await asyncio.create_subprocess_exec(*command)
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
        yield url, key
    finally:
        process.terminate()
        await process.wait()


async def publish(session: aiohttp.ClientSession, url: str, key: str, rows: list[Any]) -> None:
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    path = f"{url}/api/v1/channels/positions/events"
    async with session.post(path, data=orjson.dumps(rows), headers=headers) as answer:
        answer.raise_for_status()


async def keep_publishing(url: str, key: str, rate: int) -> None:
    """`rate` positions a second change, some of them in each twentieth of a second."""
    began, number = time.monotonic(), 0
    async with aiohttp.ClientSession() as session:
        while True:
            rows = [position((number + i) * 7919 % ROWS, number + i) for i in range(BATCH)]
            await publish(session, url, key, rows)
            number += BATCH
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))


async def heap(cdp: Any) -> float:
    """MiB that the page's JavaScript holds after a collection."""
    await cdp.send("HeapProfiler.collectGarbage")
    found = await cdp.send("Runtime.getHeapUsage")
    return float(found["usedSize"]) / 2**20


async def measure(
    seconds: int, rate: int, scroll: bool, trace: bool
) -> tuple[dict[str, str], list[LongTask]]:
    from playwright.async_api import async_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder:
        async with service(Path(folder)) as (url, key), async_playwright() as playwright:
            async with aiohttp.ClientSession() as session:
                for start in range(0, ROWS, 500):
                    rows = [position(number, number) for number in range(start, start + 500)]
                    await publish(session, url, key, rows)
            arguments = ["--no-sandbox", "--enable-precise-memory-info"]
            browser = await playwright.chromium.launch(executable_path=chromium, args=arguments)
            page = await browser.new_page(viewport={"width": 1600, "height": 1000})
            await page.add_init_script(WATCH)
            await page.goto(url)
            await page.fill("#key", key)
            if trace:
                await browser.start_tracing(page=page, categories=CATEGORIES)
            began = time.monotonic()
            await page.press("#key", "Enter")
            full = "() => document.querySelector('#positions .count')?.innerText === '10,000'"
            await page.wait_for_function(full, timeout=60_000)
            shown = time.monotonic() - began
            going = asyncio.create_task(keep_publishing(url, key, rate))
            await asyncio.sleep(3)
            cdp = await page.context.new_cdp_session(page)
            # By the CPU that the thread has had: a machine that is busy elsewhere counts less.
            await cdp.send("Performance.enable", {"timeDomain": "threadTicks"})
            before = await heap(cdp)
            await page.evaluate(FRAMES)
            if scroll:
                await page.evaluate(SCROLL)
            start = await metrics(cdp)
            await asyncio.sleep(seconds)
            end = await metrics(cdp)
            events = orjson.loads(await browser.stop_tracing())["traceEvents"] if trace else []
            found: dict[str, Any] = await page.evaluate("bench")
            after = await heap(cdp)
            word = await page.inner_text("#state-word")
            delay = await page.inner_text("#sum-lag")
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)
            await browser.close()
    frames = found["frames"]
    gaps = [b - a for a, b in itertools.pairwise(frames)]
    loading = [each for at, each in found["long"] if at < found["since"]]
    tasks = [each for at, each in found["long"] if at >= found["since"]]
    busy = end["TaskDuration"] - start["TaskDuration"]
    figures = {
        "first 10,000 rows, s": f"{shown:.1f}",
        "frames a second": f"{1000 * len(gaps) / (frames[-1] - frames[0]):.0f}",
        "frame, p99, ms": f"{statistics.quantiles(gaps, n=100)[98]:.0f}",
        f"tasks over {LONG_MS} ms while loading": _tasks(loading),
        f"tasks over {LONG_MS} ms": _tasks(tasks),
        "main thread, CPU": f"{100 * busy / seconds:.0f} %",
        "heap before and after, MiB": f"{before:.1f}, {after:.1f}",
        "the page says": f"{word}, delay {delay}",
    }
    return figures, long_tasks(events, LONG_MS)


def _tasks(durations: list[float]) -> str:
    return f"{len(durations)}, longest {max(durations, default=0):.0f} ms"


async def metrics(cdp: Any) -> dict[str, float]:
    found = await cdp.send("Performance.getMetrics")
    return {each["name"]: each["value"] for each in found["metrics"]}


@click.command()
@click.option("--seconds", type=click.IntRange(5), default=60, show_default=True)
@click.option("--rate", type=click.IntRange(25), default=500, show_default=True)
@click.option("--scroll/--still", default=True, help="Scroll the table all the while.")
@click.option("--tasks", is_flag=True, help="Say what long tasks were made of; it costs some.")
def main(seconds: int, rate: int, scroll: bool, tasks: bool) -> None:
    """10,000 positions of which some change each second, in Chromium."""
    figures, found = asyncio.run(measure(seconds, rate, scroll, tasks))
    machine = ", ".join(f"{name} {value}" for name, value in description().items())
    load = os.getloadavg()[0]
    click.echo(f"{machine}, load {load:.0f}")
    click.echo(f"{rate} events/s for {seconds} s{', scrolled all the while' if scroll else ''}")
    for name, value in figures.items():
        click.echo(f"{name:30} {value}")
    if tasks:
        own = sum(task.cpu > LONG_MS for task in found)
        click.echo(f"{own} of {len(found)} took so long; the others waited for a processor")
    for task in found:
        click.echo(str(task))


if __name__ == "__main__":
    main()
