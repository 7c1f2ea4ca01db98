"""Puts the parts together: built in order, closed in reverse."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack
from functools import partial

from aiohttp import web

from telecast.audit import Audit
from telecast.changes import settle_shared
from telecast.channels.catalogue import CHANNELS, Catalogue
from telecast.clients import ClientLimits, Clients
from telecast.clients.shared import SharedClients
from telecast.config import Settings
from telecast.consumers import ConsumerLimits, Consumers
from telecast.errors import Code, OwnFault
from telecast.fanout.broadcaster import Broadcaster
from telecast.fanout.wheel import LoopScheduler
from telecast.ingress import Alerts, Ingress, IngressLimits
from telecast.journal import Access, NodeOptions, journal_from_url
from telecast.journal.ageing import monotonic
from telecast.journal.base import Journal, KeyLimits
from telecast.keys import KeyStore
from telecast.keys.guesses import Guesses
from telecast.keys.secret import new_signing_secret
from telecast.keys.tokens import Tokens
from telecast.net.admission import BESIDE_STREAMS, Admission, SocketLimits, sockets_allowed
from telecast.net.streams import StreamWires
from telecast.net.wire import Wires
from telecast.relay import Relay
from telecast.rights import Rights
from telecast.supervision.worker import Worker
from telecast.system import SystemReports
from telecast.tape.tape import Tape
from telecast.tasks import (
    escalate,
    guard,
    stop,
    trim,
    watch_clients,
    watch_consumers,
    watch_keys,
    watch_nodes,
    watch_staleness,
)
from telecast.turns import Turns
from telecast.watch.lag import Lag
from telecast.watch.staleness import Staleness
from telecast.web.api.contracts import CALLS, DOCUMENTS, Documents, calls_of
from telecast.web.api.metrics import REGISTRY, build_registry, report
from telecast.web.auth.cookies import add_cookies
from telecast.web.auth.signed_out import SignedOut
from telecast.web.front.budget import Budget
from telecast.web.front.cors import allow_origins
from telecast.web.front.middlewares import REFUSALS, add_correlation, correlate, explain
from telecast.web.front.refusals import Refusals
from telecast.web.nodes.members import Members
from telecast.web.nodes.presence import compare_secret, join
from telecast.web.page.files import PAGE, read_page
from telecast.web.parts import PARTS, Parts
from telecast.web.routes import routes
from telecast.webhook import Webhook, read_secret

SWITCH_SECONDS = 0.0002
"""How long the journal's writer may wait for the GIL; Python's default is 25 times that."""


def create_app(
    settings: Settings,
    *,
    keys: KeyStore,
    catalogue: Catalogue = CHANNELS,
    journal: Journal | None = None,
    secret: bytes | None = None,
    worker: Worker | None = None,
    accept_secret: bool = False,
    accept_changes: Collection[str] = (),
    now: Callable[[], float] = time.time,
    elapsed: Callable[[], float] = monotonic,
) -> web.Application:
    """The whole service. `keys` are loaded; `journal` (not opened) replaces the settings' one.

    `secret` signs browser sessions; without one they end with the process. `worker` is this process
    among several on one port, and None where it is the only one. Nodes of one journal must have the
    same secret; with `accept_secret` this one's holds for all from now on. `accept_changes` are
    channels that may begin anew in a journal that nodes share.

    The parts open when the application starts and close when it is cleaned up; `parts_of` gives
    them to whoever embeds it. `now` gives seconds since 1970, `elapsed` seconds of monotonic time.
    """
    app = web.Application(middlewares=[correlate, explain], client_max_size=settings.max_body_bytes)
    paths = routes()
    added = app.add_routes(paths)
    app[CALLS] = calls_of(paths)
    app[DOCUMENTS] = Documents()
    app.on_response_prepare.append(add_correlation)
    app.on_response_prepare.append(add_cookies)
    allow_origins(app, added, settings.allowed_origins)
    app[PAGE] = read_page()
    app[REFUSALS] = Refusals()
    tokens = Tokens(secret or new_signing_secret(), now=now)
    if journal is None:
        journal = journal_from_url(
            settings.journal,
            catalogue.retention,
            now=now,
            node=_node_options(settings),
            memory_bytes=settings.memory_history,
            limits=KeyLimits(settings.max_idempotency_keys_per_key, settings.max_idempotency_keys),
        )

    async def lifespan(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await journal.open()
            stack.push_async_callback(journal.close)
            if secret is not None:
                await compare_secret(journal, secret, accept=accept_secret)
            if journal.shared:
                await settle_shared(journal, catalogue, accept_changes)
            app[PARTS] = await _build(
                settings, keys, catalogue, journal, tokens, worker, now, elapsed, stack
            )
            app[REGISTRY] = build_registry(app[PARTS])
            if worker is not None:
                worker.report = partial(report, app[PARTS])
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
    worker: Worker | None,
    now: Callable[[], float],
    elapsed: Callable[[], float],
    stack: AsyncExitStack,
) -> Parts:
    """Make the parts around a journal that is open, and set them going."""
    sys.setswitchinterval(SWITCH_SECONDS)
    scheduler = LoopScheduler(asyncio.get_running_loop())
    rights = Rights(journal, catalogue)
    keys.obey(rights.revoked)
    await rights.open(keys.principals())
    tape = _tape(settings, catalogue, journal)
    broadcaster = _broadcaster(settings, tape, journal, scheduler, now)
    stack.push_async_callback(broadcaster.close)
    relay = Relay(journal, tape, broadcaster)
    turns = Turns()
    ingress = Ingress(
        journal,
        tape,
        catalogue,
        reached=relay.reached,
        audience=broadcaster.audience,
        limits=_ingress_limits(settings),
        turns=turns,
        now=journal.now,
    )
    consumers = Consumers(
        journal,
        limits=ConsumerLimits(
            most=settings.max_consumers, most_per_key=settings.max_consumers_per_key
        ),
        now=now,
    )
    await consumers.open()
    audit = Audit(journal, now=journal.now)
    await audit.open()
    if journal.shared:
        tokens.share(journal.epoch)
    clients = Clients(_client_limits(settings), keys)
    shared_clients = SharedClients(journal, clients, catalogue, elapsed=elapsed)
    await shared_clients.open()
    stack.callback(shared_clients.end)
    signed_out = SignedOut(journal, tokens, clients, now=now, elapsed=elapsed)
    await signed_out.open()
    members = Members(journal, settings.journal_copy)
    await members.open()
    admission = Admission(_socket_limits(settings), scheduler)
    webhook = _webhook(settings, now)
    parts = Parts(
        settings=settings,
        keys=keys,
        catalogue=catalogue,
        journal=journal,
        rights=rights,
        tape=tape,
        broadcaster=broadcaster,
        relay=relay,
        ingress=ingress,
        audit=audit,
        alerts=_alerts(settings, catalogue, tape, ingress, audit, webhook, journal.now, elapsed),
        webhook=webhook,
        system=SystemReports(ingress, tape, catalogue, journal.now, node=journal.peers.node),
        clients=clients,
        shared_clients=shared_clients,
        consumers=consumers,
        tokens=tokens,
        signed_out=signed_out,
        turns=turns,
        admission=admission,
        bodies=Budget(
            "bodies_bytes",
            max(settings.bodies_bytes, settings.max_body_bytes),
            max(settings.bodies_bytes_per_key, settings.max_body_bytes),
        ),
        answers=Budget("answers_bytes", settings.answers_bytes, settings.answers_bytes_per_key),
        streams=StreamWires(admission),
        guesses=Guesses(),
        lag=Lag(scheduler),
        staleness=Staleness(catalogue, tape, broadcaster, now=now),
        members=members,
        now=now,
        worker=worker,
    )
    await _set_going(parts, stack)
    return parts


async def _set_going(parts: Parts, stack: AsyncExitStack) -> None:
    """Read the history, then start the tasks. Raises OwnFault where it can't be read."""
    following = asyncio.create_task(guard(parts, parts.relay.run))
    stack.push_async_callback(stop, following)
    caught_up = asyncio.create_task(parts.relay.caught_up())
    stack.push_async_callback(stop, caught_up)
    await asyncio.wait([following, caught_up], return_when=asyncio.FIRST_COMPLETED)
    if parts.broken is not None:
        raise OwnFault(Code.JOURNAL_UNAVAILABLE, parts.broken)
    for work in (
        parts.ingress.run,
        partial(watch_keys, parts),
        partial(watch_clients, parts),
        parts.consumers.run,
        partial(watch_consumers, parts),
        partial(trim, parts),
        partial(escalate, parts),
        *((parts.webhook.run,) if parts.webhook.on else ()),
        partial(watch_staleness, parts),
        partial(watch_nodes, parts),
    ):
        stack.push_async_callback(stop, asyncio.create_task(guard(parts, work)))
    stack.push_async_callback(parts.journal.peers.end)
    await join(parts)
    stack.push_async_callback(parts.members.leave)
    await parts.system.started()
    stack.push_async_callback(parts.streams.close)
    parts.lag.begin()
    stack.callback(parts.lag.end)


