"""telecast serve: the service itself."""

from __future__ import annotations

from typing import Any

import click

from telecast.cli.options import settings_options
from telecast.config import load_settings
from telecast.logs import configure


@click.command(name="serve")
@settings_options()
@click.option(
    "--accept-change",
    "accepted",
    multiple=True,
    metavar="CHANNEL",
    help="A channel of the channels file may begin anew if its stored rows no longer fit it.",
)
@click.option(
    "--accept-secret",
    is_flag=True,
    help="This node's secret_file is that of all nodes from now on.",
)
@click.option("--as-worker", type=click.IntRange(1), hidden=True)
def command(
    accepted: tuple[str, ...], accept_secret: bool, as_worker: int | None, **flags: Any
) -> None:
    """Take events in, store them, and send them over WebSocket and Server-Sent Events.

    Flags win over the environment, which wins over --config.
    """
    # What serves is loaded by whoever serves: the parent of several workers stays small.
    if as_worker is not None:
        from telecast.cli.run.process import run_worker

        run_worker(as_worker, flags, accepted)
        return
    settings = load_settings(flags)
    configure(settings.log_format, settings.log_level)
    if settings.workers > 1:
        if accept_secret:
            raise click.UsageError("--accept-secret is for one process: leave out --workers once.")
        from telecast.cli.run.several import run_several

        run_several(settings, flags, accepted)
    else:
        from telecast.cli.run.process import run_alone

        run_alone(settings, flags, accepted, accept_secret=accept_secret)
