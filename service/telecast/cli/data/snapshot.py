"""telecast snapshot: a channel's rows as they are now."""

from __future__ import annotations

import click
import orjson

from telecast.cli.connection import filter_option, gathered, run, service_options
from telecast.cli.output import note, show
from telecast.cli.readable import row_line
from telecast.client import Publisher, Snapshot


@click.command(name="snapshot")
@click.argument("channel")
@service_options
@filter_option
@click.option("--json", "as_json", is_flag=True, help="Each row's JSON, one a line.")
def command(
    channel: str,
    url: str,
    key: str | None,
    filters: tuple[tuple[str, str], ...],
    as_json: bool,
) -> None:
    """Print the current rows of CHANNEL, one a line: seq, key, payload.

    stderr says from which position `telecast tail --since` goes on.
    """

    async def ask() -> Snapshot:
        async with Publisher(url, key, insist=False) as publisher:
            return await publisher.snapshot(channel, gathered(filters))

    found = run(ask())
    for row in found.rows:
        show(orjson.dumps(row) if as_json else row_line(row))
    note(
        f"# {len(found.rows)} rows; what comes next: telecast tail {channel} "
        f"--since {found.position}"
    )
