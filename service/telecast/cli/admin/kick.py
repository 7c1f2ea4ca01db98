"""telecast kick: end connections, one or many."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from telecast.cli.admin.clients import name_missing
from telecast.cli.connection import asked, service_options
from telecast.cli.output import note, plain, show


@click.command(name="kick")
@click.argument("connection", metavar="[CONNECTION]", required=False)
@service_options
@click.option("--principal", metavar="NAME", help="All of a key, by its name or id.")
@click.option("--client-id", metavar="ID", help="All of a client id.")
@click.option("--stale", metavar="SECONDS", help="All that are stale for so long: 60, 10m.")
@click.option("--transport", type=click.Choice(["ws", "sse"]), help="Of these, one transport.")
@click.option("--channel", metavar="NAME", help="Of these, those that follow a channel.")
@click.option("--reason", metavar="TEXT", help="What the client and the audit are to read.")
@click.option("--ban", metavar="TIME", help="Refuse them for so long: 10m. Else they may return.")
@click.option("--dry-run", is_flag=True, help="Only say whom it would end.")
def command(
    connection: str | None,
    url: str,
    key: str | None,
    principal: str | None,
    client_id: str | None,
    stale: str | None,
    transport: str | None,
    channel: str | None,
    reason: str | None,
    ban: str | None,
    dry_run: bool,
) -> None:
    """End the CONNECTION, or all that an option names. The key needs the scope admin.

    Each gets a notice KICKED with the reason and a pause after which it may come back; it resumes
    where it was. It is written into the audit.
    """
    narrowing = {
        "principal": principal,
        "clientId": client_id,
        "stale": stale,
        "transport": transport,
        "channel": channel,
    }
    given = {name: value for name, value in narrowing.items() if value is not None}
    if connection is not None and given:
        raise click.UsageError("Name one CONNECTION, or say which by options; not both.")
    if connection is None and not (principal or client_id or stale):
        raise click.UsageError("Name a CONNECTION, or --principal, --client-id or --stale.")
    how: list[tuple[str, str | None]] = [("reason", reason), ("ban", ban)]
    if connection is not None:
        path = f"clients/{quote(connection, safe='')}"
        if dry_run:
            one = asked(url, key, "GET", path)
            done: dict[str, Any] = {"kicked": 1, "connectionIds": [one["connectionId"]]}
        else:
            done = asked(url, key, "DELETE", path, how)
    else:
        only = ("dryRun", "true" if dry_run else None)
        done = asked(url, key, "DELETE", "clients", [*given.items(), *how, only])
    for each in done["connectionIds"]:
        show(plain(str(each)))
    name_missing(done.get("missing", {}))
    count = done["kicked"]
    plural = "connection" if count == 1 else "connections"
    until = f", banned until {done['bannedUntil']}" if done.get("bannedUntil") else ""
    note(f"# {'would end' if dry_run else 'ended'} {count} {plural}{until}")
