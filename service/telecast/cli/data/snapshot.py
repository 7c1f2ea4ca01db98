"""telecast snapshot: a channel's rows as they are now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
import orjson

from telecast.cli.connection import filter_option, gathered, run, service_options
from telecast.cli.data.history import events
from telecast.cli.moments import Moment
from telecast.cli.output import note, show
from telecast.cli.readable import row_line
from telecast.client import Publisher, Snapshot


@click.command(name="snapshot")
@click.argument("channel")
@service_options
@filter_option
@click.option("--at", type=Moment(), help="As it was then: 10m (ago), 09:55, an instant.")
@click.option("--json", "as_json", is_flag=True, help="Each row's JSON, one a line.")
def command(
    channel: str,
    url: str,
    key: str | None,
    filters: tuple[tuple[str, str], ...],
    at: str | None,
    as_json: bool,
) -> None:
    """Print the rows of CHANNEL as they are or were, one a line: seq, key, payload.

    stderr says from which position `telecast tail --since` goes on.
    """
    if at is not None:
        rows = rows_at(url, key, channel, at, filters)
        for row in rows:
            show(orjson.dumps(row) if as_json else row_line(row))
        when = f"{at[1:]} ago" if at.startswith("-") else f"at {at}"
        note(f"# {len(rows)} rows as they were {when}")
        return

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


def rows_at(
    url: str, key: str | None, channel: str, at: str, filters: Iterable[tuple[str, str]]
) -> list[dict[str, Any]]:
    """The rows that the events up to a time add up to.

    Where retention has begun, a line on stderr names the gap: of a row that changed both in it and
    after the time, the state at the time may be gone.
    """
    rows: dict[str, dict[str, Any]] = {}
    for event in events(url, key, channel, begin="-9999d", end=at, filters=filters):
        rows.pop(event["key"], None)
        if event["op"] == "upsert":
            row = {name: event[name] for name in ("key", "seq", "data")}
            rows[event["key"]] = row
    return sorted(rows.values(), key=lambda row: int(row["seq"]))
