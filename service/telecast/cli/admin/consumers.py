"""telecast consumers: how far each named client has acknowledged."""

from __future__ import annotations

from typing import Any

import click
import orjson

from telecast.cli.connection import asked, service_options
from telecast.cli.output import note, plain, show
from telecast.cli.readable import span_of, table


@click.command(name="consumers")
@service_options
@click.option("--principal", metavar="NAME", help="Only those of a key, by its name or id.")
@click.option("--client-id", metavar="ID", help="Only those of a client id.")
@click.option("--json", "as_json", is_flag=True, help="Everything that is known, one a line.")
def command(
    url: str, key: str | None, principal: str | None, client_id: str | None, as_json: bool
) -> None:
    """List the named clients that acknowledge, online or not. The key needs the scope admin.

    LAG is how many events of the journal came after what they have acknowledged, BEHIND how old the
    oldest of them is that was for them.
    """
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        params = [("principal", principal), ("clientId", client_id), ("cursor", cursor)]
        page = asked(url, key, "GET", "consumers", params)
        found += page["consumers"]
        cursor = page.get("cursor")
        if not page["more"] or cursor is None:
            break
    if as_json:
        for each in found:
            show(orjson.dumps(each))
        return
    cells = [["CLIENT", "PRINCIPAL", "ONLINE", "POSITION", "LAG", "BEHIND", "STANDING"]]
    for each in found:
        lag, behind = each["lagEvents"], each["lagMs"]
        cells.append(
            [
                plain(str(each["clientId"])),
                plain(str(each["principal"] or each["keyId"])),
                "yes" if each["online"] else "no",
                plain(str(each["position"])),
                "-" if lag is None else str(lag),
                "-" if behind is None else span_of(behind / 1000),
                plain(str(each["standing"])),
            ]
        )
    for line in table(cells):
        show(line)
    note(f"# {len(found)} consumers")