def _tape(settings: Settings, catalogue: Catalogue, journal: Journal) -> Tape:
    floors = journal.floors()
    return Tape(
        catalogue,
        floors={name: (floor.whole_from, floor.compact_from) for name, floor in floors.items()},
        most_events=settings.tape_events,
        most_bytes=settings.tape_bytes,
    )


def _broadcaster(
    settings: Settings,
    tape: Tape,
    journal: Journal,
    scheduler: LoopScheduler,
    now: Callable[[], float],
) -> Broadcaster:
    return Broadcaster(
        tape,
        journal.epoch,
        scheduler=scheduler,
        now=lambda: int(now() * 1000),
        journal_floor=lambda name: journal.floors()[name],
        journal=journal,
        stall_seconds=settings.stall_seconds,
        group=Wires,
    )


def _alerts(
    settings: Settings,
    catalogue: Catalogue,
    tape: Tape,
    ingress: Ingress,
    audit: Audit,
    webhook: Webhook,
    now: Callable[[], float],
    elapsed: Callable[[], float],
) -> tuple[Alerts, ...]:
    """One for each channel whose rows are alerts."""
    return tuple(
        Alerts(
            channel,
            tape,
            ingress,
            audit,
            escalate_after=settings.escalate_after,
            now=now,
            elapsed=elapsed,
            on_escalated=webhook.escalated,
        )
        for channel in catalogue.values()
        if channel.follow is not None
    )


