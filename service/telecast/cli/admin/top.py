"""telecast top: the connections as they are now, on a terminal that stays open."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import click

from telecast.cli.admin.board import Board
from telecast.cli.admin.clients import listed
from telecast.cli.admin.status import lines_of
from telecast.cli.connection import asked, run, service_options
from telecast.cli.output import show
from telecast.client import Publisher
from telecast.errors import TelecastError

MOST_CLIENTS = 1000
"""The worst of more are looked for with `telecast clients`."""


@click.command(name="top")
@service_options
@click.option(
    "--sort",
    type=click.Choice(["lag", "bytes", "conflated", "stale"]),
    default="lag",
    show_default=True,
)
@click.option(
    "--every", type=click.FloatRange(0.5, 60), default=2.0, show_default=True, help="Seconds."
)
@click.option("--once", is_flag=True, help="Print the table once, for scripts.")
def command(url: str, key: str | None, sort: str, every: float, once: bool) -> None:
    """Watch the connections, the worst first; `k` ends the chosen one after asking.

    The key needs the scope admin. It needs a terminal and the package rich:
    pip install 'telecast[cli]'. Without them there is --once.
    """
    board = Board(sort[0])
    if once:
        head = next(lines_of(asked(url, key, "GET", "stats")))
        board.take(listed(url, key))
        show(head)
        for line, _ in board.lines(10_000, 10_000):
            show(line)
        return
    try:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text
    except ImportError:
        raise click.UsageError(
            "The live table needs rich: pip install 'telecast[cli]'. Or use --once."
        ) from None
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("The live table needs a terminal. In scripts use --once.")
    console = Console(highlight=False)

    def picture(head: str) -> Text:
        text = Text(no_wrap=True, overflow="crop")
        text.append(head[: console.width] + "\n", style="bold")
        for line, chosen in board.lines(console.width, max(3, console.height - 3)):
            text.append(line + "\n", style="reverse" if chosen else "")
        text.append(board.foot()[: console.width], style="bold" if board.said else "dim")
        return text

    async def watch() -> None:
        async with Publisher(url, key, insist=False) as publisher:
            with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
                head = await _look(publisher, board)
                while True:
                    live.update(picture(head), refresh=True)
                    try:
                        async with asyncio.timeout(every):
                            action = board.press(await pressed.get())
                    except TimeoutError:
                        head = await _look(publisher, board)
                        continue
                    if action == "quit":
                        return
                    if action == "kick":
                        board.said = await _kick(publisher, board.asked or "")
                        head = await _look(publisher, board)

    run(watch())


async def _look(publisher: Publisher, board: Board) -> str:
    stats: dict[str, Any] = await publisher.call("GET", "stats")
    page = await publisher.call("GET", "clients", [("limit", str(MOST_CLIENTS))])
    board.take(page["clients"])
    return next(lines_of(stats))


async def _kick(publisher: Publisher, connection: str) -> str:
    try:
        await publisher.call("DELETE", f"clients/{quote(connection, safe='')}")
    except TelecastError as fault:
        return fault.message
    return f"{connection} is ended."


@contextmanager
def _keys() -> Iterator[asyncio.Queue[str]]:
    """What is pressed, one key an item; the terminal is as it was afterwards."""
    loop, pressed = asyncio.get_running_loop(), asyncio.Queue[str]()
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    loop.add_reader(number, lambda: _split(os.read(number, 64).decode(errors="ignore"), pressed))
    try:
        yield pressed
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _split(text: str, pressed: asyncio.Queue[str]) -> None:
    while text:
        size = 3 if text.startswith("\x1b[") else 1
        pressed.put_nowait("\r" if text[:size] == "\n" else text[:size])
        text = text[size:]
