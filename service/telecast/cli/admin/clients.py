"""telecast clients: who is connected, how far behind, and who has left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import orjson

from telecast.cli.connection import asked, service_options
from telecast.cli.output import note, plain, show
from telecast.cli.readable import size_of, span_of, table

COLUMNS = ("CONNECTION", "PRINCIPAL", "CLIENT", "BY", "STATE", "LAG", "UNSENT", "CONFL", "STALE")


@click.command(name="clients")
@service_options
@click.option("--closed", is_flag=True, help="The last thousand that ended, newest first.")
@click.option("--stale", metavar="SECONDS", help="Only those that are stale for so long: 60, 10m.")
@click.option("--transport", type=click.Choice(["ws", "sse"]), help="Only this transport.")
@click.option("--principal", metavar="NAME", help="Only those of a key, by its name or id.")
@click.option("--client-id", metavar="ID", help="Only those of a client id.")
@click.option("--channel", metavar="NAME", help="Only those that follow a channel.")
@click.option("--json", "as_json", is_flag=True, help="Everything that is known, one a line.")
def command(
    url: str,
    key: str | None,
    closed: bool,
    stale: str | None,
    transport: str | None,
    principal: str | None,
    client_id: str | None,
    channel: str | None,
    as_json: bool,
) -> None:
    """List the connections, oldest first. The key needs the scope admin.

    LAG is how many events a client is behind, UNSENT what its socket has not taken yet, CONFL the
    rows that conflation left out, STALE the time since a sign of life.
    """
    found = listed(
        url,
        key,
        closed="true" if closed else None,
        stale=stale,
        transport=transport,
        principal=principal,
        clientId=client_id,
        channel=channel,
    )
    if as_json:
        for each in found:
            show(orjson.dumps(each))
        return
    cells = [[*COLUMNS[:-1], "WHY"] if closed else [*COLUMNS]]
    cells += [cells_of(each) for each in found]
    for line in table(cells):
        show(line)
    note(f"# {len(found)} {'ended' if closed else 'open'}")


def listed(url: str, key: str | None, **filters: str | None) -> list[dict[str, Any]]:
    """All pages. A node that did not answer is named on stderr."""
    found: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    cursor: str | None = None
    while True:
        params = [*filters.items(), ("limit", "1000"), ("cursor", cursor)]
        page = asked(url, key, "GET", "clients", params)
        found += page["clients"]
        missing |= page.get("missing", {})
        cursor = page.get("cursor")
        if not page["more"] or cursor is None:
            name_missing(missing)
            return found


def name_missing(missing: Mapping[str, str]) -> None:
    """Where several nodes share a journal: what is at these is not in the answer."""
    for node, why in missing.items():
        note(f"# without node {plain(node)}: {plain(why)}")


def cells_of(client: Mapping[str, Any]) -> list[str]:
    last = plain(str(client.get("code") or "left")) if "endedAt" in client else _stale(client)
    return [
        plain(str(client["connectionId"])),
        plain(str(client["principal"]))[:16],
        plain(str(client["clientId"] or "-"))[:16],
        plain(str(client["transport"])),
        plain(str(client["state"])),
        str(client["lagEvents"]),
        size_of(client["unsentBytes"]),
        str(client["conflated"]),
        last,
    ]


def _stale(client: Mapping[str, Any]) -> str:
    return span_of(float(client["staleSeconds"]))
