"""One process of the service: the only one, or one worker of several."""

from __future__ import annotations

import dataclasses
import faulthandler
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
import uvloop

from telecast import __version__
from telecast.app import create_app
from telecast.changes import settle_changes
from telecast.channel_file import read_catalogue
from telecast.channels.catalogue import Catalogue
from telecast.cli.exits import Exit, lines_for
from telecast.config import Settings, from_plain, load_settings
from telecast.errors import SettingsError, TelecastError
from telecast.keys import KeyStore
from telecast.keys.secret import signing_secret
from telecast.logs import configure, flush
from telecast.server import serve_until_stopped
from telecast.supervision.line import NOT_OURS, Line
from telecast.supervision.worker import Worker

log = logging.getLogger("telecast.cli.run.serve")

STDERR = 2
"""Whoever ends a process that hangs with SIGABRT, as systemd does, reads there where it stood."""


def run_alone(
    settings: Settings,
    flags: Mapping[str, Any],
    accepted: Sequence[str],
    *,
    accept_secret: bool = False,
) -> None:
    async def started(url: str) -> None:
        log.info(
            "serving",
            extra={"url": url, "version": __version__, "journal": settings.journal},
        )

    _run(
        *(settings, accepted, lambda: load_settings(flags), started),
        accept_secret=accept_secret,
    )


def run_worker(number: int, flags: Mapping[str, Any], accepted: Sequence[str]) -> None:
    """What the parent started: it is sent its settings, and says how it is."""
    line = Line.of_stdin()
    if line is None:
        raise click.UsageError(NOT_OURS)
    try:
        orders = line.first()
    except EOFError:
        sys.exit(Exit.ERROR)  # nobody wants it any more
    try:
        given = from_plain(orders["settings"])
        settings = _numbered(given, number)
        configure(settings.log_format, settings.log_level, worker=number)
        worker = Worker(line, number, orders["beat"])

        def reread() -> Settings:
            wanted = load_settings(flags)
            kept = {name: getattr(given, name) for name in ("port", "log_format")}
            return _numbered(dataclasses.replace(wanted, **kept), number)

        _run(settings, accepted, reread, worker.up, worker)
    except TelecastError as fault:
        flush()
        line.send_now({"refused": lines_for(fault)})
        sys.exit(Exit.ERROR)


def _numbered(settings: Settings, number: int) -> Settings:
    """With a copy of the log that is this worker's alone."""
    copy = settings.journal_copy
    return dataclasses.replace(
        settings, journal_copy=copy.with_name(f"{copy.stem}-{number}{copy.suffix}")
    )


def _run(
    settings: Settings,
    accepted: Sequence[str],
    reread: Callable[[], Settings],
    started: Callable[[str], Any],
    worker: Worker | None = None,
    *,
    accept_secret: bool = False,
) -> None:
    faulthandler.enable(STDERR)
    catalogue = read_catalogue(settings.channels)
    keys = _keys(settings, catalogue)
    secret = signing_secret(settings.secret_file)
    settle_changes(settings.journal, catalogue, accepted)
    app = create_app(
        settings,
        keys=keys,
        catalogue=catalogue,
        secret=secret,
        worker=worker,
        accept_secret=accept_secret,
        accept_changes=accepted,
    )
    uvloop.run(serve_until_stopped(app, settings, started, reread=reread, worker=worker))


def _keys(settings: Settings, catalogue: Catalogue) -> KeyStore:
    """Fails closed: nobody can use a service without keys, so it does not start."""
    advice = f"Make one: telecast keys new NAME --scope read --scope publish --keys {settings.keys}"
    if not settings.keys.exists():
        raise SettingsError([f"There is no keys file {settings.keys}. {advice}"])
    keys = KeyStore(settings.keys, now=time.time, filters=catalogue.filters)
    keys.load()
    if not len(keys):
        raise SettingsError([f"No key is in {settings.keys}. {advice}"])
    return keys
