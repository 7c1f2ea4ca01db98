"""telecast types: declarations of the channels' rows for a client's language."""

from __future__ import annotations

from pathlib import Path

import click

from telecast.channel_file import read_catalogue
from telecast.cli.output import show
from telecast.config import load_one
from telecast.contracts.types import python_types, typescript

LANGUAGES = {"typescript": typescript, "python": python_types}


@click.command(name="types")
@click.argument("language", type=click.Choice(list(LANGUAGES)))
@click.option(
    "--channels",
    "file",
    type=click.Path(path_type=Path),
    help="With the channels of this file.  [TELECAST_CHANNELS]",
)
def command(language: str, file: Path | None) -> None:
    """Print types for LANGUAGE: a payload, a row and an event for each channel.

    A running service answers the same for what a key may see: /types.d.ts and /types.py.
    """
    catalogue = read_catalogue(load_one("channels", {"channels": file}))
    show(LANGUAGES[language](catalogue.values()).rstrip())
