"""telecast audit: who did what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import orjson

from telecast.cli.connection import asked, service_options
from telecast.cli.output import note, plain, show
from telecast.cli.readable import compact


@click.command(name="audit")
@service_options
@click.option("--principal", metavar="NAME", help="Only what this key did, by its name or id.")
@click.option("--action", metavar="NAME", help="Only this action, such as kick or acknowledge.")
@click.option("--target", metavar="TEXT", help="Only what was done to this.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="The newest."
)
@click.option("--json", "as_json", is_flag=True, help="Each entry as JSON.")
def command(
    url: str,
    key: str | None,
    principal: str | None,
    action: str | None,
    target: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show what operators did, newest first: time, who, action, target. It survives restarts.

    The key needs the scope admin.
    """
    params = [
        ("limit", str(limit)),
        ("principal", principal),
        ("action", action),
        ("target", target),
    ]
    page = asked(url, key, "GET", "audit", params)
    for each in page["entries"]:
        show(orjson.dumps(each) if as_json else line_of(each))
    if page["more"]:
        note(f"# there are more: --limit {min(1000, limit * 4)}")


def line_of(entry: Mapping[str, Any]) -> str:
    words = (entry["at"], entry["principal"], entry["action"], entry["target"])
    details = entry.get("details") or {}
    return " ".join(plain(str(word)) for word in words) + (
        f" {compact(details)}" if details else ""
    )
