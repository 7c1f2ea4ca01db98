"""The desktop samples with Qt off the screen: they follow, grey what is not live, recover."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from telecast.client import Client
from telecast.testing.relay import relay
from tests.support.payloads import position
from tests.support.service.process import service
from tests.support.service.samples import SAMPLES, environment

DRIVER = """
import asyncio, os, sys
sys.path.insert(0, sys.argv[1])
import desktop, qasync
from PySide6.QtWidgets import QApplication

async def main(window):
    window.show()
    following = asyncio.create_task(desktop.follow(window))
    shown = None
    while not following.done():
        await asyncio.sleep(0.02)
        rows = [window.table.item(n, 1).text() for n in range(window.table.rowCount())]
        now = (window.state.text().split()[0], window.table.isEnabled(), ",".join(rows))
        if now != shown:
            shown = now
            window.grab().save(sys.argv[2])
            print(*now, flush=True)
    print(window.state.text(), flush=True)

application = QApplication(sys.argv)
qasync.run(main(desktop.Window()))
"""

DRIVER_OF_QT = """
import sys
sys.path.insert(0, sys.argv[1])
import feed
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
from window import Window

application = QApplication(sys.argv)
window = Window(feed.from_environment("positions"))
shown = None

def look():
    global shown
    rows = [window.table.item(n, 1).text() for n in range(window.table.rowCount())]
    now = (window.state.text().split()[0], window.table.isEnabled(), ",".join(rows))
    if now != shown:
        shown = now
        window.grab().save(sys.argv[2])
        print(*now, flush=True)

def end():
    print(window.state.text(), flush=True)
    application.quit()

timer = QTimer(interval=20)
timer.timeout.connect(look)
timer.start()
window.feed.refused.connect(end)
window.show()
window.feed.open()
application.exec()
"""
DRIVERS = {"desktop": DRIVER, "qt": DRIVER_OF_QT}
NEEDED = {"desktop": ("PySide6.QtWidgets", "qasync"), "qt": ("PySide6.QtWebSockets",)}


def is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


samples = pytest.mark.parametrize(
    "sample",
    [
        pytest.param(
            each,
            marks=pytest.mark.skipif(
                not all(map(is_there, needed)), reason=f"not installed: {', '.join(needed)}"
            ),
        )
        for each, needed in NEEDED.items()
    ],
)


async def see(process: asyncio.subprocess.Process, line: str) -> None:
    seen = []
    async with asyncio.timeout(60):
        while not seen or seen[-1] != line:
            assert process.stdout is not None
            seen.append((await process.stdout.readline()).decode().strip())
            assert seen[-1], seen


async def start(sample: str, url: str, key: str, folder: Path) -> asyncio.subprocess.Process:
    (folder / "driver.py").write_text(DRIVERS[sample])
    here = {**environment(url, key), "QT_QPA_PLATFORM": "offscreen", "PYTHONWARNINGS": ""}
    words = (str(folder / "driver.py"), str(SAMPLES / sample), str(folder / "window.png"))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *words), env=here, stdout=asyncio.subprocess.PIPE
    )


@pytest.mark.timeout(300)
@samples
async def test_the_window_shows_rows_greys_them_when_cut_and_recovers(
    tmp_path: Path, sample: str
) -> None:
    async with service(tmp_path) as own, relay(own.url) as line:
        async with Client(own.url, key=own.key) as telecast:

            async def publish(**said: Any) -> None:
                await telecast.publish("positions", position(**said))

            await publish(id="p1", symbol="BTC")
            window = await start(sample, line.url, own.key, tmp_path)
            try:
                await see(window, "live True BTC")
                line.refuses = True
                line.cut()
                await see(window, "disconnected False BTC")
                await publish(id="p2", symbol="ETH")
                line.refuses = False
                await see(window, "live True BTC,ETH")
            finally:
                window.kill()
                await window.wait()
        assert (tmp_path / "window.png").stat().st_size > 1_000
        window = await start(sample, line.url, f"{own.key[:-4]}0000", tmp_path)
        try:
            async with asyncio.timeout(60):
                said, _ = await window.communicate()
        finally:
            if window.returncode is None:
                window.kill()
                await window.wait()
        assert b"key" in said
