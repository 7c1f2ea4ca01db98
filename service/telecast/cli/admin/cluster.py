"""telecast cluster: all nodes of a journal at one glance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import click
import orjson

from telecast.cli.connection import asked, service_options
from telecast.cli.exits import Exit
from telecast.cli.output import note, plain, show
from telecast.cli.readable import table
from telecast.journal.peers import SILENT_SECONDS


@click.group(name="cluster")
def command() -> None:
    """Look after the nodes that share a journal."""


@command.command(name="status")
@service_options
@click.option("--json", "as_json", is_flag=True, help="Everything that is known, as JSON.")
@click.option(
    "--expect", type=click.IntRange(min=1), metavar="N", help="Fail where fewer nodes are ready."
)
@click.pass_context
def status(
    ctx: click.Context, url: str, key: str | None, as_json: bool, expect: int | None
) -> None:
    """List the nodes: version, place in the log, how far behind it, streams, and whether each is
    ready.

    Any node can be asked. The key needs the scope admin. Exit code 1 while a node is not ready, or
    one is gone without a goodbye: it stays in the list for a day, or until it is back or forgotten.
    """
    found = asked(url, key, "GET", "nodes")
    if as_json:
        show(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        for line in lines_of(found):
            show(line)
    well = [each for each in found["nodes"] if each["ready"] and not _silent(each)]
    missing = (expect or 0) - len(well)
    if missing > 0:
        note(f"Error: {expect} nodes are expected, and {len(well)} ready: {missing} missing.")
    ctx.exit(Exit.OK if missing <= 0 and len(well) == len(found["nodes"]) else Exit.ERROR)


@command.command(name="forget")
@click.argument("node")
@service_options
def forget(node: str, url: str, key: str | None) -> None:
    """Expect NODE no more: one that went without a goodbye and does not come back.

    Any node can be asked, and all forget it. The key needs the scope admin. A node that is there
    after all is listed again within seconds.
    """
    asked(url, key, "DELETE", f"nodes/{quote(node, safe='')}")
    show(f"{plain(node)} is forgotten.")


def lines_of(found: Mapping[str, Any]) -> Iterator[str]:
    cells = [["NODE", "VERSION", "LOG", "BEHIND", "STREAMS", "STATE"]]
    for each in found["nodes"]:
        here = " (asked)" if each["node"] == found["asked"] else ""
        cells.append(
            [
                plain(str(each["node"])) + here,
                plain(str(each["version"])),
                _or_dash(each["logSequence"]),
                _or_dash(each["logBehind"]),
                "-" if each["connections"] is None else str(each["connections"]),
                plain(_state(each)),
            ]
        )
    yield from table(cells)
    if not found["shared"]:
        yield "This journal belongs to one node: nodes share one at nats://."
    if not found["sameKeys"]:
        yield "The nodes have different keys files: give all the same one."


def _or_dash(number: Any) -> str:
    return "-" if number is None else str(number)


def _silent(node: Mapping[str, Any]) -> bool:
    return bool(node["silentSeconds"] >= SILENT_SECONDS)


def _lasting(seconds: float) -> str:
    minutes = int(seconds) // 60
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _state(node: Mapping[str, Any]) -> str:
    if _silent(node):
        last = node.get("lastSeenAt", "a while ago")
        return f"SILENT for {_lasting(node['silentSeconds'])}, last seen {last}"
    if node["ready"]:
        return "ready"
    return "NOT READY: " + "; ".join(str(why) for why in node["why"])
