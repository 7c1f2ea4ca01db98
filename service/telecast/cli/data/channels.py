"""telecast channels: those of a service, and those of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import orjson

from telecast.channel_file import read_catalogue
from telecast.channels.catalogue import CHANNELS
from telecast.channels.configured import catalogue_from, wrong_name
from telecast.channels.template import template
from telecast.cli.connection import run, service_options
from telecast.cli.output import note, plain, show
from telecast.cli.readable import table
from telecast.client import Publisher


@click.group(name="channels", invoke_without_command=True)
@service_options
@click.option("--json", "as_json", is_flag=True, help="With the JSON Schema of each payload.")
@click.pass_context
def command(context: click.Context, url: str, key: str | None, as_json: bool) -> None:
    """List the channels that the key may read; or write and check a file of your own."""
    if context.invoked_subcommand is None:
        _list(url, key, as_json)


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check FILE as `telecast serve --channels FILE` would: every mistake with its line."""
    catalogue = read_catalogue(file)
    cells = [["CHANNEL", "MODE", "KEY", "FILTERS"]]
    cells += [
        [each.name, each.mode, ",".join(each.key_fields), ",".join(sorted(each.filters)) or "-"]
        for each in catalogue.values()
    ]
    for line in table(cells):
        show(line)
    own = sum(name not in CHANNELS for name in catalogue)
    off = sum(name not in catalogue for name in CHANNELS)
    note(f"{file} is right: {own} of its own, {off} built-in switched off.")


@command.command()
@click.argument("name")
def new(name: str) -> None:
    """Print a table for a channel NAME: right as it is, with comments on what can be changed."""
    wrong = wrong_name(name)
    if wrong is None and name in CHANNELS:
        wrong = "the name is that of a built-in channel; choose another."
    if wrong is not None:
        raise click.BadParameter(wrong, param_hint="NAME")
    text = template(name)
    catalogue_from(text, "the new table")
    show(text.rstrip())


def _list(url: str, key: str | None, as_json: bool) -> None:
    async def ask() -> list[dict[str, Any]]:
        async with Publisher(url, key, insist=False) as publisher:
            return await publisher.channels()

    found = run(ask())
    if as_json:
        show(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    cells = [["CHANNEL", "FILTERS", "WHAT"]]
    cells += [
        [
            plain(str(channel.get("name"))),
            ",".join(map(str, channel.get("filters") or ())) or "-",
            plain(str(channel.get("description", ""))),
        ]
        for channel in found
    ]
    for line in table(cells):
        show(line)
