"""telecast serve: the service itself."""

from __future__ import annotations

import logging
import time
from typing import Any

import click
import uvloop

from telecast import __version__
from telecast.app import create_app
from telecast.changes import settle_changes
from telecast.channel_file import read_catalogue
from telecast.channels.catalogue import Catalogue
from telecast.cli.options import settings_options
from telecast.config import Settings, load_settings
from telecast.errors import SettingsError
from telecast.keys import KeyStore
from telecast.keys.secret import signing_secret
from telecast.logs import configure
from telecast.server import serve_until_stopped

log = logging.getLogger(__name__)


@click.command(name="serve")
@settings_options()
@click.option(
    "--accept-change",
    "accepted",
    multiple=True,
    metavar="CHANNEL",
    help="A channel of the channels file may begin anew if its stored rows no longer fit it.",
)
def command(accepted: tuple[str, ...], **flags: Any) -> None:
    """Take events in, store them, and send them over WebSocket and Server-Sent Events.

    Flags win over the environment, which wins over --config.
    """
    settings = load_settings(flags)
    configure(settings.log_format, settings.log_level)
    catalogue = read_catalogue(settings.channels)
    keys = _keys(settings, catalogue)
    secret = signing_secret(settings.secret_file)
    settle_changes(settings.journal, catalogue, accepted)

    async def started(url: str) -> None:
        log.info(
            "serving",
            extra={"url": url, "version": __version__, "journal": settings.journal},
        )

    app = create_app(settings, keys=keys, catalogue=catalogue, secret=secret)
    uvloop.run(serve_until_stopped(app, settings, started, reread=lambda: load_settings(flags)))


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
