"""Runs an application on a port until a signal stops it, and goes down in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import web

from telecast import logs
from telecast.app import parts_of
from telecast.config import Settings, supervisor
from telecast.errors import SettingsError
from telecast.net.admission import raise_open_files, sockets_allowed
from telecast.net.listening import listen, port_fault
from telecast.supervision.worker import Worker
from telecast.tasks import drain, reload_settings
from telecast.watch.notify import Notifier
from telecast.web.front.connection import MAX_ADDRESS, Connection, TurnedAway
from telecast.web.front.heads import without_expectation

log = logging.getLogger(__name__)

BACKLOG = 4_096
"""Connections that may wait to be accepted: after a restart all clients come at once."""
SHUTDOWN_SECONDS = 5.0
GC_THRESHOLDS = (20_000, 10, 10)
"""Objects, and younger collections, between two collections. Python's own (700, 10, 10) took a
quarter of the time in which 5,000 clients came back."""


class Server:
    """One application on one port. Use as `async with`; `url` has the first of its addresses."""

    def __init__(self, app: web.Application, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        # Without handler_cancellation what was asked goes on for a client that has gone.
        self._runner = web.AppRunner(
            app, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS
        )
        self._listeners: list[asyncio.Server] = []
        self._context: ssl.SSLContext | None = None
        self.notice = settings.drain_notice
        """At the end: how long /readyz says 503 while the port stays open."""
        self.url = ""

    async def __aenter__(self) -> Server:
        """Open the parts, then the port. Raises TelecastError where either can't be had."""
        settings = self._settings
        self._context = context = _tls(settings)
        try:
            await self._runner.setup()
        except BaseException:
            await self._runner.cleanup()
            raise
        try:
            receiver = self._receiver()
            for bound in listen(settings.host, settings.port, shared=settings.workers > 1):
                listener = await asyncio.get_running_loop().create_server(
                    receiver,
                    sock=bound,
                    ssl=context,
                    ssl_handshake_timeout=settings.first_byte_timeout if context else None,
                    backlog=BACKLOG,
                )
                self._listeners.append(listener)
        except OSError as fault:
            await self._runner.cleanup()
            raise port_fault(settings.host, settings.port, fault) from None
        except BaseException:
            await self._runner.cleanup()
            raise
        host, port = self._listeners[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if context else 'http'}://{shown}:{port}"
        return self

    def reload(self, wanted: Settings) -> None:
        """Let what can change hold from now on. Raises SettingsError, and then nothing changes."""
        if self._context is not None and wanted.tls_cert is not None:
            _tls(wanted)
            _load(self._context, wanted)  # for the handshakes that begin from now on
        parts = parts_of(self._app)
        changed, restart = reload_settings(parts, wanted)
        parts.keys.reload_if_changed()
        log.info("settings read again", extra={"changed": changed, "need_a_restart": restart})

    async def __aexit__(self, *_: object) -> None:
        """Refuse newcomers, end each stream with a notice, commit what was acknowledged."""
        try:
            own = parts_of(self._app)
            own.begin_drain()
            await asyncio.sleep(self.notice)
            for listener in self._listeners:
                listener.close()
            await drain(own)
        finally:
            await self._runner.cleanup()

    def _receiver(self) -> Callable[[], asyncio.Protocol]:
        """What makes something of each connection that is accepted."""
        server, parts = self._runner.server, parts_of(self._app)
        admission, answers = parts.admission, parts.answers
        assert server is not None
        make = server.request_factory

        def asked(message: Any, body: Any, connection: Any, *rest: Any) -> web.BaseRequest:
            connection.asked(body)
            return make(without_expectation(message), body, connection, *rest)

        server.request_factory = asked

        def receive() -> asyncio.Protocol:
            if admission.full():
                return TurnedAway()
            connection = Connection(
                server,
                admission,
                answers,
                access_log=None,  # middlewares.correlate logs
                auto_decompress=False,  # no body of ours is compressed: a small one stays small
                keepalive_timeout=self._settings.keepalive_timeout,
                max_line_size=MAX_ADDRESS,
            )
            admission.arrive(connection)
            return connection

        return receive


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(context, settings)
    return context


def _load(context: ssl.SSLContext, settings: Settings) -> None:
    """Raises SettingsError."""
    assert settings.tls_cert is not None

    def no_password() -> str:
        raise SettingsError(
            [
                f"tls_key: {settings.tls_key} is encrypted, and nobody is there to type its pass "
                "phrase. Decrypt it (openssl pkey -in KEY -out PLAIN) and let only the service "
                "read it."
            ]
        )

    try:
        # Without the callback OpenSSL would ask on the terminal, or wait for a pipe.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=no_password)
    except (OSError, ssl.SSLError) as fault:
        raise SettingsError([f"The TLS certificate and key can't be used: {fault}"]) from None


def _spare_the_loop() -> None:
    """Have the garbage collector look less often, and never at what stays anyway.

    It stops the loop while it looks, and looks when many objects are made: when many clients come
    at once. Streams leave nothing behind that only it can find.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def serve_until_stopped(
    app: web.Application,
    settings: Settings,
    started: Callable[[str], Awaitable[None]],
    *,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
    reread: Callable[[], Settings] | None = None,
    worker: Worker | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. `started` gets the URL; `beside` runs meanwhile.

    `worker` is this process among several: it also ends when its parent says so, or is gone. Where
    the others go on it closes its port at once.

    SIGHUP has `reread` give the settings anew (it raises SettingsError) and lets those hold that
    can change; where they are wrong, all stay as they are and the log says why. A second SIGTERM
    or SIGINT while it goes down ends it at once.
    """
    raise_open_files(settings.max_sockets or 2 * settings.max_connections)
    allowed = sockets_allowed(settings.max_sockets)
    if allowed < settings.max_connections:
        log.warning(
            "fewer can connect than max_connections: let it open more files (ulimit -n)",
            extra={"sockets": allowed, "max_connections": settings.max_connections},
        )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set() and worker is not None:
            return  # asked by its parent and by systemd; haste is the parent's to say
        if stop.is_set():
            log.warning("asked again: not waiting any more")
            logs.flush()
            os._exit(1)
        log.info("going down")
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    notifier = Notifier(*supervisor())
    server = Server(app, settings)

    def leave(notice: bool) -> None:
        server.notice *= notice
        asked()

    following = None if worker is None else loop.create_task(worker.follow(leave))
    async with server:
        if reread is not None:
            loop.add_signal_handler(signal.SIGHUP, _reload, server, reread)
        _spare_the_loop()
        await started(server.url)
        notifier.say("READY=1")
        alive = asyncio.create_task(notifier.beat())
        try:
            await _until(stop, beside)
        finally:
            alive.cancel()
            notifier.say("STOPPING=1")
    if worker is not None and following is not None:
        following.cancel()
        await worker.last()
    log.info("gone")


def _reload(server: Server, reread: Callable[[], Settings]) -> None:
    try:
        server.reload(reread())
    except SettingsError as fault:
        log.error("settings not read again", extra={"problems": fault.problems})  # noqa: TRY400


async def _until(
    stop: asyncio.Event, beside: Callable[[], Coroutine[Any, Any, None]] | None
) -> None:
    """Wait for `stop`, with `beside` running meanwhile. Raises what `beside` raises."""
    try:
        async with asyncio.TaskGroup() as group:
            companion = group.create_task(beside()) if beside is not None else None
            await stop.wait()
            if companion is not None:
                companion.cancel()
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None
