"""`telecast journal`: what an operator does to a journal's file while the service is down."""

from __future__ import annotations

import click

from telecast.cli.output import note
from telecast.journal.sqlite.restored import restored


@click.group(name="journal")
def command() -> None:
    """Look after the journal's file."""


@command.command(name="restored")
@click.argument("file", type=click.Path())
def restored_(file: str) -> None:
    """Say that FILE was put back from a copy: it gets a new epoch.

    To be done before the service starts on it. Else it would use the numbers after the copy a
    second time, for other events; with a new epoch clients start over with a snapshot.
    """
    done = restored(file)
    note(
        f"{file} ends at {done.head}. Its epoch is {done.epoch} now, not {done.was} any more: "
        "clients start over with a snapshot."
    )
