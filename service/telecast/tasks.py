"""What runs beside the requests: retention, the watch over the keys, the guard, and the drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from telecast.clients.progress import LOOK_SECONDS
from telecast.config import Settings
from telecast.config.reloading import reread
from telecast.errors import Code, JournalUnavailable, OwnFault
from telecast.logs import redact
from telecast.system import CHANNEL
from telecast.web.nodes.presence import KeysCompared
from telecast.web.parts import Parts

log = logging.getLogger(__name__)

KEYS_SECONDS = 1.0
"""Between two looks at the keys: what a key may no longer see stops within two seconds."""
TRIM_SECONDS = 5.0
CONSUMERS_SECONDS = 5.0
ESCALATE_SECONDS = 1.0
"""Between two looks for alerts that are to be escalated."""
NODES_SECONDS = 5.0
"""Between two looks at what the other nodes say of themselves."""
STALE_SECONDS = 1.0
"""Between two looks for channels that have gone quiet."""
COMMIT_SECONDS = 10.0
"""How long a drain waits for the journal to commit what was taken."""


async def guard(parts: Parts, work: Callable[[], Awaitable[None]]) -> None:
    """Run a task; if it ends, the service says that it is not ready, and why."""
    try:
        await work()
        reason = "a task has ended"
    except OwnFault as fault:
        reason = fault.message
        log.critical("the service is not ready any more", extra={"reason": reason})
    except Exception as fault:
        log.critical("a task has died; the service is not ready any more", exc_info=True)
        reason = redact(f"{type(fault).__name__}: {fault}")
    parts.break_down(reason)


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def watch_keys(parts: Parts) -> None:
    while True:
        await asyncio.sleep(KEYS_SECONDS)
        if parts.keys.reload_if_changed():
            log.info("keys read again", extra={"count": len(parts.keys)})
        parts.rights.look(parts.keys.principals())
        await parts.clients.recheck()
        await parts.rights.settle(parts.tape.head)


async def watch_consumers(parts: Parts) -> None:
    """Warn before retention overtakes a consumer; forget those that are gone."""
    while True:
        await asyncio.sleep(CONSUMERS_SECONDS)
        await parts.consumers.look(
            parts.journal.floors(),
            lambda name: bool(parts.clients.named(name.key_id, name.client_id)),
        )


async def watch_clients(parts: Parts) -> None:
    """Keep an eye on who takes nothing: what `stale` says rests on these looks."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        parts.shared_clients.look()
        await parts.clients.look()


async def trim(parts: Parts) -> None:
    """Retention, a bounded piece at a time: never while history is read, whose floors hold.

    Also when the journal is full: a trim makes space, or finds out that there is some again.
    """
    logged = ""
    while True:
        gone = 0
        try:
            gone = await parts.journal.trim()
            logged = ""
        except JournalUnavailable as fault:
            if fault.message != logged:
                log.warning("not trimmed", extra={"reason": fault.message})
            logged = fault.message
        # More may be left: go on soon, but let commits come in between.
        await asyncio.sleep(0.05 if gone else TRIM_SECONDS)


async def escalate(parts: Parts) -> None:
    """Mark the critical alerts that nobody has acknowledged in time."""
    while True:
        await asyncio.sleep(ESCALATE_SECONDS)
        for each in parts.alerts:
            await each.look()


async def watch_staleness(parts: Parts) -> None:
    """Say which channels have gone quiet, and which go on."""
    while True:
        await asyncio.sleep(STALE_SECONDS)
        stale, fresh = await parts.staleness.look()
        for name in stale:
            await parts.system.report(f"channel:{name}", "DEGRADED", "Nothing comes in.", once=True)
        for name in fresh:
            await parts.system.report(f"channel:{name}", "UP", "Events come in again.", once=True)


async def watch_nodes(parts: Parts) -> None:
    """Warn of nodes that read another keys file; keep in mind which nodes there are."""
    compared = KeysCompared()
    while True:
        await parts.members.look()
        await asyncio.sleep(NODES_SECONDS)
        compared.look(parts)


def reload_settings(parts: Parts, wanted: Settings) -> tuple[list[str], list[str]]:
    """Let the settings hold that can change while the service runs.

    Returns the names of those that changed, and of those that need a restart: they stay as they
    are. The caller has checked the new ones together.
    """
    read = reread(parts.settings, wanted)
    parts.change(read.settings)
    logging.getLogger().setLevel(parts.settings.log_level.upper())
    return read.changed, read.kept


async def drain(parts: Parts) -> None:
    """Go down in order: refuse newcomers, commit what was taken, then end every stream.

    The ends are spread over `drain_seconds`, and every client is given the same pause. So they
    come back as spread as they went, and none of them before the last one has gone.
    """
    parts.begin_drain()
    parts.clients.close_admission()
    try:
        async with asyncio.timeout(COMMIT_SECONDS):
            await parts.system.draining(parts.broadcaster.subscriber_count(CHANNEL))
            await parts.ingress.drain()
    except TimeoutError:
        # A hung disk must not keep the clients from their notice. What waits is not acknowledged.
        log.warning(
            "the journal did not finish in time", extra={"waiting": parts.ingress.backlog[0]}
        )
    going = list(parts.clients)
    pause = parts.settings.drain_seconds / max(1, len(going))
    loop = asyncio.get_running_loop()
    started = loop.time()
    seconds = 0.5 + pause * (len(going) - 1)
    for index, client in enumerate(going):
        client.evict(
            OwnFault(
                Code.SHUTTING_DOWN,
                "The service is going down; resume elsewhere or later.",
                retry_after=seconds,
            )
        )
        if client is not going[-1]:
            behind = started + (index + 1) * pause - loop.time()
            await asyncio.sleep(max(0.0, behind))
