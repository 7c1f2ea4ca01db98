"""telecast status: the service at one glance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click
import orjson

from telecast.cli.connection import asked, service_options
from telecast.cli.exits import Exit
from telecast.cli.output import plain, show
from telecast.cli.readable import size_of, span_of, table


@click.command(name="status")
@service_options
@click.option("--json", "as_json", is_flag=True, help="Everything that is known, as JSON.")
@click.pass_context
def command(ctx: click.Context, url: str, key: str | None, as_json: bool) -> None:
    """Say whether the service is ready, who is connected, and how old each channel is.

    The key needs the scope admin. Exit code 1 while the service is not ready.
    """
    stats = asked(url, key, "GET", "stats")
    if as_json:
        show(orjson.dumps(stats, option=orjson.OPT_INDENT_2))
    else:
        for line in lines_of(stats):
            show(line)
    ctx.exit(Exit.OK if stats["ready"] else Exit.ERROR)


def lines_of(stats: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"telecast {plain(str(stats['version']))}, {'ready' if stats['ready'] else 'NOT READY'}, "
        f"up {span_of(stats['uptimeSeconds'])}, head {stats['head']}"
    )
    for name, why in stats["checks"].items():
        if why is not None:
            yield f"  not {name}: {plain(str(why))}"
    counts = stats["connections"]
    yield (
        f"{counts['total']} {'stream' if counts['total'] == 1 else 'streams'} "
        f"({counts['ws']} ws, {counts['sse']} sse): "
        f"{counts['live']} live, {counts['behind']} behind, {counts['full']} not reading"
    )
    waiting = stats.get("publishing")
    if waiting is not None:
        size = size_of(waiting["backlogBytes"])
        yield f"{waiting['backlogEvents']} events ({size}) wait for the journal"
    cells = [["CHANNEL", "ROWS", "SUBSCRIBERS", "LAST EVENT"]]
    for name, each in stats["channels"].items():
        age = each["ageSeconds"]
        rows = each["rows"]
        cells.append(
            [
                plain(name),
                "-" if rows is None else str(rows),
                str(each["subscribers"]),
                "never" if age is None else f"{span_of(age)} ago",
            ]
        )
    yield from table(cells)
