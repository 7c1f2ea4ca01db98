"""Puts the parts together: built in order, closed in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

from aiohttp import web

from telecast.channels.catalogue import CHANNELS, Catalogue
from telecast.clients import ClientLimits, Clients
from telecast.config import Settings
from telecast.errors import Code, JournalUnavailable, OwnFault
from telecast.fanout.broadcaster import Broadcaster
from telecast.fanout.wheel import LoopScheduler
from telecast.ingress import Ingress, IngressLimits
from telecast.journal import journal_from_url
from telecast.journal.base import Journal
from telecast.keys import KeyStore
from telecast.keys.guesses import Guesses
from telecast.keys.secret import new_signing_secret
from telecast.keys.tokens import Tokens
from telecast.lag import Lag
from telecast.logs import redact
from telecast.net.admission import BESIDE_STREAMS, SocketLimits, Sockets, sockets_allowed
from telecast.net.streams import Streams
from telecast.net.wire import Wires
from telecast.relay import Relay
from telecast.tape.tape import Tape
from telecast.web.api.metrics import REGISTRY, build_registry
from telecast.web.auth.cookies import add_cookies
from telecast.web.front.cors import allow_origins
from telecast.web.front.middlewares import add_correlation, correlate, explain
from telecast.web.page.files import PAGE, read_page
from telecast.web.parts import PARTS, Parts
from telecast.web.routes import routes

log = logging.getLogger(__name__)

KEYS_SECONDS = 1.0
"""Between two looks at the keys: what a key may no longer see stops within two seconds."""
TRIM_SECONDS = 5.0
COMMIT_SECONDS = 10.0
"""How long a drain waits for the journal to commit what was taken."""
SWITCH_SECONDS = 0.0002
"""How long the journal's writer may wait for the GIL; Python's default is 25 times that."""


def create_app(
    settings: Settings,
    *,
    keys: KeyStore,
    catalogue: Catalogue = CHANNELS,
    journal: Journal | None = None,
    secret: bytes | None = None,
    now: Callable[[], float] = time.time,
) -> web.Application:
    """The whole service. `keys` are loaded; `journal` (not opened) replaces the settings' one.

    `secret` signs browser sessions; without one they end with the process.

    The parts open when the application starts and close when it is cleaned up; `parts_of` gives
    them to whoever embeds it. `now` gives seconds since 1970.
    """
    app = web.Application(middlewares=[correlate, explain], client_max_size=settings.max_body_bytes)
    added = app.add_routes(routes())
    app.on_response_prepare.append(add_correlation)
    app.on_response_prepare.append(add_cookies)
    allow_origins(app, added, settings.allowed_origins)
    app[PAGE] = read_page()
    tokens = Tokens(secret or new_signing_secret(), now=now)
    if journal is None:
        journal = journal_from_url(settings.journal, catalogue.retention, now=now)

    async def lifespan(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app[PARTS] = await _build(settings, keys, catalogue, journal, tokens, now, stack)
            app[REGISTRY] = build_registry(app[PARTS])
            yield

    app.cleanup_ctx.append(lifespan)
    return app


def parts_of(app: web.Application) -> Parts:
    """The parts of a started application."""
    return app[PARTS]


async def _build(
    settings: Settings,
    keys: KeyStore,
    catalogue: Catalogue,
    journal: Journal,
    tokens: Tokens,
    now: Callable[[], float],
    stack: AsyncExitStack,
) -> Parts:
    sys.setswitchinterval(SWITCH_SECONDS)
    await journal.open()
    stack.push_async_callback(journal.close)
    floors = journal.floors()
    tape = Tape(
        catalogue,
        floors={name: (floor.whole_from, floor.compact_from) for name, floor in floors.items()},
        most_events=settings.tape_events,
        most_bytes=settings.tape_bytes,
    )
    broadcaster = Broadcaster(
        tape,
        journal.epoch,
        scheduler=LoopScheduler(asyncio.get_running_loop()),
        now=lambda: int(now() * 1000),
        journal_floor=lambda name: journal.floors()[name],
        journal=journal,
        stall_seconds=settings.stall_seconds,
        group=Wires,
    )
    stack.push_async_callback(broadcaster.close)
    relay = Relay(journal, broadcaster)
    ingress = Ingress(
        journal,
        tape,
        catalogue,
        reached=relay.reached,
        audience=broadcaster.audience,
        limits=IngressLimits(
            max_events=settings.max_batch_events,
            max_event_bytes=settings.max_event_bytes,
            backlog_events=settings.backlog_events,
            backlog_bytes=settings.backlog_bytes,
        ),
    )
    clients = Clients(
        ClientLimits(
            max_connections=settings.max_connections,
            max_connections_per_key=settings.max_connections_per_key,
            max_connections_per_address=settings.max_connections_per_address,
            new_connections_per_second=settings.new_connections_per_second,
            new_connections_burst=settings.new_connections_burst,
        ),
        keys,
    )
    sockets = Sockets(
        SocketLimits(
            max_sockets=sockets_allowed(settings.max_sockets),
            max_per_address=None
            if settings.behind_proxy
            else settings.max_connections_per_address + BESIDE_STREAMS,
            first_byte_seconds=settings.first_byte_timeout,
            head_seconds=settings.head_timeout,
        ),
        LoopScheduler(asyncio.get_running_loop()),
    )
    streams = Streams(sockets)
    lag = Lag(LoopScheduler(asyncio.get_running_loop()))
    parts = Parts(
        settings,
        keys,
        catalogue,
        journal,
        broadcaster,
        relay,
        ingress,
        clients,
        tokens,
        sockets,
        streams,
        Guesses(),
        lag,
    )
    following = asyncio.create_task(_guard(parts, relay.run))
    stack.push_async_callback(_stop, following)
    caught_up = asyncio.create_task(relay.caught_up())
    stack.push_async_callback(_stop, caught_up)
    await asyncio.wait([following, caught_up], return_when=asyncio.FIRST_COMPLETED)
    if parts.broken is not None:
        raise OwnFault(Code.JOURNAL_UNAVAILABLE, parts.broken)
    for work in (ingress.run, lambda: _watch_keys(parts), lambda: _trim(parts)):
        stack.push_async_callback(_stop, asyncio.create_task(_guard(parts, work)))
    stack.push_async_callback(streams.close)
    lag.begin()
    stack.callback(lag.end)
    return parts


async def _guard(parts: Parts, work: Callable[[], Awaitable[None]]) -> None:
    """Run a worker; if it ends, the service says that it is not ready, and why."""
    try:
        await work()
        reason = "a worker has ended"
    except OwnFault as fault:
        reason = fault.message
        log.critical("the service is not ready any more", extra={"reason": reason})
    except Exception as fault:
        log.critical("a worker has died; the service is not ready any more", exc_info=True)
        reason = redact(f"{type(fault).__name__}: {fault}")
    parts.broken = parts.broken or reason


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _watch_keys(parts: Parts) -> None:
    while True:
        await asyncio.sleep(KEYS_SECONDS)
        if parts.keys.reload_if_changed():
            log.info("keys read again", extra={"count": len(parts.keys)})
        await parts.clients.recheck()


async def _trim(parts: Parts) -> None:
    """Retention, a bounded piece at a time: never while history is read, whose floors hold.

    Also when the journal is full: a trim makes space, or finds out that there is some again.
    """
    told = ""
    while True:
        gone = 0
        try:
            gone = await parts.journal.trim()
            told = ""
        except JournalUnavailable as fault:
            if fault.message != told:
                log.warning("not trimmed", extra={"reason": fault.message})
            told = fault.message
        # More may be left: go on soon, but let commits come in between.
        await asyncio.sleep(0.05 if gone else TRIM_SECONDS)


async def drain(parts: Parts) -> None:
    """Go down well: nobody new, everything taken is committed, every stream told and ended.

    The ends are spread over `drain_seconds`, and all are told the same pause: so the clients come
    back as spread as they went, and none of them before the last has gone.
    """
    parts.draining = True
    parts.clients.close_admission()
    try:
        async with asyncio.timeout(COMMIT_SECONDS):
            await parts.ingress.drain()
    except TimeoutError:
        # A hung disk must not keep the clients from being told. What waits is not acknowledged.
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
