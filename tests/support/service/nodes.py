"""Several services on one log, in this process, each with a keys file's content of its own."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from telecast.keys import KeyStore
from telecast.model import Principal
from tests.support.service.live import Live, principal, served
from tests.support.service.nats import NatsServer, shared

SECRET = bytes(32)
_NAMES = itertools.count()


def stream_name() -> str:
    """One that no other test uses."""
    return f"desk-{time.time_ns():x}-{next(_NAMES)}"


def folder(below: Path, name: str) -> Path:
    """One for a node's copy, made at its first use."""
    made = below / name
    made.mkdir(exist_ok=True)
    return made


@asynccontextmanager
async def nodes(
    where: Path,
    count: int = 2,
    *,
    holders: Sequence[Principal] = (),
    server: NatsServer | None = None,
    name: str | None = None,
    **settings: Any,
) -> AsyncIterator[list[Live]]:
    """All have the same keys ("desk", who may everything, unless said) and the same secret."""
    url = f"{(server or shared()).url}/{name or stream_name()}"
    holders = holders or (principal(),)
    _, secrets = KeyStore.of(*holders, now=time.time)
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                served(
                    keys=KeyStore.of(*holders, now=time.time, known=secrets)[0],
                    secrets={holder.name: secrets[holder.key_id] for holder in holders},
                    journal=url,
                    journal_copy=where / f"{number}.db",
                    secret=SECRET,
                    **settings,
                )
            )
            for number in range(count)
        ]


async def level(*lives: Live) -> None:
    """All nodes have applied what any of them has, and their tapes hold it."""
    most = max(live.parts.journal.place().sequence for live in lives)  # type: ignore[union-attr]
    for live in lives:
        await live.until(lambda live=live: live.parts.journal.place().sequence >= most)
        await live.until(lambda live=live: live.parts.tape.head >= live.parts.journal.head)


async def known(*lives: Live) -> None:
    """Each node knows of all others."""
    for live in lives:
        await live.until(lambda live=live: len(live.parts.journal.peers.others()) == len(lives) - 1)


def hand_out(live: Live, *holders: Any, known: Live | None = None) -> None:
    """Another keys file at this node, without its watch having looked yet. What it lacks is as
    `known` has it."""
    entries = {**(known or live).parts.keys._entries, **live.parts.keys._entries}
    kept = {}
    for holder in holders:
        entry = entries[holder.key_id]
        kept[holder.key_id] = type(entry)(holder, entry.sha256)
    live.parts.keys._entries = kept
