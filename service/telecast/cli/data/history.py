"""telecast history: a channel's events between two times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

import click
import orjson

from telecast.cli.connection import asked, filter_option, service_options
from telecast.cli.moments import Moment
from telecast.cli.output import note, show
from telecast.cli.readable import event_line

PAGE_EVENTS = 1000


@click.command(name="history")
@click.argument("channel")
@service_options
@click.option("--from", "begin", type=Moment(), help="From when: 10m (ago), 09:55, an instant.")
@click.option("--to", "end", type=Moment(), help="The last time; now, unless given.")
@click.option("--row", "row", metavar="KEY", help="Only the events of one row.")
@filter_option
@click.option("--last", type=click.IntRange(1, 100_000), help="Only the last so many of them.")
@click.option("--json", "as_json", is_flag=True, help="Each event's JSON. `replay` takes it.")
def command(
    channel: str,
    url: str,
    key: str | None,
    begin: str | None,
    end: str | None,
    row: str | None,
    filters: tuple[tuple[str, str], ...],
    last: int | None,
    as_json: bool,
) -> None:
    """Print the events of CHANNEL between two times, oldest first, as the journal still has them.

    A time as 09:55 is by this machine's clock and zone; lines show UTC, as `tail` does.
    """
    found: Iterable[dict[str, Any]] = (
        event
        for event in events(url, key, channel, begin=begin, end=end, filters=filters)
        if row is None or event["key"] == row
    )
    if last is not None:
        found = [*found][-last:]
    count = 0
    for event in found:
        show(orjson.dumps(event) if as_json else event_line(event))
        count += 1
    note(f"# {count} events")


def events(
    url: str,
    key: str | None,
    channel: str,
    *,
    begin: str | None = None,
    end: str | None = None,
    filters: Iterable[tuple[str, str]] = (),
) -> Iterator[dict[str, Any]]:
    """All of them, page by page; what retention has taken is said on stderr."""
    path = f"channels/{quote(channel, safe='')}/events"
    after = begin
    while True:
        params = [("after", after), ("to", end), ("limit", str(PAGE_EVENTS)), *filters]
        page = asked(url, key, "GET", path, params)
        if page["gap"] is not None:
            gap = page["gap"]
            note(f"# gap: {gap['fromSeq']} to {gap['toSeq']} are kept no longer")
        yield from page["events"]
        if not page["more"]:
            return
        after = page["position"]
