"""telecast ack: acknowledge a risk alert, or take that back."""

from __future__ import annotations

from urllib.parse import quote

import click

from telecast.cli.connection import asked, service_options
from telecast.cli.output import plain, show


@click.command(name="ack")
@click.argument("alert", metavar="ALERT")
@service_options
@click.option("--note", "text", metavar="TEXT", help="What others are to read beside it.")
@click.option("--undo", is_flag=True, help="Take an acknowledgement back: it is ACTIVE again.")
def command(alert: str, url: str, key: str | None, text: str | None, undo: bool) -> None:
    """Acknowledge the ALERT, by its id. The key needs the scope operate.

    If somebody else was first, the error says who and when, and nothing changes.
    """
    verb = "unacknowledge" if undo else "acknowledge"
    path = f"risk-alerts/{quote(alert, safe='')}/{verb}"
    body = {} if text is None else {"note": text}
    done = asked(url, key, "POST", path, body=body)
    row = done["alert"]
    by = f" by {plain(str(row['acknowledgedBy']))}" if row.get("acknowledgedBy") else ""
    same = "" if done["changed"] else ", as before"
    show(f"{plain(str(row['id']))} is {plain(str(row['status']))}{by}{same}")