def _webhook(settings: Settings, now: Callable[[], float]) -> Webhook:
    """Raises SettingsError."""
    if settings.escalate_url is None:
        return Webhook(None, b"")
    assert settings.escalate_secret_file is not None, "checked with the settings"
    secret = read_secret(settings.escalate_secret_file)
    return Webhook(settings.escalate_url, secret, inside=settings.escalate_inside, now=now)


def _node_options(settings: Settings) -> NodeOptions:
    return NodeOptions(
        copy=settings.journal_copy,
        replicas=settings.replicas,
        checkpoint_bytes=settings.checkpoint_bytes,
        largest_event=settings.max_event_bytes,
        access=Access(
            creds=settings.nats_creds,
            user=settings.nats_user,
            password_file=settings.nats_password_file,
            ca=settings.nats_ca,
            cert=settings.nats_cert,
            key=settings.nats_key,
        ),
    )


def _ingress_limits(settings: Settings) -> IngressLimits:
    return IngressLimits(
        max_events=settings.max_batch_events,
        max_event_bytes=settings.max_event_bytes,
        backlog_events=settings.backlog_events,
        backlog_bytes=settings.backlog_bytes,
        max_rows_per_channel=settings.max_rows_per_channel,
    )


def _client_limits(settings: Settings) -> ClientLimits:
    return ClientLimits(
        max_connections=settings.max_connections,
        max_connections_per_key=settings.max_connections_per_key,
        max_connections_per_address=settings.max_connections_per_address,
        new_connections_per_second=settings.new_connections_per_second,
        new_connections_burst=settings.new_connections_burst,
    )


def _socket_limits(settings: Settings) -> SocketLimits:
    per_address = settings.max_connections_per_address + BESIDE_STREAMS
    return SocketLimits(
        max_sockets=sockets_allowed(settings.max_sockets),
        # Behind a proxy every connection comes from the proxy's address.
        max_per_address=None if settings.behind_proxy else per_address,
        first_byte_seconds=settings.first_byte_timeout,
        head_seconds=settings.head_timeout,
    )
