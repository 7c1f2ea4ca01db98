"""telecast channels: what the service tells."""

from __future__ import annotations

from typing import Any

import click
import orjson

from telecast.cli.connection import run, service_options
from telecast.cli.output import plain, show
from telecast.cli.readable import table
from telecast.client import Publisher


@click.command(name="channels")
@service_options
@click.option("--json", "as_json", is_flag=True, help="With the JSON Schema of each payload.")
def command(url: str, key: str | None, as_json: bool) -> None:
    """List the channels that the key may read."""

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
