"""Whether a running service goes by a change of the keys: what `--url` of `telecast keys` asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp
import click

from telecast.cli.connection import Address, run
from telecast.cli.exits import Exit
from telecast.cli.output import note
from telecast.client.connection.http import LOST, Access, below, open_session, words
from telecast.client.faults import Refused, Unreachable

FORCE_SECONDS = 5.0
"""How long to wait for the service to read the file: it looks once a second."""
ANSWER_SECONDS = 5.0
"""How long one answer may take."""
PAUSE = 0.2

url_option = click.option(
    "--url",
    type=Address(),
    help='A running service: say "in force" once it goes by the change, or fail after 5 s.',
)


class NotInForce(click.ClickException):
    """The service still answers as it did before the change."""

    exit_code = Exit.ERROR


def confirm(url: str, key: str | None, path: str, holds: Callable[[int], bool]) -> None:
    """Return once GET `path` with `key` has a status that `holds`. Raises NotInForce."""
    status = run(_last(Access.to(url, key), path, holds))
    if not holds(status):
        advice = "Check that the service reads this keys file, and what /readyz?verbose says."
        if status in (401, 403):
            advice = "To ask, set TELECAST_KEY to a key with the scope admin."
        raise NotInForce(
            f"NOT known to be in force at {url}: after {FORCE_SECONDS:g} s it answers {status}. "
            + advice
        )
    note(f"In force at {url}.")


async def _last(access: Access, path: str, holds: Callable[[int], bool]) -> int:
    """The first status that holds, or else the last one."""
    end = time.monotonic() + FORCE_SECONDS
    async with open_session(access, aiohttp.ClientTimeout(total=ANSWER_SECONDS)) as session:
        while True:
            status = await _status(access, session, path)
            if holds(status) or time.monotonic() >= end:
                return status
            await asyncio.sleep(PAUSE)


async def _status(access: Access, session: aiohttp.ClientSession, path: str) -> int:
    try:
        async with session.get(below(access.base, path), headers=await access.headers()) as answer:
            return answer.status
    except Refused as refusal:
        return refusal.status
    except LOST as fault:
        raise Unreachable(f"{access.base} does not answer: {words(fault)}.") from fault
